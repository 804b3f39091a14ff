"""Biases of a quantized network: int32 in units of s_x * s_w, as the accelerator adds them."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flow.errors import FlowError
from flow.frontend.int8.canonical import canonical, tidy
from flow.frontend.int8.layers import BIAS_SCALE_TOLERANCE, bias_name
from flow.frontend.operators import ARRAY_OPERATORS
from flow.frontend.sums import bias_add, bias_form
from flow.onnxtools.edit import replace_nodes
from flow.onnxtools.graph import Graph, is_dequantize, quantized_constant


def quantize_biases(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Convert biases of INT8 layers, float or of another scale, to int32 in units of input scale x weight scale.

    Returns the model in canonical form and a note for every bias that was changed.
    """
    copy = canonical(model)
    graph = Graph.of(copy)
    nodes: list[onnx.NodeProto] = []
    notes: list[str] = []
    for node in copy.graph.node:
        scales = _bias_scales(node, graph)
        bias = None if scales is None else _real_bias(node, scales, graph)
        add = bias_add(graph, node)
        if scales is not None and bias is not None and (add is None or _fits(graph, node, bias, scales)):
            nodes.append(_quantize_bias(copy, node, bias, scales))
            (node if add is None else add.node).input[2 if add is None else add.place] = nodes[-1].output[0]
            notes.append(f"The bias of {node.op_type} '{node.name}' was quantized to int32.")
        nodes.append(node)
    replace_nodes(copy, nodes)
    tidy(copy)
    return copy, notes


def _bias_scales(node: onnx.NodeProto, graph: Graph) -> NDArray[np.float32] | None:
    """s_x * s_w, float32 [1 or channels], of an INT8 layer with a bias; None for every other node."""
    if node.op_type not in ARRAY_OPERATORS or not bias_name(graph, node):
        return None
    data, weight = (graph.producer(name) for name in node.input[:2])
    if data is None or weight is None or not (is_dequantize(data) and is_dequantize(weight)):
        return None
    factors = [graph.constant(dequantize.input[1]) for dequantize in (data, weight)]
    if factors[0] is None or factors[1] is None or factors[0].size != 1:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        product = (factors[0].reshape(-1) * factors[1].reshape(-1)).astype(np.float32)
    return product if product.size and bool((product > 0).all()) else None


def _real_bias(node: onnx.NodeProto, scales: NDArray[np.float32], graph: Graph) -> NDArray[np.float32] | None:
    """The bias in real numbers if it must be quantized (again); None if it has the right scale or is not constant."""
    name = bias_name(graph, node)
    if (real := graph.constant(name)) is not None:
        return real.reshape(-1)
    stored = quantized_constant(graph, name)
    if stored is None or stored.scale is None or stored.zero is None:
        return None
    codes, scale, zero = stored.codes.reshape(-1), stored.scale.reshape(-1), stored.zero
    if scale.size not in (1, codes.size) or zero.size not in (1, codes.size):
        return None
    alike = scale.size == scales.size or 1 in (scale.size, scales.size)
    if codes.dtype == np.int32 and alike and np.allclose(scale, scales, rtol=BIAS_SCALE_TOLERANCE, atol=0):
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # `_quantize_bias` refuses infinity and NaN
        values: NDArray[np.float32] = ((codes.astype(np.float64) - zero.reshape(-1)) * scale).astype(np.float32)
    return values


def _fits(graph: Graph, node: onnx.NodeProto, bias: NDArray[np.float32], scales: NDArray[np.float32]) -> bool:
    """Whether every sum of a MatMul and its bias fits 32 bits; if not, the Add stays a node of its own."""
    weights = quantized_constant(graph, node.input[1])
    assert weights is not None
    steps = np.abs(bias.astype(np.float64)) / scales if bias.size in (1, scales.size) or scales.size == 1 else np.inf
    return bool(np.all(steps + 256 * 128 * weights.codes.shape[0] < 2**31))  # NaN does not


def _quantize_bias(
    model: onnx.ModelProto, node: onnx.NodeProto, bias: NDArray[np.float32], scales: NDArray[np.float32]
) -> onnx.NodeProto:
    """The DequantizeLinear of an int32 bias for `node`. FlowError if it overflows, or has a wrong size."""
    size = max(bias.size, scales.size)
    if bias.size != scales.size and 1 not in (bias.size, scales.size):
        raise FlowError(
            f"a bias must have one value for each channel, but that of '{node.name}' has {bias.size} for "
            f"{scales.size} weight scales; export the network again"
        )
    codes = np.broadcast_to(np.rint(bias.astype(np.float64) / scales), (size,))
    bad = np.flatnonzero(~((codes >= -(2**31)) & (codes < 2**31)))  # NaN, too
    if bad.size:
        raise FlowError(
            f"biases must fit 32 bits in units of s_x*s_w, but channel {int(bad[0])} of '{node.name}' needs "
            f"{codes[bad[0]]:.0f}; use a larger weight scale"
        )
    stem, form = f"{node.name}_bias_int32", bias_form(model, node, size)
    model.graph.initializer.append(numpy_helper.from_array(codes.astype(np.int32).reshape(form), stem))
    factor = scales if scales.size == size and size > 1 else np.float32(scales[0])
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(factor, np.float32), f"{stem}_scale"))
    output = f"{stem}_dequantized"
    dequantize = helper.make_node("DequantizeLinear", [stem, f"{stem}_scale"], [output], f"{stem}_dequantize")
    if np.ndim(factor):
        dequantize.attribute.append(helper.make_attribute("axis", len(form) - 1))
    return dequantize
