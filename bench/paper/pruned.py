"""What is pruned: the paper's two presets, and ours with the same noise in the weights.

Weights alone say nothing about accuracy, but they allow a fair question where no data are at hand: how fast is the
network that our way (the exact optimum of every group; for every block of channels the N that saves most time for
its noise) prunes to the noise that a preset makes? Noise is the squared error of a layer's weights over the energy
of its weights, summed over the layers: with uncorrelated inputs, what each layer's output has. `trained.py` asks
the same of accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.paper.memory import BYTES_PER_CYCLE
from flow.allocate import CHANNELS_PARALLEL, PRESETS, Allocation, allocate, channel_bits
from flow.budget import EVERY_N
from flow.encoding import BBS
from flow.hardware.config import ArrayConfig
from flow.network import ArrayLayer
from flow.prune import prune

MOST_WEIGHTS = 1_000_000  # of one layer whose error is measured; of larger ones every n-th channel is
HALVINGS = 60

Double = NDArray[np.float64]


@dataclass(frozen=True)
class Pruned:
    """N of every channel, and the weights' noise, summed over the layers."""

    allocation: Allocation
    noise: float


def preset(name: str, layers: Sequence[ArrayLayer]) -> Pruned:
    """The paper's rule (algorithm 2)."""
    chosen = PRESETS[name]
    allocation = allocate(layers, chosen.columns_pruned, chosen.sensitive)
    noise = 0.0
    for layer in layers:
        lost = noises(layer, chosen.columns_pruned, chosen.method)
        noise += float(lost[allocation[layer.name] > 0].sum())
    return Pruned(allocation, noise)


@dataclass(frozen=True)
class _Blocks:
    """Channels that share one N, float64 [blocks, N = 0 to 6]: noise and cycles."""

    channels: NDArray[np.int64]  # [channels], each one's block
    noise: Double
    cycles: Double


def ours(layers: Sequence[ArrayLayer], noise: float, config: ArrayConfig) -> Pruned:
    """The fastest allocation with at most that noise: a Lagrangian, its multiplier found by bisection."""
    blocks = [_blocks(layer, config) for layer in layers]

    def at(price: float) -> tuple[list[NDArray[np.int64]], float]:
        """The best N of every block when a cycle is worth `price` of noise."""
        chosen = [(block.noise + price * block.cycles).argmin(axis=1) for block in blocks]
        lost = (np.take_along_axis(block.noise, n[:, None], 1).sum() for block, n in zip(blocks, chosen, strict=True))
        return chosen, float(sum(lost))

    low, high = 0.0, 1.0
    while at(high)[1] <= noise and high < 1e30:
        high *= 16
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle)[1] <= noise else (low, middle)
    chosen, reached = at(low)
    allocation = {
        layer.name: n[block.channels].astype(np.int64) for layer, block, n in zip(layers, blocks, chosen, strict=True)
    }
    return Pruned(allocation, reached)


def _blocks(layer: ArrayLayer, config: ArrayConfig) -> _Blocks:
    """Blocks of 32 channels of one conv group, in the order of their scales, and what each N does to them."""
    curve = np.stack([noises(layer, int(n), "optimal") for n in EVERY_N], axis=1)
    size = layer.channels // layer.groups
    per_group = -(-size // CHANNELS_PARALLEL)
    order = np.argsort(-layer.weight_scales.reshape(layer.groups, size), axis=1, kind="stable")
    rank = np.argsort(order, axis=1)
    channels = (np.arange(layer.groups)[:, None] * per_group + rank // CHANNELS_PARALLEL).reshape(-1)
    summed = np.zeros((layer.groups * per_group, len(EVERY_N)))
    np.add.at(summed, channels, curve)
    columns = BBS.weight_bits - EVERY_N
    compute = -(-layer.positions // config.rows) * -(-layer.reduction // config.step) * columns
    loaded = channel_bits(layer, EVERY_N) * np.bincount(channels)[:, None] / 8 / BYTES_PER_CYCLE
    return _Blocks(channels, summed, np.maximum(compute, loaded))


def noises(layer: ArrayLayer, columns_pruned: int, method: str) -> Double:
    """Squared error of every channel's weights over the energy of the whole layer's, float64 [channels].

    Channels that are not measured have the error, in INT8 steps, of the measured one before them.
    """
    every = -(-layer.weights.size // MOST_WEIGHTS)
    weights = layer.weights[::every]
    _, after = prune(weights, np.full(len(weights), columns_pruned), method, layer.name)
    lost = ((after.astype(np.int16) - weights).astype(np.float32) ** 2).sum(axis=1, dtype=np.float64)
    held = (weights.astype(np.float32) ** 2).sum(axis=1, dtype=np.float64)
    scales = layer.weight_scales.astype(np.float64) ** 2
    error, energy = (np.repeat(values, every)[: layer.channels] * scales for values in (lost, held))
    made: Double = error / max(energy.sum(), np.finfo(np.float64).tiny)
    return made


def stored_bits(layers: Sequence[ArrayLayer], allocation: Allocation) -> dict[str, float]:
    """Bits per weight of each layer, metadata counted."""
    return {
        layer.name: float(channel_bits(layer, allocation[layer.name]).sum()) / layer.weights.size for layer in layers
    }
