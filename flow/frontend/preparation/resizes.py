"""Resizes: sizes that follow from shapes as scales, and rows and columns one after the other, as they are on chip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.operators import is_interpolation, read_by_layers
from flow.onnxtools import runtime
from flow.onnxtools.edit import Editor, add_constant, drop_unused_nodes, model_like, set_attributes
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
        if made is not None and _takes_the_same(model, node, before, made):
            scales = add_constant(model, f"{node.output[0]}_scales", np.array(made, np.float32))
            node.input[:] = [node.input[0], "", scales]
            set_attributes(node, without=("axes",))
    drop_unused_nodes(model)
    _declare(model)


def _declare(model: onnx.ModelProto) -> None:
    """Correct declared sizes: those that shape inference gave of a scale which ONNX Runtime rounds otherwise."""
    del model.graph.value_info[:]
    shapes = sample_shapes(model)
    for value in model.graph.output:
        dims = value.type.tensor_type.shape.dim
        for dim, size in list(zip(dims, shapes.get(value.name, ()), strict=False))[1:]:
            if dim.HasField("dim_value"):
                dim.dim_value = size


def _known(graph: Graph, node: onnx.NodeProto, before: Shape, after: Shape) -> list[np.float32] | None:
    """The scales of all axes; None where they, or the sizes, are written so already."""
    axes, given = attribute(node, "axes", None), graph.constant(node_input(node, SCALES))
    if given is not None and given.size and before:
        scales = _of_all_axes(node, given, len(before))
        after = tuple(int(np.float32(size) * scale) for size, scale in zip(before, scales, strict=True))
        made = [_scale(*each) for each in zip(before, after, scales, strict=True)]
        written = axes is None and np.array_equal(made, scales)
    elif node_input(node, SIZES) and before[:1] == after[:1] != ():
        made = [_scale(*each) for each in zip(before, after, _ratios(before, after), strict=True)]
        written = axes is None and graph.constant(node_input(node, SIZES)) is not None
    else:
        return None
    return None if written else made


def _of_all_axes(node: onnx.NodeProto, given: NDArray[Any], rank: int) -> NDArray[np.float32]:
    """The scales of a Resize, 1 of the axes that it does not name."""
    axes, scales = attribute(node, "axes", None), np.ones(rank, np.float32)
    scales[slice(None) if axes is None else list(axes)] = given
    return scales


def _ratios(before: Shape, after: Shape) -> NDArray[np.float32]:
    """The scales that ONNX Runtime has of sizes."""
    found: NDArray[np.float32] = np.divide(np.array(after, np.float32), np.array(before, np.float32), dtype=np.float32)
    return found


def _takes_the_same(model: onnx.ModelProto, node: onnx.NodeProto, before: Shape, scales: list[np.float32]) -> bool:
    """Whether a Resize that takes the nearest pixels takes the same ones by these scales: a larger one may not."""
    if attribute(node, "mode", b"nearest") != b"nearest":
        return True
    graph, after = Graph.of(model), tuple(int(size * scale) for size, scale in zip(before, scales, strict=True))
    given = graph.constant(node_input(node, SCALES))
    own = _of_all_axes(node, given, len(before)) if given is not None and given.size else _ratios(before, after)
    shape = [size if scale != 1 else 1 for size, scale in zip(before, scales, strict=True)]
    ramp = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    first, second = (_by_scales(model, node, ramp, each) for each in (own, np.array(scales, np.float32)))
    return np.array_equal(first, second)


def _by_scales(
    model: onnx.ModelProto, node: onnx.NodeProto, data: NDArray[np.float32], scales: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What the Resize makes by scales of all axes."""
    alone = onnx.NodeProto()
    alone.CopyFrom(node)
    alone.input[:], alone.output[:] = ["x", "", "scales"], ["y"]
    set_attributes(alone, without=("axes",))
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", data.shape), ("y", None))
    ]
    graph = helper.make_graph([alone], "resize", values[:1], values[1:], [numpy_helper.from_array(scales, "scales")])
    found: NDArray[np.float32] = runtime.run(runtime.session(model_like(model, graph)), {"x": data})["y"]
    return found


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
    """The model, or a copy in which a Resize of rows and columns is one of each, and the names of those linear ones.

    Those that take the nearest pixels are divided where they do not repeat each as often, which changes nothing.
    The axis that grows less comes first. Behind a DequantizeLinear, what is between the two has 8 bits, of this scale.
    Behind the last layer there is no need: the host makes an output of real numbers.
    """
    if not any(map(_divisible, model.graph.node)):
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
    return made, [node_name(each.node) for each in found.values() if is_interpolation(each.node)]


def _divisible(node: onnx.NodeProto) -> bool:
    """Whether what a node makes of rows does not depend on what it makes of columns."""
    nearest = node.op_type == "Resize" and is_standard(node) and attribute(node, "mode", b"nearest") == b"nearest"
    return nearest or is_interpolation(node)


def _of_two_axes(graph: Graph, node: onnx.NodeProto, shapes: dict[str, Shape]) -> _Resize | None:
    """The node, if it is a Resize of rows and columns by constants that concern one axis each, and is to be divided."""
    if not _divisible(node) or _goes_beyond_an_axis(node) or attribute(node, "axes", None) is not None:
        return None
    before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
    bounds = [graph.constant(name) for name in (node_input(node, SCALES), node_input(node, SIZES)) if name]
    if len(before) != 4 or len(after) != 4 or any(each is None for each in bounds):
        return None
    changed = [axis for axis in range(4) if before[axis] != after[axis]]
    if changed not in ([2, 3], [1, 2]):
        return None
    if not is_interpolation(node) and _is_even(before, after, graph.constant(node_input(node, SCALES))):
        return None
    last = changed == [1, 2]
    if last:
        before, after = (tuple(shape[axis] for axis in CHANNELS_FIRST) for shape in (before, after))
    first = min((2, 3), key=lambda axis: after[axis] / before[axis])
    return _Resize(node, before, after, first, last)


def _is_even(before: Shape, after: Shape, scales: NDArray[Any] | None) -> bool:
    """Whether every pixel is repeated as often, or every so-manyth one taken."""
    given = np.divide(after, before, dtype=np.float32) if scales is None or not scales.size else scales
    return bool((given == np.rint(given)).all() or (1 / given == np.rint(1 / given)).all())


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
