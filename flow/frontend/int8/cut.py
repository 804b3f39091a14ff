"""An INT8 (QDQ) model partitioned into array layers and host segments: the `Network`."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

import onnx
from onnx import helper

from flow.errors import FlowError
from flow.frontend.int8.canonical import canonical, tidy
from flow.frontend.int8.layers import OnHost, array_layer
from flow.frontend.int8.rewrite import with_layers
from flow.frontend.operators import ARRAY_OPERATORS
from flow.frontend.preparation.products import recurrent
from flow.frontend.sums import bias_add
from flow.network.model import ArrayLayer, HostSegment, Network
from flow.onnxtools.edit import model_like
from flow.onnxtools.graph import Graph, attribute, graph_inputs, is_dequantize, is_standard, node_name, reads, size
from flow.onnxtools.shapes import Types, infer


def partition(model: onnx.ModelProto, name: str) -> Network:
    """Bring an INT8 QDQ model into canonical form and cut it into steps; see `partition_canonical`."""
    return partition_canonical(canonical(model), name)


def partition_canonical(model: onnx.ModelProto, name: str) -> Network:
    """Cut a `canonical` INT8 QDQ model into array layers and host segments, in the order they run.

    Conv, Gemm and MatMul with 8-bit input and constant 8-bit symmetric weights go to the array, together with
    the ReLU or Clip and the QuantizeLinear behind them if nothing else reads their output; all other nodes go to the
    host, and `reasons` of the network has the reason for each Conv, Gemm and MatMul among them.
    """
    graph = Graph.of(model)
    return _partition(graph, name, infer(model, _layer_tensors(graph)))


def partition_again(network: Network, layers: Iterable[ArrayLayer]) -> Network:
    """The network with these layers' weights, scales and biases; the steps remain the same."""
    model = with_layers(network.model, layers)
    tidy(model)
    after = _partition(Graph.of(model), network.name, network.types)
    assert [layer.name for layer in network.layers] == [layer.name for layer in after.layers]
    return after


def _layer_tensors(graph: Graph) -> list[str]:
    """The tensors that layers may read or write, whose types and shapes must be known."""
    names = []
    for node in graph.model.graph.node:
        if node.op_type in ARRAY_OPERATORS:
            before = graph.producer(node.input[0])
            add = bias_add(graph, node)
            names += [node.output[0], *([] if add is None else [add.output])]
            names += [before.input[0]] if before is not None and is_dequantize(before) else []
    return names


def _partition(graph: Graph, name: str, types: Types) -> Network:
    model = graph.model
    layers: list[ArrayLayer] = []
    covered: set[str] = set()
    reasons: dict[str, str] = {}
    known: dict[str, ArrayLayer] = {}  # by the tensor of their weights
    for node in model.graph.node:
        if node.op_type in ARRAY_OPERATORS and is_standard(node):
            try:
                layer, nodes = array_layer(graph, types, node)
            except OnHost as reason:
                reasons[node_name(node)] = str(reason)
                continue
            first = known.setdefault(layer.weight_tensor, layer)
            layers.append(replace(layer, weights=first.weights, weight_scales=first.weight_scales))
            covered.update(output for member in nodes for output in member.output)
        elif node.op_type in recurrent.GATES and is_standard(node):
            reasons[node_name(node)] = _why_recurrent(graph, types, node)
    host_nodes = _host_nodes(model, layers, covered)
    named = dict.fromkeys(name for node in host_nodes for name in (*reads(node), *node.output) if name)
    if unknown := [name for name in named if name not in types.declared and name not in graph.constants]:
        with contextlib.suppress(FlowError):  # a run on zeros may fail; sequences have no type here anyway
            types = infer(model, [*_layer_tensors(graph), *unknown])  # behind operators of other domains
    steps = tuple(_schedule(graph, types, layers, host_nodes))
    return Network(
        name=name,
        graph=graph,
        types=types,
        steps=steps,
        inputs=tuple(value.name for value in graph_inputs(model)),
        outputs=tuple(value.name for value in model.graph.output),
        reasons=reasons,
    )


def _why_recurrent(graph: Graph, types: Types, node: onnx.NodeProto) -> str:
    """Why a recurrent node was not unrolled."""
    shape = types.shapes.get(node.input[0], ())
    axis = 1 if attribute(node, "layout", 0) else 0
    steps = shape[axis] if len(shape) == 3 else None
    return (
        recurrent.refusal(graph, node, steps)
        or "it is unrolled in float networks only, where its weights are float32 and in memory"
    )


def _host_nodes(model: onnx.ModelProto, layers: list[ArrayLayer], covered: set[str]) -> list[onnx.NodeProto]:
    """Nodes the host must run, in order: those that an output or a layer needs and no layer has taken over."""
    needed = {value.name for value in model.graph.output} | {layer.input for layer in layers}
    nodes = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output) and not covered.intersection(node.output):
            needed.update(reads(node))
            nodes.append(node)
    return nodes[::-1]


def _schedule(
    graph: Graph, types: Types, layers: list[ArrayLayer], nodes: list[onnx.NodeProto]
) -> Iterator[ArrayLayer | HostSegment]:
    """Greedy: all host nodes that are ready as one segment and all layers that are ready, by turns.

    A DequantizeLinear belongs to whichever segment reads it, so that tensors between steps stay 8 bits wide.
    """
    lazy = {node.output[0]: node for node in nodes if is_lazy(graph, node)}
    ready = {value.name for value in graph_inputs(graph.model)} | set(graph.constants)
    eager = [node for node in nodes if node.output[0] not in lazy]
    waiting = list(layers)
    count = 0
    while eager or waiting:
        segment, rest = [], []
        for node in eager:
            if all(lazy[name].input[0] in ready if name in lazy else name in ready for name in reads(node)):
                segment.append(node)
                ready.update(node.output)
            else:
                rest.append(node)
        later = {lazy[name].input[0] if name in lazy else name for node in rest for name in reads(node)}
        later |= {layer.input for layer in waiting} | graph.outputs
        runnable = [layer for layer in waiting if layer.input in ready]
        assert segment or runnable, "the graph has a cycle"
        if segment:
            yield _segment(graph, types, f"host_{count}", segment, lazy, later)
            count += 1
        yield from runnable
        ready.update(layer.output for layer in runnable)
        eager = rest
        waiting = [layer for layer in waiting if layer.output not in ready]


def is_lazy(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node is a DequantizeLinear that every segment that reads it has of its own."""
    return is_copied(graph, node) and node.output[0] not in graph.outputs


def is_copied(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node is a DequantizeLinear that a segment can have of its own: its scale is constant."""
    return is_dequantize(node) and size(graph, node.input[1]) > 0


def host_segment(network: Network, name: str, nodes: Collection[onnx.NodeProto]) -> HostSegment:
    """A segment of these nodes of the network's host segments, in the order of these; none of them `is_lazy`.

    A DequantizeLinear that they read is copied, also one that makes an output of the network.
    """
    graph, chosen = network.graph, {node.output[0] for node in nodes}
    makers = {name: graph.producers[name] for node in nodes for name in reads(node) if name in graph.producers}
    copied = {name: maker for name, maker in makers.items() if is_copied(graph, maker)}
    kept = {layer.input for layer in network.layers} | graph.outputs
    made = {name for node in nodes for name in node.output if name}
    later = {name for name in made if name in kept or _read_beside(graph, name, chosen)}
    return _segment(graph, network.types, name, list(nodes), copied, later)


def _read_beside(graph: Graph, tensor: str, chosen: Collection[str]) -> bool:
    """Whether another node than those that make `chosen` reads a tensor, also as its own DequantizeLinear gives it."""
    for reader in graph.consumers.get(tensor, []):
        made = reader.output[0]
        if made not in chosen and not is_lazy(graph, reader):
            return True
        if is_copied(graph, reader) and any(each.output[0] not in chosen for each in graph.consumers.get(made, [])):
            return True
    return False


def _segment(
    graph: Graph,
    types: Types,
    name: str,
    nodes: list[onnx.NodeProto],
    lazy: Mapping[str, onnx.NodeProto],
    later: set[str],
) -> HostSegment:
    body: list[onnx.NodeProto] = []
    produced: set[str] = set()
    for node in nodes:
        for tensor in reads(node):
            if tensor in lazy and tensor not in produced:
                body.append(lazy[tensor])
                produced.add(tensor)
        body.append(node)
        produced.update(node.output)
    needed = dict.fromkeys(tensor for node in body for tensor in reads(node))
    inputs = [tensor for tensor in needed if tensor not in produced and tensor not in graph.constants]
    outputs = [tensor for node in nodes for tensor in node.output if tensor in later]
    extracted = helper.make_graph(
        body,
        name,
        [_declared(types, tensor) for tensor in inputs],
        [_declared(types, tensor) for tensor in outputs],
        [graph.constants[tensor] for tensor in needed if tensor in graph.constants],
    )
    return HostSegment(
        name=name,
        model=model_like(graph.model, extracted),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        operators=tuple(node.op_type for node in body),
    )


def _declared(types: Types, tensor: str) -> onnx.ValueInfoProto:
    if tensor in types.declared:
        return types.declared[tensor]
    raise FlowError(f"the type of tensor '{tensor}' cannot be inferred; add it to the model's value_info")
