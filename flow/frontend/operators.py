"""Which operators the array computes, and which only move codes."""

from __future__ import annotations

ARRAY_OPERATORS = ("Conv", "Gemm", "MatMul")
ACTIVATIONS = ("Relu", "Clip")  # that the array computes behind a layer
# Operators that only move or select 8-bit codes, so that they may come before DequantizeLinear as well.
LAYOUT_OPERATORS = ("Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
# Operators whose 8-bit output has the scale of their input: they move, select or average codes.
SAME_SCALE = (
    *LAYOUT_OPERATORS, "AveragePool", "DepthToSpace", "Pad", "Resize", "Slice", "SpaceToDepth", "Split", "Upsample",
)  # fmt: skip

# Operators that the host computes on 8-bit tensors between two array layers.
BETWEEN_LAYERS = (
    "Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "Flatten", "GlobalAveragePool", "Identity", "MaxPool",
    "Pad", "Relu", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze",
    "Upsample",
)  # fmt: skip
