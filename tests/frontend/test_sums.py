"""The bias of a Linear: a MatMul and the Add of a constant for each channel behind it are one layer of the array."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flow.frontend import quantize
from flow.frontend.int8 import cut, rewrite
from flow.network import reference
from flow.network.model import Network
from flow.network.run import run_network
from flow.onnxtools import runtime
from tests.helpers.nets import Builder, samples
from tests.helpers.signals import decibels


def linear(b: Builder, x: str, inputs: int, outputs: int, shape: tuple[int, ...], swapped: bool = False) -> str:
    """MatMul and Add; `shape` of the bias."""
    product = b.node("MatMul", x, b.constant(np.asarray(b.rng.normal(0, 0.3, (inputs, outputs)), np.float32)))
    bias = b.constant(np.asarray(b.rng.normal(0, 2, shape), np.float32))
    return b.node("Add", bias, product) if swapped else b.node("Add", product, bias)


def mlp(
    batch: Any = "N", shape: tuple[int, ...] = (16,), swapped: bool = False, activation: str = "Relu"
) -> onnx.ModelProto:
    """A transformer's MLP over [batch, 5, 12], with its residual Add."""
    b = Builder(4)
    y = linear(b, "x", 12, 16, shape, swapped)
    if activation == "Relu":
        y = b.node("Relu", y)
    elif activation == "Clip":
        y = b.node("Clip", y, b.constant(np.float32(-1)), b.constant(np.float32(6)))
    y = linear(b, y, 16, 12, (12,), swapped)
    return b.model({"x": [batch, 5, 12]}, b.node("Add", "x", y), rank=3)


def agrees(network: Network, count: int = 1) -> None:
    """The integer reference computes what ONNX Runtime does, but for ties that float32 rounds the other way."""
    feeds = samples(network.model, count)
    (name,) = network.outputs
    ours, theirs = run_network(network, feeds, reference.run_layer)[name], runtime.run(network.model, feeds)[name]
    steps = [s.output_quantization.scale for s in network.layers if s.output_quantization is not None]
    assert np.abs(ours - theirs).max() <= 2.01 * max(steps, default=1e-4) and (ours == theirs).mean() > 0.9


@pytest.mark.parametrize("unsigned", [False, True], ids=["int8", "uint8"])
@pytest.mark.parametrize(
    "model",
    [
        mlp(), mlp(1), mlp(swapped=True), mlp(1, swapped=True), mlp(shape=(1, 16)), mlp(shape=(1, 1, 16)),
        mlp(shape=(1,)), mlp(activation="Clip"), mlp(activation=""),
    ],
    ids=["open batch", "batch 1", "swapped", "swapped, batch 1", "row", "three axes", "one for all", "Clip", "linear"],
)  # fmt: skip
def test_the_bias_of_a_linear_is_on_the_array(model: onnx.ModelProto, unsigned: bool) -> None:
    """No Add but the residual one stays on the host, nothing is rounded before the bias: over 36 dB."""
    feeds = samples(model, 24)
    if model.graph.input[0].type.tensor_type.shape.dim[0].dim_value:
        feeds = {name: array[:1] for name, array in feeds.items()}
    made = quantize.quantize(model, feeds, unsigned).model
    network = cut.partition(made, "net")
    assert len(network.layers) == 2 and all(layer.bias.any() for layer in network.layers)
    assert [step.operators.count("Add") for step in network.steps if not hasattr(step, "bias")].count(1) == 1
    assert not any({"Relu", "Clip", "MatMul"} & set(getattr(step, "operators", ())) for step in network.steps)
    assert decibels(runtime.predict(model, feeds), runtime.predict(made, feeds)) > 36
    agrees(network)


def test_a_linear_behind_an_operator_of_unknown_shape() -> None:
    """Shapes are measured where inference does not know an operator."""
    b = Builder(5)
    y = linear(b, b.node("QuickGelu", "x", domain="com.microsoft"), 6, 5, (5,))
    model = b.model({"x": ["N", 4, 6]}, b.node("Relu", y), rank=3)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    (layer,) = cut.partition(quantize.quantize(model, samples(model, 8)).model, "net").layers
    assert layer.bias.any() and layer.output_shape == (4, 5) and layer.output_quantization is not None


def given(bias: NDArray[np.float32], activation: bool = True) -> onnx.ModelProto:
    """An INT8 network whose Linear has this float bias."""
    b = Builder(6)
    y = b.node("Add", b.node("MatMul", b.quantized("x", 0.05, 3), b.weights((6, 5), 1, 0.05)[0]), b.constant(bias))
    return b.model({"x": ["N", 4, 6]}, b.quantized(b.node("Relu", y) if activation else y, 0.1, -20), rank=3)


@pytest.mark.parametrize("shape", [(5,), (1, 1, 5), (1,), ()], ids=str)
def test_the_float_bias_of_an_int8_linear_is_quantized(shape: tuple[int, ...]) -> None:
    bias = np.asarray(np.random.default_rng(2).normal(0, 2, shape), np.float32)
    model = given(bias)
    made = quantize.quantize(model)
    assert made.notes == ["The bias of MatMul 'MatMul_4' was quantized to int32."]
    network = cut.partition(made.model, "net")
    (layer,) = network.layers
    scales = reference.accumulator_scales(layer)
    assert np.abs(layer.bias * scales - bias.reshape(-1)).max() <= scales.max() / 2 * 1.001
    assert layer.output_quantization is not None and layer.clamp == (-20, 127)
    feeds = samples(model, 3)
    assert np.abs(runtime.predict(made.model, feeds) - runtime.predict(model, feeds)).max() < 0.1001
    agrees(network)


@pytest.mark.parametrize(
    "bias",
    [np.full(5, 3e7, np.float32), np.full(5, np.nan, np.float32), np.ones((4, 5), np.float32),
     np.ones((4, 1), np.float32), np.ones((2, 1, 5), np.float32)],
    ids=["over 32 bits", "no number", "for each row and channel", "for each row", "for each sample"],
)  # fmt: skip
def test_an_add_that_is_no_bias_stays_on_the_host(bias: NDArray[np.float32]) -> None:
    model = given(bias, activation=False)
    network = cut.partition(quantize.quantize(model).model, "net")
    (layer,) = network.layers
    assert not layer.bias.any() and layer.output_quantization is None
    feeds = samples(model, 2)
    want, got = runtime.predict(model, feeds), runtime.predict(network.model, feeds)
    assert np.array_equal(want, got, equal_nan=True)
    changed = rewrite.with_layers(network.model, [replace(layer, bias=layer.bias + 3)])
    (other,) = cut.partition(changed, "net").layers
    assert np.array_equal(other.bias, layer.bias + 3) and other.output == layer.output


@pytest.mark.parametrize("biased", [False, True])
def test_a_linear_gets_another_bias(biased: bool) -> None:
    """Written back for refinement, and into the model of the single layer that ONNX Runtime judges by."""
    b = Builder(6)
    weight, bias = b.weights((6, 5), 1, 0.05)
    y = b.node("MatMul", b.quantized("x", 0.05, 3), weight)
    y = b.quantized(b.node("Add", y, bias) if biased else y, 0.1, -20)
    network = cut.partition(b.model({"x": ["N", 4, 6]}, y, rank=3), "net")
    (layer,) = network.layers
    assert layer.bias.any() == biased
    wanted = replace(layer, bias=layer.bias + np.arange(5, dtype=np.int32) * 400)
    again = cut.partition_again(network, [wanted])
    assert np.array_equal(again.layers[0].bias, wanted.bias) and again.layers[0].output == layer.output
    agrees(again)
    codes = np.random.default_rng(1).integers(-128, 128, (2, 4, 6)).astype(np.int8)
    judged = runtime.run(rewrite.layer_model(again.graph, again.layers[0]), {layer.input: codes})[layer.output]
    assert np.abs(judged.astype(int) - reference.run_layer(wanted, codes)).max() <= 1
    assert rewrite.with_layers(network.model, [layer]) == network.model


def fused(name: str) -> onnx.ModelProto:
    """What ONNX Runtime makes of MatMul and Add, quantized: Reshape, Gemm, Reshape, under the names it gives."""
    b = Builder(8)
    b.constants += [
        numpy_helper.from_array(np.array(shape), name + end) for shape, end in (([-1, 6], ""), ([1, 4, 5], "_"))
    ]
    weight, bias = b.weights((6, 5), 1, 0.05)
    y = b.node("Gemm", b.quantized(b.node("Reshape", "x", name), 0.05, 3), weight, bias)
    return b.model({"x": [1, 4, 6]}, b.node("Reshape", b.quantized(y, 0.1, -20), f"{name}_"), rank=3)


@pytest.mark.parametrize("name", ["gemm_input_shape", "gemm_output_shape", "gemm_output_shape_token_3"])
def test_names_that_onnx_runtime_gives(name: str) -> None:
    model = fused(name)
    network, feeds = cut.partition(model, "net"), samples(model, 1)
    assert network.layers[0].bias.any()
    assert np.allclose(runtime.predict(network.model, feeds), runtime.predict(model, feeds), atol=1e-6)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("activation", [False, True], ids=["plain", "Relu"])
def test_rows_of_a_gemm_keep_bias_and_activation_on_the_array(transposed: int, activation: bool) -> None:
    b = Builder(8)
    x = b.quantized(b.node("Reshape", "x", b.constant(np.array([4, 6]))), 0.05, 3)
    weight, bias = b.weights((5, 6) if transposed else (6, 5), 1 - transposed, 0.05)
    y = b.node("Gemm", x, weight, bias, transB=transposed)
    model = b.model({"x": [1, 4, 6]}, b.quantized(b.node("Relu", y) if activation else y, 0.1, -20))
    network = cut.partition(model, "net")
    (layer,) = network.layers
    assert layer.output_quantization is not None and layer.bias.any() and layer.positions == 4
    assert layer.clamp == ((-20, 127) if activation else (-128, 127))
    feeds = samples(model, 1)
    assert np.allclose(runtime.predict(network.model, feeds), runtime.predict(model, feeds), atol=1e-6)
    agrees(network)


@pytest.mark.parametrize("opset", [20, 21])
@pytest.mark.parametrize("batch", ["N", 1])
def test_onnx_runtime_opens_what_is_written_with_its_default_settings(batch: Any, opset: int) -> None:
    """Of opset 21 or later it made Gemm, and a QuantizeLinear of another type, of rows with a bias."""
    model = mlp(batch)
    model.opset_import[0].version = opset
    quantized = quantize.quantize(model, samples(model, 8)).model
    network = cut.partition(quantized, "net")
    changed = [replace(layer, bias=layer.bias + np.int32(1)) for layer in network.layers]
    for each in (quantized, rewrite.with_layers(network.model, changed)):
        options = ort.SessionOptions()
        options.log_severity_level = 4
        active = ort.InferenceSession(each.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feeds = samples(model, 1)
        got, wanted = active.run(None, feeds)[0], runtime.run(each, feeds)[model.graph.output[0].name]
        assert decibels(wanted, got) > 30
        assert len(cut.partition(each, "net").layers) == 2
