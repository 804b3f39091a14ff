"""Nodes that only move elements, as copies of channels and pixels, whatever their operators and attributes.

ONNX Runtime runs the node on a tensor of its elements' numbers. The answer says where every element comes from; from
it follow the channels, the stride and the padding of a copy, or that it is none.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.network.model import Window
from flow.onnxtools import runtime
from flow.onnxtools.graph import node_name
from flow.scheduling.onchip.drafts import Draft, Reading, constant_of
from flow.scheduling.onchip.maps import OffChipError, element_order
from flow.scheduling.onchip.post import NOBODY, Shape

MOVES = ("Concat", "DepthToSpace", "Gather", "Pad", "Resize", "Slice", "SpaceToDepth", "Split", "Transpose", "Upsample")
PADDING = -1  # the number of an element that comes from nowhere: zero
LARGEST = 1 << 22  # elements whose numbers float32 holds exactly, with room
STRIDES = 255
REPEATS = 256  # whose last offset 8 bits hold


def moved(reading: Reading, node: onnx.NodeProto, drafts: dict[str, Draft]) -> list[Draft]:
    """The node's outputs as copies of its plain operands `drafts`, by name. `OffChipError` if they are none."""
    operands = tuple(draft.operands[0] for draft in drafts.values())
    found = []
    for number in _numbers(reading, node, _orders(reading, drafts)):
        shape, rows = _map_shape(number.shape[1:], drafts)
        ordered = number.reshape(shape[2], shape[0]).T.reshape(shape) if rows else number.reshape(shape)
        fitted = None
        for repeat in repeats(shape, operands[0].shape):
            fitted = fitted or fit(ordered, [operand.shape for operand in operands], repeat)
        fitted = fitted or _join(ordered, [operand.shape for operand in operands])
        if fitted is None:
            raise OffChipError(f"{node.op_type} '{node_name(node)}' has no place in hardware")
        found.append(replace(fitted, operands=operands))
    return found


def viewed(
    reading: Reading, node: onnx.NodeProto, name: str, order: NDArray[np.int64]
) -> list[NDArray[np.int64]] | None:
    """The elements of every output of a node that moves those of one tensor `order`; None if some are its own."""
    made = _numbers(reading, node, {name: order}, batch=True)
    if any((number < 0).any() for number in made):
        return None
    flat = order.reshape(-1)
    return [flat[number] for number in made]


def order_of(draft: Draft, shape: tuple[int, ...]) -> NDArray[np.int64] | None:
    """The elements of one operand that a "move" of this shape has, in their order; None if some are none of its own."""
    if draft.view is not None:
        return draft.view.order.reshape(shape)
    if draft.kind != "move" or draft.activation is not None or len(draft.operands) > 1:
        return None
    (held,) = draft.operands
    ramp = np.arange(int(np.prod(held.shape))).reshape(held.shape)
    if draft.pointwise:
        return element_order(held, shape)
    made, (strides, pads) = np.full(draft.shape, PADDING), (draft.window.strides, draft.window.pads)
    for phase, picks in enumerate(draft.picks):
        dy, dx = divmod(phase, draft.repeat[1])
        for channel, (operand, source) in enumerate(picks):
            there = made[channel, dy :: draft.repeat[0], dx :: draft.repeat[1]]
            y, x = (np.arange(count) * strides[axis] - pads[axis] for axis, count in enumerate(there.shape))
            inside = (y >= 0).all() and (x >= 0).all() and (y < held.shape[1]).all() and (x < held.shape[2]).all()
            if operand != NOBODY and inside:
                there[:] = ramp[source][np.ix_(y, x)]
    rows = draft.rows and len(shape) == 3
    return None if (made < 0).any() else (made.reshape(len(made), -1).T if rows else made).reshape(shape)


def _orders(reading: Reading, drafts: dict[str, Draft]) -> dict[str, NDArray[np.int64]]:
    """Of every operand, its elements in the order of its map, as its axes are."""
    found = {}
    for name, draft in drafts.items():
        channels, height, width = draft.shape
        ramp = np.arange(channels * height * width)
        order = ramp.reshape(channels, height * width).T if draft.rows else ramp
        found[name] = order.reshape(reading.shape(name))
    return found


def _numbers(
    reading: Reading, node: onnx.NodeProto, orders: dict[str, NDArray[np.int64]], batch: bool = False
) -> list[NDArray[np.int64]]:
    """Of every output, the number of the element that each element is: those of all operands are counted in order.

    `batch`: the batch may be moved, and `orders` says nothing: elements are counted as they come.
    """
    name = f"{node.op_type} '{node_name(node)}'"
    constants, values, feeds, total = [], [], list[dict[str, NDArray[np.float32]]]([{}, {}]), 0
    for entry in dict.fromkeys(each for each in node.input if each):
        shape = reading.shape(entry)
        if entry in orders:
            ordered = total + (np.arange(orders[entry].size) if batch else orders[entry])
            for shift, feed in enumerate(feeds):
                feed[entry] = (ordered + 1 + shift * LARGEST).astype(np.float32).reshape(shape)
            values.append(helper.make_tensor_value_info(entry, TensorProto.FLOAT, shape))
            total += orders[entry].size
            continue
        value = constant_of(reading.graph, entry)
        if value is None:
            raise OffChipError(f"{name} has bounds that are not constant")
        constants.append(
            numpy_helper.from_array(value.astype(np.float32) if value.dtype == np.float64 else value, entry)
        )
    if total >= LARGEST:
        raise OffChipError(f"{name} moves more than {LARGEST:,} elements")
    made = [helper.make_tensor_value_info(each, TensorProto.FLOAT, None) for each in node.output]
    model = reading.graph.model
    graph = helper.make_graph([node], "move", values, made, constants)
    session = runtime.session(
        helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version), optimise=False
    )
    first, second = (runtime.run(session, feed) for feed in feeds)
    found = []
    for each in node.output:
        if (shape := tuple(reading.shape(each))) != first[each].shape:
            raise OffChipError(
                f"{name} makes {list(first[each].shape)} in ONNX Runtime, and {list(shape)} by its shape"
            )
        number = np.rint(first[each]).astype(np.int64) - 1
        comes = second[each] - first[each] == LARGEST  # from an operand; all else is a constant
        if np.any(~comes & (first[each] != 0)) or np.any(first[each] != number + 1):
            raise OffChipError(f"{name} has no place in hardware: it changes values, or pads with others than zero")
        if number.shape[0] != 1 and not batch:
            raise OffChipError(f"{name} has no place in hardware: it moves the batch")
        found.append(np.where(comes, number, PADDING))
    return found


def _map_shape(axes: tuple[int, ...], drafts: dict[str, Draft]) -> tuple[Shape, bool]:
    """The map of a tensor with these axes that the node makes, and whether it has rows of channels."""
    first = next(iter(drafts.values()))
    if first.rows and len(axes) == 2:
        return (axes[1], 1, axes[0]), True
    if len(axes) > 3:  # channels in groups
        return (int(np.prod(axes[:-2])), axes[-2], axes[-1]), False
    channels, height, width = (*axes, 1, 1, 1)[:3]
    return ((channels, height, width) if len(axes) != 2 else (channels, 1, height)), False


def repeats(made: Shape, given: Shape) -> list[tuple[int, int]]:
    """How often the operation may give each pixel, downwards and across."""
    larger = tuple(m // max(g, 1) if m % max(g, 1) == 0 else 1 for m, g in zip(made[1:], given[1:], strict=True))
    fits = 1 < max(larger) <= REPEATS
    return [(1, 1), *([(max(larger[0], 1), max(larger[1], 1))] if fits else [])]


def fit(number: NDArray[np.int64], shapes: list[Shape], repeat: tuple[int, int]) -> Draft | None:
    """The copy that gives these element numbers [channels, height, width], if one does; it has no operands yet."""
    channels, height, width = number.shape
    size = (height // repeat[0], width // repeat[1])
    phases = number.reshape(channels, size[0], repeat[0], size[1], repeat[1]).transpose(2, 4, 0, 1, 3)
    phases = phases.reshape(-1, channels, *size)
    bounds = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    flat = phases.reshape(len(phases) * channels, *size)
    picks, window = [], None
    for plane in flat:
        inside = np.argwhere(plane != PADDING)
        if not len(inside):
            picks.append((NOBODY, 0))
            continue
        first = plane[tuple(inside[0])]
        operand = int(np.searchsorted(bounds, first, "right")) - 1
        _, map_height, map_width = shapes[operand]
        channel = int(first - bounds[operand]) // (map_height * map_width)
        picks.append((operand, channel))
        window = window or _window(plane, inside, shapes[operand], int(bounds[operand]))
    if window is None:
        return None
    expected = np.full(flat.shape, PADDING)
    for index, (operand, channel) in enumerate(picks):
        if operand != NOBODY:
            _, map_height, map_width = shapes[operand]
            y = np.arange(size[0])[:, None] * window.strides[0] - window.pads[0]
            x = np.arange(size[1]) * window.strides[1] - window.pads[1]
            there = (y >= 0) & (y < map_height) & (x >= 0) & (x < map_width)
            places = bounds[operand] + (channel * map_height + y) * map_width + x
            expected[index] = np.where(there, places, PADDING)
    if not np.array_equal(expected, flat):
        return None
    by_phase = tuple(tuple(picks[start : start + channels]) for start in range(0, len(picks), channels))
    return Draft("move", (), (channels, height, width), window, by_phase, repeat)


def _join(number: NDArray[np.int64], shapes: list[Shape]) -> Draft | None:
    """The operands as rectangles of the output, which they fill; None if they are none such."""
    found, corners, begin = np.full(number.shape, PADDING), [], 0
    for shape in shapes:
        there = np.argwhere(number == begin)
        if len(there) != 1 or there[0][0] != 0 or shape[0] != number.shape[0]:
            return None
        _, y, x = (int(each) for each in there[0])
        count = int(np.prod(shape))
        place = found[:, y : y + shape[1], x : x + shape[2]]
        if place.shape != shape:
            return None
        place[:] = begin + np.arange(count).reshape(shape)
        corners.append((y, x))
        begin += count
    if not np.array_equal(found, number):
        return None
    channels, height, width = number.shape
    return Draft("join", (), (channels, height, width), corners=tuple(corners))


def _window(plane: NDArray[np.int64], inside: NDArray[np.int64], shape: Shape, begin: int) -> Window | None:
    """Where the pixels of one channel come from, by the first and the last of those that come from the map."""
    _, height, width = shape
    steps, pads = [], []
    (row, column), (last_row, last_column) = inside[0], inside[-1]
    first, last = (int(plane[tuple(each)] - begin) % (height * width) for each in (inside[0], inside[-1]))
    for near, far, a, b in (
        (row, last_row, first // width, last // width), (column, last_column, first % width, last % width)
    ):  # fmt: skip
        step = (b - a) // int(far - near) if far > near else 1
        if not 1 <= step <= STRIDES:
            return None
        steps.append(step)
        pads.append(int(near) * step - a)
    return Window((1, 1), (steps[0], steps[1]), (pads[0], pads[1], 0, 0), (1, 1))
