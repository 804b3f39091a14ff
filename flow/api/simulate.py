"""Simulation for `compile` and `cosim`: how much of it, the workers, and the runs through the RTL."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import Wrapper
from flow.judgement import axi, execution, images
from flow.judgement.axi import AxiVerdict
from flow.judgement.images import ImageError
from flow.judgement.onchip import OnChipVerdict, judge, judge_outputs, summary
from flow.network.model import Network
from flow.network.samples import Samples
from flow.output.handoff.whole import Whole
from flow.progress import Stages, duration
from flow.scheduling.blocks import Program
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.onchip.program import OnChip
from flow.scheduling.pieces import PIECE, PIECE_SLOW, Plan, plan, with_shipped
from flow.simulation import engines
from flow.simulation.axi import run_layer, run_network
from flow.simulation.cosim import cosimulate, speed
from flow.simulation.engines.behind_axi import Wrapped, engine_behind_axi
from flow.simulation.onchip import ChainRun, prepared
from flow.simulation.onchip import cosimulate as cosimulate_on_chip
from flow.simulation.results import SampleRun
from flow.simulation.workers.job import DesignSources, Workers
from flow.simulation.workers.kept import Kept

log = logging.getLogger("flow")
SAMPLES = 4  # simulated by default, fewer if they take more cycles than FAST or SLOW allows
FORECAST, FORECAST_MYHDL = 4 * PIECE, PIECE_SLOW  # cycles x processing elements from which the time is forecast


@dataclass(frozen=True)
class Budget:
    """Cycles simulated by default, over all samples and on dense PEs; and the size of a piece."""

    samples: int
    dense: int
    piece: int  # cycles x processing elements


FAST = Budget(samples=2_000_000, dense=1_000_000, piece=PIECE)
SLOW = Budget(samples=30_000, dense=100_000, piece=PIECE_SLOW)


AXI, AXI_ICARUS = PIECE, PIECE_SLOW // 4  # cycles x processing elements of a run that is repeated behind AXI
AXI_SMALL = 64  # elements of an array: what Icarus Verilog may run there, takes Verilator longer to compile


@dataclass(frozen=True)
class Runner:
    """The means of simulation: the engine, the workers that run it, the folder that stores their results."""

    engine: engines.Engine
    pool: Workers
    kept: Path

    def built(self, devices: list[engines.Device], stage: Stages) -> list[engines.Simulator]:
        """The devices' simulators in this process; the workers reuse their compiled models."""
        if not devices:
            return []
        with stage(f"build simulators: {self.engine.version()}", len(devices)) as advance:
            return engines.open_all(self.engine, devices, advance)

    def remote(self, config: ArrayConfig, device: engines.Device) -> Kept:
        """The device's simulator on the workers."""
        design = DesignSources.of(self.engine.name, config, device)
        return Kept(self.pool.simulator(design), design, self.engine.version(), self.kept)


def co_simulate(
    network: Network, work: Plan, rtl: Kept, samples: Samples, pool: Workers, stage: Stages
) -> list[SampleRun]:
    """Runs all samples through the RTL; if that takes long, a forecast is logged first."""
    cycles = samples.count * work.cycles
    if cycles * work.program.config.elements > (FORECAST_MYHDL if rtl.engine == "myhdl" else FORECAST):
        rate = pool.count * speed(work, rtl.simulator)
        log.info(
            "About %s: %s cycles at %s a second in %d processes.", duration(cycles / rate), f"{cycles:,}",
            f"{rate:,.0f}", pool.count,
        )  # fmt: skip
    with stage("co-simulate", cycles) as advance:
        return cosimulate(network, work, rtl, samples, pool.queue, advance)


def co_simulate_on_chip(
    network: Network, program: OnChip | None, rtl: Kept, samples: Samples, pool: Workers, stage: Stages
) -> list[ChainRun]:
    """Runs all samples on chip, segment by segment; no runs without an on-chip program."""
    if program is None:
        return []
    with stage("co-simulate the whole network on chip", samples.count) as advance:
        return cosimulate_on_chip(network, program, rtl, samples, pool.queue, advance)


def whole_network(program: OnChip | None, runs: Sequence[ChainRun], samples: Samples, notes: list[str]) -> Whole | None:
    """The whole network for the hand-over, also where nothing was simulated, which a note says."""
    if program is None or runs:
        return Whole.of(program, runs)
    notes.append(
        "The whole network did not run on chip, because nothing is simulated, so there is no verdict on it: network/ "
        "has its memories and its command, but no output memory to expect."
    )
    return Whole(program, prepared(program, samples.one(0)))


def judge_images(
    program: Program, allocation: Mapping[str, NDArray[np.int64]], on_chip: OnChip | None, again: OnChip | None = None
) -> list[ImageError]:
    """What is wrong in the memory images; those of a network on chip that could be read are executed, too."""
    wrong = images.judge(program, allocation)
    if on_chip is None:
        return wrong
    found = images.judge_on_chip(on_chip, again)
    return wrong + (found or execution.judge(on_chip))


def judge_on_chip(
    network: Network, program: OnChip | None, runs: Sequence[ChainRun], samples: Samples
) -> OnChipVerdict | None:
    if program is None or not runs:
        return None
    return summary(program, runs, judge(network, program, runs), judge_outputs(network, runs, samples))


@dataclass(frozen=True)
class Finished:
    """What ran at the accelerator's own ports: one sample layer by layer and, if on chip, the whole network."""

    program: Program
    sample: SampleRun
    on_chip: OnChip | None
    chain_runs: Sequence[ChainRun]


def co_simulate_behind_axi(
    network: Network, wrapper: Wrapper, ran: Finished, simulator: engines.Engine, notes: list[str], stage: Stages
) -> AxiVerdict | None:
    """The shortest layer whole and, on chip, the network, again behind AXI; a note says what is too long for that."""
    config = ran.program.config
    cycles = [layer_cycles(scheduled, config) for scheduled in ran.program.layers]
    shortest = min(range(len(cycles)), key=lambda number: cycles[number])
    chain_run = next((run for run in ran.chain_runs if run.failure is None), None)
    work = (cycles[shortest] + (chain_run.cycles if chain_run else 0)) * config.elements
    engine = engine_behind_axi(simulator.name, work <= AXI_ICARUS and config.elements <= AXI_SMALL)
    if engine is None:
        notes.append(
            "Nothing ran behind AXI: install Verilator or Icarus Verilog ('bbs doctor' shows what is missing)."
        )
        return None
    most = (AXI if engine == "verilator" else AXI_ICARUS) // config.elements
    wrapped, runs = Wrapped(wrapper, config, engine), []
    with stage(f"co-simulate behind AXI: {engine}"):
        if cycles[shortest] <= most:
            runs.append(run_layer(wrapped, ran.program, shortest, ran.sample.layers[shortest]))
        else:
            notes.append(f"No layer ran behind AXI: the shortest takes {cycles[shortest]:,} cycles.")
        if ran.on_chip is not None and chain_run is not None:
            if chain_run.cycles <= most:
                runs += run_network(wrapped, network.name, ran.on_chip, chain_run)
            else:
                notes.append(f"The whole network did not run behind AXI: it takes {chain_run.cycles:,} cycles.")
    return axi.judge(runs, engine)


def work_plan(program: Program, simulator: engines.Engine, coverage: float) -> Plan:
    """Every layer in pieces, one layer at least as a whole if that can be afforded."""
    piece = cycle_budget(simulator).piece
    return with_shipped(plan(program, piece, coverage), piece)


def cycle_budget(simulator: engines.Engine) -> Budget:
    return FAST if simulator.fast else SLOW


def sample_count(count: int | None, samples: Samples, work: Plan, simulator: engines.Engine, notes: list[str]) -> int:
    """How many samples are simulated."""
    if count is not None:
        if not 1 <= count <= samples.count:
            raise FlowError(
                f"the samples to simulate must be 1 to {samples.count}, as many as there are of {samples.source}, "
                f"but they are {count}; change --samples"
            )
        return count
    cycles = work.cycles
    affordable = max(1, cycle_budget(simulator).samples // cycles) if cycles else 1
    if affordable < min(SAMPLES, samples.count):
        reason = f"One sample takes about {cycles:,} cycles" if cycles else "Nothing goes through RTL"
        notes.append(f"{reason}: {affordable} simulated; --samples K asks for more.")
    return min(SAMPLES, samples.count, affordable)
