"""The tables of report.html as data: heads, and rows whose cells have a text and a value to sort by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flow.judgement.accuracy import Accuracy, OutputAccuracy
from flow.judgement.fidelity import COARSE
from flow.judgement.onchip import OnChipVerdict
from flow.network.metrics import CLASSES, RELATIVE, shown, worse
from flow.output.report.layers import LayerReport
from flow.output.report.summary import Area, DeviceFit, FpgaUse, Front, FrontPoint, Summary

NONE = "–"
FORMS = ("float", "int8", "pruned")
SIMULATED = ("pruned_simulated", "rtl")
MOST_LOST = 0.01  # of a metric, by INT8 alone, that is no cause for a warning


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the value it is sorted by (None: by its text), a bar's share of 0 to 1, a warning."""

    text: str
    value: float | None = None
    bar: float | None = None
    warn: bool = False


@dataclass(frozen=True)
class Row:
    """A row: its id, if a figure leads to it, and whether it is of less weight than others."""

    cells: tuple[Cell, ...]
    id: str = ""
    faint: bool = False


@dataclass(frozen=True)
class Table:
    """A table, of heads and rows of as many cells; the first column names the row.

    `wide`: only a wide window has room for its rows, a narrower one shows each as a block.
    """

    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    wide: bool = False


def whole(value: float | None, words: str = "{:,.0f}") -> Cell:
    """A number's cell."""
    return Cell(NONE) if value is None else Cell(words.format(value), float(value))


def share(value: float | None, digits: int = 2) -> Cell:
    """A share of 0 to 1, in percent."""
    return Cell(NONE) if value is None else Cell(f"{100 * value:.{digits}f} %", value)


def agreement(summary: Summary, layers: Sequence[LayerReport]) -> Table:
    """Whether all agree, tier by tier."""
    rows = []
    for output in summary.fidelity.outputs if summary.fidelity else ():
        if summary.fidelity is not None and output.sqnr is not None:
            largest = "" if output.largest_error is None else f"{output.largest_error:.2g}"
            rows.append((f"INT8 network against the network given, output {output.name} (0)",
                         Cell(f"{summary.fidelity.samples} samples"),
                         Cell(f"{output.sqnr:.1f} dB", warn=output.sqnr < COARSE), Cell(largest)))  # fmt: skip
    rest = " and, where it was not simulated, the integer reference," if summary.rtl_share < 1 else ""
    rows += [
        ("accumulators: integer reference against ONNX Runtime (1a)", whole(summary.elements),
         whole(sum(layer.tier1a_mismatches for layer in layers)), Cell("")),
        ("RTL against integer reference (1b)", whole(summary.elements_rtl),
         whole(sum(layer.tier1b_mismatches for layer in layers)), Cell("")),
        (f"RTL{rest} against ONNX Runtime on the pruned network (2)", whole(summary.elements),
         whole(summary.tier2_mismatches), Cell(f"{summary.tier2_max_lsb} LSB")),
    ]  # fmt: skip
    named = tuple(Row((Cell(name), *cells)) for name, *cells in rows)
    return Table(("comparison", "elements", "different", "largest difference"), named)


# -------------------------------------------------------------------------------- answers


def answers(accuracy: Accuracy) -> Table:
    """Every output and metric in each form of the network, and what INT8 and pruning, each alone, did to it."""
    rows: list[Row] = []
    if (own := accuracy.own) is not None:
        rows.append(_metric("", own.metric, own.values, own.lower, shown_as=None))
    for output in accuracy.outputs:
        of = "" if len(accuracy.outputs) == 1 else f"output {output.name}: "
        if output.metric:
            rows.append(_metric(of, output.metric, output.values, output.lower, output.metric))
        if output.second:
            lower = output.second == "mean squared error"
            rows.append(_metric(of, output.second, output.second_values, lower, output.second))
        rows += _unlabelled(of, output)
    heads = ("figure", "float", "INT8", "pruned", "INT8 alone", "pruning alone", "pruned, simulated", "RTL, simulated")
    return Table(heads, tuple(rows), wide=True)


def _metric(of: str, name: str, values: Mapping[str, float | None], lower: bool, shown_as: str | None) -> Row:
    forms = [Cell(NONE) if values.get(form) is None else Cell(shown(shown_as, values[form]), values[form])
             for form in (*FORMS, *SIMULATED)]  # fmt: skip
    alone = [_change(values.get(one), values.get(other), lower, shown_as) for one, other in
             (("float", "int8"), ("int8", "pruned"))]  # fmt: skip
    head = f"{of}{name}{', lower is better' if lower else ''}"
    return Row((Cell(head), *forms[:3], *alone, *forms[3:]))


def _change(before: float | None, after: float | None, lower: bool, name: str | None) -> Cell:
    """What a metric lost or won, in points where it is a share, in percent where its values are compared as ratios."""
    if before is None or after is None:
        return Cell(NONE)
    lost = worse(name, before, after, lower)
    points = name in CLASSES or (name or "").startswith("word error rate")
    size = f"{abs(lost):.3g}"
    if points or name in RELATIVE:
        size = f"{abs(100 * lost):.2f} {'points' if points else '%'}"
    words = "no change" if before == after else f"{size} {'lost' if lost > 0 else 'won'}"
    return Cell(words, lost, warn=lost > MOST_LOST and name != "mean squared error")


def _unlabelled(of: str, output: OutputAccuracy) -> list[Row]:
    """What needs no labels: same classes, divergence, dB and error, against the network given."""
    rows = []
    alone = output.by_pruning

    def row(name: str, values: Mapping[str, float | None], words: Callable[[float], str],
            change: Callable[[float], str], poor: Callable[[float], bool], pruning: float | None) -> None:  # fmt: skip
        cells = [Cell(NONE) if (value := values.get(form)) is None else Cell(words(value), value)
                 for form in (*FORMS, *SIMULATED)]  # fmt: skip
        int8 = values.get("int8")
        first = Cell(NONE) if int8 is None else Cell(change(int8), int8, warn=poor(int8))
        second = Cell(NONE) if pruning is None else Cell(change(pruning), pruning)
        rows.append(Row((Cell(f"{of}{name}"), *cells[:3], first, second, *cells[3:])))

    if output.agreement:
        row(f"same {'class' if output.scores else 'value'} as the network given", output.agreement,
            lambda value: f"{100 * value:.2f} %", lambda value: f"{100 * (1 - value):.2f} % changed",
            lambda value: value < 1 - MOST_LOST, alone.get("agreement"))  # fmt: skip
    if output.scores or not output.agreement:
        unit = " (KL, nats)" if output.scores else " (error over variance)"
        row(f"divergence from the network given{unit}", output.divergence, "{:.2g}".format, "{:.2g}".format,
            lambda _: False, alone.get("divergence"))  # fmt: skip
    if output.sqnr:
        row("SQNR, dB", output.sqnr, "{:.1f}".format, "{:.1f} dB".format, lambda value: value < COARSE,
            alone.get("sqnr"))  # fmt: skip
    if output.error and output.deviation is not None:
        row(f"error, root mean square (the output deviates from its mean by {output.deviation:.3g})", output.error,
            "{:.3g}".format, "{:.3g}".format, lambda _: False, None)  # fmt: skip
    return rows


# -------------------------------------------------------------------------------- layers


def layer_table(layers: Sequence[LayerReport], sampled: bool) -> Table:
    """One row for each layer, `layer-NUMBER`."""
    rows = []
    for number, layer in enumerate(layers):
        columns = ", ".join(f"{count}×{n}" for n, count in layer.columns_pruned.items())
        dense = whole(layer.cycles_dense)
        if layer.cycles_dense_source == "model":
            dense = Cell(f"{dense.text}*", dense.value)
        kept = layer.parameters * layer.bits_per_weight / 8192
        cells = [
            Cell(layer.name), Cell(layer.op), whole(layer.macs), Cell(columns, layer.bits_per_weight),
            whole(layer.bits_per_weight, "{:.2f}"), whole(layer.parameters / 1024, "{:,.1f}"), whole(kept, "{:,.1f}"),
            Cell("equal") if layer.weight_sqnr is None else whole(layer.weight_sqnr, "{:.1f}"),
            whole(layer.cycles), whole(layer.cycles_bus), whole(100 * (layer.cycles_bus / layer.cycles - 1), "{:+.1f}"),
            dense, whole(layer.speedup, "{:.2f}×"),
            Cell(f"{100 * layer.utilization:.1f} %", layer.utilization, bar=layer.utilization),
            whole(layer.tier1_mismatches), whole(layer.tier2_mismatches),
        ]  # fmt: skip
        rows.append(Row((*cells, *([share(layer.rtl_share)] if sampled else [])), f"layer-{number}"))
    heads = ("layer", "operator", "MACs", "channels × N", "bits", "INT8 KiB", "pruned KiB", "SQNR, dB", "cycles",
             "behind the bus", "bus, %", "dense", "speed-up", "utilization", "tier 1", "tier 2",
             *(["in RTL"] if sampled else []))  # fmt: skip
    return Table(heads, tuple(rows), wide=True)


def traffic_table(layers: Sequence[LayerReport]) -> Table:
    """Bytes of one sample over each memory port."""
    ports, rows = tuple(layers[0].memory_traffic), []
    for layer in layers:
        total, dense = sum(layer.memory_traffic.values()), sum((layer.memory_traffic_dense or {}).values())
        rows.append(Row((Cell(layer.name), *(whole(layer.memory_traffic[port]) for port in ports), whole(total),
                         whole(dense), share(total / dense if dense else None, 1))))  # fmt: skip
    return Table(("layer", *ports, "total", "dense", "share of dense"), tuple(rows), wide=True)


def segment_table(found: OnChipVerdict) -> Table:
    """The segments of a network that leaves the chip, and what the host computes before each."""
    rows = []
    for number, segment in enumerate(found.segments):
        before = "; ".join(left.reason for left in found.left if left.segment == number)
        descriptors = f"{segment.first} to {segment.first + segment.count - 1}"
        rows.append(Row((Cell(str(number + 1), number), Cell(", ".join(segment.layers)), whole(segment.steps),
                         whole(segment.cycles), whole(segment.cycles_bus), Cell(descriptors, segment.first),
                         Cell(before))))  # fmt: skip
    heads = ("segment", "layers", "steps", "cycles", "behind the bus", "descriptors", "before it, off chip")
    return Table(heads, tuple(rows), wide=True)


def step_table(found: OnChipVerdict) -> Table:
    """The layers and operations of the whole network on chip."""
    heads = ("step", "what", "bit columns' cycles", "outputs", "tier 1", "tier 2", "at a tie")
    return Table(heads, tuple(
        Row((Cell(step.name), Cell(step.kind), whole(step.cycles_ideal or None), whole(step.elements),
             whole(step.tier1_mismatches), whole(step.tier2_mismatches), whole(step.tier2_ties)))
        for step in found.steps
    ))  # fmt: skip


def front_table(front: Front) -> Table:
    """The points of the front, `front-NUMBER`."""
    scored = front.metric is not None
    rows = []
    for number, point in enumerate(front.points):
        value = [Cell(shown(front.metric, point.value), point.value)] if scored else []
        cells = (Cell(_what(point)), *value, whole(point.divergence, "{:.2g}"),
                 whole(point.bits_per_weight, "{:.2f}"), whole(point.cycles), whole(point.cycles_bus),
                 *([] if point.energy is None else [whole(point.energy, "{:,.3g}")]))  # fmt: skip
        rows.append(Row(cells, f"front-{number}", faint=not point.best))
    heads = "network", *([front.metric] if front.metric else []), "divergence", "bits", "cycles", "behind the bus"
    spent = () if any(point.energy is None for point in front.points) else ("microjoules",)
    return Table((*heads, *spent), tuple(rows))


def _what(point: FrontPoint) -> str:
    if point.kind == "tried":
        return "tried, within --max-drop" if point.kept else "tried, lost more than --max-drop allows"
    return {"int8": "INT8, not pruned", "chosen": "chosen: this report"}.get(point.kind, point.option or "")


def fpga_table(area: Area) -> Table:
    """What the accelerator takes of every family of FPGAs, and each block of the first one."""
    rows = []
    for number, each in enumerate(area.fpgas):
        rows.append(_use(each.family, each.takes))
        parts = each.blocks if number == 0 else ()
        rows += [_use(f"{each.family}: {part.block}", part.takes, part.share) for part in parts]
    return Table(("FPGA", "lookup tables", "flip-flops", "block memories", "multipliers", "share"), tuple(rows))


def _use(name: str, use: FpgaUse, part: float | None = None) -> Row:
    counts = whole(use.luts), whole(use.flip_flops), whole(use.memories, "{:,g}"), whole(use.multipliers)
    return Row((Cell(name), *counts, share(part, 1)), faint=part is not None)


def device_table(area: Area) -> Table:
    """Whether the devices have as much, and what they have too little of."""
    rows = (Row((Cell(each.device), Cell("yes" if each.fits else "no", warn=not each.fits), Cell(shortage(each))))
            for each in area.devices)  # fmt: skip
    return Table(("device", "fits", "too few"), tuple(rows))


def shortage(fit: DeviceFit) -> str:
    """What a device has too little of, in words."""
    return ", ".join(f"{each.resource.replace('_', '-')}: {each.takes:,g} of {each.has:,g}" for each in fit.short)
