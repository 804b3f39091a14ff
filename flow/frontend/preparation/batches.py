"""Convolutions whose axis 0 is not the batch, such as one over all frames of a sample: rewritten so that it is.

Images along axis 0 become the first spatial axis of a convolution with one axis more, whose kernel is 1 there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from math import prod

import onnx
from onnx import helper

from flow.errors import FlowError
from flow.frontend.operators import ACTIVATIONS
from flow.onnxtools import external
from flow.onnxtools.edit import add_constant, add_reshape, replace_nodes, unused_name
from flow.onnxtools.graph import Graph, attribute, is_standard, node_name
from flow.onnxtools.shapes import auto_pads, batch_is_open, sample_shapes

MOST_AXES = 3  # spatial axes of a convolution on the array


def images_to_axis(model: onnx.ModelProto) -> None:
    """Rewrite each Conv of several images a sample [images, channels, ...], as one over [1, channels, images, ...]."""
    graph = Graph.of(model)
    one = sample_shapes(model)
    wanted = {
        node.output[0] for node in model.graph.node
        if node.op_type == "Conv" and is_standard(node) and _several(one.get(node.input[0], ()))
        and node.input[1] in graph.constants and not external.stays(graph.constants[node.input[1]])
    }  # fmt: skip
    if not wanted:
        return
    two = one
    if batch_is_open(model):
        two = {}
        with contextlib.suppress(FlowError):
            two = sample_shapes(model, 2)
    nodes: list[onnx.NodeProto] = []
    reshaped: set[str] = set()  # tensors of which the model may declare another shape
    later: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if node.output[0] not in wanted or not _grows(one, two, node):
            nodes += [node, *later.pop(node.output[0], [])]
            continue
        source, images = one[node.input[0]], one[node.input[0]][0]
        stem = node_name(node)
        nodes += _to_axis(model, node.input[0], source, f"{stem}/images")
        node.input[0] = nodes[-1].output[0]
        after = graph.only_consumer(node.output[0])
        last = after if after is not None and after.op_type in ACTIVATIONS else node
        inner, result = unused_name(model, f"{stem}/of_images"), last.output[0]
        back = _from_axis(model, inner, (images, *one[node.output[0]][1:]), result)
        last.output[0] = inner
        _one_axis_more(model, graph, node, source)
        nodes.append(node)
        if last is node:
            nodes += back
        else:
            later[inner] = back
            reshaped.add(node.output[0])
    replace_nodes(model, nodes)
    declared = [value for value in model.graph.value_info if value.name not in reshaped]
    del model.graph.value_info[:]
    model.graph.value_info.extend(declared)


def _several(shape: Sequence[int]) -> bool:
    return len(shape) > 2 and shape[0] > 1 and len(shape) - 2 < MOST_AXES and prod(shape) > 0


def _grows(one: dict[str, tuple[int, ...]], two: dict[str, tuple[int, ...]], node: onnx.NodeProto) -> bool:
    """Whether the shapes of a node's input and output are known, and fixed but for the number of images."""
    return all(
        name in one and name in two and one[name][1:] == two[name][1:] for name in (node.input[0], node.output[0])
    )


def _to_axis(model: onnx.ModelProto, source: str, shape: Sequence[int], stem: str) -> list[onnx.NodeProto]:
    """[images, channels, ...] as [1, channels, images, ...]."""
    split = add_reshape(model, source, [-1, *shape], unused_name(model, f"{stem}_apart"))
    order = [0, 2, 1, *range(3, len(shape) + 1)]
    turned = unused_name(model, f"{stem}_turned")
    return [split, helper.make_node("Transpose", [split.output[0]], [turned], turned, perm=order)]


def _from_axis(model: onnx.ModelProto, source: str, shape: Sequence[int], target: str) -> list[onnx.NodeProto]:
    """[1, channels, images, ...] as [images, channels, ...]."""
    order = [0, 2, 1, *range(3, len(shape) + 1)]
    turned = unused_name(model, f"{target}_turned")
    back = add_reshape(model, turned, [-1, *shape[1:]], target)
    return [helper.make_node("Transpose", [source], [turned], turned, perm=order), back]


def _one_axis_more(model: onnx.ModelProto, graph: Graph, node: onnx.NodeProto, shape: Sequence[int]) -> None:
    """Give a Conv one more spatial axis in front, along which its kernel is 1."""
    weights = graph.constant(node.input[1])
    assert weights is not None
    kernel = weights.shape[2:]
    strides = attribute(node, "strides", [1] * len(kernel))
    dilations = attribute(node, "dilations", [1] * len(kernel))
    mode = attribute(node, "auto_pad", b"NOTSET").decode()
    pads = attribute(node, "pads", [0] * 2 * len(kernel))
    if mode != "NOTSET":
        pads = auto_pads(mode, shape[2:], kernel, strides, dilations)
    begins, ends = pads[: len(kernel)], pads[len(kernel) :]
    values = {
        "kernel_shape": [1, *kernel], "strides": [1, *strides], "dilations": [1, *dilations],
        "pads": [0, *begins, 0, *ends], "group": attribute(node, "group", 1),
    }  # fmt: skip
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in values.items())
    node.input[1] = add_constant(model, f"{node_name(node)}/weights", weights[:, :, None])
