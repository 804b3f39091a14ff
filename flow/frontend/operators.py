"""Which operators the array computes, and which only move codes."""

from __future__ import annotations

import onnx

from flow.onnxtools.graph import attribute, is_standard, reads

ARRAY_OPERATORS = ("Conv", "Gemm", "MatMul")
ACTIVATIONS = ("Relu", "Clip")  # that the array computes behind a layer
# Operators that only move or select 8-bit codes, so that they may come before DequantizeLinear as well.
LAYOUT_OPERATORS = ("Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
# Operators whose 8-bit output has the scale of their input: they move, select or average codes.
SAME_SCALE = (
    *LAYOUT_OPERATORS, "AveragePool", "DepthToSpace", "GlobalMaxPool", "Pad", "Resize", "Slice", "SpaceToDepth",
    "Split", "Upsample",
)  # fmt: skip

# Operators that the host computes on 8-bit tensors between two array layers.
BETWEEN_LAYERS = (
    "Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "Identity",
    "MaxPool", "Pad", "Relu", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose",
    "Unsqueeze", "Upsample",
)  # fmt: skip
# Operators whose results depend on the same element of their operands alone.
ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "Mod")
FUNCTIONS = (
    "Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Reciprocal", "Sqrt", "Exp", "Log", "Erf", "Sin", "Cos", "Tan",
    "Asin", "Acos", "Atan", "Sinh", "Cosh", "Tanh", "Asinh", "Acosh", "Atanh",
)  # fmt: skip
CURVES = (
    "Relu", "Clip", "LeakyRelu", "PRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid",
    "HardSwish", "Swish", "Mish", "Softplus", "Softsign", "Shrink",
)  # fmt: skip
CHOICES = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Not", "And", "Or", "Where", "Cast", "CastLike")
ELEMENTWISE = frozenset((*ARITHMETIC, *FUNCTIONS, *CURVES, *CHOICES))
FOREIGN = {"com.microsoft": ("Gelu", "QuickGelu")}


def read_by_layers(model: onnx.ModelProto) -> set[str]:
    """The tensors that nodes of the array's operators read, also through other nodes; nodes are in order."""
    found = set[str]()
    for node in reversed(model.graph.node):
        if (node.op_type in ARRAY_OPERATORS and is_standard(node)) or found.intersection(node.output):
            found.update(reads(node))
    return found


def is_interpolation(node: onnx.NodeProto) -> bool:
    """Whether a node interpolates linearly between the elements of its input."""
    return node.op_type == "Resize" and is_standard(node) and attribute(node, "mode", b"nearest") == b"linear"


def is_elementwise(node: onnx.NodeProto) -> bool:
    """Whether an element of the output depends on the same element of the inputs alone."""
    return node.op_type in (ELEMENTWISE if is_standard(node) else FOREIGN.get(node.domain, ()))
