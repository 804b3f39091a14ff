"""Matrix products of two maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from flow.compression.encoding import BBS
from flow.onnxtools.graph import node_name
from flow.scheduling.onchip.arrange import in_octets
from flow.scheduling.onchip.drafts import Draft, Reading, constant_of
from flow.scheduling.onchip.heads import Order, heads_of, matrices_of
from flow.scheduling.onchip.maps import Held, OffChipError, View
from flow.scheduling.onchip.moves import order_of

CONSTANT_MAX = 2 ** (BBS.constant_bits - 1) - 1  # of a group of weights, which takes the right operand's zero point


def matrix_product(reading: Reading, node: onnx.NodeProto, drafts: list[Draft]) -> Draft | None:
    """A matrix product of two maps, or one times a constant; None if it is neither."""
    if node.op_type == "MatMul" and len(drafts) == 2:
        return _matmul(reading, node, drafts)
    return _rescaled(reading, node, drafts) if node.op_type in ("Mul", "Div") else None


def _matmul(reading: Reading, node: onnx.NodeProto, drafts: list[Draft]) -> Draft:
    """A matrix product of two maps, or of each of their heads, which the array computes."""
    what = f"MatMul '{node_name(node)}'"
    shapes = [reading.shape(name) for name in node.input]
    elements = [
        order_of(draft, shape) if draft.kind == "move" else None for draft, shape in zip(drafts, shapes, strict=True)
    ]
    if any(order is None for order in elements):
        raise OffChipError(f"{what} multiplies tensors that are not quantized to 8 bits")
    maps = [draft.operands[0] for draft in drafts]
    if min(map(len, shapes)) < 2:
        raise OffChipError(f"{what} multiplies a vector")
    batch = np.broadcast_shapes(*(shape[:-2] for shape in shapes))
    orders = [
        np.broadcast_to(order, (*batch, *order.shape[-2:])).reshape(-1, *order.shape[-2:])
        for order in elements
        if order is not None
    ]
    turned = [order.swapaxes(1, 2) for order in reversed(orders)]  # of the transposed product
    found = matrices_of(orders[0], orders[1], [held.shape for held in maps])
    transposed = isinstance(found, str) and not isinstance(
        matrices_of(turned[0], turned[1], [held.shape for held in reversed(maps)]), str
    )
    if transposed:
        maps, orders = maps[::-1], turned
        found = matrices_of(orders[0], orders[1], [held.shape for held in maps])
    elif isinstance(found, str):
        maps, orders = _in_octets(reading, maps, orders)
        found = matrices_of(orders[0], orders[1], [held.shape for held in maps])
    if isinstance(found, str):
        raise OffChipError(f"{what} {found}")
    zero = maps[1].quantization.zero_point
    if not -CONSTANT_MAX <= zero <= CONSTANT_MAX + 1:
        raise OffChipError(
            f"{what} has {'a left' if transposed else 'a right'} operand with zero point {zero}; maps as weights have "
            f"-{CONSTANT_MAX} to {CONSTANT_MAX + 1}"
        )
    found = replace(found, filled=found.reduction - shapes[0][-1])
    made = np.arange(int(np.prod(batch)) * found.rows * found.columns).reshape(*batch, found.rows, found.columns)
    order = made.swapaxes(-1, -2) if transposed else made
    view = View(order, f"{what} makes a tensor whose columns are no channels")
    return Draft("matmul", (maps[0], maps[1]), maps[0].shape, matrices=found, view=view)


def _in_octets(reading: Reading, maps: list[Held], orders: list[Order]) -> tuple[list[Held], list[Order]]:
    """The maps with heads that begin with an octet each, and their elements there; as they are if they have none such.

    What is summed over is filled with zeros on both sides.
    """
    pixels = [held.shape[1] * held.shape[2] for held in maps]
    across = heads_of(orders[1], pixels[1], True) is None
    made, found = list[Held](), list[Order]()
    for number, (held, order) in enumerate(zip(maps, orders, strict=True)):
        turned = number == 1 and not across
        first, (rows, count) = (
            heads_of(order, pixels[number], turned),
            order.shape[:0:-1] if turned else order.shape[1:],
        )
        if across and number == 0:
            made.append(held)
            found.append(order)
            continue
        if first is None or held.shape[0] % count or any(channel % count for channel, _ in first):
            return maps, orders
        made.append(in_octets(reading.operations, reading.held, held, count))
        width = made[-1].shape[0] // (held.shape[0] // count)
        begins = np.array([channel // count * width * pixels[number] + pixel for channel, pixel in first])
        columns = np.arange(count if across else width) * pixels[number]
        whole = begins[:, None, None] + np.arange(rows)[:, None] + columns
        found.append(whole.transpose(0, 2, 1) if turned else whole)
    return made, found


def _rescaled(reading: Reading, node: onnx.NodeProto, drafts: list[Draft]) -> Draft | None:
    """A matrix product times a constant of one value, as attention has it; None of anything else."""
    draft = drafts[0]
    if len(drafts) > 1 or draft.matrices is None or draft.activation is not None:
        return None
    (other,) = [entry for entry in node.input if entry not in reading.drafts]
    value = constant_of(reading.graph, other)
    if value is None or np.unique(value).size != 1 or value.ndim > len(reading.shape(node.output[0])):
        return None
    factor = float(value.reshape(-1)[0])
    if node.op_type == "Div":
        factor = 1 / factor if factor and node.input[1] == other else 0.0
    if not 0 < factor < np.inf:
        return None
    return replace(draft, matrices=replace(draft.matrices, gain=draft.matrices.gain * factor))
