"""Co-simulation: whole samples through the RTL, layer by layer, each result compared with the reference."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow import host, reference
from flow.cycles import layer_cycles
from flow.engines.base import DeviceError, Simulator
from flow.hardware.config import ArrayConfig
from flow.network import ArrayLayer, Network
from flow.samples import Samples
from flow.schedule import Bytes, LayerSchedule, Program, activation_words, output_rows, output_words


@dataclass(frozen=True)
class Mismatch:
    """An element where RTL and reference differ. `block` and `tile` number channel blocks and position tiles."""

    layer: str
    block: int
    tile: int
    row: int
    column: int
    channel: int
    position: int
    expected: int
    got: int

    def __str__(self) -> str:
        return (
            f"layer '{self.layer}', channel block {self.block} (array column {self.column}), position tile {self.tile} "
            f"(row {self.row}), channel {self.channel}, position {self.position}: RTL {self.got}, "
            f"reference {self.expected}"
        )


@dataclass(frozen=True)
class LayerRun:
    """One layer of one sample: what went in, what the RTL gave, and where it first left the reference."""

    layer: ArrayLayer
    tensor: NDArray[Any]  # 8-bit ONNX input tensor, batch of one
    rows: NDArray[Any]  # RTL: int8 codes or int32 sums [positions, channels]
    cycles: int
    mismatches: int  # tier 1b
    first_mismatch: Mismatch | None
    failure: str | None = None  # the RTL never finished, or wrote beyond its memory; rows are 0 then


@dataclass(frozen=True)
class SampleRun:
    """One sample through the network: the runs of its layers, and the network's outputs by name."""

    layers: tuple[LayerRun, ...]
    outputs: dict[str, NDArray[Any]]


def expected_rows(layer: ArrayLayer, codes: NDArray[np.int8]) -> NDArray[Any]:
    """What the RTL has to give: int8 codes, or int32 sums of a raw layer, [positions, channels]."""
    return _finished(layer, reference.accumulate(layer, codes))


def expected_words(scheduled: LayerSchedule, codes: NDArray[np.int8], config: ArrayConfig) -> Bytes:
    """The whole output memory after a layer; the array's rows without a window read activation memory 0."""
    layer = scheduled.layer
    zeros = reference.folded_bias(layer) - 128 * layer.weights.sum(axis=1, dtype=np.int64)
    idle = _finished(layer, (zeros & 0xFFFFFFFF).astype(np.uint32).view(np.int32))
    return output_words(scheduled, expected_rows(layer, codes), idle, config)


def _finished(layer: ArrayLayer, acc: NDArray[np.int32]) -> NDArray[Any]:
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


def locate(scheduled: LayerSchedule, config: ArrayConfig, got: NDArray[Any], want: NDArray[Any]) -> Mismatch | None:
    """The first element where RTL and reference differ."""
    if np.array_equal(got, want):
        return None
    position, channel = (int(i) for i in np.argwhere(got != want)[0])
    tile, row = divmod(position, config.rows)
    number, block = next(
        (i, b)
        for i, b in enumerate(scheduled.blocks)
        if channel in b.channels and b.first_tile <= tile < b.first_tile + b.tiles
    )
    column = int(np.flatnonzero(block.channels == channel)[0])
    expected, found = int(want[position, channel]), int(got[position, channel])
    return Mismatch(scheduled.layer.name, number, tile, row, column, channel, position, expected, found)


def cycle_limit(scheduled: LayerSchedule, config: ArrayConfig) -> int:
    """When a layer has certainly hung: four times what all its phases take one after the other."""
    drains = sum(
        block.tiles * scheduled.planes * (-(-len(block.channels) // config.lanes) + 16) for block in scheduled.blocks
    )
    loads = sum(block.tiles * block.steps * config.beats for block in scheduled.blocks)
    return 1000 + 4 * (scheduled.ideal_cycles + drains + loads + 64 * len(scheduled.blocks))


def run_layer(scheduled: LayerSchedule, program: Program, simulator: Simulator, tensor: NDArray[Any]) -> LayerRun:
    """One layer of one sample through the RTL."""
    layer, config = scheduled.layer, program.config
    codes = layer.input_quantization.to_int8(tensor)
    memories = dict(program.memories)
    memories["activation"] = activation_words(scheduled, reference.windows(layer, codes), config)
    depths = {"output": scheduled.output_words}
    limit = cycle_limit(scheduled, config)
    want = expected_rows(layer, codes)
    try:
        result = simulator.run(memories, scheduled.first, len(scheduled.blocks), depths, limit)
    except DeviceError as error:
        return LayerRun(layer, tensor, np.zeros_like(want), limit, want.size, None, str(error))
    rows = output_rows(scheduled, result.memories["output"], config)
    mismatches = int((rows != want).sum())
    return LayerRun(layer, tensor, rows, result.cycles, mismatches, locate(scheduled, config, rows, want))


def run_sample(
    network: Network,
    program: Program,
    simulator: Simulator,
    feeds: dict[str, NDArray[Any]],
    sessions: host.Sessions,
    advance: Callable[[], None],
) -> SampleRun:
    """One sample, batch of one, through the network: array layers in RTL, segments in ONNX Runtime."""
    runs: list[LayerRun] = []
    schedules = {scheduled.layer.name: scheduled for scheduled in program.layers}

    def in_rtl(layer: ArrayLayer, tensor: NDArray[Any]) -> NDArray[Any]:
        run = run_layer(schedules[layer.name], program, simulator, tensor)
        runs.append(run)
        advance()
        return output_tensor(layer, run.rows)

    tensors = reference.run_network(network, feeds, in_rtl, sessions)
    return SampleRun(tuple(runs), {name: tensors[name] for name in network.outputs})


def cosimulate(
    network: Network,
    program: Program,
    simulator: Simulator,
    samples: Samples,
    threads: int,
    advance: Callable[[], None],
) -> list[SampleRun]:
    """All samples, so many at a time; `advance` is called after each layer of each sample."""
    sessions = host.Sessions()

    def work(number: int) -> SampleRun:
        return run_sample(network, program, simulator, samples.one(number), sessions, advance)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, range(samples.count)))


def run_dense(
    program: Program,
    simulator: Simulator,
    sample: SampleRun,
    budget: int,
    threads: int,
    advance: Callable[[], None],
) -> dict[str, LayerRun]:
    """Layers of one finished sample again, on dense PEs, with the inputs they had, by layer name.

    The quickest layers first, until the cycle model foresees more than `budget` cycles in all.
    """
    pairs = sorted(zip(program.layers, sample.layers, strict=True), key=lambda pair: pair[0].ideal_cycles)
    spent = np.cumsum([layer_cycles(scheduled, program.config) for scheduled, _ in pairs])
    chosen = pairs[: int((spent <= budget).sum())]

    def work(pair: tuple[LayerSchedule, LayerRun]) -> tuple[str, LayerRun]:
        run = run_layer(pair[0], program, simulator, pair[1].tensor)
        advance()
        return run.layer.name, run

    with ThreadPoolExecutor(threads) as pool:
        return dict(pool.map(work, chosen))
