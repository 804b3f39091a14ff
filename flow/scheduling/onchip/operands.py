"""Operands of nodes as maps, in the layout that the nodes want."""

from __future__ import annotations

from dataclasses import replace

import onnx

from flow.onnxtools.graph import node_name
from flow.scheduling.onchip.arrange import arranged, laid_out, settled
from flow.scheduling.onchip.drafts import Draft, Reading, constant_of, is_regular
from flow.scheduling.onchip.finished import tabulated
from flow.scheduling.onchip.maps import Held, OffChipError


def on_map(reading: Reading, node: onnx.NodeProto, name: str, rows: bool | None = None) -> Draft:
    """The draft of an operand of this node, which must be a map; with its channels last (`rows`) or first, if told."""
    draft, what = reading.drafts[name], f"{node.op_type} '{node_name(node)}'"
    if draft.kind == "table" and draft.eight_bit:
        tabulated(reading, draft.eight_bit)
        draft = Draft("move", (reading.held[draft.eight_bit],), draft.shape)
    if (draft.view is None and not draft.plain) or draft.kind != "move" or draft.activation is not None:
        raise OffChipError(f"{what} reads a tensor that is not quantized to 8 bits")
    held = tensor_of(reading, name, draft)
    if rows is None and held.view is not None:
        rows = held.rows
    if rows is not None:
        held = laid_out(reading.operations, reading.held, held, rows, what)
    return Draft("move", (held,), held.shape)


def tensor_of(reading: Reading, name: str, draft: Draft) -> Held:
    """The float tensor of a "move" that changes no values, or of a function, as if it were of 8 bits itself."""
    held = replace(draft.operands[0], axes=tuple(reading.shape(name)[1:]), view=draft.view)
    if (view := held.view) is None:
        return settled(held)
    found = arranged(held, view.order, view.reason)
    return found if found.view is None else replace(found, view=replace(found.view, tensor=view.tensor))


def channels_first(reading: Reading, node: onnx.NodeProto, name: str) -> None:
    """Make the operand of an element-wise node a map of channels and pixels, if it is a view of a map that can be one.

    If the node's constants have a value for each channel, also of rows of channels; views of three axes only then.
    """
    draft, axes = reading.drafts[name], reading.shape(name)
    if len(axes) < 3 or draft.kind != "move" or draft.activation is not None:
        return
    given = (constant_of(reading.graph, each) for each in node.input if each)
    shapes = [value.shape for value in given if value is not None and value.size > 1]
    told = bool(shapes) and all(shape[1 - len(axes) :] == (axes[1], *[1] * (len(axes) - 2)) for shape in shapes)
    if (told and (draft.rows or draft.view is not None)) or (len(axes) > 3 and draft.view is not None):
        reading.drafts[name] = on_map(reading, node, name, False)


def layout(reading: Reading, names: list[str]) -> bool | None:
    """Where the first map among these operands of a node has its channels: last, or first; None if none is a map."""
    for name in names:
        draft = reading.drafts.get(name)
        if draft is not None and draft.kind == "move":
            held = tensor_of(reading, name, draft)
            if held.view is None and is_regular(held.axes, held.shape, held.rows):
                return held.rows
    return None
