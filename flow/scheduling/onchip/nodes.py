"""The nodes between two layers as post-processing operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.frontend.int8.layers import activation_clamp, node_window, tensor_quantization
from flow.network.model import INT8_MAX, INT8_MIN, HostSegment, Quantization, Window
from flow.onnxtools.graph import Graph, attribute, node_input, node_name, quantized_constant
from flow.onnxtools.shapes import infer
from flow.scheduling.onchip.maps import POINT, Held, OffChipError
from flow.scheduling.onchip.post import PostOp, Shape
from flow.scheduling.onchip.tables import is_elementwise, table_of

SHAPING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout")
POOLING = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean")


@dataclass(frozen=True)
class _Draft:
    """A float tensor until its QuantizeLinear makes it an operation.

    A plain "move" is the 8-bit operand itself; a "table" is a function of its operand, and of `eight_bit` alone, if it
    has one: the 8-bit tensor that it dequantizes.
    """

    kind: str
    operands: tuple[Held, ...]
    shape: Shape
    window: Window = POINT
    offsets: tuple[int, ...] = (0,)
    activation: onnx.NodeProto | None = None
    eight_bit: str = ""

    @property
    def pointwise(self) -> bool:
        """Whether each element depends on the same element of the only operand alone."""
        return (
            self.kind in ("move", "table")
            and self.window == POINT
            and self.offsets == (0,)
            and self.shape == self.operands[0].shape
        )

    @property
    def plain(self) -> bool:
        """Whether the draft is its only operand, unchanged."""
        return self.kind == "move" and self.pointwise and self.activation is None


@dataclass(frozen=True)
class _Reading:
    """State while a segment is read: its tensors' shapes, the maps so far, and float tensors not yet quantized.

    `tables` are 8-bit tensors that are functions of one map, by name, with the QuantizeLinear that makes them. They
    become maps where more than another such function reads them.
    """

    graph: Graph
    shapes: Mapping[str, tuple[int, ...]]
    held: dict[str, Held]
    drafts: dict[str, _Draft] = field(default_factory=dict)
    tables: dict[str, onnx.NodeProto] = field(default_factory=dict)
    operations: list[PostOp] = field(default_factory=list)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes.get(name, ())


def post_operations(segment: HostSegment, held: dict[str, Held]) -> list[PostOp]:
    """The segment's nodes as operations; the maps they write are entered into `held`.

    OffChipError with a tensor of the first node that has no place.
    """
    graph = Graph.of(segment.model)
    names = [name for node in segment.model.graph.node for name in (*node.input, *node.output) if name]
    shapes = infer(segment.model, [name for name in dict.fromkeys(names) if name not in graph.constants]).shapes
    reading = _Reading(graph, shapes, held)
    for node in segment.model.graph.node:
        try:
            operation = _node(reading, node)
        except OffChipError as reason:
            raise OffChipError(str(reason), node.output[0]) from None
        if operation is not None:
            reading.operations.append(operation)
    for name in segment.outputs:
        try:
            _tabulated(reading, name)
        except OffChipError as reason:
            raise OffChipError(str(reason), name) from None
        if name not in held:
            maker = graph.producer(name)
            made = f", which {maker.op_type} '{node_name(maker)}' makes," if maker is not None else ""
            raise OffChipError(f"'{name}'{made} stays a float tensor", name)
    return reading.operations


def _node(reading: _Reading, node: onnx.NodeProto) -> PostOp | None:
    """Enter the output of one node into `held` or `drafts`; returns its operation, if it needs one."""
    graph, held, drafts = reading.graph, reading.held, reading.drafts
    kind, name, data, output = node.op_type, node_name(node), node.input[0] if node.input else "", node.output[0]
    if kind == "DequantizeLinear":
        _dequantize(reading, node)
        return None
    if kind == "QuantizeLinear":
        return _quantize(reading, node)
    _tabulated(reading, data)
    if kind in SHAPING:
        _shaping(reading, node)
        return None
    if kind in ("MaxPool",) and data in held:  # on codes, as on floats
        pooled = _pool(reading, node, _Draft("move", (held[data],), held[data].shape))
        return _finished(reading, node, pooled, held[data].quantization, (INT8_MIN, INT8_MAX))
    inputs = [drafts.get(entry) for entry in node.input if entry and _constant(graph, entry) is None]
    if any(draft is None for draft in inputs) or not inputs:
        raise OffChipError(f"{kind} '{name}' has no place in hardware")
    sources = [draft for draft in inputs if draft is not None]
    if kind in ("Relu", "Clip") and sources[0].activation is None and sources[0].kind != "table":
        drafts[output] = replace(sources[0], activation=node)
    elif kind == "Add" and _adds_maps(sources):
        drafts[output] = _add(reading, node, sources)
    elif is_elementwise(node):
        drafts[output] = _function(reading, node, sources)
    else:
        drafts[output] = _windows(reading, node, [_on_map(reading, node, draft) for draft in sources])
    return None


def _dequantize(reading: _Reading, node: onnx.NodeProto) -> None:
    data, held = node.input[0], reading.held
    if data in reading.tables:
        draft = reading.drafts[reading.tables[data].input[0]]
        reading.drafts[node.output[0]] = replace(draft, eight_bit=data)
    elif data in held:
        reading.drafts[node.output[0]] = _Draft("move", (held[data],), held[data].shape)
    elif data not in reading.graph.constants:
        raise OffChipError(f"DequantizeLinear '{node_name(node)}' reads no map")


def _tabulated(reading: _Reading, name: str) -> None:
    """Enter an 8-bit tensor that is a function of one map into `held`, with its operation, if it is not there."""
    node = reading.tables.get(name)
    if node is None or name in reading.held:
        return
    draft = reading.drafts[node.input[0]]
    quantization = tensor_quantization(reading.graph, node)
    assert quantization is not None
    operation = _finished(reading, node, draft, quantization, (INT8_MIN, INT8_MAX))
    table = table_of(reading.graph, draft.operands[0], name, quantization)
    reading.operations.append(replace(operation, table=table))


def _on_map(reading: _Reading, node: onnx.NodeProto, draft: _Draft) -> _Draft:
    """The draft of an operand of this node, which must be a map."""
    if draft.kind == "table" and draft.eight_bit:
        _tabulated(reading, draft.eight_bit)
        draft = _Draft("move", (reading.held[draft.eight_bit],), draft.shape)
    if not draft.plain:
        raise OffChipError(f"{node.op_type} '{node_name(node)}' reads a tensor that is not quantized to 8 bits")
    return draft


def _adds_maps(drafts: list[_Draft]) -> bool:
    """Whether the operands of an Add are two maps, or one twice, and not functions of one map."""
    same = len({draft.operands for draft in drafts}) == 1
    return len(drafts) == 2 and (not same or all(draft.plain for draft in drafts))


def _add(reading: _Reading, node: onnx.NodeProto, drafts: list[_Draft]) -> _Draft:
    """The sum of two maps."""
    first, second = (_on_map(reading, node, draft) for draft in drafts)
    if first.shape != second.shape:
        raise OffChipError(f"Add '{node_name(node)}' adds maps of different shapes")
    return _Draft("add", (*first.operands, *second.operands), first.shape)


def _function(reading: _Reading, node: onnx.NodeProto, drafts: list[_Draft]) -> _Draft:
    """An element-wise function of one map, which its QuantizeLinear makes a table."""
    kind, name, first = node.op_type, node_name(node), drafts[0]
    if any(not draft.pointwise for draft in drafts):
        raise OffChipError(f"{kind} '{name}' reads a tensor that is not quantized to 8 bits")
    if any(draft.operands != first.operands for draft in drafts):
        raise OffChipError(f"{kind} '{name}' is a function of two maps; only that of one is a table")
    shapes = {reading.shape(entry) for entry in (*node.input, node.output[0]) if entry in reading.drafts}
    for entry in node.input:
        values = _constant(reading.graph, entry) if entry else None
        if values is not None and len(np.unique(values)) != 1:
            raise OffChipError(f"{kind} '{name}' has a constant of several values; a table takes one for all channels")
    if len(shapes | {reading.shape(node.output[0])}) > 1:
        raise OffChipError(f"{kind} '{name}' changes the shape of a map")
    return _Draft("table", first.operands, first.shape)


def _windows(reading: _Reading, node: onnx.NodeProto, sources: list[_Draft]) -> _Draft:
    """A node that takes windows of maps, or channels of several."""
    kind = node.op_type
    if kind in POOLING:
        return _pool(reading, node, sources[0])
    if kind == "Concat":
        return _concat(reading, node, sources)
    if kind == "Slice":
        return _slice(reading.graph, node, sources[0])
    if kind == "Pad":
        return _pad(reading.graph, node, sources[0])
    raise OffChipError(f"{kind} '{node_name(node)}' has no place in hardware")


def _quantize(reading: _Reading, node: onnx.NodeProto) -> PostOp | None:
    name, output = node_name(node), node.output[0]
    if node.input[0] not in reading.drafts:
        raise OffChipError(f"QuantizeLinear '{name}' reads a tensor that is not made on chip")
    draft = reading.drafts[node.input[0]]
    quantization = tensor_quantization(reading.graph, node)
    if draft.kind == "table" and quantization is not None:
        reading.tables[output] = node
        return None
    clamp = activation_clamp(reading.graph, draft.activation, quantization) if quantization is not None else None
    if quantization is None or clamp is None:
        raise OffChipError(
            f"QuantizeLinear '{name}' has no constant 8-bit scale of its own, or an activation without bounds"
        )
    same = quantization.scale == draft.operands[0].quantization.scale and (
        quantization.zero_point == draft.operands[0].quantization.zero_point
    )
    if draft.plain and same:
        reading.held[output] = replace(draft.operands[0], axes=_axes_of(reading, output, draft.operands[0]))
        return None
    return _finished(reading, node, draft, quantization, clamp)


def _finished(
    reading: _Reading, node: onnx.NodeProto, draft: _Draft, quantization: Quantization, clamp: tuple[int, int]
) -> PostOp:
    """The operation that writes the node's output, which is entered into `held` as a new map."""
    output = node.output[0]
    axes = _axes_of(reading, output, draft.operands[0])
    reading.held[output] = Held(output, draft.shape, quantization, axes, draft.operands[0].rows and len(axes) == 2)
    return PostOp(
        node_name(node), draft.kind, tuple(operand.tensor for operand in draft.operands), output,
        tuple(operand.quantization for operand in draft.operands), quantization, clamp,
        tuple(operand.shape for operand in draft.operands), draft.shape, draft.window, draft.offsets,
    )  # fmt: skip


def _shaping(reading: _Reading, node: onnx.NodeProto) -> None:
    """Nodes that keep the order of the values: a map becomes one row of channels, or its shape stays the same."""
    data, output = node.input[0], node.output[0]
    held, drafts = reading.held, reading.drafts
    before, after = reading.shape(data), reading.shape(output)
    flat = len(after) == 2 and after[0] == 1
    if not flat and after != before:
        raise OffChipError(
            f"{node.op_type} '{node_name(node)}' makes {list(after)} of {list(before)}; only one row is taken"
        )
    if data in held:
        held[output] = replace(held[data], axes=tuple(after[1:]), rows=held[data].rows and not flat)
    elif data in drafts:
        drafts[output] = drafts[data]
    else:
        raise OffChipError(f"{node.op_type} '{node_name(node)}' reads no map")


def _pool(reading: _Reading, node: onnx.NodeProto, draft: _Draft) -> _Draft:
    kind, (channels, height, width) = node.op_type, draft.shape
    result = "maximum" if kind in ("MaxPool", "GlobalMaxPool") else "average"
    if kind == "ReduceMean":
        axes = _axes(reading.graph, node)
        if sorted(axes) != [2, 3]:
            raise OffChipError(f"ReduceMean '{node_name(node)}' runs over axes {axes}; only [2, 3] is taken")
    if kind in ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean"):
        return _Draft(result, draft.operands, (channels, 1, 1), Window((height, width), (1, 1), (0,) * 4, (1, 1)))
    kernel = tuple(attribute(node, "kernel_shape", []))
    if len(kernel) == 1:
        raise OffChipError(f"{kind} '{node_name(node)}' has one spatial axis, and pooling takes two")
    window = node_window(node, kernel, (height, width))
    if attribute(node, "ceil_mode", 0):
        raise OffChipError(f"{kind} '{node_name(node)}' rounds its size up (ceil_mode)")
    if result == "average" and any(window.pads):
        raise OffChipError(f"AveragePool '{node_name(node)}' has pads, so its windows differ in size")
    if len(node.output) > 1 and node.output[1]:
        raise OffChipError(f"{kind} '{node_name(node)}' gives indices")
    shape = reading.shape(node.output[0])
    return _Draft(result, draft.operands, (channels, shape[2], shape[3]), window)


def _constant(graph: Graph, name: str) -> NDArray[Any] | None:
    """The values of a constant, also of one that is quantized to 8 bits."""
    kept = quantized_constant(graph, name)
    if kept is None:
        return graph.constant(name)
    if kept.scale is None or kept.zero is None or kept.scale.size != 1:
        return None
    real: NDArray[Any] = (kept.codes.astype(np.float64) - kept.zero) * kept.scale
    return real


def _axes_of(reading: _Reading, name: str, held: Held) -> tuple[int, ...]:
    return tuple(reading.shapes[name][1:]) if name in reading.shapes else held.axes


def _axes(graph: Graph, node: onnx.NodeProto) -> list[int]:
    axes = attribute(node, "axes", None)
    if axes is None and node_input(node, 1):
        constant = graph.constant(node_input(node, 1))
        axes = None if constant is None else constant.reshape(-1).tolist()
    return [axis % 4 for axis in axes] if axes is not None else []


def _concat(reading: _Reading, node: onnx.NodeProto, drafts: list[_Draft]) -> _Draft:
    rank = len(reading.shape(node.output[0]))
    if attribute(node, "axis", 0) % max(rank, 1) != 1 or any(d.operands[0].flat or d.operands[0].rows for d in drafts):
        raise OffChipError(f"Concat '{node_name(node)}' joins along another axis than the channels")
    offsets, total = [], 0
    for draft in drafts:
        if total % 8:
            raise OffChipError(f"Concat '{node_name(node)}' puts a map at channel {total}, which is no multiple of 8")
        offsets.append(total)
        total += draft.shape[0]
    _, height, width = drafts[0].shape
    return _Draft("move", tuple(d.operands[0] for d in drafts), (total, height, width), offsets=tuple(offsets))


def _numbers(graph: Graph, node: onnx.NodeProto, index: int, name: str) -> list[int] | None:
    """A constant input, or the attribute that older operator sets have in its place."""
    if node_input(node, index):
        constant = graph.constant(node_input(node, index))
        if constant is None:
            raise OffChipError(f"{node.op_type} '{node_name(node)}' has bounds that are not constant")
        return [int(value) for value in constant.reshape(-1)]
    numbers = attribute(node, name, None)
    return None if numbers is None else list(numbers)


def _slice(graph: Graph, node: onnx.NodeProto, draft: _Draft) -> _Draft:
    """A Slice as a move: rows and columns of a map at a stride."""
    starts, ends = _numbers(graph, node, 1, "starts") or [], _numbers(graph, node, 2, "ends") or []
    axes = _numbers(graph, node, 3, "axes") or list(range(len(starts)))
    steps = _numbers(graph, node, 4, "steps") or [1] * len(starts)
    begin, stride, size = [0, 0], [1, 1], list(draft.shape[1:])
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        indices = range(1 if axis % 4 == 0 else draft.shape[axis % 4 - 1])[slice(start, end, step)]
        if axis % 4 in (0, 1):
            if len(indices) != (1 if axis % 4 == 0 else draft.shape[0]) or step != 1:
                raise OffChipError(f"Slice '{node_name(node)}' cuts channels")
        elif step < 1 or not len(indices):
            raise OffChipError(f"Slice '{node_name(node)}' runs backwards or takes nothing")
        else:
            begin[axis % 4 - 2], stride[axis % 4 - 2], size[axis % 4 - 2] = indices.start, step, len(indices)
    window = Window((1, 1), (stride[0], stride[1]), (-begin[0], -begin[1], 0, 0), (1, 1))
    return _Draft("move", draft.operands, (draft.shape[0], size[0], size[1]), window)


def _pad(graph: Graph, node: onnx.NodeProto, draft: _Draft) -> _Draft:
    """A Pad as a move: channels of zeros before and after."""
    name, pads = node_name(node), _numbers(graph, node, 1, "pads") or []
    value = _constant(graph, node_input(node, 2)) if node_input(node, 2) else np.zeros(1)
    if attribute(node, "mode", b"constant") != b"constant" or value is None or np.any(value) or node_input(node, 3):
        raise OffChipError(f"Pad '{name}' fills with something else than zero, or along given axes")
    if len(pads) != 8 or any(pads[i] for i in (0, 2, 3, 4, 6, 7)) or min(pads) < 0:
        raise OffChipError(f"Pad '{name}' adds rows or columns; only channels are taken")
    if pads[1] % 8:
        raise OffChipError(f"Pad '{name}' puts a map at channel {pads[1]}, which is no multiple of 8")
    channels, height, width = draft.shape
    return _Draft("move", draft.operands, (channels + pads[1] + pads[5], height, width), offsets=(pads[1],))
