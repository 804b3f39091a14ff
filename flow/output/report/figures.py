"""The figures of report.html, in HTML and SVG of the page's own colours: the same report gives the same bytes.

A bar or a point says its value and leads to its row in a table. Hatches and labels say in grey what colours say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from markupsafe import Markup
from numpy.typing import NDArray

from flow.network.metrics import CLASSES, shown
from flow.network.model import Network
from flow.output.report.graph import MAX_NODES, draw_graph, flow_graph, place_steps, short
from flow.output.report.layers import LayerReport
from flow.output.report.marks import Point, number, scatter, tag
from flow.output.report.summary import Front, FrontPoint, unbeaten

HISTOGRAMS = 12  # layers that have one, those with the most weights
PARTS = ("compute", "load", "drain", "stall")
PORTS = ("weight", "activation", "output", "metadata", "parameter", "index", "descriptor")
BINS, BIN = 64, 4  # of a histogram, and values in each
COLUMNS, WEIGHTS, CUT = 8, 5, (1, 2)  # of the picture of bit columns: columns, weights, removed at the top and below


@dataclass(frozen=True)
class Bar:
    """One lane of a chart: segments (class, share of the chart's width in percent), and its value in words."""

    segments: tuple[tuple[str, float], ...]
    value: str = ""


@dataclass(frozen=True)
class BarRow:
    """One layer of a chart: its name, the row it leads to, what it says when it is pointed at."""

    name: str
    row: str
    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Chart:
    """Bars of all layers below each other; `legend`: class and name of each kind of segment."""

    legend: tuple[tuple[str, str], ...]
    rows: tuple[BarRow, ...]


def figures(
    network: Network,
    layers: Sequence[LayerReport],
    weights: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    front: Front | None = None,
) -> dict[str, Any]:
    """All figures by name: charts of the layers, SVG elements of the others.

    `layers` are from the report of `bbs compile`, which includes dense PEs; `weights` counts, for some layers, the
    weights at each INT8 value before and after pruning, int64 [256] each.
    """
    drawn: dict[str, Any] = {
        "cycles": _cycles(layers), "breakdown": _breakdown(layers), "bits": _bits(layers), "traffic": _traffic(layers),
        "columns": Markup(_bit_columns()),
        "histograms": [
            (short(layer.name), f"layer-{number}", Markup(_histogram(layer.name, *weights[layer.name])))
            for number, layer in enumerate(layers) if layer.name in weights
        ],
    }  # fmt: skip
    if front is not None:
        drawn["front"] = [Markup(panel) for panel in _front(front)]
    graph = flow_graph(network)
    if len(graph) <= MAX_NODES:
        drawn["graph"] = Markup(draw_graph(graph, place_steps(graph)))
    return drawn


def _chart(layers: Sequence[LayerReport], legend: Sequence[tuple[str, str]],
           rows: Sequence[tuple[str, Sequence[Bar]]]) -> Chart:  # fmt: skip
    named = [
        BarRow(layer.name, f"layer-{number}", f"{layer.name}: {title}", tuple(bars))
        for number, (layer, (title, bars)) in enumerate(zip(layers, rows, strict=True))
    ]
    return Chart(tuple(legend), tuple(named))


def _cycles(layers: Sequence[LayerReport]) -> Chart:
    """Cycles on dense PEs and on BitVert PEs, with the speed-up, and those behind the bus."""
    most = max(max(layer.cycles, layer.cycles_bus, layer.cycles_dense or 0) for layer in layers)
    rows = []
    for layer in layers:
        dense = layer.cycles_dense or 0
        bars = [Bar((("dense", 100 * dense / most),), f"{dense:,}"),
                Bar((("ours", 100 * layer.cycles / most),),
                    f"{layer.cycles:,} · {layer.speedup or 0:.2f}×"),
                Bar((("bus", 100 * layer.cycles_bus / most),), f"{layer.cycles_bus:,}")]  # fmt: skip
        used = f"{100 * layer.utilization:.1f} % utilization"
        slower = f"{layer.cycles_bus:,} behind the bus"
        rows.append((f"{layer.cycles:,} cycles, {slower}, dense {dense:,}, {layer.speedup or 0:.2f}×, {used}", bars))
    kinds = [("dense", "dense PEs"), ("ours", "BitVert PEs"), ("bus", "BitVert PEs, behind the bus")]
    return _chart(layers, kinds, rows)


def _breakdown(layers: Sequence[LayerReport]) -> Chart:
    """What the cycles of each layer are spent on, in percent."""
    rows = []
    for layer in layers:
        shares = {part: 100 * getattr(layer.cycle_breakdown, part) / layer.cycles for part in PARTS}
        words = ", ".join(f"{part} {share:.1f} %" for part, share in shares.items())
        rows.append((words, [Bar(tuple(shares.items()), f"{shares['compute']:.1f} %")]))
    return _chart(layers, [(part, part) for part in PARTS], rows)


def _bits(layers: Sequence[LayerReport]) -> Chart:
    """Bits per weight, with the SQNR of the pruned weights."""
    rows = []
    for layer in layers:
        noise = "unchanged" if layer.weight_sqnr is None else f"{layer.weight_sqnr:.1f} dB"
        title = f"{layer.bits_per_weight:.2f} bits per weight, weights {noise}"
        rows.append((title, [Bar((("ours", 100 * layer.bits_per_weight / 8.25),),
                                 f"{layer.bits_per_weight:.2f} · {noise}")]))  # fmt: skip
    return _chart(layers, [], rows)


def _traffic(layers: Sequence[LayerReport]) -> Chart:
    """Bytes over the memory ports, dense above BitVert."""
    totals = [
        max(sum(t.values()) for t in (layer.memory_traffic, layer.memory_traffic_dense or {})) for layer in layers
    ]
    most, rows = max(totals), []
    for layer in layers:
        bars = []
        for traffic, who in ((layer.memory_traffic_dense or {}, "dense"), (layer.memory_traffic, "BitVert")):
            parts = tuple((port, 100 * traffic.get(port, 0) / most) for port in PORTS)
            bars.append(Bar(parts, f"{sum(traffic.values()) / 1024:,.1f} KiB {who}"))
        words = ", ".join(f"{port} {layer.memory_traffic.get(port, 0):,}" for port in PORTS)
        rows.append((f"bytes on BitVert: {words}", bars))
    return _chart(layers, [(port, port) for port in PORTS], rows)


def _histogram(name: str, before: NDArray[Any], after: NDArray[Any]) -> str:
    """INT8 weights before (filled) and after (line), four values to a bin."""
    shares = [100 * count.reshape(BINS, BIN).sum(axis=1) / count.sum() for count in (before, after)]
    most, height = max(float(share.max()) for share in shares), 90
    steps = [
        "".join(f"V{height - height * value / most:.1f}h4" for value in share.tolist()) for share in shares
    ]  # one bin is four wide, as it has four values
    parts = [
        tag("path", class_="before", d=f"M0 {height}{steps[0]}V{height}Z"),
        tag("path", class_="after", d=f"M0 {height}{steps[1]}V{height}"),
        *(tag("text", str(value), x=place, y=height + 14, text_anchor=anchor)
          for value, place, anchor in ((-128, 0, "start"), (0, 128, "middle"), (127, 256, "end"))),
        tag("text", f"{most:.1f} %", x=0, y=10, text_anchor="start"),
    ]  # fmt: skip
    label = f"{name}: weights before and after"
    return tag("svg", *parts, viewBox=f"-2 0 260 {height + 20}", role="img", aria_label=label, class_="histogram")


def _bit_columns() -> str:
    """Some weights of a group below each other: bits as columns, those that are pruned in grey."""
    size, left = 20, 62
    parts: list[str] = []
    for row in range(WEIGHTS):
        y = 18 + row * size
        parts.append(tag("text", f"weight {row + 1}" if row < WEIGHTS - 1 else "weight 32", x=0, y=y + 14))
        for column in range(COLUMNS):
            cut = column < CUT[0] or column >= COLUMNS - CUT[1]
            sign = (row * 5 + 2) % 3 == 0
            bit = int(sign) if column <= CUT[0] else (row * 7 + column * 5 + row * column) % 3 % 2
            x = left + column * size
            parts.append(tag("rect", x=x, y=y, width=size - 2, height=size - 2, class_="cut" if cut else "kept"))
            parts.append(tag("text", str(bit), x=x + size / 2 - 1, y=y + 14, text_anchor="middle",
                             class_="bit cut" if cut else "bit kept"))  # fmt: skip
    end = left + COLUMNS * size
    parts.append(tag("text", "sign", x=left + size / 2 - 1, y=12, text_anchor="middle"))
    parts.append(tag("text", "low bits", x=end - size, y=12, text_anchor="middle"))
    label = "The bits of 32 weights, written below each other, form eight columns; the grey ones are pruned."
    return tag("svg", *parts, viewBox=f"0 0 {end + 4} {18 + WEIGHTS * size}", role="img", aria_label=label,
               class_="columns")  # fmt: skip


def point_words(front: Front, point: FrontPoint) -> str:
    """What a point of the front says."""
    which = {"int8": "INT8, not pruned", "chosen": "chosen", "tried": "tried", "budget": point.option or ""}
    found = [] if front.metric is None else [f"{front.metric} {shown(front.metric, point.value)}"]
    return (f"{which[point.kind]}: {', '.join(found)}{', ' if found else ''}divergence {point.divergence:.2g}, "
            f"{point.bits_per_weight:.2f} bits per weight, {point.cycles_bus:,} cycles behind the bus, "
            f"{point.cycles:,} with ideal memories{_microjoules(point)}")  # fmt: skip


def _microjoules(point: FrontPoint) -> str:
    return "" if point.energy is None else f", {point.energy:,.3g} microjoules"


def _front(front: Front) -> list[str]:
    """The metric, if there is one, and the divergence: over cycles behind the bus, bits, and energy if it is known."""
    across = {"cycles of a sample, behind the bus": [float(point.cycles_bus) for point in front.points],
              "bits per weight": [point.bits_per_weight for point in front.points]}  # fmt: skip
    energy = [point.energy for point in front.points if point.energy is not None]
    if len(energy) == len(front.points):
        across["microjoules of a sample"] = energy
    answers = {"divergence": ([point.divergence for point in front.points], True)}
    if front.metric is not None and all(point.value is not None for point in front.points):
        percent = front.metric in CLASSES
        values = [(point.value or 0.0) * (100 if percent else 1) for point in front.points]
        answers = {f"{front.metric}{', %' if percent else ''}": (values, front.lower), **answers}
    panels = []
    for (name, xs), (up, (ys, lower)) in product(across.items(), answers.items()):
        best = unbeaten([*zip(xs, ys if lower else [-y for y in ys], strict=True)])
        points = [
            Point(x, y, f"front-{number}", point_words(front, each),
                  each.kind if each.kind in ("int8", "chosen") else "best" if best[number] else "other",
                  {"int8": "INT8", "chosen": "chosen"}.get(each.kind, ""))
            for number, (each, x, y) in enumerate(zip(front.points, xs, ys, strict=True))
        ]  # fmt: skip
        panels.append(scatter(f"{up} over {name}", (name, xs), (up, ys), points))
    return panels


@dataclass(frozen=True)
class Measure:
    """A figure of a design that a plot shows: its name, its key, the unit it is divided by."""

    name: str
    key: str
    unit: float = 1.0


def designs(found: Sequence[Mapping[str, Any]], metric: str | None) -> list[Markup]:
    """Designs of an exploration, the Pareto front filled: answers over cycles, area, traffic; area over cycles.

    `metric` is the name of `accuracy`, None where the answers are compared by their divergence.
    """
    share = 0.01 if metric in CLASSES else 1.0
    answers = Measure(f"{metric}{', %' if share < 1 else ''}", "accuracy", share) if metric is not None else Measure(
        "divergence of the answers", "divergence")  # fmt: skip
    cycles, area = (
        Measure("cycles of a sample, behind the bus", "cycles_bus"),
        Measure("million transistors", "transistors", 1e6),
    )
    traffic = Measure("KiB of memory traffic", "traffic", 1024)
    panels = []
    for across, up in ((cycles, answers), (area, answers), (traffic, answers), (cycles, area)):
        xs, ys = ([design[each.key] / each.unit for design in found] for each in (across, up))
        points = [
            Point(x, y, f"design-{design['number']}", f"bbs compile {design['compile']}: {number(y)} {up.name}, "
                  f"{number(x)} {across.name}", "best" if design["best"] else "other")
            for design, x, y in zip(found, xs, ys, strict=True)
        ]  # fmt: skip
        panels.append(Markup(scatter(f"{up.name} over {across.name}", (across.name, xs), (up.name, ys), points)))
    return panels
