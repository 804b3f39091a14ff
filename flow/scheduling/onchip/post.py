"""Post-processing: residual additions, pooling, copies, as the hardware computes them, bit by bit.

All of them are sums or maxima of bytes u = code + OFFSET, finished by a requantizer, or bytes of a table:

    sum      acc = sum over the taps of F_i * u + bias,    y = clamp(rne(acc * M * 2^-S) + z_y)
    maximum  acc = max over the taps of u + bias,          the same
    lines    acc = L * u + H * (u of the next line) + bias, the same
    product  acc = (u_0 - z_0) * (u_1 - z_1),              the same
    matmul   acc = sum over k of (u_0 - z_0) * (u_1 - z_1), the same
    table    y = table[u] - OFFSET
    largest  y = max(u_0, u_1, ...) - OFFSET,  smallest likewise
    choice   y = u_0 - OFFSET where u_1 is 1, `otherwise` where it is 0
    select   y = u_0 - OFFSET where u_2 is 1, u_1 - OFFSET where it is 0
    turn     y = u - OFFSET, a matrix product with ones and zeros
    gather   y = u - OFFSET of another channel and pixel
    norm     acc = t + bias,  t of norms.py,               the same

An addition has one tap for each operand and their scales in F_i; it rounds once, ONNX Runtime in float32 three times.
A difference is an addition whose second factor is negative. The operands of these four go through tables before, so
that they are codes of the output: no rounding can differ, as rounding never changes an order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.hardware.fields import FACTOR_BITS, MINUS_OFFSET, PRODUCT_OFFSET, SUBGROUP
from flow.network import reference
from flow.network.model import OFFSET, Quantization, Window, as_int8, as_uint8
from flow.scheduling.onchip.gains import Gains, grouped
from flow.scheduling.onchip.lines import UNITY, Lines
from flow.scheduling.onchip.norms import Norm, exact, finished, normalized
from flow.scheduling.onchip.runs import Run

UNIT = (1 << 23, 23)  # a multiplier and its shift that change nothing
NOBODY = -1  # the operand of a channel of zeros
RAMP = (SUBGROUP, 1, 256 // SUBGROUP)  # of a map that has every byte once

Double = NDArray[np.float64]
Shape = tuple[int, int, int]  # channels, height, width
EXTREMA = ("largest", "smallest")  # of two maps or more
CHOSEN = (*EXTREMA, "choice", "select")
PAIRED = ("add", "subtract", "product", *CHOSEN)  # of two maps, or more
UNCHANGED = bytes(range(256))  # a table that changes nothing
INVERSE = bytes(range(255, -1, -1))  # a table that turns the order of bytes round


@dataclass(frozen=True)
class Requantization:
    """Parameters of the requantizer: bias int32, multiplier (24 bits), shift; of all channels or of each of eight."""

    bias: int | NDArray[np.int64]
    multiplier: int | NDArray[np.int64]
    shift: int | NDArray[np.int64]


IDENTITY = Requantization(-OFFSET, *UNIT)


@dataclass(frozen=True)
class Head:
    """One matrix product of two maps: the first channel and pixel of its left operand, its right one and its result.

    `rows`: if it has fewer rows than the others.
    """

    left: tuple[int, int]
    right: tuple[int, int]
    result: tuple[int, int]
    rows: int = 0


@dataclass(frozen=True)
class Matrices:
    """Matrix products [rows, reduction] x [reduction, columns], one for each head.

    In the maps, the left operand and the result have their rows as pixels, their columns as channels. The right operand
    has the reduction as channels and its columns as pixels; with `across` it is the other way round.
    """

    rows: int
    reduction: int
    columns: int
    across: bool
    heads: tuple[Head, ...]
    gain: float = 1.0  # what the products are multiplied by
    filled: int = 0  # values of the reduction that are zeros behind each head

    @property
    def macs(self) -> int:
        return len(self.heads) * self.rows * (self.reduction - self.filled) * self.columns

    def rows_of(self, head: Head) -> int:
        return head.rows or self.rows

    def operands(self, head: Head, left: NDArray[Any], right: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The matrices of a head out of maps [channels, height, width]."""
        (a, p), (b, q), rows = head.left, head.right, self.rows_of(head)
        first = left.reshape(len(left), -1)[a : a + self.reduction, p : p + rows].T
        flat = right.reshape(len(right), -1)
        if b + self.reduction > len(flat) and not self.across:  # a turn's last octet, against zeros
            flat = np.pad(flat, ((0, b + self.reduction - len(flat)), (0, 0)))
        if self.across:
            return first, flat[b : b + self.columns, q : q + self.reduction].T
        return first, flat[b : b + self.reduction, q : q + self.columns]

    def placed(self, results: Sequence[NDArray[Any]], shape: Shape) -> NDArray[Any]:
        """The results [rows, columns] of all heads in a map of this shape."""
        made = np.zeros((shape[0], shape[1] * shape[2]), results[0].dtype)
        for head, result in zip(self.heads, results, strict=True):
            channel, pixel = head.result
            made[channel : channel + self.columns, pixel : pixel + self.rows_of(head)] = result.T
        return made.reshape(shape)


@dataclass(frozen=True)
class PostOp:
    """One operation on maps.

    kind "add", "subtract", "product", "largest", "smallest", "choice", "select": two maps, of "largest" and "smallest"
    any number, each of the output's shape or of size 1 along some axes, where it is repeated; of the last four, each
    goes through one of `tables` before, if that is not empty; "choice" gives the code `otherwise` where the second
    one's byte is 0, not 1, and "select" has a third map, whose byte is 0 where it gives the second one; "average" and
    "maximum": the windows of one, an average
    with `all_taps` counts those in the pads; "move": every stride-th pixel becomes `repeat` (rows, columns) of pixels;
    in number dy * columns + dx of these, channel c is `picks[number][c]`, (operand, channel), or zero (NOBODY);
    "table": byte u of `table` for every byte u of one map; "scale": for each channel a factor and a real summand,
    `gains` (factor, summand); "softmax" and "layernorm": the `norm` over the channels of each pixel that a window of
    one tap takes; "matmul": `matrices` of two maps; "join": every operand is a rectangle of the output, from its place
    in `corners` (row, column) on; "turn": `matrices` of a constant of ones and zeros and a map, whose channels become
    pixels; "gather": output channel c is `channels[c]`, (channel, number of its order), whose pixels come in this one
    of `orders`; "lines": `lines` between the rows or the columns of one map.

    `constants` are operands that no map holds: (number, codes in the order of a map). All else that is said of operands
    counts them, too; `inputs` does not.
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
    picks: tuple[tuple[tuple[int, int], ...], ...] = ()
    repeat: tuple[int, int] = (1, 1)
    all_taps: bool = False
    table: bytes = b""
    gains: tuple[tuple[float, float], ...] = ()
    norm: Norm | None = None
    lines: Lines | None = None
    matrices: Matrices | None = None
    corners: tuple[tuple[int, int], ...] = ()
    constants: tuple[tuple[int, bytes], ...] = ()
    channels: tuple[tuple[int, int], ...] = ()
    orders: tuple[tuple[Run, ...], ...] = ()
    tables: tuple[bytes, ...] = ()
    otherwise: int = 0

    @property
    def operands(self) -> tuple[str, ...]:
        """The maps of all operands; those of constants are its own."""
        names, constant = iter(self.inputs), {number for number, _ in self.constants}
        count = len(self.input_shapes)
        return tuple(f"{self.output} constant {each}" if each in constant else next(names) for each in range(count))

    def codes(self, maps: Sequence[NDArray[np.int8]]) -> tuple[NDArray[np.int8], ...]:
        """The codes of all operands, those of `inputs` given, in their shapes."""
        given, constants = iter(maps), dict(self.constants)
        each = (
            np.frombuffer(constants[number], np.int8) if number in constants else next(given)
            for number in range(len(self.input_shapes))
        )
        return tuple(codes.reshape(shape) for codes, shape in zip(each, self.input_shapes, strict=True))

    @property
    def signed(self) -> bool:
        """Whether an array without products cannot do it."""
        return self.kind in ("subtract", "product", "choice", "select") or any(gain < 0 for gain, _ in self.gains)

    def octet_gains(self, octet: int) -> list[Gains]:
        """Of a "scale", the numbers for the channels of one octet, in groups."""
        pairs = np.array(self.gains[octet * SUBGROUP : (octet + 1) * SUBGROUP], np.float64)
        step = float(self.output_quantization.scale)
        quantization = self.input_quantizations[0]
        return grouped(
            pairs[:, 0] * float(quantization.scale) / step, pairs[:, 1] / step, OFFSET + quantization.zero_point
        )

    def scratch(self) -> dict[str, Shape]:
        """The maps that it needs meanwhile, with their shapes."""
        found = {name: self.input_shapes[number] for name, (number, _) in self.tabled().items()}
        found |= dict.fromkeys((*self.repeated(), *self.parts), self.output_shape)
        for number, _ in self.constants:
            found[self.operands[number]] = self.input_shapes[number]
        return found | (dict.fromkeys(self.ramps, RAMP) if self.constants else {})

    @property
    def parts(self) -> tuple[str, ...]:
        """Of those, what a "select" takes of each of its two maps, zero elsewhere; the largest of the first two maps,
        of the first three, and so on, of all but the last.
        """
        count = 2 if self.kind == "select" else len(self.input_shapes) - 2 if self.kind in EXTREMA else 0
        return tuple(f"{self.output} part {number}" for number in range(count))

    @property
    def ramps(self) -> tuple[str, str]:
        """The maps of which constants are made: of equal bytes, and of every byte once."""
        return f"{self.output} steps", f"{self.output} ramp"

    def tabled(self) -> dict[str, tuple[int, bytes]]:
        """Of those, the ones that operands become before, with each one's number, and its table."""
        tables = [*self.tables]
        turned = {"smallest": range(len(tables)), "select": (1,)}
        for number in turned.get(self.kind, ()):
            tables[number] = (tables[number] or UNCHANGED).translate(INVERSE)
        return {f"{self.output} values {number}": (number, table) for number, table in enumerate(tables) if table}

    @property
    def filled(self) -> tuple[bytes, ...]:
        """The tables that it needs, but for those of constants, in order."""
        if self.table:
            return (self.table,)
        return (*(table for _, table in self.tabled().values()), *([INVERSE] if self.kind == "smallest" else []))

    def repeated(self) -> dict[str, int]:
        """Of those, the ones that repeat an operand, and its number."""
        if self.kind not in PAIRED:
            return {}
        return {
            f"{self.output} operand {number}": number
            for number, shape in enumerate(self.input_shapes)
            if shape != self.output_shape
        }

    @property
    def zero(self) -> int:
        """What the requantizer adds in the end; the bytes of a table are codes already."""
        if self.kind in CHOSEN:
            return self.otherwise
        return 0 if self.table else self.output_quantization.zero_point

    @property
    def factors(self) -> tuple[int, int]:
        """The factors of the low and the high octet of a step."""
        if self.kind in ("add", "subtract"):
            return self._scaled[0]
        if self.kind == "product":
            low, high = (OFFSET + quantization.zero_point for quantization in self.input_quantizations)
            return (low, high)
        return (OFFSET + self.otherwise, 0) if self.kind == "choice" else (1, 1)

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

    def requantization(self, operand: int = 0, taps: tuple[int, int] | None = None) -> Requantization:
        """Bias, multiplier and shift: for a move of the operand with this number, for an average of a window of `taps`.

        `taps`: (in the map, to be divided by); by default all those of the window.
        """
        quantization, output = self.input_quantizations[operand], self.output_quantization
        zero = OFFSET + quantization.zero_point
        if self.table or self.kind in CHOSEN:
            return replace(IDENTITY, bias=-PRODUCT_OFFSET) if self.kind == "choice" else IDENTITY
        if self.kind in ("add", "subtract"):
            (low, high), bits = self._scaled
            other = OFFSET + self.input_quantizations[1].zero_point
            bias = -(low * zero + high * other) if self.kind == "add" else high * other - low * zero - MINUS_OFFSET
            return Requantization(bias, UNIT[0], UNIT[1] + bits)
        scale = float(quantization.scale)
        if self.kind == "product" or self.matrices:
            scale *= float(self.input_quantizations[1].scale)
        if self.matrices:
            scale *= self.matrices.gain
        every = int(np.prod(self.window.kernel)) if self.kind == "average" else UNITY if self.lines else 1
        inside, divisor = taps or (every, every)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            factor = np.float32(scale / (float(output.scale) * divisor))
        multiplier, shift = reference.fixed_point(np.array([factor], np.float32))
        bias = -PRODUCT_OFFSET if self.kind == "product" else -inside * zero
        if self.matrices:
            bias = self._matrix_bias(self.matrices)
        return Requantization(bias, int(multiplier[0]), int(shift[0]))

    def _matrix_bias(self, matrices: Matrices) -> int:
        """What the zero points and what fills the last octet of the reduction add to every sum, negative.

        With z the byte of zero of the left operand and d = -z_w that of the right one: every weight w comes with its
        complement, whose activation is z, so that (w + d) u + (~w + d) z = (w + d) (u - z) + z (2 d - 1). What fills
        the octet has w = -128, u = 0.
        """
        zero, constant = OFFSET + self.input_quantizations[0].zero_point, -self.input_quantizations[1].zero_point
        filled = -matrices.reduction % SUBGROUP
        return -zero * (matrices.reduction * (2 * constant - 1) + filled * (OFFSET - 1 + constant))


def _along(op: PostOp, axis: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows (axis 0) or columns of every window's taps, int64 [windows, taps], and whether they are in the map."""
    window, windows, size = op.window, op.output_shape[1 + axis] // op.repeat[axis], op.input_shapes[0][1 + axis]
    first = np.arange(windows) * window.strides[axis] - window.pads[axis]
    place = first[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
    return place, (place >= 0) & (place < size)


@dataclass(frozen=True)
class Span:
    """Rows or columns of an output, from `first` on, whose windows have alike taps: in the map, and to divide by."""

    first: int
    size: int
    inside: int
    divisor: int


def spans(op: PostOp, axis: int) -> list[Span]:
    """The output's rows (axis 0) or columns, by what their windows hold."""
    place, inside = _along(op, axis)
    within = place < op.input_shapes[0][1 + axis] + op.window.pads[2 + axis]  # the map and its pads
    counts = (inside if not op.all_taps else within).sum(axis=1)
    pairs = list(zip(inside.sum(axis=1).tolist(), counts.tolist(), strict=True))
    found, first = [], 0
    for number in range(1, len(pairs) + 1):
        if number == len(pairs) or pairs[number] != pairs[first]:
            found.append(Span(first, number - first, *pairs[first]))
            first = number
    return found


def _taps(op: PostOp, codes: NDArray[np.int8], outside: int = 0) -> NDArray[np.int64]:
    """Bytes of the windows, [channels, windows down, windows across, taps]; outside the map they are `outside`."""
    (y, rows), (x, columns) = _along(op, 0), _along(op, 1)
    height, width = codes.shape[1:]
    down, across = np.clip(y, 0, height - 1)[:, None, :, None], np.clip(x, 0, width - 1)[None, :, None, :]
    found = np.where(
        rows[:, None, :, None] & columns[None, :, None, :], codes.astype(np.int64)[:, down, across] + OFFSET, outside
    )
    return found.reshape(*found.shape[:3], -1)


def _finish(op: PostOp, acc: NDArray[np.int64], numbers: Requantization) -> NDArray[np.int8]:
    return reference.requantize(
        acc + numbers.bias, np.array(numbers.multiplier), np.array(numbers.shift),
        op.zero, op.clamp,
    )  # fmt: skip


def run(op: PostOp, maps: Sequence[NDArray[np.int8]]) -> NDArray[np.int8]:
    """The operation on int8 codes [channels, height, width] of each input: bit-identical to the hardware's results."""
    operands = op.codes(maps)
    if op.kind in CHOSEN:
        return _chosen(op, operands)
    if op.kind in PAIRED:
        return _finish(op, _paired(op, *operands), op.requantization())
    if op.matrices:
        numbers = replace(op.requantization(), bias=0)
        products = _products(op.matrices, op, operands)
        return op.matrices.placed([_finish(op, acc, numbers) for acc in products], op.output_shape)
    if op.table:
        return as_int8(np.frombuffer(op.table, np.uint8)[as_uint8(operands[0])])
    if op.kind == "average":
        return _average(op, _taps(op, operands[0]).sum(axis=-1))
    if op.kind == "scale":
        return _scaled(op, operands[0])
    if op.kind == "gather":
        return _gathered(op, operands[0])
    if op.norm is not None:
        return _normalized(op, op.norm, operands[0])
    if op.lines is not None:
        return _finish(op, _between(op.lines, operands[0]), op.requantization())
    if op.kind == "maximum":
        return _finish(op, _taps(op, operands[0]).max(axis=-1), op.requantization())
    if op.kind == "join":
        parts = [
            _finish(op, codes.astype(np.int64) + OFFSET, op.requantization(number))
            for number, codes in enumerate(operands)
        ]
        return _joined(op, parts, np.zeros(op.output_shape, np.int8))
    moved = []
    for number, codes in enumerate(operands):
        zero = OFFSET + op.input_quantizations[number].zero_point
        moved.append(_finish(op, _taps(op, codes, zero)[..., 0], op.requantization(number)))
    return _placed(op, moved, np.full(op.output_shape, zero_code(op), np.int8))


def _products(matrices: Matrices, op: PostOp, maps: Sequence[NDArray[np.int8]]) -> list[NDArray[np.int64]]:
    """The sums of all heads, int64 [rows, columns] each, less the zero points."""
    real = [
        codes.astype(np.int64) - quantization.zero_point
        for codes, quantization in zip(maps, op.input_quantizations, strict=True)
    ]
    return [np.matmul(*matrices.operands(head, *real)) for head in matrices.heads]


def _placed(op: PostOp, moved: Sequence[NDArray[Any]], result: NDArray[Any]) -> NDArray[Any]:
    """The pixels that a move takes of each operand, at their places in `result`."""
    for phase, picks in enumerate(op.picks):
        dy, dx = divmod(phase, op.repeat[1])
        for channel, (operand, source) in enumerate(picks):
            if operand != NOBODY:
                result[channel, dy :: op.repeat[0], dx :: op.repeat[1]] = moved[operand][source]
    return result


def _joined(op: PostOp, parts: Sequence[NDArray[Any]], result: NDArray[Any]) -> NDArray[Any]:
    """The operands of a join, at their places in `result`."""
    for (y, x), part in zip(op.corners, parts, strict=True):
        result[:, y : y + part.shape[1], x : x + part.shape[2]] = part
    return result


def _neighbours(lines: Lines, codes: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The bytes of the two lines between which each line of the output lies; the last has no next one but itself."""
    first = np.array([line.first for line in lines.each])
    following = np.minimum(first + 1, codes.shape[1 + lines.axis] - 1)
    near, far = (codes.take(places, axis=1 + lines.axis).astype(np.int64) + OFFSET for places in (first, following))
    return near, far


def _between(lines: Lines, codes: NDArray[np.int8]) -> NDArray[np.int64]:
    """The accumulators of a linear interpolation."""
    shape = (-1, 1) if lines.axis == 0 else (1, -1)
    low, high = (
        np.array(each, np.int64).reshape(shape) for each in zip(*(line.factors for line in lines.each), strict=True)
    )
    near, far = _neighbours(lines, codes)
    return low * near + high * far


def _paired(op: PostOp, first: NDArray[np.int8], second: NDArray[np.int8]) -> NDArray[np.int64]:
    """The accumulators of an operation on two maps."""
    low, high = op.factors
    a, b = first.astype(np.int64) + OFFSET, second.astype(np.int64) + OFFSET
    if op.kind == "product":
        return (a - low) * (b - high) + PRODUCT_OFFSET
    return low * a - high * b + MINUS_OFFSET if op.kind == "subtract" else low * a + high * b


def _gathered(op: PostOp, codes: NDArray[np.int8]) -> NDArray[np.int8]:
    orders = [np.concatenate([run.pixels for run in order]) for order in op.orders]
    flat = codes.reshape(len(codes), -1)
    return np.stack([flat[channel, orders[number]] for channel, number in op.channels]).reshape(op.output_shape)


def _chosen(op: PostOp, operands: Sequence[NDArray[np.int8]]) -> NDArray[np.int8]:
    """What is chosen of two maps, or of one and a number."""
    codes = [
        as_int8(np.frombuffer(table, np.uint8)[as_uint8(each)]) if table else each
        for table, each in zip(op.tables, operands, strict=True)
    ]
    if op.kind in EXTREMA:
        made = reduce(np.maximum if op.kind == "largest" else np.minimum, codes)
    else:
        other = codes[1] if op.kind == "select" else np.int8(op.otherwise)
        made = np.where(as_uint8(codes[-1]) == 1, codes[0], other)
    return np.clip(made, *op.clamp).astype(np.int8)


def _scaled(op: PostOp, codes: NDArray[np.int8]) -> NDArray[np.int8]:
    result = np.empty(op.output_shape, np.int8)
    for octet in range(-(-len(codes) // SUBGROUP)):
        for group in op.octet_gains(octet):
            channels = octet * SUBGROUP + np.array(group.slots)
            acc = group.factor * (codes[channels].astype(np.int64) + OFFSET)
            numbers = (group.bias, group.multiplier, group.shift)
            each = Requantization(*(value[:, None, None] for value in numbers))
            result[channels] = _finish(op, MINUS_OFFSET - acc if group.negative else acc, each)
    return result


def _normalized(op: PostOp, norm: Norm, codes: NDArray[np.int8]) -> NDArray[np.int8]:
    a, found = normalized(norm, _positions(op, codes))
    result = np.empty(a.shape, np.int8)
    for octet in range(-(-len(codes) // SUBGROUP)):
        for group in norm.octet(octet, float(op.output_quantization.scale)):
            channels = octet * SUBGROUP + np.array(group.slots)
            t = finished(norm, a[channels], found, group.fraction, group.negative)
            each = Requantization(*(value[:, None] for value in (group.bias, group.multiplier, group.shift)))
            result[channels] = _finish(op, t, each)
    return result.reshape(op.output_shape)


def _positions(op: PostOp, codes: NDArray[np.int8]) -> NDArray[np.int64]:
    """The bytes [channels, positions] of the pixels that are normalized."""
    return _taps(op, codes).reshape(len(codes), -1)


def _average(op: PostOp, sums: NDArray[np.int64]) -> NDArray[np.int8]:
    result = np.empty(op.output_shape, np.int8)
    for down, across in product(spans(op, 0), spans(op, 1)):
        there = (
            slice(None),
            slice(down.first, down.first + down.size),
            slice(across.first, across.first + across.size),
        )
        taps = (down.inside * across.inside, down.divisor * across.divisor)
        result[there] = _finish(op, sums[there], op.requantization(taps=taps))
    return result


def near_tie(op: PostOp, maps: Sequence[NDArray[np.int8]]) -> NDArray[np.bool_]:
    """Where a result is so near the middle of two codes that float32 may round it otherwise.

    The error is as many times 2^-24 of the terms' sizes as float32 rounds on the way from codes to codes. Tables are
    ONNX Runtime's own, and what is chosen of them or moved as it is: False.
    """
    if op.table or op.kind in (*CHOSEN, "gather"):
        return np.zeros(op.output_shape, np.bool_)
    exact, size, roundings = _exact(op, op.codes(maps))
    near: NDArray[np.bool_] = np.abs(exact - np.floor(exact) - 0.5) <= roundings * 2.0**-24 * size
    return near


def _exact(op: PostOp, operands: tuple[NDArray[np.int8], ...]) -> tuple[Double, Double, int]:
    """Results before rounding, the sums of their terms' sizes, both in codes, and how often float32 rounds them."""
    unit = float(op.output_quantization.scale)
    zeros = [OFFSET + quantization.zero_point for quantization in op.input_quantizations]
    steps = [float(quantization.scale) for quantization in op.input_quantizations]
    if op.kind in PAIRED:
        a, b = (
            (codes.astype(np.float64) + OFFSET - zero) * step
            for codes, zero, step in zip(operands, zeros, steps, strict=True)
        )
        if op.kind == "product":
            return a * b / unit, np.abs(a * b) / unit, 4
        return (a + b if op.kind == "add" else a - b) / unit, (np.abs(a) + np.abs(b)) / unit, 3
    if op.norm is not None:
        real, size = (each.reshape(op.output_shape) / unit for each in exact(op.norm, _positions(op, operands[0])))
        return real, size, 1
    if op.matrices:
        step = steps[0] * steps[1] * op.matrices.gain / unit
        maps = [codes.astype(np.float64) + OFFSET - zero for codes, zero in zip(operands, zeros, strict=True)]
        pairs = [op.matrices.operands(head, *maps) for head in op.matrices.heads]
        real, size = (
            op.matrices.placed([np.matmul(*map(of, pair)) * step for pair in pairs], op.output_shape)
            for of in (np.asarray, np.abs)
        )
        return real, np.abs(size), op.matrices.reduction + 6
    if op.kind == "scale":
        gain, summand = np.array(op.gains, np.float64).T[:, :, None, None] / unit
        real = gain * steps[0] * (operands[0].astype(np.float64) + OFFSET - zeros[0])
        return real + summand, np.abs(real) + np.abs(summand), 8
    if op.kind == "join":
        parts = [
            (codes.astype(np.float64) + OFFSET - zero) * (step / unit)
            for codes, zero, step in zip(operands, zeros, steps, strict=True)
        ]
        whole = _joined(op, parts, np.zeros(op.output_shape))
        return whole, np.abs(whole), 2
    if op.kind == "move":
        taken = [
            (_taps(op, codes, zero)[..., 0] - zero) * (step / unit)
            for codes, zero, step in zip(operands, zeros, steps, strict=True)
        ]
        moved = _placed(op, taken, np.zeros(op.output_shape))
        return moved, np.abs(moved), 2
    if op.lines is not None:
        share = np.array([line.share for line in op.lines.each]).reshape((-1, 1) if op.lines.axis == 0 else (1, -1))
        near, far = ((each - zeros[0]) * (steps[0] / unit) for each in _neighbours(op.lines, operands[0]))
        return near + share * (far - near), np.abs(near) + np.abs(far), 12
    if op.kind == "maximum":
        largest = (_taps(op, operands[0]).max(axis=-1) - zeros[0]) * (steps[0] / unit)
        return largest, np.abs(largest), 2
    values = _taps(op, operands[0], zeros[0]) - zeros[0]
    down, across = ([span.divisor for span in spans(op, axis) for _ in range(span.size)] for axis in (0, 1))
    factor = steps[0] / (unit * np.outer(down, across))
    return values.sum(axis=-1) * factor, np.abs(values).sum(axis=-1) * factor, values.shape[-1] + 3


def zero_code(op: PostOp) -> int:
    """The output's code of real zero, within the clamp."""
    return int(np.clip(op.output_quantization.zero_point, *op.clamp))


def whole_map(op: PostOp) -> bool:
    """Whether one window without padding yields the only output pixel, as in global pooling."""
    inside = all(_along(op, axis)[1].all() for axis in (0, 1))
    return op.kind in ("average", "maximum") and op.output_shape[1:] == (1, 1) and inside
