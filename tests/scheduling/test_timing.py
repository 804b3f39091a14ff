"""Budgets of time: held, spent where it saves, equal to the cycle model of the schedule; on chip as well."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.compression.allocate import PRESETS, Allocation, allocate
from flow.compression.budget import Time, least, most, spend, time_limit
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.network.model import ArrayLayer, Window
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.onchip.chain import ChainLayer, chain
from flow.scheduling.onchip.program import assemble
from flow.scheduling.onchip.timing import on_chip
from flow.scheduling.onchip.unroll import as_stored
from flow.scheduling.order import layout
from flow.scheduling.timing import dense_cycles, layer_by_layer
from tests.helpers.layers import layer_of, random_weights
from tests.helpers.networks import KINDS, pruned, quantized

SMALL = ArrayConfig(4, 4, weight_depth=16, metadata_depth=4)  # most weights pass through the buffer for every tile
WIDE = ArrayConfig(8, 16)
Curves = dict[str, NDArray[np.float64]]


def grouped(groups: int, size: int, inputs: int, side: int, kernel: int = 1) -> ArrayLayer:
    """A convolution of `groups` groups, of `size` output and `inputs` input channels each."""
    rng = np.random.default_rng(groups)
    weights = random_weights(rng, groups * size, kernel * kernel * inputs)
    window = Window((kernel, kernel), (1, 1), (kernel // 2,) * 4, (1, 1))
    shapes = (groups * inputs, side, side), (groups * size, side, side)
    return layer_of(weights, side * side, rng, False, window, groups, *shapes)


def some_layers() -> list[ArrayLayer]:
    """Blocks that are full and that are not, depthwise and grouped layers, and a last layer of 32-bit sums."""
    rng = np.random.default_rng(1)
    found = [
        layer_of(random_weights(rng, 40, 70), 30, rng),
        grouped(12, 1, 1, 6, 3),
        grouped(3, 6, 4, 5),
        layer_of(random_weights(rng, 10, 200), 1, rng, True),
    ]
    return [replace(layer, name=f"layer{number}") for number, layer in enumerate(found)]


def drawn(layers: Sequence[ArrayLayer], seed: int = 2) -> Curves:
    """Errors that grow with N, float64 [channels, 7]."""
    rng = np.random.default_rng(seed)
    return {
        layer.name: np.cumsum(rng.uniform(0, 1, (layer.channels, 7)) * 4.0 ** np.arange(7), axis=1)
        * rng.uniform(0.1, 10)
        * (np.arange(7) > 0)
        for layer in layers
    }


def times(layers: Sequence[ArrayLayer], config: ArrayConfig) -> tuple[Sequence[ArrayLayer], Time]:
    return layers, layer_by_layer(layers, config)


def total(layers: Sequence[ArrayLayer], time: Time, allocation: Allocation) -> int:
    return time.beside + sum(time.of(layer, allocation[layer.name]) for layer in layers)


def chained(kind: str, config: ArrayConfig) -> tuple[Sequence[ArrayLayer], Time]:
    network = quantized(KINDS[kind]())
    return network.layers, on_chip(chain(network), network.layers, config)


CASES: dict[str, tuple[int, Callable[[], tuple[Sequence[ArrayLayer], Time]]]] = {
    "small": (4, lambda: times(some_layers(), SMALL)),
    "wide": (16, lambda: times(some_layers(), WIDE)),
    "residual on chip": (4, lambda: chained("residual", ArrayConfig(4, 4))),
    "depthwise on chip": (8, lambda: chained("depthwise", ArrayConfig(16, 8))),
}


@pytest.mark.parametrize("config", [SMALL, WIDE], ids=["small", "wide"])
def test_time_is_that_of_the_schedule(config: ArrayConfig) -> None:
    layers, rng = some_layers(), np.random.default_rng(3)
    allocation = {layer.name: rng.integers(0, 7, layer.channels) for layer in layers}
    scheduled = layout(layers, allocation, config)
    assert total(layers, layer_by_layer(layers, config), allocation) == sum(layer_cycles(s, config) for s in scheduled)
    dense = layout(layers, allocation, config.dense())
    assert dense_cycles(layers, config) == sum(layer_cycles(each, config.dense()) for each in dense)


@pytest.mark.parametrize("case", CASES)
def test_the_bound_is_held_and_faster_is_never_slower(case: str) -> None:
    columns, made = CASES[case]
    layers, time = made()
    curves = drawn(layers)
    fewest, whole = least(layers, columns, time) + time.beside, most(layers, time) + time.beside
    asked = np.linspace(time.dense / fewest, min(1.0, time.dense / whole), 8)
    reached, errors = [], []
    for speedup in asked[asked >= 1]:
        limit = time_limit(layers, time, columns, None, float(speedup))
        allocation = spend(layers, curves, limit, columns, time)
        reached.append(total(layers, time, allocation))
        errors.append(sum(curves[name][np.arange(len(n)), n].sum() for name, n in allocation.items()))
        assert reached[-1] <= time.dense / speedup + 1e-6
        same = spend(layers, curves, time_limit(layers, time, columns, limit + time.beside, None), columns, time)
        assert all((same[name] == n).all() for name, n in allocation.items())
    assert reached == sorted(reached) and len(set(reached)) > 1
    assert errors[0] > errors[-1] and reached[-1] == whole and not any(n.any() for n in allocation.values())


@pytest.mark.parametrize("case", CASES)
def test_columns_that_save_no_time_are_given_back(case: str) -> None:
    """However little time is left: a block of channels with a lower N takes more time, or what it saves is error."""
    columns, made = CASES[case]
    layers, time = made()
    allocation = spend(layers, drawn(layers), least(layers, columns, time), columns, time)
    for layer in layers:
        n = allocation[layer.name]
        for first in range(0, layer.channels, layer.channels // layer.groups):
            here = n[first : first + layer.channels // layer.groups]
            for value in np.unique(here[here > 0]):
                for less in range(value):
                    other = n.copy()
                    other[first : first + len(here)][here == value] = less
                    assert time.of(layer, other) > time.of(layer, n), (layer.name, value, less)


def test_budgets_of_time_are_spent_as_well_as_any_choice_can() -> None:
    """Against every allocation there is: within the budget, and close to the least error of all."""
    rng = np.random.default_rng(4)
    layers = [
        replace(layer_of(random_weights(rng, channels, reduction), 9, rng), name=f"layer{number}")
        for number, (channels, reduction) in enumerate([(8, 64), (4, 100), (3, 20)])
    ]
    time, curves = layer_by_layer(layers, ArrayConfig(4, 4)), drawn(layers)
    ranked = {name: np.argsort(-curve[:, 4], kind="stable") for name, curve in curves.items()}
    options = [(name, order[i : i + 4]) for name, order in ranked.items() for i in range(0, len(order), 4)]
    found = []
    for choice in itertools.product(range(7), repeat=len(options)):
        allocation = {layer.name: np.zeros(layer.channels, np.int64) for layer in layers}
        for (name, members), n in zip(options, choice, strict=True):
            allocation[name][members] = n
        error = sum(curves[name][np.arange(len(n)), n].sum() for name, n in allocation.items())
        found.append((total(layers, time, allocation), error))
    for speedup in (2.5, 3.5, 4.5):
        limit = time_limit(layers, time, 4, None, speedup)
        allocation = spend(layers, curves, limit, 4, time)
        reached = sum(curves[name][np.arange(len(n)), n].sum() for name, n in allocation.items())
        best = min(error for cycles, error in found if cycles <= limit)
        assert best <= reached <= 1.5 * best


def test_what_cannot_be_reached_is_refused_with_what_can() -> None:
    layers, time = times(some_layers(), WIDE)
    fewest = least(layers, 16, time)
    reachable = int(100 * time.dense / fewest) / 100
    with pytest.raises(FlowError, match=rf"a speed-up of 30 .*: {reachable:.2f} at most, {fewest:,} cycles of"):
        time_limit(layers, time, 16, None, 30)
    with pytest.raises(FlowError, match=rf"{fewest - 1:,} cycles are fewer .*: {fewest:,} at least, of {time.dense:,}"):
        time_limit(layers, time, 16, fewest - 1, None)
    assert time_limit(layers, time, 16, None, reachable) >= fewest
    assert time_limit(layers, time, 16, fewest, None) == fewest


# -------------------------------------------------------------------------------- on chip
def test_layers_that_chips_store_unpruned_are_not_pruned() -> None:
    """Depthwise layers take the same time for every N there: all of them keep their columns."""
    network = quantized(KINDS["depthwise"]())
    linked = chain(network)
    time = on_chip(linked, network.layers, ArrayConfig(16, 8))
    allocation = spend(network.layers, drawn(network.layers), least(network.layers, 8, time), 8, time)
    stored = {step.layer.name: as_stored(step) for step in linked.steps if isinstance(step, ChainLayer)}
    assert set(stored.values()) == {True, False}
    assert all(bool(allocation[name].any()) == kept for name, kept in stored.items())


@pytest.mark.parametrize("kind", KINDS)
def test_time_on_chip_is_at_least_that_of_the_bit_columns(kind: str) -> None:
    network, encoded = pruned(quantized(KINDS[kind]()), 4)
    linked = chain(network)
    time = on_chip(linked, network.layers, ArrayConfig(4, 4))
    program = assemble(linked, encoded, time.config)
    allocation = {name: stored.columns_pruned for name, stored in encoded.items()}
    assert total(network.layers, time, allocation) > sum(program.ideal_cycles)


# -------------------------------------------------------------------------------- grouped convolutions
@pytest.mark.parametrize("config", [ArrayConfig(), ArrayConfig(4, 4)], ids=["16x32", "4x4"])
@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("shape", [(8, 16, 8, 8), (8, 8, 1, 16), (16, 4, 4, 4), (6, 40, 2, 4), (64, 1, 1, 8)])
def test_pruned_groups_are_not_slower_than_unpruned_ones(
    shape: tuple[int, int, int, int], name: str, config: ArrayConfig
) -> None:
    """Two N in a conv group that the array takes at once would need two blocks: 0.52 of the dense array's speed."""
    layer, chosen = grouped(*shape), PRESETS[name]
    allocation = allocate([layer], chosen.columns_pruned, chosen.sensitive, config.columns)
    time = layer_by_layer([layer], config)
    whole = time.of(layer, np.zeros(layer.channels, np.int64))
    assert allocation["layer"].any() and time.of(layer, allocation["layer"]) <= whole
    assert whole <= 1.05 * time.dense
