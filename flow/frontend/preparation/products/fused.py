"""Fused operators of ONNX Runtime's own domain: their products, and the rest as standard operators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.frontend.preparation.products.maker import Maker
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


# -------------------------------------------------------------------------------- Attention


def attention(maker: Maker, node: onnx.NodeProto) -> bool:
    """ONNX Runtime's Attention with constant weights, without rotation: its input products and the rest."""
    if node.domain != DOMAIN or node.op_type != "Attention":
        return False
    weights, bias = maker.values(node.input[1]), maker.values(node_input(node, 2))
    mask = maker.shape(node_input(node, 3)) if node_input(node, 3) else ()
    if weights is None or weights.ndim != 2 or (node_input(node, 2) and bias is None) or not _plain(node):
        return False
    if (node_input(node, 3) and (mask is None or len(mask) != 2)) or (lengths := _lengths(maker, node)) is None:
        return False
    heads, sizes = attribute(node, "num_heads", 0), list(attribute(node, "qkv_hidden_sizes", []))
    sizes = sizes or [weights.shape[1] // 3] * 3
    if heads < 1 or len(sizes) != 3 or sum(sizes) != weights.shape[1] or any(size % heads for size in sizes):
        return False
    ends = np.cumsum([0, *sizes])
    parts = []
    for part, begin, end in zip(("query", "key", "value"), ends, ends[1:], strict=False):
        tensor = maker.node("MatMul", [node.input[0], maker.constant(f"{part}_weights", weights[:, begin:end])], part)
        if bias is not None:
            tensor = maker.node("Add", [tensor, maker.constant(f"{part}_bias", bias[begin:end])], f"{part}_sum")
        tensor = maker.reshape(tensor, [0, 0, heads, (end - begin) // heads], f"{part}_heads")
        parts.append(maker.transpose(tensor, QUERY, f"{part}_first"))
    parts[1:] = _with_past(maker, node, parts[1:])
    parts[1] = maker.transpose(parts[1], (0, 1, 3, 2), "key_columns")
    scale = attribute(node, "scale", 0.0) or 1 / np.sqrt(sizes[0] / heads)
    scores = maker.node("MatMul", parts[:2], "scores")
    scores = maker.node("Mul", [scores, maker.constant("scale", np.float32(scale))], "scaled")
    if node_input(node, 3):
        scores = maker.node("Add", [scores, _mask(maker, node)], "masked")
    if attribute(node, "unidirectional", 0):
        scores = maker.node("Add", [scores, maker.constant("later", _later(*lengths))], "causal")
    if node_input(node, 5):
        scores = maker.node("Add", [scores, node.input[5]], "biased")
    mixed = maker.node("MatMul", [maker.node("Softmax", [scores], "shares", axis=-1), parts[2]], "mixed")
    mixed = maker.transpose(mixed, QUERY, "rows")
    maker.reshape(mixed, [0, 0, sizes[2]], "joined", node.output[0])
    return True


QUERY = (0, 2, 1, 3)  # to [batch, heads, tokens, size]
ATTRIBUTES = {"do_rotary": 0, "past_present_share_buffer": 0, "rotary_embedding_dim": 0}
UNDERSTOOD = {*ATTRIBUTES, "mask_filter_value", "num_heads", "qkv_hidden_sizes", "scale", "unidirectional"}


def _plain(node: onnx.NodeProto) -> bool:
    """Whether every attribute is understood, and the past has its own length."""
    known = all(entry.name in UNDERSTOOD for entry in node.attribute)
    same = all(attribute(node, name, 0) == value for name, value in ATTRIBUTES.items())
    return known and same and not node_input(node, 6)


def _lengths(maker: Maker, node: onnx.NodeProto) -> tuple[int, int] | None:
    """The tokens of the node, and of its past; None if it needs them, and they are not known."""
    past = node_input(node, 4)
    if not attribute(node, "unidirectional", 0) and not past:
        return 0, 0
    alike = [each.input[0] for each in maker.graph.model.graph.node if each.op_type == node.op_type]
    data, before = maker.measured(node.input[0], alike), maker.shape(past) if past else (2, None, 1, 0, 1)
    if data is None or before is None or len(data) != 3 or len(before) != 5:
        return None
    tokens, length = data[1], before[3]
    return None if tokens is None or length is None else (tokens, length)


def _later(tokens: int, past: int) -> NDArray[np.float32]:
    """What is added to the scores, float32 [tokens, past + tokens]: a token does not see those behind it."""
    seen = np.tri(tokens, past + tokens, past, dtype=bool)
    return np.where(seen, np.float32(0), np.finfo(np.float32).min)


def _with_past(maker: Maker, node: onnx.NodeProto, parts: list[str]) -> list[str]:
    """Key and value [batch, heads, tokens, size] behind those of the past [2, batch, heads, past, size], if any.

    Both together are the node's second output.
    """
    first = maker.constant("first_axis", np.array([0], np.int64))
    if node_input(node, 4):
        for place, before in enumerate(maker.split(node.input[4], "past", 0, [1, 1])):
            before = maker.node("Squeeze", [before, first], f"before_{place}")
            parts[place] = maker.node("Concat", [before, parts[place]], f"all_{place}", axis=2)
    if len(node.output) > 1 and node.output[1]:
        both = [maker.node("Unsqueeze", [part, first], f"present_{place}") for place, part in enumerate(parts)]
        maker.node("Concat", both, "present", node.output[1], axis=0)
    return parts


def _mask(maker: Maker, node: onnx.NodeProto) -> str:
    """What is added to the scores: 0 where the mask [batch, tokens] is above zero."""
    zero = maker.constant("zero", np.int32(0))
    low = maker.constant("filter", np.float32(attribute(node, "mask_filter_value", -10000.0)))
    seen = maker.node("Greater", [node.input[3], zero], "seen")
    added = maker.node("Where", [seen, maker.constant("none", np.float32(0)), low], "filtered")
    return maker.node("Unsqueeze", [added, maker.constant("axes", np.array([1, 2], np.int64))], "mask")
