"""Activations of 16 bits: real numbers within their range, which get 8 bits as those of a float network do."""

from __future__ import annotations

import numpy as np
import onnx

from flow.onnxtools.edit import add_constant, drop_unused_nodes, replace_nodes
from flow.onnxtools.graph import Graph, is_dequantize, node_input, node_name

WIDE = (np.int16, np.uint16)


def wide_to_real(model: onnx.ModelProto) -> int:
    """Replace QuantizeLinear and DequantizeLinear of 16 bits by a Clip to their range; returns how many tensors.

    In place, and only if every activation that is quantized has 16 bits, one constant scale and zero point, and its
    codes are read by DequantizeLinear alone. The range stands for a Relu or Clip, which quantizers leave out.
    """
    graph = Graph.of(model)
    quantizers = [
        node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in graph.constants
    ]
    ranges = {node.output[0]: _range(graph, node) for node in quantizers}
    readers = {codes: graph.consumers.get(codes, []) for codes in ranges}
    if not ranges or None in ranges.values() or graph.outputs.intersection(ranges):
        return 0
    if not all(is_dequantize(node) and node.input[0] in ranges for nodes in readers.values() for node in nodes):
        return 0
    sources, nodes = {node.output[0]: node.input[0] for node in quantizers}, []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and (limits := ranges.get(node.input[0])) is not None:
            name = node_name(node)
            low, high = (np.array(limit, np.float32) for limit in limits)
            bounds = [add_constant(model, f"{name}_low", low), add_constant(model, f"{name}_high", high)]
            nodes.append(onnx.helper.make_node("Clip", [sources[node.input[0]], *bounds], node.output, name))
        elif node.output and node.output[0] in ranges:
            continue
        else:
            nodes.append(node)
    replace_nodes(model, nodes)
    drop_unused_nodes(model)
    return len(ranges)


def _range(graph: Graph, node: onnx.NodeProto) -> tuple[float, float] | None:
    """The smallest and the largest real number of a quantizer of 16 bits; None of any other."""
    scale, zero = graph.constant(node.input[1]), graph.constant(node_input(node, 2))
    if scale is None or zero is None or scale.size != 1 or zero.size != 1 or zero.dtype not in WIDE:
        return None
    step, shift = float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0])
    if not step > 0 or scale.dtype != np.float32:
        return None
    limits = np.iinfo(zero.dtype)
    return (limits.min - shift) * step, (limits.max - shift) * step
