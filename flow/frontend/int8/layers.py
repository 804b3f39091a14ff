"""Array layers, read from a QDQ model: weights, scales, biases, clamps, windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from flow.frontend.sums import BiasAdd, bias_add
from flow.network.model import INT8_MAX, INT8_MIN, OFFSET, ArrayLayer, Quantization, Window, as_int8
from flow.onnxtools.graph import Graph, attribute, is_dequantize, node_input, node_name, quantized_constant
from flow.onnxtools.shapes import Types, auto_pads

BIAS_SCALE_TOLERANCE = 1e-5


class OnHost(Exception):  # noqa: N818 - a decision, not an error
    """Why a Conv, Gemm or MatMul cannot run on the array."""


@dataclass(frozen=True)
class _Weights:
    tensor: str
    codes: NDArray[np.int8]  # [channels, reduction]
    scales: NDArray[np.float32]  # [channels]


def array_layer(graph: Graph, types: Types, node: onnx.NodeProto) -> tuple[ArrayLayer, list[onnx.NodeProto]]:
    """The array layer of `node` and the nodes it takes over; raises `OnHost` with the reason if there is none."""
    data, input_quantization = _layer_input(graph, types, node)
    weights = layer_weights(graph, node)
    channels = len(weights.codes)
    bias, add = _layer_sum(graph, node, input_quantization.scale * weights.scales)
    output, quantization, clamp, covered = _layer_output(graph, [node] if add is None else [node, add.node])
    window = _window(graph, types, node, data) if node.op_type == "Conv" else None
    result = node.output[0] if add is None else add.output
    for name in (data, result):
        shape = types.shapes.get(name, ())
        if len(shape) < 2 or shape[0] != 1:
            raise OnHost(f"tensor '{name}' has shape {list(shape)} for one sample: axis 0 must be the batch")
    assert len(bias) == channels
    layer = ArrayLayer(
        name=node_name(node), op=node.op_type, input=data, output=output, weight_tensor=weights.tensor,
        weights=weights.codes, weight_scales=weights.scales, bias=bias, input_quantization=input_quantization,
        output_quantization=quantization, clamp=clamp, input_shape=types.shapes[data][1:],
        output_shape=types.shapes[result][1:], window=window,
        groups=attribute(node, "group", 1) if window else 1,
    )  # fmt: skip
    return layer, covered


def _layer_input(graph: Graph, types: Types, node: onnx.NodeProto) -> tuple[str, Quantization]:
    dequantize = graph.producer(node.input[0])
    if dequantize is None or not is_dequantize(dequantize):
        raise OnHost("its input is not quantized (no DequantizeLinear before it)")
    name = dequantize.input[0]
    if name in graph.constants or name not in types.declared:
        raise OnHost("its input is constant or of unknown type")
    kind = types.declared[name].type.tensor_type.elem_type
    quantization = _quantization(graph, dequantize, kind)
    if quantization is None:
        raise OnHost("its input is not quantized to 8 bits with one constant scale per tensor")
    return name, quantization


def _quantization(graph: Graph, node: onnx.NodeProto, kind: int) -> Quantization | None:
    """The 8-bit per-tensor parameters of a QuantizeLinear or DequantizeLinear; None for anything else."""
    scale, zero_name = graph.constant(node_input(node, 1)), node_input(node, 2)
    zero = graph.constant(zero_name) if zero_name else np.zeros(1, np.int64)
    if scale is None or zero is None or scale.dtype != np.float32 or scale.size != 1 or zero.size != 1:
        return None
    if kind not in (TensorProto.INT8, TensorProto.UINT8) or not 0 < scale.item() < np.inf:
        return None
    unsigned = kind == TensorProto.UINT8
    return Quantization(np.float32(scale.item()), int(zero.item()) - (OFFSET if unsigned else 0), unsigned)


def tensor_quantization(graph: Graph, node: onnx.NodeProto) -> Quantization | None:
    """The 8-bit per-tensor parameters of a QuantizeLinear; None for anything else."""
    zero = graph.constants.get(node_input(node, 2))
    default_kind = attribute(node, "output_dtype", 0) or TensorProto.UINT8
    return _quantization(graph, node, zero.data_type if zero is not None else default_kind)


def layer_weights(graph: Graph, node: onnx.NodeProto) -> _Weights:
    """The weights of an array operator; raises `OnHost` with the reason if the array cannot take them."""
    weights = quantized_constant(graph, node_input(node, 1))
    if weights is None:
        raise OnHost("its weights are not quantized constants")
    codes, scale = weights.codes, weights.scale
    if codes.dtype not in (np.int8, np.uint8) or attribute(weights.node, "block_size", 0):
        raise OnHost(f"its weights are {codes.dtype} or quantized in blocks, not 8 bits per channel")
    middle = OFFSET if codes.dtype == np.uint8 else 0
    if scale is None or weights.zero is None or scale.dtype != np.float32:
        raise OnHost("its weight scale or zero point is not a constant")
    if not np.isfinite(scale).all():
        raise OnHost("its weight scales are not finite")
    if np.any(weights.zero != middle):
        raise OnHost(f"its weights are not symmetric (a zero point other than {middle})")
    if node.op_type != "Conv" and codes.ndim != 2:
        raise OnHost(f"its weights have {codes.ndim} axes, not 2")
    if node.op_type == "Gemm" and (
        attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0 or attribute(node, "transA", 0)
    ):
        raise OnHost("alpha and beta must be 1 and transA 0")
    channel_axis = output_axis(node)
    rows = to_rows(node, codes)
    axis = attribute(weights.node, "axis", 1) % codes.ndim
    if scale.size != 1 and (axis != channel_axis or scale.size != len(rows)):
        raise OnHost(f"its weight scales run along axis {axis}, not along the output channels")
    signed = as_int8(rows) if rows.dtype == np.uint8 else rows
    scales = np.broadcast_to(scale.reshape(-1), (len(rows),)).astype(np.float32)
    return _Weights(weights.tensor, np.ascontiguousarray(signed), scales)


def output_axis(node: onnx.NodeProto) -> int:
    return 0 if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)) else 1


def to_rows(node: onnx.NodeProto, tensor: NDArray[Any]) -> NDArray[Any]:
    """ONNX weights -> [channels, reduction], the reduction in kernel position, input channel order."""
    if node.op_type == "Conv":
        return np.moveaxis(tensor, 1, -1).reshape(tensor.shape[0], -1)
    return tensor if output_axis(node) == 0 else tensor.T


def from_rows(node: onnx.NodeProto, rows: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The inverse of `to_rows`: [channels, reduction] -> ONNX weights of `shape`."""
    if node.op_type == "Conv":
        return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
    return rows if output_axis(node) == 0 else rows.T


def bias_name(graph: Graph, node: onnx.NodeProto) -> str:
    """The tensor a layer's bias is read from, by itself or, behind a MatMul, by an Add; "" without one."""
    if node.op_type != "MatMul":
        return node_input(node, 2)
    add = bias_add(graph, node)
    return "" if add is None else add.bias


def _layer_sum(
    graph: Graph, node: onnx.NodeProto, scales: NDArray[np.float32]
) -> tuple[NDArray[np.int32], BiasAdd | None]:
    """Bias codes, int32 [channels], and the Add that has them; an Add of anything else stays on the host."""
    add = bias_add(graph, node)
    try:
        return layer_bias(graph, node, scales), add
    except OnHost:
        if add is None:
            raise
        return np.zeros(len(scales), np.int32), None


def layer_bias(
    graph: Graph, node: onnx.NodeProto, scales: NDArray[np.float32], strict: bool = True
) -> NDArray[np.int32]:
    """Bias codes, int32 [channels]; with `strict`, `OnHost` unless their scale is `scales`."""
    name = bias_name(graph, node)
    if not name:
        return np.zeros(len(scales), np.int32)
    bias = quantized_constant(graph, name)
    if bias is None or bias.codes.dtype != np.int32:
        raise OnHost("its bias is not a quantized int32 constant")
    codes, scale = bias.codes, bias.scale
    if scale is None or bias.zero is None or np.any(bias.zero):
        raise OnHost("its bias has a scale that is not constant, or a zero point")
    if codes.size not in (1, len(scales)) or scale.size not in (1, len(scales)):
        raise OnHost(f"its bias has {codes.size} values for {len(scales)} channels")
    if strict and not np.allclose(scale.reshape(-1), scales, rtol=BIAS_SCALE_TOLERANCE, atol=0):
        raise OnHost("the scale of its bias is not input scale x weight scale")
    return np.ascontiguousarray(np.broadcast_to(codes.reshape(-1), (len(scales),)))


def array_nodes(graph: Graph, product: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A MatMul and the nodes behind it that an array layer takes over: bias, activation and QuantizeLinear."""
    add = bias_add(graph, product)
    return _layer_output(graph, [product] if add is None else [product, add.node])[3]


def _layer_output(
    graph: Graph, sums: list[onnx.NodeProto]
) -> tuple[str, Quantization | None, tuple[int, int], list[onnx.NodeProto]]:
    """Output tensor, its quantization, clamp and the nodes taken over; raw unless a QuantizeLinear alone reads it.

    `sums`: the layer's node, and the Add of its bias.
    """
    raw = (sums[-1].output[0], None, (INT8_MIN, INT8_MAX), sums)
    covered = list(sums)
    after = graph.only_consumer(sums[-1].output[0])
    activation = after if after is not None and after.op_type in ("Relu", "Clip") else None
    if activation is not None:
        covered.append(activation)
        after = graph.only_consumer(activation.output[0])
    if after is None or after.op_type != "QuantizeLinear" or after.input[0] != covered[-1].output[0]:
        return raw
    quantization = tensor_quantization(graph, after)
    clamp = activation_clamp(graph, activation, quantization) if quantization is not None else None
    if quantization is None or clamp is None:
        return raw
    return after.output[0], quantization, clamp, [*covered, after]


def activation_clamp(graph: Graph, activation: onnx.NodeProto | None, output: Quantization) -> tuple[int, int] | None:
    """The clamp (least, largest code) of a ReLU or Clip in the int8 domain; None when a bound is not constant."""
    if activation is None:
        return INT8_MIN, INT8_MAX
    if activation.op_type == "Relu":
        return max(INT8_MIN, output.zero_point), INT8_MAX
    codes = []
    for index, default in ((1, INT8_MIN), (2, INT8_MAX)):
        name = node_input(activation, index)
        bound = graph.constant(name) if name else None
        if name and bound is None:
            return None
        if bound is None:
            codes.append(default)
        else:
            with np.errstate(over="ignore"):
                steps = np.rint(np.float32(bound.item()) / output.scale)
            codes.append(int(np.clip(float(steps) + output.zero_point, INT8_MIN, INT8_MAX)))
    return codes[0], codes[1]


def _window(graph: Graph, types: Types, node: onnx.NodeProto, data: str) -> Window:
    dequantize = graph.producers[node.input[1]]
    kernel = tuple(graph.constants[dequantize.input[0]].dims[2:])
    shape = types.shapes.get(data, ())
    axes = len(kernel)
    if len(shape) != axes + 2 or not 1 <= axes <= 3:
        raise OnHost(f"its kernel has {axes} axes; 1, 2 or 3 are supported")
    window = node_window(node, kernel, shape[2:])
    if min(window.pads, default=0) < 0:
        raise OnHost(f"it has negative pads {list(window.pads)}")
    return window


def node_window(node: onnx.NodeProto, kernel: tuple[int, ...], sizes: tuple[int, ...]) -> Window:
    """The window of a Conv or a pool over spatial axes of these sizes, with auto_pad resolved."""
    axes = len(kernel)
    strides = tuple(attribute(node, "strides", [1] * axes))
    dilations = tuple(attribute(node, "dilations", [1] * axes))
    pads = tuple(attribute(node, "pads", [0] * 2 * axes))
    mode = attribute(node, "auto_pad", b"NOTSET").decode()
    if mode != "NOTSET":
        pads = auto_pads(mode, sizes, kernel, strides, dilations)
    return Window(kernel, strides, pads, dilations)
