"""Operators of QONNX, Brevitas and FINN: quantization to any number of bits, as real numbers in and out.

A quantizer of at most 8 bits becomes QuantizeLinear and DequantizeLinear, with a Clip before them for fewer bits; one
of a constant becomes quantized weights. Roundings other than to the nearest are computed in real numbers, and
QuantizeLinear then finds the codes. What the operators compute: documentation of QONNX, `Quant`, `BipolarQuant` and
`Trunc`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.frontend.dialects.rewriting import Rewriting
from flow.frontend.dialects.weights import Stored
from flow.onnxtools.graph import Graph, attribute, node_input, node_name

DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")
TRACED = 8  # nodes between a Trunc and the quantizer of its input, at most


@dataclass(frozen=True)
class Grid:
    """Values scale * (q - zero) for q of `low` to `high`. `scale` and `zero` float32, one or more of each."""

    scale: NDArray[np.float32]
    zero: NDArray[np.float32]
    low: int
    high: int

    @property
    def eight_bit(self) -> bool:
        """Whether QuantizeLinear has these codes: 8 bits, one positive scale, one whole zero point."""
        limits = (0, 255) if self.low >= 0 else (-128, 127)
        single = self.scale.size == self.zero.size == 1 and 0 < self.scale.item() < np.inf
        if not single or self.low < limits[0] or self.high > limits[1]:
            return False
        return self.zero.item() % 1 == 0 and limits[0] <= self.zero.item() <= limits[1]

    @property
    def all_codes(self) -> bool:
        """Whether it has all codes of 8 bits, so that QuantizeLinear alone bounds them."""
        return (self.low, self.high) in ((0, 255), (-128, 127))


def constant_input(r: Rewriting, node: onnx.NodeProto, index: int, what: str) -> NDArray[np.float32]:
    """An input that must be constant. FlowError, which says `what` it is, if it is not."""
    value = r.graph.constant(node_input(node, index))
    if value is None or not value.size:
        raise FlowError(
            f"{what} of {node.op_type} must be a constant, but that of '{node_name(node)}' is "
            f"'{node_input(node, index)}'; export the network with fixed quantizers"
        )
    return np.asarray(value, np.float32)


def _bits(r: Rewriting, node: onnx.NodeProto, index: int) -> int:
    value = constant_input(r, node, index, "the bit width").reshape(-1)
    if not 1 <= value[0] <= 32 or value[0] % 1:
        raise FlowError(
            f"a bit width must be 1 to 32, but {node.op_type} '{node_name(node)}' has {value[0]:g}; export it again"
        )
    return int(value[0])


def _limits(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    """The least and the largest code."""
    if signed:
        return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - narrow


def _mode(node: onnx.NodeProto, default: str) -> str:
    given = attribute(node, "rounding_mode", default)
    mode = (given.decode(errors="replace") if isinstance(given, bytes) else str(given)).upper()
    if mode not in ROUNDINGS:
        raise FlowError(
            f"the rounding mode must be one of {', '.join(ROUNDINGS)}, but {node.op_type} '{node_name(node)}' has "
            f"'{mode}'; export it again"
        )
    return mode


def quantizer(r: Rewriting, node: onnx.NodeProto) -> bool:
    """Quant and IntQuant."""
    scale, zero = (constant_input(r, node, index, what) for index, what in ((1, "the scale"), (2, "the zero point")))
    bits, signed = _bits(r, node, 3), bool(attribute(node, "signed", 1))
    if bits == 1 and signed:
        return _two_values(r, node, scale)
    grid = Grid(scale, zero, *_limits(bits, signed, bool(attribute(node, "narrow", 0))))
    mode = _mode(node, "ROUND")
    values = r.constant_value(node.input[0])
    if values is not None:
        codes = _nearest(np.clip(values / scale + zero, grid.low, grid.high), mode)
        return _weights(r, node, codes, grid)
    if mode in ("ROUND", "HALF_EVEN") and grid.eight_bit:
        add_pair(r, bounded(r, node, grid), grid, node)
        return True
    steps = r.step("Div", [node.input[0], r.constant(f"{node_name(node)}_scale", scale)], node.output[0])
    _on_grid(r, node, steps, grid, mode)
    return True


def _weights(r: Rewriting, node: onnx.NodeProto, codes: NDArray[np.float32], grid: Grid) -> bool:
    """A quantized constant: real numbers, whose codes are kept for the layer that reads them."""
    try:
        held = Stored(codes - grid.zero, np.broadcast_to(grid.scale, codes.shape))
    except ValueError:
        raise FlowError(
            f"the scale of {node.op_type} must fit its input, but that of '{node_name(node)}' has shape "
            f"{list(grid.scale.shape)} for {list(codes.shape)}; export it again"
        ) from None
    r.weights(held, node.output[0])
    return True


def bounded(r: Rewriting, node: onnx.NodeProto, grid: Grid) -> str:
    """The input of a quantizer, clipped to its codes; a Relu before it becomes part of the Clip."""
    source: str = node.input[0]
    if grid.all_codes:
        return source
    low, high = (np.float32((code - grid.zero.item()) * grid.scale.item()) for code in (grid.low, grid.high))
    before = r.graph.producer(source)
    alone = r.graph.only_consumer(source) is not None
    if before is not None and before.op_type == "Relu" and alone and high >= 0:
        source, low = str(before.input[0]), np.maximum(low, np.float32(0))
    bounds = [r.constant(f"{node_name(node)}_{name}", bound) for name, bound in (("low", low), ("high", high))]
    return r.step("Clip", [source, *bounds], node.output[0])


def add_pair(r: Rewriting, source: str, grid: Grid, node: onnx.NodeProto) -> None:
    """QuantizeLinear and DequantizeLinear, which make the node's output."""
    kind = np.uint8 if grid.low >= 0 else np.int8
    values = (grid.scale.reshape(()), kind(grid.zero.item()))
    pair = [r.constant(f"{node_name(node)}_{n}", v) for n, v in zip(("step", "zero"), values, strict=True)]
    codes = r.step("QuantizeLinear", [source, *pair], node.output[0])
    r.node("DequantizeLinear", [codes, *pair], node.output[0], node_name(node))


def _on_grid(r: Rewriting, node: onnx.NodeProto, steps: str, grid: Grid, mode: str) -> None:
    """The values of a grid from real numbers in steps of its scale: zero point, bounds, rounding, and back."""
    out, zero = node.output[0], r.constant(f"{node_name(node)}_offset", grid.zero)
    bounds = [
        r.constant(f"{node_name(node)}_{n}", np.float32(v)) for n, v in (("least", grid.low), ("most", grid.high))
    ]
    codes = _rounded(r, r.step("Clip", [r.step("Add", [steps, zero], out), *bounds], out), mode, out)
    scale = r.constant(f"{node_name(node)}_by", grid.scale)
    plain = r.step("Sub", [codes, zero], out)
    if grid.eight_bit:
        add_pair(r, r.step("Mul", [plain, scale], out), grid, node)
    else:
        r.node("Mul", [plain, scale], out, node_name(node))


def _rounded(r: Rewriting, real: str, mode: str, stem: str) -> str:
    op, shift, magnitudes = ROUNDINGS[mode]
    if not magnitudes:
        return r.step(op, [real], stem)
    size = r.step("Abs", [real], stem)
    if shift:
        size = r.step("Add", [size, r.constant(f"{stem}_half", np.float32(shift))], stem)
    return r.step("Mul", [r.step("Sign", [real], stem), r.step(op, [size], stem)], stem)


# mode: ONNX operator, what is added before it, whether it works on magnitudes
ROUNDINGS: dict[str, tuple[str, float, bool]] = {
    "ROUND": ("Round", 0, False), "HALF_EVEN": ("Round", 0, False), "CEIL": ("Ceil", 0, False),
    "FLOOR": ("Floor", 0, False), "UP": ("Ceil", 0, True), "DOWN": ("Floor", 0, True),
    "ROUND_TO_ZERO": ("Floor", 0, True), "HALF_UP": ("Floor", 0.5, True), "HALF_DOWN": ("Ceil", -0.5, True),
}  # fmt: skip


def _nearest(values: NDArray[np.float32], mode: str) -> NDArray[np.float32]:
    """Values rounded as `_rounded` does."""
    op, shift, magnitudes = ROUNDINGS[mode]
    function = {"Round": np.rint, "Ceil": np.ceil, "Floor": np.floor}[op]
    result = np.sign(values) * function(np.abs(values) + shift) if magnitudes else function(values)
    return np.asarray(result, np.float32)


def bipolar(r: Rewriting, node: onnx.NodeProto) -> bool:
    """BipolarQuant: scale where the input is not negative, else -scale."""
    return _two_values(r, node, constant_input(r, node, 1, "the scale"))


def _two_values(r: Rewriting, node: onnx.NodeProto, scale: NDArray[np.float32]) -> bool:
    values, grid = r.constant_value(node.input[0]), Grid(scale, np.zeros(1, np.float32), -1, 1)
    if values is not None:
        return _weights(r, node, np.where(values >= 0, np.float32(1), np.float32(-1)), grid)
    out = node.output[0]
    below = r.step("Less", [node.input[0], r.constant(f"{out}_nothing", np.float32(0))], out)
    ends = [r.constant(f"{out}_{name}", value) for name, value in (("minus", -scale), ("plus", scale))]
    if grid.eight_bit:
        add_pair(r, r.step("Where", [below, *ends], out), grid, node)
    else:
        r.node("Where", [below, *ends], out, node_name(node))
    return True


def truncation(r: Rewriting, node: onnx.NodeProto) -> bool:
    """Trunc: the codes of its input divided by a power of two and rounded down, or as its rounding mode says.

    Version 1 has the inputs scale, zero point, bits of the input and of the output. Version 2 has an output scale
    before the bits of the output, and possibly an output zero point.
    """
    scale, zero = (constant_input(r, node, index, what) for index, what in ((1, "the scale"), (2, "the zero point")))
    later = len(node.input) > 5
    bits, mode = _bits(r, node, len(node.input) - 1), _mode(node, "FLOOR")
    name, out = node_name(node), node.output[0]
    if later:
        target = constant_input(r, node, 4, "the output scale")
        power = np.float32(2.0) ** np.rint(np.log2(target / scale)).astype(np.float32)
        signed = bool(attribute(node, "signed", 1))
        grid = Grid(target, zero / power, *_limits(bits, signed, bool(attribute(node, "narrow", 0))))
    else:
        power = np.float32(2.0 ** (_bits(r, node, 3) - bits))
        grid = Grid(scale, zero, *_limits(bits, _signed(r.graph, node), narrow=False))
    steps = r.step("Div", [node.input[0], r.constant(f"{name}_scale", scale)], out)
    codes = r.step("Round", [r.step("Add", [steps, r.constant(f"{name}_zero_in", zero)], out)], out)
    parts = r.step("Div", [codes, r.constant(f"{name}_power", np.asarray(power, np.float32))], out)
    shifted = r.step("Sub", [parts, r.constant(f"{name}_zero_out", grid.zero)], out)
    _on_grid(r, node, shifted, grid, mode)
    return True


def _signed(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether the quantizer nearest before a node has signed codes."""
    before = graph.producer(node.input[0])
    for _ in range(TRACED):
        if before is None or not before.input:
            break
        if before.op_type in ("Quant", "IntQuant"):
            return bool(attribute(before, "signed", 1))
        before = graph.producer(before.input[0])
    return True


def unknown(node: onnx.NodeProto) -> FlowError:
    """The refusal of an operator of these domains that has no standard form."""
    return FlowError(
        f"operators of '{node.domain}' must be Quant, IntQuant, BipolarQuant, Trunc or MultiThreshold, but "
        f"'{node_name(node)}' is {node.op_type}; export the network without it"
    )
