"""Nodes and constants that replace a node, named after it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from flow.errors import FlowError
from flow.onnxtools import external
from flow.onnxtools.edit import drop_unused_nodes, replace_nodes
from flow.onnxtools.graph import Graph, names, node_name
from flow.onnxtools.shapes import infer, sample_shapes

Shape = tuple[int | None, ...]


class Maker:
    """What replaces one node after another: `begin` a node, and make its replacement with `node` and `constant`.

    Nodes and tensors are named `NAME/part` after the replaced node NAME, so that every product can be traced.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.graph = model, Graph.of(model)
        self.gone: set[str] = set()  # outputs of further nodes that are replaced, too
        self.made: list[onnx.NodeProto] = []
        self._names = {name for name in names(model.graph) if isinstance(name, str)}
        self._shapes: dict[str, Shape] | None = None
        self._measured: dict[str, Shape | None] = {}
        self._stem = ""

    def begin(self, node: onnx.NodeProto) -> None:
        self._stem, self.made = node_name(node), []

    def unused(self, part: str) -> str:
        name = f"{self._stem}/{part}"
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def constant(self, part: str, array: Any) -> str:
        name = self.unused(part)
        self.model.graph.initializer.append(external.constant(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, inputs: Sequence[str], part: str, output: str = "", **attributes: Any) -> str:
        """Make a node of one output; returns the output. Part "" is for the product: it has the node's own name."""
        name = self.unused(part) if part else self._stem
        output = output or (name if part else self.unused("product"))
        self.made.append(helper.make_node(op, inputs, [output], name, **attributes))
        return output

    def split(self, source: str, part: str, axis: int, sizes: Sequence[int]) -> list[str]:
        """Make a Split along an axis; returns its outputs, or the source itself if there is but one."""
        if len(sizes) == 1:
            return [source]
        outputs = [self.unused(f"{part}_{index}") for index in range(len(sizes))]
        lengths = self.constant(f"{part}_sizes", np.array(sizes, np.int64))
        self.made.append(helper.make_node("Split", [source, lengths], outputs, self.unused(part), axis=axis))
        return outputs

    def reshape(self, source: str, shape: Sequence[int], part: str, output: str = "") -> str:
        return self.node("Reshape", [source, self.constant(f"{part}_shape", np.array(shape, np.int64))], part, output)

    def transpose(self, source: str, order: Sequence[int], part: str, output: str = "") -> str:
        """Make a Transpose, unless the order stays as it is and the output needs no name of its own."""
        if list(order) == sorted(order) and not output:
            return source
        return self.node("Transpose", [source], part, output, perm=list(order))

    def rename(self, source: str, output: str) -> None:
        """Give what the last node makes its final name."""
        assert self.made[-1].output[0] == source
        self.made[-1].output[0] = output

    def shape(self, name: str) -> Shape | None:
        """The shape of a tensor, None for an axis that grows with the batch; None where it is not known."""
        if self._shapes is None:
            self._shapes = _shapes(self.model)
        if name in self.graph.constants:
            return tuple(self.graph.constants[name].dims)
        return self._shapes.get(name)

    def measured(self, name: str, others: Iterable[str] = ()) -> Shape | None:
        """As `shape`, but from a run on one sample where inference stops at operators of other domains.

        The same run measures `others` that are not known. None if it fails.
        """
        if self.shape(name) is None and name not in self._measured:
            self._measured[name] = None
            unknown = [each for each in {name: None, **dict.fromkeys(others)} if self.shape(each) is None]
            with contextlib.suppress(FlowError):
                self._measured |= infer(self.model, unknown).shapes
        return self.shape(name) or self._measured[name]

    def values(self, name: str) -> NDArray[np.float32] | None:
        """The values of a float32 constant of which others may be made; None for any other tensor."""
        tensor = self.graph.constants.get(name)
        if tensor is None or tensor.data_type != TensorProto.FLOAT or external.stays(tensor):
            return None
        return self.graph.constant(name)


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    one = sample_shapes(model)
    try:
        two = sample_shapes(model, 2)
    except FlowError:  # the network takes one sample only
        two = one
    fixed = all(
        dims[0].HasField("dim_value") for value in model.graph.input if (dims := value.type.tensor_type.shape.dim)
    )
    if fixed:
        two = one
    shapes: dict[str, Shape] = dict(one)
    for name, shape in one.items():
        other = two.get(name)
        if other is not None and len(other) == len(shape):
            shapes[name] = tuple(a if a == b else None for a, b in zip(shape, other, strict=True))
        elif not fixed:
            shapes[name] = tuple(None for _ in shape)
    return shapes


Rule = Callable[[Maker, onnx.NodeProto], bool]


def replace(model: onnx.ModelProto, rule: Rule) -> None:
    """Apply a rule to every node: it makes what replaces the node, or returns False."""
    maker = Maker(model)
    nodes: list[onnx.NodeProto] = []
    changed = False
    for node in list(model.graph.node):
        maker.begin(node)
        if node.output[0] in maker.gone:
            continue
        made = rule(maker, node)
        nodes += maker.made if made else [node]
        changed = changed or made
    if changed:
        replace_nodes(model, nodes)
        drop_unused_nodes(model)
