"""A budget for the whole network, shared out among its blocks of channels: of bits, or of an array's cycles.

Every block of channels has a curve, error at the network's output against cost. The steps of the curves' convex
hulls are taken in order of error saved per unit of cost, which is the best use of any budget (the Lagrangian optimum);
where a step exceeds the budget, later steps that fit are taken. What a layer costs is a function of N of its channels
(`Cost`); where a lower N costs nothing, it is taken. Layers that share their weights are pruned alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flow.compression.allocate import Allocation, channel_bits, stored_weights
from flow.compression.calibration import Double
from flow.compression.encoding import BBS
from flow.errors import FlowError
from flow.network.model import ArrayLayer, by_weights

EVERY_N = np.arange(BBS.max_columns_pruned + 1)
RANKED_BY = 4  # columns: a layer's channels are sorted into blocks by the error of losing this many
PATIENCE = 256  # steps in a row that exceed what is left of a budget, after which no more are tried
ROUNDING = 1e-6  # cycles, beyond any error of a quotient: whole cycles stay whole
NEAR = 64  # steps in which the cost may fall although an N falls, because blocks change places

Sharing = tuple[ArrayLayer, ...]  # layers with one set of weights


class Cost(Protocol):
    """What layers cost: the sum over them is what a budget limits."""

    @property
    def stored(self) -> bool:
        """Whether layers that share their weights cost as much as one of them."""

    def of(self, layer: ArrayLayer, columns_pruned: NDArray[np.int64]) -> int:
        """The cost of a layer whose channels lose so many columns, int64 [channels]."""


class Time(Cost, Protocol):
    """The time of a layer on an array, in cycles of one sample.

    `dense` are those of all layers on dense PEs, `beside` those of the network that depend on no N.
    """

    @property
    def dense(self) -> int: ...

    @property
    def beside(self) -> int: ...


class Bits:
    """Stored bits, metadata counted."""

    stored = True

    def of(self, layer: ArrayLayer, columns_pruned: NDArray[np.int64]) -> int:
        return int(channel_bits(layer, columns_pruned).sum())


@dataclass(frozen=True)
class _Remembered:
    """A cost that is computed once for layers that share their weights and N of their channels."""

    cost: Cost
    known: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def of(self, sharing: Sharing, columns_pruned: NDArray[np.int64]) -> int:
        key = (sharing[0].name, columns_pruned.tobytes())
        if key not in self.known:
            self.known[key] = _together(self.cost, sharing, columns_pruned)
        return self.known[key]


def _together(cost: Cost, sharing: Sharing, columns_pruned: NDArray[np.int64]) -> int:
    """The cost of layers that share their weights."""
    paying = sharing[:1] if cost.stored else sharing
    return sum(cost.of(layer, columns_pruned) for layer in paying)


@dataclass(frozen=True)
class _Blocks:
    """All blocks of the network: members, and error and cost at N = 0 to 6, float64 [blocks, 7].

    The cost is relative to that at N = 0, of the block alone. A block is of all layers that share its weights, and
    named by the first of them.
    """

    members: list[tuple[str, NDArray[np.int64]]]
    errors: Double
    costs: Double


def spend(
    layers: Sequence[ArrayLayer], curves: Mapping[str, Double], limit: float, block: int, cost: Cost
) -> Allocation:
    """N of every channel, by layer name, of the least total error whose `cost` is at most `limit`.

    `curves`: error at the network's output, float64 [channels, 7], by layer name, of layers that share their weights
    by the first one's; `block` channels share one N.
    The higher the limit, the higher (or equal) the cost. The caller makes sure that the limit is not below `least`.
    """
    spent = _cheapest(layers, curves, block, cost)
    blocks = spent.blocks
    steps = [step for number in range(len(blocks.costs)) for step in _hull(blocks, number)]
    steps.sort(key=lambda step: -step[0])
    taken = _fitting(spent, steps, limit)
    spent.take(steps[:taken])
    failed = 0
    for _, number, n in steps[taken:]:
        if n < spent.chosen[number] and not spent.try_step(number, n, limit):
            failed += 1
            if failed == PATIENCE:
                break
        else:
            failed = 0
    return {layer.name: spent.allocation[sharing[0].name] for sharing in by_weights(layers) for layer in sharing}


def bits_limit(layers: Sequence[ArrayLayer], bits: float) -> float:
    """The stored bits of these layers at `bits` per weight.

    FlowError when that is below the fewest bits the layers can be stored with, or above 8.
    """
    least_possible = least_bits(layers)
    if not least_possible <= bits <= BBS.weight_bits:
        raise FlowError(
            f"the budget must lie between {least_possible:.2f} and {BBS.weight_bits} bits per weight, the least "
            f"and the most this network can be stored with, but it is {bits:g}; change --bits"
        )
    return bits * stored_weights(layers)


def time_limit(layers: Sequence[ArrayLayer], time: Time, block: int, cycles: int | None, speedup: float | None) -> int:
    """Cycles that these layers may take if the network is to take `cycles`, or those of the dense PEs over `speedup`.

    FlowError when that is less than the fewest cycles that pruning can reach.
    """
    fewest = least(layers, block, time) + time.beside
    if speedup is not None:
        if (allowed := int(time.dense / speedup + ROUNDING)) >= fewest:
            return allowed - time.beside
        reachable = int(100 * time.dense / fewest) / 100
        raise FlowError(
            f"a speed-up of {speedup:g} over dense PEs is more than pruning reaches on this array: {reachable:.2f} at "
            f"most, {fewest:,} cycles of {time.dense:,}; change --speedup, or --array"
        )
    assert cycles is not None
    if cycles < fewest:
        raise FlowError(
            f"{cycles:,} cycles are fewer than pruning reaches on this array: {fewest:,} at least, of {time.dense:,} "
            "on dense PEs; change --cycles, or --array"
        )
    return cycles - time.beside


def least_bits(layers: Sequence[ArrayLayer]) -> float:
    """The fewest bits per weight these layers can be stored with."""
    bits = sum(int(channel_bits(first, EVERY_N).min()) * first.channels for first, *_ in by_weights(layers))
    return bits / stored_weights(layers)


def least(layers: Sequence[ArrayLayer], block: int, cost: Cost) -> int:
    """The least that these layers cost with `block` channels of one N, each block at its cheapest N."""
    curves = {layer.name: np.zeros((layer.channels, len(EVERY_N))) for layer in layers}
    return _cheapest(layers, curves, block, cost).used


def most(layers: Sequence[ArrayLayer], cost: Cost) -> int:
    """What these layers cost unpruned."""
    return total(layers, cost, unpruned(layers))


def unpruned(layers: Iterable[ArrayLayer]) -> Allocation:
    """No bit column is pruned of any channel."""
    return {layer.name: np.zeros(layer.channels, np.int64) for layer in layers}


def total(layers: Sequence[ArrayLayer], cost: Cost, allocation: Allocation) -> int:
    """What these layers cost with these N."""
    return sum(_together(cost, sharing, allocation[sharing[0].name]) for sharing in by_weights(layers))


def _cheapest(layers: Sequence[ArrayLayer], curves: Mapping[str, Double], block: int, cost: Cost) -> _Spent:
    """Each block at its cheapest N."""
    remembered, shared = _Remembered(cost), by_weights(layers)
    blocks = _blocks(shared, curves, block, remembered)
    return _Spent({sharing[0].name: sharing for sharing in shared}, blocks, remembered, blocks.costs.argmin(axis=1))


def _blocks(shared: Sequence[Sharing], curves: Mapping[str, Double], block: int, cost: _Remembered) -> _Blocks:
    """Blocks of at most `block` channels of one conv group, in the order of their pruning errors."""
    members: list[tuple[str, NDArray[np.int64]]] = []
    errors, costs = [], []
    for sharing in shared:
        layer = sharing[0]
        curve = curves[layer.name]
        size = layer.channels // layer.groups
        by_length: dict[int, Double] = {}
        for first in range(0, layer.channels, size):
            ranked = first + np.argsort(-curve[first : first + size, RANKED_BY], kind="stable")
            for begin in range(0, size, block):
                chosen = ranked[begin : begin + block]
                if len(chosen) not in by_length:
                    by_length[len(chosen)] = _saved(sharing, chosen, cost)
                members.append((layer.name, chosen))
                errors.append(curve[chosen].sum(axis=0))
                costs.append(by_length[len(chosen)])
    return _Blocks(members, np.array(errors), np.array(costs))


def _saved(sharing: Sharing, channels: NDArray[np.int64], cost: _Remembered) -> Double:
    """The cost of layers in which these channels alone lose N = 0 to 6 columns, relative to none."""
    columns = np.zeros((len(EVERY_N), sharing[0].channels), np.int64)
    columns[:, channels] = EVERY_N[:, None]
    costs = np.array([cost.of(sharing, row) for row in columns], np.float64)
    relative: Double = costs - costs[0]
    return relative


@dataclass
class _Spent:
    """An allocation and its exact cost, while it is made: `chosen` is N of every block, int64 [blocks].

    `layers` that share their weights, and all that is of them, are named by the first.
    """

    layers: Mapping[str, Sharing]
    blocks: _Blocks
    cost: _Remembered
    chosen: NDArray[np.int64]
    allocation: Allocation = field(init=False)
    costs: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.allocation = unpruned(sharing[0] for sharing in self.layers.values())
        for (name, members), n in zip(self.blocks.members, self.chosen, strict=True):
            self.allocation[name][members] = n
        self.costs = {name: self.cost.of(sharing, self.allocation[name]) for name, sharing in self.layers.items()}

    @property
    def used(self) -> int:
        return sum(self.costs.values())

    def after(self, steps: Sequence[tuple[float, int, int]]) -> _Spent:
        """A copy in which these steps are taken."""
        chosen = self.chosen.copy()
        for _, number, n in steps:
            chosen[number] = n
        return _Spent(self.layers, self.blocks, self.cost, chosen)

    def take(self, steps: Sequence[tuple[float, int, int]]) -> None:
        later = self.after(steps)
        self.chosen, self.allocation, self.costs = later.chosen, later.allocation, later.costs

    def try_step(self, number: int, n: int, limit: float) -> bool:
        """Give a block this N if that costs no less than before, and no more than the limit in all."""
        name, members = self.blocks.members[number]
        columns = self.allocation[name].copy()
        columns[members] = n
        price = self.cost.of(self.layers[name], columns)
        if price < self.costs[name] or self.used - self.costs[name] + price > limit:
            return False
        self.chosen[number], self.allocation[name], self.costs[name] = n, columns, price
        return True


def _fitting(spent: _Spent, steps: Sequence[tuple[float, int, int]], limit: float) -> int:
    """How many of the first steps fit the limit; ties go to more."""
    low, high = 0, len(steps) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if spent.after(steps[:middle]).used <= limit:
            low = middle
        else:
            high = middle
    here = spent.after(steps[:low])
    for number in range(low, min(low + NEAR, len(steps))):
        here.take(steps[number : number + 1])
        if here.used <= limit:
            low = number + 1
    return low


def _hull(blocks: _Blocks, number: int) -> list[tuple[float, int, int]]:
    """Steps (error saved per cost, block, N reached) along a block's lower convex hull, from the least cost up."""
    errors, costs = blocks.errors[number], blocks.costs[number]
    steps: list[tuple[float, int, int]] = []
    here = int(costs.argmin())
    while True:
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(costs > costs[here], (errors[here] - errors) / (costs - costs[here]), -np.inf)
        best = int(gain.argmax())
        if not gain[best] > 0:
            return steps
        steps.append((float(gain[best]), number, best))
        here = best
