"""Edits of ONNX models: constants and nodes added, nodes replaced, subgraphs extracted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flow.onnxtools import external
from flow.onnxtools.graph import Graph, is_standard, names, reads, subgraphs


def add_constant(model: onnx.ModelProto, name: str, array: NDArray[Any]) -> str:
    """Add a constant under this name, or with underscores appended if the name is in use; returns the name."""
    name = unused_name(model, name)
    model.graph.initializer.append(external.constant(np.ascontiguousarray(array), name))
    return name


def unused_name(model: onnx.ModelProto, name: str) -> str:
    used = set(names(model.graph))
    while name in used:
        name += "_"
    return name


def add_reshape(model: onnx.ModelProto, source: str, shape: list[int], target: str) -> onnx.NodeProto:
    wanted = add_constant(model, f"{target}_shape", np.array(shape, np.int64))
    return helper.make_node("Reshape", [source, wanted], [target], f"{target}_reshape")


class Editor:
    """A model that is rewritten node by node: the graph as it was, the new `nodes` in order, and unused names.

    New constants go into the model and the graph at once, the nodes into the model when `finish` is called.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph = Graph.of(model)
        self.nodes: list[onnx.NodeProto] = []
        self._names: set[str | bytes] = set(names(model.graph))

    def name(self, wanted: str) -> str:
        """This name, or with underscores appended until it is unused; the name counts as used from now on."""
        while wanted in self._names:
            wanted += "_"
        self._names.add(wanted)
        return wanted

    def constant(self, wanted: str, array: NDArray[Any] | np.generic) -> str:
        """Add a constant; returns its name."""
        name = self.name(wanted)
        self.graph.constants[name] = external.constant(np.array(array, order="C"), name)
        self.model.graph.initializer.append(self.graph.constants[name])
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, name: str = "", **attributes: Any) -> str:
        """Add a node that makes the tensor `output`; returns this tensor."""
        self.nodes.append(helper.make_node(op, inputs, [output], name or self.name(f"{output}_{op}"), **attributes))
        return output

    def step(self, op: str, inputs: Sequence[str], stem: str, **attributes: Any) -> str:
        """Add a node that makes a new tensor, named after `stem` and the operator; returns this tensor."""
        return self.node(op, inputs, self.name(f"{stem}_{op}"), **attributes)

    def finish(self) -> None:
        """Replace the model's nodes by the new ones, and drop what no output needs."""
        replace_nodes(self.model, self.nodes)
        drop_unused_nodes(self.model)
        alive = {name for node in self.model.graph.node for name in node.output}
        infos = [value for value in self.model.graph.value_info if value.name in alive]
        del self.model.graph.value_info[:]
        self.model.graph.value_info.extend(infos)


def drop_unused_nodes(model: onnx.ModelProto) -> None:
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(reads(node))
            kept.append(node)
    replace_nodes(model, reversed(kept))
    constants = model.graph.initializer
    for index in reversed(range(len(constants))):
        if constants[index].name not in needed:
            del constants[index]


def model_like(model: onnx.ModelProto, graph: onnx.GraphProto) -> onnx.ModelProto:
    """A model around `graph` with the versions, operator sets and functions of `model`."""
    result = helper.make_model(graph, opset_imports=model.opset_import, functions=model.functions)
    result.ir_version = model.ir_version
    return result


def replace_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def rename_reads(graph: onnx.GraphProto, name: str, other: str) -> None:
    """Let all nodes of a graph and of its subgraphs read the tensor `other` instead of `name`.

    Outputs of subgraphs that are that tensor get an Identity of `other`.
    """
    for node in graph.node:
        node.input[:] = [other if each == name else each for each in node.input]
        for inner in subgraphs(node):
            own = {value.name for value in inner.input} | {tensor.name for tensor in inner.initializer}
            own |= {output for each in inner.node for output in each.output}
            if name in own:
                continue
            rename_reads(inner, name, other)
            for value in inner.output:
                if value.name == name:
                    value.name = f"{other}_{len(inner.node)}"
                    inner.node.append(helper.make_node("Identity", [other], [value.name], f"{value.name}_identity"))


def between(graph: Graph, inputs: Sequence[onnx.ValueInfoProto], *outputs: onnx.ValueInfoProto) -> onnx.ModelProto:
    """The subgraph from `inputs` to `outputs`, as a model of its own.

    A node that makes an input as well as something else makes the input under another name.
    """
    ends = {value.name for value in inputs}
    needed: set[str] = set()
    stack, seen = [value.name for value in outputs], set()
    while stack:
        name = stack.pop()
        if name in seen or name in ends:
            continue
        seen.add(name)
        if name in graph.constants:
            needed.add(name)
        else:
            stack.extend(reads(graph.producers[name]))
    nodes = [
        _without(node, ends) for node in graph.model.graph.node if any(name in seen for name in node.output)
    ]  # fmt: skip
    constants = [graph.constants[name] for name in sorted(needed)]
    return model_like(graph.model, helper.make_graph(nodes, "part", inputs, outputs, constants))


def _without(node: onnx.NodeProto, taken: Collection[str]) -> onnx.NodeProto:
    """The node, with other names for those of its outputs whose names are taken."""
    if not any(name in taken for name in node.output):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for place in range(len(copy.output)):
        while copy.output[place] in taken:
            copy.output[place] += "_again"
    return copy


def set_attributes(node: onnx.NodeProto, without: Collection[str] = (), **values: Any) -> None:
    """Set these attributes of a node, and leave out those `without`; the others stay, in their order."""
    kept = [entry for entry in node.attribute if entry.name not in values and entry.name not in without]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in values.items())])


def set_axis(dequantize: onnx.NodeProto, axis: int) -> None:
    set_attributes(dequantize, axis=axis)


def constants_to_initializers(model: onnx.ModelProto) -> None:
    """Constant nodes become initializers, but those of text or of a sparse tensor."""
    kept = []
    for node in model.graph.node:
        tensor = _constant(node) if node.op_type == "Constant" and is_standard(node) else None
        if tensor is None:
            kept.append(node)
        else:
            entry = model.graph.initializer.add()
            entry.CopyFrom(tensor)
            entry.name = node.output[0]
    replace_nodes(model, kept)


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The value of a Constant node; None if it is text or sparse."""
    for entry in node.attribute:
        if entry.name == "value":
            tensor: onnx.TensorProto = entry.t
            return tensor
        if entry.name in ("value_float", "value_floats"):
            return numpy_helper.from_array(np.asarray(helper.get_attribute_value(entry), np.float32))
        if entry.name in ("value_int", "value_ints"):
            return numpy_helper.from_array(np.asarray(helper.get_attribute_value(entry), np.int64))
    return None
