"""Constants as operands of post-processing: their codes, in the order of a map."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.frontend.int8.layers import tensor_quantization
from flow.network.model import INT8_MAX, INT8_MIN, OFFSET, Quantization, as_int8
from flow.onnxtools.graph import Graph, linear_codes, quantized_constant
from flow.scheduling.onchip.drafts import Draft, Reading, constant_of
from flow.scheduling.onchip.maps import Held, as_map

CODES = INT8_MAX - INT8_MIN


def kept_codes(graph: Graph, name: str) -> tuple[NDArray[np.int8], Quantization] | None:
    """The codes of a constant of 8 bits with one scale."""
    kept = quantized_constant(graph, name)
    if kept is None or kept.scale is None or kept.scale.size != 1 or kept.zero is None:
        return None
    unsigned = kept.codes.dtype == np.uint8
    zero = int(kept.zero.reshape(-1)[0]) - (OFFSET if unsigned else 0)
    own = Quantization(np.float32(kept.scale.reshape(-1)[0]), zero, unsigned)
    return (as_int8(kept.codes) if unsigned else kept.codes), own


def on_grid(
    reading: Reading, node: onnx.NodeProto, name: str, given: Quantization
) -> tuple[NDArray[np.int8], Quantization] | None:
    """Codes of a constant that is added to a map, and whose values are steps of the sum's scale; None if they are not.

    What is so low that every sum with it has the lowest code (a mask) may be as low as that.
    """
    quantization, value = behind(reading, node), constant_of(reading.graph, name)
    if quantization is None or value is None or node.op_type != "Add":
        return None
    step, largest = float(quantization.scale), float(given.scale) * (INT8_MAX - given.zero_point)
    hidden = value <= -CODES * step
    if hidden.any() and largest / step + quantization.zero_point - CODES > INT8_MIN:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.where(hidden, -CODES, np.rint(value / step))
    exact = hidden | (steps * step == value)
    if not exact.all() or np.ptp(steps) > CODES:
        return None
    zero = INT8_MIN - int(steps.min())
    return (steps + zero).astype(np.int8), Quantization(quantization.scale, zero, False)


def behind(reading: Reading, node: onnx.NodeProto) -> Quantization | None:
    """The quantization of a node's output, if nothing else reads it."""
    reader = reading.graph.only_consumer(node.output[0])
    return tensor_quantization(reading.graph, reader) if reader and reader.op_type == "QuantizeLinear" else None


def map_codes(codes: NDArray[np.int8], rows: bool) -> bytes:
    """Codes [1, axes] in the order of a map."""
    return np.ascontiguousarray(codes.reshape(-1, codes.shape[-1]).T if rows else codes).tobytes()


def rounded(reading: Reading, name: str, beside: Held, quantization: Quantization) -> Draft:
    """A constant as an operand that has the codes which a QuantizeLinear makes of it."""
    value = constant_of(reading.graph, name)
    assert value is not None
    codes = linear_codes(value, quantization.scale, np.int8(quantization.zero_point)).astype(np.int8, copy=False)
    axes = tuple(value.shape[1:])
    shape = as_map(axes, beside.rows or len(axes) == 1, name)
    held = Held("", shape, quantization, axes, beside.rows)
    return Draft("move", (held,), shape, constants=((0, map_codes(codes, beside.rows)),))
