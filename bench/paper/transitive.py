"""Transitive Array (Guo et al., ISCA 2025, arXiv 2504.16339): bit rows of weights, sums reused along a Hasse graph.

A tile is 256 rows of 8 bits (of 32 channels, eight bit columns each, the same 8 inputs). A row's sum is that of a row
with one bit less, its prefix, plus one activation; equal rows share theirs. A row whose prefixes all are missing has
them filled in, which takes a cycle each and serves no row of its own. Eight lanes work at once, each on the tree of
rows over one single bit; a lane takes one row or one fill-in a cycle: a prefix adder, and behind it an adder that
weighs the sum and accumulates it. Rows of zeros take none. So a tile of 256 rows takes at least 32 cycles where a
dense array of as many adders takes 256.

The tree (paper: scoreboard) is made for each tile (dynamic), or once for a layer (static), whose tiles then fill in
what their own rows lack. Of several prefixes a row takes the one in the lane with least to do.

Assumed in its favour: units (lanes x windows) share tiles without waiting for each other, sums of a tile are found by
the next cycle in any lane, and no cycle goes to the scoreboard.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.paper.accelerators import POPCOUNT, Int8, Work, tiles
from flow.compression.encoding import BBS, EncodedLayer, EncodedPart
from flow.hardware.config import ArrayConfig
from flow.network.model import ArrayLayer

Counts = NDArray[np.int64]

WIDTH = 8  # inputs of a tile, and lanes
ROWS = 256  # of a tile
ADDERS = 4096  # lanes x windows of all units: as many as others have bit-serial multipliers
MOST_TILES = 1024  # of a layer that are measured, drawn with a seed; the others are taken to be alike
OUT_OF_REACH = 1 << 40  # a lane that cannot be chosen


@dataclass(frozen=True)
class Schedule:
    """How the sums of some tiles come about, by pattern 0 to 2^width - 1.

    prefix, lane  int64 [patterns, tiles]: where a needed pattern's sum comes from, and the lane that makes it
    needed        bool [patterns, tiles]: patterns of rows, and fill-ins
    load          int64 [lanes, tiles]: cycles of every lane
    """

    prefix: Counts
    lane: Counts
    needed: NDArray[np.bool_]
    load: Counts

    @property
    def cycles(self) -> Counts:
        """Of every tile, int64 [tiles]: its slowest lane's, at least one."""
        slowest: Counts = np.maximum(self.load.max(axis=0), 1)
        return slowest


@dataclass(frozen=True)
class Reuse:
    """A layer's work; `density`: additions of rows and fill-ins over the bits of all rows, 0..1."""

    work: Work
    density: float


def order(width: int) -> list[int]:
    """Every pattern but zero, those of fewer ones first."""
    return sorted(range(1, 1 << width), key=lambda pattern: pattern.bit_count())


def _prefixes(pattern: int) -> list[int]:
    """The patterns with one bit less."""
    return [pattern & ~(1 << bit) for bit in range(pattern.bit_length()) if pattern >> bit & 1]


def dynamic(counts: Counts) -> Schedule:
    """A tree for each tile; `counts` int64 [2^width, tiles] are its rows by pattern."""
    needed = _filled(counts)
    patterns, number = counts.shape
    width = patterns.bit_length() - 1
    prefix, lane = np.zeros((2, patterns, number), np.int64)
    load = np.zeros((width, number), np.int64)
    every = np.arange(number)
    for pattern in order(width):
        candidates = np.array(_prefixes(pattern))
        if len(candidates) == 1:
            lane[pattern] = pattern.bit_length() - 1
        else:
            waiting = np.where(needed[candidates], load[lane[candidates], every], OUT_OF_REACH)
            chosen = candidates[waiting.argmin(axis=0)]
            prefix[pattern], lane[pattern] = chosen, lane[chosen, every]
        load[lane[pattern], every] += _taken(counts, needed, pattern)
    return Schedule(prefix, lane, needed, load)


def static(counts: Counts) -> Schedule:
    """One tree for all tiles."""
    whole = dynamic(counts.sum(axis=1, keepdims=True))
    patterns, number = counts.shape
    width = patterns.bit_length() - 1
    needed = counts > 0
    load = np.zeros((width, number), np.int64)
    for pattern in reversed(order(width)):
        needed[whole.prefix[pattern, 0]] |= needed[pattern]
        load[whole.lane[pattern, 0]] += _taken(counts, needed, pattern)
    needed[0] = True
    prefix, lane = (np.broadcast_to(array, counts.shape) for array in (whole.prefix, whole.lane))
    return Schedule(prefix, lane, needed, load)


def _taken(counts: Counts, needed: NDArray[np.bool_], pattern: int) -> Counts:
    """Cycles that a pattern takes of its lane in every tile: one for each row, one for a fill-in."""
    cycles: Counts = np.where(needed[pattern], np.maximum(counts[pattern], 1), 0)
    return cycles


def _filled(counts: Counts) -> NDArray[np.bool_]:
    """The patterns of rows with the fill-ins that the nearest sum below leaves, bool [2^width, tiles].

    Upwards every pattern learns how many sums it is away; downwards each one without a prefix calls for the nearest.
    """
    needed = counts > 0
    needed[0] = True
    patterns = order(len(counts).bit_length() - 1)
    away = np.zeros(counts.shape, np.uint8)
    for pattern in patterns:
        below = _prefixes(pattern)
        away[pattern] = 1 + np.where(needed[below], 0, away[below]).min(axis=0)
    for pattern in reversed(patterns):
        candidates = np.array(_prefixes(pattern))
        lonely = np.flatnonzero(needed[pattern] & ~needed[candidates].any(axis=0))
        needed[candidates[away[candidates][:, lonely].argmin(axis=0)], lonely] = True
    return needed


# -------------------------------------------------------------------------------- layers


@dataclass(frozen=True)
class _Tiles:
    """Some of the tiles of channels that share inputs: rows uint8 [tiles, rows], and how many there are in all."""

    rows: NDArray[np.uint8]
    all: int

    @property
    def counts(self) -> Counts:
        """int64 [256, tiles]."""
        number = len(self.rows)
        places = (np.arange(number)[:, None] << WIDTH) + self.rows
        counted = np.bincount(places.reshape(-1), minlength=number << WIDTH)
        return counted.reshape(number, 1 << WIDTH).T.astype(np.int64)


def _tiles(values: Int8, columns: int, seed: str) -> _Tiles:
    """Tiles of the low `columns` bits of int8 [groups, channels, reduction]: as many channels as 256 rows have."""
    groups, size, reduction = values.shape
    each = min(ROWS // columns, size)
    padded = np.pad(values, [(0, 0), (0, -size % each), (0, -reduction % WIDTH)])
    cut = padded.reshape(groups, -1, each, padded.shape[2] // WIDTH, WIDTH)
    number = groups * cut.shape[1] * cut.shape[3]
    places = np.arange(number)
    if number > MOST_TILES:
        generator = np.random.default_rng(zlib.crc32(seed.encode()))
        places = np.sort(generator.choice(number, MOST_TILES, replace=False))
    group, block, inputs = np.unravel_index(places, (groups, cut.shape[1], cut.shape[3]))
    chosen = cut[group, block, :, inputs].view(np.uint8)  # [tiles, channels, 8]
    bits = chosen[:, :, None] >> np.arange(columns, dtype=np.uint8)[:, None] & np.uint8(1)
    rows = np.packbits(bits, axis=3, bitorder="little").reshape(len(places), -1)
    return _Tiles(rows, number)


def _spent(layer: ArrayLayer, parts: list[tuple[_Tiles, Schedule, float]], config: ArrayConfig) -> Reuse:
    """All tiles on all units; with each part cycles of a unit beside its tiles."""
    cycles = done = bits = 0.0
    for cut, schedule, beside in parts:
        share = cut.all / len(cut.rows)
        cycles += share * float(schedule.cycles.sum()) + beside
        done += share * float(schedule.load.sum())
        bits += share * cut.rows.size * WIDTH
    units = ADDERS // (WIDTH * config.rows)
    return Reuse(Work(-int(-cycles * tiles(layer, config.rows) // units)), done / bits)


def transitive(layer: ArrayLayer, config: ArrayConfig, shared: bool = False, bits: int = BBS.weight_bits) -> Reuse:
    """Whole weights, or of fewer `bits` (rounded, range of each channel kept); `shared`: one tree for the layer."""
    weights = layer.weights if bits == BBS.weight_bits else rounded(layer.weights, bits)
    cut = _tiles(weights.reshape(layer.groups, -1, layer.reduction), bits, layer.name)
    return _spent(layer, [(cut, (static if shared else dynamic)(cut.counts), 0.0)], config)


def rounded(weights: Int8, bits: int) -> Int8:
    """Codes of INT8 weights [channels, reduction] in fewer bits, the largest of each channel still the largest."""
    most = (1 << (bits - 1)) - 1
    largest = np.maximum(np.abs(weights.astype(np.int16)).max(axis=1, keepdims=True), 1)
    made: Int8 = np.rint(weights * (most / largest)).astype(np.int8)
    return made


def of_columns(layer: ArrayLayer, encoded: EncodedLayer, config: ArrayConfig) -> Reuse:
    """The stored columns of pruned weights as rows, W = (S << k) + d: channels of one N share tiles.

    The sum of all inputs of a group is one more row in each of its tiles; a channel adds it, shifted, for each one
    bit of its constant d, spread over all lanes.
    """
    parts = []
    for part in encoded.parts:
        n = part.groups.columns_pruned
        for group in range(layer.groups):
            chosen = part.channels // (layer.channels // layer.groups) == group
            if not chosen.any():
                continue
            kept = part.groups.kept.reshape(part.channels.size, -1)[chosen, : layer.reduction]
            cut = _tiles(kept[None], BBS.weight_bits - n, f"{layer.name}/{n}/{group}")
            counts = cut.counts
            if n:
                counts[(1 << WIDTH) - 1] += 1
            parts.append((cut, dynamic(counts), _constants(part, chosen)))
    return _spent(layer, parts, config)


def _constants(part: EncodedPart, chosen: NDArray[np.bool_]) -> float:
    """Cycles of a unit for the constants of the channels chosen: eight of their one bits at once."""
    n = part.groups.columns_pruned
    held = part.groups.constant.reshape(part.channels.size, -1)[chosen]
    ones = POPCOUNT[held.view(np.uint8) & np.uint8((1 << BBS.constant_bits) - 1)].astype(np.int64)
    each = ROWS // (BBS.weight_bits - n)
    padded = np.pad(ones, [(0, -len(ones) % each), (0, 0)]).reshape(-1, each, ones.shape[1])
    return float((-(-padded.sum(axis=1) // WIDTH)).sum())
