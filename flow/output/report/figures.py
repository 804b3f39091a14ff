"""The figures of report.html, each an SVG to put into the page: the same report gives the same bytes.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; hatches and labels say the same in grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from flow.network.model import Network
from flow.output.report.graph import MAX_NODES, draw_graph, flow_graph, place_steps, short
from flow.output.report.layers import LayerReport
from flow.output.report.style import BLUE, GREEN, GREY, PARTS, PORTS, VERMILION, draw

HISTOGRAMS = 12  # layers that have one, those with the most weights


def figures(
    network: Network, layers: Sequence[LayerReport], weights: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]
) -> dict[str, str]:
    """All figures by name.

    `layers` are from the report of `bbs compile`, which includes dense PEs; `weights` counts, for some layers, the
    weights at each INT8 value before and after pruning, int64 [256] each.
    """
    names = [short(layer.name) for layer in layers]
    tall = 0.9 + 0.3 * len(layers)
    drawn = {
        "bits": draw("bits", lambda figure: _bits(figure, names, layers), tall),
        "cycles": draw("cycles", lambda figure: _cycles(figure, names, layers), tall + 0.15 * len(layers)),
        "breakdown": draw("breakdown", lambda figure: _breakdown(figure, names, layers), tall),
        "traffic": draw("traffic", lambda figure: _traffic(figure, names, layers), tall + 0.15 * len(layers)),
    }
    shown = {layer.name: weights[layer.name] for layer in layers if layer.name in weights}
    rows = -(-len(shown) // 3)
    drawn["histograms"] = draw("histograms", lambda figure: _histograms(figure, shown), 0.4 + 1.7 * rows)
    graph = flow_graph(network)
    if len(graph) <= MAX_NODES:
        placed = place_steps(graph)
        drawn["graph"] = draw("graph", lambda figure: draw_graph(figure, graph, placed), 0.44 * placed.depth + 0.3)
    return drawn


def _rows(axis: Axes, names: Sequence[str], unit: str) -> None:
    """Layers from top to bottom."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel(unit)
    axis.grid(axis="x", alpha=0.35)
    axis.set_axisbelow(True)


def _bits(figure: Figure, names: Sequence[str], layers: Sequence[LayerReport]) -> None:
    """Bits per weight beside the SQNR of the pruned weights."""
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    bits = [layer.bits_per_weight for layer in layers]
    left.barh(range(len(bits)), bits, color=BLUE, height=0.62)
    for row, value in enumerate(bits):
        left.text(value + 0.08, row, f"{value:.2f}", va="center")
    _rows(left, names, "bits per weight, metadata counted")
    left.set_xlim(0, 9.4)
    noise = [layer.weight_sqnr for layer in layers]
    changed = {row: value for row, value in enumerate(noise) if value is not None}
    right.plot([*changed.values()], [*changed], "o", color=VERMILION, markersize=5)
    for row in range(len(noise)):
        if row not in changed:
            right.text(0.02, row, "unchanged", va="center", transform=right.get_yaxis_transform())
    right.set_xlabel("SQNR of the pruned weights, dB")
    right.grid(axis="x", alpha=0.35)


def _cycles(figure: Figure, names: Sequence[str], layers: Sequence[LayerReport]) -> None:
    """Cycles on dense PEs and on BitVert PEs, with the speed-up and the utilization."""
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    ours, dense = [layer.cycles for layer in layers], [layer.cycles_dense or 0 for layer in layers]
    rows = np.arange(len(layers))
    left.barh(rows - 0.19, dense, height=0.36, color=GREY, label="dense PEs")
    left.barh(rows + 0.19, ours, height=0.36, color=BLUE, label="BitVert PEs")
    for row, layer in enumerate(layers):
        end = max(ours[row], dense[row]), row
        left.annotate(f"{layer.speedup or 0:.2f}×", end, (4, 0), textcoords="offset points", va="center")
    _rows(left, names, "cycles of one sample")
    left.margins(x=0.12)
    left.legend(loc="best", frameon=False)
    used = [100 * layer.utilization for layer in layers]
    right.plot(used, rows, "D", color=GREEN, markersize=5)
    right.set_xlim(0, 104)
    right.set_xlabel("utilization, %")
    right.grid(axis="x", alpha=0.35)


def _stacked(axis: Axes, rows: NDArray[Any], shares: Mapping[str, Sequence[float]],
             looks: Mapping[str, tuple[str, str]], height: float, labelled: bool) -> None:  # fmt: skip
    left = np.zeros(len(rows))
    for name, values in shares.items():
        color, hatch = looks[name]
        axis.barh(rows, values, height=height, left=left, color=color, hatch=hatch, edgecolor="white", linewidth=0.4,
                  label=name if labelled else None)  # fmt: skip
        left = left + np.asarray(values)


def _breakdown(figure: Figure, names: Sequence[str], layers: Sequence[LayerReport]) -> None:
    """What the cycles of each layer are spent on, in percent."""
    axis = figure.subplots()
    shares = {part: [100 * getattr(layer.cycle_breakdown, part) / layer.cycles for layer in layers] for part in PARTS}
    _stacked(axis, np.arange(len(layers)), shares, PARTS, 0.62, True)
    _rows(axis, names, "share of the layer's cycles, %")
    axis.set_xlim(0, 100)
    figure.legend(loc="outside upper center", ncols=len(PARTS), frameon=False)


def _traffic(figure: Figure, names: Sequence[str], layers: Sequence[LayerReport]) -> None:
    """Bytes over the memory ports, dense above BitVert."""
    axis = figure.subplots()
    rows = np.arange(len(layers))
    dense, ours = [layer.memory_traffic_dense or {} for layer in layers], [layer.memory_traffic for layer in layers]
    for offset, traffic in ((-0.19, dense), (0.19, ours)):
        shares = {port: [layer[port] / 1024 for layer in traffic] for port in PORTS}
        _stacked(axis, rows + offset, shares, PORTS, 0.36, traffic is ours)
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
