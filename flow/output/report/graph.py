"""The network as a graph of layers and host segments, drawn from top to bottom."""

from __future__ import annotations

from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Literal

from flow.network.model import ArrayLayer, HostSegment, Network
from flow.output.report.marks import tag

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
class Placed:
    """Column and row of every node, the vertical lane of every edge that skips rows, and the extent."""

    at: dict[str, tuple[int, int]]
    lanes: dict[tuple[str, str], int]
    depth: int
    width: int


def place_steps(graph: Graph) -> Placed:
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
    return Placed(at, lanes, len(rows), width)


CELL, ROW, BOX = 352, 46, 30  # pixels: width of a network of one branch, height of a row, height of a box in it
NARROW = 236  # width of a box where there are several branches
LANE, LETTER = 9, 6.4  # width of an edge's lane on the right, and of a letter


def draw_graph(graph: Graph, placed: Placed) -> str:
    """Boxes from top to bottom, in the order data takes; edges that skip rows run on the right.

    The box of a layer leads to the layer's row, `layer-NUMBER`.
    """
    cell = CELL if placed.width == 1 else NARROW
    half, middle = cell / 2 - 6, [column * cell + cell / 2 for column in range(placed.width)]
    right = placed.width * cell
    width = right + LANE * (max(placed.lanes.values(), default=-1) + 1) + (6 if placed.lanes else 0)
    drawn: list[str] = []
    for (start, end), lane in placed.lanes.items():
        (x0, y0), (x1, y1) = placed.at[start], placed.at[end]
        turn, begin, arrive = right + LANE * lane + 4, y0 * ROW + ROW / 2, y1 * ROW + ROW / 2 - 6
        path = f"M{middle[x0] + half} {begin}H{turn}V{arrive}H{middle[x1] + half}"
        tip = f"M{middle[x1] + half} {arrive}l6 -3v6Z"
        drawn += [tag("path", class_="edge", d=path), tag("path", class_="tip", d=tip)]
    for start, end in edges(graph):
        if (start, end) not in placed.lanes:
            (x0, y0), (x1, y1) = placed.at[start], placed.at[end]
            begin, arrive = y0 * ROW + (ROW + BOX) / 2, y1 * ROW + (ROW - BOX) / 2
            drawn.append(tag("path", class_="edge", d=f"M{middle[x0]} {begin}L{middle[x1]} {arrive}"))
            drawn.append(tag("path", class_="tip", d=f"M{middle[x1]} {arrive}l-3 -6h6Z"))
    layers = 0
    for name, node in graph.items():
        column, row = placed.at[name]
        label = f"{node.kind} · {node.label}"
        box = tag("rect", x=middle[column] - half, y=row * ROW + (ROW - BOX) / 2, width=2 * half, height=BOX, rx=5)
        shown = short(label, int(2 * half / LETTER))
        words = tag("text", shown, x=middle[column], y=row * ROW + ROW / 2 + 4, text_anchor="middle")
        parts = [tag("title", label), box, words]
        if node.kind == "array":
            drawn.append(tag("a", *parts, href=f"#layer-{layers}", class_="node array"))
            layers += 1
        else:
            drawn.append(tag("g", *parts, class_=f"node {node.kind}"))
    size = {"viewBox": f"0 0 {width:g} {placed.depth * ROW}", "style": f"--natural: {width:g}px"}
    return tag("svg", *drawn, role="img", aria_label="The network", class_="graph", **size)
