"""The report: one dataclass per level, written as report.json and report.html, printed as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flow.compression.allocate import average_bits
from flow.compression.choice import Pruning
from flow.compression.compress import Compressed
from flow.files import write_json
from flow.hardware.synthesis import FLIP_FLOP, SRAM_CELL
from flow.judgement.accuracy import Accuracy
from flow.judgement.axi import AxiVerdict
from flow.judgement.diagnosis import Finding
from flow.judgement.fidelity import Fidelity, explained
from flow.judgement.images import ImageVerdict
from flow.judgement.onchip import OnChipVerdict
from flow.judgement.verdict import LayerVerdict, passes
from flow.network.model import ArrayLayer
from flow.network.samples import Samples
from flow.output.report import tables
from flow.output.report.environment import Environment, environment
from flow.output.report.figures import HISTOGRAMS, figures
from flow.output.report.layers import LayerCompression, LayerReport, layer_compression, layer_report, weight_change
from flow.output.report.page import page
from flow.output.report.plot import Point
from flow.output.report.summary import (
    Area,
    BusReport,
    CompressionSummary,
    Summary,
    bus_lines,
    clock_line,
    clocked,
    front,
    pruned_network,
    reached_line,
    totals,
)
from flow.output.typed import as_json, read_json
from flow.scheduling.behind import Bus
from flow.scheduling.blocks import Program
from flow.simulation.engines import Engine
from flow.simulation.results import LayerRun

REPORT = "report.json"


@dataclass(frozen=True)
class HostReport:
    """A segment that ONNX Runtime runs on the host, between the layers."""

    name: str
    operators: tuple[str, ...]


@dataclass(frozen=True)
class CompressionReport:
    """The report of `bbs compress`: the effect of pruning on a network. Nothing ran on an accelerator."""

    summary: CompressionSummary
    layers: tuple[LayerCompression, ...]
    host: tuple[HostReport, ...]
    notes: tuple[str, ...]
    environment: Environment
    findings: tuple[Finding, ...] = ()
    on_chip: None = None
    axi: None = None

    @property
    def passed(self) -> bool:
        """No verdict was reached."""
        return True

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values, with the keys of report.json."""
        return dict(as_json(self))


@dataclass(frozen=True)
class Report:
    """The report of `bbs compile` or `bbs cosim`: a network on the accelerator, and its verdict.

    `findings` say why the verdict is "fail"; `images` is the judgement on the memory images, `on_chip` the verdict on
    the whole network on chip, `axi` that on the accelerator behind AXI. `command` gives this report again where its
    files are: it has their names alone. `bus`: what the bus costs.
    """

    summary: Summary
    layers: tuple[LayerReport, ...]
    host: tuple[HostReport, ...]
    notes: tuple[str, ...]
    environment: Environment
    findings: tuple[Finding, ...] = ()
    images: ImageVerdict | None = None
    on_chip: OnChipVerdict | None = None
    axi: AxiVerdict | None = None
    command: str | None = None
    bus: BusReport | None = None

    @property
    def passed(self) -> bool:
        """False only when a verdict was reached and is "fail"."""
        return self.summary.verdict != "fail"

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values, with the keys of report.json."""
        return dict(as_json(self))

    @classmethod
    def read(cls, place: str | Path) -> Report:
        """The report of a build, by its folder or its report.json. FlowError when it cannot be read."""
        path = Path(place)
        if path.is_dir():
            path /= REPORT
        return read_json(path, cls, "compile the network again")


@dataclass(frozen=True)
class Simulated:
    """The simulation: the network's program, the engine, the samples, the bus; with dense PEs their program `dense`.

    `dense_runs` are one sample's runs on dense PEs, by layer, without the layers that take too many cycles.
    """

    program: Program
    engine: Engine
    samples: Samples
    bus: Bus
    dense: Program | None = None
    dense_runs: Mapping[str, LayerRun] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """The judgement: accuracy, layers, findings behind a "fail", images, the network on chip, tier 0, behind AXI."""

    accuracy: Accuracy
    verdicts: Sequence[LayerVerdict]
    findings: Sequence[Finding]
    images: ImageVerdict
    on_chip: OnChipVerdict | None
    fidelity: Fidelity | None = None
    axi: AxiVerdict | None = None


def point(compressed: Compressed, accuracy: Accuracy) -> Point:
    """The compressed network as a point of a plot, with the metric of the first output that has labels."""
    layers = _layers(compressed)
    error = sum(layer.weight_mse * layer.parameters for layer in layers) / sum(layer.parameters for layer in layers)
    bits = average_bits(compressed.network.layers, compressed.allocation)
    value = accuracy.labelled.values.get("pruned") if accuracy.labelled else None
    return Point(bits, value, accuracy.divergence["pruned"] or 0.0, error or None)


def _layers(compressed: Compressed) -> tuple[LayerCompression, ...]:
    return tuple(layer_compression(compressed, number) for number in range(len(compressed.network.layers)))


def compression_report(
    chosen: Pruning, result: Compressed, accuracy: Accuracy, fidelity: Fidelity, notes: Sequence[str]
) -> CompressionReport:
    """The report of `bbs compress`."""
    summary = CompressionSummary(**vars(pruned_network(chosen, result)), accuracy=accuracy, fidelity=fidelity)
    host, findings = host_segments(result), explained(fidelity)
    return CompressionReport(summary, _layers(result), host, tuple(notes), environment(None), findings)


def simulation_report(
    chosen: Pruning,
    result: Compressed,
    simulated: Simulated,
    judged: Judgement,
    notes: Sequence[str],
    area: Area | None = None,
) -> Report:
    """The report of `bbs compile`, or of `bbs cosim`, which has no dense array."""
    program, dense = simulated.program, simulated.dense
    layers = []
    for number, (scheduled, verdict) in enumerate(zip(program.layers, judged.verdicts, strict=True)):
        run, dense_scheduled = simulated.dense_runs.get(verdict.name), dense.layers[number] if dense else None
        pruned = layer_compression(result, number)
        cycles_bus = simulated.bus.built.layers[number].cycles
        layers.append(layer_report(pruned, scheduled, program.config, verdict, (run, dense_scheduled), cycles_bus))
    on_chip = _behind_the_bus(judged.on_chip, simulated.bus)
    dense_right = all(run.mismatches == 0 for run in simulated.dense_runs.values())
    on_chip_right = judged.on_chip is None or judged.on_chip.verdict == "pass"
    faithful = judged.fidelity is None or judged.fidelity.faithful
    right = passes(judged.verdicts, judged.accuracy) and dense_right and on_chip_right and faithful
    right = right and judged.images.verdict == "pass" and (judged.axi is None or judged.axi.verdict == "pass")
    done = sum(layer.macs * layer.rtl_share for layer in layers) / sum(layer.macs for layer in layers)
    findings = (*(() if judged.fidelity is None else explained(judged.fidelity)), *judged.findings)
    assert right or findings, "a verdict of fail without a reason"
    summary = Summary(
        **vars(pruned_network(chosen, result)),
        **vars(totals(layers)),
        array=f"{program.config.rows}x{program.config.columns}",
        engine=simulated.engine.name,
        samples=simulated.samples.count,
        samples_source=simulated.samples.source,
        rtl_share=round(done, 6),
        shipped_layers=sum(layer.shipped for layer in layers),
        verdict="fail" if not right else "pass" if done else None,
        accuracy=judged.accuracy,
        fidelity=judged.fidelity,
        area=area,
        front=front(result, judged.accuracy),
    )
    return Report(
        summary,
        tuple(layers),
        host_segments(result),
        tuple(notes),
        environment(simulated.engine.version()),
        findings,
        judged.images,
        on_chip,
        judged.axi,
        bus=BusReport.of(simulated.bus, summary.cycles, on_chip.cycles if on_chip and not on_chip.failure else None),
    )


def _behind_the_bus(found: OnChipVerdict | None, bus: Bus) -> OnChipVerdict | None:
    """The verdict with the cycles of each segment behind the bus."""
    if found is None:
        return None
    pairs = zip(found.segments, bus.built.segments, strict=True)
    return replace(found, segments=tuple(replace(segment, cycles_bus=run.cycles) for segment, run in pairs))


def asked_for(report: Report, command: str, megahertz: float | None) -> Report:
    """The report with the command that gives it again, and the time at a clock."""
    assert report.bus is not None
    return replace(report, summary=clocked(report.summary, megahertz, report.bus), command=command)


def host_segments(compressed: Compressed) -> tuple[HostReport, ...]:
    steps = (step for step in compressed.network.steps if not isinstance(step, ArrayLayer))
    return tuple(HostReport(step.name, tuple(step.operators)) for step in steps)


def write_report(folder: Path, report: Report, compressed: Compressed) -> None:
    """report.json and report.html, one file that needs no other."""
    write_json(folder / REPORT, report.as_dict())
    pairs = zip(compressed.original.layers, compressed.network.layers, strict=True)
    largest = sorted(pairs, key=lambda pair: -pair[0].weights.size)[:HISTOGRAMS]
    changes = {before.name: weight_change(before, after) for before, after in largest}
    weights = {name: (change.before, change.after) for name, change in changes.items()}
    summary, on_chip = report.summary, report.on_chip
    shown = {
        "answers": tables.answers(summary.accuracy),
        "agreement": tables.agreement(summary, report.layers),
        "layers": tables.layer_table(report.layers, summary.rtl_share < 1),
        "traffic": tables.traffic_table(report.layers),
        **({} if summary.front is None else {"front": tables.front_table(summary.front)}),
        **({} if summary.area is None else {"fpgas": tables.fpga_table(summary.area)}),
        **({} if summary.area is None else {"devices": tables.device_table(summary.area)}),
        **(
            {}
            if on_chip is None or on_chip.failure
            else {
                "steps": tables.step_table(on_chip),
                "segments": tables.segment_table(on_chip),
            }
        ),
    }
    text = page(
        Path(__file__).with_name("report.html.j2"),
        **vars(report),
        tables=shown,
        figures=figures(compressed.network, report.layers, weights, summary.front),
        flip_flop=FLIP_FLOP,
        sram_cell=SRAM_CELL,
        reached=None if summary.budget is None else reached_line(summary.budget, summary.predicted),
        bus_words=None if report.bus is None else bus_lines(report.bus),
        clock_words=None if summary.clock is None else clock_line(summary.clock),
        kib=sum(layer.parameters for layer in report.layers if layer.weights_of is None) / 1024,
    )
    (folder / "report.html").write_text(text)
