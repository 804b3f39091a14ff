"""What is pruned: the paper's two presets, and ours with the same noise in the weights.

Weights alone say nothing about accuracy, but they allow a fair question where no data are at hand: how fast is the
network that our way (the exact optimum of every group; for every block of channels the N that saves most time for
its noise) prunes to the noise that a preset makes? Noise is the squared error of a layer's weights over the energy
of its weights, summed over the layers: with uncorrelated inputs, what each layer's output has. `trained.py` asks
the same of accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.paper.memory import BYTES_PER_CYCLE
from flow.compression.allocate import CHANNELS_PARALLEL, PRESETS, Allocation, allocate, channel_bits
from flow.compression.budget import EVERY_N, RANKED_BY
from flow.compression.encoding import BBS
from flow.compression.prune import prune
from flow.hardware.config import ArrayConfig
from flow.network.model import ArrayLayer, by_weights

MOST_WEIGHTS = 1_000_000  # of one layer whose error is measured; of larger ones every n-th channel is
HALVINGS = 80

Double = NDArray[np.float64]


@dataclass(frozen=True)
class Pruned:
    """N of every channel, and the error that it makes: noise of the weights, unless other curves were given."""

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
    """Channels that share one N, float64 [blocks, N = 0 to 6]: error and cycles."""

    channels: NDArray[np.int64]  # [channels], each one's block
    errors: Double
    cycles: Double


class Tradeoff:
    """Time against error over the blocks of 32 channels: a Lagrangian, its multiplier found by bisection.

    `curves`: error of every channel at N = 0 to 6, float64 [channels, 7], by layer name, of layers that share their
    weights by the first one's.
    """

    def __init__(self, layers: Sequence[ArrayLayer], curves: Mapping[str, Double], config: ArrayConfig) -> None:
        self.shared = by_weights(layers)
        self.blocks = [_blocks(sharing, curves[sharing[0].name], config) for sharing in self.shared]

    def within_error(self, error: float) -> Pruned:
        """The fastest allocation with at most that error."""
        return self._search(lambda chosen: self._sum("errors", chosen) <= error, dearer=True)

    def within_cycles(self, cycles: float) -> Pruned:
        """The allocation of the least error that takes at most so many cycles, DRAM counted block by block."""
        return self._search(lambda chosen: self._sum("cycles", chosen) <= cycles, dearer=False)

    def _at(self, price: float) -> list[NDArray[np.int64]]:
        """The best N of every block when a cycle is worth `price` of error."""
        return [(block.errors + price * block.cycles).argmin(axis=1) for block in self.blocks]

    def _sum(self, what: str, chosen: list[NDArray[np.int64]]) -> float:
        pairs = zip(self.blocks, chosen, strict=True)
        return float(sum(np.take_along_axis(getattr(block, what), n[:, None], 1).sum() for block, n in pairs))

    def _search(self, holds: Callable[[list[NDArray[np.int64]]], bool], dearer: bool) -> Pruned:
        """The highest price that holds (`dearer`), or the lowest."""
        low, high = 1e-30, 1e30
        for _ in range(HALVINGS):
            middle = float(np.sqrt(low * high))
            if holds(self._at(middle)) == dearer:
                low = middle
            else:
                high = middle
        chosen = self._at(low if dearer else high)
        allocation = {
            layer.name: n[block.channels].astype(np.int64)
            for sharing, block, n in zip(self.shared, self.blocks, chosen, strict=True)
            for layer in sharing
        }
        return Pruned(allocation, self._sum("errors", chosen))


def ours(layers: Sequence[ArrayLayer], noise: float, config: ArrayConfig) -> Pruned:
    """The fastest allocation with at most that noise in the weights."""
    curves = {layer.name: np.stack([noises(layer, int(n), "optimal") for n in EVERY_N], axis=1) for layer in layers}
    return Tradeoff(layers, curves, config).within_error(noise)


def _blocks(sharing: Sequence[ArrayLayer], curve: Double, config: ArrayConfig) -> _Blocks:
    """Blocks of 32 channels of one conv group, by what pruning costs; of layers with one set of weights."""
    layer = sharing[0]
    size = layer.channels // layer.groups
    per_group = -(-size // CHANNELS_PARALLEL)
    order = np.argsort(-curve[:, RANKED_BY].reshape(layer.groups, size), axis=1, kind="stable")
    rank = np.argsort(order, axis=1)
    channels = (np.arange(layer.groups)[:, None] * per_group + rank // CHANNELS_PARALLEL).reshape(-1)
    summed = np.zeros((layer.groups * per_group, len(EVERY_N)))
    np.add.at(summed, channels, curve)
    columns = BBS.weight_bits - EVERY_N
    loaded = channel_bits(layer, EVERY_N) * np.bincount(channels)[:, None] / 8 / BYTES_PER_CYCLE
    steps = -(-layer.reduction // config.step)
    cycles = [np.maximum(-(-each.positions // config.rows) * steps * columns, loaded) for each in sharing]
    return _Blocks(channels, summed, np.sum(cycles, axis=0))


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
