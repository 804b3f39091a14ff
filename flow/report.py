"""The report: one dataclass per level, written as report.json and report.html, printed as a table."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from flow.allocate import average_bits
from flow.artefacts import write_json
from flow.compress import Compressed, Pruning
from flow.cosim import LayerRun
from flow.cycles import breakdown, layer_cycles, memory_traffic
from flow.diagnosis import Finding
from flow.encoding import BBS
from flow.engines import Engine
from flow.hardware.config import ArrayConfig
from flow.network import ArrayLayer
from flow.plot import Point
from flow.samples import Samples
from flow.schedule import LayerSchedule, Program
from flow.synthesis import FLIP_FLOP, SRAM_CELL, Estimate
from flow.verdict import Accuracy, LayerVerdict, decibels, finite, passes

PACKAGES = ("numpy", "onnx", "onnxruntime", "myhdl")
TOGETHER = 2**22  # weights compared at a time


@dataclass(frozen=True)
class LayerCompression:
    """What pruning did to one layer.

    `columns_pruned`: N -> channels; `sensitive_channels`: those of N = 0. Of the weights as real numbers, against
    those of the INT8 network: `weight_sqnr` in dB, None if unchanged; `weight_mse`, mean squared error in steps of
    the INT8 weights; `weight_kl`, divergence of their distributions in nats (paper figure 6).
    """

    name: str
    op: str
    target: str
    macs: int
    parameters: int
    columns_pruned: dict[str, int]
    bits_per_weight: float
    sensitive_channels: int
    weight_sqnr: float | None
    weight_mse: float
    weight_kl: float


@dataclass(frozen=True)
class LayerHardware:
    """One layer in RTL. Cycles and traffic of one sample; elements and mismatches over all simulated samples.

    `rtl_share` of the layer's MACs went through RTL, in `pieces` runs; the rest is the integer reference's.
    `cycles_source`: "rtl", or "pieces" (the model's count, and what the pieces took beyond it), or "model".
    `cycle_breakdown`: cycles by `cycles.Breakdown`'s parts, in all `cycles`; what the RTL took beyond the model
    counts as stall. `memory_traffic`: bytes by memory port, `memory_traffic_dense` those of dense PEs.
    """

    elements: int
    elements_rtl: int
    rtl_share: float
    pieces: int
    cycles: int
    cycles_source: str
    cycles_dense: int | None
    cycles_dense_source: str | None  # "rtl", or "model" where the dense array was not simulated
    cycles_model: int
    cycles_ideal: int
    cycle_breakdown: dict[str, int]
    memory_traffic: dict[str, int]
    memory_traffic_dense: dict[str, int] | None
    speedup: float | None
    utilization: float
    tier1_mismatches: int
    tier1a_mismatches: int
    tier1b_mismatches: int
    tier1b_mismatches_dense: int
    tier2_mismatches: int
    tier2_max_lsb: int
    tier2_histogram: dict[str, int]
    first_mismatch: str | None


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


def layer_compression(compressed: Compressed, number: int) -> LayerCompression:
    before, after = compressed.original.layers[number], compressed.network.layers[number]
    n = compressed.allocation[before.name]
    values, counts = np.unique(n, return_counts=True)
    change = weight_change(before, after)
    return LayerCompression(
        name=before.name,
        op=before.op,
        target="array",
        macs=before.macs,
        parameters=before.weights.size,
        columns_pruned={str(value): int(count) for value, count in zip(values, counts, strict=True)},
        bits_per_weight=round(average_bits([before], compressed.allocation), 4),
        sensitive_channels=int((n == 0).sum()),
        weight_sqnr=change.sqnr,
        weight_mse=round(change.mse, 6),
        weight_kl=round(change.divergence, 6),
    )


@dataclass(frozen=True)
class WeightChange:
    """What pruning did to a layer's weights.

    `sqnr` in dB, None if they are equal; `mse` in steps of the INT8 weights; `before` and `after`: how many weights
    are at, or nearest to, each INT8 value, int64 [256], from -128 up.
    """

    sqnr: float | None
    mse: float
    before: NDArray[np.int64]
    after: NDArray[np.int64]

    @property
    def divergence(self) -> float:
        """Kullback-Leibler divergence of the two distributions over the 256 INT8 values, in nats.

        Half a weight is added to every value, so that values pruning never gives do not make it infinite.
        """
        before, after = ((counts + 0.5) / (counts.sum() + 128) for counts in (self.before, self.after))
        return float((before * np.log(before / after)).sum())


def weight_change(before: ArrayLayer, after: ArrayLayer) -> WeightChange:
    """A layer before and after pruning, some channels at a time."""
    counts = np.zeros((2, 256), np.int64)
    signal = noise = error = 0.0
    some = max(1, TOGETHER // before.reduction)
    for first in range(0, before.channels, some):
        part = slice(first, first + some)
        old, scale = before.weights[part], before.weight_scales[part].astype(np.float64)[:, None]
        pruned = after.weights[part] * after.weight_scales[part].astype(np.float64)[:, None]
        real = old * scale
        signal, noise = signal + float((real**2).sum()), noise + float(((pruned - real) ** 2).sum())
        steps = np.divide(pruned, scale, out=np.zeros_like(pruned), where=scale > 0)
        error += float(((steps - old) ** 2).sum())
        for values, counted in zip((old, np.clip(np.rint(steps), BBS.weight_min, BBS.weight_max)), counts, strict=True):
            counted += np.bincount(values.astype(np.int64).reshape(-1) - BBS.weight_min, minlength=256)
    return WeightChange(finite(decibels(signal, noise)), error / before.weights.size, counts[0], counts[1])


def point(compressed: Compressed, accuracy: Accuracy) -> Point:
    """The compressed network as a point of a plot."""
    layers = [layer_compression(compressed, number) for number in range(len(compressed.network.layers))]
    error = sum(layer.weight_mse * layer.parameters for layer in layers) / sum(layer.parameters for layer in layers)
    bits = average_bits(compressed.network.layers, compressed.allocation)
    return Point(bits, accuracy.pruned, accuracy.divergence["pruned"] or 0.0, error or None)


def layer_hardware(
    scheduled: LayerSchedule,
    config: ArrayConfig,
    verdict: LayerVerdict,
    dense: LayerRun | None,
    dense_scheduled: LayerSchedule | None,
) -> LayerHardware:
    dense_model = layer_cycles(dense_scheduled, config.dense()) if dense_scheduled else None
    cycles_dense = dense.cycles if dense else dense_model
    parts = breakdown(scheduled, config)
    beyond = verdict.cycles - parts.cycles  # a stream that waited for room in its buffer
    return LayerHardware(
        elements=verdict.elements,
        elements_rtl=verdict.elements_rtl,
        rtl_share=round(verdict.elements_rtl / verdict.elements, 6),
        pieces=verdict.pieces,
        cycles=verdict.cycles,
        cycles_source=_source(verdict),
        cycles_dense=cycles_dense,
        cycles_dense_source=None if cycles_dense is None else "rtl" if dense else "model",
        cycles_model=parts.cycles,
        cycles_ideal=scheduled.ideal_cycles,
        cycle_breakdown=asdict(replace(parts, stall=parts.stall + beyond)),
        memory_traffic=memory_traffic(scheduled, config),
        memory_traffic_dense=memory_traffic(dense_scheduled, config.dense()) if dense_scheduled else None,
        speedup=None if cycles_dense is None else round(cycles_dense / verdict.cycles, 4),
        utilization=round(scheduled.ideal_cycles / verdict.cycles, 4),
        tier1_mismatches=verdict.tier1_mismatches,
        tier1a_mismatches=verdict.tier1a_mismatches,
        tier1b_mismatches=verdict.tier1b_mismatches,
        tier1b_mismatches_dense=dense.mismatches if dense else 0,
        tier2_mismatches=verdict.tier2_mismatches,
        tier2_max_lsb=verdict.tier2_max_lsb,
        tier2_histogram={str(lsb): count for lsb, count in sorted(verdict.tier2_histogram.items())},
        first_mismatch=verdict.first_mismatch,
    )


def _source(verdict: LayerVerdict) -> str:
    """Where a layer's cycles are from."""
    if not verdict.elements_rtl:
        return "model"
    return "rtl" if verdict.pieces == 1 and verdict.elements_rtl == verdict.elements else "pieces"


def compressed(chosen: Pruning, result: Compressed, accuracy: Accuracy, notes: list[str]) -> Report:
    """The report of `bbs compress`."""
    layers = [asdict(layer_compression(result, number)) for number in range(len(result.network.layers))]
    summary = {**_compression(chosen, result), "accuracy": asdict(accuracy)}
    return Report(summary, layers, host_segments(result), notes, environment(None))


def simulated(
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


def environment(engine: str | None) -> dict[str, Any]:
    """What ran here: versions, the judge's optimisation level, the processor."""
    versions = {"bbs-flow": _own_version(), "python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES}
    judge = f"ONNX Runtime {versions['onnxruntime']}, graph optimisation level BASIC, CPU"
    return {"versions": versions, "engine": engine, "judge": judge, "cpu": _processor()}


def _own_version() -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version("bbs-flow")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split("\t: ", 1) for line in lines if "\t: " in line)
    name = fields.get("model name", platform.machine())
    return f"{name} ({'with' if 'vnni' in fields.get('flags', '') else 'without'} VNNI)"


def write(folder: Path, report: Report, compressed: Compressed) -> None:
    """report.json and report.html, one file that needs no other."""
    from flow.figures import HISTOGRAMS, figures  # Matplotlib takes longer to import than most commands to run

    write_json(folder / "report.json", report.as_dict())
    pairs = zip(compressed.original.layers, compressed.network.layers, strict=True)
    largest = sorted(pairs, key=lambda pair: -pair[0].weights.size)[:HISTOGRAMS]
    changes = {before.name: weight_change(before, after) for before, after in largest}
    weights = {name: (change.before, change.after) for name, change in changes.items()}
    drawn = {name: Markup(svg) for name, svg in figures(compressed.network, report.layers, weights).items()}
    transistors = {"flip_flop": FLIP_FLOP, "sram_cell": SRAM_CELL}
    (folder / "report.html").write_text(page("report.html.j2", **report.as_dict(), **transistors, figures=drawn))


def page(template: str, **values: Any) -> str:
    """An HTML page from one of the templates beside this file."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    templates = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return templates.get_template(template).render(**values) + "\n"
