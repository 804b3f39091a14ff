"""Where every node of a network would run, and why, with shapes and multiply-accumulates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from math import prod

import onnx

from flow.frontend.imported import Imported
from flow.frontend.operators import ARRAY_OPERATORS
from flow.network.model import ArrayLayer, by_weights
from flow.onnxtools.graph import Graph, attribute, node_input, node_name, quantized_constant, size
from flow.onnxtools.shapes import Types, infer

QUANTIZATION = ("QuantizeLinear", "DequantizeLinear")
RECURRENT = ("LSTM", "GRU", "RNN")
COUNTED = (*ARRAY_OPERATORS, "ConvTranspose", *RECURRENT)
UNCOUNTED = (  # these operators multiply, too
    "Attention", "DeformConv", "Einsum", "FusedMatMul", "GroupQueryAttention", "If", "Loop", "MultiHeadAttention",
    "Scan",
)  # fmt: skip


@dataclass(frozen=True)
class OnChipNode:
    """Where a node runs with feature maps on chip: in `segment`, from 1; None off chip, and the `reason`.

    `place`: "array", "post-processing" or "host". `cycles` and `map_bytes` are those of the node's step, unpruned, and
    of the map that it makes; None where it has no step of its own, and then the `reason` is whose step it is part of.
    """

    place: str
    segment: int | None
    reason: str
    cycles: int | None
    map_bytes: int | None


@dataclass(frozen=True)
class OnChipSegment:
    """What one start runs: numbers of `layers` and of other `steps`, cycles of one sample, unpruned.

    `host`: the nodes that the host computes before it. `takes` and `gives`: bytes of the tensors that come from the
    host, and that go there or to the outputs, each by the node or the input that makes it.
    """

    layers: int
    steps: int
    cycles: int
    host: tuple[str, ...]
    takes: dict[str, int]
    gives: dict[str, int]


@dataclass(frozen=True)
class OnChipInspection:
    """With feature maps on chip: `nodes` by name, the `segments` in order, and what of the network runs there.

    `whole`: one start runs all layers; `around`: the nodes that the host computes before the first segment and behind
    the last. `array` is the array (ROWSxCOLUMNS) of the cycles, `cycles` those of one sample in all segments, unpruned,
    `cycles_bus` those behind a bus of `bus` bits, by its model; None where nothing runs on chip, or if the network
    cannot be built for this array, and then `refused` says why; where its maps have no room, there are no `nodes` and
    `segments` either. `map_bytes` is the size of the feature map memory.
    """

    nodes: dict[str, OnChipNode]
    segments: tuple[OnChipSegment, ...]
    whole: bool
    around: tuple[str, ...]
    macs: int
    array: str
    cycles: int
    map_bytes: int
    bus: int | None = None
    cycles_bus: int | None = None
    refused: str = ""


@dataclass(frozen=True)
class Node:
    """Where one node runs. `shape` is the output shape and `macs` the MACs of one sample.

    `target`: "array"; "post-processing", taken over by the array layer before it; "host", ONNX Runtime; "refused"; or
    "open" in a network with refused nodes. MACs are counted for Conv, ConvTranspose, Gemm, MatMul and recurrent
    operators. `parameters` of layers that share weights count for the first.
    """

    name: str
    op: str
    target: str
    reason: str
    shape: tuple[int, ...] | None
    macs: int
    parameters: int


@dataclass(frozen=True)
class Inspection:
    """All nodes in the order of the file; `folded`: the number of nodes that import folds into others, by operator.

    `notes` on how the network was taken are one sentence each. `on_chip`, if it was asked for.
    """

    nodes: tuple[Node, ...]
    folded: dict[str, int]
    notes: tuple[str, ...] = ()
    on_chip: OnChipInspection | None = None

    @property
    def refused(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.target == "refused")

    @property
    def macs(self) -> int:
        return sum(node.macs for node in self.nodes)

    @property
    def uncounted(self) -> dict[str, int]:
        """Number of nodes whose MACs are not counted, by operator."""
        return dict(sorted(Counter(node.op for node in self.nodes if node.op in UNCOUNTED).items()))

    @property
    def array_share(self) -> float:
        """Share of the counted MACs that run on the array, 0 to 1."""
        return sum(node.macs for node in self.nodes if node.target == "array") / max(self.macs, 1)


def refusal(source: onnx.ModelProto, reasons: dict[str, str]) -> Inspection:
    """The inspection of a network that cannot be imported; `reasons`: why, by the name of each refused node."""
    names = [(node_name(node), node.op_type) for node in source.graph.node]
    refused = "the network is refused for other nodes"
    return Inspection(
        tuple(
            Node(name, op, "refused" if name in reasons else "open", reasons.get(name, refused), None, 0, 0)
            for name, op in names
        ),
        {},
    )


def inspection(imported: Imported) -> Inspection:
    """Where the nodes of a network run; nodes that only quantize are left out."""
    network = imported.network
    layers = {layer.name: layer for layer in network.layers}
    storing = {first.name for first, *_ in by_weights(network.layers)}
    segments = [step.model.graph.node for step in network.steps if not isinstance(step, ArrayLayer)]
    on_host = {node.output[0] for nodes in segments for node in nodes}
    graph = network.graph
    counted = [node for node in network.model.graph.node if node.op_type in COUNTED]
    types = infer(network.model, [name for node in counted for name in (*node.input[:2], node.output[0])])
    nodes = []
    for node in network.model.graph.node:
        if node.op_type in QUANTIZATION:
            continue
        if layer := layers.get(node.name):
            takes = "int32 sums" if layer.output_quantization is None else "8-bit in and out"
            parameters = layer.weights.size if layer.name in storing else 0
            nodes.append(Node(node.name, node.op_type, "array", takes, layer.output_shape, layer.macs, parameters))
        elif node.output[0] in on_host:
            reason = network.reasons.get(node.name, "no Conv, Gemm or MatMul")
            shape, macs = _shape(types, node.output[0]), _macs(graph, types, node)
            nodes.append(Node(node.name, node.op_type, "host", reason, shape, macs, _parameters(graph, node)))
        else:
            nodes.append(
                Node(
                    node.name,
                    node.op_type,
                    "post-processing",
                    _taken(graph, node, layers),
                    _shape(types, node.output[0]),
                    0,
                    0,
                )
            )
    names = {node.name for node in nodes}
    gone = [node for node in imported.source.graph.node if node_name(node) not in names]
    operators = Counter(node.op_type for node in gone if node.op_type not in QUANTIZATION)
    return Inspection(tuple(nodes), dict(sorted(operators.items())))


def _taken(graph: Graph, node: onnx.NodeProto, layers: Container[str]) -> str:
    """What a node that a layer has taken over is for the layer."""
    before = _before(graph, node)
    while before and not any(other.name in layers for other in before):  # an activation behind the Add of the bias
        before = [further for other in before for further in _before(graph, other)]
    owner = next((f"'{other.name}'" for other in before if other.name in layers), "a layer")
    return f"the {'bias' if node.op_type == 'Add' else 'clamp'} of {owner}"


def _before(graph: Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [before for name in node.input if (before := graph.producer(name)) is not None]


def _shape(types: Types, name: str) -> tuple[int, ...] | None:
    shape = types.shapes.get(name)
    return shape[1:] if shape and shape[0] == 1 else shape


def _parameters(graph: Graph, node: onnx.NodeProto) -> int:
    """Number of values in the constants a node reads, directly or through a DequantizeLinear; without biases."""
    if node.op_type not in COUNTED:
        return 0
    names = [node_input(node, index) for index in ((1, 2) if node.op_type in RECURRENT else (1,))]
    kept = [quantized_constant(graph, name) for name in names]
    return sum(
        size(graph, name) if constant is None else constant.codes.size
        for name, constant in zip(names, kept, strict=True)
    )


def _macs(graph: Graph, types: Types, node: onnx.NodeProto) -> int:
    """Multiply-accumulates of one sample that stay on the host; 0 where a shape is not known."""
    source, result = types.shapes.get(node_input(node, 0)), types.shapes.get(node.output[0])
    if node.op_type not in COUNTED or not source or not result:
        return 0
    if node.op_type in RECURRENT:  # [steps, batch, input], or [batch, steps, input]
        return source[0] * source[1] * _parameters(graph, node)
    if node.op_type == "MatMul":
        return prod(result) * source[-1]
    if node.op_type == "Gemm":
        return prod(result) * source[0 if attribute(node, "transA", 0) else -1]
    weights = _parameters(graph, node) or prod(types.shapes.get(node_input(node, 1)) or (0,))  # they may be computed
    if node.op_type == "ConvTranspose":  # every input is multiplied by the kernels of all output channels of its group
        return prod(source) // source[1] * weights
    return prod(result) // result[1] * weights
