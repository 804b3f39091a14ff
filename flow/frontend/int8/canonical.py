"""The canonical form of an INT8 (QDQ) model, as `partition` reads it."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.int8.layers import output_axis
from flow.frontend.int8.rows import batch_to_axis_0
from flow.frontend.operators import ARRAY_OPERATORS, LAYOUT_OPERATORS
from flow.frontend.sums import flatten_biases, rename_fused_shapes
from flow.onnxtools import runtime
from flow.onnxtools.edit import constants_to_initializers, drop_unused_nodes, model_like, replace_nodes, unused_name
from flow.onnxtools.graph import Graph, attribute, is_dequantize, node_input, node_name, opset, size

CODE_OPERATORS = ("Clip", *LAYOUT_OPERATORS)  # that make codes of codes
CODES = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32)


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """An equivalent model in the form `partition` reads; the canonical form of a canonical model is itself.

    Constant nodes become initializers, codes computed from constants are folded, layout operators between
    DequantizeLinear and a layer work on the 8-bit tensor instead, weights that layers read alike are read by one
    DequantizeLinear and by nothing else, every layer has a name of its own, matrix products have the batch as axis 0
    and biases of one axis, and nodes that no output needs are left out.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants_to_initializers(copy)
    _nodes_make_outputs(copy)
    fold_codes(copy)
    _layout_before_dequantize(copy)
    _weights_of_layers(copy)
    rename_fused_shapes(copy)
    flatten_biases(copy)
    batch_to_axis_0(copy)
    tidy(copy)
    return copy


def tidy(model: onnx.ModelProto) -> None:
    """Restore the canonical form after constants were replaced: no unused constants, unique names."""
    drop_unused_nodes(model)
    _unique_names(model)


def _unique_names(model: onnx.ModelProto) -> None:
    """Give every node a name of its own: layers are identified by it."""
    seen: set[str] = set()
    for node in model.graph.node:
        node.name = node_name(node) if node_name(node) not in seen else f"{node.name}_{node.output[0]}"
        seen.add(node.name)


def _nodes_make_outputs(model: onnx.ModelProto) -> None:
    """Put an Identity before every output that is a constant, so that some step produces every output."""
    outputs = {value.name for value in model.graph.output}
    for tensor in model.graph.initializer:
        if (name := tensor.name) in outputs:
            tensor.name = own = unused_name(model, f"{name}_constant")
            for node in model.graph.node:  # its readers still read a constant
                node.input[:] = [own if entry == name else entry for entry in node.input]
            model.graph.node.insert(0, helper.make_node("Identity", [tensor.name], [name], f"{name}_identity"))


def fold_codes(model: onnx.ModelProto) -> None:
    """Codes computed from constants become constants: quantized weights, also clipped (Brevitas) or reshaped."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    outputs = {value.name for value in model.graph.output}
    nodes = []
    for node in model.graph.node:
        tensors = [constants[name] for name in node.input if name in constants]
        fixed = len(tensors) == sum(1 for name in node.input if name) and bool(tensors)
        codes = node.op_type in CODE_OPERATORS and fixed and tensors[0].data_type in CODES
        if not (codes or (node.op_type == "QuantizeLinear" and fixed)) or outputs.intersection(node.output):
            nodes.append(node)
            continue
        body = helper.make_graph([node], "fold", [], [onnx.ValueInfoProto(name=node.output[0])], tensors)
        folded = runtime.run(model_like(model, body), {})[node.output[0]]
        constants[node.output[0]] = numpy_helper.from_array(folded, node.output[0])
        model.graph.initializer.append(constants[node.output[0]])
    replace_nodes(model, nodes)


def _layout_before_dequantize(model: onnx.ModelProto) -> None:
    """DequantizeLinear -> Flatten -> layer becomes Flatten -> DequantizeLinear -> layer, for that layer only."""
    graph = Graph.of(model)
    nodes: list[onnx.NodeProto] = []
    moved: dict[str, str] = {}
    for node in model.graph.node:
        chain = _layout_chain(graph, node) if node.op_type in ARRAY_OPERATORS else []
        if chain:
            source = node.input[0]
            if source not in moved:
                nodes += _moved_chain(graph, chain)
                moved[source] = nodes[-1].output[0]
            node.input[0] = moved[source]
        nodes.append(node)
    replace_nodes(model, nodes)


def _layout_chain(graph: Graph, layer: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Layout operators before a layer, the one nearest the DequantizeLinear first; empty if they cannot move."""
    if not is_dequantize(graph.producer(node_input(layer, 1))):
        return []
    chain: list[onnx.NodeProto] = []
    node = graph.producer(layer.input[0])
    while node is not None and node.op_type in LAYOUT_OPERATORS and len(node.output) == 1:
        if node.op_type == "MaxPool" and opset(graph.model) < 12:  # 8-bit MaxPool came with opset 12
            return []
        chain.insert(0, node)
        node = graph.producer(node.input[0])
    per_tensor = node is not None and is_dequantize(node) and size(graph, node_input(node, 1)) == 1
    return chain if per_tensor else []


def _moved_chain(graph: Graph, chain: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    dequantize = graph.producers[chain[0].input[0]]
    current = dequantize.input[0]
    clones = []
    for node in chain:
        clone = onnx.NodeProto()
        clone.CopyFrom(node)
        clone.name = f"{node_name(node)}_8bit"
        clone.input[0] = current
        clone.output[0] = current = f"{node.output[0]}_8bit"
        clones.append(clone)
    last = onnx.NodeProto()
    last.CopyFrom(dequantize)
    last.name = f"{current}_dequantize"
    last.input[0] = current
    last.output[0] = f"{current}_dequantized"
    return [*clones, last]


def _weights_of_layers(model: onnx.ModelProto) -> None:
    """Layers that read weights alike share a DequantizeLinear; other readers have copies of the weights."""
    graph = Graph.of(model)
    uses: dict[str, dict[tuple[object, ...], list[int]]] = {}  # the numbers of layers
    every = list(model.graph.node)
    for number, node in enumerate(every):
        dequantize = graph.producer(node_input(node, 1)) if node.op_type in ARRAY_OPERATORS else None
        if dequantize is not None and is_dequantize(dequantize) and dequantize.input[0] in graph.constants:
            alike = uses.setdefault(dequantize.input[0], {})
            alike.setdefault(_way_of_reading(graph, node, dequantize), []).append(number)
    before: dict[int, onnx.NodeProto] = {}  # nodes to insert, by the number of the node behind
    for weight, alike in uses.items():
        alone = len(alike) == 1 and _read_by_layers_alone(graph, weight)
        for layers in alike.values():
            read = every[layers[0]].input[1]
            if not alone:
                own = before[layers[0]] = _copied_weights(graph, every[layers[0]])
                read = own.output[0]
            for number in layers:
                every[number].input[1] = read
    nodes = []
    for number, node in enumerate(every):
        nodes += [before[number], node] if number in before else [node]
    replace_nodes(model, nodes)


def _way_of_reading(graph: Graph, layer: onnx.NodeProto, dequantize: onnx.NodeProto) -> tuple[object, ...]:
    """What layers that share codes must have in common besides."""
    values = [graph.constant(name) for name in dequantize.input[1:]]
    known = tuple(name if value is None else (value.dtype.str, value.shape, value.tobytes())
                  for name, value in zip(dequantize.input[1:], values, strict=True))  # fmt: skip
    attributes = tuple(sorted(each.SerializeToString() for each in dequantize.attribute))
    shape = ("Conv", attribute(layer, "group", 1)) if layer.op_type == "Conv" else ("", output_axis(layer))
    return (*known, attributes, *shape)


def _read_by_layers_alone(graph: Graph, weight: str) -> bool:
    """Whether nothing but layers reads these weights, and they read them as weights."""
    readers = graph.consumers[weight]
    return weight not in graph.outputs and all(
        is_dequantize(reader)
        and reader.output[0] not in graph.outputs
        and all(
            node.op_type in ARRAY_OPERATORS and list(node.input).count(reader.output[0]) == 1
            and node_input(node, 1) == reader.output[0]
            for node in graph.consumers.get(reader.output[0], [])
        )
        for reader in readers
    )  # fmt: skip


def _copied_weights(graph: Graph, layer: onnx.NodeProto) -> onnx.NodeProto:
    """The DequantizeLinear of a copy of a layer's weights."""
    dequantize = graph.producers[layer.input[1]]
    tensor = graph.model.graph.initializer.add()
    tensor.CopyFrom(graph.constants[dequantize.input[0]])
    tensor.name = unused_name(graph.model, f"{dequantize.input[0]}_of_{node_name(layer)}")
    own = onnx.NodeProto()
    own.CopyFrom(dequantize)
    own.name, own.input[0], own.output[0] = f"{tensor.name}_dequantize", tensor.name, f"{tensor.name}_real"
    return own
