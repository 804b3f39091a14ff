"""Compute cycles of what came after BitVert, on the layers and weights of `accelerators.py`.

All have 4,096 bit-serial multipliers or what does as much: a 4x4-bit multiplier counts as two, an adder of an
activation as one. Beside `transitive.py`:

    bitmod     Chen et al., HPCA 2025, arXiv 2411.11745: groups of 128 weights in 4 or 3 bits, each of the best of four
               data types, two signed powers of two a weight
    panacea    Kam et al., HPCA 2025, arXiv 2412.10059: slices of 4 bits, the high ones skipped where four weights have
               none or four activations have the most frequent one
    mcbp       Wang et al., MICRO 2025, arXiv 2509.10372: activations of equal columns of four weights' bits merged
    sparsecol  arXiv 2606.16016: bit columns of sign and magnitude that are zero already, none made so: BitWave's
               cycles without flipped bits (only its abstract was at hand)

Multipliers of Panacea and adders of MCBP never wait for each other here, which no machine reaches. Left out:
BitParticle (2507.09780), whose cycles depend on how it packs partial products, and FlexiBit (2411.18065), which gains
by narrower floating-point formats: for 8-bit integers it is a dense array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.paper.accelerators import CHUNK, LANES, MAGNITUDE, POPCOUNT, Int8, Work, magnitudes, tiles
from flow.compression.encoding import BBS
from flow.hardware.config import ArrayConfig
from flow.network.model import ArrayLayer

MULTIPLIERS = 4096  # bit-serial ones
GROUP = CHUNK  # weights of BitMoD that share a data type and a scale
BITMOD_TERMS = {4: 2, 3: 2}  # cycles of a weight by its bits: half of them, rounded up (bitmod_sim/pe_array.py)
BITMOD_SIDE = 8 + 2  # bits of a group's scale and of its data type
BITMOD_STEPS = 127  # values of a group's scale, the channel's largest the last

# Floating-point values, and the special ones of which each group chooses one, in steps of the scale (extra resolution,
# extra asymmetry; abdelfattah-lab/BitMoD-HPCA-25, AWQ-BitMoD/awq/quantize/auto_dtype.py).
BITMOD_VALUES = {4: (0, 0.5, 1, 1.5, 2, 3, 4, 6), 3: (0, 1, 2, 4)}
BITMOD_SPECIAL = {4: (-5, 5, -8, 8), 3: (-3, 3, -6, 6)}

VECTOR = 4  # weights and activations of Panacea that are skipped together
SLICE = 4  # bits
INDEX = 4  # bits of a run before each vector that is kept
MERGED = 4  # rows of MCBP whose equal columns are merged
PATTERNS = 16  # values of such a column


def _spread(operations: float, of_a_cycle: int) -> Work:
    """Work that any of so many units takes."""
    return Work(-int(-operations // of_a_cycle))


def whole(layer: ArrayLayer, config: ArrayConfig) -> Work:
    """Elements that take eight weights a cycle."""
    size = layer.channels // layer.groups
    blocks = layer.groups * -(-size // config.columns)
    return Work(blocks * tiles(layer, config.rows) * -(-layer.reduction // LANES))


# -------------------------------------------------------------------------------- BitMoD


def bitmod(layer: ArrayLayer, config: ArrayConfig, bits: int) -> Work:
    """As the dense array, with so many cycles for eight weights as a weight has terms instead of eight."""
    return Work(BITMOD_TERMS[bits] * whole(layer, config).cycles)


def bitmod_bits(bits: int) -> float:
    """Stored for each weight."""
    return bits + BITMOD_SIDE / GROUP


def bitmod_weights(weights: Int8, bits: int) -> NDArray[np.float64]:
    """Codes [channels, reduction] as BitMoD stores them, in INT8 steps: of each group the best data type."""
    channels, reduction = weights.shape
    padded = np.pad(weights, [(0, 0), (0, -reduction % GROUP)]).astype(np.float64)
    groups = padded.reshape(channels, -1, GROUP)
    best, least = np.zeros_like(groups), np.full(groups.shape[:2], np.inf)
    positive = np.array(BITMOD_VALUES[bits])
    for special in BITMOD_SPECIAL[bits]:
        values = np.unique([*positive, *-positive, special])
        scale = _scales(groups, values)
        edges = (values[1:] + values[:-1]) / 2
        made = values[np.searchsorted(edges, groups / scale[..., None])] * scale[..., None]
        error = ((made - groups) ** 2).sum(axis=2)
        better = error < least
        best[better], least[better] = made[better], error[better]
    return best.reshape(channels, -1)[:, :reduction]


def _scales(groups: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A scale for every group, [channels, groups]: the least that reaches its ends, in steps of the channel's."""
    low, high = np.minimum(groups.min(axis=2), 0), np.maximum(groups.max(axis=2), 0)
    needed = np.maximum(low / values[0], high / values[-1])
    step = np.maximum(needed.max(axis=1, keepdims=True), 1e-6) / BITMOD_STEPS
    made: NDArray[np.float64] = np.maximum(np.rint(needed / step), 1) * step
    return made


# -------------------------------------------------------------------------------- Panacea


@dataclass(frozen=True)
class Sliced:
    """Which vectors have a high slice: weights bool [groups, vectors, reduction], activations likewise."""

    weights: NDArray[np.bool_]
    activations: NDArray[np.bool_]

    @property
    def operations(self) -> int:
        """Outer products of 4x4 slices, the low ones always taken."""
        taken = [part.shape[1] + part.sum(axis=1, dtype=np.int64) for part in (self.weights, self.activations)]
        return int((taken[0] * taken[1]).sum())


def sliced(layer: ArrayLayer, codes: Int8) -> Sliced:
    """Vectors of four channels and of four windows; `codes` int8 [groups, windows, reduction] of the activations.

    A weight's low slice is signed, so that -8 to 7 have no high one. The activations' zero point may be moved to the
    middle of its slice (the paper's zero-point manipulation), if that leaves fewer.
    """
    weights = layer.weights.reshape(layer.groups, -1, layer.reduction).astype(np.int16)
    zero = layer.input_quantization.zero_point
    values = codes.astype(np.int16)
    low, half = 1 << SLICE, 1 << (SLICE - 1)
    as_they_are = _any_of_four((values + 128) // low != (zero + 128) // low)
    moved = _any_of_four((values - zero + half) // low != 0)
    kept = min(as_they_are, moved, key=np.count_nonzero)
    return Sliced(_any_of_four((weights + half) // low != 0), kept)


def _any_of_four(high: NDArray[Any]) -> NDArray[np.bool_]:
    """bool [groups, rows, reduction] made [groups, rows / 4, reduction]."""
    groups, rows, reduction = high.shape
    padded = np.pad(high, [(0, 0), (0, -rows % VECTOR), (0, 0)])
    found: NDArray[np.bool_] = np.logical_or.reduce(padded.reshape(groups, -1, VECTOR, reduction), axis=2)
    return found


def panacea(layer: ArrayLayer, codes: Int8) -> Work:
    """The windows given stand for all."""
    found = sliced(layer, codes)
    share = -(-layer.positions // VECTOR) / found.activations.shape[1]
    return _spread(found.operations * share, MULTIPLIERS // 2 // VECTOR**2)


def panacea_bits(layer: ArrayLayer, codes: Int8) -> tuple[float, float]:
    """Stored for each weight and each activation: low slices, and the high vectors kept, each with a run before it.

    Where that is no less, all eight bits.
    """
    found = sliced(layer, codes)
    vector = SLICE * VECTOR + INDEX
    weights, activations = (
        min(SLICE + vector * float(part.mean()) / VECTOR, float(BBS.weight_bits))
        for part in (found.weights, found.activations)
    )
    return weights, activations


# -------------------------------------------------------------------------------- MCBP


def mcbp(layer: ArrayLayer, config: ArrayConfig) -> Work:
    """Bits of two's complement: of each four rows of one significance every column that is not zero is merged into
    its pattern's sum, and every row adds the sums of the patterns that it is in."""
    operations = 0
    ones = POPCOUNT[np.arange(PATTERNS)].astype(np.int64)
    for weights in layer.weights.reshape(layer.groups, -1, layer.reduction):
        for bit in range(BBS.weight_bits):
            columns = _fours(weights.view(np.uint8) >> np.uint8(bit) & np.uint8(1))
            places = columns + PATTERNS * np.arange(len(columns))[:, None]
            found = np.bincount(places.reshape(-1), minlength=PATTERNS * len(columns)).reshape(-1, PATTERNS)
            operations += int(found[:, 1:].sum() + ((found > 0) @ ones).sum())
    return _spread(operations * tiles(layer, config.rows) * config.rows, MULTIPLIERS)


def _fours(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Columns of four rows as numbers, uint8 [rows / 4, reduction]."""
    padded = np.pad(bits, [(0, -len(bits) % MERGED), (0, 0)]).reshape(-1, MERGED, bits.shape[1])
    return np.packbits(padded, axis=1, bitorder="little")[:, 0]


def mcbp_bits(layer: ArrayLayer) -> float:
    """Stored for each weight: the signs, and seven planes of magnitudes, a column of four as one bit if it is zero,
    else as five; a plane that this makes larger is stored as it is."""
    found = magnitudes(layer.weights)
    bits = 1.0
    for bit in range(MAGNITUDE):
        zero = float((_fours(found >> np.uint8(bit) & np.uint8(1)) == 0).mean())
        bits += min(1.0, (zero + (1 + MERGED) * (1 - zero)) / MERGED)
    return bits
