"""The model of energy: its parts by hand, and that a budget of it spends less of it than budgets of bits or cycles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bench.paper.energy import CLOCK
from bench.paper.published import PE_POWER
from flow.compression.allocate import Allocation
from flow.compression.budget import Bits, Cost, least, most, spend
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.network.model import ArrayLayer
from flow.scheduling.energy import DRAM_BYTE, ELEMENT_CYCLE, SRAM_BIT, energy_on, layer_energy, modelled
from flow.scheduling.order import by_itself
from flow.scheduling.timing import layer_by_layer
from flow.scheduling.traffic import memory_traffic
from tests.helpers.layers import layer_of, random_weights

ARRAY = ArrayConfig(4, 4)


def layer(channels: int, reduction: int, positions: int) -> ArrayLayer:
    rng = np.random.default_rng(channels)
    return layer_of(random_weights(rng, channels, reduction), positions, rng)


def test_the_parts_by_hand() -> None:
    """Six channels in blocks of four and two, of two steps; seven windows in two tiles; N = 3: five bit columns."""
    given = layer(6, 32, 7)
    scheduled = by_itself(given, np.full(6, 3), ARRAY)
    found = layer_energy(scheduled, ARRAY)
    cycles = 2 * 2 * 2 * 5  # blocks, tiles, steps, bit columns
    assert found.elements == pytest.approx(cycles * 16 * ELEMENT_CYCLE["bitvert", 1][3])
    moved = sum(memory_traffic(scheduled, ARRAY).values())
    weights, activations, metadata = cycles * 4 * 16, 2 * 2 * 2 * 4 * 16 * 8, 2 * 2 * 4 * 8  # bits read of buffers
    assert found.buffers == pytest.approx(SRAM_BIT * (weights + activations + metadata + 8 * moved))
    assert found.bus == pytest.approx(DRAM_BYTE * moved)
    assert energy_on(ARRAY).of(given, np.full(6, 3)) == round(found.total)


def test_elements_that_prune_nothing_take_the_same_for_every_n() -> None:
    given = layer(6, 32, 7)
    for kind in ("dense", "parallel"):
        energy = energy_on(ArrayConfig(4, 4, kind))
        assert energy.of(given, np.full(6, 0)) == energy.of(given, np.full(6, 4)) > 0


def test_every_element_of_ours_was_measured() -> None:
    kinds = [ArrayConfig(pe=kind) for kind in ("bitvert", "dense", "parallel")]
    kinds += [ArrayConfig(pe="pairs", columns_per_cycle=each) for each in (1, 2, 4)]
    for config in kinds:
        assert modelled(config) and energy_on(config)
        cycles = ELEMENT_CYCLE[config.pe, config.columns_per_cycle]
        assert len(cycles) == (7 if config.element.encoded else 1) and min(cycles) > 0
    assert ELEMENT_CYCLE["bitvert", 1][4] * 1e-12 * CLOCK == pytest.approx(PE_POWER["bitvert"] * 1e-3)


def test_arrays_without_a_model_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = ArrayConfig(4, 4).with_maps(64)
    assert not modelled(maps)
    with pytest.raises(FlowError, match="no model of the energy of feature maps on chip; give --objective cycles"):
        energy_on(maps)
    monkeypatch.setattr("flow.scheduling.energy.ELEMENT_CYCLE", {})
    with pytest.raises(FlowError, match="the energy of element 'bitvert' was not measured; give --objective cycles"):
        energy_on(ARRAY)


@pytest.mark.parametrize("seed", range(2))
def test_within_an_error_no_other_budget_takes_less(seed: int) -> None:
    """As --max-drop searches, by bisection: layers of many windows and of one, whose cycles and bits are far apart."""
    rng = np.random.default_rng(seed)
    shapes = ((24, 40, 120), (24, 160, 12), (32, 300, 1))
    layers = [replace(layer(*shape), name=f"layer{number}") for number, shape in enumerate(shapes)]
    curves = {
        each.name: np.cumsum(rng.uniform(0, 1, (each.channels, 7)) * 4.0 ** np.arange(7), axis=1) * (np.arange(7) > 0)
        for each in layers
    }
    worst = sum(float(curve[:, 6].sum()) for curve in curves.values())
    energy = energy_on(ARRAY)

    def holds(allocation: Allocation, allowed: float) -> bool:
        lost = sum(curves[name][np.arange(len(n)), n].sum() for name, n in allocation.items())
        return bool(lost <= allowed)

    def smallest(cost: Cost, accepts: Callable[[Allocation], bool]) -> int:
        low, high = float(least(layers, 4, cost)), float(most(layers, cost))
        best = spend(layers, curves, high, 4, cost)
        for _ in range(8):
            middle = (low + high) / 2
            tried = spend(layers, curves, middle, 4, cost)
            if accepts(tried):
                best, high = tried, middle
            else:
                low = middle
        return sum(energy.of(each, best[each.name]) for each in layers)

    for share in (0.001, 0.01, 0.1):

        def accepts(allocation: Allocation, allowed: float = share * worst) -> bool:
            return holds(allocation, allowed)

        least_energy = smallest(energy, accepts)
        assert least_energy <= smallest(Bits(), accepts)
        assert least_energy <= smallest(layer_by_layer(layers, ARRAY), accepts)
