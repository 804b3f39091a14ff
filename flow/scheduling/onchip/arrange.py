"""Tensors where their readers want them: their channels first or last, by another name, by a copy, or turned.

A map of channels and pixels is the same whether its tensor has the channels first or last: nothing moves then. What has
its channels where the pixels are to be is turned: a matrix product of ones and zeros with the map, octet by octet.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow.hardware.fields import SUBGROUP
from flow.network.model import INT8_MAX, INT8_MIN, Quantization
from flow.scheduling.onchip.drafts import is_regular
from flow.scheduling.onchip.maps import POINT, Held, OffChipError, View, as_map, element_order
from flow.scheduling.onchip.moves import fit, repeats
from flow.scheduling.onchip.post import NOBODY, Head, Matrices, PostOp, Shape
from flow.scheduling.onchip.runs import runs_of

MOST_RUNS = 256  # of pixels, each with a descriptor for each octet
CODES = Quantization(np.float32(1), 0, False)  # of codes as they are

Order = NDArray[np.int64]


def arranged(held: Held, order: Order, reason: str) -> Held:
    """The tensor whose elements are those of a map, `order` [1, axes]: the map in another shape, or a view.

    `reason`: why no map holds it.
    """
    axes = tuple(order.shape[1:])
    for rows in (held.rows, not held.rows):
        if order.shape[0] != 1:
            break
        shape = _shape(axes, rows)
        if shape is not None and shape[0] == held.shape[0] and order.size == np.prod(held.shape):
            wanted = in_map(order, rows)
            if np.array_equal(wanted.reshape(-1), np.arange(order.size)):
                return replace(held, shape=shape, axes=axes, rows=rows and len(axes) > 1, view=None)
    return replace(held, axes=axes, view=View(order, reason))


def settled(held: Held) -> Held:
    """A held tensor in a shape of its own, if its axes are those of another map with the same words."""
    if held.view is not None or len(held.axes) == 1 or is_regular(held.axes, held.shape, held.rows):
        return held
    found = arranged(held, element_order(held, (1, *held.axes)), "")
    return held if found.view is not None else found


def _shape(axes: tuple[int, ...], rows: bool) -> Shape | None:
    if not rows and len(axes) > 3:  # heads or groups, whose readers look for them in a view
        return None
    try:
        return as_map(axes, rows or len(axes) == 1, "")
    except OffChipError:
        return None


def in_map(order: Order, rows: bool) -> Order:
    """Elements [1, axes] as a map has them, [channels, pixels]."""
    if rows or order.ndim == 2:
        return order.reshape(-1, order.shape[-1]).T
    return order.reshape(order.shape[1], -1)


def with_name(held: Held, name: str) -> Held:
    """The tensor of 8 bits with this name, whose view says so, if it has one."""
    return held if held.view is None else replace(held, view=replace(held.view, tensor=name))


def laid_out(made: list[PostOp], held: dict[str, Held], tensor: Held, rows: bool, what: str) -> Held:
    """A tensor as a map, its channels last (`rows`) or first; what has to move it is added to `made` and `held`.

    `what` reads it. OffChipError if nothing can move it so.
    """
    if tensor.view is None and is_regular(tensor.axes, tensor.shape, tensor.rows) and tensor.rows == rows:
        return tensor
    order = element_order(tensor, (1, *tensor.axes)) if tensor.view is None else tensor.view.order
    seen = tensor.view or View(order, "")
    if rows and order.shape[0] != 1:
        order = order.reshape(1, -1, order.shape[-1])
        tensor = replace(tensor, axes=order.shape[1:], view=replace(seen, order=order))
    error = OffChipError(seen.reason or f"{what} reads a map in another shape", view=seen.tensor)
    found = arranged(tensor, order, "")
    if found.view is None and (found.rows == rows or len(found.axes) == 1):
        return found
    shape = _shape(tensor.axes, rows)
    base = held[tensor.tensor]
    if shape is None or order.size != np.prod(base.shape):
        raise error
    wanted = in_map(order, rows)
    elements = _placed(base, wanted)
    name = f"{tensor.tensor} {'rows' if rows else 'map'} {'x'.join(map(str, tensor.axes))}"
    while (there := held.get(name)) is not None and not (there.view and np.array_equal(there.view.order, elements)):
        name += "'"
    if there is None:
        steps = _steps(tensor, wanted, shape, name)
        if not steps:
            raise error
        for operation, elements in steps:
            made.append(operation)
            view = View(_placed(base, elements), str(error))
            own = shape if operation.output == name else operation.output_shape
            held[operation.output] = Held(
                operation.output, own, tensor.quantization, base.axes, view=view, origin=base.name
            )
    return Held(name, shape, tensor.quantization, tensor.axes, rows and len(tensor.axes) > 1)


def _placed(base: Held, elements: Order) -> Order:
    """Of the tensor that a map was made for, the places of its elements in another map, which has these of it."""
    places = np.empty(elements.size, np.int64)
    places[elements.reshape(-1)] = np.arange(elements.size)
    placed: Order = places[element_order(base, (1, *base.axes))]
    return placed


def _steps(tensor: Held, wanted: Order, shape: Shape, name: str) -> list[tuple[PostOp, Order]]:
    """The operations that make a map of the elements `wanted` [channels, pixels] of another one; none if none do.

    With the elements of what each makes. If it takes two, one of them is a turn.
    """
    if (operation := _moving(tensor, wanted, shape, name)) is not None:
        return [(operation, wanted)]
    channels, pixels = tensor.shape[0], tensor.shape[1] * tensor.shape[2]
    turned = np.arange(channels * pixels).reshape(channels, pixels).T
    behind = wanted % pixels * channels + wanted // pixels  # the same elements, as the turned map counts them
    for order, last in ((turned, behind), (wanted.T, np.arange(wanted.size).reshape(wanted.shape[::-1]).T)):
        between = f"{name} turned"
        held = replace(tensor, tensor=between, shape=(len(order), 1, order.shape[1]))
        first, second = _moving(tensor, order, held.shape, between), _moving(held, last, shape, name)
        if first is not None and second is not None:
            return [(first, order), (second, wanted)]
    return []


def in_octets(made: list[PostOp], held: dict[str, Held], tensor: Held, count: int) -> Held:
    """A map whose channels are a tensor's, `count` at a time, which begin with an octet and end with zeros.

    What moves them there is added to `made` and `held`.
    """
    base, width = held[tensor.tensor], -(-count // SUBGROUP) * SUBGROUP
    name = f"{tensor.tensor} heads of {count}"
    if name in held:
        return held[name]
    channels, height, columns = base.shape
    shape = (channels // count * width, height, columns)
    first, channel = np.divmod(np.arange(shape[0]), width)
    picks = tuple(
        (0, int(a) * count + int(b)) if b < count else (NOBODY, 0) for a, b in zip(first, channel, strict=True)
    )
    kept = base.quantization  # which tells where zero is
    made.append(
        PostOp(
            name, "move", (tensor.tensor,), name, (kept,), kept, (INT8_MIN, INT8_MAX), (base.shape,), shape, POINT,
            (picks,),
        )
    )  # fmt: skip
    places = np.arange(int(np.prod(shape))).reshape(shape)[channel < count]
    view = View(places.reshape(-1)[element_order(base, (1, *base.axes))], "its heads have octets of their own")
    held[name] = Held(name, shape, kept, base.axes, view=view, origin=base.name)
    return held[name]


def _gathered(tensor: Held, wanted: Order, name: str) -> PostOp | None:
    """The operation that gives whole channels, their pixels in any orders of a few runs; None if it is none such."""
    source = tensor.shape
    channel, pixel = np.divmod(wanted, source[1] * source[2])
    if (channel != channel[:, :1]).any():
        return None
    orders, number = np.unique(pixel, axis=0, return_inverse=True)
    found = tuple(tuple(runs_of(order)) for order in orders)
    if sum(map(len, found)) > MOST_RUNS:
        return None
    channels = tuple(zip(channel[:, 0].tolist(), number.reshape(-1).tolist(), strict=True))
    return PostOp(
        name, "gather", (tensor.tensor,), name, (CODES,), CODES, (INT8_MIN, INT8_MAX), (source,),
        (len(wanted), 1, wanted.shape[1]), POINT, channels=channels, orders=found,
    )  # fmt: skip


def _moving(tensor: Held, wanted: Order, shape: Shape, name: str) -> PostOp | None:
    """The operation that makes a map of the elements `wanted` [channels, pixels] of another one; None if none does."""
    source = tensor.shape
    flat = (source[0], 1, source[1] * source[2])
    for given, ordered in ((source, wanted.reshape(shape)), (flat, wanted.reshape(shape[0], 1, -1))):
        each = (fit(ordered, [given], repeat) for repeat in repeats(ordered.shape, given))
        if (draft := next(filter(None, each), None)) is not None:
            return PostOp(
                name, "move", (tensor.tensor,), name, (CODES,), CODES, (INT8_MIN, INT8_MAX), (given,),
                (shape[0], *ordered.shape[1:]), draft.window, draft.picks, draft.repeat,
            )  # fmt: skip
    channels, pixels = wanted.shape
    if not np.array_equal(wanted, np.arange(wanted.size).reshape(flat[0], flat[2]).T):
        return _gathered(tensor, wanted, name)
    heads = tuple(
        Head((0, 0), (octet, 0), (0, octet), min(SUBGROUP, pixels - octet)) for octet in range(0, pixels, SUBGROUP)
    )
    ones = np.eye(SUBGROUP, dtype=np.int8)
    return PostOp(
        name, "turn", (tensor.tensor,), name, (CODES, CODES), CODES, (INT8_MIN, INT8_MAX),
        ((SUBGROUP, 1, SUBGROUP), flat), (channels, 1, pixels), POINT,
        matrices=Matrices(SUBGROUP, SUBGROUP, channels, False, heads), constants=((0, ones.tobytes()),),
    )  # fmt: skip
