"""Nodes that choose elements of two maps: Max, Min, and Where with a constant, by tables of real numbers."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from flow.network.model import INT8_MAX, INT8_MIN, OFFSET
from flow.onnxtools.graph import node_name
from flow.scheduling.onchip.arrange import CODES, laid_out
from flow.scheduling.onchip.constants import map_codes
from flow.scheduling.onchip.drafts import Chosen, Draft, Reading, constant_of
from flow.scheduling.onchip.elementwise import joint_shape
from flow.scheduling.onchip.maps import Held, OffChipError
from flow.scheduling.onchip.operands import layout, on_map, tensor_of
from flow.scheduling.onchip.tables import values_of

EXTREMA = {"Max": "largest", "Min": "smallest"}


def chosen(reading: Reading, node: onnx.NodeProto) -> Draft | None:
    """The larger or smaller of two maps, or one where another one says so; None if it is none of these.

    Each of the two may be a function of a map that has no 8 bits of its own.
    """
    if node.op_type in EXTREMA and len(node.input) == 2 and _differ(reading, list(node.input)):
        first, second = (_operand(reading, node, name) for name in node.input)
        shape = joint_shape(reading, _what(node), {node.input[0]: first[0], node.input[1]: second[0]})
        operands = (*first[0].operands, *second[0].operands)
        return Draft(EXTREMA[node.op_type], operands, shape, chosen=Chosen((first[1], second[1])))
    return _where(reading, node) if node.op_type == "Where" else None


def _differ(reading: Reading, names: list[str]) -> bool:
    """Whether these tensors are maps, or functions of maps, and not all of the same one."""
    drafts = [reading.drafts.get(name) for name in names]
    return all(draft is not None for draft in drafts) and len({draft.operands for draft in drafts if draft}) > 1


def _where(reading: Reading, node: onnx.NodeProto) -> Draft | None:
    """A map where the condition holds, a constant of one value where it does not, or the other way round."""
    condition, *either = node.input
    constants = [constant_of(reading.graph, name) for name in either]
    if sum(value is None for value in constants) != 1:
        return None
    data = next(name for name, value in zip(either, constants, strict=True) if value is None)
    other = next(value for value in constants if value is not None)
    kept = data == either[0]
    if data not in reading.drafts or np.unique(other).size != 1:
        return None
    given = constant_of(reading.graph, condition)
    if given is None and not _differ(reading, [data, condition]):
        return None
    draft, reals = _operand(reading, node, data)
    otherwise = float(other.reshape(-1)[0])
    if given is not None:
        return _masked(reading, node, data, draft, Chosen((reals,), b"", otherwise), given == kept)
    mask, values = _operand(reading, node, condition, TensorProto.BOOL)
    shape = joint_shape(reading, _what(node), {data: draft, condition: mask})
    table = ((values != 0) == kept).astype(np.uint8).tobytes()
    return Draft("choice", (*draft.operands, *mask.operands), shape, chosen=Chosen((reals,), table, otherwise))


def _masked(
    reading: Reading, node: onnx.NodeProto, data: str, draft: Draft, chosen: Chosen, mask: NDArray[np.bool_]
) -> Draft | None:
    """The draft with a constant mask as its other operand; None if it has one value, as a function has."""
    shape, held = reading.shape(data), draft.operands[0]
    if mask.size == 1:
        return None
    if not reading.regular(data, draft) or reading.shape(node.output[0]) != shape:
        raise OffChipError(f"{_what(node)} reads maps of different shapes")
    codes = (np.broadcast_to(mask, shape).astype(np.int64) - OFFSET).astype(np.int8)
    constant = Held("", held.shape, CODES, held.axes, held.rows)
    return Draft("choice", (held, constant), draft.shape, constants=((1, map_codes(codes, held.rows)),), chosen=chosen)


def _operand(
    reading: Reading, node: onnx.NodeProto, name: str, kind: int = TensorProto.FLOAT
) -> tuple[Draft, NDArray[np.floating]]:
    """An operand as a map, and the real number that each of its bytes stands for."""
    draft = reading.drafts[name]
    rows = layout(reading, list(node.input)) if len(reading.shape(name)) > 2 else None
    if draft.pointwise and not draft.plain and not draft.eight_bit:
        held = tensor_of(reading, name, draft)
        if rows is not None:
            held = laid_out(reading.operations, reading.held, held, rows, _what(node))
        values, _ = values_of(reading.graph, reading.whole(draft.operands[0]), name, kind)
        return Draft("move", (held,), held.shape), values
    found = on_map(reading, node, name, rows)
    quantization = found.operands[0].quantization
    codes = np.arange(INT8_MIN, INT8_MAX + 1) - quantization.zero_point
    return found, codes.astype(np.float32) * quantization.scale


def _what(node: onnx.NodeProto) -> str:
    return f"{node.op_type} '{node_name(node)}'"
