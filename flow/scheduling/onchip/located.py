"""Where every node of a network runs with feature maps on chip, and what it costs there."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import onnx

from flow.frontend.inspection import QUANTIZATION, OnChipInspection, OnChipNode
from flow.hardware.config import ArrayConfig
from flow.network.model import Network
from flow.onnxtools.graph import Graph, node_name
from flow.scheduling.onchip.chain import Chain
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.timing import on_chip

OUTSIDE = "before the first layer, or behind the last one"


def located(network: Network, chain: Chain, config: ArrayConfig) -> OnChipInspection:
    """Where every node runs, but those that only quantize; cycles on this array, without pruning."""
    graph, found = network.graph, dict[str, OnChipNode]()
    reasons = {name: left.reason for left in chain.left for name in left.nodes}
    segments = {
        name: number
        for number, segment in enumerate(chain.segments, 1)
        for unit in segment.units
        for name in unit.names
    }
    layers, total = {layer.name: layer for layer in network.layers}, 0
    cycles: dict[str, int] = {}
    if chain.segments:
        time = on_chip(chain, network.layers, config)
        cycles = {name: time.of(layer, np.zeros(layer.channels, np.int64)) for name, layer in layers.items()}
        total = time.beside + sum(cycles[name] for name in layers if name in segments)
        for step in chain.steps:
            if isinstance(step, PostOp):
                name = _maker(graph, chain.held[step.output].name)
                cycles[name] = cycles.get(name, 0) + time.posts[step.output]
    for node in network.model.graph.node:
        if node.op_type in QUANTIZATION:
            continue
        name = node_name(node)
        owner = name if name in segments or name in reasons else _owner(graph, node, layers)
        segment = segments.get(owner)
        reason = "" if segment else reasons.get(owner, OUTSIDE)
        found[name] = OnChipNode(segment, reason, cycles.get(name))
    macs = sum(layer.macs for segment in chain.segments for layer in segment.layers)
    products = (step.matrices for step in chain.steps if isinstance(step, PostOp) and step.kind == "matmul")
    macs += sum(matrices.macs for matrices in products if matrices)
    array = f"{config.rows}x{config.columns}"
    return OnChipInspection(found, len(chain.segments), chain.whole, macs, array, total)


def _maker(graph: Graph, tensor: str) -> str:
    """The node that a tensor comes from, without those that only quantize."""
    node = graph.producers[tensor]
    while node.op_type in QUANTIZATION and node.input[0] in graph.producers:
        node = graph.producers[node.input[0]]
    return node_name(node)


def _owner(graph: Graph, node: onnx.NodeProto, layers: Container[str]) -> str:
    """The layer that has taken over a node, which follows it; else the node itself."""
    name, before = node_name(node), [node]
    for _ in range(3):  # the Add of a bias, then an activation
        before = [graph.producers[each] for other in before for each in other.input if each in graph.producers]
        for other in before:
            if node_name(other) in layers:
                return node_name(other)
    return name
