"""Layers written back into a QDQ model, and single layers extracted as models of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.errors import FlowError
from flow.frontend.int8.layers import BIAS_SCALE_TOLERANCE, from_rows, layer_bias, output_axis, to_rows
from flow.frontend.sums import bias_add, bias_form
from flow.network.model import INT8_MAX, INT8_MIN, OFFSET, ArrayLayer, Quantization, as_uint8, by_weights
from flow.onnxtools.edit import between, set_axis
from flow.onnxtools.graph import Graph, node_input, node_name


def layer_model(graph: Graph, layer: ArrayLayer) -> onnx.ModelProto:
    """The part of the QDQ network between the layer's input and output tensors, as a model of its own."""
    kind = _element(layer.input_quantization)
    output = layer.output_quantization
    result = TensorProto.FLOAT if output is None else _element(output)
    return between(
        graph,
        [helper.make_tensor_value_info(layer.input, kind, ["batch", *layer.input_shape])],
        helper.make_tensor_value_info(layer.output, result, ["batch", *layer.output_shape]),
    )


def _element(quantization: Quantization) -> int:
    return int(TensorProto.UINT8 if quantization.unsigned else TensorProto.INT8)


def real_weights(prepared: onnx.ModelProto, layers: Iterable[ArrayLayer]) -> dict[str, NDArray[np.float64]]:
    """The float weights that the layers' int8 weights were rounded from, in units of their scales, by layer name.

    `prepared` is the float network that was quantized. float64 [channels, reduction]; layers whose float weights
    are not found, or do not match, are left out.
    """
    graph = Graph.of(prepared)
    nodes = {node_name(node): node for node in prepared.graph.node}
    found = {}
    for layer in layers:
        node = nodes.get(layer.name)
        weights = graph.constant(node_input(node, 1)) if node is not None else None
        if node is None or weights is None or weights.size != layer.weights.size:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            real = to_rows(node, weights).astype(np.float64) / layer.weight_scales[:, None]
        if real.shape == layer.weights.shape and np.abs(np.clip(real, INT8_MIN, INT8_MAX) - layer.weights).max() < 1:
            found[layer.name] = real
    return found


def with_layers(model: onnx.ModelProto, layers: Iterable[ArrayLayer]) -> onnx.ModelProto:
    """A copy of `model` (of a network or of a single layer) with these layers' weights, scales and biases.

    Values that a layer does not change stay identical, to the byte. FlowError for an unknown layer, weights of another
    shape, or several that are to be shared. A MatMul has its bias in an Add behind it, and gets one if need be.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = Graph.of(copy)
    nodes = {node_name(node): node for node in copy.graph.node}
    for sharing in by_weights(layers):
        first = sharing[0]
        for layer in sharing:
            _check_shape(graph, nodes.get(layer.name), layer)
            _check_shared(first, layer)
        node = nodes[first.name]
        tensor = graph.constants[first.weight_tensor]
        unsigned = tensor.data_type == TensorProto.UINT8
        stored = as_uint8(first.weights) if unsigned else first.weights
        array = np.ascontiguousarray(from_rows(node, stored, tuple(tensor.dims)))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        _set_scales(graph, node, first)
        for layer in sharing:
            _set_bias(graph, nodes[layer.name], layer)
    return copy


def with_real_weights(model: onnx.ModelProto, layer: ArrayLayer, weights: NDArray[np.float64]) -> onnx.ModelProto:
    """A copy of the model of a single layer with float weights [channels, reduction], in units of its weight scales."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = Graph.of(copy)
    node = next(node for node in copy.graph.node if node_name(node) == layer.name)
    real = (weights * layer.weight_scales[:, None]).astype(np.float32)
    shaped = from_rows(node, real, tuple(graph.constants[layer.weight_tensor].dims))
    (node.input[1],) = _add_constants(graph, layer, real_weights=shaped)
    return copy


def _check_shared(first: ArrayLayer, layer: ArrayLayer) -> None:
    alike = layer.weights is first.weights or np.array_equal(layer.weights, first.weights)
    if not (alike and np.array_equal(layer.weight_scales, first.weight_scales)):
        raise FlowError(
            f"layers '{first.name}' and '{layer.name}' share their weights, but got different ones, or other scales; "
            "pass the same for both"
        )


def _check_shape(graph: Graph, node: onnx.NodeProto | None, layer: ArrayLayer) -> None:
    expected = "no such layer"
    if node is not None and layer.weight_tensor in graph.constants:
        dims = tuple(graph.constants[layer.weight_tensor].dims)
        shape = list(to_rows(node, np.empty(dims, np.int8)).shape)
        expected = f"int8 {shape}"
        if list(layer.weights.shape) == shape and layer.weights.dtype == np.int8:
            return
    raise FlowError(
        f"weights must match their layer, but '{layer.name}' got {layer.weights.dtype} "
        f"{list(layer.weights.shape)} for {expected}; pass the layer's own shape"
    )


def _set_scales(graph: Graph, node: onnx.NodeProto, layer: ArrayLayer) -> None:
    dequantize = graph.producers[node.input[1]]
    scale = graph.constant(dequantize.input[1])
    assert scale is not None
    if np.array_equal(np.broadcast_to(scale.reshape(-1), layer.weight_scales.shape), layer.weight_scales):
        return
    kind = helper.tensor_dtype_to_np_dtype(graph.constants[layer.weight_tensor].data_type)
    zeros = np.full(layer.channels, OFFSET if kind == np.uint8 else 0, kind)
    names = _add_constants(graph, layer, weight_scale=layer.weight_scales, weight_zero=zeros)
    dequantize.input[:] = [dequantize.input[0], *names]
    set_axis(dequantize, output_axis(node))


def _set_bias(graph: Graph, node: onnx.NodeProto, layer: ArrayLayer) -> None:
    """Set the bias codes and their scale, s_x * s_w; a layer without a bias gets one if the codes are not zero."""
    scales = (layer.input_quantization.scale * layer.weight_scales).astype(np.float32)
    add = bias_add(graph, node)
    if add is not None and layer.output == node.output[0]:
        add = None  # of something else than a bias, so that it is no part of the layer
    name = node_input(node, 2) if add is None else add.bias
    if not name and not layer.bias.any():
        return
    if name and np.array_equal(layer_bias(graph, node, scales, strict=False), layer.bias):
        scale = graph.constant(graph.producers[name].input[1])
        if scale is not None and np.allclose(scale.reshape(-1), scales, rtol=BIAS_SCALE_TOLERANCE, atol=0):
            return
    form = bias_form(graph.model, node, layer.channels)
    names = _add_constants(graph, layer, bias=layer.bias.reshape(form), bias_scale=scales)
    output = _unused(graph, f"{layer.name}_refined_bias_dequantized")
    position, nodes = list(graph.model.graph.node).index(node), graph.model.graph.node
    own = _free(graph, f"{layer.name}_refined_bias")
    dequantize = helper.make_node("DequantizeLinear", names, [output], own, axis=len(form) - 1)
    nodes.insert(position, dequantize)
    here = nodes[position + 1]
    if node.op_type != "MatMul":
        here.input[:] = [*here.input[:2], output]
    elif add is not None:
        next(other for other in nodes if other.output[0] == add.output).input[add.place] = output
    else:
        summed = here.output[0]
        here.output[0] = _unused(graph, f"{summed}_without_bias")
        add_own = helper.make_node("Add", [here.output[0], output], [summed], _free(graph, f"{layer.name}_bias"))
        nodes.insert(position + 2, add_own)


def _free(graph: Graph, name: str) -> str:
    """This node name, or with underscores appended."""
    while any(other.name == name for other in graph.model.graph.node):
        name += "_"
    return name


def _add_constants(graph: Graph, layer: ArrayLayer, **arrays: NDArray[Any]) -> list[str]:
    names = [_unused(graph, f"{layer.name}_refined_{name}") for name in arrays]
    for name, array in zip(names, arrays.values(), strict=True):
        graph.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return names


def _unused(graph: Graph, name: str) -> str:
    """This tensor name, or with underscores appended if an earlier refinement of the network uses it already."""
    while name in graph.constants or name in graph.producers:
        name += "_"
    return name
