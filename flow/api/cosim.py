"""`cosim`: an earlier build simulated again, from its own files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from flow.api.inputs import check_metric
from flow.api.requests import NOT_AGAIN, CosimRequest
from flow.api.simulate import (
    Finished,
    Runner,
    co_simulate,
    co_simulate_behind_axi,
    co_simulate_on_chip,
    judge_images,
    judge_on_chip,
    sample_count,
    work_plan,
)
from flow.compression.prune import prune
from flow.errors import FlowError
from flow.files import neighbour, scratch, sha256
from flow.hardware import faults
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import Wrapper, modules
from flow.judgement import images, verdict, waves
from flow.judgement.accuracy import measure
from flow.judgement.diagnosis import Judged, Ran, diagnose
from flow.network.metrics import METRICS
from flow.network.samples import Samples
from flow.onnxtools import runtime
from flow.output.build import Build, read
from flow.output.manifest import MANIFEST
from flow.output.report.report import Judgement, Report, Simulated, asked_for, simulation_report
from flow.progress import Stages, silent
from flow.scheduling.behind import bus
from flow.scheduling.blocks import Program
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.program import OnChip, assemble
from flow.scheduling.order import layout
from flow.simulation import engines
from flow.simulation.workers.kept import kept_runs
from flow.simulation.workers.open import workers


def cosim(folder: Any, *, stage: Stages = silent, **options: Any) -> Report:
    """Simulates an earlier build again, from its own files; `folder` is not changed.

    `options` are those of `CosimRequest`, as `bbs cosim` has them. `stage` shows progress. FlowError when it is
    no build, was changed, or holds fewer than `samples` samples.
    """
    return run_cosim(CosimRequest.of(folder=folder, **options), stage)


def run_cosim(request: CosimRequest, stage: Stages = silent) -> Report:
    """`cosim` for a request.

    With a coverage below 1 a seeded sample of tiles goes through RTL, the rest through the bit-true reference. Errors
    are located, with a waveform in the folder `folder`-waveforms.
    """
    folder, coverage = request.folder, request.coverage
    simulator, notes = engines.select(request.engine)
    fault = faults.find(request.fault) if request.fault is not None else None
    with stage("read the build"):
        build = read(folder)
        compressed, stored = build.compressed, _measured(build, request, notes)
        layers = layout(compressed.network.layers, compressed.allocation, build.config)
        program = Program(build.config, build.memories, layers)
        wave: waves.Wanted | None = None
        if request.waves is not None:
            wave = waves.wanted(request.waves, request.waves_form, program, build.whole is not None)
        work = work_plan(program, simulator, coverage)
        simulated = stored.first(sample_count(request.samples, stored, work, simulator, notes))
    with (
        scratch() as scratch_folder,
        workers(request.scheduler, request.processes) as pool,
        kept_runs(f"cosim {sha256(folder / MANIFEST)}", request.resume) as run_folder,
    ):
        design = build.device if fault is None else _broken(build.device, build.config, fault, scratch_folder, notes)
        runner = Runner(simulator, pool, run_folder)
        rtl = next(iter(runner.built([design] if coverage else [], stage)), None)
        if fault is not None and not (isinstance(rtl, engines.Recorder) and rtl.language == "Verilog"):
            raise FlowError("--fault breaks the Verilog that is simulated, but none is; leave out --coverage 0"
                            if rtl is None else f"--fault breaks the Verilog, which {simulator.name} does not run; "
                            "add --engine verilator or --engine icarus")  # fmt: skip
        if wave is not None and not isinstance(rtl, engines.Recorder):
            raise FlowError("--waves records the RTL that is simulated, but none is; leave out --coverage 0"
                            if rtl is None else f"--waves needs an engine that writes waveforms, but {simulator.name} "
                            "does not; add --engine verilator, icarus or ghdl")  # fmt: skip
        if wave is not None and isinstance(rtl, engines.Recorder) and (reason := rtl.refuses(wave.form)) is not None:
            raise FlowError(reason)
        device = runner.remote(build.config, design)
        runs = co_simulate(compressed.network, work, device, simulated, pool, stage)
        again, on_chip_program = _read_on_chip(build)
        if on_chip_program and not coverage:
            notes.append("The whole network did not run on chip, because nothing is simulated.")
        running = on_chip_program if coverage else None
        chain_runs = co_simulate_on_chip(compressed.network, running, device, simulated, pool, stage)
        if wave is not None:
            assert isinstance(rtl, engines.Recorder)
            with stage("record waveforms"):
                chained = (on_chip_program, chain_runs[0]) if on_chip_program else None
                recorded = waves.record(wave, program, runs[0], chained, rtl, request.waves_folder)
            notes.append(f"Waveforms of {request.waves}: {recorded}. There, open {recorded.stem}.gtkw with GTKWave, "
                         f"or {recorded.stem}.sucl with Surfer (surfer -c).")  # fmt: skip
        behind = None
        if coverage:
            wrapper = _with_files_of(build.wrapper, design)
            ran_before = Finished(program, runs[0], on_chip_program, chain_runs)
            behind = co_simulate_behind_axi(compressed.network, wrapper, ran_before, simulator, notes, stage)
        with stage("judge", len(program.layers)) as advance:
            verdicts = verdict.judge(compressed.network, runs, advance)
            accuracy = measure(None, compressed, stored, simulated if coverage else None, runs)
        with stage("locate what is wrong"):
            waveforms = neighbour(folder, "-waveforms")
            chip = judge_on_chip(compressed.network, on_chip_program, chain_runs, simulated)
            wrong = judge_images(program, compressed.allocation, on_chip_program, again)
            judged = Judged(wrong, verdicts, accuracy, chip, behind)
            findings = diagnose(compressed.network, Ran(program, rtl, runs), judged, waveforms)
    read_back = images.summary(wrong, program, on_chip_program)
    judgement = Judgement(accuracy, verdicts, findings, read_back, chip, axi=behind)
    with stage("model the bus"):
        found = bus(program, on_chip_program, build.wrapper.axi, build.memory)
    result = simulation_report(
        build.pruning, compressed, Simulated(program, simulator, simulated, found), judgement, notes
    )
    return asked_for(result, request.command("cosim", *NOT_AGAIN), request.clock)


def _measured(build: Build, request: CosimRequest, notes: list[str]) -> Samples:
    """The stored samples with the metric that is asked for, or else the build's. FlowError if it does not fit."""
    if request.metric is None:
        if build.metric is not None and build.metric not in METRICS:
            notes.append(
                f"The metric of the build, {build.metric}, is not in it: --metric FILE.py:NAME gives it again."
            )
            return build.samples
        return replace(build.samples, metric=build.metric if build.samples.every_label else None)
    samples = replace(build.samples, metric=request.metric)
    check_metric(runtime.predict_all(build.compressed.original.model, samples.feeds), samples)
    return samples


def _read_on_chip(build: Build) -> tuple[OnChip, OnChip] | tuple[None, None]:
    """The whole network assembled again, and with the memories of the earlier build, if it has them."""
    if build.whole is None:
        return None, None
    network, allocation = build.compressed.network, build.compressed.allocation
    encoded = {layer.name: prune(layer.weights, allocation[layer.name])[0] for layer in network.layers}
    again = assemble(chain(network), encoded, build.config)
    return again, replace(again, memories=build.whole)


def _with_files_of(wrapper: Wrapper, design: engines.Device) -> Wrapper:
    """The wrapper around this design: its files in place of those of the same names."""
    files = {path.name: path for path in design.files}
    return replace(wrapper, files=tuple(files.get(path.name, path) for path in wrapper.files))


def _broken(
    design: engines.Device, config: ArrayConfig, fault: faults.Fault, folder: Path, notes: list[str]
) -> engines.Device:
    """The design with a fault in its Verilog, written to `folder`."""
    functions = {name: module.function for name, module in modules(config).items()}
    notes.append(f"The fault {fault.name} is in the Verilog that is simulated.")
    return replace(design, files=faults.inject(design.files, functions, fault, folder))
