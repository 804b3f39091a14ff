"""A whole network on chip behind AXI under cocotb, by one start.

Environment as for axi_bench.py, and NETWORK, the kind of network.
"""

from __future__ import annotations

import os
from typing import Any

import cocotb
import numpy as np

from flow.scheduling.onchip.layout import activations, results
from flow.scheduling.onchip.program import outputs_only
from flow.simulation.onchip import by_reference
from tests.hardware.axi_bench import CONFIG, Bench
from tests.helpers.networks import on_chip


@cocotb.test()
async def a_whole_network(dut: Any) -> None:
    """Every step as the reference has it, with a bus that is ready and behind stalls; sooner if only outputs leave."""
    bench = Bench(dut, 7)
    await bench.reset()
    _, onchip = on_chip(os.environ["NETWORK"], CONFIG)
    assert onchip.config == CONFIG
    cycles: list[int] = []
    for stalled in (False, True):
        if stalled:
            bench.stall((0.1, 0.3))
            cocotb.start_soon(bench.watch())
        inputs = {
            held.tensor: np.random.default_rng(len(cycles)).integers(-128, 128, held.shape).astype(np.int8)
            for held in onchip.chain.inputs
        }
        memories = {**onchip.memories, "activation": activations(onchip, inputs)}
        place = await bench.load(memories, onchip.output_words)
        await bench.start(0, onchip.descriptors)
        cycles.append(await bench.finish_well(200_000))
        got, want = results(onchip, bench.results(place, onchip.output_words)), by_reference(onchip, inputs)
        assert set(got) == set(want) == set(range(len(onchip.chain.steps)))
        for number, rows in want.items():
            assert np.array_equal(got[number], rows), f"step {number} is wrong"
    place = await bench.load({**memories, "descriptor": outputs_only(onchip)}, onchip.output_words)
    bench.run_free()
    await bench.start(0, onchip.descriptors)
    cycles.append(await bench.finish_well(200_000))
    got = results(onchip, bench.results(place, onchip.output_words))
    for number in onchip.chain.output_steps.values():
        assert np.array_equal(got[number], want[number])
    assert cycles[2] < cycles[0]
    dut._log.warning("the network took %d cycles, behind stalls %d, with its outputs alone %d", *cycles)
    assert cycles[1] > cycles[0]
