"""Weights in any quantized form: as INT8 codes if they have that many bits and are symmetric, else rounded again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.frontend.int8.layers import OnHost, layer_weights, output_axis
from flow.frontend.operators import ARRAY_OPERATORS, LAYOUT_OPERATORS
from flow.frontend.quantization.scales import PART, weight_codes, weight_scales
from flow.network.model import INT8_MAX, INT8_MIN
from flow.onnxtools import external
from flow.onnxtools.edit import Editor
from flow.onnxtools.graph import (
    Graph,
    attribute,
    is_dequantize,
    is_standard,
    node_input,
    node_name,
    quantized_constant,
)

Numbers = NDArray[np.generic]
MOVING = ("Identity", "Transpose")  # what may stand between quantized weights and their layer


@dataclass(frozen=True)
class Int8:
    """Weights for the array: int8 `codes` of the weights' shape and float32 `scales` [channels].

    `signal` and `noise`: sums of the squares of the stored weights, and of their error.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    signal: float
    noise: float

    @property
    def sqnr(self) -> float:
        """The error against the stored weights in dB, infinite if there is none."""
        exact = self.noise <= 1e-12 * self.signal  # as exact as float32: the codes are the same
        return float("inf") if exact else 10 * float(np.log10(max(self.signal, 1e-300) / self.noise))


@dataclass(frozen=True)
class Stored:
    """Quantized weights, real = scales * codes: zero points are subtracted from `codes`, `scales` have their shape.

    Codes of 8 bits are int16 then, others float32.
    """

    codes: NDArray[np.float32] | NDArray[np.int16]
    scales: NDArray[np.float32]

    @staticmethod
    def of(codes: Numbers, scale: Numbers, zero: Numbers, axis: int = 0, block: int = 0) -> Stored:
        """Codes with scales and zero points for the tensor, along an axis, in blocks of it, or of their full shape.

        ValueError where the shapes do not fit.
        """
        small = all(part.dtype in (np.int8, np.uint8) for part in (codes, np.asarray(zero)))
        zeros, scales = _spread(zero, codes.shape, axis, block), _spread(scale, codes.shape, axis, block)
        if small:
            return Stored(codes.astype(np.int16) - zeros.astype(np.int16), scales)
        return Stored(codes.astype(np.float32) - zeros, scales)

    def real(self) -> NDArray[np.float32]:
        """The weights in real numbers, as DequantizeLinear computes them."""
        return np.asarray(self.codes * self.scales, np.float32)

    def transposed(self, order: list[int] | None) -> Stored:
        return Stored(self.codes.transpose(order), self.scales.transpose(order))

    def int8(self, axis: int, bias: NDArray[np.float64] | None = None, step: float = 1.0, exact: bool = True) -> Int8:
        """INT8 weights with one scale for each index of `axis`.

        A channel with one scale whose codes fit 8 bits keeps them: a negative scale negates them, a zero scale makes
        them zero. Every other channel, without `exact` each one, is rounded to -127 to 127. `bias` float64 [channels]
        in real numbers and `step`, the scale of the input, bound the scales from below (`weight_scales`).
        """
        codes, scales = np.moveaxis(self.codes, axis, 0), np.moveaxis(self.scales, axis, 0)
        biases = np.zeros(len(codes)) if bias is None else bias
        rows = max(1, PART // (4 * max(1, codes[:1].size)))
        parts = [
            _int8(codes[n : n + rows].astype(np.float32), scales[n : n + rows], biases[n : n + rows], step, exact)
            for n in range(0, max(1, len(codes)), rows)
        ]
        whole = np.moveaxis(np.concatenate([part.codes for part in parts]), 0, axis)
        signal, noise = sum(part.signal for part in parts), sum(part.noise for part in parts)
        return Int8(np.ascontiguousarray(whole), np.concatenate([part.scales for part in parts]), signal, noise)


def _int8(
    codes: NDArray[np.float32], scales: NDArray[np.float32], bias: NDArray[np.float64], step: float, exact: bool
) -> Int8:
    """`Stored.int8` of some channels, along axis 0."""
    shape, channels = codes.shape, len(codes)
    codes, scales = codes.reshape(channels, -1), scales.reshape(channels, -1)
    real = np.asarray(codes * scales, np.float32)
    own = scales[:, 0] if scales.shape[1] else np.ones(channels, np.float32)
    signed = np.where(own[:, None] < 0, -codes, codes) * (own[:, None] != 0)
    kept = exact & (scales == own[:, None]).all(axis=1) & (signed == np.rint(signed)).all(axis=1)
    kept = kept & (signed.min(axis=1, initial=0) >= INT8_MIN) & (signed.max(axis=1, initial=0) <= INT8_MAX)
    rounded = weight_scales(real, 0, bias, step)
    chosen = np.where(kept, np.where(own == 0, 1, np.abs(own)), rounded).astype(np.float32)
    result = np.where(kept[:, None], np.clip(signed, INT8_MIN, INT8_MAX), weight_codes(real, rounded, 0))
    result = result.astype(np.int8)
    wanted = real.astype(np.float64)
    noise = np.square(wanted - result * chosen[:, None]).sum()
    return Int8(result.reshape(shape), chosen, float(np.square(wanted).sum()), float(noise))


def _spread(values: Numbers, shape: tuple[int, ...], axis: int, block: int) -> NDArray[np.float32]:
    """Scales or zero points, one for each code."""
    array = np.asarray(values).astype(np.float32)
    if array.size == 1:
        return np.broadcast_to(array.reshape(()), shape)
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis {axis} of shape {list(shape)}")
    if block > 0:
        array = np.take(array, np.arange(shape[axis]) // block, axis=axis)
    elif array.ndim == 1 and len(shape) > 1:
        array = array.reshape([-1 if index == axis % len(shape) else 1 for index in range(len(shape))])
    return np.broadcast_to(array, shape)


# -------------------------------------------------------------------------------- in a network


def stored_constant(graph: Graph, name: str) -> Stored | None:
    """The quantized constant behind the DequantizeLinear that makes this tensor; None if there is none."""
    found = quantized_constant(graph, name)
    if found is None or found.scale is None or found.zero is None or not np.isfinite(found.scale).all():
        return None
    axis, block = attribute(found.node, "axis", 1), attribute(found.node, "block_size", 0)
    if found.codes.dtype.kind == "f":
        return None
    try:
        return Stored.of(found.codes, found.scale, found.zero, axis, block)
    except (ValueError, IndexError):
        return None  # not valid ONNX: the checker says so


def layer_weights_stored(graph: Graph, stored: Mapping[str, Stored], node: onnx.NodeProto) -> Stored | None:
    """The quantized weights of an array operator, transposed as it reads them; None if they are not quantized."""
    name, moves = _origin(graph, node_input(node, 1))
    found = stored.get(name) or stored_constant(graph, name)
    for move in reversed(moves):
        order = attribute(move, "perm", None)
        if found is not None and order is not None and sorted(order) != list(range(found.codes.ndim)):
            return None  # not valid ONNX
        found = found.transposed(order) if found is not None and move.op_type == "Transpose" else found
    if found is None or not (found.codes.ndim == 2 or (found.codes.ndim > 2 and node.op_type == "Conv")):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return found if found.codes.size and np.isfinite(found.real()).all() else None


def _origin(graph: Graph, name: str) -> tuple[str, list[onnx.NodeProto]]:
    """The tensor that this one is moved from, and the nodes that move it, the last one first."""
    moves: list[onnx.NodeProto] = []
    while (producer := graph.producer(name)) is not None and producer.op_type in MOVING and is_standard(producer):
        moves.append(producer)
        name = producer.input[0]
    return name, moves


def input_step(graph: Graph, node: onnx.NodeProto) -> float | None:
    """The scale of a layer's 8-bit input, found behind layout operators; None if it has none."""
    before = graph.producer(node.input[0])
    while before is not None and before.op_type in LAYOUT_OPERATORS:
        before = graph.producer(before.input[0])
    scale = graph.constant(node_input(before, 1)) if before is not None and is_dequantize(before) else None
    known = scale is not None and scale.size == 1 and scale.dtype == np.float32 and 0 < scale.item() < np.inf
    return float(scale.item()) if scale is not None and known else None


def weights_to_int8(model: onnx.ModelProto, stored: Mapping[str, Stored]) -> dict[str, float]:
    """Give every layer with an 8-bit input INT8 weights that the array takes, if its weights are quantized at all.

    `stored`: quantized weights that the model holds as real numbers, by tensor. Returns the SQNR in dB of the layers
    whose weights changed their form, by name.
    """
    editor = Editor(model)
    graph, changed = editor.graph, {}
    for node in model.graph.node:
        step = input_step(graph, node) if node.op_type in ARRAY_OPERATORS and is_standard(node) else None
        found = layer_weights_stored(graph, stored, node) if step is not None and not _taken(graph, node) else None
        if found is not None and step is not None:
            axis = output_axis(node)
            weights = found.int8(axis, _bias(graph, node, found.codes.shape[axis]), step)
            stem = f"{node_name(node)}_int8"
            inputs = [editor.constant(stem, weights.codes), editor.constant(f"{stem}_scale", weights.scales)]
            inputs.append(editor.constant(f"{stem}_zero", np.zeros(len(weights.scales), np.int8)))
            node.input[1] = editor.step("DequantizeLinear", inputs, stem, axis=axis)
            changed[node_name(node)] = weights.sqnr
        editor.nodes.append(node)
    if changed:
        editor.finish()
    return changed


def _taken(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether the array takes the weights as they are."""
    try:
        return bool((layer_weights(graph, node).scales > 0).all())
    except (OnHost, ValueError):  # ValueError: the axes do not fit, which ONNX Runtime refuses
        return False


def _bias(graph: Graph, node: onnx.NodeProto, channels: int) -> NDArray[np.float64]:
    """The bias of a layer in real numbers, float64 [channels]; zeros where there is none or it is not constant."""
    name = node_input(node, 2)
    held = stored_constant(graph, name) if name else None
    real = held.real() if held is not None else graph.constant(name)
    if real is None or real.size not in (1, channels):
        return np.zeros(channels)
    return np.broadcast_to(real.reshape(-1).astype(np.float64), (channels,))


def weights_to_real(model: onnx.ModelProto) -> dict[str, Stored]:
    """Make float weights of quantized ones in a network that quantizes nothing but weights; returns these, by tensor.

    Such a network is a float network for the flow: its activations are quantized from calibration samples.
    """
    graph = Graph.of(model)
    layers = [node for node in model.graph.node if node.op_type in ARRAY_OPERATORS and is_standard(node)]
    activations = any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in model.graph.node)
    if activations or not layers or any(input_step(graph, node) is not None for node in layers):
        return {}
    if not any(layer_weights_stored(graph, {}, node) for node in layers):
        return {}
    constants = {_origin(graph, name)[0] for node in layers for name in node.input[1:]}
    kept, found = [], {}
    for node in model.graph.node:
        mine = is_dequantize(node) and node.output[0] in constants - graph.outputs
        held, scale = stored_constant(graph, node.output[0]) if mine else None, graph.constant(node_input(node, 1))
        if held is None or scale is None:
            kept.append(node)
            continue
        found[node.output[0]] = held
        model.graph.initializer.append(external.constant(held.real().astype(scale.dtype), node.output[0]))
    editor = Editor(model)
    editor.nodes += kept
    editor.finish()
    return found


def rounding(model: onnx.ModelProto, stored: Mapping[str, Stored]) -> dict[str, float]:
    """The SQNR in dB of quantized weights in a float network, which is quantized again, by layer."""
    graph, found = Graph.of(model), {}
    for node in model.graph.node:
        layer = node.op_type in ARRAY_OPERATORS and is_standard(node)
        held = layer_weights_stored(graph, stored, node) if layer else None
        if held is not None:
            found[node_name(node)] = held.int8(output_axis(node), exact=False).sqnr
    return found
