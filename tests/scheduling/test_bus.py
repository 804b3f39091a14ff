"""The model of a run behind AXI: what it must say of any bus. `tests/bench/test_bus.py` compares it with the RTL."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flow.errors import FlowError
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig, memory_ports
from flow.scheduling.bus.bursts import Pace, SlowMemory
from flow.scheduling.bus.jobs import Job as BusJob
from flow.scheduling.bus.jobs import jobs
from flow.scheduling.bus.model import BusTime, bus_time, jobs_time
from flow.scheduling.bus.parts import Moment, alike, sampled
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.onchip.program import outputs_only
from flow.scheduling.schedule import schedule
from flow.scheduling.traffic import memory_traffic
from tests.helpers.layers import TINY, Job, random_job, random_layer
from tests.helpers.networks import on_chip

CONFIG = ArrayConfig(2, 3, **TINY, drain=2)
SEEDS = range(6)


def time_of(job: Job, axi: AxiConfig, memory: SlowMemory) -> BusTime:
    return bus_time(job.memories, (job.scheduled.first, len(job.scheduled.blocks)), CONFIG, axi, memory)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("bits", [32, 256])
def test_never_below_ideal_memories_nor_the_bus(seed: int, bits: int) -> None:
    job, axi = random_job(seed, CONFIG), AxiConfig(bits)
    found = time_of(job, axi, SlowMemory(0, axi.beat))
    assert found.cycles > layer_cycles(job.scheduled, CONFIG)
    assert found.cycles > found.busiest
    half = time_of(job, axi, SlowMemory(0, axi.beat // 2))
    assert half.cycles > max(found.cycles, 2 * half.busiest)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slower_memory_takes_longer(seed: int) -> None:
    job, axi = random_job(seed, CONFIG), AxiConfig(64)
    found = [time_of(job, axi, SlowMemory(latency)) for latency in (0, 10, 40, 100)]
    cycles = [each.cycles for each in found]
    assert cycles == sorted(set(cycles))
    assert all(each.beats == found[0].beats for each in found)
    few = [time_of(job, axi, SlowMemory(40, outstanding=limit)).cycles for limit in (1, 2, 0)]
    assert few == sorted(few, reverse=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_beats_are_those_of_the_words(seed: int) -> None:
    """Every word once, as the traffic of the layer has them; a word of a narrow memory takes a beat."""
    job, axi = random_job(seed, CONFIG), AxiConfig(32)
    found, traffic = time_of(job, axi, SlowMemory(7)), memory_traffic(job.scheduled, CONFIG)
    for port in memory_ports(CONFIG):
        words, rest = divmod(traffic[port.name], port.bytes)
        assert not rest and found.beats[port.name] == words * axi.beats(port)
        assert found.bursts[port.name] <= words


def test_on_chip_only_outputs_are_written() -> None:
    _, onchip = on_chip("dense", ArrayConfig(4, 4, weight_depth=256, metadata_depth=32, activation_depth=32))
    memories = {**onchip.memories, "descriptor": outputs_only(onchip)}
    start, axi, memory = (0, onchip.descriptors), AxiConfig(64), SlowMemory(20)
    every = bus_time(onchip.memories, start, onchip.config, axi, memory)
    some = bus_time(memories, start, onchip.config, axi, memory)
    assert 0 < some.beats["output"] < every.beats["output"]
    assert some.cycles <= every.cycles
    assert {**some.beats, "output": 0} == {**every.beats, "output": 0}
    assert some.cycles > max(sum(onchip.ideal_cycles), some.busiest)


LONG = [(8, 6000, [0] * 6), (16, 3000, [4] * 12), (100, 80, [0, 2, 4] * 64), (3, 1600, [0, 5] * 12)]


@pytest.mark.parametrize("depth", [16, 1024])
@pytest.mark.parametrize(("reduction", "positions", "columns_pruned"), LONG)
def test_a_part_of_a_long_run_stands_for_it(
    reduction: int, positions: int, columns_pruned: list[int], depth: int
) -> None:
    """Blocks that hold their windows, and that have none in common; steps of one octet; whole and pruned."""
    encoded, layer = random_layer(3, reduction, positions, columns_pruned)
    config = replace(CONFIG, activation_depth=depth, weight_depth=256)
    program = schedule([encoded], [layer], config)
    start, axi, memory = (0, len(program.layers[0].blocks)), AxiConfig(64), SlowMemory(10)
    whole = bus_time(program.memories, start, config, axi, memory)
    some = bus_time(program.memories, start, config, axi, memory, most=0)
    assert some.cycles == pytest.approx(whole.cycles, rel=0.01) and some.beats == whole.beats


@pytest.mark.parametrize("bits", [32, 256])
def test_jobs_whose_columns_vary_stand_for_each_other(bits: int) -> None:
    """As those of a depthwise layer, whose channels have their own N: array-bound or bound by the bus, as it comes."""
    config, each = replace(CONFIG, activation_depth=16, weight_depth=256), list[BusJob]()
    for pruned in (0, 2, 4, 6):
        encoded, layer = random_layer(3, 40, 20, [pruned] * 3)
        each += jobs(schedule([encoded], [layer], config).memories, 0, 1, config)
    mixed = [each[number] for number in np.random.default_rng(0).integers(0, 4, 400)]
    axi, memory = AxiConfig(bits), SlowMemory(40)
    whole, some = (jobs_time(mixed, config, axi, memory, most) for most in (10**9, 0))
    assert some.cycles != whole.cycles and some.cycles == pytest.approx(whole.cycles, rel=0.03)


def _moments(paces: list[int], buffered: list[int]) -> list[Moment]:
    cycles = [sum(paces[:number]) for number in range(len(paces))]
    return [Moment(cycle, (each,)) for cycle, each in zip(cycles, buffered, strict=True)]


def test_more_is_modelled_until_pace_and_buffers_are_steady() -> None:
    encoded, layer = random_layer(3, 8, 1500, [0] * 3)
    made = jobs(schedule([encoded], [layer], CONFIG).memories, 0, 1, CONFIG)
    assert made[0].tiles == 750
    asked = []

    def run(part: list[BusJob]) -> list[list[Moment]]:
        """Tiles of 10 cycles until a buffer of 200 words is empty, of 20 behind it."""
        count = part[0].tiles
        asked.append(count)
        left = [max(0, 200 - tile) for tile in range(count)]
        return [_moments([10 if each else 20 for each in left], left)]

    missing = sampled(alike(made, len), run)
    assert asked[:2] == [128, 256] and asked[-1] > 400
    assert missing == pytest.approx(20 * (750 - asked[-1]), rel=0.02)
    steady = sampled(alike(made, len), lambda part: [_moments([9] * part[0].tiles, [5, 7] * (part[0].tiles // 2))])
    assert steady == pytest.approx(9 * (750 - 128))


def test_the_pace_is_the_bandwidth() -> None:
    pace = Pace(4, 10)
    beats = [pace.beat(10) for _ in range(40)]
    assert beats[0] == 10 and beats[-1] - beats[0] == 98  # 39 beats at 2.5 cycles
    assert len(set(beats)) == 40
    assert pace.beat(1000) == 1000 and pace.beat(1000) == 1003  # what is not used is lost


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"latency": -1}, "takes -1 cycles to answer is not modelled: give --latency 0 to 10,000"),
        ({"bandwidth": 0}, "a memory of 0 bytes a cycle gives nothing: give --bandwidth 1 or more"),
        ({"outstanding": -1}, "takes no number of -1 bursts: give 0"),
    ],
)
def test_memories_that_cannot_be(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(FlowError, match=message):
        SlowMemory(**wrong)
