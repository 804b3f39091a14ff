"""Conditions of Where that depend on the sample, as numbers: 0 and 1, which may have 8 bits, compared with 0."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from flow.onnxtools.edit import Editor
from flow.onnxtools.graph import Graph, is_standard, node_name


def conditions_as_numbers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy in which every Where reads its condition as `Greater(number, 0)`.

    `condition_of` finds the number. A constant condition stays, and so does a Where of constants of several values.
    """
    graph = Graph.of(model)
    if not any(_chooses(graph, node) for node in model.graph.node):
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    editor, found = Editor(made), dict[str, str]()
    for node in made.graph.node:
        condition = node.input[0] if _chooses(editor.graph, node) else ""
        if condition and condition not in found:
            found[condition] = editor.step("Cast", [condition], node_name(node), to=TensorProto.FLOAT)
        if condition:
            zero = editor.constant(f"{node_name(node)}_none", np.float32(0))
            node.input[0] = editor.step("Greater", [found[condition], zero], node_name(node))
        editor.nodes.append(node)
    editor.finish()
    return made


def condition_of(graph: Graph, node: onnx.NodeProto) -> str | None:
    """The number that is not 0 where the condition of a Where holds; "" of a constant one, None of any other."""
    if node.input[0] in graph.constants:
        return ""
    maker = graph.producer(node.input[0])
    zero = graph.constant(maker.input[1]) if maker is not None and maker.op_type == "Greater" else None
    cast = graph.producer(maker.input[0]) if maker is not None and zero is not None and (zero == 0).all() else None
    return cast.output[0] if cast is not None and cast.op_type == "Cast" else None


def _chooses(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node is a Where of tensors, or of one and a number, whose condition is no constant."""
    if node.op_type != "Where" or not is_standard(node) or node.input[0] in graph.constants:
        return False
    constants = [graph.constant(name) for name in node.input[1:] if name in graph.constants]
    return len(constants) < 2 and all(value is not None and np.unique(value).size == 1 for value in constants)
