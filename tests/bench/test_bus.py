"""The accelerator behind AXI with a slow memory: what a bus costs, how it is used, and that the model knows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.bus import Bus, Work, whole_work
from flow.files import cache_folder
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.emit import emit_wrapped
from flow.scheduling.bus.bursts import SlowMemory
from tests.helpers.layers import TINY, random_job
from tests.helpers.networks import on_chip
from tests.helpers.tools import require_engine

LATENCY = 100
STARTING = 3  # latencies that a run cannot hide: the first descriptor, its words, the answer to the last write
FULL = 128  # bytes a cycle: as many as any bus has
MEMORIES = [SlowMemory(0, FULL), SlowMemory(40, FULL), SlowMemory(100, 3), SlowMemory(30, 2, outstanding=3)]


@pytest.mark.full
def test_a_slow_bus_costs_little_but_at_the_ends_of_a_run(tmp_path: Path) -> None:
    """A network on chip of many short blocks; every result written, and compared."""
    require_engine("verilator")
    _, onchip = on_chip("residual", ArrayConfig(4, 4, weight_depth=256, metadata_depth=32, activation_depth=32))
    axi, cache = AxiConfig(128), cache_folder(None)
    device, wrapper = emit_wrapped(onchip.config, axi, tmp_path)
    work, ideal = whole_work(onchip, device, cache, traced=True)
    bus = Bus(onchip.config, wrapper, cache)
    fast, slow = bus.run(work, SlowMemory(0, FULL)), bus.run(work, SlowMemory(LATENCY, FULL))
    assert fast.beats == slow.beats
    assert ideal < fast.cycles <= 1.1 * ideal
    assert slow.cycles - fast.cycles <= STARTING * LATENCY + 0.1 * ideal
    assert slow.cycles - ideal <= sum(slow.stalls.values())
    descriptor = memory_ports(onchip.config)[0]
    assert slow.beats["descriptor"] == onchip.descriptors * axi.beats(descriptor) < onchip.descriptors * 16
    assert slow.bursts["output"] < 0.7 * slow.beats["output"]
    assert bus.run(work, SlowMemory(LATENCY, FULL, outstanding=8)).cycles <= 1.15 * slow.cycles
    for memory in MEMORIES:
        same(bus, work, memory)


@pytest.mark.full
def test_the_model_knows_every_cycle_and_burst_of_layers(tmp_path: Path) -> None:
    """Random layers by a narrow bus, some whose weights do not fit their buffer, some raw."""
    require_engine("verilator")
    config = ArrayConfig(2, 3, **TINY, drain=2)
    _, wrapper = emit_wrapped(config, AxiConfig(32), tmp_path)
    bus = Bus(config, wrapper, cache_folder(None))
    for seed in range(8):
        job = random_job(seed, config)
        work = Work(job.memories, job.scheduled.first, len(job.scheduled.blocks), job.want)
        for memory in MEMORIES:
            same(bus, work, memory)


def same(bus: Bus, work: Work, memory: SlowMemory) -> None:
    measured, predicted = bus.run(work, memory), bus.predicted(work, memory)
    assert predicted.cycles == measured.cycles, memory
    assert predicted.beats == measured.beats
    assert predicted.bursts == measured.bursts
