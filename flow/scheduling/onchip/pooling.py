"""Nodes that pool: windows, all pixels, or those along one axis."""

from __future__ import annotations

from dataclasses import replace

import onnx

from flow.frontend.int8.layers import node_window
from flow.network.model import Window
from flow.onnxtools.graph import Graph, attribute, node_input, node_name
from flow.scheduling.onchip.drafts import Draft, Reading
from flow.scheduling.onchip.maps import OffChipError, two_axes

POOLING = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax")


def pool(reading: Reading, node: onnx.NodeProto, draft: Draft) -> Draft:
    kind, name, (channels, height, width) = node.op_type, node_name(node), draft.shape
    result = "maximum" if kind in ("MaxPool", "GlobalMaxPool", "ReduceMax") else "average"
    rank = len(reading.shape(node.input[0]))
    rows = draft.rows and kind.startswith("Reduce")
    if not reading.regular(node.input[0], draft) or draft.rows != rows:
        raise OffChipError(f"{kind} '{name}' reads a map in another shape")
    if kind.startswith("Reduce"):
        return _reduced(reading, node, Draft(result, draft.operands, draft.shape), rank)
    if kind.startswith("Global"):
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


def _reduced(reading: Reading, node: onnx.NodeProto, draft: Draft, rank: int) -> Draft:
    """The mean or the maximum over all pixels, or over the rows or the columns of a map of both."""
    axes, first = _axes(reading.graph, node, rank), 1 if draft.rows else 2
    spatial = list(range(first, rank - draft.rows))
    if not axes or not set(axes) <= set(spatial) or (len(axes) < len(spatial) and len(spatial) != 2):
        raise OffChipError(f"{node.op_type} '{node_name(node)}' runs over axes {axes}, not pixels alone, {spatial}")
    channels, *size = draft.shape
    if len(spatial) == 2:
        size = list(reading.shape(node.input[0])[first : first + 2])
    alone = [len(axes) == len(spatial) or first + number in axes for number in range(2)]
    kernel = [each if one else 1 for each, one in zip(size, alone, strict=True)]
    height, width = (1 if one else each for each, one in zip(size, alone, strict=True))
    shape = (channels, height, width)
    if draft.rows or (height > 1 and len(reading.shape(node.output[0])) < rank):  # its pixels are in a row
        shape = (channels, 1, height * width)
    window, forms = Window((kernel[0], kernel[1]), (1, 1), (0,) * 4, (1, 1)), ((channels, size[0], size[1]),)
    return replace(draft, shape=shape, window=window, forms=(*forms, (channels, height, width)))


def pooled_rows(reading: Reading, node: onnx.NodeProto) -> bool | None:
    """Whether a pooling node is one over all tokens, whose channels are the last axis; None if it does not say."""
    rank = len(reading.shape(node.input[0]))
    if not node.op_type.startswith("Reduce"):
        return None
    axes = sorted(_axes(reading.graph, node, rank))
    return {tuple(range(1, rank - 1)): True, tuple(range(2, rank)): False}.get(tuple(axes)) if rank > 2 else None


def _axes(graph: Graph, node: onnx.NodeProto, rank: int) -> list[int]:
    axes = attribute(node, "axes", None)
    if axes is None and node_input(node, 1):
        constant = graph.constant(node_input(node, 1))
        axes = None if constant is None else constant.reshape(-1).tolist()
    return [axis % rank for axis in axes] if axes is not None else []
