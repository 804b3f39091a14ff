"""The report: one dataclass per level, written as report.json and report.html, printed as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from flow.compression.allocate import average_bits
from flow.compression.choice import Pruning
from flow.compression.compress import Compressed
from flow.compression.encoding import BBS
from flow.files import write_json
from flow.hardware.synthesis import FLIP_FLOP, SRAM_CELL, Estimate
from flow.judgement.accuracy import Accuracy
from flow.judgement.diagnosis import Finding
from flow.judgement.verdict import LayerVerdict, passes
from flow.network.model import ArrayLayer
from flow.network.samples import Samples
from flow.output.report.environment import environment
from flow.output.report.layers import LayerHardware, layer_compression, layer_hardware, weight_change
from flow.output.report.page import page
from flow.output.report.plot import Point
from flow.scheduling.blocks import Program
from flow.simulation.engines import Engine
from flow.simulation.results import LayerRun


@dataclass(frozen=True)
class Report:
    """All of a run; `as_dict` has the keys of report.json."""

    summary: dict[str, Any]
    layers: list[dict[str, Any]]
    host: list[dict[str, Any]]
    notes: list[str]
    environment: dict[str, Any]
    findings: list[dict[str, Any]] = field(default_factory=list)  # why the verdict is "fail"
    on_chip: dict[str, Any] | None = None  # the whole network by one start

    @property
    def passed(self) -> bool:
        """False only when a verdict was reached and is "fail"."""
        return bool(self.summary.get("verdict") != "fail")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def point(compressed: Compressed, accuracy: Accuracy) -> Point:
    """The compressed network as a point of a plot."""
    layers = [layer_compression(compressed, number) for number in range(len(compressed.network.layers))]
    error = sum(layer.weight_mse * layer.parameters for layer in layers) / sum(layer.parameters for layer in layers)
    bits = average_bits(compressed.network.layers, compressed.allocation)
    return Point(bits, accuracy.pruned, accuracy.divergence["pruned"] or 0.0, error or None)


def compression_report(chosen: Pruning, result: Compressed, accuracy: Accuracy, notes: list[str]) -> Report:
    """The report of `bbs compress`."""
    layers = [asdict(layer_compression(result, number)) for number in range(len(result.network.layers))]
    summary = {**_compression(chosen, result), "accuracy": asdict(accuracy)}
    return Report(summary, layers, host_segments(result), notes, environment(None))


def simulation_report(
    chosen: Pruning,
    result: Compressed,
    program: Program,
    dense: Program | None,
    engine: Engine,
    samples: Samples,
    accuracy: Accuracy,
    verdicts: list[LayerVerdict],
    dense_runs: Mapping[str, LayerRun],
    findings: Sequence[Finding],
    notes: list[str],
    area: Estimate | None = None,
    on_chip: dict[str, Any] | None = None,
) -> Report:
    """The report of `bbs compile`, or of `bbs cosim`, which has no dense array."""
    layers, hardware = [], []
    for number, (scheduled, verdict) in enumerate(zip(program.layers, verdicts, strict=True)):
        run, dense_scheduled = dense_runs.get(verdict.name), dense.layers[number] if dense else None
        hardware.append(layer_hardware(scheduled, program.config, verdict, run, dense_scheduled))
        layers.append(asdict(layer_compression(result, number)) | asdict(hardware[-1]))
    dense_right = all(run.mismatches == 0 for run in dense_runs.values())
    right = passes(verdicts, accuracy) and dense_right and (on_chip is None or on_chip["verdict"] == "pass")
    done = sum(layer["macs"] * layer["rtl_share"] for layer in layers) / sum(layer["macs"] for layer in layers)
    summary = {
        **_compression(chosen, result),
        **_hardware(hardware),
        "array": f"{program.config.rows}x{program.config.columns}",
        "engine": engine.name,
        "samples": samples.count,
        "samples_source": samples.source,
        "rtl_share": round(done, 6),
        "verdict": "fail" if not right else "pass" if done else None,
        "accuracy": asdict(accuracy),
        "area": None if area is None else {**asdict(area), "transistors": area.transistors},
    }
    found = [asdict(finding) for finding in findings]
    return Report(summary, layers, host_segments(result), notes, environment(engine.version()), found, on_chip)


def _compression(chosen: Pruning, result: Compressed) -> dict[str, Any]:
    bits = average_bits(result.network.layers, result.allocation)
    return {
        "model": result.network.name,
        "preset": chosen.name,
        "columns": chosen.columns,
        "sensitive": chosen.sensitive,
        "method": chosen.method,
        "means": list(chosen.means),
        "rule": rule(chosen),
        "bits_per_weight": round(bits, 4),
        "compression_ratio": round(BBS.weight_bits / bits, 4),
    }


def rule(chosen: Pruning) -> str:
    """How it was pruned, for the user."""
    if chosen.columns is not None and chosen.sensitive is not None:
        return f"{chosen.columns} bit columns pruned, {100 * chosen.sensitive:g} % sensitive channels, {chosen.method}"
    wanted = f"{chosen.bits:g} bits per weight" if chosen.bits is not None else f"a drop of {chosen.max_drop:g} points"
    return f"a budget of {wanted}, {'refined by ' + ', '.join(chosen.means) if chosen.means else 'not refined'}"


def _hardware(layers: list[LayerHardware]) -> dict[str, Any]:
    cycles = sum(layer.cycles for layer in layers)
    dense = [layer.cycles_dense for layer in layers if layer.cycles_dense is not None]
    return {
        "cycles": cycles,
        "cycles_dense": sum(dense) if dense else None,
        "speedup": round(sum(dense) / cycles, 4) if dense else None,
        "utilization": round(sum(layer.cycles_ideal for layer in layers) / cycles, 4),
        "elements": sum(layer.elements for layer in layers),
        "elements_rtl": sum(layer.elements_rtl for layer in layers),
        "tier1_mismatches": sum(layer.tier1_mismatches for layer in layers),
        "tier2_mismatches": sum(layer.tier2_mismatches for layer in layers),
        "tier2_max_lsb": max(layer.tier2_max_lsb for layer in layers),
    }


def host_segments(compressed: Compressed) -> list[dict[str, Any]]:
    return [
        {"name": step.name, "operators": list(step.operators)}
        for step in compressed.network.steps
        if not isinstance(step, ArrayLayer)
    ]


def write_report(folder: Path, report: Report, compressed: Compressed) -> None:
    """report.json and report.html, one file that needs no other."""
    from flow.output.report.figures import HISTOGRAMS, figures  # Matplotlib takes long to import

    write_json(folder / "report.json", report.as_dict())
    pairs = zip(compressed.original.layers, compressed.network.layers, strict=True)
    largest = sorted(pairs, key=lambda pair: -pair[0].weights.size)[:HISTOGRAMS]
    changes = {before.name: weight_change(before, after) for before, after in largest}
    weights = {name: (change.before, change.after) for name, change in changes.items()}
    drawn = {name: Markup(svg) for name, svg in figures(compressed.network, report.layers, weights).items()}
    transistors = {"flip_flop": FLIP_FLOP, "sram_cell": SRAM_CELL}
    (folder / "report.html").write_text(
        page(Path(__file__).with_name("report.html.j2"), **report.as_dict(), **transistors, figures=drawn)
    )
