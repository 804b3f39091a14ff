"""All products of a float model with constants, as the array takes them."""

from __future__ import annotations

import onnx

from flow.frontend.preparation.products import fused, linear, matrices, recurrent, transposed
from flow.frontend.preparation.products.maker import replace
from flow.frontend.sums import flatten_biases, rename_fused_shapes

RULES = (
    linear.linear, fused.fused, fused.attention, matrices.rows_of_gemm, matrices.gemm, matrices.matmul, matrices.einsum,
    matrices.bias, transposed.conv_transpose, recurrent.recurrent,
)  # fmt: skip


def products(model: onnx.ModelProto) -> None:
    """Rewrite products with constants as Conv, Gemm or MatMul with a constant matrix, in place.

    `model` is float, of opset 13 or later, its constants folded. The network computes the same, but for the rounding of
    float32. What takes the place of a node NAME is named NAME or NAME/part.
    """
    for rule in RULES:
        replace(model, rule)
    rename_fused_shapes(model)
    flatten_biases(model)
