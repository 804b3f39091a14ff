"""Dynamic quantization becomes float, integer products with static scales stay exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.dialects import dynamic
from flow.frontend.dialects.standard import standard_quantization
from flow.frontend.int8.cut import partition
from flow.frontend.quantize import quantize
from flow.onnxtools import runtime
from tests.helpers.nets import Builder, float_net, integer_net, samples

MICROSOFT = "com.microsoft"


def with_microsoft(model: onnx.ModelProto) -> onnx.ModelProto:
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return model


def decibels(wanted: NDArray[Any], got: NDArray[Any]) -> float:
    noise = np.square(wanted.astype(np.float64) - got).sum()
    return float(10 * np.log10(np.square(wanted.astype(np.float64)).sum() / max(noise, 1e-300)))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("unsigned", [False, True])
def test_onnx_runtimes_dynamic_networks_become_float(tmp_path: Path, per_channel: bool, unsigned: bool) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = float_net()
    onnx.save(model, str(tmp_path / "net.onnx"))
    kind = QuantType.QUInt8 if unsigned else QuantType.QInt8
    path = tmp_path / "dynamic.onnx"
    quantize_dynamic(tmp_path / "net.onnx", path, per_channel=per_channel, weight_type=kind)
    standard, notes = standard_quantization(dynamic := onnx.load(str(path)))
    assert {node.op_type for node in dynamic.graph.node} >= {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
    left = {node.op_type for node in standard.graph.node}
    assert not left & {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "Cast", "Mul"}
    assert notes[0] == (
        "Quantization in standard form instead of 2 ConvInteger, 3 DynamicQuantizeLinear, 1 MatMulInteger."
    )
    assert notes[1] == "Dynamic quantization became static, with scales from the calibration samples."
    assert len(notes) == 3 and ("taken exactly" in notes[2]) is not unsigned
    feeds = samples(model, 20)
    wanted, got = (next(iter(runtime.run(each, feeds).values())) for each in (dynamic, standard))
    assert decibels(wanted, got) > 40
    quantized = quantize(standard, feeds)
    assert len(partition(quantized.model, "net").layers) == 3
    assert decibels(wanted, next(iter(runtime.run(quantized.model, feeds).values()))) > 35


def matrix(b: Builder, *shape: int, kind: type = np.int8, zero: int = 0) -> tuple[str, str]:
    limits = np.iinfo(kind)
    return b.constant(b.rng.integers(limits.min, limits.max + 1, shape).astype(kind)), b.constant(kind(zero))


def quantize_dynamically(b: Builder, tensor: str) -> list[str]:
    outputs = [f"{tensor}_{part}" for part in ("codes", "scale", "zero")]
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", [tensor], outputs, f"{tensor}_dynamic"))
    return outputs


def to_float(b: Builder, op: str, *inputs: str, scales: list[str]) -> str:
    y = b.node("Cast", b.node(op, *inputs), to=TensorProto.FLOAT)
    for scale in scales:
        y = b.node("Mul", y, scale)
    return y


def one_by_one(b: Builder) -> str:
    """The two scales are multiplied one after the other, and the codes are reshaped first."""
    codes, scale, zero = quantize_dynamically(b, "x")
    weights, middle = matrix(b, 16, 5, kind=np.uint8, zero=121)
    moved = b.node("Reshape", codes, b.constant(np.array([0, 16], np.int64)))
    return to_float(b, "MatMulInteger", moved, weights, zero, middle, scales=[scale, b.constant(np.float32(0.01))])


def of_two_activations(b: Builder) -> str:
    codes, scale, zero = quantize_dynamically(b, "x")
    product = b.node("Mul", scale, scale)
    moved = b.node("Transpose", codes, perm=[0, 2, 1])
    return to_float(b, "MatMulInteger", codes, moved, zero, zero, scales=[product])


def factors_first(b: Builder) -> str:
    """The scales are the first operands of their products."""
    codes, scale, zero = quantize_dynamically(b, "x")
    weights, middle = matrix(b, 4, 5, kind=np.uint8, zero=121)
    y = b.node("Cast", b.node("MatMulInteger", codes, weights, zero, middle), to=TensorProto.FLOAT)
    return b.node("Mul", b.constant(np.float32(0.01)), b.node("Mul", scale, y))


def contributed(b: Builder) -> str:
    weights, _ = matrix(b, 16, 5)
    scales = b.constant(b.rng.uniform(0.01, 0.02, 5).astype(np.float32))
    bias = b.constant(np.arange(5, dtype=np.float32))
    y = b.node("Reshape", "x", b.constant(np.array([0, 16], np.int64)))
    zeros = b.constant(np.zeros(5, np.int8))
    return b.node("DynamicQuantizeMatMul", y, weights, scales, zeros, bias, domain=MICROSOFT)


def fused(b: Builder) -> str:
    codes, scale, zero = quantize_dynamically(b, "x")
    weights, _ = matrix(b, 4, 5)
    by = b.constant(np.float32(0.02))
    bias = b.constant(np.arange(5, dtype=np.float32))
    return b.node("MatMulIntegerToFloat", codes, weights, scale, by, zero, "", bias, domain=MICROSOFT)


def read_twice(b: Builder) -> str:
    """The codes are dequantized, too."""
    codes, scale, zero = quantize_dynamically(b, "x")
    weights, middle = matrix(b, 4, 4)
    y = to_float(b, "MatMulInteger", codes, weights, zero, middle, scales=[scale, b.constant(np.float32(0.01))])
    return b.node("Add", y, b.node("DequantizeLinear", codes, scale, zero))


@pytest.mark.parametrize("make", [one_by_one, of_two_activations, factors_first, contributed, fused, read_twice])
def test_dynamic_quantization_in_other_forms(make: Any) -> None:
    b = Builder(5)
    y = make(b)
    model = with_microsoft(b.model({"x": ["N", 4, 4]}, y, rank=2 if make in (one_by_one, contributed) else 3))
    standard, notes = standard_quantization(model)
    left = {node.op_type for node in standard.graph.node}
    assert not left & {"DynamicQuantizeLinear", "MatMulInteger", "DequantizeLinear", "DynamicQuantizeMatMul"}
    assert "Mul" not in left  # the weights have the factors
    assert any("became static" in note for note in notes)
    feeds = samples(model, 1)
    assert decibels(*(runtime.run(each, feeds)[y] for each in (model, standard))) > 35


def test_codes_that_others_read_stay() -> None:
    """What is no product needs the codes themselves: ONNX Runtime computes it as before."""
    b = Builder(5)
    codes, scale, zero = quantize_dynamically(b, "x")
    weights, middle = matrix(b, 4, 4)
    y = to_float(b, "MatMulInteger", codes, weights, zero, middle, scales=[scale])
    y = b.node("Add", y, b.node("Cast", codes, to=TensorProto.FLOAT))
    model = b.model({"x": ["N", 4]}, y)
    standard, _ = standard_quantization(model)
    feeds = samples(model, 1)
    np.testing.assert_allclose(runtime.run(standard, feeds)[y], runtime.run(model, feeds)[y], rtol=1e-5, atol=1e-3)


def test_dynamic_lstm() -> None:
    b = Builder(5)
    weights = [matrix(b, 1, size, 12)[0] for size in (3, 3)]
    scales = [b.constant(np.full(1, 0.01, np.float32)), b.constant(np.zeros(1, np.int8))]
    bias = b.constant(b.rng.normal(0, 0.1, (1, 24)).astype(np.float32))
    y = b.node("DynamicQuantizeLSTM", "x", *weights, bias, *[""] * 4, *scales * 2, domain=MICROSOFT, hidden_size=3)
    model = with_microsoft(b.model({"x": [5, 1, 3]}, y, rank=4))
    standard, notes = standard_quantization(model)
    assert [node.op_type for node in standard.graph.node] == ["LSTM"] and "became static" in notes[1]
    feeds = {"x": np.random.default_rng(1).normal(0, 1, (5, 1, 3)).astype(np.float32)}
    assert decibels(*(runtime.run(each, feeds)[y] for each in (model, standard))) > 35


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_static_integer_products_are_exact(kind: type) -> None:
    """QuantizeLinear with fixed scales, integer Conv, Cast and the scales of the channels."""
    b = Builder(6, kind is np.uint8)
    pair = [b.constant(np.float32(0.0517)), b.constant(kind(100 if kind is np.uint8 else -28))]
    weights, zero = matrix(b, 6, 3, 3, 3)
    factor = b.constant((0.0517 * b.rng.uniform(0.001, 0.002, (1, 6, 1, 1))).astype(np.float32))
    codes = b.node("QuantizeLinear", "x", *pair)
    y = b.node("ConvInteger", codes, weights, pair[1], zero, pads=[1] * 4)
    y = b.node("Mul", b.node("Cast", y, to=TensorProto.FLOAT), factor)
    model = b.model({"x": ["N", 3, 5, 5]}, y, rank=4)
    standard, notes = standard_quantization(model)
    assert notes[-1] == "The weights of 1 layer were taken exactly as INT8 codes."
    (layer,) = partition(quantize(standard).model, "net").layers
    assert np.array_equal(np.sort(layer.weights, None), np.sort(numpy_helper.to_array(b.constants[2]), None))
    feeds = samples(model, 5)
    np.testing.assert_allclose(runtime.run(standard, feeds)[y], runtime.run(model, feeds)[y], rtol=1e-5, atol=1e-5)


def test_integer_sums_without_a_scale() -> None:
    model = integer_net()
    standard, _ = standard_quantization(model)
    (layer,) = partition(quantize(standard).model, "net").layers
    assert layer.op == "MatMul" and layer.output_quantization is None
    feeds = {"x": np.random.default_rng(1).integers(-100, 100, (9, 4)).astype(np.float32)}
    for name, wanted in runtime.run(model, feeds).items():
        assert np.array_equal(runtime.run(standard, feeds)[name], wanted)


@pytest.mark.parametrize(
    ("op", "weights", "factor", "wanted"),
    [
        ("MatMulInteger", (4, 3), (1, 3), True), ("MatMulInteger", (4, 3), (3, 1), False),
        ("ConvInteger", (5, 2, 3, 3), (1, 5, 1, 1), True), ("ConvInteger", (5, 2, 3, 3), (5,), False),
        ("ConvInteger", (5, 2, 3, 3), (), True),
    ],
)  # fmt: skip
def test_factors_of_channels(op: str, weights: tuple[int, ...], factor: tuple[int, ...], wanted: bool) -> None:
    assert dynamic._by_channel(np.ones(factor, np.float32), np.ones(weights, np.int8), op) == wanted
