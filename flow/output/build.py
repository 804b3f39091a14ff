"""A build: written to its folder, and read back by `bbs cosim`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flow.compression.choice import Pruning
from flow.compression.compress import Compressed
from flow.compression.encoding import BBS
from flow.errors import FlowError
from flow.files import write_model
from flow.frontend import cut
from flow.frontend.load import load as load_network
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.emit import Wrapper, device
from flow.hardware.interface import Device, Memory
from flow.network import samples as stored_samples
from flow.network.samples import Samples
from flow.output.folder import check_name, remove_leftovers
from flow.output.handoff.whole import PER_LAYER, WHOLE, Whole
from flow.output.handoff.write import write_handoff
from flow.output.manifest import FORMAT, MANIFEST, compare, load_manifest, read_manifest
from flow.scheduling.blocks import Program
from flow.scheduling.onchip.program import OnChip
from flow.simulation.engines.testbench import read_hex
from flow.simulation.onchip import ChainRun
from flow.simulation.results import SampleRun

REPORT = "report.json"


def finished(output: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """The report of an earlier build of the very same request; None if there is none, or it is not whole.

    FlowError when `output` was made from something else.
    """
    check_name(output)
    remove_leftovers(output)
    if not (output / MANIFEST).is_file():
        return None
    manifest = load_manifest(output)
    if other := [key for key in request if manifest["request"].get(key) != request[key]]:
        raise FlowError(f"--resume needs the request '{output}' was built from, but this one differs in "
                        f"{', '.join(other)}; choose another folder, or replace it with --force")  # fmt: skip
    differences = compare(output, manifest)
    if differences.changed or differences.missing:
        for name in differences.additional:
            raise FlowError(f"--resume would make '{output}' again and remove '{name}', which is not of the build; "
                            "move it away")  # fmt: skip
        return None
    return dict(json.loads((output / REPORT).read_text()))


def write_build(
    folder: Path,
    compressed: Compressed,
    program: Program,
    built: Device,
    wrapper: Wrapper,
    chosen: Pruning,
    given: Samples,
    run: SampleRun,
    request: dict[str, Any],
    whole: OnChip | None = None,
    chain_runs: Sequence[ChainRun] = (),
) -> dict[str, Any]:
    """Everything but HDL and report; `run` is the first sample's, `request` what was asked for.

    `whole` is the network on chip, if it is, with its runs.

    Returns what the manifest says of it.
    """
    write_model(folder / "model_int8.onnx", compressed.original.model)
    write_model(folder / "model_bbs.onnx", compressed.network.model)
    chip = Whole(whole, chain_runs[0]) if whole and chain_runs and not chain_runs[0].failure else None
    write_handoff(folder, compressed.network.name, program, built, wrapper, run, chip)
    write_samples(folder, given)
    return {
        "format": FORMAT,
        "request": request,
        "model": compressed.network.name,
        "pruning": asdict(chosen),
        "array": asdict(program.config),
        "top": built.name,
        "verilog": [path.name for path in built.files],
        "vhdl": [path.name for path in built.vhdl_files],
        "bus": asdict(wrapper.axi),
        "axi": {
            "top": wrapper.name,
            "verilog": [path.name for path in wrapper.files],
            "vhdl": [path.name for path in wrapper.vhdl_files],
        },
        "samples": given.source,
        "on_chip": chip is not None,
        "columns_pruned": {name: n.tolist() for name, n in compressed.allocation.items()},
    }


def write_samples(folder: Path, samples: Samples) -> None:
    """vectors/samples.npz: what was simulated, by input name, and the labels as `y`."""
    labels = {} if samples.labels is None else {"y": samples.labels}
    np.savez(folder / "vectors" / "samples.npz", **samples.feeds, **labels)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Build:
    """An earlier build as read back from its folder. `compressed.encoded` is empty: the memories hold it."""

    config: ArrayConfig
    device: Device
    compressed: Compressed
    memories: dict[str, Memory]
    samples: Samples
    pruning: Pruning
    whole: dict[str, Memory] | None  # the memories of the whole network on chip


def read(folder: Path) -> Build:
    """An earlier build, from its own files. FlowError: see `read_manifest`; what does not fit together."""
    manifest = read_manifest(folder)
    damaged = FlowError(f"'{folder / MANIFEST}' is damaged; compile the network again")
    try:
        config, chosen = ArrayConfig(**manifest["array"]), Pruning(**manifest["pruning"])
        allocation = {name: np.array(n, np.int64) for name, n in manifest["columns_pruned"].items()}
        listed = {f"{kind}/{name}" for kind in ("verilog", "vhdl") for name in manifest[kind]}
        verilog = [folder / "verilog" / name for name in manifest["verilog"]]
        vhdl = [folder / "vhdl" / name for name in manifest["vhdl"]]
        name, source, on_chip = str(manifest["model"]), str(manifest["samples"]), bool(manifest["on_chip"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise damaged from None
    original, pruned = (
        cut.partition(load_network(folder / f"{model}.onnx"), name) for model in ("model_int8", "model_bbs")
    )
    sizes = {layer.name: (layer.channels,) for layer in pruned.layers}
    within = all(n.min(initial=0) >= 0 and n.max(initial=0) <= BBS.max_columns_pruned for n in allocation.values())
    if (
        {layer: n.shape for layer, n in allocation.items()} != sizes
        or not within
        or not listed <= set(manifest["sha256"])
    ):
        raise damaged
    ports = [port for port in memory_ports(config) if not port.lanes and port.name != PER_LAYER]
    places = ("memory", WHOLE) if on_chip else ("memory",)
    if any(f"{place}/{port.name}.hex" not in manifest["sha256"] for place in places for port in ports):
        raise damaged
    memories, *whole = (
        {port.name: read_memory(folder / place / f"{port.name}.hex", port.bytes) for port in ports} for place in places
    )
    given = stored_samples.load(folder / "vectors" / "samples.npz", pruned.model, "stored")
    return Build(
        config,
        device(config, verilog, vhdl),
        Compressed(original, pruned, allocation, ()),
        memories,
        replace(given, source=source),
        chosen,
        whole[0] if whole else None,
    )


def read_memory(path: Path, size: int) -> Memory:
    """A memory image of words of `size` bytes. FlowError when it is damaged."""
    try:
        return read_hex(path, size)
    except RuntimeError as error:
        raise FlowError(f"'{path}' is damaged: {error}; compile the network again") from None
