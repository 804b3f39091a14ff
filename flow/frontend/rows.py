"""Matrix products whose rows are no batch: axis 0 becomes the batch."""

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
    """Axis 0 of every product becomes the batch: of [rows, features] with many rows a sample, of [tokens, batch, ...].

    ONNX Runtime makes such a Gemm of MatMul and Add where the batch is fixed; attention often has tokens first.
    A product treats all rows alike, so any axes may stand for them. A Gemm becomes MatMul and Add.
    """
    graph = Graph.of(model)
    products = {n.output[0]: graph.producers[n.input[0]] for n in model.graph.node if _is_product(graph, n)}
    one = sample_shapes(model) if products else {}
    if all(one.get(dequantize.input[0], (1,))[:1] in ((), (1,)) for dequantize in products.values()):
        return
    batches = [dims[0] for value in graph_inputs(model) if (dims := value.type.tensor_type.shape.dim)]
    samples = 1 if any(dim.HasField("dim_value") for dim in batches) else 2
    more: dict[str, tuple[int, ...]] = {}
    with contextlib.suppress(FlowError):  # it takes one sample only: nothing is known of another batch
        more = sample_shapes(model, samples)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        name = node.output[0]
        dequantize = products.get(name)
        source = dequantize.input[0] if dequantize is not None else ""
        shape = one.get(source, ())
        whole = _of_any_batch(shape, more.get(source, ()), samples)
        if dequantize is None or not whole or shape[0] == 1:
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
        whole[-1] = channels
        nodes += [reshaped, real, *transposed, product, add_reshape(model, summed, whole, plain if bias else name)]
        if bias:  # behind the Reshape: ONNX Runtime fuses what follows at once, and takes names that are there already
            nodes.append(helper.make_node("Add", [plain, bias], [name], f"{name}_bias"))
    replace_nodes(model, nodes)


def _of_any_batch(one: tuple[int, ...], more: tuple[int, ...], samples: int) -> list[int]:
    """The shape for any batch, -1 for the axis that grows with it, from those of one sample and of `samples`.

    Empty where a shape is not known before there are data, or does not grow with the batch.
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
    if matrix is None or (attribute(node, "transB", 0) and external.is_external(matrix)):  # none is copied whole
        return False
    return plain and len(matrix.dims) == 2 and size(graph, node_input(data, 1)) == 1


def _matrix(model: onnx.ModelProto, graph: Graph, node: onnx.NodeProto) -> tuple[str, list[onnx.NodeProto]]:
    """The weights of a product as [inputs, channels], and the nodes that make them."""
    if not attribute(node, "transB", 0):
        return node.input[1], []
    made = onnx.NodeProto()
    made.CopyFrom(graph.producers[node.input[1]])
    codes = graph.constant(made.input[0])
    assert codes is not None
    made.name, made.output[0] = (
        f"{node.output[0]}_matrix_dequantize",
        unused_name(model, f"{node.output[0]}_matrix_real"),
    )
    made.input[0] = add_constant(model, f"{node.output[0]}_matrix", codes.T)
    if size(graph, node_input(made, 1)) > 1:  # one scale for all needs no axis, which came with opset 13
        axis = attribute(made, "axis", 1) % 2
        kept = [entry for entry in made.attribute if entry.name != "axis"]
        del made.attribute[:]
        made.attribute.extend([*kept, helper.make_attribute("axis", 1 - axis)])
    return made.output[0], [made]
