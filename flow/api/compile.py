"""`compile`: the whole pipeline on one screen, from the network to RTL, vectors, verdict and report."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from flow.api.inputs import STORED, compress_network, evaluation, given_file, import_network, note_labels
from flow.api.simulate import Runner, co_simulate, co_simulate_on_chip, cycle_budget, judge_on_chip, sample_count
from flow.compression.choice import Pruning, pruning
from flow.compression.compress import Compressed
from flow.files import cache_folder, sha256
from flow.frontend import load
from flow.hardware import synthesis
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit, emit_wrapped
from flow.judgement import verdict
from flow.judgement.accuracy import measure
from flow.judgement.diagnosis import diagnose
from flow.output.build import finished, write_build
from flow.output.folder import check_output, output_folder
from flow.output.manifest import write_manifest
from flow.output.report import environment
from flow.output.report.report import Report, simulation_report, write_report
from flow.progress import Stages, silent
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.program import OnChip, assemble, needed_words
from flow.scheduling.pieces import check_coverage, plan
from flow.scheduling.schedule import schedule
from flow.simulation import engines
from flow.simulation.cosim import run_dense
from flow.simulation.results import LayerRun
from flow.simulation.workers.kept import kept_runs
from flow.simulation.workers.open import check as check_workers
from flow.simulation.workers.open import workers


def compile(
    model: str | Path,
    output: str | Path,
    *,
    chosen: Pruning | None = None,
    calibration: str | Path | None = None,
    evaluate: str | Path | None = None,
    array: tuple[int, int] | None = None,
    weight_buffer: int | None = None,
    bus: int = 64,
    engine: str | None = None,
    count: int | None = None,
    coverage: float = 1.0,
    scheduler: str | None = None,
    processes: int | None = None,
    synth: bool = False,
    on_chip: bool = False,
    force: bool = False,
    resume: bool = False,
    stage: Stages = silent,
) -> Report:
    """One shot: network in; pruned network, RTL, vectors, co-simulation, verdict and report in `output`.

    `array` is (rows, columns), `weight_buffer` the words of its weight buffer, `bus` the bits of the AXI bus; with
    `on_chip` the accelerator holds feature maps and runs the whole network by one start, too; `synth` adds an
    estimate of the area to the report; `count` samples are simulated, `coverage`, `scheduler` and `processes` as in
    `cosim`.
    The files of samples default to MODEL_calibration.npz and MODEL_test.npz beside the model. `force` replaces an
    earlier build; `resume` gives the report of one of the same request if it is whole; else it is made again, but
    for what a stopped run has simulated. FlowError when an input cannot be used; `output` is then as it was.
    """
    model, output, chosen = Path(model), Path(output), chosen or pruning()
    simulator, notes = engines.select(engine)
    config, axi = _array(array, weight_buffer, simulator, notes), AxiConfig(bus)
    if on_chip:
        config.with_maps(config.rows * 64)  # refused now or never
    check_coverage(coverage)
    check_workers(scheduler, processes)
    if synth:
        synthesis.yosys()
    source = load.load(model)
    request = _request(
        source, model, chosen, calibration, evaluate, config, axi, simulator, count, coverage, synth, on_chip
    )
    if resume and not force and (done := finished(output, request)):
        return Report(**done)
    check_output(output, force or resume)

    with stage("import and quantize"):
        taken = import_network(source, model, calibration, notes)
        given = evaluation(taken.network, model, evaluate, count, notes)
        if on_chip:
            chain(taken.network)
    chosen, compressed = compress_network(taken, chosen, config.columns, given, stage, notes)
    with stage("schedule"):
        config, whole = _on_chip(compressed, config) if on_chip else (config, None)
        dense_config = config.dense()
        program = schedule(compressed.encoded, compressed.network.layers, config)
        dense = schedule(compressed.encoded, compressed.network.layers, dense_config)
        plans = [plan(each, cycle_budget(simulator).piece, coverage) for each in (program, dense)]
        simulated = given.first(sample_count(count, given, plans[0], simulator, notes))

    with (
        output_folder(output, force or resume) as folder,
        tempfile.TemporaryDirectory() as scratch,
        workers(scheduler, processes) as hands,
        kept_runs(json.dumps(request), resume) as kept,
    ):
        with stage("emit Verilog and VHDL"):
            device, wrapper = emit_wrapped(config, axi, folder)
            dense_device = emit(dense_config, Path(scratch))
        area = None
        if synth:
            with stage("estimate the area"):
                area = synthesis.estimate(device.files, device.name, cache_folder(None))
        bench = Runner(simulator, hands, kept)
        rtl = next(iter(bench.built([device, dense_device] if coverage else [], stage)), None)
        runs = co_simulate(compressed.network, plans[0], bench.remote(config, device), simulated, hands, stage)
        dense_runs: dict[str, LayerRun] = {}
        if coverage:
            dense_rtl, budget = bench.remote(dense_config, dense_device), cycle_budget(simulator).dense
            with stage("co-simulate dense PEs", plans[1].cycles) as advance:
                dense_runs = run_dense(plans[1], dense_rtl, runs[0], budget, hands.queue, advance)
        chain_runs = co_simulate_on_chip(
            compressed.network, whole if coverage else None, bench.remote(config, device), simulated, hands, stage
        )
        if modelled := len(dense.layers) - len(dense_runs):
            notes.append(f"Dense cycles of {modelled} layers are from the cycle model: too many to simulate here.")
        with stage("judge", len(program.layers)) as advance:
            verdicts = verdict.judge(compressed.network, runs, advance)
            accuracy = measure(taken.float_model, compressed, given, simulated if coverage else None, runs)
            note_labels(given, accuracy, notes)
            findings = diagnose(compressed.network, program, rtl, runs, verdicts, folder / "waveforms")
            chip = judge_on_chip(compressed.network, whole, chain_runs)
        with stage("write vectors and report"):
            result = simulation_report(
                chosen, compressed, program, dense, simulator, simulated, accuracy, verdicts, dense_runs,
                findings, notes, area, chip,
            )  # fmt: skip
            stored = given.first(max(simulated.count, STORED))
            manifest = write_build(
                folder, compressed, program, device, wrapper, chosen, stored, runs[0], request, whole, chain_runs
            )
            write_report(folder, result, compressed)
            write_manifest(folder, manifest, result.environment)
    return result


def _on_chip(compressed: Compressed, config: ArrayConfig) -> tuple[ArrayConfig, OnChip]:
    """The array with room for the network's feature maps, and the program of the whole network."""
    linked = chain(compressed.network)
    roomy = config.with_maps(needed_words(linked, config.rows))
    encoded = dict(zip((layer.name for layer in compressed.network.layers), compressed.encoded, strict=True))
    return roomy, assemble(linked, encoded, roomy)


def _request(
    source: onnx.ModelProto, model: Path, chosen: Pruning, calibration: str | Path | None,
    evaluate: str | Path | None, config: ArrayConfig, axi: AxiConfig, simulator: engines.Engine, count: int | None,
    coverage: float, synth: bool, on_chip: bool,
) -> dict[str, Any]:  # fmt: skip
    """All that a build depends on, in terms of JSON: equal requests give equal builds."""
    files = (given_file(calibration, model, "calibration"), given_file(evaluate, model, "test"))
    calibrated, evaluated = (sha256(file) if file and file.is_file() else None for file in files)
    return {
        "model": load.digest(source),
        "name": model.stem,
        "calibration": calibrated,
        "evaluation": evaluated,
        "pruning": asdict(chosen) | {"means": list(chosen.means)},
        "array": asdict(config),
        "bus": asdict(axi),
        "samples": count,
        "coverage": coverage,
        "synth": synth,
        "on_chip": on_chip,
        "environment": environment.environment(simulator.version()),
    }


def _array(
    array: tuple[int, int] | None, weight_buffer: int | None, simulator: engines.Engine, notes: list[str]
) -> ArrayConfig:
    sized = _sized(array, simulator, notes)
    return sized if weight_buffer is None else sized.with_weight_buffer(weight_buffer)


def _sized(array: tuple[int, int] | None, simulator: engines.Engine, notes: list[str]) -> ArrayConfig:
    if array is not None:
        return ArrayConfig(*array)
    if simulator.fast:
        return ArrayConfig()
    notes.append(f"The array is 4x4 because {simulator.name} simulates slowly; --array sets another.")
    return ArrayConfig(4, 4)
