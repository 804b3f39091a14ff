"""The nodes between two layers as post-processing operations."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.compression.encoding import BBS
from flow.frontend.int8.layers import activation_clamp, node_window, tensor_quantization
from flow.frontend.operators import is_elementwise
from flow.frontend.unfused import Unfused, unfused
from flow.network.model import INT8_MAX, INT8_MIN, HostSegment, Quantization, Window
from flow.onnxtools.graph import Graph, attribute, node_input, node_name
from flow.onnxtools.shapes import infer
from flow.scheduling.onchip.arrange import arranged, in_map, laid_out, settled
from flow.scheduling.onchip.constants import behind, kept_codes, map_codes, on_grid, rounded
from flow.scheduling.onchip.drafts import Draft, Picks, Reading, constant_of, is_regular
from flow.scheduling.onchip.heads import matrices_of, placed_results
from flow.scheduling.onchip.maps import Held, OffChipError, View, as_map, element_order, two_axes
from flow.scheduling.onchip.moves import MOVES, fit, moved, order_of, viewed
from flow.scheduling.onchip.normed import NORMS, decomposed, last_axis, normed
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.tables import table_of

SHAPING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout")
POOLING = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax")
ON_CODES = ("MaxPool", *(kind for kind in MOVES if kind != "Pad"))  # that 8-bit codes go through as floats do
LARGEST = 2.0**29  # steps of a map: a channel's summand that a bias of 32 bits holds
CONSTANT_MAX = 2 ** (BBS.constant_bits - 1) - 1  # of a group of weights, which takes the right operand's zero point
PAIRS = {"Add": "add", "Sub": "subtract", "Mul": "product"}


def post_operations(segment: HostSegment, held: dict[str, Held]) -> list[PostOp]:
    """The segment's nodes as operations; the maps they write are entered into `held`.

    An output may be a view. OffChipError with a tensor of the first node that has no place.
    """
    graph = Graph.of(segment.model)
    names = [name for node in segment.model.graph.node for name in (*node.input, *node.output) if name]
    model, viewed_inputs = _with_views(segment.model, held)
    wanted = [name for name in dict.fromkeys(names) if name not in graph.constants]
    shapes = infer(model, wanted, viewed_inputs).shapes
    reading = Reading(graph, shapes, held)
    norms = {
        each.output: each for each in unfused(graph, partial(constant_of, graph), lambda name: len(reading.shape(name)))
    }
    inside = {name for each in norms.values() for node in each.nodes for name in node.output} - set(norms)
    for node in segment.model.graph.node:
        if node.output[0] in inside:
            continue
        try:
            if node.output[0] in norms:
                _unfused(reading, norms[node.output[0]])
            else:
                _node(reading, node)
        except OffChipError as reason:
            raise OffChipError(str(reason), node.output[0], reason.view) from None
    for name in segment.outputs:
        try:
            _tabulated(reading, name)
        except OffChipError as reason:
            raise OffChipError(str(reason), name) from None
        if name not in held:
            maker = graph.producer(name)
            made = f", which {maker.op_type} '{node_name(maker)}' makes," if maker is not None else ""
            raise OffChipError(f"'{name}'{made} stays a float tensor", name)
        axes, view = held[name].axes, held[name].view
        if view is None and len(axes) > 1 and not is_regular(axes, held[name].shape, held[name].rows):
            raise OffChipError(f"'{name}' has another shape, {list(axes)}, than its map", name)
    return reading.operations


def _with_views(model: onnx.ModelProto, held: dict[str, Held]) -> tuple[onnx.ModelProto, list[str]]:
    """The model with the shapes of its inputs that are views, whose axis 0 may not be the batch, and their names."""
    views = {name: view.order.shape for name, each in held.items() if (view := each.view) is not None}
    names = [value.name for value in model.graph.input if value.name in views]
    if not names:
        return model, names
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        if value.name in views:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, views[value.name]))
    return fixed, names


def _node(reading: Reading, node: onnx.NodeProto) -> None:
    """Enter the outputs of one node into `held` or `drafts`, and its operation, if it needs one."""
    graph, held, drafts = reading.graph, reading.held, reading.drafts
    kind, name, data, output = node.op_type, node_name(node), node.input[0] if node.input else "", node.output[0]
    if kind in QUANTIZING:
        return QUANTIZING[kind](reading, node)
    named = [entry for entry in dict.fromkeys(node.input) if entry and constant_of(graph, entry) is None]
    for entry in named:
        _tabulated(reading, entry)
    alone = len(named) == 1 and (kind != "Concat" or len(node.input) == 1)
    if kind in (*SHAPING, *MOVES) and alone and (named[0] in held or named[0] in drafts):
        return _moving(reading, node, named[0])
    if kind in SHAPING:
        return _shaping(reading, node)
    if kind in ON_CODES and named and all(entry in held for entry in named):
        return _on_codes(reading, node, named)
    if any(entry not in drafts for entry in named) or not named:
        raise OffChipError(f"{kind} '{name}' has no place in hardware")
    sources = [drafts[entry] for entry in node.input if entry in named]
    if (made := _matrix_product(reading, node, sources)) is not None:
        drafts[output] = made
    elif kind in ("Relu", "Clip") and sources[0].activation is None and sources[0].kind != "table":
        drafts[output] = replace(sources[0], activation=node)
    elif kind in PAIRS and _two_maps(kind, sources):
        drafts[output] = _pair(reading, node)
    elif (made := _with_constants(reading, node, named)) is not None:
        drafts[output] = made
    elif is_elementwise(node):
        drafts[output] = _function(reading, node, sources)
    elif kind in MOVES:
        _joining(reading, node, named)
    elif kind in NORMS:
        drafts[output] = normed(reading, node, _read_by_norm(reading, node, data))
    elif kind in POOLING:
        drafts[output] = _pool(reading, node, _on_map(reading, node, data, _pooled_rows(reading, node)))
    else:
        raise OffChipError(f"{kind} '{name}' has no place in hardware")
    return None


def _moving(reading: Reading, node: onnx.NodeProto, data: str) -> None:
    """A node that shapes or moves one tensor: as a map if it can be one, else as a view of one, for its readers."""
    held, codes = reading.held, data in reading.held
    seen = held[data].view if codes else reading.drafts[data].view
    if seen is None and (order := _stays(reading, node, data)) is not None:
        reason = ""
    elif seen is None:
        try:
            if node.op_type in SHAPING:
                return _shaping(reading, node)
            if codes and node.op_type in ON_CODES:
                return _on_codes(reading, node, [data])
            if not codes:
                _check_operands(node, [data])
                plain = {data: _on_map(reading, node, data)}
                reading.drafts.update(zip(node.output, moved(reading, node, plain), strict=True))
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
            held[name] = _named(arranged(held[data], number, reason), name)
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


def _named(held: Held, name: str) -> Held:
    """The tensor of 8 bits with this name, whose view says so, if it has one."""
    return held if held.view is None else replace(held, view=replace(held.view, tensor=name))


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


def _matrix_product(reading: Reading, node: onnx.NodeProto, drafts: list[Draft]) -> Draft | None:
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
    zero = maps[1].quantization.zero_point
    if not -CONSTANT_MAX <= zero <= CONSTANT_MAX + 1:
        raise OffChipError(
            f"{what} has a right operand with zero point {zero}; maps as weights have -{CONSTANT_MAX} to "
            f"{CONSTANT_MAX + 1}"
        )
    if min(map(len, shapes)) < 2:
        raise OffChipError(f"{what} multiplies a vector")
    batch = np.broadcast_shapes(*(shape[:-2] for shape in shapes))
    orders = [
        np.broadcast_to(order, (*batch, *order.shape[-2:])).reshape(-1, *order.shape[-2:])
        for order in elements
        if order is not None
    ]
    found = matrices_of(orders[0], orders[1], [held.shape for held in maps])
    if isinstance(found, str):
        raise OffChipError(f"{what} {found}")
    made = (*batch, found.rows, found.columns)
    view = View(np.arange(int(np.prod(made))).reshape(made), f"{what} makes a tensor whose columns are no channels")
    return Draft("matmul", (maps[0], maps[1]), maps[0].shape, matrices=found, view=view)


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


def _on_codes(reading: Reading, node: onnx.NodeProto, named: list[str]) -> None:
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
        made = [_pool(reading, node, plain[named[0]])]
    else:
        _check_operands(node, named)
        made = moved(reading, node, plain)
    for output, draft in zip([each for each in node.output if each], made, strict=True):
        reading.operations.append(_finished(reading, node, draft, quantization, (INT8_MIN, INT8_MAX), output))


def _check_operands(node: onnx.NodeProto, named: list[str]) -> None:
    if node.op_type == "Concat" and len(set(node.input)) != len(named):
        raise OffChipError(f"Concat '{node_name(node)}' joins a map with a constant")


def _dequantize(reading: Reading, node: onnx.NodeProto) -> None:
    data, held = node.input[0], reading.held
    if data in reading.tables:
        draft = reading.drafts[reading.tables[data].input[0]]
        reading.drafts[node.output[0]] = replace(draft, eight_bit=data)
    elif data in held:
        whole = replace(held[data], view=None)
        reading.drafts[node.output[0]] = Draft("move", (whole,), whole.shape, view=held[data].view)
    elif data not in reading.graph.constants:
        raise OffChipError(f"DequantizeLinear '{node_name(node)}' reads no map")


def _tabulated(reading: Reading, name: str) -> None:
    """Enter an 8-bit tensor that is a function of one map into `held`, with its operation, if it is not there."""
    node = reading.tables.get(name)
    if node is None or name in reading.held:
        return
    draft = reading.drafts[node.input[0]]
    quantization = tensor_quantization(reading.graph, node)
    assert quantization is not None
    operation = _finished(reading, node, draft, quantization, (INT8_MIN, INT8_MAX), name)
    table = table_of(reading.graph, reading.whole(draft.operands[0]), name, quantization)
    reading.operations.append(replace(operation, table=table))


def _on_map(reading: Reading, node: onnx.NodeProto, name: str, rows: bool | None = None) -> Draft:
    """The draft of an operand of this node, which must be a map; with its channels last (`rows`) or first, if told."""
    draft, what = reading.drafts[name], f"{node.op_type} '{node_name(node)}'"
    if draft.kind == "table" and draft.eight_bit:
        _tabulated(reading, draft.eight_bit)
        draft = Draft("move", (reading.held[draft.eight_bit],), draft.shape)
    if (draft.view is None and not draft.plain) or draft.kind != "move" or draft.activation is not None:
        raise OffChipError(f"{what} reads a tensor that is not quantized to 8 bits")
    held = _tensor(reading, name, draft)
    if rows is None and held.view is not None:
        rows = held.rows
    if rows is not None:
        held = laid_out(reading.operations, reading.held, held, rows, what)
    return Draft("move", (held,), held.shape)


def _tensor(reading: Reading, name: str, draft: Draft) -> Held:
    """The float tensor of a "move" that changes no values as if it were of 8 bits itself."""
    held = replace(draft.operands[0], axes=tuple(reading.shape(name)[1:]), view=draft.view)
    if (view := held.view) is None:
        return settled(held)
    found = arranged(held, view.order, view.reason)
    return found if found.view is None else replace(found, view=replace(found.view, tensor=view.tensor))


def _layout(reading: Reading, names: list[str]) -> bool | None:
    """Where the first map among these operands of a node has its channels: last, or first; None if none is a map."""
    for name in names:
        draft = reading.drafts.get(name)
        if draft is not None and draft.kind == "move":
            held = _tensor(reading, name, draft)
            if held.view is None and is_regular(held.axes, held.shape, held.rows):
                return held.rows
    return None


def _read_by_norm(reading: Reading, node: onnx.NodeProto, name: str) -> Draft:
    """The operand of a normalization: a map, or a function that is not quantized, of which a Softmax may be."""
    draft = reading.drafts[name]
    function = node.op_type == "Softmax" and draft.kind == "table" and not draft.eight_bit
    if function:
        return draft
    try:
        return _on_map(reading, node, name, last_axis(reading, node))
    except OffChipError:
        return _on_map(reading, node, name)


def _unfused(reading: Reading, found: Unfused) -> None:
    """Enter the output of a LayerNormalization of several nodes into `drafts`."""
    last = found.nodes[-1]
    if found.x not in reading.drafts:
        raise OffChipError(f"{last.op_type} '{node_name(last)}' ends what has no place in hardware")
    rows = True if len(reading.shape(found.x)) > 2 else None
    reading.drafts[found.output] = decomposed(reading, found, _on_map(reading, last, found.x, rows))


def _two_maps(kind: str, drafts: list[Draft]) -> bool:
    """Whether the operands are two maps, or one that is added to itself, and not functions of one map."""
    same = len({draft.operands for draft in drafts}) == 1
    return len(drafts) == 2 and (not same or (kind == "Add" and all(draft.plain for draft in drafts)))


def _pair(reading: Reading, node: onnx.NodeProto) -> Draft:
    """A sum, a difference or a product of two maps, one of which may be repeated along some axes."""
    what, names = f"{node.op_type} '{node_name(node)}'", list(node.input)
    rows = _layout(reading, names)
    first, second = (_on_map(reading, node, name, rows if len(reading.shape(name)) > 2 else None) for name in names)
    if reading.shape(names[0]) != reading.shape(names[1]) or first.shape != second.shape:
        regular = all(reading.regular(name, draft) for name, draft in zip(names, (first, second), strict=True))
        ranks = {len(reading.shape(name)) for name in names}
        sizes = [{a, b} - {1} for a, b in zip(first.shape, second.shape, strict=True)]
        if not regular or len(ranks) > 1 or first.rows != second.rows or any(len(each) > 1 for each in sizes):
            raise OffChipError(f"{what} reads maps of different shapes")
    channels, height, width = (max(a, b) for a, b in zip(first.shape, second.shape, strict=True))
    return Draft(PAIRS[node.op_type], (*first.operands, *second.operands), (channels, height, width))


def _with_constants(reading: Reading, node: onnx.NodeProto, named: list[str]) -> Draft | None:
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
    draft = _on_map(reading, node, named[0])
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


def _joining(reading: Reading, node: onnx.NodeProto, named: list[str]) -> None:
    """A node that moves several tensors at once, of which a Concat's may be constants."""
    constants = [entry for entry in node.input if entry not in named] if node.op_type == "Concat" else []
    if len(set(node.input)) != len(node.input):
        _check_operands(node, named)
    rows = _layout(reading, named)
    plain = {entry: _on_map(reading, node, entry, rows) for entry in named}
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


def _data_of(reading: Reading, node: onnx.NodeProto) -> str:
    """The first of the node's inputs that is no constant."""
    return str(next(entry for entry in node.input if entry in reading.drafts))


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


def _function(reading: Reading, node: onnx.NodeProto, drafts: list[Draft]) -> Draft:
    """An element-wise function of one map, which its QuantizeLinear makes a table."""
    kind, name, first = node.op_type, node_name(node), drafts[0]
    if any(not draft.pointwise for draft in drafts):
        raise OffChipError(f"{kind} '{name}' reads a tensor that is not quantized to 8 bits")
    if any(draft.operands != first.operands for draft in drafts):
        raise OffChipError(f"{kind} '{name}' is a function of two maps; only that of one is a table")
    shapes = {reading.shape(entry) for entry in (*node.input, node.output[0]) if entry in reading.drafts}
    for entry in node.input:
        values = constant_of(reading.graph, entry) if entry else None
        if values is not None and len(np.unique(values)) != 1:
            raise OffChipError(f"{kind} '{name}' has a constant of several values; a table takes one for all channels")
    if len(shapes | {reading.shape(node.output[0])}) > 1:
        raise OffChipError(f"{kind} '{name}' changes the shape of a map")
    return Draft("table", first.operands, first.shape)


def _quantize(reading: Reading, node: onnx.NodeProto) -> None:
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
            reading.held[output] = _named(arranged(draft.operands[0], draft.view.order, draft.view.reason), output)
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
    reading.operations.append(_finished(reading, node, draft, quantization, clamp, output))


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
        reading.operations.append(_finished(reading, node, replace(draft, view=None), quantization, clamp, output))
        made = arranged(replace(reading.held[output], rows=draft.rows), view.order, view.reason)
        reading.held[output] = _named(made, output)
        return
    axes = reading.shape(output)[1:]
    shape = as_map(axes, draft.rows or len(axes) == 1, output)
    wanted = in_map(view.order, draft.rows).reshape(shape) if len(view.order) == 1 else None
    taken = fit(wanted, [draft.shape], (1, 1)) if wanted is not None and draft.norm is not None else None
    if taken is None or taken.picks != (tuple((0, channel) for channel in range(draft.shape[0])),):
        raise OffChipError(view.reason)
    part = replace(draft, view=None, shape=shape, window=taken.window)
    reading.operations.append(_finished(reading, node, part, quantization, clamp, output))


def _finished(
    reading: Reading, node: onnx.NodeProto, draft: Draft, quantization: Quantization, clamp: tuple[int, int],
    output: str,
) -> PostOp:  # fmt: skip
    """The operation that writes `output` of the node, which is entered into `held` as a new map."""
    axes = _axes_of(reading, output, draft.operands[0])
    rows = draft.rows and _rows_of(axes, draft)
    reading.held[output] = Held(output, draft.shape, quantization, axes, rows)
    if len({operand.rows for operand in draft.operands}) > 1:
        raise OffChipError(f"'{node_name(node)}' reads maps of different layouts", output)
    constant = {number for number, _ in draft.constants}
    inputs = tuple(operand.tensor for number, operand in enumerate(draft.operands) if number not in constant)
    return PostOp(
        node_name(node), draft.kind, inputs, output, tuple(operand.quantization for operand in draft.operands),
        quantization, clamp, tuple(operand.shape for operand in draft.operands), draft.shape, draft.window,
        _picks(draft), draft.repeat, draft.all_taps, gains=draft.gains, norm=draft.norm, corners=draft.corners,
        constants=draft.constants,
    )  # fmt: skip


def _rows_of(axes: tuple[int, ...], draft: Draft) -> bool:
    """Whether axes are tokens and channels, or more of them, as those of heads have."""
    return len(axes) == 2 or (len(axes) > 2 and is_regular(axes, draft.shape, True))


def _multiplied(
    reading: Reading, node: onnx.NodeProto, draft: Draft, quantization: Quantization, clamp: tuple[int, int],
    output: str,
) -> PostOp:  # fmt: skip
    """The operation of a matrix product that writes `output` of the node, entered into `held` as a map of rows."""
    assert draft.matrices is not None and draft.view is not None
    axes = reading.shape(output)[1:]
    matrices = placed_results(draft.matrices, draft.view.order.reshape(-1, axes[-1])) if len(axes) > 1 else None
    if matrices is None:
        raise OffChipError(draft.view.reason)
    shape = (axes[-1], 1, int(np.prod(axes[:-1], dtype=np.int64)))
    reading.held[output] = Held(output, shape, quantization, tuple(axes), True)
    maps = draft.operands
    return PostOp(
        node_name(node), "matmul", tuple(each.tensor for each in maps), output,
        tuple(each.quantization for each in maps), quantization, clamp, tuple(each.shape for each in maps), shape,
        draft.window, matrices=matrices,
    )  # fmt: skip


def _picks(draft: Draft) -> Picks:
    """Where the channels of a move come from."""
    return draft.picks or ((tuple((0, channel) for channel in range(draft.shape[0])),) if draft.kind == "move" else ())


def _shaping(reading: Reading, node: onnx.NodeProto) -> None:
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


def _pool(reading: Reading, node: onnx.NodeProto, draft: Draft) -> Draft:
    kind, name, (channels, height, width) = node.op_type, node_name(node), draft.shape
    result = "maximum" if kind in ("MaxPool", "GlobalMaxPool", "ReduceMax") else "average"
    rank = len(reading.shape(node.input[0]))
    rows = draft.rows and kind.startswith("Reduce")
    if not reading.regular(node.input[0], draft) or draft.rows != rows:
        raise OffChipError(f"{kind} '{name}' reads a map in another shape")
    spatial = list(range(1, rank - 1) if rows else range(2, rank))
    if kind.startswith("Reduce") and sorted(axes := _axes(reading.graph, node, rank)) != spatial:
        raise OffChipError(f"{kind} '{name}' runs over axes {axes}; only {spatial}, all pixels, is taken")
    if kind.startswith(("Reduce", "Global")):
        return Draft(result, draft.operands, (channels, 1, 1), Window((height, width), (1, 1), (0,) * 4, (1, 1)))
    if len(node.output) > 1 and node.output[1]:
        raise OffChipError(f"{kind} '{name}' gives indices")
    kernel = tuple(attribute(node, "kernel_shape", []))
    window = two_axes(node_window(node, kernel, (height, width)[-len(kernel) :]))
    size = (*[1] * (4 - rank), *reading.shape(node.output[0])[2:])
    starts = [(windows - 1) * stride for windows, stride in zip(size, window.strides, strict=True)]
    if any(start >= own + pad for start, own, pad in zip(starts, (height, width), window.pads[:2], strict=True)):
        raise OffChipError(
            f"{kind} '{name}' has a window that begins behind the map (ceil_mode)"
        )  # ONNX Runtime has not
    pool = Draft(result, draft.operands, (channels, size[0], size[1]), window)
    return replace(pool, all_taps=bool(attribute(node, "count_include_pad", 0)))


def _pooled_rows(reading: Reading, node: onnx.NodeProto) -> bool | None:
    """Whether a pooling node is one over all tokens, whose channels are the last axis; None if it does not say."""
    rank = len(reading.shape(node.input[0]))
    if not node.op_type.startswith("Reduce"):
        return None
    axes = sorted(_axes(reading.graph, node, rank))
    return {tuple(range(1, rank - 1)): True, tuple(range(2, rank)): False}.get(tuple(axes)) if rank > 2 else None


def _axes_of(reading: Reading, name: str, held: Held) -> tuple[int, ...]:
    return tuple(reading.shapes[name][1:]) if name in reading.shapes else held.axes


def _axes(graph: Graph, node: onnx.NodeProto, rank: int) -> list[int]:
    axes = attribute(node, "axes", None)
    if axes is None and node_input(node, 1):
        constant = graph.constant(node_input(node, 1))
        axes = None if constant is None else constant.reshape(-1).tolist()
    return [axis % rank for axis in axes] if axes is not None else []


QUANTIZING = {"DequantizeLinear": _dequantize, "QuantizeLinear": _quantize}
