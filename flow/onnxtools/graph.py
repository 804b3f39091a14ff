"""Look-ups over an ONNX graph: producer and consumers of a tensor, constants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from flow.onnxtools import external


def opset(model: onnx.ModelProto) -> int:
    """The version of the standard ONNX operator set."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs a user feeds: graph inputs that are not initializers."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a graph and its subgraphs: initializers and attributes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from node_tensors(node)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node's attributes: branches of If, bodies of Loop and Scan."""
    for attribute in node.attribute:
        yield from [attribute.g] if attribute.HasField("g") else attribute.graphs


def node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    """The constants in a node's attributes, including those of its subgraphs."""
    for attribute in node.attribute:
        yield from ([attribute.t] if attribute.HasField("t") else [])
        yield from attribute.tensors
    for inner in subgraphs(node):
        yield from tensors(inner)


def names(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    """Every name in a graph and its subgraphs; bytes where a name is not UTF-8."""
    yield graph.name
    for tensor in graph.initializer:
        yield tensor.name
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
        for inner in subgraphs(node):
            yield from names(inner)


def reads(node: onnx.NodeProto) -> list[str]:
    """Names a node reads, including those its subgraphs (If, Loop, Scan) read from the enclosing graph."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        inner = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        for child in graph.node:
            names += [name for name in reads(child) if name not in inner]
            inner |= set(child.output)
        names += [value.name for value in graph.output if value.name not in inner]
    return names


def is_standard(node: onnx.NodeProto) -> bool:
    """Whether the operator belongs to the standard ONNX operator set."""
    return node.domain in ("", "ai.onnx")


def is_dequantize(node: onnx.NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def node_name(node: onnx.NodeProto) -> str:
    return node.name or next(iter(node.output), node.op_type)


def node_input(node: onnx.NodeProto, index: int) -> str:
    return node.input[index] if len(node.input) > index else ""


@dataclass(frozen=True)
class Graph:
    """Look-ups over one model: producers and consumers of tensors, constants."""

    model: onnx.ModelProto
    producers: dict[str, onnx.NodeProto]
    consumers: dict[str, list[onnx.NodeProto]]
    constants: dict[str, onnx.TensorProto]
    outputs: frozenset[str]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    @staticmethod
    def of(model: onnx.ModelProto) -> Graph:
        consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in dict.fromkeys(reads(node)):
                consumers.setdefault(name, []).append(node)
        return Graph(
            model=model,
            producers={name: node for node in model.graph.node for name in node.output if name},
            consumers=consumers,
            constants={tensor.name: tensor for tensor in model.graph.initializer},
            outputs=frozenset(value.name for value in model.graph.output),
        )

    def producer(self, name: str) -> onnx.NodeProto | None:
        return self.producers.get(name)

    def constant(self, name: str) -> NDArray[Any] | None:
        if name not in self.constants:
            return None
        if name in self.arrays:
            return self.arrays[name]
        values = external.values(self.constants[name])
        outside = external.is_external(self.constants[name])
        if not outside and values.nbytes <= external.LARGE:  # the model holds large arrays already, or their file does
            self.arrays[name] = values
        return values

    def only_consumer(self, name: str) -> onnx.NodeProto | None:
        """The only node that reads a tensor; None if others read it, or it is an output of the network."""
        users = self.consumers.get(name, [])
        return users[0] if len(users) == 1 and name not in self.outputs else None


@dataclass(frozen=True)
class QuantizedConstant:
    """A constant behind a DequantizeLinear: real = scale * (codes - zero); scale or zero is None if not constant."""

    node: onnx.NodeProto
    codes: NDArray[Any]
    scale: NDArray[Any] | None
    zero: NDArray[Any] | None  # zeros of the codes' type where the node has no third input

    @property
    def tensor(self) -> str:
        """The name of the codes."""
        return str(self.node.input[0])


def linear_codes(
    values: NDArray[Any], scale: np.float32, zero: np.int8 | np.uint8
) -> NDArray[np.int8] | NDArray[np.uint8]:
    """The codes that QuantizeLinear makes of real values with one scale, in the type of the zero point; 0 of NaN."""
    limits = np.iinfo(zero.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.rint(values.astype(np.float32) / scale) + np.float32(zero)
    codes: NDArray[np.int8] | NDArray[np.uint8]
    codes = np.nan_to_num(np.clip(rounded, limits.min, limits.max)).astype(zero.dtype)
    return codes


def quantized_constant(graph: Graph, name: str) -> QuantizedConstant | None:
    """The constant a tensor is dequantized from; None if its producer is not a DequantizeLinear of a constant."""
    node = graph.producer(name)
    codes = graph.constant(node.input[0]) if node is not None and is_dequantize(node) else None
    if node is None or codes is None:
        return None
    zero = node_input(node, 2)
    zeros = graph.constant(zero) if zero else np.zeros(1, codes.dtype)
    return QuantizedConstant(node, codes, graph.constant(node_input(node, 1)), zeros)


def size(graph: Graph, name: str) -> int:
    array = graph.constant(name)
    return 0 if array is None else array.size
