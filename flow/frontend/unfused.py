"""LayerNormalization as exporters write it that do not have the operator: means, squares, a root and a quotient.

    y = (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias

With or without the mean taken out (RMSNorm); scale and bias in any order, or none. The operands of sums and products
may be in any order, the quotient a product with a reciprocal, the square a product, and what is equal computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.onnxtools.graph import Graph, attribute, is_dequantize, is_standard, node_input

Constant = Callable[[str], "NDArray[np.generic] | None"]


@dataclass(frozen=True)
class Unfused:
    """A normalization of the last axis of tensor `x`; `output` is what the last of its `nodes` makes."""

    x: str
    output: str
    epsilon: float
    centred: bool
    gain: NDArray[np.float64]
    summand: NDArray[np.float64]
    nodes: tuple[onnx.NodeProto, ...] = field(repr=False)


def unfused(graph: Graph, constant: Constant, ranks: Callable[[str], int]) -> Iterator[Unfused]:
    """All of them, in the order of their quotients. `constant`: a tensor's values; `ranks`: its number of axes."""
    for node in graph.model.graph.node:
        if node.op_type in ("Div", "Mul") and is_standard(node):
            reader = _Reader(graph, constant, ranks)
            if (begun := reader.quotient(node)) is not None and (found := reader.whole(node, *begun)) is not None:
                yield found


class _Reader:
    """Reads backwards from one quotient; `nodes` are those that were recognised."""

    def __init__(self, graph: Graph, constant: Constant, ranks: Callable[[str], int]) -> None:
        self.graph, self.constant, self.ranks = graph, constant, ranks
        self.nodes: list[onnx.NodeProto] = []

    def quotient(self, node: onnx.NodeProto) -> tuple[str, float, bool] | None:
        """x, epsilon and whether the mean is taken out, of the node that divides by the root."""
        a, b = node.input[0], node.input[1]
        for above, below in [(a, b)] if node.op_type == "Div" else [(a, b), (b, a)]:
            self.nodes = [node]
            root = below if node.op_type == "Div" else self._reciprocal(below)
            squared = None if root is None else self._radicand(root)
            if squared is None:
                continue
            name, epsilon = squared
            if self._same(name, above):
                x = self._centred(above)
                self._centred(name)
                return (above, epsilon, False) if x is None else (x, epsilon, True)
        return None

    def whole(self, node: onnx.NodeProto, x: str, epsilon: float, centred: bool) -> Unfused | None:
        """With the scale and bias behind it; None if others read what is inside."""
        output, gain, summand = node.output[0], np.ones(1), np.zeros(1)
        while (after := self.graph.only_consumer(output)) is not None:
            other = self._other(after, output)
            if other is None or max(other.shape[:-1], default=1) > 1 or not is_standard(after):
                break
            each = other.astype(np.float64).reshape(-1)
            if after.op_type == "Mul":
                gain, summand = gain * each, summand * each
            elif after.op_type == "Add":
                gain, summand = np.broadcast_arrays(gain, summand + each)
            else:
                break
            self.nodes.append(after)
            output = after.output[0]
        inside = {name for each in self.nodes for name in each.output} - {output}
        known = {each.output[0] for each in self.nodes}
        for name in inside:
            readers = self.graph.consumers.get(name, [])
            if name in self.graph.outputs or any(reader.output[0] not in known for reader in readers):
                return None
        return Unfused(x, output, epsilon, centred, gain, summand, tuple(self.nodes))

    def _other(self, node: onnx.NodeProto, name: str) -> NDArray[np.generic] | None:
        """The constant that a node joins with this tensor."""
        others = [each for each in node.input if each != name]
        return self.constant(others[0]) if len(node.input) == 2 and len(others) == 1 else None

    def _made(self, name: str, *kinds: str) -> onnx.NodeProto | None:
        """The node of one of these operators that makes a tensor; it is then one of `nodes`."""
        node = self.graph.producer(name)
        if node is None or node.op_type not in kinds or not is_standard(node):
            return None
        if node not in self.nodes:
            self.nodes.append(node)
        return node

    def _reciprocal(self, name: str) -> str | None:
        node = self._made(name, "Reciprocal", "Div")
        if node is None or node.op_type == "Reciprocal":
            return None if node is None else str(node.input[0])
        return str(node.input[1]) if self._scalar(node.input[0]) == 1 else None

    def _radicand(self, name: str) -> tuple[str, float] | None:
        """What is squared, and epsilon, of the root with this name."""
        root = self._made(name, "Sqrt", "Pow")
        if root is None or (root.op_type == "Pow" and self._scalar(root.input[1]) != 0.5):
            return None
        added = self._made(root.input[0], "Add")
        if added is None:
            return None
        for mean, other in (added.input, reversed(added.input)):
            epsilon, squares = self._scalar(other), self._mean(mean)
            square = None if epsilon is None or squares is None else self._made(squares, "Pow", "Mul")
            if square is None or epsilon is None:
                continue
            twice = (
                square.input[1] == square.input[0] if square.op_type == "Mul" else self._scalar(square.input[1]) == 2
            )
            if twice:
                return str(square.input[0]), epsilon
        return None

    def _mean(self, name: str) -> str | None:
        """What a mean over the last axis alone is of."""
        node = self._made(name, "ReduceMean")
        if node is None or not attribute(node, "keepdims", 1):
            return None
        axes = attribute(node, "axes", None)
        if axes is None and node_input(node, 1):
            found = self.constant(node_input(node, 1))
            axes = None if found is None else found.reshape(-1).tolist()
        data = str(node.input[0])
        return data if axes is not None and list(axes) in ([-1], [self.ranks(data) - 1]) else None

    def _centred(self, name: str) -> str | None:
        """x, where the tensor is x less its mean."""
        node = self._made(name, "Sub")
        if node is None:
            return None
        mean = self._mean(node.input[1])
        return str(node.input[0]) if mean is not None and self._same(mean, node.input[0]) else None

    def _same(self, name: str, other: str) -> bool:
        """Whether two tensors are equal: one, or dequantized from one, or each less its mean of such."""
        if name == other:
            return True
        first, second = self.graph.producer(name), self.graph.producer(other)
        if first is None or second is None or first.op_type != second.op_type:
            return False
        if is_dequantize(first):
            return first.input[0] == second.input[0] and self._dequantizes(first) == self._dequantizes(second)
        x, again = self._centred(name), self._centred(other)
        return x is not None and again is not None and self._same(x, again)

    def _dequantizes(self, node: onnx.NodeProto) -> list[tuple[float, ...] | None]:
        """The values of scale and zero point."""
        found = [self.constant(name) for name in node.input[1:] if name]
        return [None if value is None else tuple(value.reshape(-1).tolist()) for value in found]

    def _scalar(self, name: str) -> float | None:
        value = self.constant(name)
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None
