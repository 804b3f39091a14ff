"""The nodes between two layers as post-processing operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import onnx

from flow.frontend.operators import ACTIVATIONS, is_elementwise, is_interpolation
from flow.frontend.unfused import Unfused, unfused
from flow.network.model import HostSegment
from flow.onnxtools.graph import Graph, node_name
from flow.onnxtools.shapes import infer
from flow.scheduling.onchip.choices import chosen
from flow.scheduling.onchip.drafts import Draft, Reading, constant_of, has_planes, is_regular
from flow.scheduling.onchip.elementwise import PAIRS, function_of_map, pair, two_maps, with_constants
from flow.scheduling.onchip.finished import dequantize, quantize, tabulated
from flow.scheduling.onchip.maps import Held, OffChipError
from flow.scheduling.onchip.moves import MOVES
from flow.scheduling.onchip.normed import NORMS, decomposed, last_axis, normed
from flow.scheduling.onchip.operands import channels_first, on_map
from flow.scheduling.onchip.pooling import POOLING, pool, pooled_rows
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.products import matrix_product
from flow.scheduling.onchip.resizing import interpolated
from flow.scheduling.onchip.shaping import ON_CODES, SHAPING, joining, moving, on_codes, shaping


def post_operations(segment: HostSegment, held: dict[str, Held]) -> list[PostOp]:
    """The segment's nodes as operations; the maps they write are entered into `held`.

    An output may be a view. OffChipError with a tensor of the first node that has no place.
    """
    graph = Graph.of(segment.model)
    names = [name for node in segment.model.graph.node for name in (*node.input, *node.output) if name]
    model, inputs = _with_shapes(segment.model, held)
    wanted = [name for name in dict.fromkeys(names) if name not in graph.constants]
    shapes = infer(model, wanted, inputs).shapes
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
            tabulated(reading, name)
        except OffChipError as reason:
            raise OffChipError(str(reason), name) from None
        if name not in held:
            maker = graph.producer(name)
            made = f", which {maker.op_type} '{node_name(maker)}' makes," if maker is not None else ""
            raise OffChipError(f"'{name}'{made} stays a float tensor", name)
        axes, view = held[name].axes, held[name].view
        fits = is_regular(axes, held[name].shape, held[name].rows) or has_planes(axes, held[name].shape)
        if view is None and len(axes) > 1 and not fits:
            raise OffChipError(f"'{name}' has another shape, {list(axes)}, than its map", name)
    return reading.operations


def _with_shapes(model: onnx.ModelProto, held: dict[str, Held]) -> tuple[onnx.ModelProto, list[str]]:
    """The model with the shapes of its inputs that are held, whose axis 0 may not be the batch, and their names."""
    shapes = {name: (1, *each.axes) if each.view is None else each.view.order.shape for name, each in held.items()}
    names = [value.name for value in model.graph.input if value.name in shapes]
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        if value.name in shapes:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, shapes[value.name]))
    return fixed, names


def _node(reading: Reading, node: onnx.NodeProto) -> None:
    """Enter the outputs of one node into `held` or `drafts`, and its operation, if it needs one."""
    graph, held, drafts = reading.graph, reading.held, reading.drafts
    kind, name, output = node.op_type, node_name(node), node.output[0]
    if kind in QUANTIZING:
        return QUANTIZING[kind](reading, node)
    named = [entry for entry in dict.fromkeys(node.input) if entry and constant_of(graph, entry) is None]
    _prepared(reading, node, named)
    alone = len(named) == 1 and (kind != "Concat" or len(node.input) == 1) and not is_interpolation(node)
    if kind in (*SHAPING, *MOVES) and alone and (named[0] in held or named[0] in drafts):
        return moving(reading, node, named[0])
    if kind in SHAPING:
        return shaping(reading, node)
    if kind in ON_CODES and named and all(entry in held for entry in named):
        return on_codes(reading, node, named)
    if any(entry not in drafts for entry in named) or not named:
        raise OffChipError(f"{kind} '{name}' has no place in hardware")
    sources = [drafts[entry] for entry in node.input if entry in named]
    if (made := matrix_product(reading, node, sources)) is not None:
        drafts[output] = made
    elif kind in ACTIVATIONS and sources[0].activation is None and sources[0].kind != "table":
        drafts[output] = replace(sources[0], activation=node)
    elif kind in PAIRS and two_maps(kind, sources):
        drafts[output] = pair(reading, node)
    elif (made := chosen(reading, node)) is not None or (made := with_constants(reading, node, named)) is not None:
        drafts[output] = made
    elif is_elementwise(node):
        drafts[output] = function_of_map(reading, node, sources)
    elif is_interpolation(node):
        drafts[output] = interpolated(reading, node)
    elif kind in MOVES:
        joining(reading, node, named)
    elif kind in OF_ONE_MAP:
        drafts[output] = OF_ONE_MAP[kind](reading, node)
    else:
        raise OffChipError(f"{kind} '{name}' has no place in hardware")
    return None


def _prepared(reading: Reading, node: onnx.NodeProto, named: Sequence[str]) -> None:
    """Make maps of a node's operands: of 8-bit functions of a map, and of the view that an element-wise node reads."""
    for entry in named:
        tabulated(reading, entry)
    if is_elementwise(node) and node.op_type not in ACTIVATIONS and len(named) == 1 and named[0] in reading.drafts:
        channels_first(reading, node, named[0])


def _normed(reading: Reading, node: onnx.NodeProto) -> Draft:
    return normed(reading, node, _read_by_norm(reading, node, node.input[0]))


def _pooled(reading: Reading, node: onnx.NodeProto) -> Draft:
    return pool(reading, node, on_map(reading, node, node.input[0], pooled_rows(reading, node)))


def _read_by_norm(reading: Reading, node: onnx.NodeProto, name: str) -> Draft:
    """The operand of a normalization: a map, or a function that is not quantized, of which a Softmax may be."""
    draft = reading.drafts[name]
    function = node.op_type == "Softmax" and draft.kind == "table" and not draft.eight_bit
    if function:
        return draft
    try:
        return on_map(reading, node, name, last_axis(reading, node))
    except OffChipError:
        return on_map(reading, node, name)


def _unfused(reading: Reading, found: Unfused) -> None:
    """Enter the output of a LayerNormalization of several nodes into `drafts`."""
    last = found.nodes[-1]
    if found.x not in reading.drafts:
        raise OffChipError(f"{last.op_type} '{node_name(last)}' ends what has no place in hardware")
    rows = True if len(reading.shape(found.x)) > 2 else None
    reading.drafts[found.output] = decomposed(reading, found, on_map(reading, last, found.x, rows))


OF_ONE_MAP = {**dict.fromkeys(NORMS, _normed), **dict.fromkeys(POOLING, _pooled)}
QUANTIZING = {"DequantizeLinear": dequantize, "QuantizeLinear": quantize}
