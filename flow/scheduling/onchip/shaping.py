"""Nodes that shape, move or join tensors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.network.model import INT8_MAX, INT8_MIN
from flow.onnxtools.graph import node_name
from flow.scheduling.onchip.arrange import arranged, settled, with_name
from flow.scheduling.onchip.constants import behind, rounded
from flow.scheduling.onchip.drafts import Draft, Reading
from flow.scheduling.onchip.finished import finished
from flow.scheduling.onchip.maps import OffChipError, View, element_order
from flow.scheduling.onchip.moves import MOVES, moved, viewed
from flow.scheduling.onchip.operands import layout, on_map
from flow.scheduling.onchip.pooling import pool
from flow.scheduling.onchip.resizing import resized

SHAPING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout")
ON_CODES = ("MaxPool", *(kind for kind in MOVES if kind != "Pad"))  # that 8-bit codes go through as floats do


def moving(reading: Reading, node: onnx.NodeProto, data: str) -> None:
    """A node that shapes or moves one tensor: as a map if it can be one, else as a view of one, for its readers."""
    held, codes = reading.held, data in reading.held
    seen = held[data].view if codes else reading.drafts[data].view
    rows = held[data].rows if codes else reading.drafts[data].rows
    if seen is None and (order := _stays(reading, node, data)) is not None:
        reason = ""
    elif seen is None:
        try:
            if node.op_type in SHAPING:
                return shaping(reading, node)
            if node.op_type == "Transpose" and rows and len(reading.shape(data)) > 3:  # heads: for their product
                raise OffChipError(f"{node.op_type} '{node_name(node)}' has no place in hardware")
            if codes and node.op_type in ON_CODES:
                return on_codes(reading, node, [data])
            if not codes:
                _check_operands(node, [data])
                plain = {data: on_map(reading, node, data)}
                reading.drafts.update(zip(node.output, _copies(reading, node, plain), strict=True))
                return None
        except OffChipError as error:
            reason = str(error)
            if not codes and not reading.drafts[data].plain and not _is_made(reading, data):
                raise
        else:
            raise OffChipError(f"{node.op_type} '{node_name(node)}' has no place in hardware")
        order = _elements(reading, data)
    else:
        order, reason = seen.order.reshape(reading.shape(data)), seen.reason
    made = viewed(reading, node, data, order)
    if made is None:
        raise OffChipError(reason)
    for name, number in zip(node.output, made, strict=True):
        if codes:
            held[name] = with_name(arranged(held[data], number, reason), name)
        else:
            tensor = seen.tensor if seen is not None else ""
            reading.drafts[name] = replace(reading.drafts[data], view=View(number, reason, tensor))
    return None


def _stays(reading: Reading, node: onnx.NodeProto, data: str) -> NDArray[np.int64] | None:
    """The elements of a map, if all that a node makes of it by moving them is that map in another shape."""
    draft = reading.drafts.get(data)
    if node.op_type not in MOVES or (draft is not None and not draft.plain) or len(set(node.input)) != len(node.input):
        return None
    held = reading.held[data] if draft is None else draft.operands[0]
    order = _elements(reading, data)
    try:
        made = viewed(reading, node, data, order)
    except OffChipError:
        return None
    return order if made and all(arranged(held, number, "").view is None for number in made) else None


def _is_made(reading: Reading, name: str) -> bool:
    """Whether a float tensor is what a map will be whose elements have places of their own, once it is quantized."""
    draft = reading.drafts[name]
    return draft.kind not in ("move", "table", "matmul") and reading.regular(name, draft)


def _elements(reading: Reading, name: str) -> NDArray[np.int64]:
    """The numbers of the elements of a tensor that is a map, or will be one."""
    shape = reading.shape(name)
    if name in reading.held:
        return element_order(reading.held[name], shape)
    draft = reading.drafts[name]
    held = draft.operands[0]
    return element_order(replace(held, shape=draft.shape, view=None), shape)


def on_codes(reading: Reading, node: onnx.NodeProto, named: list[str]) -> None:
    """A node that moves 8-bit codes, or takes their maximum, as it does with floats."""
    maps = [reading.held[entry] for entry in named]
    for view in (each.view for each in maps if each.view is not None):
        raise OffChipError(view.reason)
    quantization = maps[0].quantization
    if any(
        (each.quantization.scale, each.quantization.zero_point) != (quantization.scale, quantization.zero_point)
        for each in maps
    ):
        raise OffChipError(f"{node.op_type} '{node_name(node)}' joins codes of different scales")
    plain = {entry: Draft("move", (each,), each.shape) for entry, each in zip(named, maps, strict=True)}
    if node.op_type == "MaxPool":
        made = [pool(reading, node, plain[named[0]])]
    else:
        _check_operands(node, named)
        made = _copies(reading, node, plain)
    for output, draft in zip([each for each in node.output if each], made, strict=True):
        reading.operations.append(finished(reading, node, draft, quantization, (INT8_MIN, INT8_MAX), output))


def _copies(reading: Reading, node: onnx.NodeProto, plain: dict[str, Draft]) -> list[Draft]:
    """A node's outputs as copies, of a Resize that repeats pixels unevenly, line by line."""
    try:
        return moved(reading, node, plain)
    except OffChipError:
        if node.op_type != "Resize":
            raise
    return [resized(reading, node, plain[node.input[0]])]


def shaping(reading: Reading, node: onnx.NodeProto) -> None:
    """Nodes that keep the order of the values: a map becomes one row of channels, or its shape stays the same."""
    data, output = node.input[0], node.output[0]
    held, drafts = reading.held, reading.drafts
    before, after = reading.shape(data), reading.shape(output)
    source = held[data] if data in held else drafts.get(data)
    rows = source is not None and source.rows
    flat = len(after) == 2 and after[0] == 1
    one = source is not None and (source.shape[1:] == (1, 1) or source.shape[0] == 1)  # else the order is another
    if after != before and ((rows and not (flat and one)) or after[:1] != before[:1]):
        raise OffChipError(
            f"{node.op_type} '{node_name(node)}' makes {list(after)} of {list(before)}; of rows of channels only one "
            "row is taken, and the batch stays"
        )
    if data in held:
        held[output] = settled(replace(held[data], axes=tuple(after[1:]), rows=rows and not flat))
    elif data in drafts:
        drafts[output] = drafts[data]
    else:
        raise OffChipError(f"{node.op_type} '{node_name(node)}' reads no map")


def joining(reading: Reading, node: onnx.NodeProto, named: list[str]) -> None:
    """A node that moves several tensors at once, of which a Concat's may be constants."""
    constants = [entry for entry in node.input if entry not in named] if node.op_type == "Concat" else []
    if len(set(node.input)) != len(node.input):
        _check_operands(node, named)
    rows = layout(reading, named)
    plain = {entry: on_map(reading, node, entry, rows) for entry in named}
    first = next(iter(plain.values()))
    if constants:
        quantization = behind(reading, node)
        if quantization is None:
            _check_operands(node, named)
        assert quantization is not None
        plain = {
            entry: plain.get(entry) or rounded(reading, entry, first.operands[0], quantization) for entry in node.input
        }
    made = moved(reading, node, plain)
    numbers = [(number, each.constants[0][1]) for number, each in enumerate(plain.values()) if each.constants]
    for output, draft in zip(node.output, made, strict=True):
        reading.drafts[output] = replace(draft, constants=tuple(numbers))


def _check_operands(node: onnx.NodeProto, named: list[str]) -> None:
    if node.op_type == "Concat" and len(set(node.input)) != len(named):
        raise OffChipError(f"Concat '{node_name(node)}' joins a map with a constant")
