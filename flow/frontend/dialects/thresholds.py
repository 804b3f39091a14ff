"""MultiThreshold of FINN: a quantizer as the number of thresholds that its input reaches."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.frontend.dialects.qonnx import Grid, add_pair, bounded, constant_input
from flow.frontend.dialects.rewriting import Rewriting
from flow.frontend.dialects.weights import Stored
from flow.onnxtools.graph import attribute, node_input, node_name


def thresholds(r: Rewriting, node: onnx.NodeProto) -> bool:
    """MultiThreshold whose thresholds are evenly spaced, equal for all channels: the number of those reached.

    Thresholds at half steps of the output's scale are a quantizer. Otherwise, and where values on a threshold are to be
    expected because all of them are whole numbers, the number is computed by Floor, as exactly as by comparing.
    """
    levels = constant_input(r, node, 1, "the matrix of thresholds")
    first, step, count = _spacing(node, levels)
    gain, bias = (float(attribute(node, name, default)) for name, default in (("out_scale", 1.0), ("out_bias", 0.0)))
    zero = -bias / gain if gain else 0.0
    if not gain > 0 or abs(zero - round(zero)) > 1e-4:
        grid = Grid(_numbers(abs(gain)), np.zeros(1, np.float32), -1000, 1000)  # no 8-bit codes
    else:
        shift = 128 if round(zero) > 255 or count > 255 else 0  # int8 codes if uint8 ones do not do
        grid = Grid(_numbers(gain), _numbers(round(zero) - shift), -shift, count - shift)
    middle = first - (0.5 - zero) * step
    whole = bool((levels == np.rint(levels)).all())
    if grid.eight_bit and not whole and abs(gain - step) <= 1e-5 * step and abs(middle) <= 1e-4 * step:
        add_pair(r, bounded(r, node, grid), grid, node)
        return True
    out, name = node.output[0], node_name(node)

    def constant(what: str, value: float) -> str:
        return r.constant(f"{name}_{what}", np.float32(value))

    steps = r.step("Div", [r.step("Sub", [node.input[0], constant("first", first)], out), constant("step", step)], out)
    reached = r.step("Add", [r.step("Floor", [steps], out), constant("one", 1)], out)
    number = r.step("Clip", [reached, constant("none", 0), constant("all", count)], out)
    scaled = r.step("Mul", [number, constant("gain", gain)], out)
    if grid.eight_bit:
        add_pair(r, r.step("Add", [scaled, constant("bias", bias)], out), grid, node)
    else:
        r.node("Add", [scaled, constant("bias", bias)], out, name)
    return True


def _spacing(node: onnx.NodeProto, levels: NDArray[np.float32]) -> tuple[float, float, int]:
    """The first threshold, the distance to the next and their number. FlowError unless all distances are equal."""
    rows = levels.reshape(len(levels), -1) if levels.ndim > 1 else levels.reshape(1, -1)
    row, count = rows[0].astype(np.float64), rows.shape[1]
    step = float(row[-1] - row[0]) / (count - 1) if count > 1 else 1.0
    even = row[0] + step * np.arange(count)
    if not (step > 0 and np.abs(rows - even).max() <= 1e-4 * step):
        raise FlowError(
            f"thresholds must be evenly spaced and equal for all channels, but those of {node.op_type} "
            f"'{node_name(node)}' are not; export the network before its quantizers become thresholds"
        )
    return float(row[0]), step, count


def whole_weights(r: Rewriting) -> None:
    """Real weights of FINN that are whole numbers of 8 bits are codes of scale 1."""
    for node in r.model.graph.node:
        name = node_input(node, 1)
        values = r.graph.constant(name) if node.op_type in ("Conv", "Gemm", "MatMul") else None
        if values is None or values.dtype != np.float32 or not values.size:
            continue
        if (values == np.rint(values)).all() and values.min() >= -128 and values.max() <= 127:
            r.stored[name] = Stored(values, np.ones(values.shape, np.float32))


def _numbers(value: float) -> NDArray[np.float32]:
    return np.array([value], np.float32)
