"""bbs-flow: a trained ONNX network in, a BBS-compressed network and its bit-serial accelerator out.

The rooms, in the order data takes; a room uses those above it, and its `__init__.py` lists its files:

errors.py     FlowError, which the user can correct, and everything else (an assertion, our bug)
progress.py   progress: named stages, and `advance` within them
files.py      files: the cache folder, digests, atomic writes, locks, temporary folders
programs.py   other programs: run with a time limit, ended with their children
cache.py      the cache: its size, entries in use, removal of entries that were not used for long
onnxtools/    ONNX and ONNX Runtime: graphs, shapes, edits, sessions
network/      what a network is, and what it computes: the integer reference
frontend/     the user's network becomes an INT8 network of array layers and host segments
compression/  bit columns pruned within a budget or by the paper's rule, weights refined and encoded
hardware/     the accelerator in MyHDL, emitted as Verilog and VHDL
scheduling/   encoded layers become descriptors and memory images, layer by layer or as a whole on chip
simulation/   samples through the RTL, by four engines, in processes here or on a cluster
judgement/    ONNX Runtime as the judge, and where it went wrong if it did
output/       the output folder: hand-over to other tools, report, manifest
api/          the verbs: compile, compress, cosim, inspect, verify
exploration/  the best designs, found by trying
cli/          the command `bbs`
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flow.api import compile, compress, cosim, inspect, verify
    from flow.compression.choice import Pruning, pruning
    from flow.errors import FlowError
    from flow.exploration import explore
    from flow.output.report.report import Report
else:  # imported when first used: a simulation process, or a command that asks for little, loads what it needs
    _FROM = {
        "flow.api": ("compile", "compress", "cosim", "inspect", "verify"),
        "flow.compression.choice": ("Pruning", "pruning"),
        "flow.errors": ("FlowError",),
        "flow.exploration": ("explore",),
        "flow.output.report.report": ("Report",),
    }

    def __getattr__(name: str) -> object:
        for module, names in _FROM.items():
            if name in names:
                return getattr(import_module(module), name)
        raise AttributeError(f"module 'flow' has no attribute '{name}'")

    def __dir__() -> list[str]:
        return __all__


__all__ = ["FlowError", "Pruning", "Report", "compile", "compress", "cosim", "explore", "inspect", "pruning", "verify"]
