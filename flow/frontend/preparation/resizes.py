"""Resizes: sizes that follow from shapes as scales, and rows and columns one after the other, as they are on chip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from flow.frontend.operators import is_interpolation, read_by_layers
from flow.onnxtools.edit import Editor, add_constant, drop_unused_nodes, set_attributes
from flow.onnxtools.graph import Graph, attribute, is_dequantize, is_standard, node_input, node_name
from flow.onnxtools.shapes import sample_shapes

Shape = tuple[int, ...]
SCALES, SIZES = 2, 3  # inputs of a Resize
CHANNELS_FIRST, CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass(frozen=True)
class _Resize:
    """A Resize of rows and columns: the shapes before and after it, and the axis that comes first.

    `last`: the node's channels are the last axis; shapes and axes have them first.
    """

    node: onnx.NodeProto
    before: Shape
    after: Shape
    first: int
    last: bool

    @property
    def between(self) -> Shape:
        return tuple(self.after[axis] if axis == self.first else size for axis, size in enumerate(self.before))


def known_scales(model: onnx.ModelProto) -> None:
    """Give Resizes constant scales: those whose sizes follow from the shapes of other tensors, such as a skip's.

    A scale is the least that gives the same size in every arithmetic: 5 times 1.4 is 7 in float32, and 6 in float64.
    """
    resizes = [node for node in model.graph.node if node.op_type == "Resize" and is_standard(node)]
    if not resizes:
        return
    graph, shapes = Graph.of(model), sample_shapes(model)
    for node in resizes:
        before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
        made = None if _goes_beyond_an_axis(node) else _known(graph, node, before, after)
        if made is not None:
            scales = add_constant(model, f"{node.output[0]}_scales", np.array(made, np.float32))
            node.input[:] = [node.input[0], "", scales]
            set_attributes(node, without=("axes",))
    drop_unused_nodes(model)


def _known(graph: Graph, node: onnx.NodeProto, before: Shape, after: Shape) -> list[np.float32] | None:
    """The scales of all axes; None where they, or the sizes, are written so already.

    None, too, where the nearest pixels are taken, and a scale other than ONNX Runtime's might take others.
    """
    axes, given = attribute(node, "axes", None), graph.constant(node_input(node, SCALES))
    if given is not None and given.size and before:
        scales = np.ones(len(before), np.float32)
        scales[slice(None) if axes is None else list(axes)] = given
        after = tuple(int(np.float32(size) * scale) for size, scale in zip(before, scales, strict=True))
        made = [_scale(*each) for each in zip(before, after, scales, strict=True)]
        written = axes is None and np.array_equal(made, scales)
    elif node_input(node, SIZES) and before[:1] == after[:1] != ():
        scales = np.divide(np.array(after, np.float32), np.array(before, np.float32), dtype=np.float32)
        made = [_scale(*each) for each in zip(before, after, scales, strict=True)]
        written = axes is None and graph.constant(node_input(node, SIZES)) is not None
    else:
        return None
    others = attribute(node, "mode", b"nearest") == b"nearest" and not np.array_equal(made, scales)
    return None if written or others else made


def _scale(size: int, after: int, scale: np.float32) -> np.float32:
    """This scale, or the next larger ones, until it makes so many of `size` in float32 and in float64."""
    while int(np.float32(size) * scale) < after or int(size * float(scale)) < after:
        scale = np.nextafter(scale, np.float32(np.inf))
    return scale


def _goes_beyond_an_axis(node: onnx.NodeProto) -> bool:
    """Whether what becomes of an axis does not follow from its own scale or size."""
    together = attribute(node, "keep_aspect_ratio_policy", b"stretch") != b"stretch"
    crops = attribute(node, "coordinate_transformation_mode", b"half_pixel") == b"tf_crop_and_resize"
    return bool(together or crops)


def resizes_by_axis(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The model, or a copy in which a linear Resize of rows and columns is one of each, and the names of these nodes.

    The axis that grows less comes first. Behind a DequantizeLinear, what is between the two has 8 bits, of this scale.
    Behind the last layer there is no need: the host makes an output of real numbers.
    """
    if not any(map(is_interpolation, model.graph.node)):
        return model, []
    graph, shapes, needed = Graph.of(model), sample_shapes(model), read_by_layers(model)
    found = {
        node.output[0]: each
        for node in model.graph.node
        if node.output[0] in needed and (each := _of_two_axes(graph, node, shapes))
    }
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


def _of_two_axes(graph: Graph, node: onnx.NodeProto, shapes: dict[str, Shape]) -> _Resize | None:
    """The node, if it is a linear Resize of rows and columns by constants that concern one axis each."""
    if not is_interpolation(node) or _goes_beyond_an_axis(node) or attribute(node, "axes", None) is not None:
        return None
    before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
    bounds = [graph.constant(name) for name in (node_input(node, SCALES), node_input(node, SIZES)) if name]
    if len(before) != 4 or len(after) != 4 or any(each is None for each in bounds):
        return None
    changed = [axis for axis in range(4) if before[axis] != after[axis]]
    if changed not in ([2, 3], [1, 2]):
        return None
    last = changed == [1, 2]
    if last:
        before, after = (tuple(shape[axis] for axis in CHANNELS_FIRST) for shape in (before, after))
    first = min((2, 3), key=lambda axis: after[axis] / before[axis])
    return _Resize(node, before, after, first, last)


def _write(editor: Editor, resize: _Resize) -> None:
    node, graph = resize.node, editor.graph
    output, source = node.output[0], graph.producer(node.input[0])
    stem = f"{output}_{'rows' if resize.first == 2 else 'columns'}"
    data = editor.step("Transpose", node.input[:1], output, perm=CHANNELS_FIRST) if resize.last else node.input[0]
    made = _one_axis(editor, resize, data, editor.name(stem), resize.first)
    if source is not None and is_dequantize(source):
        codes = editor.step("QuantizeLinear", [made, *source.input[1:]], stem)
        made = editor.step("DequantizeLinear", [codes, *source.input[1:]], stem)
    made = _one_axis(editor, resize, made, editor.name(f"{output}_both") if resize.last else output, 5 - resize.first)
    if resize.last:
        editor.node("Transpose", [made], output, perm=CHANNELS_LAST)


def _one_axis(editor: Editor, resize: _Resize, data: str, output: str, axis: int) -> str:
    """Add the part of the Resize along one axis: by a scale, or to a size."""
    node, behind = resize.node, axis != resize.first
    part = onnx.NodeProto()
    part.CopyFrom(node)
    scales, sizes = (editor.graph.constant(name) if (name := node_input(node, place)) else None
                     for place in (SCALES, SIZES))  # fmt: skip
    part.input[:] = [data, ""]
    if scales is not None and scales.size:
        ordered = scales[list(CHANNELS_FIRST)] if resize.last else scales
        alone = np.where(np.arange(4) == axis, ordered, np.float32(1)).astype(np.float32)
        part.input.append(editor.constant(f"{output}_scales", alone))
    else:
        assert sizes is not None
        wanted = [sizes[0], *(resize.after if behind else resize.between)[1:]]
        part.input.extend(["", editor.constant(f"{output}_sizes", np.array(wanted, np.int64))])
    part.output[:] = [output]
    part.name = node.name if behind else editor.name(f"{node_name(node)}_{'rows' if axis == 2 else 'columns'}")
    editor.nodes.append(part)
    return output
