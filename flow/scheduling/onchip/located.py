"""Where every node of a network runs with feature maps on chip, and what it costs there."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
import onnx

from flow.frontend.inspection import QUANTIZATION, OnChipInspection, OnChipNode, OnChipSegment
from flow.hardware.config import ArrayConfig
from flow.network.model import ArrayLayer, HostSegment, Network
from flow.onnxtools.graph import Graph, node_name
from flow.scheduling.onchip.chain import Chain, ChainLayer, OffChip, Segment, Step
from flow.scheduling.onchip.place import OCTET, plane_words
from flow.scheduling.onchip.post import PostOp, Shape
from flow.scheduling.onchip.timing import OnChipTime, on_chip

OUTSIDE = "before the first layer, or behind the last one"


def located(network: Network, chain: Chain, config: ArrayConfig) -> OnChipInspection:
    """Where every node runs, but those that only quantize; cycles on this array, without pruning."""
    time = on_chip(chain, network.layers, config) if chain.segments else None
    costs = _Costs(network, chain, time)
    segments = tuple(costs.segment(segment) for segment in chain.segments)
    nodes = [node for node in network.model.graph.node if node.op_type not in QUANTIZATION]
    macs = sum(layer.macs for segment in chain.segments for layer in segment.layers)
    products = (step.matrices for step in chain.steps if isinstance(step, PostOp) and step.kind == "matmul")
    macs += sum(matrices.macs for matrices in products if matrices)
    return OnChipInspection(
        {node_name(node): costs.node(node) for node in nodes}, segments, chain.whole, chain.around, macs,
        f"{config.rows}x{config.columns}", sum(segment.cycles for segment in segments),
        time.config.map_words * OCTET if time else 0,
    )  # fmt: skip


def by_one_start(around: Sequence[str]) -> str:
    """What one start runs that runs all layers, in words; the host computes the nodes `around` them."""
    if not around:
        return "the whole network by one start"
    nodes = "1 node" if len(around) == 1 else f"{len(around):,} nodes"
    return f"all layers by one start, {nodes} before or behind them by the host"


class _Costs:
    """The steps of a chain by the node whose they are, and their cycles; `time` is None if nothing runs on chip."""

    def __init__(self, network: Network, chain: Chain, time: OnChipTime | None) -> None:
        self._graph, self._chain, self._time = network.graph, chain, time
        self._layers = {layer.name: layer for layer in network.layers}
        hosts = [step.model.graph.node for step in network.steps if isinstance(step, HostSegment)]
        self._hosted = {node.output[0] for nodes in hosts for node in nodes}  # unless the chip takes them
        self._reasons = {name: left.reason for left in chain.left for name in left.nodes}
        self._segments = {
            name: number
            for number, segment in enumerate(chain.segments, 1)
            for unit in segment.units
            for name in unit.names
        }
        self._owners = {step.output: self._owner(step) for step in chain.steps}
        self._read = {name for step in chain.steps for name in step.inputs}  # what no step reads, no map holds
        self._steps: dict[str, list[Step]] = {}
        for step in chain.steps:
            self._steps.setdefault(self._owners[step.output], []).append(step)

    def node(self, node: onnx.NodeProto) -> OnChipNode:
        name = node_name(node)
        over = name if node.output[0] in self._hosted else _owner(self._graph, node, self._layers)
        segment, steps = self._segments.get(over), self._steps.get(name, [])
        reason = "" if segment else self._reasons.get(over, OUTSIDE)
        multiplies = any(isinstance(step, PostOp) and step.kind == "matmul" for step in steps)
        place = "post-processing" if segment or over != name else "host"
        if name in self._layers or multiplies:
            place = "array"
        elif segment and not steps and over == name:
            owner = self._part_of(node)
            reason = f"part of '{owner}'" if owner else "moves nothing"
        cycles = sum(map(self._cycles, steps))
        if not steps and name in self._layers and self._time:  # by itself
            cycles = self._unpruned(self._layers[name])
        return OnChipNode(place, segment, reason, cycles or None, sum(map(self._bytes, steps)) or None)

    def segment(self, segment: Segment) -> OnChipSegment:
        assert self._time is not None
        cycles = sum(map(self._time.load, segment.inputs)) + sum(map(self._cycles, segment.steps))
        takes, gives = dict[str, int](), dict[str, int]()
        for held in segment.inputs:
            name = _source(self._graph, held.tensor)
            takes[name] = takes.get(name, 0) + int(np.prod(held.shape))
        sums = {step.layer.output: 4 * int(np.prod(step.layer.output_shape)) for step in segment.steps
                if isinstance(step, ChainLayer)}  # fmt: skip
        for output in segment.outputs:
            held_there, name = self._chain.held.get(output), _source(self._graph, output)
            size = sums[output] if held_there is None else int(np.prod(held_there.shape))
            gives[name] = gives.get(name, 0) + size
        layers = len(segment.layers)
        return OnChipSegment(layers, len(segment.steps) - layers, cycles, _hosted(segment.before), takes, gives)

    def _owner(self, step: Step) -> str:
        """The node whose step it is: of a matrix product, this, not what scales or moves it."""
        if isinstance(step, ChainLayer):
            return step.layer.name
        node = _maker(self._graph, self._chain.held[step.output].name)
        while step.kind == "matmul" and node is not None and node.op_type != "MatMul":
            node = next((made for name in node.input if (made := self._graph.producer(name)) is not None), None)
        return node_name(node) if node is not None else self._chain.held[step.output].name

    def _part_of(self, node: onnx.NodeProto) -> str:
        """The node whose step a node is part of; "" if it only moves what the host has loaded."""
        names, seen = [*node.output], set[str]()
        while names:
            name = names.pop(0)
            if name in self._chain.held:
                return self._owners.get(self._chain.held[name].tensor, "")
            seen.add(name)
            readers = self._graph.consumers.get(name, [])
            names += [output for reader in readers for output in reader.output if output not in seen]
        return ""

    def _cycles(self, step: Step) -> int:
        assert self._time is not None
        return self._unpruned(step.layer) if isinstance(step, ChainLayer) else self._time.posts[step.output]

    def _unpruned(self, layer: ArrayLayer) -> int:
        assert self._time is not None
        return self._time.of(layer, np.zeros(layer.channels, np.int64))

    def _bytes(self, step: Step) -> int:
        return _map_bytes(self._chain.held[step.output].shape) if step.output in self._read else 0


def _map_bytes(shape: Shape) -> int:
    return -(-shape[0] // OCTET) * plane_words(shape) * OCTET


def _hosted(off: OffChip) -> tuple[str, ...]:
    """The nodes that run off chip, those that only quantize left out."""
    found = list[str]()
    for step in off:
        nodes = step.model.graph.node if isinstance(step, HostSegment) else []
        found += [node_name(node) for node in nodes if node.op_type not in QUANTIZATION]
        found += [step.name] if isinstance(step, ArrayLayer) else []
    return tuple(found)


def _maker(graph: Graph, tensor: str) -> onnx.NodeProto | None:
    """The node that a tensor comes from, without those that only quantize; None of an input."""
    node = graph.producer(tensor)
    while node is not None and node.op_type in QUANTIZATION:
        node = graph.producer(node.input[0])
    return node


def _source(graph: Graph, tensor: str) -> str:
    """The name of the node, or of the input, that a tensor comes from."""
    while (node := graph.producer(tensor)) is not None and node.op_type in QUANTIZATION:
        tensor = node.input[0]
    return tensor if node is None else node_name(node)


def _owner(graph: Graph, node: onnx.NodeProto, layers: Container[str]) -> str:
    """The layer that has taken over a node, which follows it; else the node itself."""
    name, before = node_name(node), [node]
    for _ in range(3):  # the Add of a bias, then an activation
        before = [graph.producers[each] for other in before for each in other.input if each in graph.producers]
        for other in before:
            if node_name(other) in layers:
                return node_name(other)
    return name
