"""Normalizations of pixels and of groups of channels in the form that is computed on chip.

There every group is a row, which is normalized as the channels of a token are; a factor and a summand for each channel
of the map follow.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.frontend.operators import read_by_layers
from flow.onnxtools.edit import Editor
from flow.onnxtools.graph import attribute, is_standard, node_input
from flow.onnxtools.shapes import sample_shapes

KINDS = ("GroupNormalization", "InstanceNormalization")
LEAST_AXES = 3  # the batch, groups, and what is normalized


def norms_by_row(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy in which what such a node normalizes is the last of three axes.

    An InstanceNormalization with neither factors nor summands does it; a Mul and an Add have these. Those behind the
    last layer stay.
    """
    if not any(node.op_type in KINDS and is_standard(node) for node in model.graph.node):
        return model
    needed, shapes = read_by_layers(model), sample_shapes(model)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    editor = Editor(made)
    for node in made.graph.node:
        mine = node.op_type in KINDS and is_standard(node) and node.output[0] in needed
        if not (mine and _by_row(editor, node, shapes.get(node.input[0], ()))):
            editor.nodes.append(node)
    editor.finish()
    return made


def _by_row(editor: Editor, node: onnx.NodeProto, shape: tuple[int, ...]) -> bool:
    """Write a node in this form, if it is known how; its last part keeps its name."""
    values = [editor.graph.constant(node_input(node, place)) for place in (1, 2)]
    if len(shape) < LEAST_AXES or values[0] is None or values[1] is None:
        return False
    channels, output = shape[1], node.output[0]
    groups = int(attribute(node, "num_groups", channels))
    scale, bias = (_of_channels(value, channels) for value in values if value is not None)
    own = groups == channels and len(shape) == LEAST_AXES
    steps: list[tuple[str, list[str]]] = []
    if not own:
        steps.append(("Reshape", [editor.constant(f"{output}_groups", np.array([0, groups, -1], np.int64))]))
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    pair = [editor.constant(f"{output}_{name}", each) for name, each in (("ones", ones), ("zeros", zeros))]
    steps.append(("InstanceNormalization", pair))
    if not own:
        steps.append(("Reshape", [editor.constant(f"{output}_axes", np.array([0, *shape[1:]], np.int64))]))
    wide = (channels, *[1] * (len(shape) - 2))
    for operator, value, nothing in (("Mul", scale, 1), ("Add", bias, 0)):
        if (value != nothing).any():
            steps.append((operator, [editor.constant(f"{output}_{operator.lower()}", value.reshape(wide))]))
    data = node.input[0]
    for number, (operator, inputs) in enumerate(steps, 1):
        epsilon = attribute(node, "epsilon", 1e-5)
        given = {"epsilon": epsilon} if operator == "InstanceNormalization" else {}
        if number == len(steps):
            data = editor.node(operator, [data, *inputs], output, node.name, **given)
        else:
            data = editor.step(operator, [data, *inputs], output, **given)
    return True


def _of_channels(value: NDArray[np.generic], channels: int) -> NDArray[np.float32]:
    """One value for every channel; given may be one for every group."""
    each = value.astype(np.float32).reshape(-1)
    return np.repeat(each, channels // len(each))
