"""Look-ups over an ONNX graph: who makes and who reads a tensor, what is constant, types and shapes."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from flow import external, host
from flow.errors import FlowError, first_line


def opset(model: onnx.ModelProto) -> int:
    """The version of the standard ONNX operator set."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs a user feeds: graph inputs that are not initializers."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a graph: initializers and attributes, those of its subgraphs included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from node_tensors(node)


def node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    """The constants in a node's attributes, those of its subgraphs included."""
    for attribute in node.attribute:
        yield from ([attribute.t] if attribute.HasField("t") else [])
        yield from attribute.tensors
        for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
            yield from tensors(inner)


def names(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    """Every name in a graph, those of its subgraphs included; bytes where it is not UTF-8."""
    yield graph.name
    for tensor in graph.initializer:
        yield tensor.name
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                yield from names(inner)


def reads(node: onnx.NodeProto) -> list[str]:
    """Names a node reads, those its subgraphs (If, Loop, Scan) take from outside included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
            inner = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            for child in graph.node:
                names += [name for name in reads(child) if name not in inner]
                inner |= set(child.output)
            names += [value.name for value in graph.output if value.name not in inner]
    return names


def is_standard(node: onnx.NodeProto) -> bool:
    """Whether the operator is ONNX's own."""
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
    """Look-ups over one model: who makes a tensor, who uses it, which are constant."""

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
        if values.nbytes <= external.LARGE:  # large ones are read anew: the model holds them already
            self.arrays[name] = values
        return values

    def only_consumer(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads a tensor nobody else can see."""
        users = self.consumers.get(name, [])
        return users[0] if len(users) == 1 and name not in self.outputs else None


def size(graph: Graph, name: str) -> int:
    array = graph.constant(name)
    return 0 if array is None else array.size


def model_like(model: onnx.ModelProto, graph: onnx.GraphProto) -> onnx.ModelProto:
    """A model around `graph` with the versions, operator sets and functions of `model`."""
    made = helper.make_model(graph, opset_imports=model.opset_import, functions=model.functions)
    made.ir_version = model.ir_version
    return made


def replace_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)


@dataclass(frozen=True)
class Types:
    """Element type and shape of tensors: as declared (open batch), and of one sample (batch 1)."""

    declared: dict[str, onnx.ValueInfoProto]
    shapes: dict[str, tuple[int, ...]]


def infer(model: onnx.ModelProto, wanted: Iterable[str]) -> Types:
    declared = _value_infos(_inferred(model))
    shapes = sample_shapes(model)
    missing = [name for name in wanted if name not in shapes or name not in declared]
    if missing:
        _measure(_one_sample(model), missing, declared, shapes)
    return Types(declared, shapes)


def sample_shapes(model: onnx.ModelProto, batch: int = 1) -> dict[str, tuple[int, ...]]:
    """The shapes of so many samples that shape inference finds, by tensor. FlowError when they do not fit."""
    shapes: dict[str, tuple[int, ...]] = {}
    outlined = external.outline(model)
    large = {value.name for value in outlined.graph.input} - {value.name for value in model.graph.input}
    for name, info in _value_infos(_inferred(_one_sample(outlined, large, batch))).items():
        dims = info.type.tensor_type.shape.dim if info.type.tensor_type.HasField("shape") else None
        if dims is not None and all(dim.HasField("dim_value") for dim in dims):
            shapes[name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(external.outline(model), data_prop=True)
    except Exception as error:
        raise FlowError(
            f"the shapes of network '{model.graph.name}' do not fit: {first_line(error)}; export it again"
        ) from None


def _one_sample(model: onnx.ModelProto, constants: Container[str] = (), batch: int = 1) -> onnx.ModelProto:
    """A copy of this batch, without what it declares of other shapes; `constants` are no inputs of the user's."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]
    for value in graph_inputs(single):
        if value.name not in constants and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = batch
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    return single


def _value_infos(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    values = [*model.graph.value_info, *model.graph.output, *model.graph.input]
    return {value.name: value for value in values if value.type.tensor_type.elem_type}


def _measure(
    single: onnx.ModelProto,
    missing: list[str],
    declared: dict[str, onnx.ValueInfoProto],
    shapes: dict[str, tuple[int, ...]],
) -> None:
    """What shape inference does not know is taken from a run on one sample of zeros."""
    already = {value.name for value in single.graph.output}
    del single.graph.output[:]
    single.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(missing))
    feeds = {}
    for value in graph_inputs(single):
        tensor = value.type.tensor_type
        kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        feeds[value.name] = np.zeros([dim.dim_value for dim in tensor.shape.dim], kind)
    for name, array in host.run(single, feeds).items():
        if not isinstance(array, np.ndarray):  # a sequence, or an optional that is not there
            continue
        shapes[name] = array.shape
        if name not in declared or name in already:
            element = int(helper.np_dtype_to_tensor_dtype(array.dtype))
            declared[name] = helper.make_tensor_value_info(name, element, None)
