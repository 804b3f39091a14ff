"""ONNX Runtime's fused operators: their products are layers of the array, and the network is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from flow.frontend import quantize
from flow.frontend.int8 import cut
from flow.frontend.preparation.prepare import prepare
from flow.frontend.preparation.products.products import products
from flow.onnxtools import runtime
from tests.helpers.nets import Builder, samples
from tests.helpers.signals import decibels


def model_of(b: Builder, inputs: dict[str, list[Any]], output: str) -> onnx.ModelProto:
    model = b.model(inputs, output)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def fused(op: str, x: tuple[Any, ...], *shapes: tuple[int, ...], **attributes: Any) -> onnx.ModelProto:
    b = Builder(5)
    constants = [b.constant(np.asarray(b.rng.normal(0, 0.3, shape), np.float32)) for shape in shapes]
    return model_of(b, {"x": list(x)}, b.node(op, "x", *constants, domain="com.microsoft", **attributes))


def summed() -> onnx.ModelProto:
    """A FusedConv that adds its input before the activation."""
    b = Builder(5)
    weights, bias = (b.constant(np.asarray(b.rng.normal(0, 0.3, s), np.float32)) for s in ((3, 3, 3, 3), (3,)))
    y = b.node("FusedConv", "x", weights, bias, "x", domain="com.microsoft", pads=[1] * 4, activation="Relu")
    return model_of(b, {"x": ["N", 3, 5, 6]}, y)


IMAGE, KERNEL = ("N", 3, 5, 6), (4, 3, 3, 3)
CASES = {
    "FusedConv": fused("FusedConv", IMAGE, KERNEL, (4,), pads=[1] * 4, strides=[2, 1]),
    "FusedConv, Relu": fused("FusedConv", IMAGE, KERNEL, (4,), activation="Relu"),
    "FusedConv, LeakyRelu": fused("FusedConv", IMAGE, KERNEL, activation="LeakyRelu", activation_params=[0.3]),
    "FusedConv, Clip": fused("FusedConv", IMAGE, KERNEL, activation="Clip", activation_params=[-0.5, 1.5]),
    "FusedConv, HardSigmoid": fused("FusedConv", IMAGE, KERNEL, activation="HardSigmoid", activation_params=[0.3, 0.4]),
    "FusedConv, sum": summed(),
    "FusedGemm, Relu": fused("FusedGemm", ("N", 6), (6, 4), (4,), activation="Relu"),
    "FusedGemm, factors": fused(
        "FusedGemm", ("N", 6), (4, 6), (4,), activation="LeakyRelu", activation_alpha=0.2, alpha=0.5, beta=2.0, transB=1
    ),
    "FusedMatMul": fused("FusedMatMul", ("N", 5, 6), (4, 6), alpha=0.5, transB=1),
    "FusedMatMul, transA": fused("FusedMatMul", ("N", 6, 5), (6, 4), transA=1),
    "FusedMatMul, three axes": fused("FusedMatMul", ("N", 3, 5, 6), (3, 4, 6), transB=1),
}


@pytest.mark.parametrize("case", CASES)
def test_fused_products(case: str) -> None:
    model = CASES[case]
    feeds = samples(model, 16)
    want, prepared = runtime.predict(model, feeds), prepare(model)
    assert np.allclose(runtime.predict(prepared, feeds), want, rtol=1e-5, atol=1e-5)
    assert {node.domain for node in prepared.graph.node} <= {"", "ai.onnx"}
    made = quantize.quantize(model, feeds).model
    assert len(cut.partition(made, "net").layers) == 1
    assert decibels(want, runtime.predict(made, feeds)) > 33


@pytest.mark.parametrize("kind", ["Relu", "Tanh", "Sigmoid"])
def test_fused_matmul_with_activation(kind: str) -> None:
    """ONNX Runtime's CPU has no kernel for it: compared with FusedMatMul and the activation."""
    model = fused("FusedMatMulActivation", ("N", 5, 6), (4, 6), alpha=0.5, transB=1, activation=kind)
    products(model)
    assert [node.op_type for node in model.graph.node] == ["MatMul", kind]
    plain = fused("FusedMatMul", ("N", 5, 6), (4, 6), alpha=0.5, transB=1)
    plain.graph.node.append(helper.make_node(kind, [plain.graph.output[0].name], ["out"]))
    plain.graph.output[0].name = "out"
    feeds = samples(plain, 4)
    assert np.allclose(runtime.predict(model, feeds), runtime.predict(plain, feeds), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [fused("FusedMatMul", ("N", 3, 6), (6, 3, 4), transBatchB=1), fused("FusedConv", IMAGE, KERNEL, activation="Gelu")],
    ids=["batch", "activation"],
)
def test_what_is_not_understood_stays_as_it_is(model: onnx.ModelProto) -> None:
    before = [node.op_type for node in model.graph.node]
    products(model)
    assert [node.op_type for node in model.graph.node] == before


def attention(bias: bool = True, mask: bool = False, added: bool = False, **attributes: Any) -> onnx.ModelProto:
    b = Builder(5)
    sizes = attributes.get("qkv_hidden_sizes", [8, 8, 8])
    weights = b.constant(np.asarray(b.rng.normal(0, 0.3, (12, sum(sizes))), np.float32))
    inputs = ["x", weights, b.constant(np.asarray(b.rng.normal(size=sum(sizes)), np.float32)) if bias else ""]
    if mask or added:
        inputs.append(b.constant(np.array([[1, 1, 1, 0, 1]], np.int32)) if mask else "")
    if added:
        inputs += ["", b.constant(np.asarray(b.rng.normal(size=(1, 2, 5, 5)), np.float32))]
    return model_of(
        b, {"x": [1, 5, 12]}, b.node("Attention", *inputs, domain="com.microsoft", num_heads=2, **attributes)
    )


@pytest.mark.parametrize(
    "model",
    [attention(), attention(mask=True), attention(mask=True, mask_filter_value=-3.0),
     attention(added=True), attention(qkv_hidden_sizes=[8, 8, 4]), attention(scale=0.7),
     attention(unidirectional=1), attention(mask=True, unidirectional=1)],
    ids=["plain", "mask", "mask by another value", "added scores", "sizes", "scale", "causal", "causal and mask"],
)  # fmt: skip
def test_attention(model: onnx.ModelProto) -> None:
    feeds = samples(model, 1)
    want, prepared = runtime.predict(model, feeds), prepare(model)
    assert np.allclose(runtime.predict(prepared, feeds), want, rtol=1e-4, atol=1e-5)
    assert {node.domain for node in prepared.graph.node} <= {"", "ai.onnx"}
    made = quantize.quantize(model, feeds).model
    network = cut.partition(made, "net")
    assert len(network.layers) == 3 and all(layer.bias.any() for layer in network.layers)
    assert decibels(want, runtime.predict(made, feeds)) > 33


def test_attention_that_is_not_understood_stays_as_it_is() -> None:
    model = attention(do_rotary=1)
    products(model)
    assert [node.op_type for node in model.graph.node] == ["Attention"]


@pytest.mark.parametrize("unidirectional", [0, 1])
def test_attention_with_a_past(unidirectional: int) -> None:
    """Keys and values of earlier tokens come first, as GPT-2 has them; all of them are the second output.

    Shape inference stops at the operator in front.
    """
    b = Builder(5)
    weights = b.constant(np.asarray(b.rng.normal(0, 0.3, (12, 24)), np.float32))
    bias = b.constant(np.asarray(b.rng.normal(size=24), np.float32))
    x, past = b.node("FastGelu", "x", domain="com.microsoft"), b.node("Squeeze", "past", b.constant(np.array([0])))
    b.nodes.append(onnx.helper.make_node(
        "Attention", [x, weights, bias, "", past], ["mixed", "present"], "attention", domain="com.microsoft",
        num_heads=2, unidirectional=unidirectional,
    ))  # fmt: skip
    model = model_of(b, {"x": [1, 5, 12], "past": [1, 2, 1, 2, 3, 4]}, "mixed")
    model.graph.output.append(onnx.helper.make_tensor_value_info("present", onnx.TensorProto.FLOAT, [2, 1, 2, 8, 4]))
    feeds = samples(model, 1)
    want = runtime.run(model, feeds)
    products(model)
    assert "Attention" not in {node.op_type for node in model.graph.node}
    for name, array in runtime.run(model, feeds).items():
        assert np.allclose(array, want[name], rtol=1e-4, atol=1e-5), name
