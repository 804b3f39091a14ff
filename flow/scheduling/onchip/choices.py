"""Nodes that choose elements of maps, Max, Min and Where, by tables of real numbers."""

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
from flow.scheduling.onchip.elementwise import as_held, joint_forms
from flow.scheduling.onchip.maps import Held, OffChipError
from flow.scheduling.onchip.operands import layout, on_map, tensor_of
from flow.scheduling.onchip.tables import values_of

EXTREMA = {"Max": ("largest", np.maximum), "Min": ("smallest", np.minimum)}


def chosen(reading: Reading, node: onnx.NodeProto) -> Draft | None:
    """The largest or smallest of maps, or the one that a condition says; None if it is none of these.

    Each of them may be a function of a map that has no 8 bits of its own.
    """
    if node.op_type in EXTREMA:
        return _extremum(reading, node)
    return _where(reading, node) if node.op_type == "Where" else None


def _extremum(reading: Reading, node: onnx.NodeProto) -> Draft | None:
    """The largest or smallest of two maps or more, and of numbers; None if it is a function of one map."""
    constants = {name: constant_of(reading.graph, name) for name in node.input}
    data = [name for name, value in constants.items() if value is None]
    numbers = [value for value in constants.values() if value is not None]
    if not _differ(reading, data) or any(np.unique(value).size != 1 for value in numbers):
        return None
    kind, of = EXTREMA[node.op_type]
    found = {name: _operand(reading, node, name) for name in data}
    drafts = {name: draft for name, (draft, _) in found.items()}
    first, *others = (real for _, real in found.values())
    for number in numbers:  # which have a part in the first map's table
        first = of(first, number.reshape(-1)[0])
    operands = tuple(draft.operands[0] for draft in drafts.values())
    forms = joint_forms(reading, _what(node), list(drafts.items()))
    shape = as_held(forms, operands[0].rows)
    return Draft(kind, operands, shape, chosen=Chosen((first, *others)), forms=forms)


def _differ(reading: Reading, names: list[str]) -> bool:
    """Whether these tensors are maps, or functions of maps, and not all of the same one."""
    drafts = [reading.drafts.get(name) for name in names]
    return all(draft is not None for draft in drafts) and len({draft.operands for draft in drafts if draft}) > 1


def _where(reading: Reading, node: onnx.NodeProto) -> Draft | None:
    """One of two maps, or a map or a number, as a condition on another one says; None if it is none of these."""
    condition, *either = node.input
    data = [name for name in either if constant_of(reading.graph, name) is None]
    given = constant_of(reading.graph, condition)
    read = [*data, *([condition] if given is None else [])]
    if not data or any(name not in reading.drafts for name in read):
        return None
    if not (_differ(reading, read) if given is None else given.size > 1):
        return None
    otherwise = [constant_of(reading.graph, name) for name in either if name not in data]
    if any(value is None or np.unique(value).size != 1 for value in otherwise):
        return None
    number = float(otherwise[0].reshape(-1)[0]) if otherwise and otherwise[0] is not None else 0.0
    found = [_operand(reading, node, name) for name in data]
    kept = data[0] == either[0]
    kind, reals = "choice" if otherwise else "select", tuple(real for _, real in found)
    drafts = [(name, draft) for name, (draft, _) in zip(data, found, strict=True)]
    maps = [draft.operands[0] for draft, _ in found]
    if given is not None:
        mask = _constant_mask(reading, node, data[0], found[0][0], given == kept)
        *read_as, form = joint_forms(reading, _what(node), drafts)
        shape = as_held([form], maps[0].rows)
        if shape != found[0][0].shape:
            raise OffChipError(f"{_what(node)} reads maps of different shapes")
        constants = ((len(maps), mask),)
        held = Held("", shape, CODES, maps[0].axes, maps[0].rows)
        choice = Chosen(reals, b"", number)
        return Draft(kind, (*maps, held), shape, constants=constants, chosen=choice, forms=(*read_as, form, form))
    said, values = _operand(reading, node, condition, TensorProto.BOOL)
    table = ((values != 0) == kept).astype(np.uint8).tobytes()
    operands, forms = (*maps, *said.operands), joint_forms(reading, _what(node), [*drafts, (condition, said)])
    return Draft(kind, operands, as_held(forms, maps[0].rows), chosen=Chosen(reals, table, number), forms=forms)


def _constant_mask(reading: Reading, node: onnx.NodeProto, data: str, draft: Draft, mask: NDArray[np.bool_]) -> bytes:
    """The codes of a constant mask, whose bytes are 0 and 1, beside a map."""
    shape, held = reading.shape(data), draft.operands[0]
    if not reading.regular(data, draft) or reading.shape(node.output[0]) != shape:
        raise OffChipError(f"{_what(node)} reads maps of different shapes")
    return map_codes((np.broadcast_to(mask, shape).astype(np.int64) - OFFSET).astype(np.int8), held.rows)


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
