"""Co-simulation: whole samples through the RTL, layer by layer, each result compared with the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow import host, reference
from flow.engines.base import Memory, Simulator
from flow.hardware.config import ArrayConfig
from flow.network import ArrayLayer, Network
from flow.schedule import Bytes, LayerSchedule, Program, activation_words, output_rows


@dataclass(frozen=True)
class LayerRun:
    """One layer of one sample: what went in, what the RTL gave, and where it first left the reference."""

    layer: ArrayLayer
    tensor: NDArray[Any]  # 8-bit ONNX input tensor, batch of one
    rows: NDArray[Any]  # RTL: int8 codes or int32 sums [positions, channels]
    cycles: int
    mismatches: int  # tier 1b
    first_mismatch: str | None
    activation: Bytes  # activation memory as the RTL saw it
    output: Bytes  # output memory as the RTL left it


@dataclass(frozen=True)
class SampleRun:
    """One sample through the network: the runs of its layers, and the network's outputs by name."""

    layers: tuple[LayerRun, ...]
    outputs: dict[str, NDArray[Any]]


def expected_rows(layer: ArrayLayer, codes: NDArray[np.int8]) -> NDArray[Any]:
    """What the RTL has to give: int8 codes, or int32 sums of a raw layer, [positions, channels]."""
    acc = reference.accumulate(layer, codes)
    output = layer.output_quantization
    if output is None:
        return acc
    return reference.requantize(acc, *reference.multipliers(layer), output.zero_point, layer.clamp)


def output_tensor(layer: ArrayLayer, rows: NDArray[Any]) -> NDArray[Any]:
    """RTL rows as the layer's ONNX output tensor."""
    output = layer.output_quantization
    if output is None:
        return reference.to_output(layer, rows.astype(np.float32) * reference.accumulator_scales(layer))
    return output.from_int8(reference.to_output(layer, rows))


def locate(
    scheduled: LayerSchedule, config: ArrayConfig, got: NDArray[Any], want: NDArray[Any]
) -> str | None:
    """The first element, in the order the array computes, where RTL and reference differ."""
    if np.array_equal(got, want):
        return None
    position, channel = (int(i) for i in np.argwhere(got != want)[0])
    number, block = next(
        (i, b)
        for i, b in enumerate(scheduled.blocks)
        if channel in b.channels and b.first_tile <= position // config.rows < b.first_tile + b.tiles
    )
    return (
        f"layer '{scheduled.layer.name}', channel block {number} (array column "
        f"{int(np.flatnonzero(block.channels == channel)[0])}), position tile {position // config.rows} (row "
        f"{position % config.rows}), channel {channel}, position {position}: RTL {got[position, channel]}, "
        f"reference {want[position, channel]}"
    )


def run_layer(
    scheduled: LayerSchedule, program: Program, simulator: Simulator, tensor: NDArray[Any]
) -> LayerRun:
    """One layer of one sample through the RTL."""
    layer, config = scheduled.layer, program.config
    codes = layer.input_quantization.to_int8(tensor)
    activation = activation_words(scheduled, reference.windows(layer, codes), config)
    memories: dict[str, Memory] = dict(program.memories, activation=activation)
    drains = sum(b.tiles * scheduled.planes * (-(-len(b.channels) // config.lanes) + 16) for b in scheduled.blocks)
    loads = sum(b.tiles * b.steps * config.beats for b in scheduled.blocks)
    limit = 1000 + 4 * (scheduled.ideal_cycles + drains + loads + 64 * len(scheduled.blocks))
    result = simulator.run(
        memories, scheduled.first, len(scheduled.blocks), {"output": scheduled.output_words}, limit
    )
    rows = output_rows(scheduled, result.memories["output"], config)
    want = expected_rows(layer, codes)
    return LayerRun(
        layer, tensor, rows, result.cycles, int((rows != want).sum()), locate(scheduled, config, rows, want),
        activation, result.memories["output"],
    )  # fmt: skip


def run_sample(
    network: Network, program: Program, simulator: Simulator, feeds: dict[str, NDArray[Any]], sessions: host.Sessions
) -> SampleRun:
    """One sample, batch of one, through the whole network: array layers in RTL, segments in ONNX Runtime."""
    runs: list[LayerRun] = []
    schedules = {scheduled.layer.name: scheduled for scheduled in program.layers}

    def in_rtl(layer: ArrayLayer, tensor: NDArray[Any]) -> NDArray[Any]:
        run = run_layer(schedules[layer.name], program, simulator, tensor)
        runs.append(run)
        return output_tensor(layer, run.rows)

    tensors = reference.run_network(network, feeds, in_rtl, sessions)
    return SampleRun(tuple(runs), {name: tensors[name] for name in network.outputs})


def cosimulate(
    network: Network,
    program: Program,
    simulators: Sequence[Simulator],
    samples: Sequence[dict[str, NDArray[Any]]],
    advance: Callable[[], None],
) -> list[SampleRun]:
    """All samples, one thread per simulator; `advance` is called after each."""
    parts = [list(range(k, len(samples), len(simulators))) for k in range(len(simulators))]

    def work(simulator: Simulator, numbers: list[int]) -> dict[int, SampleRun]:
        sessions = host.Sessions()
        runs = {}
        for number in numbers:
            runs[number] = run_sample(network, program, simulator, samples[number], sessions)
            advance()
        return runs

    with ThreadPoolExecutor(len(simulators)) as pool:
        done = [run for part in pool.map(work, simulators, parts) for run in part.items()]
    return [run for _, run in sorted(done, key=lambda item: item[0])]
