"""Matrix products whose axis 0 is not the batch: rewritten so that it is."""

from __future__ import annotations

import contextlib
from math import prod

import onnx
from onnx import helper

from flow.errors import FlowError
from flow.onnxtools import external
from flow.onnxtools.edit import add_constant, add_reshape, replace_nodes, unused_name
from flow.onnxtools.graph import Graph, attribute, graph_inputs, is_dequantize, is_standard, node_input, node_name, size
from flow.onnxtools.shapes import sample_shapes


def batch_to_axis_0(model: onnx.ModelProto) -> None:
    """Make axis 0 of every product the batch: of [rows, features] with several rows a sample, of [tokens, batch, ...].

    ONNX Runtime fuses MatMul and Add to such a Gemm if the batch is fixed; attention often has the tokens on axis 0.
    A product treats all rows alike, so its rows may be any axes. A Gemm becomes MatMul and Add.
    """
    graph = Graph.of(model)
    products = {n.output[0]: graph.producers[n.input[0]] for n in model.graph.node if _is_product(graph, n)}
    one = sample_shapes(model) if products else {}
    if all(one.get(dequantize.input[0], (1,))[:1] in ((), (1,)) for dequantize in products.values()):
        return
    batches = [dims[0] for value in graph_inputs(model) if (dims := value.type.tensor_type.shape.dim)]
    samples = 1 if any(dim.HasField("dim_value") for dim in batches) else 2
    more: dict[str, tuple[int, ...]] = {}
    with contextlib.suppress(FlowError):  # the network accepts one sample only: shapes of another batch are unknown
        more = sample_shapes(model, samples)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        name = node.output[0]
        dequantize = products.get(name)
        source = dequantize.input[0] if dequantize is not None else ""
        shape = one.get(source, ())
        any_batch = _of_any_batch(shape, more.get(source, ()), samples)
        if dequantize is None or not any_batch or shape[0] == 1:
            nodes.append(node)
            continue
        rows, real_rows, summed, plain = (
            unused_name(model, f"{name}_{part}") for part in ("rows", "rows_real", "product", "without_bias")
        )
        reshaped = add_reshape(model, dequantize.input[0], [-1, prod(shape[:-1]), shape[-1]], rows)
        real = onnx.NodeProto()
        real.CopyFrom(dequantize)
        real.name, real.input[0], real.output[0] = f"{name}_rows_dequantize", rows, real_rows
        weights, transposed = _matrix(model, graph, node)
        product = helper.make_node("MatMul", [real_rows, weights], [summed], node_name(node))
        bias = node_input(node, 2)
        matrix = graph.constants[graph.producers[node.input[1]].input[0]]
        channels = matrix.dims[0 if attribute(node, "transB", 0) else 1]
        any_batch[-1] = channels
        nodes += [reshaped, real, *transposed, product, add_reshape(model, summed, any_batch, plain if bias else name)]
        if bias:  # behind the Reshape: ONNX Runtime would fuse an Add behind the MatMul, under names already in use
            nodes.append(helper.make_node("Add", [plain, bias], [name], f"{name}_bias"))
    replace_nodes(model, nodes)


def _of_any_batch(one: tuple[int, ...], more: tuple[int, ...], samples: int) -> list[int]:
    """The shape for any batch, -1 for the axis that grows with it, from the shapes of one sample and of `samples`.

    Empty where a shape is unknown because it depends on the data, or does not grow with the batch.
    """
    shape = [axis if axis == other else -1 for axis, other in zip(one, more, strict=False)]
    grows = prod(more) == samples * prod(one) > 0 and shape.count(-1) == samples - 1
    return shape if len(one) == len(more) > 1 and grows and shape[-1] != -1 else []


def _is_product(graph: Graph, node: onnx.NodeProto) -> bool:
    """A MatMul or Gemm of an 8-bit tensor and a constant 8-bit matrix."""
    if node.op_type not in ("MatMul", "Gemm") or not is_standard(node) or attribute(node, "transA", 0):
        return False
    data, weights = graph.producer(node.input[0]), graph.producer(node.input[1])
    if not (data is not None and is_dequantize(data) and weights is not None and is_dequantize(weights)):
        return False
    plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
    matrix = graph.constants.get(weights.input[0])
    if matrix is None or (attribute(node, "transB", 0) and external.is_external(matrix)):  # not loaded for a copy
        return False
    return plain and len(matrix.dims) == 2 and size(graph, node_input(data, 1)) == 1


def _matrix(model: onnx.ModelProto, graph: Graph, node: onnx.NodeProto) -> tuple[str, list[onnx.NodeProto]]:
    """The weights of a product as [inputs, channels], and the nodes that produce them."""
    if not attribute(node, "transB", 0):
        return node.input[1], []
    transposed = onnx.NodeProto()
    transposed.CopyFrom(graph.producers[node.input[1]])
    codes = graph.constant(transposed.input[0])
    assert codes is not None
    transposed.name, transposed.output[0] = (
        f"{node.output[0]}_matrix_dequantize",
        unused_name(model, f"{node.output[0]}_matrix_real"),
    )
    transposed.input[0] = add_constant(model, f"{node.output[0]}_matrix", codes.T)
    if size(graph, node_input(transposed, 1)) > 1:  # a per-tensor scale needs no axis, an attribute since opset 13
        axis = attribute(transposed, "axis", 1) % 2
        kept = [entry for entry in transposed.attribute if entry.name != "axis"]
        del transposed.attribute[:]
        transposed.attribute.extend([*kept, helper.make_attribute("axis", 1 - axis)])
    return transposed.output[0], [transposed]
