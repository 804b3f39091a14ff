"""Equalization: the channels of a tensor between a convolution and depthwise ones get ranges that are alike.

A tensor has one scale for all channels (docs/numbers.md), so that a channel of small values has few codes. Its values
can be multiplied by a factor for each channel: in the weights of the convolution before, and divided out of those of
the depthwise convolutions behind. Both have a scale for each channel, which takes the factor over: the weights' codes
stay as they are, and nothing is lost for what the activations gain. Where all channels of a layer read the tensor, the
weights lose as much (docs/figures.md). Nagel et al., arXiv 1906.04721, section 4.1, scale any two layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.frontend.quantization.ranges import COUNTED, spread
from flow.network.samples import Arrays
from flow.onnxtools import external, runtime
from flow.onnxtools.edit import add_constant, drop_unused_nodes
from flow.onnxtools.graph import Graph, attribute, is_standard, node_input

LARGEST = 16  # factor: a channel that is small on the calibration samples may be larger on others


@dataclass(frozen=True)
class _Place:
    """A tensor that `layer`, with or without a Relu behind it, makes and depthwise convolutions read."""

    tensor: str
    layer: onnx.NodeProto
    readers: Sequence[onnx.NodeProto]


def equalized(model: onnx.ModelProto, feeds: Arrays) -> tuple[onnx.ModelProto, int]:
    """The float network with such tensors equalized, and their number; the network itself where there are none.

    `feeds`: the calibration samples. Factors are powers of two, with which a float network computes the same to the
    bit, and no channel exceeds the range that the tensor had.
    """
    if not any(True for _ in _places(Graph.of(model))):
        return model, 0
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, count = Graph.of(copy), 0
    places = list(_places(graph))
    largest = _largest(copy, [place.tensor for place in places], feeds)
    for place in places:
        factors = _factors(largest[place.tensor])
        if (factors == 1).all():
            continue
        count += 1
        _scale(copy, place.layer, factors)
        for reader in place.readers:
            _scale(copy, reader, np.float32(1) / factors, bias=False)
    drop_unused_nodes(copy)
    return (copy, count) if count else (model, 0)


def _places(graph: Graph) -> Iterator[_Place]:
    for node in graph.model.graph.node:
        if not _is_layer(graph, node):
            continue
        after = graph.only_consumer(node.output[0])
        relu = after is not None and after.op_type == "Relu" and is_standard(after)
        tensor = after.output[0] if after is not None and relu else node.output[0]
        readers = graph.consumers.get(tensor, [])
        if tensor not in graph.outputs and readers and all(_is_depthwise(graph, each, tensor) for each in readers):
            yield _Place(tensor, node, readers)


def _is_layer(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution whose weights and bias are constants that may be changed."""
    if node.op_type != "Conv" or not is_standard(node):
        return False
    tensors = [graph.constants.get(name) for name in node.input[1:] if name]
    return all(
        each is not None and each.data_type == onnx.TensorProto.FLOAT and not external.stays(each) for each in tensors
    )


def _is_depthwise(graph: Graph, node: onnx.NodeProto, tensor: str) -> bool:
    """Whether a node is a convolution of `tensor` in which every channel is read by channels of its own."""
    if not _is_layer(graph, node) or node.input[0] != tensor:
        return False
    dims = graph.constants[node.input[1]].dims
    return bool(attribute(node, "group", 1) > 1 and dims[1] == 1)


def _largest(model: onnx.ModelProto, tensors: Sequence[str], feeds: Arrays) -> Mapping[str, NDArray[np.float32]]:
    """The largest magnitude of each channel of each tensor, float32 [channels], over `COUNTED` samples at most."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    session = runtime.session(copy)
    found: dict[str, NDArray[np.float32]] = {}
    for number in spread(len(next(iter(feeds.values()))), COUNTED):
        values = runtime.run(session, {name: array[number : number + 1] for name, array in feeds.items()})
        for name in tensors:
            array = np.abs(values[name])
            each = array.max(axis=(0, *range(2, array.ndim)), initial=0)
            found[name] = np.maximum(found.get(name, each), each)
    return found


def _factors(largest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Powers of two, float32 [channels], at most `LARGEST`, with which no channel exceeds the largest one."""
    most = float(largest.max(initial=0))
    if not 0 < most < np.inf:
        return np.ones(len(largest), np.float32)
    ratios = most / np.maximum(largest.astype(np.float64), most / LARGEST)
    return np.exp2(np.floor(np.log2(ratios))).astype(np.float32)


def _scale(model: onnx.ModelProto, node: onnx.NodeProto, factors: NDArray[np.float32], bias: bool = True) -> None:
    """Multiply the weights of a convolution, and its bias, by a factor for each output channel, or for each group."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for place in (1, 2) if bias and node_input(node, 2) else (1,):
        values = external.values(constants[node.input[place]])
        rows = np.repeat(factors, len(values) // len(factors))
        scaled = values * rows.reshape(-1, *[1] * (values.ndim - 1))
        node.input[place] = add_constant(model, f"{node.input[place]}_equalized", scaled.astype(np.float32))
