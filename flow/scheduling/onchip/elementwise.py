"""Element-wise nodes: sums and products of two maps, of a map and a constant, and functions of one map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import onnx

from flow.onnxtools.graph import attribute, node_name
from flow.scheduling.onchip.constants import kept_codes, map_codes, on_grid
from flow.scheduling.onchip.drafts import Draft, Reading, constant_of
from flow.scheduling.onchip.maps import OffChipError
from flow.scheduling.onchip.operands import layout, on_map
from flow.scheduling.onchip.post import Shape

LARGEST = 2.0**29  # steps of a map: a channel's summand that a bias of 32 bits holds
PAIRS = {"Add": "add", "Sub": "subtract", "Mul": "product"}


def two_maps(kind: str, drafts: list[Draft]) -> bool:
    """Whether the operands are two maps, or one that is added to itself, and not functions of one map."""
    same = len({draft.operands for draft in drafts}) == 1
    return len(drafts) == 2 and (not same or (kind == "Add" and all(draft.plain for draft in drafts)))


def pair(reading: Reading, node: onnx.NodeProto) -> Draft:
    """A sum, a difference or a product of two maps, one of which may be repeated along some axes."""
    what, names = f"{node.op_type} '{node_name(node)}'", list(node.input)
    rows = layout(reading, names)
    first, second = (on_map(reading, node, name, rows if len(reading.shape(name)) > 2 else None) for name in names)
    forms = joint_forms(reading, what, [(names[0], first), (names[1], second)])
    return Draft(PAIRS[node.op_type], (*first.operands, *second.operands), as_held(forms, first.rows), forms=forms)


def joint_forms(reading: Reading, what: str, drafts: Sequence[tuple[str, Draft]]) -> tuple[Shape, ...]:
    """The shapes in which an operation reads maps, some of which are repeated along some axes, and makes its own.

    OffChipError if they cannot be. One map may be read twice.
    """
    made = [draft for _, draft in drafts]
    shapes = [reading.shape(name) for name, _ in drafts]
    forms: list[Shape] | None = [draft.shape for draft in made]
    if len(set(shapes)) > 1 or len({draft.shape for draft in made}) > 1:
        alike = len({len(shape) for shape in shapes}) == 1 and len({draft.rows for draft in made}) == 1
        if not alike or not all(reading.regular(name, draft) for name, draft in drafts):
            forms = None
        elif made[0].rows:
            forms = _of_rows(shapes)
    sizes = [set(each) for each in zip(*forms or (), strict=True)]
    if forms is None or any(len(each - {1}) > 1 for each in sizes):
        raise OffChipError(f"{what} reads maps of different shapes")
    channels, height, width = (max(each) for each in sizes)
    return (*forms, (channels, height, width))


def _of_rows(shapes: Sequence[tuple[int, ...]]) -> list[Shape] | None:
    """Rows of channels, along axes of which some have size 1 in some of them, as maps of two axes of pixels.

    Axes that are alike count as one; None if there are more than two.
    """
    axes = [sizes for sizes in zip(*(shape[:-1] for shape in shapes), strict=True) if max(sizes) > 1]
    groups = [np.prod(list(group), axis=0) for _, group in groupby(axes, lambda sizes: [size > 1 for size in sizes])]
    if len(groups) > 2:
        return None
    height, width = [*[np.ones(len(shapes), np.int64)] * 2, *groups][-2:]
    return [(shape[-1], int(a), int(b)) for shape, a, b in zip(shapes, height, width, strict=True)]


def as_held(forms: Sequence[Shape], rows: bool) -> Shape:
    """The shape of the map that an operation makes in the last one of these forms."""
    channels, height, width = forms[-1]
    return (channels, 1, height * width) if rows else forms[-1]


def with_constants(reading: Reading, node: onnx.NodeProto, named: list[str]) -> Draft | None:
    """A factor and a summand for every channel, or an operation on a map and a constant one; None if neither."""
    sources = [reading.drafts[entry] for entry in node.input if entry in named]
    if (gains := _gains(reading, node, sources)) is not None:
        return Draft("scale", sources[0].operands, sources[0].shape, gains=gains)
    return _with_map(reading, node, named) if node.op_type in PAIRS else None


def _with_map(reading: Reading, node: onnx.NodeProto, named: list[str]) -> Draft | None:
    """A sum, a difference or a product of a map and a constant of 8 bits; None if it is none."""
    others = [entry for entry in node.input if entry not in named]
    if len(named) != 1 or len(others) != 1 or reading.drafts[named[0]].kind != "move":
        return None
    draft = on_map(reading, node, named[0])
    shape, held = reading.shape(named[0]), draft.operands[0]
    found = kept_codes(reading.graph, others[0]) or on_grid(reading, node, others[0], held.quantization)
    if found is None or not reading.regular(named[0], draft) or reading.shape(node.output[0]) != shape:
        return None
    codes, own = found
    constant = replace(held, tensor="", quantization=own, view=None, origin="")
    behind_map = node.input[0] in named
    operands = (held, constant) if behind_map else (constant, held)
    given = (int(behind_map), map_codes(np.broadcast_to(codes, shape), held.rows))
    return Draft(PAIRS[node.op_type], operands, held.shape, constants=(given,))


def _gains(reading: Reading, node: onnx.NodeProto, drafts: list[Draft]) -> tuple[tuple[float, float], ...] | None:
    """Factor and summand of every channel, where the node gives a map these by constants of several values."""
    draft, data = drafts[0], node.input[0]
    begun = draft.kind == "scale" and draft.activation is None
    if len(drafts) > 1 or not (begun or draft.plain) or not reading.regular(_data_of(reading, node), draft):
        return None
    channels = draft.shape[0]
    before = np.array(draft.gains or [(1.0, 0.0)] * channels)
    values = [None if entry in reading.drafts else constant_of(reading.graph, entry) for entry in node.input if entry]
    if node.op_type == "BatchNormalization":
        if (
            draft.rows
            or len(values) != 5
            or any(value is None for value in values[1:])
            or attribute(node, "training_mode", 0)
        ):
            return None
        scale, summand, mean, variance = (np.asarray(value, np.float64).reshape(-1) for value in values[1:])
        factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        added = summand - mean * factor
    elif node.op_type in ("Add", "Sub", "Mul", "Div") and len(node.input) == 2:
        other = constant_of(reading.graph, node.input[0 if data not in reading.drafts else 1])
        rank = len(reading.shape(node.output[0]))
        if other is None or (np.unique(other).size == 1 and not begun) or other.ndim > rank:
            return None
        shape = (1,) * (rank - other.ndim) + other.shape
        axis = rank - 1 if draft.rows else 1
        if other.size != 1 and (len(shape) <= axis or shape[axis] != channels or other.size != channels):
            return None
        each, first = np.broadcast_to(other.astype(np.float64).reshape(-1), (channels,)), data in reading.drafts
        if node.op_type == "Div" and (not first or not each.all()):
            return None
        factor = {"Mul": each, "Div": 1 / each if node.op_type == "Div" else each}.get(node.op_type, np.ones(channels))
        if node.op_type == "Sub" and not first:
            factor = -factor
        added = {"Add": each, "Sub": -each if first else each}.get(node.op_type, np.zeros(channels))
    else:
        return None
    made = np.stack([before[:, 0] * factor, before[:, 1] * factor + added], axis=1)
    steps = np.abs(made[:, 0]) * float(draft.operands[0].quantization.scale)
    if not (np.abs(made[:, 1]) <= np.where(steps > 0, steps * LARGEST, np.inf)).all():
        return None
    return tuple((float(a), float(b)) for a, b in made)


def _data_of(reading: Reading, node: onnx.NodeProto) -> str:
    """The first of the node's inputs that is no constant."""
    return str(next(entry for entry in node.input if entry in reading.drafts))


def function_of_map(reading: Reading, node: onnx.NodeProto, drafts: list[Draft]) -> Draft:
    """An element-wise function of one map, which its QuantizeLinear makes a table."""
    kind, name, first = node.op_type, node_name(node), drafts[0]
    if any(not draft.pointwise for draft in drafts):
        raise OffChipError(f"{kind} '{name}' reads a tensor that is not quantized to 8 bits")
    apart = any(draft.operands != first.operands for draft in drafts)
    if apart and kind == "Div":
        raise OffChipError(f"{kind} '{name}' divides a map by another; reciprocals of 8 bits would make other codes")
    if apart:
        raise OffChipError(f"{kind} '{name}' is a function of several maps; only that of one is a table")
    shapes = {reading.shape(entry) for entry in (*node.input, node.output[0]) if entry in reading.drafts}
    for entry in node.input:
        values = constant_of(reading.graph, entry) if entry else None
        if values is not None and len(np.unique(values)) != 1:
            raise OffChipError(f"{kind} '{name}' has a constant of several values; a table takes one for all channels")
    if len(shapes | {reading.shape(node.output[0])}) > 1:
        raise OffChipError(f"{kind} '{name}' changes the shape of a map")
    return Draft("table", first.operands, first.shape)
