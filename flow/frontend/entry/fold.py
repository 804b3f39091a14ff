"""Constants and shapes folded: what does not depend on a sample's values is computed once."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flow.errors import FlowError
from flow.onnxtools import external, runtime
from flow.onnxtools.draws import RANDOM
from flow.onnxtools.edit import (
    add_constant,
    constants_to_initializers,
    drop_unused_nodes,
    model_like,
    rename_reads,
    replace_nodes,
)
from flow.onnxtools.graph import Graph, attribute, is_standard, node_input, node_name, reads, subgraphs
from flow.onnxtools.shapes import batch_is_open, element_types, sample_shapes

GROWTH = 2**20  # bytes: a constant this large is not folded unless it is computed from constants as large
ROUNDS = 32

Arrays = dict[str, NDArray[Any]]
Shapes = dict[str, tuple[int, ...]]


def fold(model: onnx.ModelProto) -> None:
    """Fold constants, shapes that are the same for every batch, and conditions that are constant.

    The shape that a Reshape is given may depend on the batch: then -1 stands for the axis that grows with it.
    """
    fold_constants(model)
    if any(node.op_type in ("Shape", "Size") for node in model.graph.node):
        _fold_shapes(model)
        fold_constants(model)
    _drop_identities(model)
    drop_unused_nodes(model)


def fold_constants(model: onnx.ModelProto) -> None:
    """Fold what depends on constants alone, and every If whose condition does."""
    constants_to_initializers(model)
    while _inline_decided(model) + _fold_constants(model):
        constants_to_initializers(model)


def _fold_constants(model: onnx.ModelProto, found: Arrays | None = None) -> int:
    """Replace nodes whose inputs are constant by constants; returns how many. `found` gets the constants' values."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer if not external.stays(tensor)}
    outputs = {value.name for value in model.graph.output}
    known, nodes = set(constants), []
    for node in model.graph.node:
        if _foldable(node) and all(name in known for name in node.input if name) and not outputs & {*node.output}:
            known.update(node.output)
            nodes.append(node)
    values = _computed(model, nodes, constants)
    folded = {id(node) for node in nodes if all(name in values for name in node.output if name)}
    kept = [node for node in model.graph.node if id(node) not in folded]
    read = {name for node in kept for name in reads(node)}
    replace_nodes(model, kept)
    model.graph.initializer.extend(external.constant(values[name], name) for name in values if name in read)
    drop_unused_nodes(model)
    if found is not None:
        found |= values
    return len(folded)


def _foldable(node: onnx.NodeProto) -> bool:
    return node.op_type not in ("Constant", *RANDOM) and not any(True for _ in subgraphs(node)) and bool(node.input)


def _computed(model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]) -> Arrays:
    """The outputs of nodes that depend on constants alone, but those that are much larger than these."""
    if not nodes:
        return {}
    needed = dict.fromkeys(name for node in nodes for name in node.input if name in constants)
    wanted = [onnx.ValueInfoProto(name=name) for node in nodes for name in node.output if name]
    body = helper.make_graph(nodes, "constants", [], wanted, [constants[name] for name in needed])
    try:
        values = runtime.run(runtime.session(model_like(model, body), optimise=False), {})
    except FlowError:  # an operator that ONNX Runtime has for the network's inputs only, or values that do not fit
        return {}
    most = max(GROWTH, 2 * sum(external.size(constants[name]) for name in needed))
    return {name: array for name, array in values.items() if isinstance(array, np.ndarray) and array.nbytes <= most}


# -------------------------------------------------------------------------------- shapes


def _fold_shapes(model: onnx.ModelProto) -> None:
    """Fold what is computed from shapes alone and is the same for a batch of 1 and of 2.

    If the result of a Reshape to a computed shape differs in one axis alone, that axis becomes -1.
    """
    one, shapes = _shape_values(model, 1)
    two, more = _shape_values(model, 2) if batch_is_open(model) else (one, shapes)
    outputs = {value.name for value in model.graph.output}
    fixed = {
        name: array for name, array in one.items()
        if name not in outputs and name in two and array.dtype == two[name].dtype and np.array_equal(array, two[name])
    }  # fmt: skip
    kept = []
    for node in model.graph.node:
        if fixed and all(name in fixed for name in node.output if name):
            continue
        computed = node.op_type == "Reshape" and is_standard(node) and node.input[1] in one
        result = node.output[0]
        if computed and node.input[1] not in fixed and len(shapes.get(result, ())) == len(more.get(result, (0,))):
            sizes = [size if size == other else -1 for size, other in zip(shapes[result], more[result], strict=True)]
            if sizes.count(-1) == 1:
                node.input[1] = add_constant(model, f"{result}_shape", np.array(sizes, np.int64))
        kept.append(node)
    replace_nodes(model, kept)
    read = {name for node in kept for name in reads(node)}
    model.graph.initializer.extend(numpy_helper.from_array(fixed[name], name) for name in fixed if name in read)
    drop_unused_nodes(model)


def _shape_values(model: onnx.ModelProto, batch: int) -> tuple[Arrays, Shapes]:
    """All tensors that depend on constants and shapes alone, and all known shapes, for this batch.

    Both are empty if the network does not fit the batch.
    """
    outlined = external.large_as_inputs(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(outlined)
    weights = {value.name for value in copy.graph.input} - {value.name for value in model.graph.input}
    found: Arrays = {}
    shapes: Shapes = {}
    for _ in range(ROUNDS):
        try:
            shapes = sample_shapes(copy, batch, weights)
        except FlowError:
            return {}, {}
        kept, sizes = [], {}
        for node in copy.graph.node:
            shape = shapes.get(node_input(node, 0)) if node.op_type in ("Shape", "Size") else None
            if shape is None:
                kept.append(node)
            elif node.op_type == "Size":
                sizes[node.output[0]] = np.array(prod(shape), np.int64)
            else:
                end = attribute(node, "end", len(shape))
                sizes[node.output[0]] = np.array(shape[slice(attribute(node, "start", 0), end)], np.int64)
        replace_nodes(copy, kept)
        copy.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in sizes.items())
        found |= sizes
        if not _fold_constants(copy, found) and not sizes:
            break
    return found, shapes


# -------------------------------------------------------------------------------- conditions and identities


def _inline_decided(model: onnx.ModelProto) -> int:
    """Replace every If whose condition is constant by the branch that it takes; returns how many."""
    graph = Graph.of(model)
    nodes: list[onnx.NodeProto] = []
    count = 0
    for node in model.graph.node:
        condition = graph.constant(node_input(node, 0)) if node.op_type == "If" and is_standard(node) else None
        if condition is None or condition.size != 1:
            nodes.append(node)
            continue
        taken = "then_branch" if condition.item() else "else_branch"
        nodes += _inlined(model, node, next(entry.g for entry in node.attribute if entry.name == taken))
        count += 1
    replace_nodes(model, nodes)
    return count


def _inlined(model: onnx.ModelProto, node: onnx.NodeProto, branch: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes of a branch, its tensors renamed so that each name is the node's own; constants move to the model."""
    body = onnx.GraphProto()
    body.CopyFrom(branch)
    stem = node_name(node)
    own = [tensor.name for tensor in body.initializer] + [name for each in body.node for name in each.output if name]
    names = {name: f"{stem}/{name}" for name in own}
    for name, other in names.items():
        rename_reads(body, name, other)
    for each in body.node:
        each.output[:] = [names.get(name, name) for name in each.output]
        each.name = f"{stem}/{node_name(each)}" if each.name else ""
    for tensor in body.initializer:
        tensor.name = names[tensor.name]
    model.graph.initializer.extend(body.initializer)
    results = [names.get(value.name, value.name) for value in body.output]
    ends = [
        helper.make_node("Identity", [result], [output], f"{output}_identity")
        for result, output in zip(results, node.output, strict=True)
    ]
    return [*body.node, *ends]


def _drop_identities(model: onnx.ModelProto) -> None:
    """Leave out Identity, Dropout and casts to the same type; an output is then made by the node before."""
    outputs = {value.name for value in model.graph.output}
    kinds = element_types(model)
    graph = Graph.of(model)
    kept = []
    for node in model.graph.node:
        if not _is_identity(graph, node, kinds):
            kept.append(node)
        elif node.output[0] not in outputs:
            rename_reads(model.graph, node.output[0], node.input[0])
        elif (before := graph.producer(node.input[0])) is not None and node.input[0] not in outputs:
            name, output = node.input[0], node.output[0]
            before.output[:] = [output if each == name else each for each in before.output]
            rename_reads(model.graph, name, output)
            graph = Graph.of(model)
        else:
            kept.append(node)
    replace_nodes(model, kept)


def _is_identity(graph: Graph, node: onnx.NodeProto, kinds: Mapping[str, int]) -> bool:
    """Whether a node's output is its input, and nobody reads another output of it."""
    if not is_standard(node):
        return False
    if node.op_type == "Cast":
        return bool(attribute(node, "to", 0) == kinds.get(node.input[0]))
    if node.op_type == "Dropout":
        training = node_input(node, 2)
        return not graph.consumers.get(node.output[1] if len(node.output) > 1 else "") and (
            not training or (graph.constant(training) is not None and not graph.constant(training))
        )
    return node.op_type == "Identity"
