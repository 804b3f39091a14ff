"""Compute cycles of every accelerator of the paper's evaluation, on the flow's own layer description.

All have 4,096 bit-serial multipliers (an 8-bit multiplier counts as eight): PEs of 8, in 16 rows (windows) x 32
columns (output channels), output-stationary. The columns of a block work in lock-step: a step takes as long as
its slowest PE, and the rows share the weights and with them the time. What fills and drains the array is left
out for all alike; the section "rtl" counts it. Weights are int8 [channels, reduction], positions come in tiles of 16.

    stripes     Judd et al., MICRO 2016: 8 weights in 8 cycles
    pragmatic   Albericio et al., MICRO 2017: 8 weights, each lane takes its weight's one bits, one a cycle
    bitlet      Lu et al., MICRO 2021: a window of weights, each lane takes the one bits of one significance
    bitwave     Shi et al., HPCA 2024: 8 weights in sign and magnitude, a cycle for each column that is not zero
    bitvert     the paper: 16 weights, a cycle for each stored column
    sparten     Gondimalla et al., MICRO 2019: 8-bit products of which neither factor is zero, chunks of 128
    ant         Guo et al., MICRO 2022: 6-bit weights and activations, dense
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.paper.workloads import SAMPLED_TILES, Workload
from flow.compression.encoding import BBS, EncodedLayer, bit_columns
from flow.hardware.config import ArrayConfig
from flow.hardware.fields import SUBGROUP
from flow.network.model import ArrayLayer
from flow.scheduling.blocks import channel_blocks

Int8 = NDArray[np.int8]
Count = NDArray[np.int64]

LANES = 8
MAGNITUDE = 7  # bits of a weight beside its sign
BITLET_WINDOW = 64  # weights each lane chooses from: the paper's PE has 64:1 multiplexers
CHUNK = 128  # weights of a SparTen chunk
ANT_BITS, ANT_LANES, ANT_ROWS, ANT_COLUMNS = 6, 16, 20, 16  # BitSim, sim/test_ant.py

POPCOUNT = np.array([bin(value).count("1") for value in range(256)], np.uint8)


@dataclass(frozen=True)
class Work:
    """What a layer takes: cycles, and its multipliers' cycles by what they do.

    useful  a one bit (of BitVert: the rarer bit of its column) is multiplied
    intra   the PE waits for its own slowest lane, or a lane has nothing to do
    inter   the PE waits for the slowest PE of its block
    """

    cycles: int
    useful: int = 0
    intra: int = 0
    inter: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.cycles + other.cycles,
            self.useful + other.useful,
            self.intra + other.intra,
            self.inter + other.inter,
        )


def tiles(layer: ArrayLayer, rows: int = 16) -> int:
    return -(-layer.positions // rows)


def _steps(weights: Int8, size: int) -> Int8:
    """[channels, steps, size], the last step filled up with zeros."""
    padded = np.pad(weights, [(0, 0), (0, -weights.shape[1] % size)])
    return padded.reshape(len(weights), -1, size)


def _lock_step(layer: ArrayLayer, need: NDArray[Any], useful: NDArray[Any], config: ArrayConfig) -> Work:
    """Blocks of `config.columns` channels of one group; `need` cycles and `useful` bits, [channels, steps]."""
    size = layer.channels // layer.groups
    shape = layer.groups, -(-size // config.columns), config.columns, need.shape[1]
    padded = np.zeros((layer.groups, shape[1] * shape[2], shape[3]), need.dtype)
    padded[:, :size] = need.reshape(layer.groups, size, -1)
    slowest = padded.reshape(shape).max(axis=2).sum(axis=2, dtype=np.int64)  # [groups, blocks]
    members = np.full(shape[1], config.columns)
    members[-1] = size - (shape[1] - 1) * config.columns
    busy, once = int(need.sum(dtype=np.int64)) * LANES, int((slowest * members).sum()) * LANES
    done, count = int(useful.sum(dtype=np.int64)), tiles(layer, config.rows)
    return Work(int(slowest.sum()) * count, done * count, (busy - done) * count, (once - busy) * count)


def magnitudes(weights: Int8) -> NDArray[np.uint8]:
    """Of seven bits, as sign and magnitude store them."""
    return np.minimum(np.abs(weights.astype(np.int16)), 127).astype(np.uint8)


def stripes(layer: ArrayLayer, config: ArrayConfig) -> Work:
    ones = POPCOUNT[_steps(layer.weights, LANES).view(np.uint8)].sum(axis=2, dtype=np.uint8)
    return _lock_step(layer, np.full(ones.shape, BBS.weight_bits, np.uint8), ones, config)


def pragmatic(layer: ArrayLayer, config: ArrayConfig, sign: bool = False) -> Work:
    """Weights in sign and magnitude; `sign` counts the sign as one more bit. A step takes a cycle at least."""
    weights = _steps(layer.weights, LANES)
    ones = POPCOUNT[magnitudes(weights)]
    if sign:
        ones += weights < 0
    return _lock_step(layer, np.maximum(ones.max(axis=2), 1), ones.sum(axis=2, dtype=np.uint8), config)


def bitlet(layer: ArrayLayer, config: ArrayConfig, window: int = BITLET_WINDOW) -> Work:
    """Two's complement; each of 8 lanes has one significance. A window takes a cycle at least."""
    assert window < 256, "a lane's ones are counted in 8 bits"
    weights = _steps(layer.weights, window).view(np.uint8)
    lanes = np.stack([((weights >> bit) & 1).sum(axis=2, dtype=np.uint8) for bit in range(8)])
    ones = lanes.sum(axis=0, dtype=np.uint16)
    return _lock_step(layer, np.maximum(lanes.max(axis=0), 1), ones, config)


def bitwave(layer: ArrayLayer, config: ArrayConfig, zeroed: int = 0) -> Work:
    """Bit-flip has made `zeroed` of the seven magnitude columns of every group zero; the sign costs no cycle.

    Which weights are flipped does not matter to the cycles, so that the weights may be those before: a group has
    7 - `zeroed` columns left, or as many as it had if those are fewer. Useful bits scale alike.
    """
    values = magnitudes(_steps(layer.weights, LANES))
    columns = POPCOUNT[np.bitwise_or.reduce(values, axis=2)]
    left = np.minimum(columns, MAGNITUDE - zeroed)
    ones = POPCOUNT[values].sum(axis=2, dtype=np.float32) * (left / np.maximum(columns, 1))
    return _lock_step(layer, np.maximum(left, 1), ones, config)


def bitvert(layer: ArrayLayer, columns_pruned: Count, config: ArrayConfig) -> Work:
    """Cycles of the block schedule that the compiler itself makes; the split needs the bits: `bitvert_split`."""
    blocks = channel_blocks(layer, columns_pruned, config)
    return Work(sum(block.tiles * block.steps * block.columns for block in blocks))


def bitvert_split(layer: ArrayLayer, encoded: EncodedLayer, config: ArrayConfig) -> Work:
    """The same with the multipliers' cycles: useful is the rarer bit of each column of a sub-group of 8."""
    useful = 0
    for part in encoded.parts:
        bits = bit_columns(part.groups)
        ones = bits.reshape(*bits.shape[:2], -1, SUBGROUP).sum(axis=3, dtype=np.uint8)
        useful += int(np.minimum(ones, SUBGROUP - ones).sum(dtype=np.int64))
    blocks = channel_blocks(layer, encoded.columns_pruned, config)
    cycles = sum(block.tiles * block.steps * block.columns for block in blocks)
    slots = LANES * sum(block.tiles * block.steps * block.columns * len(block.channels) for block in blocks)
    useful *= tiles(layer, config.rows)
    return Work(cycles, useful, slots - useful, 0)


def ant(layer: ArrayLayer) -> Work:
    """The lanes that bit-serial multipliers of 6 instead of 8 bits afford, as the authors' simulator has them."""
    blocks = layer.groups * -(-(layer.channels // layer.groups) // ANT_COLUMNS)
    return Work(ANT_BITS * blocks * tiles(layer, ANT_ROWS) * -(-layer.reduction // ANT_LANES))


def sparten(layer: ArrayLayer, nonzero: NDArray[np.bool_], config: ArrayConfig) -> Work:
    """One product a cycle and PE; a chunk takes as long as the most matches of its block and tile, at least one.

    `nonzero` bool [groups, windows, reduction]: activations of some tiles; the others are taken to be alike.
    """
    groups, windows, _ = nonzero.shape
    count = -(-windows // config.rows)
    acts = np.pad(nonzero, [(0, 0), (0, count * config.rows - windows), (0, -layer.reduction % CHUNK)])
    size = layer.channels // layer.groups
    blocks = -(-size // config.columns)
    weights = np.zeros((groups, blocks * config.columns, acts.shape[2]), np.float32)
    weights[:, :size, : layer.reduction] = (layer.weights != 0).reshape(groups, size, -1)
    cycles = 0
    for chunk in range(0, acts.shape[2], CHUNK):
        part = acts[:, :, chunk : chunk + CHUNK].astype(np.float32)
        matches = part @ weights[:, :, chunk : chunk + CHUNK].transpose(0, 2, 1)
        shape = groups, count, config.rows, blocks, config.columns
        cycles += int(np.maximum(matches.reshape(shape).max(axis=(2, 4)), 1).sum())
    return Work(round(cycles * tiles(layer, config.rows) / count))


def activations(workload: Workload, layer: ArrayLayer, rows: int) -> NDArray[np.bool_]:
    """Which activations are not zero, bool [groups, windows, reduction]: the network's own, or drawn."""
    if layer.name in workload.codes:
        nonzero: NDArray[np.bool_] = workload.codes[layer.name] != layer.input_quantization.zero_point
        return nonzero
    generator = np.random.default_rng(zlib.crc32(f"{workload.name}/{layer.name}".encode()))
    count = min(layer.positions, SAMPLED_TILES * rows)
    draws = generator.random((layer.groups, count, layer.reduction), np.float32)
    kept: NDArray[np.bool_] = draws >= workload.zeros[layer.name]
    return kept


def network(
    name: str, workload: Workload, config: ArrayConfig, allocation: Mapping[str, Count] | None = None
) -> list[Work]:
    """Every layer's work on the accelerator of that name; BitVert needs N of every channel."""
    if name == "bitvert":
        assert allocation is not None
        return [bitvert(layer, allocation[layer.name], config) for layer in workload.layers]
    if name == "sparten":
        return [sparten(layer, activations(workload, layer, config.rows), config) for layer in workload.layers]
    if name == "ant":
        return [ant(layer) for layer in workload.layers]
    if name == "bitwave":
        return [bitwave(layer, config, workload.bitwave) for layer in workload.layers]
    models = {"stripes": stripes, "pragmatic": pragmatic, "bitlet": bitlet}
    return [models[name](layer, config) for layer in workload.layers]
