"""The pipeline on one screen: `compile`, and the other verbs, `compress`, `cosim`, `verify` and `inspect`."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from flow import artefacts, engines, importer, quantize, report, samples, synthesis, verdict
from flow import plot as plots
from flow.allocate import PRESETS
from flow.budget import least_bits
from flow.canonical import prepare
from flow.compress import Compressed, Pruning, pruning
from flow.cosim import LayerRun, SampleRun, cosimulate, run_dense, speed
from flow.diagnosis import diagnose
from flow.encoding import BBS
from flow.engines.base import cache_folder
from flow.errors import FlowError
from flow.hardware import faults
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit, emit_wrapped, modules
from flow.inputs import STORED, Imported, compress_network, evaluation, given_file, import_network, note_labels
from flow.inspection import Inspection, inspection, refusal
from flow.network import Network
from flow.onchip import run as onchip
from flow.onchip.chain import chain
from flow.onchip.program import OnChip, assemble, needed_words
from flow.pieces import PIECE, PIECE_SLOW, Plan, check_coverage, plan
from flow.progress import Stages, duration, silent
from flow.prune import prune
from flow.samples import Samples
from flow.schedule import Program, layout, schedule
from flow.workers import Design, Kept, Workers, kept_runs, workers
from flow.workers import check as check_workers

log = logging.getLogger("flow")

SWEEP = (3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0)  # budgets of a plot
SAMPLES = 4  # simulated unless the user says otherwise, fewer when they take more than FAST or SLOW cycles
FORECAST = 4 * PIECE  # cycles x processing elements that are worth a forecast


@dataclass(frozen=True)
class Budget:
    """Cycles simulated unless the user asks for more: over all samples, on dense PEs; and what one run may take."""

    samples: int
    dense: int
    piece: int  # cycles x processing elements


FAST = Budget(samples=2_000_000, dense=1_000_000, piece=PIECE)
SLOW = Budget(samples=30_000, dense=100_000, piece=PIECE_SLOW)


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
) -> report.Report:
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
    source = importer.load(model)
    request = _request(
        source, model, chosen, calibration, evaluate, config, axi, simulator, count, coverage, synth, on_chip
    )
    if resume and not force and (done := artefacts.finished(output, request)):
        return report.Report(**done)
    artefacts.check_output(output, force or resume)

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
        plans = [plan(each, _budget(simulator).piece, coverage) for each in (program, dense)]
        simulated = given.first(_count(count, given, plans[0], simulator, notes))

    with (
        artefacts.output_folder(output, force or resume) as folder,
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
        bench = _Bench(simulator, hands, kept)
        rtl = next(iter(bench.built([device, dense_device] if coverage else [], stage)), None)
        runs = _co_simulate(compressed.network, plans[0], bench.remote(config, device), simulated, hands, stage)
        dense_runs: dict[str, LayerRun] = {}
        if coverage:
            dense_rtl, budget = bench.remote(dense_config, dense_device), _budget(simulator).dense
            with stage("co-simulate dense PEs", plans[1].cycles) as advance:
                dense_runs = run_dense(plans[1], dense_rtl, runs[0], budget, hands.queue, advance)
        chain_runs = _co_simulate_on_chip(
            compressed.network, whole if coverage else None, bench.remote(config, device), simulated, hands, stage
        )
        if modelled := len(dense.layers) - len(dense_runs):
            notes.append(f"Dense cycles of {modelled} layers are from the cycle model: too many to simulate here.")
        with stage("judge", len(program.layers)) as advance:
            verdicts = verdict.judge(compressed.network, runs, advance)
            accuracy = verdict.measure(taken.source, compressed, given, simulated if coverage else None, runs)
            note_labels(given, accuracy, notes)
            findings = diagnose(compressed.network, program, rtl, runs, verdicts, folder / "waveforms")
            chip = _judge_on_chip(compressed.network, whole, chain_runs)
        with stage("write vectors and report"):
            result = report.simulated(
                chosen, compressed, program, dense, simulator, simulated, accuracy, verdicts, dense_runs,
                findings, notes, area, chip,
            )  # fmt: skip
            stored = given.first(max(simulated.count, STORED))
            manifest = artefacts.write(
                folder, compressed, program, device, wrapper, chosen, stored, runs[0], request, whole, chain_runs
            )
            report.write(folder, result, compressed)
            artefacts.write_manifest(folder, manifest, result.environment)
    return result


def compress(
    model: str | Path,
    output: str | Path,
    *,
    chosen: Pruning | None = None,
    calibration: str | Path | None = None,
    evaluate: str | Path | None = None,
    array: tuple[int, int] | None = None,
    plot: str | Path | None = None,
    force: bool = False,
    stage: Stages = silent,
) -> report.Report:
    """The pruned INT8 (QDQ) network as the ONNX file `output`, and what pruning did to it. No hardware.

    `plot` is a file for curves of accuracy and errors over bits per weight.
    The columns of `array` are the channels that share one N (C_H). FlowError as `compile`.
    """
    model, output, chosen = Path(model), Path(output), chosen or pruning()
    artefacts.check_file(output, force, model)
    if plot is not None:
        plots.check(Path(plot))
    notes: list[str] = []
    with stage("import and quantize"):
        taken = import_network(importer.load(model), model, calibration, notes)
        given = evaluation(taken.network, model, evaluate, None, notes)
    channels = ArrayConfig(*(array or ())).columns
    chosen, compressed = compress_network(taken, chosen, channels, given, stage, notes)
    with stage("judge"):
        accuracy = verdict.measure(taken.source, compressed, given)
        note_labels(given, accuracy, notes)
        result = report.compressed(chosen, compressed, accuracy, notes)
    artefacts.write_model(output, compressed.network.model)
    if plot is not None:
        series = _sweep(taken, channels, given, stage)
        plots.curves(series, accuracy.int8 if accuracy.float is None else accuracy.float, model.stem, Path(plot))
    return result


def _sweep(taken: Imported, channels: int, given: Samples, stage: Stages) -> dict[str, list[plots.Point]]:
    """The network compressed by the paper's presets, by one N for all, and within budgets if there are samples."""
    choices = {f"preset {name}": [pruning(name)] for name in PRESETS}
    choices["optimum, one N for all"] = [pruning(columns=n, sensitive=0.0) for n in range(BBS.max_columns_pruned + 1)]
    if taken.calibration is not None:
        least = least_bits(taken.network.layers)
        choices["budget"] = [pruning(bits=bits) for bits in SWEEP if bits >= least]
    series: dict[str, list[plots.Point]] = {}
    with stage("sweep the bits", sum(map(len, choices.values()))) as advance:
        for name, chosen in choices.items():
            series[name] = []
            for choice in chosen:
                _, made = compress_network(taken, choice, channels, given, silent, [])
                reached = verdict.measure(taken.source, made, given)
                series[name].append(report.point(made, reached))
                advance()
    return series


def cosim(
    folder: str | Path,
    *,
    engine: str | None = None,
    count: int | None = None,
    coverage: float = 1.0,
    scheduler: str | None = None,
    processes: int | None = None,
    fault: str | None = None,
    resume: bool = False,
    stage: Stages = silent,
) -> report.Report:
    """Simulates an earlier build again, from its own files; `folder` stays as it is.

    `coverage` is the least share of each layer's MACs to go through RTL, 0 to 1: below 1 a seeded sample of tiles,
    the rest by the bit-true reference. Simulations run in `processes` on this machine (default: as many as it has
    processors), or on the Dask cluster at `scheduler` (tcp://HOST:PORT). `resume` goes on where a run of this build
    was stopped.
    `fault` is BLOCK:KIND of `flow.hardware.faults`, put into the Verilog that is simulated. What goes wrong is
    located, with a waveform in the folder `folder`-waveforms.
    FlowError when it is no build, was changed, or holds fewer than `count` samples.
    """
    folder = Path(folder)
    simulator, notes = engines.select(engine)
    check_coverage(coverage)
    check_workers(scheduler, processes)
    broken = faults.find(fault) if fault is not None else None
    with stage("read the build"):
        build = artefacts.read(folder)
        compressed, given = build.compressed, build.samples
        layers = layout(compressed.network.layers, compressed.allocation, build.config)
        program = Program(build.config, build.memories, layers)
        work = plan(program, _budget(simulator).piece, coverage)
        simulated = given.first(_count(count, given, work, simulator, notes))
    with (
        tempfile.TemporaryDirectory() as scratch,
        workers(scheduler, processes) as hands,
        kept_runs(f"cosim {artefacts.sha256(folder / artefacts.MANIFEST)}", resume) as kept,
    ):
        design = build.device if broken is None else _broken(build.device, build.config, broken, Path(scratch), notes)
        bench = _Bench(simulator, hands, kept)
        rtl = next(iter(bench.built([design] if coverage else [], stage)), None)
        if broken is not None and not isinstance(rtl, engines.Recorder):
            raise FlowError("--fault breaks the Verilog that is simulated, but none is; leave out --coverage 0"
                            if rtl is None else f"--fault breaks the Verilog, which {simulator.name} does not run; "
                            "add --engine verilator or --engine icarus")  # fmt: skip
        device = bench.remote(build.config, design)
        runs = _co_simulate(compressed.network, work, device, simulated, hands, stage)
        whole = _read_on_chip(build) if coverage else None
        chain_runs = _co_simulate_on_chip(compressed.network, whole, device, simulated, hands, stage)
        with stage("judge", len(program.layers)) as advance:
            verdicts = verdict.judge(compressed.network, runs, advance)
            accuracy = verdict.measure(None, compressed, given, simulated if coverage else None, runs)
        with stage("locate what is wrong"):
            waveforms = folder.with_name(f"{folder.resolve().name}-waveforms")
            findings = diagnose(compressed.network, program, rtl, runs, verdicts, waveforms)
            chip = _judge_on_chip(compressed.network, whole, chain_runs)
    return report.simulated(
        build.pruning, compressed, program, None, simulator, simulated, accuracy, verdicts, {}, findings, notes,
        on_chip=chip,
    )  # fmt: skip


@dataclass(frozen=True)
class _Bench:
    """What simulates: the engine, the workers that run it, the folder that keeps their results."""

    engine: engines.Engine
    hands: Workers
    kept: Path

    def built(self, devices: list[engines.Device], stage: Stages) -> list[engines.Simulator]:
        """The devices' simulators in this process; the workers find what was compiled for them."""
        if not devices:
            return []
        with stage(f"build simulators: {self.engine.version()}", len(devices)) as advance:
            return engines.open_all(self.engine, devices, advance)

    def remote(self, config: ArrayConfig, device: engines.Device) -> Kept:
        """The device's simulator on the workers."""
        design = Design.of(self.engine.name, config, device)
        return Kept(self.hands.simulator(design), design, self.engine.version(), self.kept)


def _co_simulate(
    network: Network, work: Plan, rtl: Kept, given: Samples, hands: Workers, stage: Stages
) -> list[SampleRun]:
    """All samples through the RTL, so many pieces at a time; what takes long says beforehand how long."""
    cycles = given.count * work.cycles
    if cycles * work.program.config.elements > FORECAST:
        rate = hands.count * speed(work, rtl.simulator)
        log.info(
            "About %s: %s cycles at %s a second in %d processes.", duration(cycles / rate), f"{cycles:,}",
            f"{rate:,.0f}", hands.count,
        )  # fmt: skip
    with stage("co-simulate", cycles) as advance:
        return cosimulate(network, work, rtl, given, hands.queue, advance)


def _on_chip(compressed: Compressed, config: ArrayConfig) -> tuple[ArrayConfig, OnChip]:
    """The array with room for the network's feature maps, and the program of the whole network."""
    linked = chain(compressed.network)
    roomy = config.with_maps(needed_words(linked, config.rows))
    encoded = dict(zip((layer.name for layer in compressed.network.layers), compressed.encoded, strict=True))
    return roomy, assemble(linked, encoded, roomy)


def _read_on_chip(build: artefacts.Build) -> OnChip | None:
    """The program of the whole network with the memories of an earlier build, if it has one."""
    if build.whole is None:
        return None
    network, allocation = build.compressed.network, build.compressed.allocation
    encoded = {layer.name: prune(layer.weights, allocation[layer.name])[0] for layer in network.layers}
    return replace(assemble(chain(network), encoded, build.config), memories=build.whole)


def _co_simulate_on_chip(
    network: Network, whole: OnChip | None, rtl: Kept, given: Samples, hands: Workers, stage: Stages
) -> list[onchip.ChainRun]:
    """All samples by one start each; none where there is nothing on chip."""
    if whole is None:
        return []
    with stage("co-simulate the whole network on chip", given.count) as advance:
        return onchip.cosimulate(network, whole, rtl, given, hands.queue, advance)


def _judge_on_chip(network: Network, whole: OnChip | None, runs: Sequence[onchip.ChainRun]) -> dict[str, Any] | None:
    if whole is None or not runs:
        return None
    return onchip.summary(whole, runs, onchip.judge(network, whole, runs))


def _broken(
    design: engines.Device, config: ArrayConfig, fault: faults.Fault, folder: Path, notes: list[str]
) -> engines.Device:
    """The design with a fault in its Verilog, written to `folder`."""
    functions = {name: module.function for name, module in modules(config).items()}
    notes.append(f"The fault {fault.name} is in the Verilog that is simulated.")
    return replace(design, files=faults.inject(design.files, functions, fault, folder))


def verify(folder: str | Path) -> tuple[int, artefacts.Differences]:
    """How many files an earlier build has, and which are not as they were built. FlowError when it is no build."""
    return artefacts.verify(Path(folder))


def inspect(model: str | Path) -> Inspection:
    """Where every node would run, and why; the network is quantized in memory from one made-up sample.

    Nodes that are refused are told as such; FlowError for all else that is wrong with the network.
    """
    source = importer.read(model)
    if reasons := importer.refusals(source):
        return refusal(source, reasons)
    importer.check(source, str(model))
    ready = source if importer.is_quantized(source) else prepare(source)
    quantized = quantize.quantize(source, samples.random(ready, 1).feeds)
    return inspection(source, importer.cut(quantized.model, Path(model).stem))


# -------------------------------------------------------------------------------- what the user left open


def _request(
    source: onnx.ModelProto, model: Path, chosen: Pruning, calibration: str | Path | None,
    evaluate: str | Path | None, config: ArrayConfig, axi: AxiConfig, simulator: engines.Engine, count: int | None,
    coverage: float, synth: bool, on_chip: bool,
) -> dict[str, Any]:  # fmt: skip
    """All that a build depends on, in terms of JSON: equal requests give equal builds."""
    files = (given_file(calibration, model, "calibration"), given_file(evaluate, model, "test"))
    calibrated, evaluated = (artefacts.sha256(file) if file and file.is_file() else None for file in files)
    return {
        "model": importer.digest(source),
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
        "environment": report.environment(simulator.version()),
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


def _budget(simulator: engines.Engine) -> Budget:
    return FAST if simulator.fast else SLOW


def _count(count: int | None, given: Samples, work: Plan, simulator: engines.Engine, notes: list[str]) -> int:
    """How many samples are simulated."""
    if count is not None:
        if not 1 <= count <= given.count:
            raise FlowError(
                f"the samples to simulate must be 1 to {given.count}, as many as there are of {given.source}, "
                f"but they are {count}; change --samples"
            )
        return count
    cycles = work.cycles
    affordable = max(1, _budget(simulator).samples // cycles) if cycles else 1
    if affordable < min(SAMPLES, given.count):
        taken = f"One sample takes about {cycles:,} cycles" if cycles else "Nothing goes through RTL"
        notes.append(f"{taken}: {affordable} simulated; --samples K asks for more.")
    return min(SAMPLES, given.count, affordable)
