"""Whether a network computes each sample of a batch by itself, as its operators tell without a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx

from flow.errors import FlowError
from flow.frontend.operators import is_elementwise
from flow.onnxtools.graph import Graph, attribute, graph_inputs, is_standard, node_input, opset, reads, subgraphs
from flow.onnxtools.shapes import sample_shapes

# Each of these computes a sample of its first input by itself, whatever its attributes are.
BY_SAMPLE = frozenset(
    (
        "AveragePool", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool",
        "GroupNormalization", "Identity", "InstanceNormalization", "LRN", "LpPool", "MaxPool", "SpaceToDepth",
    )
)  # fmt: skip
ALONG_AN_AXIS = {"ArgMax": 0, "ArgMin": 0, "Gather": 0, "Hardmax": -1, "LayerNormalization": -1, "LogSoftmax": -1,
                 "Softmax": -1, "Split": 0, "TopK": -1}  # fmt: skip
OVER_AXES = frozenset(
    ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
     "ReduceSum", "ReduceSumSquare", "Squeeze", "Unsqueeze")
)  # fmt: skip
OLD_SOFTMAX = 13  # before, Softmax flattens what follows its axis, by default 1


def computes_apart(model: onnx.ModelProto) -> bool:
    """Whether every output has one part for each sample along axis 0, which no other sample changes.

    Every input has the open batch as axis 0. True is proven by operators whose rule is known here, and by inferred
    shapes; False may only mean that these do not tell.
    """
    try:
        shapes = sample_shapes(model)
    except FlowError:
        return False
    graph = Graph.of(model)
    known = _Known(graph, shapes, opset(model), {value.name for value in graph_inputs(model)})
    return all(map(known.adds, model.graph.node)) and all(value.name in known.parted for value in model.graph.output)


@dataclass
class _Known:
    """`parted`: tensors with a part for each sample along axis 0. `fixed`: those that no sample changes."""

    graph: Graph
    shapes: dict[str, tuple[int, ...]]  # of one sample
    opset: int
    parted: set[str]
    fixed: set[str] = field(default_factory=set)

    def adds(self, node: onnx.NodeProto) -> bool:
        """Add a node's outputs; False if they are of neither kind, as far as is known."""
        varying = [name for name in reads(node) if name not in self.graph.constants and name not in self.fixed]
        if not varying:
            self.fixed.update(node.output)
            return True
        if any(subgraphs(node)) or not self.parted.issuperset(varying):
            return False
        if is_elementwise(node):
            apart = self._broadcasts(node, varying)
        else:
            rule = self._rule(node) if is_standard(node) else None
            apart = rule is not None and rule(node) and varying[0] == node.input[0]
            apart = apart and (len(varying) == 1 or node.op_type in ("Concat", "MatMul"))
        self.parted.update(node.output if apart else ())
        return apart

    def _rule(self, node: onnx.NodeProto) -> Callable[[onnx.NodeProto], bool] | None:
        if node.op_type in BY_SAMPLE:
            return lambda node: True
        if node.op_type in ALONG_AN_AXIS:
            return self._along
        if node.op_type in OVER_AXES:
            return self._over
        return {
            "BatchNormalization": self._normalizes, "Concat": self._joins, "DequantizeLinear": self._scales,
            "Dropout": self._normalizes, "Flatten": self._flattens, "Gemm": self._gemm, "MatMul": self._matmul,
            "Pad": self._pads, "QuantizeLinear": self._scales, "Reshape": self._reshapes, "Resize": self._resizes,
            "Slice": self._slices, "Transpose": self._transposes, "Upsample": self._resizes,
        }.get(node.op_type)  # fmt: skip

    def _rank(self, name: str) -> int:
        """The number of axes, 0 if it is not known."""
        return len(self._shape(name) or ())

    def _shape(self, name: str) -> tuple[int, ...] | None:
        tensor = self.graph.constants.get(name)
        return self.shapes.get(name) if tensor is None else tuple(tensor.dims)

    def _numbers(self, node: onnx.NodeProto, place: int, name: str) -> list[int] | None:
        """Whole numbers that are an attribute, or a constant input; None if they are neither."""
        given = attribute(node, name, None)
        if given is not None:
            return [int(each) for each in np.atleast_1d(given)]
        value = self.graph.constant(node_input(node, place)) if node_input(node, place) else None
        return None if value is None else [int(each) for each in np.atleast_1d(value)]

    def _broadcasts(self, node: onnx.NodeProto, varying: list[str]) -> bool:
        """Whether axis 0 of all operands is that of the result, and what is fixed does not reach along it."""
        operands = {name: self._shape(name) for name in node.input if name}
        if any(shape is None for shape in operands.values()):
            return False
        rank = max(len(shape) for shape in operands.values() if shape is not None)
        return all(
            shape is not None and (len(shape) == rank if name in varying else len(shape) < rank or shape[0] == 1)
            for name, shape in operands.items()
        )

    def _along(self, node: onnx.NodeProto) -> bool:
        default = ALONG_AN_AXIS[node.op_type]
        if self.opset < OLD_SOFTMAX and node.op_type in ("Hardmax", "LogSoftmax", "Softmax"):
            default = 1
        axis, rank = attribute(node, "axis", default), self._rank(node.input[0])
        return rank > 0 and axis % rank != 0

    def _over(self, node: onnx.NodeProto) -> bool:
        axes, rank = self._numbers(node, 1, "axes"), self._rank(node.input[0])
        if node.op_type == "Unsqueeze":
            rank = self._rank(node.output[0])
        return bool(axes) and rank > 0 and all(axis % rank != 0 for axis in axes or ())

    def _normalizes(self, node: onnx.NodeProto) -> bool:
        """BatchNormalization and Dropout that do not learn."""
        return not attribute(node, "training_mode", 0) and not node_input(node, 2 if node.op_type == "Dropout" else 5)

    def _joins(self, node: onnx.NodeProto) -> bool:
        rank = self._rank(node.input[0])
        return rank > 0 and attribute(node, "axis", 0) % rank != 0 and self.parted.issuperset(node.input)

    def _scales(self, node: onnx.NodeProto) -> bool:
        scale, rank = self._shape(node_input(node, 1)), self._rank(node.input[0])
        single = scale is not None and int(np.prod(scale)) == 1
        return single or (rank > 0 and scale is not None and attribute(node, "axis", 1) % rank != 0)

    def _flattens(self, node: onnx.NodeProto) -> bool:
        return bool(attribute(node, "axis", 1) == 1)

    def _gemm(self, node: onnx.NodeProto) -> bool:
        bias = self._shape(node_input(node, 2)) if node_input(node, 2) else ()
        return not attribute(node, "transA", 0) and bias is not None and (len(bias) < 2 or bias[0] == 1)

    def _matmul(self, node: onnx.NodeProto) -> bool:
        """A matrix of constants, or one for each sample."""
        left, right = (self._rank(node_input(node, place)) for place in range(2))
        if node_input(node, 1) in self.parted:
            return left == right > 2
        return left >= 2 and right == 2

    def _pads(self, node: onnx.NodeProto) -> bool:
        pads = self._numbers(node, 1, "pads")
        return bool(pads) and pads is not None and not pads[0] and not pads[len(pads) // 2] and not node_input(node, 3)

    def _reshapes(self, node: onnx.NodeProto) -> bool:
        """What keeps the batch, or has the size of one sample behind it."""
        wanted, shape = self._numbers(node, 1, "shape"), self._shape(node.input[0])
        if not wanted or shape is None or attribute(node, "allowzero", 0):
            return False
        if wanted[0] == 0:
            return True
        sizes = [shape[place] if size == 0 and place < len(shape) else size for place, size in enumerate(wanted)][1:]
        return wanted[0] == -1 and min(sizes, default=1) > 0 and int(np.prod(sizes)) == int(np.prod(shape[1:]))

    def _resizes(self, node: onnx.NodeProto) -> bool:
        place = 1 if node.op_type == "Upsample" or self.opset < 11 else 2
        scales = self.graph.constant(node_input(node, place)) if node_input(node, place) else None
        plain = not node_input(node, 3) and attribute(node, "axes", None) is None
        return plain and scales is not None and scales.size > 0 and float(scales[0]) == 1.0

    def _slices(self, node: onnx.NodeProto) -> bool:
        starts, ends = self._numbers(node, 1, "starts"), self._numbers(node, 2, "ends")
        rank = self._rank(node.input[0])
        if starts is None or ends is None or not rank:
            return False
        axes = self._numbers(node, 3, "axes")
        if axes is None and (node_input(node, 3) or attribute(node, "axes", None) is not None):
            return False
        steps = self._numbers(node, 4, "steps") if node_input(node, 4) else [1] * len(starts)
        along = list(range(len(starts))) if axes is None else axes
        cut = [place for place, axis in enumerate(along) if axis % rank == 0]
        return steps is not None and all(
            (starts[place], steps[place]) == (0, 1) and ends[place] >= 2**31 - 1 for place in cut
        )

    def _transposes(self, node: onnx.NodeProto) -> bool:
        order = attribute(node, "perm", [])
        return len(order) > 0 and order[0] == 0
