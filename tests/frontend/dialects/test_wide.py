"""Activations of 16 bits become real, and get 8 bits; what their range clips stays clipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from flow.frontend.dialects.standard import standard_quantization
from flow.frontend.int8.cut import partition
from flow.frontend.quantize import quantize
from flow.onnxtools import runtime
from tests.helpers.nets import Builder
from tests.helpers.signals import decibels

X = np.random.default_rng(0).normal(0, 2, (60, 6)).astype(np.float32)


def wide_net(kind: Any = np.uint16, domain: str = "", first: Any = None, read: bool = False) -> onnx.ModelProto:
    """MatMul, Relu (as the range of 16 bits alone), MatMul; `first`: the type of the first quantizer."""
    b = Builder(1)
    here: dict[str, Any] = {"domain": domain} if domain else {}

    def pair(tensor: str, low: float, high: float, own: Any = kind) -> str:
        limits = np.iinfo(own)
        scale = np.float32((high - low) / (limits.max - limits.min))
        zero = own(round(limits.min - low / scale))
        codes = b.node("QuantizeLinear", tensor, b.constant(scale), b.constant(zero), **here)
        return b.node("DequantizeLinear", codes, *b.nodes[-1].input[1:], **here)

    def weights(*shape: int) -> str:
        codes = b.constant(b.rng.integers(-127, 128, shape).astype(np.int8))
        return b.node("DequantizeLinear", codes, b.constant(np.float32(0.01)), b.constant(np.int8(0)), **here)

    hidden = pair(b.node("MatMul", pair("x", -9, 9, first or kind), weights(6, 8)), 0, 12)
    y = pair(b.node("MatMul", hidden, weights(8, 4)), -30, 30)
    if read:
        y = b.node("Add", y, b.node("Cast", b.nodes[-1].input[0], to=1))
    model = b.model({"x": ["N", 6]}, y, opset=17 if domain else 21)
    model.opset_import.extend([helper.make_opsetid(domain, 1)] if domain else [])
    return model


@pytest.mark.parametrize("kind", [np.int16, np.uint16])
@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_activations_of_16_bits_get_8(kind: Any, domain: str) -> None:
    model = wide_net(kind, domain)
    standard, notes = standard_quantization(model)
    assert notes[0] == "Activations of 16 bits (3 tensors) get 8 bits, from the calibration samples."
    wanted = runtime.predict(model, {"x": X})
    assert decibels(wanted, runtime.predict(standard, {"x": X})) > 60
    quantized = quantize(standard, X).model
    assert [layer.op for layer in partition(quantized, "net").layers] == ["MatMul", "MatMul"]
    assert decibels(wanted, runtime.predict(quantized, {"x": X})) > 30


@pytest.mark.parametrize("model", [wide_net(first=np.uint8), wide_net(read=True)], ids=["mixed", "codes read"])
def test_others_stay(model: onnx.ModelProto) -> None:
    standard, notes = standard_quantization(model)
    assert not any("16 bits" in note for note in notes)
    assert np.allclose(runtime.predict(standard, {"x": X}), runtime.predict(model, {"x": X}), atol=1e-5)
