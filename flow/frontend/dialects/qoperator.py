"""Integer operators of the QOperator form, QLinearConv and others: DequantizeLinear, float operator, QuantizeLinear."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from flow.frontend.dialects.rewriting import Rewriting
from flow.onnxtools.graph import attribute, node_input, node_name, opset

TRACED = 16  # nodes from a pool back to a convolution, at most
SAME_AXES = ("MaxPool", "QLinearAdd", "QLinearAveragePool", "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid")


def _attributes(node: onnx.NodeProto, *left_out: str) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name not in left_out}


def _input(r: Rewriting, node: onnx.NodeProto, first: int, last: int = 0) -> str:
    """The real numbers of an operand given as codes, scale and zero point from input `first` on.

    `last`: the number of axes of an operand whose channels are its last axis; they become axis 1.
    """
    codes, scale, zero = (node_input(node, first + index) for index in range(3))
    if last and codes not in r.channels_first:
        r.channels_first[codes] = r.step("Transpose", [codes], codes, perm=[0, last - 1, *range(1, last - 1)])
    return r.dequantized(r.channels_first[codes] if last else codes, scale, zero)


def _axes(r: Rewriting, node: onnx.NodeProto) -> int | None:
    """The number of axes if the operator has its channels last, else 0; None if it is not known."""
    if not attribute(node, "channels_last", 0):
        return 0
    if node.op_type == "QLinearConv":
        return len(r.graph.constants[node.input[3]].dims)
    if kernel := attribute(node, "kernel_shape", []):
        return len(kernel) + 2
    before = r.graph.producer(node.input[0])
    for _ in range(TRACED):  # operators of the same axes, back to a convolution
        if before is None or before.op_type == "QLinearConv":
            break
        before = r.graph.producer(node_input(before, 0)) if before.op_type in SAME_AXES else None
    return _axes(r, before) or None if before is not None else None


def _finish(
    r: Rewriting, node: onnx.NodeProto, op: str, inputs: list[str], quantization: int, last: int = 0, **attributes: Any
) -> bool:
    """The float operator and the QuantizeLinear, whose scale and zero point are inputs `quantization` and the next.

    `last`: the number of axes of an output whose channels are to be its last axis.
    """
    real = r.node(op, inputs, r.name(f"{node.output[0]}_real"), node_name(node), **attributes)
    scale, zero = node_input(node, quantization), node_input(node, quantization + 1)
    pair = [r.scalar(scale), r.zero(zero, like=node_input(node, 2))]
    if last:
        codes = r.channels_first[node.output[0]] = r.step("QuantizeLinear", [real, *pair], node.output[0])
        r.node("Transpose", [codes], node.output[0], perm=[0, *range(2, last), 1])
    else:
        r.node("QuantizeLinear", [real, *pair], node.output[0])
    return True


def _bias(r: Rewriting, name: str, scales: tuple[str, str], factor: float = 1.0) -> str:
    """The real numbers of an int32 bias [channels] at the scale input scale x weight scale x factor."""
    found = [r.graph.constant(scale) for scale in scales]
    codes = r.graph.constant(name)
    if found[0] is None or found[1] is None or codes is None:
        product = r.step("Mul", list(scales), f"{name}_scale")
        real = r.step("Cast", [name], f"{name}_real", to=onnx.TensorProto.FLOAT)
        return r.step("Mul", [real, product], f"{name}_scaled")
    product = (found[0].reshape(-1) * found[1].reshape(-1) * np.float32(factor)).astype(np.float32)
    if product.size == 1:
        product = product.reshape(())
    if codes.ndim > 1 and codes.size == codes.shape[-1]:
        codes = codes.reshape(-1)
        name = r.constant(f"{name}_flat", codes)
    scale = r.constant(f"{name}_scale", product)
    if product.ndim:
        return r.step("DequantizeLinear", [name, scale], name, axis=max(codes.ndim - 1, 0))
    return r.step("DequantizeLinear", [name, scale], name)


def convolution(r: Rewriting, node: onnx.NodeProto) -> bool:
    """QLinearConv."""
    if node.input[3] not in r.graph.constants or (axes := _axes(r, node)) is None:
        return False
    inputs = [_input(r, node, 0, axes), r.dequantized(node.input[3], node.input[4], node.input[5], axis=0)]
    if bias := node_input(node, 8):
        inputs.append(_bias(r, bias, (node.input[1], node.input[4])))
    return _finish(r, node, "Conv", inputs, 6, axes, **_attributes(node, "channels_last"))


def matrix_product(r: Rewriting, node: onnx.NodeProto) -> bool:
    """QLinearMatMul; scales for each row of the left operand are left to the host."""
    left = r.graph.constant(node.input[1])
    if left is None or left.size != 1:
        return False
    right = r.dequantized(node.input[3], node.input[4], node.input[5], axis=-1)
    return _finish(r, node, "MatMul", [_input(r, node, 0), right], 6)


def gemm(r: Rewriting, node: onnx.NodeProto) -> bool:
    """QGemm, whose alpha belongs to the scale of the weights."""
    alpha, scale = attribute(node, "alpha", 1.0), r.graph.constant(node.input[4])
    if scale is None:
        return False
    weight_scale = node.input[4]
    if alpha != 1.0:
        weight_scale = r.constant(f"{node_name(node)}_alpha", (scale * np.float32(alpha)).astype(scale.dtype))
    axis = 0 if attribute(node, "transB", 0) else 1
    inputs = [_input(r, node, 0), r.dequantized(node.input[3], weight_scale, node.input[5], axis=axis)]
    if bias := node_input(node, 6):
        inputs.append(_bias(r, bias, (node.input[1], node.input[4]), alpha))
    attributes = _attributes(node, "alpha")
    if node_input(node, 7):
        return _finish(r, node, "Gemm", inputs, 7, **attributes)
    r.node("Gemm", inputs, node.output[0], node_name(node), **attributes)
    return True


def two_operands(r: Rewriting, node: onnx.NodeProto) -> bool:
    """QLinearAdd and QLinearMul."""
    op = node.op_type.removeprefix("QLinear")
    return _finish(r, node, op, [_input(r, node, 0), _input(r, node, 3)], 6)


def one_operand(r: Rewriting, node: onnx.NodeProto) -> bool:
    """QLinearAveragePool, QLinearGlobalAveragePool, QLinearLeakyRelu and QLinearSigmoid."""
    if (axes := _axes(r, node)) is None:
        return False
    op = node.op_type.removeprefix("QLinear")
    return _finish(r, node, op, [_input(r, node, 0, axes)], 3, axes, **_attributes(node, "channels_last"))


def softmax(r: Rewriting, node: onnx.NodeProto) -> bool:
    """QLinearSoftmax; as of an opset before 13, over all axes from `axis` on."""
    axis, real = attribute(node, "axis", -1), _input(r, node, 0)
    if attribute(node, "opset", 13) >= 13 or axis == -1:
        return _finish(r, node, "Softmax", [real], 3, axis=axis)
    out = node.output[0]
    flat = r.step("Softmax", [r.step("Flatten", [real], out, axis=axis)], out, axis=-1)
    return _finish(r, node, "Reshape", [flat, r.step("Shape", [real], out)], 3)


def mean(r: Rewriting, node: onnx.NodeProto) -> bool:
    """QLinearReduceMean; its axes became an input with opset 18."""
    axes, keep = attribute(node, "axes", None), attribute(node, "keepdims", 1)
    inputs, attributes = [_input(r, node, 0)], {"keepdims": keep}
    if axes is not None and opset(r.model) >= 18:
        inputs.append(r.constant(f"{node.output[0]}_axes", np.array(axes, np.int64)))
    elif axes is not None:
        attributes["axes"] = axes
    return _finish(r, node, "ReduceMean", inputs, 3, **attributes)


def concat(r: Rewriting, node: onnx.NodeProto) -> bool:
    """QLinearConcat: the output's scale and zero point come first."""
    parts = [_input(r, node, first) for first in range(2, len(node.input), 3)]
    return _finish(r, node, "Concat", parts, 0, axis=attribute(node, "axis", 1))


def where(r: Rewriting, node: onnx.NodeProto) -> bool:
    """QLinearWhere."""
    return _finish(r, node, "Where", [node.input[0], _input(r, node, 1), _input(r, node, 4)], 7)
