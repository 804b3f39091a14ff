"""Matrix products whose axis 0 is not the batch: rewritten so that it is."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from math import prod

import onnx
from onnx import helper

from flow.errors import FlowError
from flow.frontend.int8.layers import array_nodes
from flow.onnxtools import external
from flow.onnxtools.edit import add_constant, add_reshape, replace_nodes, set_axis, unused_name
from flow.onnxtools.graph import Graph, attribute, graph_inputs, is_dequantize, is_standard, node_input, node_name, size
from flow.onnxtools.shapes import sample_shapes


def batch_to_axis_0(model: onnx.ModelProto) -> None:
    """Make axis 0 of every product the batch: of [rows, features] with several rows a sample, of [tokens, batch, ...].

    ONNX Runtime fuses MatMul and Add to such a Gemm if the batch is fixed; attention often has the tokens on axis 0.
    A product treats all rows alike, so its rows may be any axes. A Gemm becomes MatMul and Add. The Reshape back stands
    behind all that the array does: the Add of the bias, the activation and the QuantizeLinear.
    """
    found = _products_of_rows(model)
    if not found:
        return
    graph = Graph.of(model)
    nodes: list[onnx.NodeProto] = []
    shapes: dict[str, _Rows] = {}
    for node in model.graph.node:
        made = _as_matmul(model, graph, node) if node.output[0] in found else [node]
        shapes |= {
            new.output[0]: found[node.output[0]] for new in made if new.op_type == "MatMul" and node.output[0] in found
        }
        nodes += made
    replace_nodes(model, nodes)
    graph = Graph.of(model)
    before: dict[str, list[onnx.NodeProto]] = {}
    behind: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        if (rows := shapes.get(node.output[0])) is not None:
            own = array_nodes(graph, node)
            reshapes = _rows_of_samples(model, graph, node, rows)
            restored = _rows_restored(model, graph, own, rows)
            before[node.output[0]], behind[own[-1].output[0]] = reshapes, restored
    nodes = []
    for node in model.graph.node:
        nodes += [*before.get(node.output[0], ()), node]
        nodes += [behind[node.output[0]]] if node.output[0] in behind else []
    replace_nodes(model, nodes)


@dataclass(frozen=True)
class _Rows:
    """The input of a product: its shape for any batch, -1 for the axis that grows with it, and the rows of a sample."""

    shape: list[int]
    rows: int


def _products_of_rows(model: onnx.ModelProto) -> dict[str, _Rows]:
    """Products whose axis 0 is not the batch, by their output."""
    graph = Graph.of(model)
    products = {n.output[0]: graph.producers[n.input[0]].input[0] for n in model.graph.node if _is_product(graph, n)}
    one = sample_shapes(model) if products else {}
    if all(one.get(source, (1,))[:1] in ((), (1,)) for source in products.values()):
        return {}
    batches = [dims[0] for value in graph_inputs(model) if (dims := value.type.tensor_type.shape.dim)]
    samples = 1 if any(dim.HasField("dim_value") for dim in batches) else 2
    more: dict[str, tuple[int, ...]] = {}
    with contextlib.suppress(FlowError):  # the network accepts one sample only: shapes of another batch are unknown
        more = sample_shapes(model, samples)
    found = {}
    for output, source in products.items():
        shape = _of_any_batch(one.get(source, ()), more.get(source, ()), samples)
        if shape and one[source][0] != 1:
            found[output] = _Rows(shape, prod(one[source][:-1]))
    return found


def _as_matmul(model: onnx.ModelProto, graph: Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A product as MatMul and, with a bias, Add."""
    if node.op_type == "MatMul":
        return [node]
    weights, nodes = _matrix(model, graph, node)
    bias, output = node_input(node, 2), node.output[0]
    summed = unused_name(model, f"{output}_product") if bias else output
    nodes.append(helper.make_node("MatMul", [node.input[0], weights], [summed], node_name(node)))
    if bias:
        nodes.append(helper.make_node("Add", [summed, bias], [output], f"{output}_bias"))
    return nodes


def _rows_of_samples(model: onnx.ModelProto, graph: Graph, node: onnx.NodeProto, of: _Rows) -> list[onnx.NodeProto]:
    """Make `node` read [batch, rows, features]; returns the nodes that produce it."""
    dequantize, name = graph.producers[node.input[0]], node.output[0]
    rows, real_rows = (unused_name(model, f"{name}_{part}") for part in ("rows", "rows_real"))
    real = onnx.NodeProto()
    real.CopyFrom(dequantize)
    real.name, real.input[0], real.output[0] = f"{name}_rows_dequantize", rows, real_rows
    node.input[0] = real_rows
    return [add_reshape(model, dequantize.input[0], [-1, of.rows, of.shape[-1]], rows), real]


def _rows_restored(model: onnx.ModelProto, graph: Graph, own: list[onnx.NodeProto], of: _Rows) -> onnx.NodeProto:
    """The Reshape of what a layer's nodes give, of which the last one gets another name, as every one before it."""
    matrix = graph.producers[own[0].input[1]].input[0]
    target = own[-1].output[0]
    for index, node in enumerate(own):
        output, node.output[0] = node.output[0], unused_name(model, f"{node.output[0]}_of_rows")
        for reader in own[index + 1 : index + 2]:
            reader.input[:] = [node.output[0] if name == output else name for name in reader.input]
    return add_reshape(model, own[-1].output[0], [*of.shape[:-1], graph.constants[matrix].dims[1]], target)


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
    if matrix is None or (attribute(node, "transB", 0) and external.stays(matrix)):
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
        set_axis(transposed, 1 - axis)
    return transposed.output[0], [transposed]
