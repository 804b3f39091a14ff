"""Channels of a tensor before depthwise convolutions get ranges that are alike; nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from flow.frontend import quantize
from flow.frontend.preparation.prepare import prepare
from flow.frontend.quantization.calibrate import AUTO
from flow.frontend.quantization.equalize import LARGEST, equalized
from flow.frontend.quantization.ranges import MINMAX
from flow.onnxtools import runtime
from flow.onnxtools.graph import Graph
from tests.helpers.nets import Builder
from tests.helpers.signals import decibels

CHANNELS = 8
SIZES = (2.0 ** (-np.arange(CHANNELS) * 5 / CHANNELS)).astype(np.float32)  # of the channels


def net(groups: int = CHANNELS, activation: str = "Relu", read: bool = False, times: int = 1) -> onnx.ModelProto:
    """x -> Conv, channels of very different sizes -> activation -> Conv with groups that makes them equal -> Conv."""
    b = Builder(3)

    def real(*shape: int) -> np.ndarray:
        return b.rng.normal(0, 1, shape).astype(np.float32)

    large = SIZES[:, None, None, None]
    y = b.node("Conv", "x", b.constant(real(CHANNELS, 3, 1, 1) * large), b.constant(real(CHANNELS) * SIZES))
    y = b.node(activation, y)
    inner = CHANNELS // groups
    weights = real(times * CHANNELS, inner, 3, 3) / np.repeat(large, times, axis=0)
    z = b.node("Conv", y, b.constant(weights), b.constant(real(times * CHANNELS)), group=groups, pads=[1] * 4)
    z = b.node("Conv", b.node("Relu", z), b.constant(real(4, times * CHANNELS, 1, 1)))
    if read:
        z = b.node("Add", z, b.node("ReduceMean", y, axes=[1], keepdims=1))
    return b.model({"x": ["N", 3, 6, 6]}, z, rank=4)


def samples(count: int = 4) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(0, 1, (count, 3, 6, 6)).astype(np.float32)}


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("activation", ["Relu", "Identity"])
def test_the_float_network_stays_the_same_to_the_bit(activation: str, times: int) -> None:
    model = prepare(net(activation=activation, times=times))
    before = model.SerializeToString()
    found, count = equalized(model, samples())
    assert count == 1 and model.SerializeToString() == before
    assert np.array_equal(runtime.predict(found, samples()), runtime.predict(model, samples()))
    first = next(node for node in found.graph.node if node.op_type == "Conv")
    was = next(node for node in model.graph.node if node.op_type == "Conv")
    scaled, weights = Graph.of(found).constant(first.input[1]), Graph.of(model).constant(was.input[1])
    assert scaled is not None and weights is not None
    factors = (scaled / weights).reshape(CHANNELS, -1)
    assert (factors == factors[:, :1]).all() and factors.min() == 1 and factors.max() == LARGEST


@pytest.mark.parametrize(
    "model",
    [net(groups=1), net(groups=2), net(activation="Sigmoid"), net(read=True)],
    ids=["all channels read it", "groups of channels", "no Relu", "something else reads it"],
)
def test_elsewhere_it_would_cost_as_much(model: onnx.ModelProto) -> None:
    prepared = prepare(model)
    found, count = equalized(prepared, samples())
    assert count == 0 and found is prepared


def test_int8_gains_and_no_code_of_a_weight_changes() -> None:
    """Decibels, by the default; a method that is named is that method alone."""
    model, feeds = prepare(net()), samples(16)
    made = {method: quantize.from_float(model, feeds, method=method) for method in (AUTO, MINMAX)}
    want = runtime.predict(model, feeds)
    gained, plain = (decibels(want, runtime.predict(made[method].model, feeds)) for method in (AUTO, MINMAX))
    assert gained > plain + 5
    assert any("depthwise" in note for note in made[AUTO].notes)
    assert not any("depthwise" in note for note in made[MINMAX].notes)
    codes = [
        sorted(tensor.raw_data for tensor in each.model.graph.initializer if tensor.name.endswith("_quantized"))
        for each in made.values()
    ]
    assert codes[0] == codes[1]


def test_a_tensor_of_zeros_and_one_that_is_not_finite_stay() -> None:
    model = prepare(net())
    zeros = {"x": np.zeros((2, 3, 6, 6), np.float32)}
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    for tensor in model.graph.initializer:
        if tensor.name == first.input[2]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(CHANNELS, np.float32), tensor.name))
    assert equalized(model, zeros)[1] == 0
    assert equalized(model, {"x": np.full((2, 3, 6, 6), np.inf, np.float32)})[1] == 0
