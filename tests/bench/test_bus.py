"""The accelerator behind AXI with a slow memory: what a bus costs, and how it is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.bus import Bus, whole_work
from flow.files import cache_folder
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.emit import emit_wrapped
from tests.helpers.networks import on_chip
from tests.helpers.tools import require_engine

LATENCY = 100
STARTING = 3  # latencies that a run cannot hide: the first descriptor, its words, the answer to the last write


@pytest.mark.full
def test_a_slow_bus_costs_little_but_at_the_ends_of_a_run(tmp_path: Path) -> None:
    """A network on chip of many short blocks; every result written, and compared."""
    require_engine("verilator")
    _, onchip = on_chip("residual", ArrayConfig(4, 4, weight_depth=256, metadata_depth=32, activation_depth=32))
    axi, cache = AxiConfig(128), cache_folder(None)
    device, wrapper = emit_wrapped(onchip.config, axi, tmp_path)
    work, ideal = whole_work(onchip, device, cache, traced=True)
    bus = Bus(onchip.config, wrapper, cache)
    fast, slow = bus.run(work, 0), bus.run(work, LATENCY)
    assert fast.beats == slow.beats
    assert ideal < fast.cycles <= 1.1 * ideal
    assert slow.cycles - fast.cycles <= STARTING * LATENCY + 0.1 * ideal
    assert slow.cycles - ideal <= sum(slow.stalls.values())
    descriptor = memory_ports(onchip.config)[0]
    assert slow.beats["descriptor"] == onchip.descriptors * axi.beats(descriptor) < onchip.descriptors * 16
    assert slow.bursts["output"] < 0.7 * slow.beats["output"]
    assert bus.run(work, LATENCY, outstanding=8).cycles <= 1.15 * slow.cycles
