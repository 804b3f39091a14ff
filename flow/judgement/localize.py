"""Locates the first error of RTL that differs from the reference: bit column, cycle and hardware block.

isolate   the shortest run that still shows the difference: the position tile alone, with the one before it,
          its channel block, or the whole layer; from registers of zeros or, if nothing is wrong then, at random
record    that run once more, with a waveform of the modules that the wrong element passes through
sums      the running sum of its processing element against that of the integer reference, bit column by bit column
blame     each of these modules replayed alone, by MyHDL, on the inputs it had in the waveform: the innermost one
          whose outputs differ from those of its source is at fault
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.hardware.config import ArrayConfig
from flow.hardware.conversion.hierarchy import Module
from flow.hardware.emit import modules
from flow.hardware.fields import SUBGROUP
from flow.hardware.interface import Memory
from flow.judgement.blame import blame, is_array
from flow.network import reference
from flow.scheduling.blocks import LayerSchedule, Program
from flow.scheduling.words import activation_words, output_rows, pack_descriptor, unpack_fields
from flow.simulation.cosim import cycle_limit
from flow.simulation.engines.base import RESET_EDGES, Command, DeviceError, Recorder, Scope, Simulator
from flow.simulation.engines.waveform import Place, Trace, read
from flow.simulation.results import LayerRun, Mismatch, expected_rows, locate, with_idle

ACCUMULATOR = "accumulator"  # the block that makes an element one


@dataclass(frozen=True)
class Location:
    """Where the RTL first differs from the reference: `mismatch`, or `failure` where a run did not end.

    `uninitialized`: it is right where registers and memories begin with zeros, and wrong where they begin at random. A
    field is None if it is not known, or does not apply. `group`, `bit_column` and `cycle` locate the first wrong
    running sum, `sum_expected` and `sum_got` are its values; when all sums are right they are None, and `cycle` is that
    of the wrong write. Cycles are counted as by the engines, in the run of the waveform. `module` is the instance at
    fault, `hardware_block` its block in flow/hardware.
    """

    mismatch: Mismatch | None
    failure: str | None
    run: str
    group: int | None = None
    bit_column: int | None = None
    cycle: int | None = None
    sum_expected: int | None = None
    sum_got: int | None = None
    module: str | None = None
    hardware_block: str | None = None
    waveform: str | None = None
    uninitialized: bool = False

    def __str__(self) -> str:
        parts = [str(self.mismatch) if self.mismatch else f"{self.run} does not end: {self.failure}"]
        if self.bit_column is not None:
            where = f"first wrong in weight group {self.group}, bit column {self.bit_column}"
            reached = "which is never added" if self.cycle is None else f"at cycle {self.cycle}"
            sums = f"sum {'unknown' if self.sum_got is None else self.sum_got} instead of {self.sum_expected}"
            parts.append(f"{where}, {reached}: {sums}")
        elif self.mismatch and self.waveform:
            where = f"at cycle {self.cycle}" if self.cycle is not None else "nowhere in that run"
            parts.append(f"its sum is what the memories give, the result is written {where}")
        if self.uninitialized:
            parts.append("with zeros in all registers before reset nothing is wrong: one is used that nothing resets")
        elif self.module:
            parts.append(f"hardware block '{self.hardware_block}' ({self.module}) does not do what its source says")
        elif self.waveform:
            parts.append("every hardware block does what its source says")
        if self.waveform:
            parts.append(f"waveform of {self.run}: {self.waveform}")
        return "; ".join(parts)


@dataclass(frozen=True)
class _PartialRun:
    """A run of a part of a layer: memories, command, and the part's (block, tile) pairs in order."""

    what: str
    memories: dict[str, Memory]
    command: Command
    tiles: tuple[tuple[int, int], ...]


def find(program: Program, scheduled: LayerSchedule, run: LayerRun, simulator: Simulator, file: Path) -> Location:
    """Locates the first error of `run`. A waveform goes to `file`, if the simulator runs the Verilog and writes one.

    If no block within the accelerator is at fault, it is the accelerator's own top.
    """
    config, codes = program.config, scheduled.layer.input_quantization.to_int8(run.tensor)
    want = with_idle(scheduled, expected_rows(scheduled.layer, codes), config)
    windows = reference.windows(scheduled.layer, codes)
    memories = program.memories | {"activation": activation_words(scheduled, windows, config)}
    partials = _partial_runs(program, scheduled, memories, run.first_mismatch)
    recorder = simulator if isinstance(simulator, Recorder) and simulator.language == "Verilog" else None
    zeros = recorder.from_zeros() if recorder else simulator
    wrong = _isolate(partials, scheduled, config, want, zeros)
    uninitialized = False
    if wrong is None and recorder:
        wrong = _isolate(partials, scheduled, config, want, simulator)
        uninitialized = wrong is not None
    failure = None if run.first_mismatch else run.failure or "it went wrong once, and not again"
    partial, mismatch, failure = wrong or (partials[-1], run.first_mismatch, failure)
    if recorder is None:
        return Location(mismatch, failure, partial.what)
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = modules(config)
    row, column = (mismatch.row, mismatch.column) if mismatch else (0, 0)
    places = places_of(parts, config, row, column)
    scopes = [Scope(place, 0 if deep else 1) for place, deep in places]
    depths = {"output": scheduled.output_words}
    recorder = recorder if uninitialized else recorder.from_zeros()
    root = recorder.record(partial.memories, partial.command, depths, scopes, file)
    trace = read(file, root)
    fields: dict[str, Any] = {}
    if mismatch:
        fields = _wrong_sum(scheduled, partial, config, trace, mismatch, parts) or {
            "cycle": _written(scheduled, config, trace, mismatch)
        }
    if uninitialized:  # MyHDL's registers begin with what their source says
        fields |= {"uninitialized": True}
    elif guilty := blame(parts, trace, config.name):
        fields |= {"module": ".".join(guilty[0]), "hardware_block": guilty[1]}
    return Location(mismatch, failure, partial.what, **fields, waveform=str(file))


def _isolate(
    partials: Sequence[_PartialRun], scheduled: LayerSchedule, config: ArrayConfig, want: NDArray[np.uint8],
    simulator: Simulator,
) -> tuple[_PartialRun, Mismatch | None, str | None] | None:  # fmt: skip
    """The first run that goes wrong, and the first wrong element of it, or why it does not end; None if none does."""
    for partial in partials:
        try:
            result = simulator.run(partial.memories, partial.command, {"output": scheduled.output_words})
        except DeviceError as error:
            return partial, None, str(error)
        rows = output_rows(scheduled, result.memories["output"], config)
        outside = np.ones(want.shape, bool)
        for number, tile in partial.tiles:
            here = slice(tile * config.rows, (tile + 1) * config.rows)
            outside[here, scheduled.blocks[number].channels] = False
        mismatch = locate(scheduled, config, np.where(outside, want, rows), want)
        if mismatch is not None:
            return partial, mismatch, None
    return None


def _partial_runs(
    program: Program, scheduled: LayerSchedule, memories: dict[str, Memory], wrong: Mismatch | None
) -> list[_PartialRun]:
    """The runs to try, from the wrong tile alone to the whole layer."""
    blocks, limit = scheduled.blocks, cycle_limit(scheduled, program.config)
    every = [tuple((i, b.first_tile + t) for t in range(b.tiles)) for i, b in enumerate(blocks)]
    number = wrong.block if wrong else 0
    block, tile = blocks[number], wrong.tile if wrong else blocks[number].first_tile
    runs = []
    for first in dict.fromkeys((tile, max(tile - 1, block.first_tile))):
        part = _tiles(program, scheduled, number, first, tile)
        tiles = tuple((number, t) for t in range(first, tile + 1))
        what = f"position tile {tile}" if first == tile else f"position tiles {first} and {tile}"
        if len(tiles) < block.tiles or len(blocks) > 1:
            runs.append(
                _PartialRun(
                    f"{what} of channel block {number}", memories | {"descriptor": part}, Command(0, 1, limit), tiles
                )
            )
    layer = _PartialRun(
        "the whole layer",
        memories,
        Command(scheduled.first, len(blocks), limit),
        tuple(pair for tiles in every for pair in tiles),
    )
    if len(blocks) > 1:
        alone, start = memories, scheduled.first + number
        if block.given:
            last = block.first_tile + block.tiles - 1
            alone, start = memories | {"descriptor": _tiles(program, scheduled, number, block.first_tile, last)}, 0
        runs.append(_PartialRun(f"channel block {number}", alone, Command(start, 1, limit), every[number]))
    return [*runs, layer]


def _tiles(program: Program, scheduled: LayerSchedule, number: int, first: int, last: int) -> Memory:
    """A descriptor memory of one word: position tiles `first` to `last` of one channel block, with their windows."""
    fields = _descriptor(program.memories, scheduled.first + number, program.config)
    block = scheduled.blocks[number]
    words = scheduled.steps * program.config.beats
    fields |= {
        "tiles": last - first + 1,
        "hold": 0,
        "ahead": 0,
        "activation_base": (block.group * scheduled.tiles + first) * words,
        "activation_count": (last - first + 1) * words,
        "output_base": fields["output_base"] + (first - block.first_tile) * fields["tile_stride"],
    }
    return pack_descriptor(fields, program.config, scheduled.layer.name)[None]


def _descriptor(memories: Mapping[str, Memory], number: int, config: ArrayConfig) -> dict[str, int]:
    return unpack_fields(memories["descriptor"][number], config.descriptor)


def running_sums(
    memories: Mapping[str, Memory], number: int, tile: int, row: int, column: int, config: ArrayConfig
) -> NDArray[np.int64]:
    """The sum an element must hold after each slice (bit-parallel: each weight): int64 [steps * slices].

    Those of tile `tile` of descriptor `number`, computed from the memory images alone, by equations 1 to 3 of the paper
    in plain integers.
    """
    fields = _descriptor(memories, number, config)
    steps, columns = fields["steps"], fields["columns"]
    ahead = fields["tiles"] if fields["ahead"] else 0  # the windows that are fetched with the block are the next ones
    begin = fields["activation_base"] + (tile - ahead) * steps * config.beats
    words = _words(memories["activation"], begin, steps * config.beats)[:, SUBGROUP * row : SUBGROUP * (row + 1)]
    codes = words.reshape(steps, config.step).astype(np.int64)
    together, slices = config.columns_per_cycle, config.slices(columns)
    octets = config.step // 8 * together
    stored = _words(memories["weight"], fields["weight_base"], steps * slices)
    stored = stored[:, octets * column : octets * (column + 1)]
    if config.element.parallel:  # the weights of a step from the last to the first
        products = stored.view(np.int8).reshape(steps, columns) * codes[:, ::-1]
        return np.asarray(products.reshape(-1).cumsum(), np.int64)
    bits = np.unpackbits(stored, axis=1, bitorder="little").reshape(steps, slices * together, config.step)
    metadata = _words(memories["metadata"], fields["metadata_base"], -(-steps // 2))[:, column]
    metadata = metadata.repeat(2)[:steps].astype(np.int64)
    places = 7 + -columns % together - np.arange(slices * together)  # what is missing to full slices comes first
    shift = np.maximum(places - (metadata >> 6)[:, None], 0)  # behind the last column are zeros
    increments = (bits * codes[:, None, :]).sum(axis=2) << shift
    increments[:, 0] *= -1
    increments = increments.reshape(steps, slices, together).sum(axis=2)
    constant = (metadata & 63) - 2 * (metadata & 32)
    low = constant & 7
    if config.element.signed_digits:
        low = (low ^ 4) - 4
    increments[:, 0] += low * codes.sum(axis=1)
    increments[:, 1] += (constant - low) * codes.sum(axis=1)
    sums: NDArray[np.int64] = increments.reshape(-1).cumsum()
    return sums


def _words(memory: Memory, begin: int, count: int) -> Memory:
    """Words of a memory; those beyond it read as zero, as in the engines."""
    words = np.zeros((count, memory.shape[1]), np.uint8)
    there = memory[begin : begin + count]
    words[: len(there)] = there
    return words


def _wrong_sum(
    scheduled: LayerSchedule,
    partial: _PartialRun,
    config: ArrayConfig,
    trace: Trace,
    wrong: Mismatch,
    parts: Mapping[str, Module],
) -> dict[str, int | None] | None:
    """Group, bit column, cycle and values of the first wrong running sum; None if all are right."""
    place = _element(parts, config, wrong.row, wrong.column)
    enable, valid, total = (trace.values(place, name) for name in ("enable", "valid", "total"))
    added = [edge for edge in range(trace.edges) if enable[edge] == 1 and valid[edge] == 1]
    at = partial.tiles.index((wrong.block, wrong.tile))
    lengths = [scheduled.blocks[number].steps * scheduled.blocks[number].slices for number, _ in partial.tiles]
    skipped = sum(lengths[:at])
    descriptors = [number for number, _ in dict.fromkeys(partial.tiles)]
    tile = at - descriptors.index(wrong.block)
    number = partial.command.first + sorted(set(descriptors)).index(wrong.block)
    expected = running_sums(partial.memories, number, tile, wrong.row, wrong.column, config)
    half, wrap = 1 << (config.accumulator_bits - 1), 1 << config.accumulator_bits
    for index, want in enumerate(expected):
        where = skipped + index
        edge = added[where] if where < len(added) else None
        got = total[edge + 1] if edge is not None and edge + 1 < trace.edges else None
        signed = None if got is None else (got + half) % wrap - half
        if signed != (int(want) + half) % wrap - half:
            step, which = divmod(index, scheduled.blocks[wrong.block].slices)
            missing = -scheduled.blocks[wrong.block].columns % config.columns_per_cycle
            bit_column = max(which * config.columns_per_cycle - missing, 0)  # the first of its slice
            return {
                "group": step * config.step // 32,
                "bit_column": None if config.element.parallel else bit_column,
                "cycle": None if edge is None else edge - RESET_EDGES + 1,
                "sum_expected": int(want),
                "sum_got": signed,
            }
    return None


def _written(scheduled: LayerSchedule, config: ArrayConfig, trace: Trace, wrong: Mismatch) -> int | None:
    """The cycle at which the element's word was first written, None if never."""
    layer = scheduled.layer
    first = wrong.tile * scheduled.planes * layer.channels + wrong.channel
    words = {first + plane * layer.channels for plane in range(scheduled.planes)}
    valid, address = trace.values((), "output_valid"), trace.values((), "output_addr")
    for edge, (lanes, addresses) in enumerate(zip(valid, address, strict=True)):
        for lane in range(config.lanes):
            if lanes and addresses is not None and lanes >> lane & 1 and addresses >> 32 * lane & 0xFFFFFFFF in words:
                return edge - RESET_EDGES + 1
    return None


def places_of(parts: Mapping[str, Module], config: ArrayConfig, row: int, column: int) -> Iterator[tuple[Place, bool]]:
    """The instances that an element passes through, and whether the levels below each are traced, too."""
    yield (), False
    lane = column % config.lanes
    elements = _elements(parts, config)[1]
    chosen = {
        "row_operand": {row}, "byte_select": {row}, "column_control": {column}, "pair_tables": {row},
        "pairs_control": {column},
        parts[elements[0][1]].function: {c * config.rows + row for c in range(lane, column + 1, config.lanes)},
        "requantizer": {lane * config.rows + row},
    }  # fmt: skip
    for label, name in parts[config.name].children:
        large = is_array(parts[name]) or parts[name].function == "write_back"
        yield (label,), not large
        if large:
            seen: dict[str, int] = {}
            for inner, inner_name in parts[name].children:
                function = parts[inner_name].function
                index = seen[function] = seen.get(function, -1) + 1
                if function not in chosen or index in chosen[function]:
                    yield (label, inner), True


def _element(parts: Mapping[str, Module], config: ArrayConfig, row: int, column: int) -> Place:
    """The accumulator of one processing element."""
    array, elements = _elements(parts, config)
    element, kind = elements[column * config.rows + row]
    inner = next(label for label, name in parts[kind].children if parts[name].function == ACCUMULATOR)
    return array, element, inner


def _elements(parts: Mapping[str, Module], config: ArrayConfig) -> tuple[str, list[tuple[str, str]]]:
    """The array's instance, and its elements, column by column: what has an accumulator."""
    array, kind = next((label, name) for label, name in parts[config.name].children if is_array(parts[name]))
    below = {name: {parts[inner].function for _, inner in parts[name].children} for _, name in parts[kind].children}
    return array, [(label, name) for label, name in parts[kind].children if ACCUMULATOR in below[name]]
