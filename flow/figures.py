"""The figures of report.html, each an SVG to put into the page: the same report gives the same bytes.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; hatches and labels say the same in grey.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import networkx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from flow.network import ArrayLayer, HostSegment, Network

BLUE, ORANGE, GREEN, VERMILION, SKY, PINK, GREY = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#b8bec6",
)  # fmt: skip
PARTS = {"compute": (BLUE, ""), "load": (ORANGE, "///"), "drain": (SKY, "..."), "stall": (VERMILION, "xxx")}
PORTS = {
    "weight": (BLUE, ""), "activation": (ORANGE, "///"), "output": (GREEN, "\\\\\\"), "metadata": (PINK, "..."),
    "parameter": (SKY, "xxx"), "index": (VERMILION, "+++"), "descriptor": (GREY, ""),
}  # fmt: skip
STYLE = {
    "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "hatch.linewidth": 0.6, "text.parse_math": False, "axes.titlesize": 9,
}  # fmt: skip
MOST_NODES = 240  # of a graph that is drawn
HISTOGRAMS = 12  # layers, those with the most weights
WIDTH = 9.0  # inches
NAME = 30  # characters of a layer's name


def draw(name: str, paint: Callable[[Figure], None], height: float) -> str:
    """The SVG element of a figure; `name` keeps its ids apart from those of the page's other figures."""
    style: Any = {**STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        paint(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub('<g id="[^"]*"', "<g", buffer.getvalue())  # names that the page's figures would share
    return text[text.index("<svg") :].strip()


def figures(
    network: Network, layers: Sequence[Mapping[str, Any]], weights: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]
) -> dict[str, str]:
    """All figures by name.

    `layers` are those of the report; `weights` says of some how many weights are at each INT8 value before and after,
    int64 [256] each.
    """
    names = [short(layer["name"]) for layer in layers]
    tall = 0.9 + 0.3 * len(layers)
    made = {
        "bits": draw("bits", lambda figure: _bits(figure, names, layers), tall),
        "cycles": draw("cycles", lambda figure: _cycles(figure, names, layers), tall + 0.15 * len(layers)),
        "breakdown": draw("breakdown", lambda figure: _breakdown(figure, names, layers), tall),
        "traffic": draw("traffic", lambda figure: _traffic(figure, names, layers), tall + 0.15 * len(layers)),
    }
    shown = {layer["name"]: weights[layer["name"]] for layer in layers if layer["name"] in weights}
    rows = -(-len(shown) // 3)
    made["histograms"] = draw("histograms", lambda figure: _histograms(figure, shown), 0.4 + 1.7 * rows)
    graph = flow_graph(network)
    if len(graph) <= MOST_NODES:
        placed = _place(graph)
        made["graph"] = draw("graph", lambda figure: _graph(figure, graph, placed), 0.44 * placed.depth + 0.3)
    return made


def short(name: str, most: int = NAME) -> str:
    """A name that fits: the end of it tells layers apart."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


# -------------------------------------------------------------------------------- per layer


def _rows(axis: Axes, names: Sequence[str], unit: str) -> None:
    """Layers from top to bottom."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel(unit)
    axis.grid(axis="x", alpha=0.35)
    axis.set_axisbelow(True)


def _bits(figure: Figure, names: Sequence[str], layers: Sequence[Mapping[str, Any]]) -> None:
    """Bits per weight beside the SQNR of the pruned weights."""
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    bits = [layer["bits_per_weight"] for layer in layers]
    left.barh(range(len(bits)), bits, color=BLUE, height=0.62)
    for row, value in enumerate(bits):
        left.text(value + 0.08, row, f"{value:.2f}", va="center")
    _rows(left, names, "bits per weight, metadata counted")
    left.set_xlim(0, 9.4)
    noise = [layer["weight_sqnr"] for layer in layers]
    known = [(row, value) for row, value in enumerate(noise) if value is not None]
    right.plot([value for _, value in known], [row for row, _ in known], "o", color=VERMILION, markersize=5)
    for row, value in enumerate(noise):
        if value is None:
            right.text(0.02, row, "unchanged", va="center", transform=right.get_yaxis_transform())
    right.set_xlabel("SQNR of the pruned weights, dB")
    right.grid(axis="x", alpha=0.35)


def _cycles(figure: Figure, names: Sequence[str], layers: Sequence[Mapping[str, Any]]) -> None:
    """Cycles on dense PEs and on BitVert PEs, with the speed-up and the utilization."""
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    ours, dense = ([layer[key] for layer in layers] for key in ("cycles", "cycles_dense"))
    rows = np.arange(len(layers))
    left.barh(rows - 0.19, dense, height=0.36, color=GREY, label="dense PEs")
    left.barh(rows + 0.19, ours, height=0.36, color=BLUE, label="BitVert PEs")
    for row, layer in enumerate(layers):
        end = max(ours[row], dense[row]), row
        left.annotate(f"{layer['speedup']:.2f}×", end, (4, 0), textcoords="offset points", va="center")
    _rows(left, names, "cycles of one sample")
    left.margins(x=0.12)
    left.legend(loc="best", frameon=False)
    used = [100 * layer["utilization"] for layer in layers]
    right.plot(used, rows, "D", color=GREEN, markersize=5)
    right.set_xlim(0, 104)
    right.set_xlabel("utilization, %")
    right.grid(axis="x", alpha=0.35)


def _stacked(axis: Axes, rows: NDArray[Any], shares: Mapping[str, Sequence[int]], looks: Mapping[str, tuple[str, str]],
             height: float, labelled: bool) -> None:  # fmt: skip
    left = np.zeros(len(rows))
    for name, values in shares.items():
        color, hatch = looks[name]
        axis.barh(rows, values, height=height, left=left, color=color, hatch=hatch, edgecolor="white", linewidth=0.4,
                  label=name if labelled else None)  # fmt: skip
        left = left + np.asarray(values)


def _breakdown(figure: Figure, names: Sequence[str], layers: Sequence[Mapping[str, Any]]) -> None:
    """What the cycles of each layer are spent on, in percent."""
    axis = figure.subplots()
    shares = {part: [100 * layer["cycle_breakdown"][part] / layer["cycles"] for layer in layers] for part in PARTS}
    _stacked(axis, np.arange(len(layers)), shares, PARTS, 0.62, True)
    _rows(axis, names, "share of the layer's cycles, %")
    axis.set_xlim(0, 100)
    figure.legend(loc="outside upper center", ncols=len(PARTS), frameon=False)


def _traffic(figure: Figure, names: Sequence[str], layers: Sequence[Mapping[str, Any]]) -> None:
    """Bytes over the memory ports, dense above BitVert."""
    axis = figure.subplots()
    rows = np.arange(len(layers))
    for offset, key in ((-0.19, "memory_traffic_dense"), (0.19, "memory_traffic")):
        shares = {port: [layer[key][port] / 1024 for layer in layers] for port in PORTS}
        _stacked(axis, rows + offset, shares, PORTS, 0.36, key == "memory_traffic")
    _rows(axis, names, "KiB of one sample: dense PEs above, BitVert PEs below")
    figure.legend(loc="outside upper center", ncols=len(PORTS), frameon=False)


def _histograms(figure: Figure, weights: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]) -> None:
    """INT8 weights before and after, four values to a bin."""
    axes = figure.subplots(-(-len(weights) // 3), 3, squeeze=False).flat
    edges = np.arange(-128, 129, 4) - 0.5
    for (name, counts), axis in zip(weights.items(), axes, strict=False):
        before, after = (100 * count.reshape(-1, 4).sum(axis=1) / count.sum() for count in counts)
        axis.stairs(before, edges, fill=True, color=GREY, label="INT8")
        axis.stairs(after, edges, color=BLUE, linewidth=1.2, label="pruned")
        axis.set_title(f"{short(name)}, {counts[0].sum():,} weights")
        axis.set_xlim(-129, 128)
    for axis in list(axes):
        axis.set_axis_off()
    figure.supylabel("% of the weights", fontsize=9)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)


def _numbers(axis: Axes, side: str, values: Sequence[float]) -> None:
    """The numbers of the axis "x" or "y" as people write them; a logarithmic scale if they are far apart."""
    line = axis.xaxis if side == "x" else axis.yaxis
    if 0 < 5 * min(values) < max(values):
        axis.set(**{f"{side}scale": "log"})
        line.set_major_locator(LogLocator(subs=(1, 2, 5)))
        line.set_minor_formatter(NullFormatter())
    line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 100 else f"{value:g}"))


def front(figure: Figure, designs: Sequence[Mapping[str, Any]]) -> None:
    """Designs of an exploration, the Pareto front filled: answers over cycles, area, traffic; area over cycles."""
    scored = all(design["accuracy"] is not None for design in designs)
    answers = "top-1, %" if scored else "divergence of the answers"
    scales = {"cycles": 1.0, "transistors": 1e6, "traffic": 1024.0, "accuracy": 0.01, "divergence": 1.0}
    names = {"cycles": "cycles of a sample", "transistors": "million transistors", "traffic": "KiB of memory traffic"}
    panels = [(x, "accuracy" if scored else "divergence") for x in ("cycles", "transistors", "traffic")]
    for axis, (x, y) in zip(figure.subplots(2, 2).flat, [*panels, ("cycles", "transistors")], strict=True):
        for best, colour, filled, label in ((False, GREY, "none", "measured"), (True, BLUE, BLUE, "Pareto front")):
            some = [design for design in designs if design["best"] == best]
            xs, ys = ([design[key] / scales[key] for design in some] for key in (x, y))
            axis.scatter(xs, ys, s=22, edgecolors=colour, facecolors=filled, label=label)
        axis.set(xlabel=names[x], ylabel=names.get(y, answers))
        for side, key in (("x", x), ("y", y)):
            if key != "accuracy":
                _numbers(axis, side, [design[key] / scales[key] for design in designs])
        axis.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)


# -------------------------------------------------------------------------------- graph


def flow_graph(network: Network) -> networkx.DiGraph:
    """Steps, inputs and outputs as nodes (`label`, `kind`), tensors as edges."""
    graph = networkx.DiGraph()
    maker: dict[str, str] = {}
    for name in network.inputs:
        graph.add_node(f"in {name}", label=name, kind="input")
        maker[name] = f"in {name}"
    for number, step in enumerate(network.steps):
        node = f"step {number}"
        graph.add_node(node, label=_label(step), kind="array" if isinstance(step, ArrayLayer) else "host")
        inputs, outputs = (
            ((step.input,), (step.output,)) if isinstance(step, ArrayLayer) else (step.inputs, step.outputs)
        )
        graph.add_edges_from((maker[name], node) for name in inputs if name in maker)
        maker |= dict.fromkeys(outputs, node)
    for name in network.outputs:
        graph.add_node(f"out {name}", label=name, kind="output")
        if name in maker:
            graph.add_edge(maker[name], f"out {name}")
    return graph


def _label(step: ArrayLayer | HostSegment) -> str:
    if isinstance(step, ArrayLayer):
        return f"{short(step.name)}: {step.op} to {'×'.join(map(str, step.output_shape))}"
    counted: dict[str, int] = {}
    for name in step.operators:
        if name not in ("QuantizeLinear", "DequantizeLinear"):
            counted[name] = counted.get(name, 0) + 1
    parts = [name if count == 1 else f"{count}× {name}" for name, count in counted.items()]
    return short(", ".join(parts[:4]) + (", …" if len(parts) > 4 else ""), 52) if parts else "quantize, dequantize"


@dataclass(frozen=True)
class _Placed:
    """Column and row of every node, the vertical lane of every edge that passes rows by, and the extent."""

    at: dict[str, tuple[int, int]]
    lanes: dict[tuple[str, str], int]
    depth: int
    width: int


def _place(graph: networkx.DiGraph) -> _Placed:
    at: dict[str, tuple[int, int]] = {}
    width = 1
    generations = list(networkx.topological_generations(graph))
    for row, nodes in enumerate(generations):
        width = max(width, len(nodes))
        at |= {node: (column, row) for column, node in enumerate(nodes)}
    lanes: dict[tuple[str, str], int] = {}
    ends: list[int] = []  # the row in which each lane becomes free
    for start, end in sorted(graph.edges, key=lambda edge: (at[edge[0]][1], at[edge[1]][1])):
        first, last = at[start][1], at[end][1]
        if last - first > 1:
            lane = next((i for i, free in enumerate(ends) if free <= first), len(ends))
            ends[lane : lane + 1] = [last]
            lanes[start, end] = lane
    return _Placed(at, lanes, len(generations), width)


BOXES = {  # kind: fill, edge, width of the edge, style of the edge
    "array": ("#d6e9f5", BLUE, 1.8, "-"), "host": ("#fdf1d8", ORANGE, 1.0, "--"),
    "input": ("white", "black", 1.0, ":"), "output": ("white", "black", 1.0, ":"),
}  # fmt: skip


def _graph(figure: Figure, graph: networkx.DiGraph, placed: _Placed) -> None:
    """Boxes from top to bottom, in the order data takes; edges that pass rows by run on the right."""
    axis = figure.subplots()
    half = 0.47
    right = placed.width - 1 + half
    most = max(placed.lanes.values(), default=-1) + 2
    for (start, end), lane in placed.lanes.items():
        (x0, y0), (x1, y1) = placed.at[start], placed.at[end]
        x = right + 0.03 * (lane + 1)
        axis.plot([x0 + half, x, x, x1 + half], [y0, y0, y1 - 0.12, y1 - 0.12], color="#4a525b", linewidth=0.9)
        axis.plot([x1 + half + 0.008], [y1 - 0.12], marker="<", color="#4a525b", markersize=4)
    for start, end in graph.edges:
        if (start, end) not in placed.lanes:
            (x0, y0), (x1, y1) = placed.at[start], placed.at[end]
            axis.annotate("", (x1, y1 - 0.33), (x0, y0 + 0.33), arrowprops={"arrowstyle": "-|>", "linewidth": 0.9})
    for node, (x, y) in placed.at.items():
        fill, edge, width, style = BOXES[graph.nodes[node]["kind"]]
        axis.add_patch(FancyBboxPatch(
            (x - half + 0.03, y - 0.27), 2 * half - 0.06, 0.54, boxstyle="round,pad=0.03,rounding_size=0.05",
            facecolor=fill, edgecolor=edge, linewidth=width, linestyle=style,
        ))  # fmt: skip
        kind = graph.nodes[node]["kind"]
        label = f"{kind} · {graph.nodes[node]['label']}"
        axis.text(x, y, short(label, max(16, 96 // placed.width)), ha="center", va="center")
    axis.set_xlim(-half - 0.02, right + 0.03 * most)
    axis.set_ylim(placed.depth - 0.5, -0.5)
    axis.set_axis_off()
