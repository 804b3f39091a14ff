"""A build: written to its folder, and read back by `bbs cosim`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flow.compression.choice import Pruning
from flow.compression.compress import Compressed
from flow.compression.encoding import BBS
from flow.errors import FlowError
from flow.files import write_model, write_npz
from flow.frontend.admit import load as load_network
from flow.frontend.int8 import cut
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.emit import Wrapper, device
from flow.hardware.interface import Device, Memory
from flow.network import samples as stored_samples
from flow.network.samples import MADE_UP, Samples
from flow.output.folder import check_name, claimed
from flow.output.handoff.whole import PER_LAYER, WHOLE, Handoff
from flow.output.handoff.write import write_handoff
from flow.output.manifest import FORMAT, MANIFEST, Manifest, Sources, damaged, read_manifest
from flow.output.report.report import Report, write_report
from flow.scheduling.bus.bursts import SlowMemory
from flow.simulation.engines.testbench import read_hex


def finished(output: Path, request: Mapping[str, Any]) -> Report | None:
    """The report of an earlier build of the very same request; None if there is none, or it is incomplete.

    FlowError when `output` was built from another request.
    """
    check_name(output)
    with claimed(output):
        pass
    if not (output / MANIFEST).is_file():
        return None
    manifest = Manifest.read(output)
    if other := [key for key in request if manifest.request.get(key) != request[key]]:
        raise FlowError(f"--resume needs the request '{output}' was built from, but this one differs in "
                        f"{', '.join(other)}; choose another folder, or replace it with --force")  # fmt: skip
    differences = manifest.compare(output)
    if differences.changed or differences.missing:
        for name in differences.additional:
            raise FlowError(f"--resume would make '{output}' again and remove '{name}', which is not of the build; "
                            "move it away")  # fmt: skip
        return None
    return Report.read(output)


@dataclass(frozen=True)
class Made:
    """The results that a build stores: pruning, compressed network, hand-over to other tools, samples."""

    chosen: Pruning
    compressed: Compressed
    handoff: Handoff
    stored: Samples
    memory: SlowMemory


def write_build(folder: Path, made: Made, report: Report, request: Mapping[str, Any]) -> None:
    """Writes everything but the HDL, which is in the folder already; `request` is the record of the request."""
    compressed, handoff = made.compressed, made.handoff
    write_model(folder / "model_int8.onnx", compressed.original.model)
    write_model(folder / "model_bbs.onnx", compressed.network.model)
    write_handoff(folder, handoff)
    write_samples(folder, made.stored)
    write_report(folder, report, compressed)
    built, wrapper = handoff.device, handoff.wrapper
    Manifest(
        format=FORMAT,
        request=request,
        model=compressed.network.name,
        pruning=made.chosen,
        array=handoff.program.config,
        top=built.name,
        verilog=_names(built.files),
        vhdl=_names(built.vhdl_files),
        bus=wrapper.axi,
        bus_memory=made.memory,
        axi=Sources(wrapper.name, _names(wrapper.files), _names(wrapper.vhdl_files)),
        samples=made.stored.source,
        on_chip=handoff.whole is not None,
        columns_pruned={name: tuple(n.tolist()) for name, n in compressed.allocation.items()},
        environment=report.environment,
    ).write(folder)


def _names(files: Iterable[Path]) -> tuple[str, ...]:
    return tuple(path.name for path in files)


def write_samples(folder: Path, samples: Samples) -> None:
    """vectors/samples.npz: the stored samples by input name, and their labels as `y` and `y_NAME`."""
    write_npz(folder / "vectors" / "samples.npz", {**samples.feeds, **samples.every_label})


@dataclass(frozen=True)
class Build:
    """An earlier build as read back from its folder. `compressed.encoded` is empty: `memories` has the codes."""

    config: ArrayConfig
    device: Device
    wrapper: Wrapper
    compressed: Compressed
    memories: dict[str, Memory]
    samples: Samples
    pruning: Pruning
    whole: dict[str, Memory] | None  # the memories of the whole network on chip
    memory: SlowMemory  # behind the bus
    metric: str | None  # that was asked for: a name, or FILE.py:NAME, which the build does not have


def read(folder: Path) -> Build:
    """An earlier build, from its own files. FlowError as `read_manifest`, and when the files do not match."""
    manifest = read_manifest(folder)
    config = manifest.array
    try:
        allocation = {name: np.array(n, np.int64) for name, n in manifest.columns_pruned.items()}
    except OverflowError:
        raise damaged(folder) from None
    original, pruned = (
        cut.partition(load_network(folder / f"{model}.onnx"), manifest.model) for model in ("model_int8", "model_bbs")
    )
    sizes = {layer.name: (layer.channels,) for layer in pruned.layers}
    within = all(n.min(initial=0) >= 0 and n.max(initial=0) <= BBS.max_columns_pruned for n in allocation.values())
    hdl = {"verilog": manifest.verilog, "vhdl": manifest.vhdl}
    behind = {"verilog": manifest.axi.verilog, "vhdl": manifest.axi.vhdl}
    listed = {f"{kind}/{name}" for files in (hdl, behind) for kind, names in files.items() for name in names}
    ports = [port for port in memory_ports(config) if not port.lanes and port.name != PER_LAYER]
    places = ("memory", WHOLE) if manifest.on_chip else ("memory",)
    listed |= {f"{place}/{port.name}.hex" for place in places for port in ports}
    if {layer: n.shape for layer, n in allocation.items()} != sizes or not within or not listed <= set(manifest.sha256):
        raise damaged(folder)
    memories, *on_chip = (
        {port.name: read_memory(folder / place / f"{port.name}.hex", port.bytes) for port in ports} for place in places
    )
    samples = stored_samples.load(folder / "vectors" / "samples.npz", pruned.model, "stored")
    return Build(
        config,
        device(config, *([folder / kind / name for name in names] for kind, names in hdl.items())),
        Wrapper(
            manifest.bus,
            manifest.axi.top,
            tuple(folder / "verilog" / name for name in manifest.axi.verilog),
            tuple(folder / "vhdl" / name for name in manifest.axi.vhdl),
        ),
        Compressed(original, pruned, allocation, ()),
        memories,
        replace(samples, source=manifest.samples, made_up=manifest.samples == MADE_UP),
        manifest.pruning,
        on_chip[0] if on_chip else None,
        manifest.bus_memory,
        _metric(manifest.request.get("metric")),
    )


def _metric(recorded: Any) -> str | None:
    """The metric of a build as its request records it."""
    found = recorded.get("function") if isinstance(recorded, Mapping) else recorded
    return found if isinstance(found, str) else None


def read_memory(path: Path, size: int) -> Memory:
    """A memory image of words of `size` bytes. FlowError when it is damaged."""
    try:
        return read_hex(path, size)
    except RuntimeError as error:
        raise FlowError(f"'{path}' is damaged: {error}; compile the network again") from None
