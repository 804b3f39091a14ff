"""Fused operators of ONNX Runtime's own domain: their products, and the rest as standard operators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from flow.frontend.products.maker import Maker
from flow.onnxtools.graph import attribute, node_input, opset

DOMAIN = "com.microsoft"
PLAIN = ("HardSwish", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")
PARAMETERS = {
    "Clip": ("min", "max"), "Elu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "LeakyRelu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
}  # fmt: skip
FUSED = {
    "FusedConv": {"activation", "activation_params"},
    "FusedGemm": {"activation", "activation_alpha", "activation_beta", "activation_gamma"},
    "FusedMatMul": {"alpha", "transA", "transB", "transBatchA", "transBatchB"},
    "FusedMatMulActivation": {
        "activation", "activation_alpha", "activation_axis", "activation_beta", "activation_gamma", "alpha", "transA",
        "transB", "transBatchA", "transBatchB",
    },
}  # fmt: skip


def fused(maker: Maker, node: onnx.NodeProto) -> bool:
    """A fused product with constant weights."""
    if node.domain != DOMAIN or node.op_type not in FUSED or maker.values(node.input[1]) is None:
        return False
    kind = attribute(node, "activation", b"").decode()
    if not _understood(maker, kind) or any(attribute(node, name, 0) for name in ("transBatchA", "transBatchB")):
        return False
    own = FUSED[node.op_type]
    kept = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute if entry.name not in own}
    if node.op_type == "FusedConv":
        tensor = maker.node("Conv", list(node.input[:3]), "", **kept)
        parameters = list(attribute(node, "activation_params", []))
        if node_input(node, 3):
            tensor = maker.node("Add", [tensor, node.input[3]], "sum")
    else:
        parameters = [entry for name in ("alpha", "beta", "gamma")
                      if (entry := attribute(node, f"activation_{name}", None)) is not None]  # fmt: skip
        made = maker.node("Gemm", list(node.input), "", **kept) if node.op_type == "FusedGemm" else _matmul(maker, node)
        if made is None:
            return False
        tensor = made
    if kind:
        tensor = activation(maker, tensor, kind, parameters, "activation")
    maker.rename(tensor, node.output[0])
    return True


def _matmul(maker: Maker, node: onnx.NodeProto) -> str | None:
    """The product of a FusedMatMul: alpha and a transposed constant are in the weights."""
    values, shape = maker.values(node.input[1]), maker.shape(node.input[0])
    assert values is not None
    data = node.input[0]
    if attribute(node, "transA", 0):
        if shape is None or len(shape) < 2:
            return None
        rank = len(shape)
        data = maker.transpose(data, [*range(rank - 2), rank - 1, rank - 2], "data")
    if attribute(node, "transB", 0) and values.ndim > 1:
        values = np.swapaxes(values, -1, -2)
    weights = maker.constant("weights", (values * attribute(node, "alpha", 1.0)).astype(np.float32))
    return maker.node("MatMul", [data, weights], "")


def _understood(maker: Maker, kind: str) -> bool:
    least = 14 if kind == "HardSwish" else 13
    return not kind or (kind in (*PLAIN, *PARAMETERS) and opset(maker.model) >= least)


def activation(maker: Maker, source: str, kind: str, parameters: Sequence[float], part: str) -> str:
    """Make an activation of one of the kinds in PLAIN and PARAMETERS; missing parameters have ONNX's defaults."""
    if kind == "Clip":
        limits = [
            maker.constant(f"{part}_{name}", np.float32(value))
            for name, value in zip(("min", "max"), parameters, strict=False)
        ]
        return maker.node("Clip", [source, *limits], part)
    return maker.node(kind, [source], part, "", **dict(zip(PARAMETERS.get(kind, ()), parameters, strict=False)))
