"""PRelu with a slope for each channel, as what is computed on chip: the larger of a map and its product."""

from __future__ import annotations

import numpy as np
import onnx

from flow.onnxtools.edit import Editor
from flow.onnxtools.graph import Graph, is_standard, node_name


def slopes_as_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy in which a PRelu of slopes s is Max(x, s x) if none is above 1, Min if none is below.

    A PRelu with one slope stays: a table has it. So does one with slopes on both sides of 1.
    """
    graph = Graph.of(model)
    found = {node_name(node): each for node in model.graph.node if (each := _extremum(graph, node)) is not None}
    if not found:
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    editor = Editor(made)
    for node in made.graph.node:
        name = node_name(node)
        if name in found:
            product = editor.step("Mul", node.input, name)
            editor.node(found[name], [node.input[0], product], node.output[0], node.name)
        else:
            editor.nodes.append(node)
    editor.finish()
    return made


def _extremum(graph: Graph, node: onnx.NodeProto) -> str | None:
    """Max or Min, if a PRelu is that of its input and its product."""
    slopes = graph.constant(node.input[1]) if node.op_type == "PRelu" and is_standard(node) else None
    if slopes is None or np.unique(slopes).size == 1:
        return None
    return "Max" if (slopes <= 1).all() else "Min" if (slopes >= 1).all() else None
