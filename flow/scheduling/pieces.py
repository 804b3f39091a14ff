"""Layers in pieces: parts of channel blocks and tiles, each a run of its own with memories of its own.

One simulation run computes one piece: long layers are cut so that many processes can work at once, and a stop loses
little. Of a network too large for RTL, only a sample of the tiles is simulated: the corners of every layer, one tile
for every number of stored columns, and random ones, block by block.

A layer in one piece runs from the program's own memories, word for word as they ship. Descriptors of other pieces are
rewritten to fit their part; each fetches its own windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.hardware.fields import descriptor_slice
from flow.hardware.interface import Memory
from flow.scheduling.blocks import LayerSchedule, Program
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.schedule import OPERANDS
from flow.scheduling.words import activation_words

PIECE = 2**24  # cycles x processing elements of one run, about: some seconds in Verilator
PIECE_SLOW = 2**17  # the same in the other engines
LONGEST = 4  # pieces' cycles x processing elements that a layer may take to run whole although others are cut


@dataclass(frozen=True)
class TileRange:
    """Position tiles `first`, `first` + 1, ... of one channel block, by its number in the layer's schedule."""

    block: int
    first: int
    tiles: int


@dataclass(frozen=True)
class Piece:
    """Parts of one layer as a job of their own.

    `scheduled` is the job's schedule: its position tile t is the layer's tile `tiles[t]`, and its blocks are the
    parts, in order. `first` is the number of the layer's first descriptor in the program; `cycles` is the length of
    the job, by the cycle model. `shipped`: the piece is the whole layer, and runs from the program's own descriptors.
    """

    scheduled: LayerSchedule
    first: int
    parts: tuple[TileRange, ...]
    tiles: NDArray[np.int64]
    cycles: int
    shipped: bool

    @property
    def start(self) -> int:
        """The number of the first descriptor in the memories of this piece."""
        return self.first if self.shipped else 0

    def positions(self, config: ArrayConfig) -> NDArray[np.int64]:
        """The layer's positions (windows) this piece computes, in the order of its rows."""
        every = (self.tiles[:, None] * config.rows + np.arange(config.rows)).reshape(-1)
        return every[every < self.scheduled.layer.positions]

    def cells(self, config: ArrayConfig) -> Iterator[tuple[slice, slice, NDArray[np.int64]]]:
        """For each part: the rows of the job, the layer's positions that they compute, and the channels.

        Positions from the layer's last on are array rows without a window.
        """
        for part, block in zip(self.parts, self.scheduled.blocks, strict=True):
            begin, here, count = part.first * config.rows, block.first_tile * config.rows, part.tiles * config.rows
            yield slice(here, here + count), slice(begin, begin + count), block.channels


@dataclass(frozen=True)
class Plan:
    """The simulated part of a program: the pieces of every layer, in the order of its layers."""

    program: Program
    pieces: tuple[tuple[Piece, ...], ...]

    @property
    def cycles(self) -> int:
        """Cycles of all pieces, by the cycle model."""
        return sum(piece.cycles for layer in self.pieces for piece in layer)

    @property
    def shipped(self) -> int:
        """How many layers run from the program's own descriptors."""
        return sum(piece.shipped for layer in self.pieces for piece in layer)


def plan(program: Program, largest: int, coverage: float = 1.0, seed: int = 0) -> Plan:
    """Every layer in pieces of at most `largest` cycles x processing elements (or one tile).

    `coverage` is the least share of each layer's MACs to be simulated, 0 to 1; below 1 a sample of tiles drawn from
    `seed` and the layer's number: see `sample`. FlowError for a share outside 0 to 1.
    """
    check_coverage(coverage)
    config = program.config
    budget = largest // config.elements
    layers = []
    for number, scheduled in enumerate(program.layers):
        if coverage < 1:
            parts = sample(scheduled, config, coverage, np.random.default_rng([seed, number]))
        else:
            parts = _all_parts(scheduled)
        layers.append(tuple(make_piece(scheduled, chosen, config) for chosen in _distribute(scheduled, parts, budget)))
    return Plan(program, tuple(layers))


def with_shipped(work: Plan, largest: int) -> Plan:
    """The plan with one layer at least that runs whole, from the program's own descriptors.

    If all layers are in pieces, the shortest is made whole, unless it takes more than `LONGEST` pieces of `largest`
    cycles x processing elements. A plan of nothing stays so.
    """
    if work.shipped or not work.cycles:
        return work
    program = work.program
    cycles = [layer_cycles(scheduled, program.config) for scheduled in program.layers]
    shortest = int(np.argmin(cycles))
    if cycles[shortest] * program.config.elements > LONGEST * largest:
        return work
    pieces = list(work.pieces)
    pieces[shortest] = (whole(program.layers[shortest], program.config),)
    return Plan(program, tuple(pieces))


def check_coverage(coverage: float) -> None:
    """FlowError for a share outside 0 to 1."""
    if not 0 <= coverage <= 1:
        raise FlowError(f"the share of each layer to simulate must be 0 to 1, but it is {coverage:g}; "
                        "change --coverage")  # fmt: skip


def whole(scheduled: LayerSchedule, config: ArrayConfig) -> Piece:
    """All of a layer in one piece."""
    return make_piece(scheduled, _all_parts(scheduled), config)


def _all_parts(scheduled: LayerSchedule) -> list[TileRange]:
    return [TileRange(i, block.first_tile, block.tiles) for i, block in enumerate(scheduled.blocks)]


def make_piece(scheduled: LayerSchedule, parts: Iterable[TileRange], config: ArrayConfig) -> Piece:
    """A job of these parts of a layer."""
    chosen = tuple(parts)
    tiles = np.unique(np.concatenate([np.arange(part.first, part.first + part.tiles) for part in chosen]))
    shipped = chosen == tuple(_all_parts(scheduled))
    blocks = scheduled.blocks if shipped else tuple(
        replace(
            scheduled.blocks[part.block], tiles=part.tiles, first_tile=int(np.searchsorted(tiles, part.first)),
            hold=False, ahead=0, given=False,
        )
        for part in chosen
    )  # fmt: skip
    job = replace(scheduled, first=0, blocks=blocks, tiles=len(tiles))
    return Piece(job, scheduled.first, chosen, tiles, layer_cycles(job, config), shipped)


def sample(
    scheduled: LayerSchedule, config: ArrayConfig, coverage: float, generator: np.random.Generator
) -> list[TileRange]:
    """Tiles that hold at least `coverage` of the layer's MACs; none at all for 0.

    First the corners: first and last tile of the first, the last and the narrowest channel block; one tile for every
    number of stored columns; at least one further, random tile. Then more random ones, a tile of each channel block
    in turn.
    """
    if coverage == 0:
        return []
    strata: dict[int, list[tuple[int, int]]] = {}  # tiles of a channel block, by its first channel
    for number, block in enumerate(scheduled.blocks):
        cells = strata.setdefault(int(block.channels[0]), [])
        cells += [(number, tile) for tile in range(block.first_tile, block.first_tile + block.tiles)]
    ordered = list(strata.values())
    narrowest = min(ordered, key=lambda cells: len(scheduled.blocks[cells[0][0]].channels))
    selected = {cells[end]: None for cells in (ordered[0], ordered[-1], narrowest) for end in (0, -1)}
    met = {scheduled.blocks[number].columns for number, _ in selected}
    for cells in (ordered[i] for i in generator.permutation(len(ordered))):
        if (columns := scheduled.blocks[cells[0][0]].columns) not in met:
            met.add(columns)
            selected[cells[generator.integers(len(cells))]] = None
    left = [[cell for cell in cells if cell not in selected] for cells in ordered]
    order = [list(generator.permutation(len(cells))) for cells in left]
    turns = generator.permutation(len(ordered))
    rounds = range(max(map(len, left)))
    random = (left[i][order[i][turn]] for turn in rounds for i in turns if turn < len(left[i]))
    macs = sum(_macs(scheduled, config, cell) for cell in selected)
    for cell in random:
        selected[cell] = None
        macs += _macs(scheduled, config, cell)
        if macs >= coverage * scheduled.layer.macs:
            break
    return _merged(scheduled, sorted(selected))


def _macs(scheduled: LayerSchedule, config: ArrayConfig, cell: tuple[int, int]) -> int:
    number, tile = cell
    rows = min(config.rows, scheduled.layer.positions - tile * config.rows)
    return rows * len(scheduled.blocks[number].channels) * scheduled.layer.reduction


def _merged(scheduled: LayerSchedule, cells: list[tuple[int, int]]) -> list[TileRange]:
    """Merge consecutive tiles of one block into one part."""
    parts: list[TileRange] = []
    for number, tile in cells:
        if parts and (parts[-1].block, parts[-1].first + parts[-1].tiles) == (number, tile):
            parts[-1] = replace(parts[-1], tiles=parts[-1].tiles + 1)
        else:
            parts.append(TileRange(number, tile, 1))
    return parts


def _distribute(scheduled: LayerSchedule, parts: list[TileRange], budget: int) -> list[list[TileRange]]:
    """Distribute the parts over lists of at most `budget` cycles each, or a single tile."""
    lists: list[list[TileRange]] = []
    room = 0
    for part in parts:
        first, left = part.first, part.tiles
        each = scheduled.steps * scheduled.blocks[part.block].slices
        while left:
            if room < each:
                lists.append([])
                room = budget
            count = min(left, max(1, room // each))
            lists[-1].append(TileRange(part.block, first, count))
            first, left, room = first + count, left - count, room - count * each
    return lists


def memories(piece: Piece, program: Program, windows: NDArray[np.int8]) -> dict[str, Memory]:
    """Images of the memory words a piece reads; `windows` int8 [groups, positions, reduction] of the whole layer.

    Those of a whole layer are the program's own, not a word of them changed.
    """
    config, scheduled = program.config, piece.scheduled
    if piece.shipped:
        return {**program.memories, "activation": activation_words(scheduled, windows, config)}
    numbers = piece.first + np.array([part.block for part in piece.parts])
    descriptors = program.memories["descriptor"][numbers]
    images: dict[str, Memory] = {}
    for operand in OPERANDS:
        base, count = (_field(descriptors, f"{operand}_{kind}") for kind in ("base", "count"))
        _, first, again = np.unique(base, return_index=True, return_inverse=True)
        begins = np.cumsum(count[first]) - count[first]
        _set_field(descriptors, f"{operand}_base", begins[again])
        for name in (operand, "index") if operand == "parameter" else (operand,):
            memory = program.memories[name]
            parts = [memory[base[i] : base[i] + count[i]] for i in first]
            images[name] = np.concatenate(parts) if count.any() else memory[:1]
    groups, group = np.unique([block.group for block in scheduled.blocks], return_inverse=True)
    first_tile, tiles = (
        np.array([getattr(block, name) for block in scheduled.blocks]) for name in ("first_tile", "tiles")
    )
    words = scheduled.steps * config.beats
    _set_field(descriptors, "activation_base", (group * scheduled.tiles + first_tile) * words)
    _set_field(descriptors, "activation_count", tiles * words)
    _set_field(descriptors, "output_base", first_tile * _field(descriptors, "tile_stride"))
    _set_field(descriptors, "tiles", tiles)
    for name in ("hold", "ahead"):
        _clear(descriptors, name)
    chosen = windows[groups][:, piece.positions(config)]
    if config.map_words:
        images["entry"] = program.memories["entry"]
    return {**images, "descriptor": descriptors, "activation": activation_words(scheduled, chosen, config)}


def _clear(descriptors: Memory, name: str) -> None:
    """Set a field of one bit to 0."""
    end, begin = descriptor_slice(name)
    assert end == begin + 1, name
    descriptors[:, begin // 8] &= ~np.uint8(1 << begin % 8)


def _octets(name: str) -> slice:
    """The bytes of a descriptor word that hold this field."""
    end, begin = descriptor_slice(name)
    assert begin % 8 == end % 8 == 0, name
    return slice(begin // 8, end // 8)


def _field(descriptors: Memory, name: str) -> NDArray[np.int64]:
    octets = descriptors[:, _octets(name)].astype(np.int64)
    values: NDArray[np.int64] = octets @ (1 << 8 * np.arange(octets.shape[1], dtype=np.int64))
    return values


def _set_field(descriptors: Memory, name: str, values: NDArray[np.integer[Any]]) -> None:
    place = _octets(name)
    width = place.stop - place.start
    assert (values >= 0).all() and (values < 1 << 8 * width).all(), name
    descriptors[:, place] = values.astype("<u8")[:, None].view(np.uint8)[:, :width]
