"""bbs-flow: a trained ONNX network in, a BBS-compressed network and its bit-serial accelerator out.

The files, in the order data takes:

    build.py       the pipeline on one screen: compile, compress, cosim, inspect, verify
    inputs.py      what the user gives, and what is done where an option is left open
    samples.py     calibration and evaluation data
    external.py    large weights, left in their files and read layer by layer
    importer.py    ONNX in; an INT8 network cut into array layers and host segments (network.py)
    inspection.py  where every node runs, and why
    canonical.py   the normal forms of float and INT8 models (graph.py: look-ups over a graph)
    quantize.py    float networks to INT8
    allocate.py    how many bit columns each channel gives up (algorithm 2)
    prune.py       binary pruning of groups of 32 weights (kernels.py: compiled)
    encoding.py    the stored form of pruned groups
    tune.py        bit budgets: budget.py shares them out, refine.py makes good for them, calibration.py walks the
                   network and measure.py compares its answers
    compress.py    allocate, refine, prune and encode a whole network
    schedule.py    encoded layers to descriptors and memory images (cycles.py: the cycle model)
    hardware/      the accelerator in MyHDL, and its export to Verilog and VHDL
    engines/       simulators behind one interface
    reference.py   the bit-true integer reference
    pieces.py      layers in pieces, all of them or a sample of their tiles
    workers.py     processes here, or a Dask cluster, that simulate pieces; what is kept of a run that is stopped
    cosim.py       samples through the RTL, compared with the reference
    onchip/        the whole network by one start: chain, maps, descriptors, run
    verdict.py     ONNX Runtime as the judge (host.py: its sessions)
    diagnosis.py   why a verdict is "fail" (localize.py: bit column, cycle and hardware block in the RTL)
    artefacts.py   the output folder
    handoff/       what of it other tools take: memory formats, vectors, testbenches, a C header
    report.py      report.json and report.html (figures.py: its pictures; plot.py: curves over bits)
    exploration.py the best designs, found by trying (synthesis.py: their area)
    cli.py         the command `bbs` (progress.py: how long work tells what is done)
"""

from flow.build import compile, compress, cosim, inspect, verify
from flow.compress import Pruning, pruning
from flow.errors import FlowError
from flow.exploration import explore
from flow.report import Report

__all__ = ["FlowError", "Pruning", "Report", "compile", "compress", "cosim", "explore", "inspect", "pruning", "verify"]
