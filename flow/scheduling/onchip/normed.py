"""Nodes that normalize the channels of every position, Softmax and LayerNormalization, as operations on chip."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.frontend.unfused import Unfused
from flow.network.model import OFFSET, as_int8
from flow.onnxtools import runtime
from flow.onnxtools.graph import attribute, node_input, node_name
from flow.scheduling.onchip.drafts import Draft, Reading, constant_of
from flow.scheduling.onchip.maps import Held, OffChipError, element_order
from flow.scheduling.onchip.norms import Norm, checked, exact
from flow.scheduling.onchip.tables import model_of, values_of

NORMS = ("Softmax", "LayerNormalization", "InstanceNormalization")
ALIKE = 1e-4  # of the largest value: tolerance between nodes and what they are taken for
STEADY = 2.0**-21  # of the largest value: how far a linear function may be off by rounding in float32


def normed(reading: Reading, node: onnx.NodeProto, draft: Draft) -> Draft:
    """The node on `draft`, a map or, of a Softmax, a linear function of one. `OffChipError` if it has no place."""
    data, what = node.input[0], f"{node.op_type} '{node_name(node)}'"
    rank = len(reading.shape(data))
    if not reading.regular(data, draft):
        raise OffChipError(f"{what} reads a map in another shape")
    if _axis(reading, node, rank) != (rank - 1 if draft.rows else 1):
        raise OffChipError(f"{what} does not run over the channels")
    held, channels = draft.operands[0], draft.shape[0]
    zero = OFFSET + held.quantization.zero_point
    if node.op_type == "Softmax":
        step, roundings = float(held.quantization.scale), 1
        if not draft.plain:
            step, roundings = _slope(reading, data, draft, what)
        norm = Norm("softmax", channels, step, zero, roundings=roundings)
    else:
        if len([name for name in node.output if name]) > 1:
            raise OffChipError(f"{what} gives its mean or deviation, too")
        gains = np.stack([_each(reading, node, number, channels, what) for number in (1, 2)], axis=1)
        norm = Norm(
            "layernorm", channels, float(held.quantization.scale), zero, float(attribute(node, "epsilon", 1e-5)), True,
            tuple((float(gain), float(summand)) for gain, summand in gains),
        )  # fmt: skip
    if reason := checked(norm):
        raise OffChipError(f"{what} has no place in hardware: {reason}")
    return Draft(norm.kind, draft.operands, draft.shape, norm=norm)


def decomposed(reading: Reading, found: Unfused, draft: Draft) -> Draft:
    """A LayerNormalization of several nodes, of the map `draft`. `OffChipError` if they do not compute this."""
    what = f"the normalization up to {found.nodes[-1].op_type} '{node_name(found.nodes[-1])}'"
    if not draft.rows or not reading.regular(found.x, draft):
        raise OffChipError(f"{what} reads no map of rows of channels")
    held, channels = draft.operands[0], draft.shape[0]
    if not {found.gain.size, found.summand.size} <= {1, channels}:
        raise OffChipError(f"{what} has no scale and bias for every channel")
    gains = zip(*(np.broadcast_to(each, (channels,)).tolist() for each in (found.gain, found.summand)), strict=True)
    norm = Norm(
        "layernorm", channels, float(held.quantization.scale), OFFSET + held.quantization.zero_point, found.epsilon,
        found.centred, tuple(gains),
    )  # fmt: skip
    if reason := checked(norm):
        raise OffChipError(f"{what} has no place in hardware: {reason}")
    if not _computes(reading, found, norm, held):
        raise OffChipError(f"{what} computes something else")
    return Draft(norm.kind, draft.operands, draft.shape, norm=norm)


def _computes(reading: Reading, found: Unfused, norm: Norm, held: Held) -> bool:
    """Whether the nodes give what the normalization does, of codes of any spread."""
    output = onnx.helper.make_tensor_value_info(found.output, onnx.TensorProto.FLOAT, None)
    own = reading.whole(held)
    session, rng = runtime.session(model_of(reading.graph, own, output)), np.random.default_rng(0)
    for spread in (1, 10, 100):
        codes = np.clip(np.rint(rng.normal(0, spread, held.shape)), -128, 127).astype(np.int64) + OFFSET
        given = as_int8(codes.astype(np.uint8)).reshape(-1)[element_order(own, (1, *own.axes))]
        made = runtime.run(session, {own.name: own.quantization.from_int8(given)})[found.output]
        want, _ = exact(norm, codes.reshape(len(codes), -1))
        if not np.allclose(made.reshape(want.T.shape), want.T, rtol=ALIKE, atol=ALIKE * np.abs(want).max()):
            return False
    return True


def last_axis(reading: Reading, node: onnx.NodeProto) -> bool | None:
    """Whether the channels that the node runs over are the last axis of several, or the first; else None."""
    rank = len(reading.shape(node.input[0]))
    axis = _axis(reading, node, rank) if rank > 2 else -1
    return {rank - 1: True, 1: False}.get(axis)


def _axis(reading: Reading, node: onnx.NodeProto, rank: int) -> int:
    """The axis of a node's channels; -1 if it runs over several.

    An InstanceNormalization of three axes runs over the pixels of every group, which are its channels here.
    """
    if node.op_type == "InstanceNormalization":
        return rank - 1 if rank == 3 else -1
    opset = max(
        (each.version for each in reading.graph.model.opset_import if each.domain in ("", "ai.onnx")), default=0
    )
    old = node.op_type == "Softmax" and opset < 13
    axis = int(attribute(node, "axis", 1 if old else -1)) % rank
    several = (old or node.op_type == "LayerNormalization") and axis != rank - 1
    return -1 if several else axis


def _each(reading: Reading, node: onnx.NodeProto, number: int, channels: int, what: str) -> NDArray[np.float64]:
    """The constant input of this number for every channel; 0 if it is left out.

    An InstanceNormalization has one for every group, which must be alike.
    """
    name = node_input(node, number)
    value = constant_of(reading.graph, name) if name else np.zeros(1)
    groups = node.op_type == "InstanceNormalization"
    value = np.unique(value) if groups and value is not None else value
    if value is None or value.size not in ((1,) if groups else (1, channels)):
        raise OffChipError(f"{what} has no constant scale and bias for every channel")
    return np.broadcast_to(value.astype(np.float64).reshape(-1), (channels,))


def _slope(reading: Reading, name: str, draft: Draft, what: str) -> tuple[float, int]:
    """By how much the function of one map, a tensor of floats, grows from code to code, and how often it is rounded."""
    if draft.kind != "table" or not draft.pointwise:
        raise OffChipError(f"{what} reads a tensor that is not quantized to 8 bits")
    values, nodes = values_of(reading.graph, reading.whole(draft.operands[0]), name)
    step = float(values[-1] - values[0]) / (len(values) - 1)
    line = values[0] + step * np.arange(len(values))
    if not step > 0 or not np.abs(values - line).max() <= STEADY * np.abs(values).max():
        raise OffChipError(f"{what} reads a function of a map that is not linear")
    return step, nodes
