"""DequantizeLinear and QuantizeLinear: drafts become operations, which write maps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from flow.frontend.int8.layers import activation_clamp, tensor_quantization
from flow.network.model import INT8_MAX, INT8_MIN, Quantization, as_uint8
from flow.onnxtools.graph import linear_codes, node_name
from flow.scheduling.onchip.arrange import arranged, in_map, settled, with_name
from flow.scheduling.onchip.drafts import Draft, Picks, Reading, is_regular
from flow.scheduling.onchip.heads import placed_results
from flow.scheduling.onchip.maps import Held, OffChipError, View, as_map, element_order
from flow.scheduling.onchip.moves import fit
from flow.scheduling.onchip.post import UNCHANGED, PostOp
from flow.scheduling.onchip.tables import table_of


def dequantize(reading: Reading, node: onnx.NodeProto) -> None:
    data, held = node.input[0], reading.held
    if data in reading.tables:
        draft = reading.drafts[reading.tables[data].input[0]]
        reading.drafts[node.output[0]] = replace(draft, eight_bit=data)
    elif data in held:
        whole = replace(held[data], view=None)
        reading.drafts[node.output[0]] = Draft("move", (whole,), whole.shape, view=held[data].view)
    elif data not in reading.graph.constants:
        raise OffChipError(f"DequantizeLinear '{node_name(node)}' reads no map")


def quantize(reading: Reading, node: onnx.NodeProto) -> None:
    name, output = node_name(node), node.output[0]
    if node.input[0] not in reading.drafts:
        raise OffChipError(f"QuantizeLinear '{name}' reads a tensor that is not made on chip")
    draft = reading.drafts[node.input[0]]
    quantization = tensor_quantization(reading.graph, node)
    if draft.kind == "table" and quantization is not None:
        reading.tables[output] = node
        return
    clamp = activation_clamp(reading.graph, draft.activation, quantization) if quantization is not None else None
    if quantization is None or clamp is None:
        raise OffChipError(
            f"QuantizeLinear '{name}' has no constant 8-bit scale of its own, or an activation without bounds"
        )
    same = quantization.scale == draft.operands[0].quantization.scale and (
        quantization.zero_point == draft.operands[0].quantization.zero_point
    )
    if draft.view is not None and draft.kind != "matmul":
        if draft.kind == "move" and same and draft.activation is None:
            reading.held[output] = with_name(arranged(draft.operands[0], draft.view.order, draft.view.reason), output)
        else:
            _quantize_moved(reading, node, draft, quantization, clamp, output)
        return
    if draft.matrices is not None:
        reading.operations.append(_multiplied(reading, node, draft, quantization, clamp, output))
        return
    if draft.plain and same:
        axes = _axes_of(reading, output, draft.operands[0])
        rows = draft.rows and _rows_of(axes, draft)
        reading.held[output] = settled(replace(draft.operands[0], axes=axes, rows=rows))
        return
    reading.operations.append(finished(reading, node, draft, quantization, clamp, output))


def _quantize_moved(
    reading: Reading, node: onnx.NodeProto, draft: Draft, quantization: Quantization, clamp: tuple[int, int],
    output: str,
) -> None:  # fmt: skip
    """Enter the operation of a tensor whose elements were moved before they got 8 bits: it moves nothing.

    A normalization leaves out the pixels that are not taken.
    """
    view = draft.view
    assert view is not None
    if view.order.size == np.prod(draft.shape):
        reading.operations.append(finished(reading, node, replace(draft, view=None), quantization, clamp, output))
        made = arranged(replace(reading.held[output], rows=draft.rows), view.order, view.reason)
        reading.held[output] = with_name(made, output)
        return
    axes = reading.shape(output)[1:]
    shape = as_map(axes, draft.rows or len(axes) == 1, output)
    wanted = in_map(view.order, draft.rows).reshape(shape) if len(view.order) == 1 else None
    taken = fit(wanted, [draft.shape], (1, 1)) if wanted is not None and draft.norm is not None else None
    if taken is None or taken.picks != (tuple((0, channel) for channel in range(draft.shape[0])),):
        raise OffChipError(view.reason)
    part = replace(draft, view=None, shape=shape, window=taken.window)
    reading.operations.append(finished(reading, node, part, quantization, clamp, output))


def tabulated(reading: Reading, name: str) -> None:
    """Enter an 8-bit tensor that is a function of one map into `held`, with its operation, if it is not there."""
    node = reading.tables.get(name)
    if node is None or name in reading.held:
        return
    draft = reading.drafts[node.input[0]]
    quantization = tensor_quantization(reading.graph, node)
    assert quantization is not None
    operation = finished(reading, node, draft, quantization, (INT8_MIN, INT8_MAX), name)
    table = table_of(reading.graph, reading.whole(draft.operands[0]), name, quantization)
    reading.operations.append(replace(operation, table=table))


def finished(
    reading: Reading, node: onnx.NodeProto, draft: Draft, quantization: Quantization, clamp: tuple[int, int],
    output: str,
) -> PostOp:  # fmt: skip
    """The operation that writes `output` of the node, which is entered into `held` as a new map."""
    axes = _axes_of(reading, output, draft.operands[0])
    rows = draft.rows and _rows_of(axes, draft)
    made = Held(output, draft.shape, quantization, axes, rows)
    reading.held[output] = _with_axis_0(made, reading.shape(output), draft.rows)
    if len({operand.rows for operand in draft.operands}) > 1:
        raise OffChipError(f"'{node_name(node)}' reads maps of different layouts", output)
    constant = {number for number, _ in draft.constants}
    inputs = tuple(operand.tensor for number, operand in enumerate(draft.operands) if number not in constant)
    *shapes, shape = draft.forms or (*(operand.shape for operand in draft.operands), draft.shape)
    return PostOp(
        node_name(node), draft.kind, inputs, output, tuple(operand.quantization for operand in draft.operands),
        quantization, clamp, tuple(shapes), shape, draft.window,
        _picks(draft), draft.repeat, draft.all_taps, gains=draft.gains, norm=draft.norm, lines=draft.lines,
        corners=draft.corners, constants=draft.constants, **_choosing(draft, quantization),
    )  # fmt: skip


def _choosing(draft: Draft, quantization: Quantization) -> dict[str, Any]:
    """The fields of an operation that chooses, whose output has these codes."""
    if draft.chosen is None:
        return {}
    zero = np.int8(quantization.zero_point)
    tables = [
        as_uint8(linear_codes(real, quantization.scale, zero).astype(np.int8, copy=False)).tobytes()
        for real in draft.chosen.reals
    ]
    otherwise = 0
    if draft.kind in ("choice", "select"):
        tables.append(draft.chosen.mask)
    if draft.kind == "choice":
        otherwise = int(linear_codes(np.array(draft.chosen.otherwise), quantization.scale, zero))
    return {"tables": tuple(b"" if table == UNCHANGED else table for table in tables), "otherwise": otherwise}


def _rows_of(axes: tuple[int, ...], draft: Draft) -> bool:
    """Whether axes are tokens and channels, or more of them, as those of heads have."""
    return len(axes) == 2 or (len(axes) > 2 and is_regular(axes, draft.shape, True))


def _with_axis_0(held: Held, shape: tuple[int, ...], rows: bool) -> Held:
    """The map of a tensor of this shape; a view of one of rows of channels, if its axis 0 is not the batch."""
    if shape[:1] in ((1,), ()):
        return held
    reason = f"'{held.tensor}' has {shape[0]} elements along axis 0, and samples come one at a time"
    if not rows or not is_regular(shape, held.shape, True):
        raise OffChipError(reason, held.tensor)
    order = element_order(replace(held, rows=True), shape)
    return replace(held, axes=shape[1:], rows=True, view=View(order, reason, held.tensor))


def _axes_of(reading: Reading, name: str, held: Held) -> tuple[int, ...]:
    return tuple(reading.shapes[name][1:]) if name in reading.shapes else held.axes


def _multiplied(
    reading: Reading, node: onnx.NodeProto, draft: Draft, quantization: Quantization, clamp: tuple[int, int],
    output: str,
) -> PostOp:  # fmt: skip
    """The operation of a matrix product that writes `output` of the node, entered into `held` as a map.

    Its channels are the last axis, or if it can only be so, the first.
    """
    assert draft.matrices is not None and draft.view is not None
    whole, order = reading.shape(output), draft.view.order
    matrices = placed_results(draft.matrices, order.reshape(-1, whole[-1])) if len(whole) > 2 else None
    rows = matrices is not None
    if not rows and len(whole) > 2 and whole[0] == 1:
        matrices = placed_results(draft.matrices, order.reshape(whole[1], -1).T)
    if matrices is None:
        raise OffChipError(draft.view.reason)
    shape = (whole[-1], 1, int(np.prod(whole[:-1], dtype=np.int64)))
    if not rows:
        shape = (whole[1], 1, int(np.prod(whole[2:], dtype=np.int64)))
    own = shape if rows else as_map(whole[1:], False, output)
    reading.held[output] = _with_axis_0(Held(output, own, quantization, tuple(whole[1:]), rows), whole, rows)
    maps = draft.operands
    return PostOp(
        node_name(node), "matmul", tuple(each.tensor for each in maps), output,
        tuple(each.quantization for each in maps), quantization, clamp, tuple(each.shape for each in maps), shape,
        draft.window, matrices=matrices,
    )  # fmt: skip


def _picks(draft: Draft) -> Picks:
    """Where the channels of a move come from."""
    return draft.picks or ((tuple((0, channel) for channel in range(draft.shape[0])),) if draft.kind == "move" else ())
