"""A bit budget for the whole network, shared out among its blocks of channels.

Every block of channels has a curve, error at the network's output against bits. The steps of the curves' convex
hulls are taken in order of error saved per bit, which is the best use of any budget (the Lagrangian optimum); where a
step exceeds the budget, later steps that fit are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.compression.allocate import Allocation, channel_bits
from flow.compression.calibration import Double
from flow.compression.encoding import BBS
from flow.errors import FlowError
from flow.network.model import ArrayLayer

EVERY_N = np.arange(BBS.max_columns_pruned + 1)
RANKED_BY = 4  # columns: a layer's channels are sorted into blocks by the error of losing this many


@dataclass(frozen=True)
class _Blocks:
    """All blocks of the network: members, and error and bits at N = 0 to 6, float64 [blocks, 7]."""

    members: list[tuple[str, NDArray[np.int64]]]
    errors: Double
    bits: Double


def spend(layers: Sequence[ArrayLayer], curves: Mapping[str, Double], bits: float, block: int) -> Allocation:
    """N of every channel, by layer name, of the least total error within `bits` per weight on average.

    `curves`: error at the network's output, float64 [channels, 7], by layer name; `block` channels share one N.
    FlowError when the budget is below the fewest bits the layers can be stored with, or above 8.
    """
    least = least_bits(layers)
    if not least <= bits <= BBS.weight_bits:
        raise FlowError(
            f"the budget must lie between {least:.2f} and {BBS.weight_bits} bits per weight, the least "
            f"and the most this network can be stored with, but it is {bits:g}; change --bits"
        )
    blocks = _blocks(layers, curves, block)
    chosen = _within(blocks, bits * sum(layer.weights.size for layer in layers))
    allocation = {layer.name: np.zeros(layer.channels, np.int64) for layer in layers}
    for (name, members), n in zip(blocks.members, chosen, strict=True):
        allocation[name][members] = n
    return allocation


def least_bits(layers: Sequence[ArrayLayer]) -> float:
    """The fewest bits per weight these layers can be stored with."""
    bits = sum(int(channel_bits(layer, EVERY_N).min()) * layer.channels for layer in layers)
    return bits / sum(layer.weights.size for layer in layers)


def _blocks(layers: Sequence[ArrayLayer], curves: Mapping[str, Double], block: int) -> _Blocks:
    """Blocks of at most `block` channels of one conv group, in the order of their pruning errors."""
    members: list[tuple[str, NDArray[np.int64]]] = []
    errors, bits = [], []
    for layer in layers:
        curve = curves[layer.name]
        cost = channel_bits(layer, EVERY_N)
        size = layer.channels // layer.groups
        for first in range(0, layer.channels, size):
            ranked = first + np.argsort(-curve[first : first + size, RANKED_BY], kind="stable")
            for begin in range(0, size, block):
                chosen = ranked[begin : begin + block]
                members.append((layer.name, chosen))
                errors.append(curve[chosen].sum(axis=0))
                bits.append(cost * float(len(chosen)))
    return _Blocks(members, np.array(errors), np.array(bits))


def _within(blocks: _Blocks, budget: float) -> NDArray[np.int64]:
    """N of every block, int64 [blocks]; ties go to fewer bits."""
    every = range(len(blocks.bits))
    steps = [step for block in every for step in _hull(block, blocks.errors[block], blocks.bits[block])]
    steps.sort(key=lambda step: -step[0])
    chosen = np.asarray(blocks.bits.argmin(axis=1), np.int64)
    used = float(blocks.bits.min(axis=1).sum())
    for _, block, n in steps:  # the hulls are convex: a block's own steps come in order
        more = blocks.bits[block, n] - blocks.bits[block, chosen[block]]
        if more > 0 and used + more <= budget:
            chosen[block] = n
            used += more
    return chosen


def _hull(block: int, errors: Double, bits: Double) -> list[tuple[float, int, int]]:
    """Steps (error saved per bit, block, N reached) along the lower convex hull, from the fewest bits up."""
    steps: list[tuple[float, int, int]] = []
    here = int(bits.argmin())
    while True:
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(bits > bits[here], (errors[here] - errors) / (bits - bits[here]), -np.inf)
        best = int(gain.argmax())
        if not gain[best] > 0:
            return steps
        steps.append((float(gain[best]), block, best))
        here = best
