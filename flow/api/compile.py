"""`compile`: the whole pipeline on one screen, from the network to RTL, vectors, verdict and report."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from flow.api.front import with_front
from flow.api.inputs import (
    STORED,
    compress_network,
    divided,
    evaluation,
    import_network,
    note_int8,
    note_labels,
    note_scales,
    read_network,
    settled,
    with_maps,
)
from flow.api.requests import NOT_AGAIN, CompileRequest
from flow.api.simulate import (
    Finished,
    Runner,
    co_simulate,
    co_simulate_behind_axi,
    co_simulate_on_chip,
    cycle_budget,
    judge_images,
    judge_on_chip,
    sample_count,
    whole_network,
    work_plan,
)
from flow.api.source import Source
from flow.api.speed import Speed
from flow.compression.compress import Compressed
from flow.files import cache_folder, scratch
from flow.frontend.entry import load
from flow.hardware import blocks, synthesis
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import Wrapper, emit, emit_wrapped
from flow.hardware.interface import Device
from flow.judgement import images, verdict
from flow.judgement.accuracy import measure
from flow.judgement.diagnosis import Judged, Ran, diagnose
from flow.judgement.fidelity import fidelity
from flow.network import samples
from flow.output.build import Made, finished, write_build
from flow.output.folder import check_output, output_folder
from flow.output.handoff.whole import Handoff
from flow.output.report import environment
from flow.output.report.report import Judgement, Report, Simulated, asked_for, simulation_report
from flow.output.report.summary import Area
from flow.progress import Stages, silent
from flow.scheduling.behind import bus
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.program import OnChip, assemble
from flow.scheduling.pieces import plan
from flow.scheduling.schedule import schedule
from flow.simulation import engines
from flow.simulation.cosim import run_dense
from flow.simulation.results import LayerRun
from flow.simulation.workers.kept import kept_runs
from flow.simulation.workers.open import workers


def compile(model: Any, output: Any, *, stage: Stages = silent, **options: Any) -> Report:
    """One shot: network in; pruned network, RTL, vectors, co-simulation, verdict and report in the folder `output`.

    `model` is a path or an onnx.ModelProto, `options` those of `CompileRequest`, as `bbs compile` has them. `stage`
    shows progress. FlowError when an input cannot be used; `output` is then unchanged.
    """
    return run_compile(CompileRequest.of(model=model, output=output, **options), stage)


def run_compile(request: CompileRequest, stage: Stages = silent) -> Report:
    """`compile` for a request.

    `force` replaces an earlier build. `resume` returns the report of an earlier build of the same request if it is
    complete; otherwise it builds again, with the results that an interrupted run has simulated.
    """
    output, coverage, chosen = request.output, request.coverage, request.chosen
    simulator, notes = engines.select(request.engine)
    config = _array(request, simulator, notes)
    axi = request.axi(config, request.address_bits)
    if request.synth:
        synthesis.yosys()
    source = read_network(request)
    record = _record(request, source, config, simulator)
    if request.resume and not request.force and (done := finished(output, record)):
        return done
    replacing = request.force or request.resume
    check_output(output, replacing)

    with stage("import and quantize"):
        calibration, evaluate = divided(source, request, notes)
        imported = import_network(source, calibration, notes, request.calibrate, request.on_chip)
        evaluation_set = evaluation(imported.network, source, evaluate, request.samples, notes, request.metric)
        if request.on_chip:
            config = with_maps(imported.network, config, notes)
        note_scales(imported, evaluation_set, notes)
        evaluation_set = settled(imported, evaluation_set, notes)
    with stage("compare INT8 with the network"):
        faithful = fidelity(imported, evaluation_set)
    speed = Speed(imported.network, config, axi, request.memory)
    chosen, compressed = compress_network(imported, chosen, speed, evaluation_set, stage, notes)
    if request.front:
        compressed = with_front(imported, chosen, compressed, speed, evaluation_set, stage)
    compressed = compressed.without_evidence()
    with stage("schedule"):
        on_chip_program = _on_chip(compressed, config, notes) if config.map_words else None
        dense_config = config.dense()
        program = schedule(compressed.encoded, compressed.network.layers, config)
        dense = schedule(compressed.encoded, compressed.network.layers, dense_config)
        plans = [work_plan(program, simulator, coverage), plan(dense, cycle_budget(simulator).piece, coverage)]
        simulated = evaluation_set.first(sample_count(request.samples, evaluation_set, plans[0], simulator, notes))

    with stage("model the bus"):
        found_bus = bus(program, on_chip_program, axi, request.memory)
        compressed = replace(compressed, predicted=speed.predicted(compressed.allocation, found_bus.built))

    with (
        output_folder(output, replacing) as folder,
        scratch() as scratch_folder,
        workers(request.scheduler, request.processes) as pool,
        kept_runs(json.dumps(record), request.resume) as run_folder,
    ):
        with stage("emit Verilog and VHDL"):
            device, wrapper = emit_wrapped(config, axi, folder)
            dense_device = emit(dense_config, scratch_folder)
        area = None
        if request.synth:
            with stage("estimate the area"):
                area = _area(device, wrapper)
        runner = Runner(simulator, pool, run_folder)
        rtl = next(iter(runner.built([device, dense_device] if coverage else [], stage)), None)
        runs = co_simulate(compressed.network, plans[0], runner.remote(config, device), simulated, pool, stage)
        dense_runs: dict[str, LayerRun] = {}
        if coverage:
            dense_rtl, budget = runner.remote(dense_config, dense_device), cycle_budget(simulator).dense
            with stage("co-simulate dense PEs", plans[1].cycles) as advance:
                dense_runs = run_dense(plans[1], dense_rtl, runs[0], budget, pool.queue, advance)
        chain_runs = co_simulate_on_chip(
            compressed.network,
            on_chip_program if coverage else None,
            runner.remote(config, device),
            simulated,
            pool,
            stage,
        )
        behind = None
        if coverage:
            ran_before = Finished(program, runs[0], on_chip_program, chain_runs)
            behind = co_simulate_behind_axi(compressed.network, wrapper, ran_before, simulator, notes, stage)
        if modelled := len(dense.layers) - len(dense_runs):
            notes.append(f"Dense cycles of {modelled} layers are from the cycle model: too many to simulate here.")
        with stage("judge", len(program.layers)) as advance:
            verdicts = verdict.judge(compressed.network, runs, advance)
            accuracy = measure(imported.float_model, compressed, evaluation_set, simulated if coverage else None, runs)
            note_labels(evaluation_set, accuracy, notes)
            note_int8(faithful, accuracy, notes)
            chip = judge_on_chip(compressed.network, on_chip_program, chain_runs, simulated)
            wrong = judge_images(program, compressed.allocation, on_chip_program)
            ran, judged = Ran(program, rtl, runs, dense_runs), Judged(wrong, verdicts, accuracy, chip, behind)
            findings = diagnose(compressed.network, ran, judged, folder / "waveforms")
        with stage("write vectors and report"):
            simulation = Simulated(program, simulator, simulated, found_bus, dense, dense_runs)
            read_back = images.summary(wrong, program, on_chip_program)
            judgement = Judgement(accuracy, verdicts, findings, read_back, chip, faithful, behind)
            whole = whole_network(on_chip_program, chain_runs, simulated, notes)
            result = simulation_report(chosen, compressed, simulation, judgement, notes, area)
            result = asked_for(result, request.command("compile", "force", *NOT_AGAIN), request.clock)
            handoff = Handoff(compressed.network.name, program, device, wrapper, runs[0], whole, request.soc)
            stored = evaluation_set.first(max(simulated.count, STORED))
            write_build(folder, Made(chosen, compressed, handoff, stored, request.memory), result, record)
    return result


def _on_chip(compressed: Compressed, config: ArrayConfig, notes: list[str]) -> OnChip:
    """The program of the whole network, on an array with room for its feature maps; a note says what is unpruned."""
    encoded = dict(zip((layer.name for layer in compressed.network.layers), compressed.encoded, strict=True))
    program = assemble(chain(compressed.network), encoded, config)
    stored = dict.fromkeys(part.layer.name for part in program.parts)
    pruned = {part.layer.name for part in program.parts if part.columns_pruned.any()}
    whole = [name for name in stored if name not in pruned and compressed.allocation[name].any()]
    if whole:
        notes.append(
            f"On chip, {len(whole)} of {len(stored)} layers are stored in eight bit columns, for their input channels "
            f"do not fill octets, or they have three spatial axes: {', '.join(whole)}."
        )
    return program


def _area(device: Device, wrapper: Wrapper) -> Area:
    """The accelerator's transistors; and what it takes, behind AXI, of every family of FPGAs."""
    cache = cache_folder(None)
    estimate = synthesis.estimate(device.files, device.name, cache)
    return Area.of(estimate, blocks.fpgas(wrapper.files, wrapper.name, device.name, cache))


def _record(request: CompileRequest, source: Source, config: ArrayConfig, simulator: engines.Engine) -> dict[str, Any]:
    """Everything that a build depends on, as JSON values: equal records give equal builds."""
    data = {"calibration": (request.calibration, "calibration"), "evaluate": (request.evaluate, "test")}
    sources = {name: source.samples(*asked) for name, asked in data.items()}
    return {
        **request.record(),
        "model": load.digest(source.model),
        "name": source.name,
        **{name: None if each is None else samples.digest(each) for name, each in sources.items()},
        "array": asdict(config),
        "environment": asdict(environment.environment(simulator.version())),
    }


def _array(request: CompileRequest, simulator: engines.Engine, notes: list[str]) -> ArrayConfig:
    """The requested array; by default one that the engine simulates in reasonable time."""
    if request.array is None and not simulator.fast:
        notes.append(f"The array is 4x4 because {simulator.name} simulates slowly; --array sets another.")
        return request.sized((4, 4))
    return request.sized(request.array)
