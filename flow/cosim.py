"""Co-simulation: whole samples through the RTL, layer by layer, each result compared with the reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flow import host, reference
from flow.cycles import layer_cycles
from flow.engines.base import DeviceError, Result, Simulator
from flow.hardware.config import ArrayConfig
from flow.network import ArrayLayer, Network
from flow.pieces import Piece, Plan, cut, memories, whole
from flow.progress import Advance, ignore
from flow.samples import Samples
from flow.schedule import Bytes, LayerSchedule, Program, output_rows, output_words

T = TypeVar("T")
R = TypeVar("R")
PROBE = 0.3  # seconds
Each = Callable[[Callable[[Piece], Result | str], Sequence[Piece]], Iterable[Result | str]]


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
    """One layer of one sample: what went in, what the RTL gave, and where it first left the reference.

    `simulated` outputs are the RTL's, the others the reference's. `cycles` of a layer in pieces are the cycle
    model's, and what the pieces took beyond the model's count for them.
    """

    layer: ArrayLayer
    tensor: NDArray[Any]  # 8-bit ONNX input tensor, batch of one
    rows: NDArray[Any]  # int8 codes or int32 sums [positions, channels]
    cycles: int
    mismatches: int  # tier 1b
    first_mismatch: Mismatch | None
    failure: str | None = None  # the RTL never finished, or wrote beyond its memory; rows are 0 then
    simulated: int = 0
    pieces: int = 0


@dataclass(frozen=True)
class SampleRun:
    """One sample through the network: the runs of its layers, and the network's outputs by name."""

    layers: tuple[LayerRun, ...]
    outputs: dict[str, NDArray[Any]]


def expected_rows(layer: ArrayLayer, codes: NDArray[np.int8]) -> NDArray[Any]:
    """What the RTL has to give: int8 codes, or int32 sums of a raw layer, [positions, channels]."""
    return _finished(layer, reference.accumulate(layer, codes))


def expected_words(
    scheduled: LayerSchedule, codes: NDArray[np.int8], config: ArrayConfig, rows: NDArray[Any] | None = None
) -> Bytes:
    """The whole output memory after a layer; the array's rows without a window read activation memory 0.

    `rows` are the `expected_rows`, where they are known.
    """
    layer = scheduled.layer
    zeros = reference.folded_bias(layer) - 128 * layer.weights.sum(axis=1, dtype=np.int64)
    idle = _finished(layer, (zeros & 0xFFFFFFFF).astype(np.uint32).view(np.int32))
    return output_words(scheduled, expected_rows(layer, codes) if rows is None else rows, idle, config)


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


def run_layer(
    scheduled: LayerSchedule,
    program: Program,
    simulator: Simulator,
    tensor: NDArray[Any],
    pieces: Sequence[Piece] | None = None,
    each: Each = map,
    advance: Advance = ignore,
) -> LayerRun:
    """One layer of one sample through the RTL: whole, or in these `pieces`; `each` is what maps over them.

    Where no piece is, the result is the reference's. `advance` is told of every piece's cycles.
    """
    layer, config = scheduled.layer, program.config
    codes = layer.input_quantization.to_int8(tensor)
    want, windows = expected_rows(layer, codes), reference.windows(layer, codes)
    rows, simulated = want.copy(), 0
    jobs = (whole(scheduled, config),) if pieces is None else pieces
    beyond = 0

    def work(piece: Piece) -> Result | str:
        read, limit = memories(piece, program, windows), cycle_limit(piece.scheduled, config)
        try:
            return simulator.run(read, 0, len(piece.parts), {"output": piece.scheduled.output_words}, limit)
        except DeviceError as error:
            return str(error)
        finally:
            advance(piece.cycles)

    for piece, result in zip(jobs, each(work, jobs), strict=True):
        if isinstance(result, str):
            limit = cycle_limit(scheduled, config)
            return LayerRun(layer, tensor, np.zeros_like(want), limit, want.size, None, result, want.size, len(jobs))
        got = output_rows(piece.scheduled, result.memories["output"], config)
        for here, positions, channels in piece.cells(config):
            rows[positions, channels] = got[here, channels]
            simulated += (here.stop - here.start) * len(channels)
        beyond += result.cycles - piece.cycles
    cycles = layer_cycles(scheduled, config) + beyond
    mismatches = int((rows != want).sum())
    return LayerRun(
        layer, tensor, rows, cycles, mismatches, locate(scheduled, config, rows, want), None, simulated, len(jobs)
    )


def run_sample(
    network: Network,
    plan: Plan,
    simulator: Simulator,
    feeds: dict[str, NDArray[Any]],
    sessions: host.Sessions,
    each: Each,
    advance: Advance,
) -> SampleRun:
    """One sample, batch of one, through the network: array layers in RTL, segments in ONNX Runtime."""
    runs: list[LayerRun] = []
    pieces = {s.layer.name: (s, made) for s, made in zip(plan.program.layers, plan.pieces, strict=True)}

    def in_rtl(layer: ArrayLayer, tensor: NDArray[Any]) -> NDArray[Any]:
        scheduled, made = pieces[layer.name]
        run = run_layer(scheduled, plan.program, simulator, tensor, made, each, advance)
        runs.append(run)
        return output_tensor(layer, run.rows)

    tensors = reference.run_network(network, feeds, in_rtl, sessions)
    return SampleRun(tuple(runs), {name: tensors[name] for name in network.outputs})


def speed(plan: Plan, simulator: Simulator) -> float:
    """Cycles a second of one run, measured on tiles of the layer with the most cycles, for `PROBE` seconds."""
    config = plan.program.config
    piece = max((made for pieces in plan.pieces for made in pieces), key=lambda made: made.cycles)
    layer, part, tiles = piece.scheduled.layer, piece.parts[0], 1
    zeros = np.zeros((layer.groups, layer.positions, layer.reduction), np.int8)
    scheduled = next(each for each in plan.program.layers if each.layer is layer)
    warm = False  # the first run opens the simulator
    while True:
        probe = cut(scheduled, [replace(part, tiles=min(tiles, part.tiles))], config)
        read, limit = memories(probe, plan.program, zeros), cycle_limit(probe.scheduled, config)
        begin = time.perf_counter()
        try:
            simulator.run(read, 0, 1, {"output": probe.scheduled.output_words}, limit)
            cycles = probe.cycles
        except DeviceError:
            cycles = limit
        seconds = time.perf_counter() - begin
        if warm and (seconds >= PROBE or tiles >= part.tiles):
            return cycles / max(seconds, 1e-6)
        warm, tiles = True, 4 * tiles if warm else 1


def cosimulate(
    network: Network,
    plan: Plan,
    simulator: Simulator,
    samples: Samples,
    parallel: int,
    advance: Advance = ignore,
) -> list[SampleRun]:
    """All samples, so many pieces at a time; `advance` is told of every piece's cycles."""
    sessions = host.Sessions()
    with ThreadPoolExecutor(parallel) as pieces, ThreadPoolExecutor(parallel) as pool:

        def work(number: int) -> SampleRun:
            return run_sample(network, plan, simulator, samples.one(number), sessions, pieces.map, advance)

        return run_all((pool, pieces), work, range(samples.count))


def run_dense(
    plan: Plan, simulator: Simulator, sample: SampleRun, budget: int, parallel: int, advance: Advance = ignore
) -> dict[str, LayerRun]:
    """Layers of one finished sample again, on dense PEs, with the inputs they had, by layer name.

    The quickest layers first, until the cycle model foresees more than `budget` cycles in all.
    """
    program = plan.program
    jobs = sorted(zip(program.layers, plan.pieces, sample.layers, strict=True), key=lambda job: job[0].ideal_cycles)
    spent = np.cumsum([layer_cycles(scheduled, program.config) for scheduled, *_ in jobs])
    chosen = jobs[: int((spent <= budget).sum())]
    with ThreadPoolExecutor(parallel) as pieces, ThreadPoolExecutor(parallel) as pool:

        def work(job: tuple[LayerSchedule, Sequence[Piece], LayerRun]) -> tuple[str, LayerRun]:
            scheduled, made, earlier = job
            run = run_layer(scheduled, program, simulator, earlier.tensor, made, pieces.map, advance)
            return run.layer.name, run

        return dict(run_all((pool, pieces), work, chosen))


def run_all(pools: Sequence[Executor], work: Callable[[T], R], jobs: Iterable[T]) -> list[R]:
    """The jobs' results, from the first pool; the others are those they use.

    When one fails, or the user ends it, those that have not begun are dropped, in all pools.
    """
    try:
        return list(pools[0].map(work, jobs))
    except BaseException:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        raise
