"""Linear interpolations of pixels one axis after the other, as they are computed on chip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from flow.onnxtools.edit import Editor
from flow.onnxtools.graph import Graph, attribute, is_dequantize, is_standard, node_input, node_name
from flow.onnxtools.shapes import sample_shapes

Shape = tuple[int, ...]
SCALES, SIZES = 2, 3  # inputs of a Resize


@dataclass(frozen=True)
class _Resize:
    """A Resize of rows and columns: the shapes before and after it, and the axis that comes first."""

    node: onnx.NodeProto
    before: Shape
    after: Shape
    first: int

    @property
    def between(self) -> Shape:
        return tuple(self.after[axis] if axis == self.first else size for axis, size in enumerate(self.before))


def resizes_by_axis(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The model, or a copy in which a linear Resize of rows and columns is one of each, and the names of these nodes.

    The axis that grows less comes first. Behind a DequantizeLinear, what is between the two has 8 bits, of this scale.
    """
    graph, shapes = Graph.of(model), dict[str, Shape]()
    if any(_is_linear(node) for node in model.graph.node):
        shapes = sample_shapes(model)
    found = {node.output[0]: each for node in model.graph.node if (each := _of_two_axes(graph, node, shapes))}
    if not found:
        return model, []
    made = onnx.ModelProto()
    made.CopyFrom(model)
    editor = Editor(made)
    for node in made.graph.node:
        if node.output[0] in found:
            _write(editor, found[node.output[0]])
        else:
            editor.nodes.append(node)
    editor.finish()
    return made, [node_name(each.node) for each in found.values()]


def _is_linear(node: onnx.NodeProto) -> bool:
    return node.op_type == "Resize" and is_standard(node) and attribute(node, "mode", b"nearest") == b"linear"


def _of_two_axes(graph: Graph, node: onnx.NodeProto, shapes: dict[str, Shape]) -> _Resize | None:
    """The node, if it is a linear Resize of rows and columns by constants that concern one axis each."""
    if not _is_linear(node) or attribute(node, "axes", None) is not None:
        return None
    together = attribute(node, "keep_aspect_ratio_policy", b"stretch") != b"stretch"
    crops = attribute(node, "coordinate_transformation_mode", b"half_pixel") == b"tf_crop_and_resize"
    before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
    bounds = [graph.constant(name) for name in (node_input(node, SCALES), node_input(node, SIZES)) if name]
    if together or crops or len(before) != 4 or len(after) != 4 or any(each is None for each in bounds):
        return None
    changed = [axis for axis in range(4) if before[axis] != after[axis]]
    if changed != [2, 3]:
        return None
    first = min(changed, key=lambda axis: after[axis] / before[axis])
    return _Resize(node, before, after, first)


def _write(editor: Editor, resize: _Resize) -> None:
    node, graph = resize.node, editor.graph
    data = node.input[0]
    stem = f"{node.output[0]}_{'rows' if resize.first == 2 else 'columns'}"
    made = _one_axis(editor, resize, data, stem, resize.first)
    source = graph.producer(data)
    if source is not None and is_dequantize(source):
        codes = editor.step("QuantizeLinear", [made, *source.input[1:]], stem)
        made = editor.step("DequantizeLinear", [codes, *source.input[1:]], stem)
    _one_axis(editor, resize, made, node.output[0], 5 - resize.first)


def _one_axis(editor: Editor, resize: _Resize, data: str, output: str, axis: int) -> str:
    """Add the part of the Resize along one axis: by a scale, or to a size."""
    node = resize.node
    part = onnx.NodeProto()
    part.CopyFrom(node)
    last = output == node.output[0]
    output = output if last else editor.name(output)
    scales, sizes = (editor.graph.constant(name) if (name := node_input(node, place)) else None
                     for place in (SCALES, SIZES))  # fmt: skip
    part.input[:] = [data, ""]
    if scales is not None and scales.size:
        alone = np.where(np.arange(4) == axis, scales, np.float32(1)).astype(np.float32)
        part.input.append(editor.constant(f"{output}_scales", alone))
    else:
        assert sizes is not None
        wanted = [*sizes[:2], *(resize.after if last else resize.between)[2:]]
        part.input.extend(["", editor.constant(f"{output}_sizes", np.array(wanted, np.int64))])
    part.output[:] = [output]
    part.name = node.name if last else editor.name(f"{node_name(node)}_{'rows' if axis == 2 else 'columns'}")
    editor.nodes.append(part)
    return output
