"""Post-processing: residual additions, pooling, copies, as the hardware computes them, bit by bit.

All of them are sums or maxima of bytes u = code + OFFSET, finished by a requantizer, or bytes of a table:

    sum      acc = sum over the taps of F_i * u + bias,    y = clamp(rne(acc * M * 2^-S) + z_y)
    maximum  acc = max over the taps of u + bias,          the same
    table    y = table[u] - OFFSET

An addition has one tap for each operand and their scales in F_i; it rounds once, ONNX Runtime in float32 three times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.hardware.fields import FACTOR_BITS
from flow.network import reference
from flow.network.model import OFFSET, Quantization, Window, as_int8, as_uint8

UNIT = (1 << 23, 23)  # a multiplier and its shift that change nothing

Shape = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True)
class Requantization:
    """Parameters of the requantizer: bias int32, multiplier (24 bits), shift."""

    bias: int
    multiplier: int
    shift: int


IDENTITY = Requantization(-OFFSET, *UNIT)


@dataclass(frozen=True)
class PostOp:
    """One operation on maps.

    kind "add": two maps of one shape; "average" and "maximum": the windows of one; "move": maps to the
    channels from `offsets` on of the output, every stride-th pixel; channels that no operand fills are zero;
    "table": byte u of `table` for every byte u of one map.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    input_quantizations: tuple[Quantization, ...]
    output_quantization: Quantization
    clamp: tuple[int, int]
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    window: Window  # of two axes
    offsets: tuple[int, ...] = (0,)
    table: bytes = b""

    @property
    def zero(self) -> int:
        """What the requantizer adds in the end; the bytes of a table are codes already."""
        return 0 if self.table else self.output_quantization.zero_point

    @property
    def factors(self) -> tuple[int, int]:
        """The factors of the low and the high octet of a step."""
        if self.kind == "add":
            return self._scaled[0]
        return (1, 1)

    @property
    def _scaled(self) -> tuple[tuple[int, int], int]:
        """The factors of an addition, and the number of fractional bits in them."""
        ratios = [float(q.scale) / float(self.output_quantization.scale) for q in self.input_quantizations]
        bits = reference.MAX_SHIFT - UNIT[1]
        while bits and max(round(ratio * 2.0**bits) for ratio in ratios) >= 1 << FACTOR_BITS:
            bits -= 1
        low, high = (round(ratio * 2.0**bits) for ratio in ratios)
        if max(low, high) >= 1 << FACTOR_BITS:
            raise FlowError(
                f"the scales of an addition may differ from its output's by 2**{FACTOR_BITS} at most, but those of "
                f"'{self.name}' are {max(ratios):.3g} times as large; calibrate the network again"
            )
        return (low, high), bits

    def requantization(self, operand: int = 0) -> Requantization:
        """Bias, multiplier and shift; of the operand with this number, for a move."""
        quantization, output = self.input_quantizations[operand], self.output_quantization
        zero = OFFSET + quantization.zero_point
        if self.table:
            return IDENTITY
        if self.kind == "add":
            (low, high), bits = self._scaled
            other = OFFSET + self.input_quantizations[1].zero_point
            return Requantization(-(low * zero + high * other), UNIT[0], UNIT[1] + bits)
        taps = int(np.prod(self.window.kernel)) if self.kind == "average" else 1
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            factor = np.float32(float(quantization.scale) / (float(output.scale) * taps))
        multiplier, shift = reference.fixed_point(np.array([factor], np.float32))
        return Requantization(-taps * zero, int(multiplier[0]), int(shift[0]))


def _taps(op: PostOp, codes: NDArray[np.int8]) -> NDArray[np.int64]:
    """Bytes of the windows, [channels, out height, out width, taps]; outside the map they are 0."""
    _, height, width = op.output_shape
    window = op.window
    (top, left), (bottom, right) = window.pads[:2], window.pads[2:]
    padded = np.pad(
        codes.astype(np.int64) + OFFSET, [(0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))]
    )
    begin_y, begin_x = max(-top, 0), max(-left, 0)
    taps = []
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            y, x = begin_y + ky * window.dilations[0], begin_x + kx * window.dilations[1]
            rows = padded[:, y : y + window.strides[0] * (height - 1) + 1 : window.strides[0]]
            taps.append(rows[:, :, x : x + window.strides[1] * (width - 1) + 1 : window.strides[1]])
    return np.stack(taps, axis=-1)


def _finish(op: PostOp, acc: NDArray[np.int64], operand: int = 0) -> NDArray[np.int8]:
    numbers = op.requantization(operand)
    return reference.requantize(
        acc + numbers.bias, np.array(numbers.multiplier), np.array(numbers.shift),
        op.output_quantization.zero_point, op.clamp,
    )  # fmt: skip


def run(op: PostOp, operands: tuple[NDArray[np.int8], ...]) -> NDArray[np.int8]:
    """The operation on int8 codes [channels, height, width] each: bit-identical to the hardware's results."""
    if op.kind == "add":
        low, high = op.factors
        return _finish(
            op, low * (operands[0].astype(np.int64) + OFFSET) + high * (operands[1].astype(np.int64) + OFFSET)
        )
    if op.table:
        return as_int8(np.frombuffer(op.table, np.uint8)[as_uint8(operands[0])])
    if op.kind == "average":
        return _finish(op, _taps(op, operands[0]).sum(axis=-1))
    if op.kind == "maximum":
        return _finish(op, _taps(op, operands[0]).max(axis=-1))
    result = np.full(op.output_shape, zero_code(op), np.int8)
    for number, (codes, offset) in enumerate(zip(operands, op.offsets, strict=True)):
        result[offset : offset + len(codes)] = _finish(op, _taps(op, codes)[..., 0], number)
    return result


def near_tie(op: PostOp, operands: tuple[NDArray[np.int8], ...]) -> NDArray[np.bool_]:
    """Where an average is so near the middle of two codes that float32's sum over the taps may round otherwise.

    The error is (taps + 3) * 2^-24 * sum |x| of a sum that is divided and scaled; other operations: False.
    """
    if op.kind != "average":
        return np.zeros(op.output_shape, np.bool_)
    quantization, output = op.input_quantizations[0], op.output_quantization
    values = _taps(op, operands[0]) - OFFSET - quantization.zero_point
    count = values.shape[-1]
    factor = float(quantization.scale) / (float(output.scale) * count)
    exact = values.sum(axis=-1) * factor
    error = (count + 3) * 2.0**-24 * np.abs(values).sum(axis=-1) * factor
    near: NDArray[np.bool_] = np.abs(exact - np.floor(exact) - 0.5) <= error
    return near


def zero_code(op: PostOp) -> int:
    """The output's code of real zero, within the clamp."""
    return int(np.clip(op.output_quantization.zero_point, *op.clamp))


def whole_map(op: PostOp) -> bool:
    """Whether one window without padding yields the only output pixel, as in global pooling."""
    return op.kind in ("average", "maximum") and op.output_shape[1:] == (1, 1) and not any(op.window.pads)
