"""Waveforms that the user asks for: of a layer, one of its position tiles, or the whole network by one start."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vcd.gtkw import GTKWSave

from flow.errors import FlowError
from flow.files import layer_folder
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.conversion.hierarchy import Module
from flow.hardware.emit import modules
from flow.hardware.interface import Memory
from flow.judgement.localize import places_of
from flow.network import reference
from flow.scheduling.blocks import Program
from flow.scheduling.onchip.program import OnChip
from flow.scheduling.pieces import TileRange, make_piece, memories, whole
from flow.scheduling.words import unpack_fields
from flow.simulation import onchip as network_run
from flow.simulation.cosim import cycle_limit
from flow.simulation.engines.base import FORMS, Command, Recorder, Scope
from flow.simulation.engines.waveform import Place, Variable, variables
from flow.simulation.onchip import ChainRun
from flow.simulation.results import SampleRun

Variables = Mapping[tuple[Place, str], Variable]
NETWORK = "network"
HOST = ("clk", "reset", "start", "first", "count", "busy", "done", "error")


@dataclass(frozen=True)
class Wanted:
    """The number of a layer, all of it or one position tile; no layer: the network on chip. `form`: of `FORMS`."""

    layer: int | None
    tile: int | None = None
    form: str = FORMS[0]


@dataclass(frozen=True)
class _Run:
    memories: Mapping[str, Memory]
    command: Command
    words: int  # of the output memory


def wanted(text: str, form: str, program: Program, on_chip: bool) -> Wanted:
    """What LAYER, LAYER:TILE or "network" means. FlowError, naming those there are, if there is no such thing."""
    names = [scheduled.layer.name for scheduled in program.layers]
    if text in names:
        return Wanted(names.index(text), form=form)
    if text == NETWORK and on_chip:
        return Wanted(None, form=form)
    name, separator, tile = text.rpartition(":")
    if separator and name in names:
        tiles = program.layers[names.index(name)].tiles
        if not tile.isdecimal() or int(tile) >= tiles:
            raise FlowError(f"layer '{name}' has the position tiles 0 to {tiles - 1}, and no '{tile}'; change --waves")
        return Wanted(names.index(name), int(tile), form)
    there = ", ".join([*names, *([NETWORK] if on_chip else [])])
    raise FlowError(f"there is no layer '{text}' to record; --waves takes LAYER or LAYER:TILE, and there are: {there}")


def record(
    what: Wanted, program: Program, run: SampleRun, chain: tuple[OnChip, ChainRun] | None, simulator: Recorder,
    folder: Path,
) -> Path:  # fmt: skip
    """Records the run of one sample once more: NAME.vcd, or NAME.fst, in `folder`, which is returned.

    With it come NAME.gtkw for GTKWave, NAME.sucl for Surfer and NAME.txt with the fields of the descriptors.

    Of the array, the elements of its first row and column are in it; of everything else all signals.
    """
    config = program.config
    if what.layer is None:
        assert chain is not None
        name, job = NETWORK, _of_network(*chain)
    else:
        name = layer_folder(program.layers[what.layer].layer.name, what.layer)
        name, job = name if what.tile is None else f"{name}_tile{what.tile}", _of_layer(what, program, run)
    parts = modules(config)
    scopes = [Scope(place, 0 if deep else 1) for place, deep in places_of(parts, config, 0, 0)]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.{what.form}"
    root = simulator.record(dict(job.memories), job.command, {"output": job.words}, scopes, file)
    there = variables(file, root)
    shown = [group for group in _groups(there, parts, config) if group.signals]
    (folder / f"{name}.gtkw").write_text(_gtkwave(file, shown, there, config))
    (folder / f"{name}.sucl").write_text(_surfer(file, shown))
    (folder / f"{name}.txt").write_text(_descriptors(job, config))
    return file


def _of_layer(what: Wanted, program: Program, run: SampleRun) -> _Run:
    assert what.layer is not None
    scheduled, config = program.layers[what.layer], program.config
    tensor = run.layers[what.layer].tensor
    windows = reference.windows(scheduled.layer, scheduled.layer.input_quantization.to_int8(tensor))
    piece = whole(scheduled, config)
    if what.tile is not None:
        blocks = enumerate(scheduled.blocks)
        parts = [TileRange(i, what.tile, 1) for i, b in blocks if 0 <= what.tile - b.first_tile < b.tiles]
        piece = make_piece(scheduled, parts, config)
    command = Command(piece.start, len(piece.parts), cycle_limit(piece.scheduled, config))
    return _Run(memories(piece, program, windows), command, piece.scheduled.output_words)


def _of_network(onchip: OnChip, run: ChainRun) -> _Run:
    command = Command(0, onchip.descriptors, network_run.cycle_limit(onchip))
    return _Run(onchip.memories | {"activation": run.memories["activation"]}, command, onchip.output_words)


@dataclass(frozen=True)
class _Group:
    """Signals that are shown together."""

    name: str
    signals: tuple[Variable, ...]


def _groups(there: Variables, parts: Mapping[str, Module], config: ArrayConfig) -> Iterator[_Group]:
    """The host port, every memory port and every block of the accelerator, each with the signals that it has."""

    def group(name: str, place: Place, signals: tuple[str, ...] | list[str]) -> _Group:
        return _Group(name, tuple(there[place, signal] for signal in signals if (place, signal) in there))

    yield group("host", (), HOST)
    for port in memory_ports(config):
        yield group(f"{port.name} memory", (), list(port.signals))
    for label, module in parts[config.name].children:
        yield group(label, (label,), [name for name in parts[module].ports if name not in ("clk", "reset")])


def _gtkwave(file: Path, shown: list[_Group], there: Variables, config: ArrayConfig) -> str:
    """GTKWave's save file: a group for each part, and the fields of the descriptor that the memory answers with."""
    text = io.StringIO()
    save = GTKWSave(text)
    save.dumpfile(file.name, abspath=False)
    save.timestart(0)
    for group in shown:
        with save.group(group.name, closed=group.name not in ("host", "descriptor memory")):
            for variable in group.signals:
                save.trace(variable.name, datafmt="bin" if variable.bits == 1 else "hex")
    word = there.get(((), "descriptor_data"))
    if word is not None:
        with save.group("descriptor fields", closed=True):
            low = 0
            for name, width in config.descriptor:
                # Bits of a vector are counted from its most significant one.
                bits = " ".join(f"({word.bits - 1 - bit}){word.name}" for bit in reversed(range(low, low + width)))
                text.write(f"@22\n#{{{name}[{width - 1}:0]}} {bits}\n")
                low += width
    return text.getvalue()


def _surfer(file: Path, shown: list[_Group]) -> str:
    """A command file for Surfer: a divider for each part, and its signals."""
    lines = [f"load_file {file.name}"]
    for group in shown:
        lines += [f"divider_add {group.name}", *(f"variable_add {each.path}" for each in group.signals)]
    return "\n".join([*lines, "zoom_fit"]) + "\n"


def _descriptors(job: _Run, config: ArrayConfig) -> str:
    """The descriptors of the run, in the order in which they are read: a line for each field."""
    lines = []
    for number in range(job.command.first, job.command.first + job.command.count):
        lines.append(f"descriptor {number}")
        fields = unpack_fields(job.memories["descriptor"][number], config.descriptor)
        lines += [f"    {name} {value}" for name, value in fields.items()]
    return "\n".join(lines) + "\n"
