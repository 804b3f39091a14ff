"""The network as a graph of layers and host segments, drawn from left to right."""

from __future__ import annotations

from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Literal

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from flow.network.model import ArrayLayer, HostSegment, Network
from flow.output.report.style import BLUE, ORANGE

MAX_NODES = 240  # larger graphs are not drawn
NAME = 30  # characters of a layer's name that are shown


def short(name: str, most: int = NAME) -> str:
    """The last `most` characters of a name, whose end tells layers apart."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


@dataclass(frozen=True)
class Node:
    """A step, an input or an output of the network, and the nodes its tensors go to, in the order they were found."""

    label: str
    kind: Literal["array", "host", "input", "output"]
    after: dict[str, None] = field(default_factory=dict)  # a set that keeps the order


Graph = dict[str, Node]


def flow_graph(network: Network) -> Graph:
    """Steps, inputs and outputs as nodes by name, tensors as edges between them."""
    graph: Graph = {}
    maker: dict[str, str] = {}
    for name in network.inputs:
        graph[f"in {name}"] = Node(name, "input")
        maker[name] = f"in {name}"
    for number, step in enumerate(network.steps):
        node = f"step {number}"
        graph[node] = Node(_label(step), "array" if isinstance(step, ArrayLayer) else "host")
        inputs, outputs = (
            ((step.input,), (step.output,)) if isinstance(step, ArrayLayer) else (step.inputs, step.outputs)
        )
        for name in inputs:
            if name in maker:
                graph[maker[name]].after[node] = None
        maker |= dict.fromkeys(outputs, node)
    for name in network.outputs:
        graph[f"out {name}"] = Node(name, "output")
        if name in maker:
            graph[maker[name]].after[f"out {name}"] = None
    return graph


def edges(graph: Graph) -> list[tuple[str, str]]:
    return [(start, end) for start, node in graph.items() for end in node.after]


def generations(graph: Graph) -> list[tuple[str, ...]]:
    """The nodes in rows: a node has an edge from the row before its own, and edges from earlier rows only."""
    sorter = TopologicalSorter[str](dict.fromkeys(graph, ()))
    for start, end in edges(graph):
        sorter.add(end, start)
    sorter.prepare()
    rows = []
    while sorter.is_active():
        rows.append(sorter.get_ready())
        sorter.done(*rows[-1])
    return rows


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
    """Column and row of every node, the vertical lane of every edge that skips rows, and the extent."""

    at: dict[str, tuple[int, int]]
    lanes: dict[tuple[str, str], int]
    depth: int
    width: int


def place_steps(graph: Graph) -> _Placed:
    at: dict[str, tuple[int, int]] = {}
    width = 1
    rows = generations(graph)
    for row, nodes in enumerate(rows):
        width = max(width, len(nodes))
        at |= {node: (column, row) for column, node in enumerate(nodes)}
    lanes: dict[tuple[str, str], int] = {}
    ends: list[int] = []  # the row in which each lane becomes free
    for start, end in sorted(edges(graph), key=lambda edge: (at[edge[0]][1], at[edge[1]][1])):
        first, last = at[start][1], at[end][1]
        if last - first > 1:
            lane = next((i for i, free in enumerate(ends) if free <= first), len(ends))
            ends[lane : lane + 1] = [last]
            lanes[start, end] = lane
    return _Placed(at, lanes, len(rows), width)


BOXES = {  # kind: fill, edge, width of the edge, style of the edge
    "array": ("#d6e9f5", BLUE, 1.8, "-"), "host": ("#fdf1d8", ORANGE, 1.0, "--"),
    "input": ("white", "black", 1.0, ":"), "output": ("white", "black", 1.0, ":"),
}  # fmt: skip


def draw_graph(figure: Figure, graph: Graph, placed: _Placed) -> None:
    """Boxes from top to bottom, in the order data takes; edges that skip rows run on the right."""
    axis = figure.subplots()
    half = 0.47
    right = placed.width - 1 + half
    most = max(placed.lanes.values(), default=-1) + 2
    for (start, end), lane in placed.lanes.items():
        (x0, y0), (x1, y1) = placed.at[start], placed.at[end]
        x = right + 0.03 * (lane + 1)
        axis.plot([x0 + half, x, x, x1 + half], [y0, y0, y1 - 0.12, y1 - 0.12], color="#4a525b", linewidth=0.9)
        axis.plot([x1 + half + 0.008], [y1 - 0.12], marker="<", color="#4a525b", markersize=4)
    for start, end in edges(graph):
        if (start, end) not in placed.lanes:
            (x0, y0), (x1, y1) = placed.at[start], placed.at[end]
            axis.annotate("", (x1, y1 - 0.33), (x0, y0 + 0.33), arrowprops={"arrowstyle": "-|>", "linewidth": 0.9})
    for node, (x, y) in placed.at.items():
        fill, edge, width, style = BOXES[graph[node].kind]
        axis.add_patch(FancyBboxPatch(
            (x - half + 0.03, y - 0.27), 2 * half - 0.06, 0.54, boxstyle="round,pad=0.03,rounding_size=0.05",
            facecolor=fill, edgecolor=edge, linewidth=width, linestyle=style,
        ))  # fmt: skip
        label = f"{graph[node].kind} · {graph[node].label}"
        axis.text(x, y, short(label, max(16, 96 // placed.width)), ha="center", va="center")
    axis.set_xlim(-half - 0.02, right + 0.03 * most)
    axis.set_ylim(placed.depth - 0.5, -0.5)
    axis.set_axis_off()
