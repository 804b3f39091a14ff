"""Co-simulation: whole samples through the RTL, layer by layer, each result compared with the reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flow.hardware.config import ArrayConfig
from flow.network import reference
from flow.network.model import ArrayLayer, Network
from flow.network.run import run_network
from flow.network.samples import Samples
from flow.onnxtools import runtime
from flow.programs import Threads, together
from flow.progress import Advance, ignore
from flow.scheduling.blocks import LayerSchedule, Program
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.pieces import Piece, Plan, make_piece, memories, whole
from flow.scheduling.words import output_rows
from flow.simulation.engines.base import Command, DeviceError, Result, Simulator
from flow.simulation.results import LayerRun, SampleRun, expected_rows, locate, output_tensor, with_idle

T = TypeVar("T")
R = TypeVar("R")
PROBE = 0.3  # seconds that a speed measurement takes at least
Each = Callable[[Callable[[Piece], Result | str], Sequence[Piece]], Iterable[Result | str]]


def cycle_limit(scheduled: LayerSchedule, config: ArrayConfig) -> int:
    """Cycles after which a layer has certainly hung: more than four times all its phases, one after the other."""
    drains = sum(
        block.tiles * scheduled.planes * (-(-len(block.channels) // config.lanes) + 16) for block in scheduled.blocks
    )
    loads = sum(block.tiles * block.steps * config.beats for block in scheduled.blocks)
    return 1000 + 4 * (scheduled.ideal_cycles + drains + loads + 64 * len(scheduled.blocks))


@dataclass(frozen=True)
class Rtl:
    """A program on a simulator. `each` maps a function over a layer's pieces; `advance` gets each piece's cycles."""

    program: Program
    simulator: Simulator
    each: Each = map
    advance: Advance = ignore


def run_layer(
    rtl: Rtl, scheduled: LayerSchedule, tensor: NDArray[Any], pieces: Sequence[Piece] | None = None
) -> LayerRun:
    """Runs one layer of one sample through the RTL: as a whole, or in `pieces`.

    The outputs that no piece covers are computed by the reference.
    """
    layer, config = scheduled.layer, rtl.program.config
    codes = layer.input_quantization.to_int8(tensor)
    want, windows = with_idle(scheduled, expected_rows(layer, codes), config), reference.windows(layer, codes)
    rows, simulated = want.copy(), 0
    jobs = (whole(scheduled, config),) if pieces is None else pieces
    beyond = 0

    def work(piece: Piece) -> Result | str:
        read, limit = memories(piece, rtl.program, windows), cycle_limit(piece.scheduled, config)
        try:
            return rtl.simulator.run(
                read, Command(piece.start, len(piece.parts), limit), {"output": piece.scheduled.output_words}
            )
        except DeviceError as error:
            return str(error)
        finally:
            rtl.advance(piece.cycles)

    for piece, result in zip(jobs, rtl.each(work, jobs), strict=True):
        if isinstance(result, str):
            limit, none = cycle_limit(scheduled, config), np.zeros_like(want[: layer.positions])
            return LayerRun(layer, tensor, none, limit, none.size, None, result, none.size, len(jobs), piece.shipped)
        got = output_rows(piece.scheduled, result.memories["output"], config)
        for here, positions, channels in piece.cells(config):
            rows[positions, channels] = got[here, channels]
            simulated += (min(positions.stop, layer.positions) - positions.start) * len(channels)
        beyond += result.cycles - piece.cycles
    cycles = layer_cycles(scheduled, config) + beyond
    mismatches = int((rows != want).sum())
    first, shipped = locate(scheduled, config, rows, want), any(piece.shipped for piece in jobs)
    rows = rows[: layer.positions]
    return LayerRun(layer, tensor, rows, cycles, mismatches, first, None, simulated, len(jobs), shipped)


def run_sample(
    rtl: Rtl, network: Network, plan: Plan, feeds: dict[str, NDArray[Any]], sessions: runtime.Sessions
) -> SampleRun:
    """Runs one sample (batch of one) through the network: array layers in RTL, host segments in ONNX Runtime."""
    runs: list[LayerRun] = []
    layers = {s.layer.name: (s, pieces) for s, pieces in zip(plan.program.layers, plan.pieces, strict=True)}

    def in_rtl(layer: ArrayLayer, tensor: NDArray[Any]) -> NDArray[Any]:
        scheduled, pieces = layers[layer.name]
        run = run_layer(rtl, scheduled, tensor, pieces)
        runs.append(run)
        return output_tensor(layer, run.rows)

    tensors = run_network(network, feeds, in_rtl, sessions, kept=network.outputs)
    return SampleRun(tuple(runs), {name: tensors[name] for name in network.outputs})


def speed(plan: Plan, simulator: Simulator) -> float:
    """Cycles per second of one run, measured for `PROBE` seconds or more on tiles of the piece with the most cycles."""
    config = plan.program.config
    piece = max((piece for pieces in plan.pieces for piece in pieces), key=lambda piece: piece.cycles)
    layer, part, tiles = piece.scheduled.layer, piece.parts[0], 1
    zeros = np.zeros((layer.groups, layer.positions, layer.reduction), np.int8)
    scheduled = next(each for each in plan.program.layers if each.layer is layer)
    warm = False  # the first run opens the simulator
    while True:
        probe = make_piece(scheduled, [replace(part, tiles=min(tiles, part.tiles))], config)
        read, limit = memories(probe, plan.program, zeros), cycle_limit(probe.scheduled, config)
        begin = time.perf_counter()
        try:
            simulator.run(read, Command(probe.start, 1, limit), {"output": probe.scheduled.output_words})
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
    """Runs all samples, `parallel` pieces at a time; `advance` is called with the cycles of each piece."""
    sessions = runtime.Sessions()
    with Threads(parallel) as pieces, Threads(parallel) as pool:
        rtl = Rtl(plan.program, simulator, pieces.map, advance)

        def work(number: int) -> SampleRun:
            return run_sample(rtl, network, plan, samples.one(number), sessions)

        return run_all((pool, pieces), work, range(samples.count))


def run_dense(
    plan: Plan, simulator: Simulator, sample: SampleRun, budget: int, parallel: int, advance: Advance = ignore
) -> dict[str, LayerRun]:
    """Runs layers of one finished sample again, on dense PEs and with the same inputs; the runs by layer name.

    The quickest layers run first, until the cycle model predicts more than `budget` cycles in all.
    """
    program = plan.program
    jobs = sorted(zip(program.layers, plan.pieces, sample.layers, strict=True), key=lambda job: job[0].ideal_cycles)
    spent = np.cumsum([layer_cycles(scheduled, program.config) for scheduled, *_ in jobs])
    chosen = jobs[: int((spent <= budget).sum())]
    with Threads(parallel) as pieces, Threads(parallel) as pool:
        rtl = Rtl(program, simulator, pieces.map, advance)

        def work(job: tuple[LayerSchedule, Sequence[Piece], LayerRun]) -> tuple[str, LayerRun]:
            scheduled, parts, earlier = job
            run = run_layer(rtl, scheduled, earlier.tensor, parts)
            return run.layer.name, run

        return dict(run_all((pool, pieces), work, chosen))


def run_all(pools: Sequence[Executor], work: Callable[[T], R], jobs: Iterable[T]) -> list[R]:
    """The results of the jobs, which run in the first pool; the other pools are those that the jobs use.

    When a job fails, or the user interrupts, the jobs that have not begun are cancelled in all pools.
    """
    with together(*pools):
        return list(pools[0].map(work, jobs))
