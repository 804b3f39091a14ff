"""A whole network behind a bus: layers, segments, and the width that it needs."""

from __future__ import annotations

from itertools import pairwise

import pytest

from flow.hardware.axi.bus import WIDTHS, AxiConfig
from flow.hardware.config import ArrayConfig
from flow.scheduling.behind import GAIN, Behind, behind, narrowest
from flow.scheduling.blocks import Program
from flow.scheduling.bus.bursts import SlowMemory
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.onchip.program import OnChip
from flow.scheduling.schedule import schedule
from tests.helpers.layers import random_layer
from tests.helpers.networks import dense as a_network
from tests.helpers.networks import on_chip, pruned, quantized

CONFIG = ArrayConfig(4, 4, weight_depth=256, metadata_depth=32, activation_depth=32)
MEMORY = SlowMemory(20, 128)


@pytest.fixture(scope="module")
def programs() -> tuple[Program, OnChip]:
    """A network on chip, and its layers by themselves on the same array."""
    network, onchip = on_chip("dense", CONFIG)
    _, encoded = pruned(quantized(a_network()), CONFIG.columns)
    return schedule([encoded[layer.name] for layer in network.layers], network.layers, onchip.config), onchip


def wide_layers() -> Program:
    """Two layers of many channels and one position, which wait for their weights."""
    made = [random_layer(seed, 64, 1, [0] * 64) for seed in (1, 2)]
    return schedule([encoded for encoded, _ in made], [layer for _, layer in made], ArrayConfig(4, 32))


def test_layers_and_segments(programs: tuple[Program, OnChip]) -> None:
    program, onchip = programs
    found = behind(program, onchip, AxiConfig(64), MEMORY)
    assert len(found.layers) == len(program.layers) and len(found.segments) == len(onchip.starts) == 1
    assert not found.alone and found.whole == found.segments[0].cycles
    for run, scheduled in zip(found.layers, program.layers, strict=True):
        assert run.cycles > layer_cycles(scheduled, program.config)
    assert behind(program, None, AxiConfig(64), MEMORY).whole == sum(run.cycles for run in found.layers)


def test_the_narrowest_bus_that_is_worth_it() -> None:
    """Every width up to it saves what it must, the next one does not."""
    program = wide_layers()
    by_width: dict[int, Behind] = {bits: behind(program, None, AxiConfig(bits), MEMORY) for bits in WIDTHS}
    found = narrowest(program, None, MEMORY)
    bits = found.axi.data_bits
    assert found == by_width[bits] and bits > 64
    for narrow, wide in pairwise(WIDTHS):
        saved = 1 - by_width[wide].whole / by_width[narrow].whole
        assert (saved >= GAIN) == (wide <= bits) or wide > 2 * bits


def test_a_poor_memory_needs_no_wide_bus() -> None:
    """Of a memory that gives four bytes a cycle, a bus of 32 bits takes all."""
    program = wide_layers()
    assert narrowest(program, None, SlowMemory(20, 4)).axi.data_bits == 32
