"""Nodes that make new lines of pixels of a map's lines (Resize), linearly or by the nearest one, by any scales.

ONNX Runtime runs the node on lines of numbers. The answers say between which lines every line of the output lies.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.onnxtools import runtime
from flow.onnxtools.edit import model_like
from flow.onnxtools.graph import node_name
from flow.scheduling.onchip.drafts import Draft, Reading, constant_of
from flow.scheduling.onchip.lines import Line, Lines
from flow.scheduling.onchip.maps import OffChipError
from flow.scheduling.onchip.operands import on_map

CLOSE = 1e-4  # lines: so exactly float32 tells the place of one among 2^11


def interpolated(reading: Reading, node: onnx.NodeProto) -> Draft:
    """A Resize of mode "linear"; see `resized`."""
    return resized(reading, node, on_map(reading, node, node.input[0], False))


def resized(reading: Reading, node: onnx.NodeProto, draft: Draft) -> Draft:
    """A Resize that changes the rows of the map `draft`, or its columns. `OffChipError` if it does otherwise."""
    what = f"Resize '{node_name(node)}'"
    before, after = reading.shape(node.input[0]), reading.shape(node.output[0])
    changed = [axis for axis in range(len(before)) if before[axis] != after[axis]]
    if not reading.regular(node.input[0], draft) or len(changed) > 1 or min(changed, default=2) < 2:
        raise OffChipError(f"{what} changes axes {changed}; on chip it is one axis of pixels at a time")
    axis = len(before) - 1 if not changed else changed[0]
    lines = Lines(axis - len(before) + 2, _lines(reading, node, axis, what))
    if len(lines.each) != after[axis]:  # a size times its scale that is rounded otherwise
        raise OffChipError(f"{what} makes {len(lines.each)} lines in ONNX Runtime, and {after[axis]} by its shape")
    size = (*[1] * (4 - len(after)), *after[2:])
    return Draft("lines", draft.operands, (draft.shape[0], size[0], size[1]), lines=lines)


def _lines(reading: Reading, node: onnx.NodeProto, axis: int, what: str) -> tuple[Line, ...]:
    """Where the lines of the output lie, from three runs: numbers in order, odd and even ones, and any."""
    count = reading.shape(node.input[0])[axis]
    order, odd = np.arange(count, dtype=np.float32), np.arange(count, dtype=np.float32) % 2
    drawn = np.random.default_rng(count).uniform(0, 1, count).astype(np.float32)
    place, parity, found = (_run(reading, node, axis, each, what) for each in (order, odd, drawn))
    first = np.clip(np.floor(place), 0, max(count - 2, 0)).astype(np.int64)
    share = np.where(first % 2, 1 - parity.astype(np.float64), parity) if count > 1 else np.zeros(len(place))
    following = np.minimum(first + 1, count - 1)
    expected = drawn[first] * (1 - share) + drawn[following] * share
    if not (share >= 0).all() or not (share <= 1).all() or not (np.abs(expected - found) <= CLOSE).all():
        raise OffChipError(f"{what} makes lines that do not lie between two of the map's")
    ends = share == 1  # copies of the next line
    return tuple(
        Line(int(line), float(part)) for line, part in zip(first + ends, np.where(ends, 0, share), strict=True)
    )


def _run(
    reading: Reading, node: onnx.NodeProto, axis: int, values: NDArray[np.float32], what: str
) -> NDArray[np.float32]:
    """The lines that the node makes of a map whose lines hold these values."""
    data, shape = node.input[0], reading.shape(node.input[0])
    constants = {name: constant_of(reading.graph, name) for name in node.input[1:] if name}
    known = [numpy_helper.from_array(value, name) for name, value in constants.items() if value is not None]
    if len(known) < len(constants):
        raise OffChipError(f"{what} has bounds that are not constant")
    graph = helper.make_graph(
        [node], "resize", [helper.make_tensor_value_info(data, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)], known,
    )  # fmt: skip
    across = [1] * len(shape)
    across[axis] = len(values)
    feed = np.broadcast_to(values.reshape(across), shape)
    session = runtime.session(model_like(reading.graph.model, graph), optimise=False)
    made = runtime.run(session, {data: np.ascontiguousarray(feed)})[node.output[0]]
    return made[tuple(slice(None) if each == axis else 0 for each in range(made.ndim))]
