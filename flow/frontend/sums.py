"""The Add behind a MatMul that adds one constant to each channel: the bias of a Linear, which the array adds itself."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx

from flow.onnxtools import external
from flow.onnxtools.edit import add_constant, drop_unused_nodes
from flow.onnxtools.graph import Graph, is_dequantize, is_standard, node_input, opset, quantized_constant
from flow.onnxtools.shapes import sample_shapes

FUSED_SHAPES = ("gemm_input_shape", "gemm_output_shape")


@dataclass(frozen=True)
class BiasAdd:
    """An Add whose input `place` is a constant for each channel, and whose other input only it reads."""

    node: onnx.NodeProto
    place: int

    @property
    def bias(self) -> str:
        """The constant, float or dequantized."""
        return str(self.node.input[self.place])

    @property
    def output(self) -> str:
        return str(self.node.output[0])


def bias_add(graph: Graph, product: onnx.NodeProto) -> BiasAdd | None:
    """The Add of a bias behind a MatMul with a constant matrix; None for other operators, and without such an Add.

    The bias is a constant, float or behind a DequantizeLinear, of shape [channels], [1, channels], [1] or [].
    """
    matrix = _dims(graph, node_input(product, 1)) if _is_matmul(product) else None
    add = graph.only_consumer(product.output[0]) if matrix is not None and len(matrix) == 2 else None
    if matrix is None or add is None or add.op_type != "Add" or not is_standard(add):
        return None
    place = 1 if add.input[0] == product.output[0] else 0
    dims = _dims(graph, add.input[place])
    if dims is None or len(dims) > 2 or not is_per_channel(dims, matrix[1]):
        return None
    return BiasAdd(add, place)


def bias_form(model: onnx.ModelProto, product: onnx.NodeProto, channels: int) -> tuple[int, ...]:
    """The shape in which the int32 bias of a layer is to be written.

    [channels], and [1, channels] behind a MatMul from opset 21 on: of MatMul and a sum with [channels], ONNX Runtime
    makes Gemm between Reshapes, and carries the QuantizeLinear before them on with an `output_dtype` that does not fit
    what it makes of int8 on x86 (ONNX Runtime 1.32). A session with its default settings would fail.
    """
    deep = _is_matmul(product) and opset(model) >= 21
    return (1, channels) if deep else (channels,)


def is_per_channel(dims: tuple[int, ...], channels: int) -> bool:
    """Whether a constant of this shape has one value for each channel, the last axis, or one for all."""
    return prod(dims) in (1, channels) and (prod(dims) == 1 or dims[-1] == channels)


def rename_fused_shapes(model: onnx.ModelProto) -> None:
    """Give other names to the constants that ONNX Runtime made when it fused MatMul and Add.

    It fuses what is MatMul and Add again in every session, and fails if those names are taken.
    """
    taken = [tensor for tensor in model.graph.initializer if tensor.name.startswith(FUSED_SHAPES)]
    own = {tensor.name: add_constant(model, f"own_{tensor.name}", external.values(tensor)) for tensor in taken}
    for node in model.graph.node if own else ():
        node.input[:] = [own.get(name, name) for name in node.input]
    if own:
        drop_unused_nodes(model)


def flatten_biases(model: onnx.ModelProto) -> None:
    """Constants [1, 1, channels] behind a MatMul become [channels], where that changes no shape."""
    graph = Graph.of(model)
    wanted = [node for node in model.graph.node if node.op_type == "Add" and _deep_bias(graph, node) is not None]
    shapes = sample_shapes(model) if wanted else {}
    for add in wanted:
        found = _deep_bias(graph, add)
        assert found is not None
        product, place = found
        shape = shapes.get(product.output[0])
        if shape is None or shape != shapes.get(add.output[0]):
            continue
        name = add.input[place]
        holder = graph.producer(name)
        codes = graph.constant(name if holder is None else holder.input[0])
        assert codes is not None
        flat = add_constant(model, f"{add.output[0]}_bias", codes.reshape(-1))
        if holder is None:
            add.input[place] = flat
            continue
        own = onnx.NodeProto()
        own.CopyFrom(holder)
        del own.attribute[:]  # one scale, so that there is no axis
        own.name, own.input[0], own.output[0] = f"{flat}_dequantize", flat, f"{flat}_real"
        add.input[place] = own.output[0]
        model.graph.node.insert(list(model.graph.node).index(add), own)


def _deep_bias(graph: Graph, add: onnx.NodeProto) -> tuple[onnx.NodeProto, int] | None:
    """The MatMul before an Add of a constant of three axes or more, and the constant's place."""
    for place in (0, 1):
        product = graph.producer(add.input[1 - place])
        dims, matrix = _dims(graph, add.input[place]), None
        if product is not None and _is_matmul(product) and graph.only_consumer(product.output[0]) is not None:
            matrix = _dims(graph, product.input[1])
        if product is None or matrix is None or dims is None or len(matrix) != 2 or len(dims) < 3:
            continue
        holder = quantized_constant(graph, add.input[place])
        one_scale = holder is None or (holder.scale is not None and holder.scale.size == 1)
        zero = holder is None or (holder.zero is not None and holder.zero.size == 1)
        if is_per_channel(dims, matrix[1]) and one_scale and zero:
            return product, place
    return None


def _is_matmul(node: onnx.NodeProto) -> bool:
    return node.op_type == "MatMul" and is_standard(node)


def _dims(graph: Graph, name: str) -> tuple[int, ...] | None:
    """The shape of a constant, also of one behind a DequantizeLinear; None for any other tensor."""
    producer = graph.producer(name)
    tensor = graph.constants.get(producer.input[0] if producer is not None and is_dequantize(producer) else name)
    return None if tensor is None else tuple(tensor.dims)
