"""The time of a whole network on chip as a function of N of its channels: what a budget limits.

An upper bound, close to the RTL: layers that follow each other may overlap, which is not counted. A layer takes what
the cycle model says of its parts, and longer where a tile's windows are fetched more slowly than the array computes:
of the windows in one tile, those that want a word of the same bank wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from flow.compression.encoding import BBS
from flow.compression.prune import prune
from flow.hardware.config import MAX_COLUMNS, ArrayConfig
from flow.hardware.fields import ADDRESS, TABLE_WORDS
from flow.network.model import ArrayLayer, Window
from flow.scheduling.banks import turns
from flow.scheduling.blocks import layer_schedule
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.onchip.chain import Chain, ChainLayer
from flow.scheduling.onchip.maps import Held
from flow.scheduling.onchip.matrices import MatrixBlock, blocks
from flow.scheduling.onchip.place import OCTET, Place, map_size, places
from flow.scheduling.onchip.post import PostOp, Shape
from flow.scheduling.onchip.program import fitted, result_shape
from flow.scheduling.onchip.sweeps import Sweep, constants, sweeps
from flow.scheduling.onchip.unroll import LayerPart, as_stored, parts
from flow.scheduling.timing import dense_cycles

SETTLE = 12  # edges from the last result of a step in its map to the first that reads it, beyond the cycle model's
PIPELINE = 24  # edges of a post-processing descriptor without its tiles, if it is an operation's first or waits
FOLLOWS = 12  # the same of one that follows another: their edges overlap
WALK = 2  # edges of a walker, beyond one for each row, until the next descriptor's may begin (maps/walker.py)
BETWEEN = 6  # edges from a layer's block to the next that the cycle model has already
WEIGHED = 24  # edges of a block of a matrix product whose weights come from a map, behind another


@dataclass(frozen=True)
class OnChipTime:
    """Cycles of one sample, all segments together; `dense` are those of all layers on dense PEs, without maps on chip.

    `beside` are the cycles that depend on no N: loading the inputs, additions, pooling. Layers that are stored
    unpruned on chip take the same time for every N, and layers in no segment that of the layer by itself.
    """

    config: ArrayConfig
    chain: Chain
    dense: int

    stored = False

    def of(self, layer: ArrayLayer, columns_pruned: NDArray[np.int64]) -> int:
        shape = self._shapes.get(layer.name)
        if shape is None:
            return layer_cycles(layer_schedule(layer, columns_pruned, self.config), self.config)
        return shape.cycles if shape.part is None else _cycles([(shape.part, shape.fetch, columns_pruned)], self.config)

    @cached_property
    def beside(self) -> int:
        return sum(map(self.load, self.chain.inputs)) + sum(self.posts.values())

    def load(self, held: Held) -> int:
        """The cycles in which an input of a segment comes to the chip."""
        tiles = -(-map_size(held.shape) // self.config.rows)
        return PIPELINE + tiles * max(self.config.beats, self._drain)

    @cached_property
    def posts(self) -> Mapping[str, int]:
        """The cycles of every operation of post-processing, by its output."""
        return {
            step.output: _post_cycles(step, made, self.config)
            for segment, made in zip(self.chain.segments, places(self.chain), strict=True)
            for step in segment.steps
            if isinstance(step, PostOp)
        }

    @property
    def _drain(self) -> int:
        return -(-OCTET // self.config.lanes)

    @cached_property
    def _shapes(self) -> Mapping[str, _Shape]:
        steps = [step for step in self.chain.steps if isinstance(step, ChainLayer)]
        return {step.layer.name: _shape(step, self.chain, self.config) for step in steps}


def on_chip(chain: Chain, layers: Sequence[ArrayLayer], config: ArrayConfig) -> OnChipTime:
    """The time of this chain, of these layers, on this array with room for its maps."""
    return OnChipTime(fitted(config, chain), chain, dense_cycles(layers, config))


@dataclass(frozen=True)
class _Shape:
    """What a layer's time on chip follows from.

    `part` is a layer that runs as it is stored, `fetch` the cycles to fetch the windows of each of its tiles. All other
    layers (None) are stored unpruned and take `cycles`.
    """

    part: LayerPart | None
    fetch: NDArray[np.int64]
    cycles: int


def _shape(step: ChainLayer, chain: Chain, config: ArrayConfig) -> _Shape:
    unpruned = np.zeros(step.layer.channels, np.int64)
    made = list(parts(step, prune(step.layer.weights, unpruned)[0], result_shape(chain, step), config))
    fetch = [_fetch(part.window, part.grid, step.source.shape, part.octets, config) for part in made]
    jobs = [(part, tiles, part.columns_pruned) for part, tiles in zip(made, fetch, strict=True)]
    return _Shape(made[0] if as_stored(step) else None, fetch[0], _cycles(jobs, config))


def _cycles(jobs: Sequence[tuple[LayerPart, NDArray[np.int64], NDArray[np.int64]]], config: ArrayConfig) -> int:
    """Cycles of parts of a layer, one after the other, each with cycles of fetching a tile's windows, and its N.

    The cycle model's, and what fetching takes beyond computing a tile and its leaving the array.
    """
    schedules, beyond = [], 0
    for part, fetch, columns_pruned in jobs:
        schedules.append(layer_schedule(part.layer, columns_pruned, config))
        for block in schedules[-1].blocks:
            drain = schedules[-1].planes * -(-len(block.channels) // config.lanes)
            tiles = fetch[block.first_tile : block.first_tile + block.tiles]
            computed = block.steps * block.slices
            beyond += int(np.maximum(tiles - max(computed, drain), 0).sum())
            beyond += max(config.rows + WALK - BETWEEN - int(np.maximum(tiles, max(computed, drain)).sum()), 0)
    whole = replace(schedules[0], blocks=tuple(block for each in schedules for block in each.blocks))
    return layer_cycles(whole, config) + beyond + SETTLE


def _fetch(window: Window, grid: tuple[int, int], shape: Shape, octets: int, config: ArrayConfig) -> NDArray[np.int64]:
    """Cycles to fetch the windows of every tile, int64 [tiles]: for each tap the rows that want one bank, at most."""
    _, height, width = shape
    rows, count = config.rows, grid[0] * grid[1]
    tiles = -(-count // rows)
    down, across = np.divmod(np.arange(tiles * rows), grid[1])
    needed = np.zeros(tiles, np.int64)
    for tap_y in range(window.kernel[0]):
        for tap_x in range(window.kernel[1]):
            y = down * window.strides[0] - window.pads[0] + tap_y * window.dilations[0]
            x = across * window.strides[1] - window.pads[1] + tap_x * window.dilations[1]
            read = (y >= 0) & (y < height) & (x >= 0) & (x < width) & (np.arange(tiles * rows) < count)
            needed += turns((y * width + x).reshape(tiles, rows), read.reshape(tiles, rows), rows)
    return needed * octets + window.kernel[0] * window.kernel[1] * octets % config.beats


def _post_cycles(op: PostOp, map_places: Mapping[str, Place], config: ArrayConfig) -> int:
    """Cycles of an operation, each of its descriptors by itself; a table's drains a word of it a cycle."""
    if op.matrices:
        each = [_block_cycles(block, config) for block in blocks(op, map_places, config)]
        walks = 2 * (config.rows + WALK)  # of the weights, and of the tiles
        before = _swept(constants(op, map_places), op, config)
        return before + PIPELINE + FOLLOWS + sum(each) + sum(max(WEIGHED, walks - cycles) for cycles in each[1:])
    filled = len(op.norm.constants) + 1 if op.norm else 0
    return filled + _swept(sweeps(op, map_places, config.rows), op, config)


def _swept(made: Iterable[Sweep], op: PostOp, config: ArrayConfig) -> int:
    """Cycles of sweeps, with the tables that are filled before them."""
    cycles = 0
    for number, sweep in enumerate(made):
        cycles += FOLLOWS if number and not sweep.waits else PIPELINE
        cycles += _sweep_cycles(sweep, config, op.output_shape[2])
        if sweep.table:
            cycles += TABLE_WORDS + 1
    return cycles


def _block_cycles(block: MatrixBlock, config: ArrayConfig) -> int:
    """Cycles of a matrix product's block: its weights beat by beat and word by word, then its tiles."""
    slices = config.slices(BBS.weight_bits)
    fetch = _weight_cycles(block, config)
    tile = max(block.steps * slices, -(-len(block.channels) // config.lanes))
    return max(fetch, block.weight_octets + (block.steps - 1) * slices) + block.tiles * tile


def _weight_cycles(block: MatrixBlock, config: ArrayConfig) -> int:
    """Cycles to fetch the octets that become weights."""
    over, fields, modulo = block.weights, block.weight_taps, 1 << ADDRESS
    y, x, word = over.windows(config.rows)
    delta_x, delta_y = (fields[name] for name in ("delta_x", "delta_y"))
    cycles, tap = 0, 0
    for row in range(fields["taps_y"]):
        down = row * fields["dilation_y"]
        for column in range(fields["taps_x"]):
            across = column * fields["dilation_x"]
            inside = (y + down < over.size[0]) & (x + across < over.size[1])
            cycles += int(turns((word + tap) % modulo, inside, config.rows).sum())
            tap += delta_x
        tap += delta_y - delta_x
    return cycles


def _sweep_cycles(sweep: Sweep, config: ArrayConfig, pitch: int) -> int:
    """Cycles of one descriptor's tiles, one after the other: the slowest of fetching, draining and storing each."""
    over, window, rows = sweep.over, sweep.window, config.rows
    y, x, word = over.windows(rows)
    fetch = np.zeros(len(word), np.int64)
    for tap_y, tap_x, octet in product(range(window.kernel[0]), range(window.kernel[1]), range(sweep.octets)):
        down, across = tap_y * window.dilations[0], tap_x * window.dilations[1]
        inside = (y + down >= 0) & (y + down < over.size[0]) & (x + across >= 0) & (x + across < over.size[1])
        fetch += turns(word + down * sweep.pitch + across + octet * sweep.plane, inside, rows)
    _, _, into = sweep.into.windows(rows)
    there = np.arange(into.size).reshape(into.shape) < sweep.positions
    store = sum(turns(into + entry.dy * pitch + entry.dx, there, rows) for entry in sweep.entries)
    if sweep.normal is not None:  # octets again and again, a channel a cycle, and a cycle behind each step
        octets, repeats = sweep.normal.passes * sweep.octets, OCTET // config.slices(MAX_COLUMNS)
        fetch = np.maximum(fetch * sweep.normal.passes * repeats * config.beats, octets * (OCTET + repeats))
        store = store if sweep.normal.applies else 0
    else:
        fetch += int(np.prod(window.kernel)) * sweep.octets % config.beats
    return int(np.maximum(np.maximum(fetch, -(-OCTET // config.lanes)), store).sum())
