"""QONNX and FINN networks, and what their operators compute, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from tests.helpers.nets import Builder

DOMAIN = "qonnx.custom_op.general"
ROUNDED: dict[str, Callable[[Any], Any]] = {
    "ROUND": np.round, "FLOOR": np.floor, "CEIL": np.ceil,
    "UP": lambda v: np.sign(v) * np.ceil(np.abs(v)), "DOWN": np.trunc,
    "HALF_UP": lambda v: np.sign(v) * np.floor(np.abs(v) + 0.5),
    "HALF_DOWN": lambda v: np.sign(v) * np.ceil(np.abs(v) - 0.5),
}  # fmt: skip


def limits(bits: Any, signed: int, narrow: int) -> tuple[int, int]:
    bits = int(np.asarray(bits).item())
    return (-(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1 - narrow)


def quant(x: Any, scale: Any, zero: Any, bits: Any, signed: int, narrow: int, mode: str) -> Any:
    if signed and int(bits) == 1:
        return np.where(x >= 0, scale, -scale).astype(np.float32)
    codes = ROUNDED[mode](np.clip(x / scale + zero, *limits(bits, signed, narrow)))
    return ((codes - zero) * scale).astype(np.float32)


class Quant(OpRun):
    op_domain = DOMAIN

    def _run(self, x: Any, scale: Any, zero: Any, bits: Any, **given: Any) -> tuple[Any]:
        return (quant(x, scale, zero, bits, given["signed"], given["narrow"], given["rounding_mode"]),)


class IntQuant(Quant):
    pass


class BipolarQuant(OpRun):
    op_domain = DOMAIN

    def _run(self, x: Any, scale: Any, **_: Any) -> tuple[Any]:
        return (np.where(x >= 0, scale, -scale).astype(np.float32),)


class Trunc(OpRun):
    """Versions 1 (five inputs) and 2."""

    op_domain = DOMAIN

    def _run(self, x: Any, scale: Any, zero: Any, bits: Any, *rest: Any, **given: Any) -> tuple[Any]:
        codes = np.round(x / scale + zero)
        rounded = ROUNDED[given["rounding_mode"]]
        if len(rest) == 1:
            codes = rounded(codes / 2.0 ** (int(bits) - int(rest[0])))
            return (((codes - zero) * scale).astype(np.float32),)
        power = 2 ** np.round(np.log2(rest[0] / scale))
        codes = rounded(np.clip(codes / power, *limits(rest[-1], given["signed"], given["narrow"])))
        return (((codes - zero / power) * rest[0]).astype(np.float32),)


class MultiThreshold(OpRun):
    op_domain = DOMAIN

    def _run(self, x: Any, levels: Any, **given: Any) -> tuple[Any]:
        reached = (np.moveaxis(x, 1, -1)[..., None] >= levels).sum(axis=-1)
        out = np.moveaxis(reached, -1, 1) * given["out_scale"] + given["out_bias"]
        return (out.astype(np.float32),)


def run(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The outputs by name, computed by ONNX's reference implementation."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    defaults = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND", "out_scale": 1.0, "out_bias": 0.0}
    for node in copy.graph.node:
        if node.domain == DOMAIN:
            given = {entry.name for entry in node.attribute}
            mode = "FLOOR" if node.op_type == "Trunc" else "ROUND"
            for name, value in {**defaults, "rounding_mode": mode}.items():
                if name not in given:
                    node.attribute.append(onnx.helper.make_attribute(name, value))
    active = ReferenceEvaluator(copy, new_ops=[Quant, IntQuant, BipolarQuant, Trunc, MultiThreshold])
    return dict(zip((value.name for value in model.graph.output), active.run(None, dict(feeds)), strict=True))


class QonnxBuilder(Builder):
    """A small QONNX network, node by node."""

    def quant(self, tensor: str, scale: Any, bits: float = 8, zero: Any = 0.0, op: str = "Quant", **given: Any) -> str:
        numbers = [self.constant(np.asarray(value, np.float32)) for value in (scale, zero, bits)]
        attributes = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND", **given}
        return self.node(op, tensor, *numbers, domain=DOMAIN, **attributes)

    def real(self, *shape: int) -> str:
        return self.constant(self.rng.normal(0, 0.3, shape).astype(np.float32))

    def net(self, shape: list[Any], output: str, rank: int = 2) -> onnx.ModelProto:
        model = self.model({"x": shape}, output, rank)
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
        return model


def qonnx_net(bits: int = 8, **given: Any) -> onnx.ModelProto:
    """Conv, Relu, pool and Gemm of Brevitas: weights and activations quantized, biases, too."""
    b = QonnxBuilder(3)
    x = b.quant("x", 0.05, 8)
    weights = b.quant(b.real(8, 3, 3, 3), np.full((8, 1, 1, 1), 0.9 / 2**bits), bits, narrow=1)
    y = b.node("Relu", b.node("Conv", x, weights, b.real(8), pads=[1] * 4))
    y = b.node("MaxPool", b.quant(y, 8 / 2**bits, bits, signed=0, **given), kernel_shape=[2, 2], strides=[2, 2])
    weights = b.node("Transpose", b.quant(b.real(5, 72), 0.7 / 2**bits, bits, narrow=1), perm=[1, 0])
    y = b.node("MatMul", b.node("Flatten", y), weights)
    return b.net(["N", 3, 6, 6], b.quant(y, 12 / 2**bits, bits))
