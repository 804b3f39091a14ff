"""The cycle models of BitVert and Stripes held against the RTL: layers small enough are co-simulated.

A model counts the bit columns that the PEs compute; the RTL also loads operands, fills and drains the array. What
the flow's cycle model adds for these (flow/scheduling/cycles.py) must give the RTL's count to the cycle.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.paper import accelerators
from bench.paper.comparison import ARRAY
from bench.paper.workloads import Workload
from flow.compression.allocate import PRESETS, Allocation, allocate
from flow.compression.prune import prune
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit
from flow.network.model import ArrayLayer
from flow.scheduling.cycles import breakdown
from flow.scheduling.order import layout
from flow.scheduling.schedule import schedule
from flow.scheduling.traffic import memory_traffic
from flow.simulation import engines
from flow.simulation.cosim import Rtl, run_layer
from flow.simulation.engines import Engine, Simulator
from flow.simulation.workers.job import DesignSources
from flow.simulation.workers.open import workers

MOST_CYCLES = 140_000  # of a layer on dense PEs, to be small enough
MOST_BYTES = 16_000_000  # of its memories
MOST_LAYERS = 3  # of one network, of different shapes, the smallest ones


@dataclass(frozen=True)
class Checked:
    """One layer on one PE: cycles of the figures' model, of loading, filling and draining, and of the RTL."""

    network: str
    layer: str
    pe: str
    model: int
    overhead: int
    rtl: int
    mismatches: int  # outputs that differ from the integer reference

    @property
    def agrees(self) -> bool:
        return self.model + self.overhead == self.rtl and not self.mismatches


def small_layers(workload: Workload) -> list[ArrayLayer]:
    """The layers that are co-simulated: of each shape the first, the quickest of them."""
    shapes: dict[tuple[int, ...], ArrayLayer] = {}
    config = ARRAY.dense()
    for layer in workload.layers:
        if accelerators.stripes(layer, config).cycles <= MOST_CYCLES:
            shapes.setdefault((layer.channels, layer.reduction, layer.positions, layer.groups), layer)
    plans = layout(list(shapes.values()), {}, config)
    fitting = [plan for plan in plans if sum(memory_traffic(plan, config).values()) <= MOST_BYTES]
    return [plan.layer for plan in sorted(fitting, key=lambda plan: plan.ideal_cycles)[:MOST_LAYERS]]


def check(workloads: Sequence[Workload], engine: Engine) -> list[Checked]:
    """Every small layer, pruned by the moderate preset, on BitVert and on dense PEs."""
    with tempfile.TemporaryDirectory() as folder, workers(None, None) as hands:
        configs = [ARRAY, ARRAY.dense()]
        devices = [emit(config, Path(folder) / config.pe) for config in configs]
        engines.open_all(engine, devices, lambda: None)
        simulators = [
            hands.simulator(DesignSources.of(engine.name, *pair)) for pair in zip(configs, devices, strict=True)
        ]
        jobs = [
            (work.name, layer, rule[layer.name], config, simulator)
            for work in workloads
            for rule in [_moderate(work)]
            for layer in small_layers(work)
            for config, simulator in zip(configs, simulators, strict=True)
        ]
        with ThreadPoolExecutor(hands.count) as pool:
            return list(pool.map(lambda job: _check(*job), jobs))


def _moderate(workload: Workload) -> Allocation:
    chosen = PRESETS["moderate"]
    return allocate(workload.layers, chosen.columns_pruned, chosen.sensitive)


def _check(
    network: str, layer: ArrayLayer, columns_pruned: NDArray[np.int64], config: ArrayConfig, simulator: Simulator
) -> Checked:
    encoded, weights = prune(layer.weights, columns_pruned, PRESETS["moderate"].method, layer.name)
    run = replace(layer, weights=weights)
    program = schedule([encoded], [run], config)
    scheduled = program.layers[0]
    generator = np.random.default_rng(0)
    codes = generator.integers(-128, 128, (1, *layer.input_shape)).astype(np.int8)
    result = run_layer(Rtl(program, simulator), scheduled, layer.input_quantization.from_int8(codes))
    model = (
        accelerators.bitvert(run, columns_pruned, config)
        if config.pe == "bitvert"
        else accelerators.stripes(run, config)
    )
    spent = breakdown(scheduled, config)
    overhead = spent.load + spent.drain + spent.stall
    return Checked(network, layer.name, config.pe, model.cycles, overhead, result.cycles, result.mismatches)
