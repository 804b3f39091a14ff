"""The integer reference against ONNX Runtime: accumulators to the bit, networks within one step."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from flow.errors import FlowError
from flow.frontend.int8 import cut
from flow.network import reference
from flow.network.model import ArrayLayer, Quantization, Window
from flow.network.run import run_network, run_steps
from flow.onnxtools import runtime
from tests.helpers.nets import conv_net, residual_net, samples


def conv_layer(
    channels: tuple[int, int], sizes: tuple[int, ...], window: Window, groups: int = 1, zero_point: int = -7
) -> ArrayLayer:
    """A Conv layer with random weights; the output shape is left to ONNX Runtime's ConvInteger to confirm."""
    rng = np.random.default_rng(11)
    reduction = int(np.prod(window.kernel)) * channels[0] // groups
    spans = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    axes = range(len(sizes))
    out = [(sizes[a] + window.pads[a] + window.pads[a + len(sizes)] - spans[a]) // window.strides[a] + 1 for a in axes]
    return ArrayLayer(
        name="conv", op="Conv", input="x", output="y", weight_tensor="w",
        weights=rng.integers(-128, 128, (channels[1], reduction)).astype(np.int8),
        weight_scales=rng.uniform(0.001, 0.01, channels[1]).astype(np.float32),
        bias=rng.integers(-(10**6), 10**6, channels[1]).astype(np.int32),
        input_quantization=Quantization(np.float32(0.1), zero_point, False),
        output_quantization=Quantization(np.float32(0.2), 5, False), clamp=(-128, 127),
        input_shape=(channels[0], *sizes), output_shape=(channels[1], *out), window=window, groups=groups,
    )  # fmt: skip


def conv_integer(layer: ArrayLayer, codes: NDArray[np.int8]) -> NDArray[np.int32]:
    """ONNX Runtime's accumulators plus the bias, in ONNX layout (uint8 data: it has a kernel for that)."""
    window = layer.window
    assert window is not None
    weights = layer.weights.reshape(layer.channels, *window.kernel, -1)
    node = helper.make_node(
        "ConvInteger", ["x", "w", "z"], ["y"], kernel_shape=window.kernel, strides=window.strides,
        pads=window.pads, dilations=window.dilations, group=layer.groups,
    )  # fmt: skip
    feeds = {
        "x": codes.view(np.uint8) ^ np.uint8(0x80),
        "w": np.ascontiguousarray(np.moveaxis(weights, -1, 1)),
        "z": np.uint8(layer.input_quantization.zero_point + 128),
    }
    bias = layer.bias.reshape(-1, *[1] * len(window.kernel))
    return run_node(node, feeds) + bias


def run_node(node: onnx.NodeProto, feeds: dict[str, Any]) -> NDArray[np.int32]:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    output = helper.make_tensor_value_info("y", TensorProto.INT32, None)
    graph = helper.make_graph([node], "node", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return runtime.run(model, {name: np.asarray(array) for name, array in feeds.items()})["y"]


CONVOLUTIONS = [
    conv_layer((3, 8), (7, 6), Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))),
    conv_layer((3, 8), (9, 8), Window((3, 2), (2, 3), (0, 1, 2, 0), (1, 2))),
    conv_layer((6, 6), (7, 7), Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1)), groups=6),
    conv_layer((6, 4), (5, 5), Window((2, 2), (1, 1), (0, 0, 0, 0), (1, 1)), groups=2, zero_point=-128),
    conv_layer((5, 4), (12,), Window((5,), (2,), (4, 0), (2,)), zero_point=127),
    conv_layer((2, 3), (4, 5, 6), Window((2, 3, 2), (1, 2, 1), (1, 0, 1, 0, 1, 0), (1, 1, 2))),
    conv_layer((300, 2), (4, 4), Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))),
]


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=["same", "strided", "depthwise", "grouped", "1d", "3d", "long"])
def test_accumulate_equals_conv_integer(layer: ArrayLayer) -> None:
    codes = np.random.default_rng(4).integers(-128, 128, (2, *layer.input_shape)).astype(np.int8)
    expected = conv_integer(layer, codes)
    assert np.array_equal(reference.to_output(layer, reference.accumulate(layer, codes)), expected)
    columns = reference.windows(layer, codes)
    assert columns.shape == (layer.groups, 2 * layer.positions, layer.reduction)
    assert columns.dtype == np.int8
    chosen = np.array([0, 1, layer.positions, 2 * layer.positions - 1])
    some = reference.windows(layer, codes, chosen)
    assert some.dtype == np.int8 and np.array_equal(some, columns[:, chosen])


def test_accumulate_equals_matmul_integer() -> None:
    conv = conv_layer((40, 9), (1,), Window((1,), (1,), (0, 0), (1,)))
    layer = replace(conv, op="MatMul", window=None, input_shape=(5, 40), output_shape=(5, 9))
    codes = np.random.default_rng(4).integers(-128, 128, (3, 5, 40)).astype(np.int8)
    node = helper.make_node("MatMulInteger", ["x", "w", "z"], ["y"])
    weights = np.ascontiguousarray(layer.weights.T)
    expected = run_node(node, {"x": codes, "w": weights, "z": np.int8(-7)}) + layer.bias
    assert np.array_equal(reference.to_output(layer, reference.accumulate(layer, codes)), expected)


def test_an_accumulator_that_may_overflow_is_refused() -> None:
    bias = np.array([0, 2**31 - 5, *[0] * 6], np.int32)
    layer = replace(CONVOLUTIONS[0], bias=bias)
    with pytest.raises(FlowError, match="32 bits, but channel 1 of layer 'conv'"):
        reference.accumulate(layer, np.zeros((1, *layer.input_shape), np.int8))


def one_channel(weights: list[int], bias: int, zero_point: int = 0) -> ArrayLayer:
    base = conv_layer((1, 1), (1,), Window((1,), (1,), (0, 0), (1,)), zero_point=zero_point)
    return replace(
        base, op="Gemm", window=None, weights=np.array([weights], np.int8), bias=np.array([bias], np.int32),
        input_shape=(1, len(weights)), output_shape=(1, 1),
    )  # fmt: skip


# Weights, the last accumulator of 32 bits, and the input that takes it there.
EXTREMES = [
    ([1], 2**31 - 1, [127]), ([-1], 2**31 - 1, [-128]), ([1, -1, 5], 2**31 - 1, [127, -128, 127]),
    ([1], -(2**31), [-128]), ([-1], -(2**31), [127]), ([1, -1, 5], -(2**31), [-128, 127, -128]),
]  # fmt: skip


@pytest.mark.parametrize("zero_point", [0, 3])
@pytest.mark.parametrize(
    ("weights", "extreme", "codes"),
    EXTREMES,
    ids=["high", "high by a negative weight", "high by both", "low", "low by a negative weight", "low by both"],
)  # fmt: skip
def test_the_overflow_proof_is_exact(weights: list[int], extreme: int, codes: list[int], zero_point: int) -> None:
    """An accumulator that some input takes to the last of 32 bits is accepted, and is so; one more is refused."""
    reach = sum(w * (x - zero_point) for w, x in zip(weights, codes, strict=True))
    layer = one_channel(weights, extreme - reach, zero_point)
    assert reference.accumulate(layer, np.array([[codes]], np.int8)).tolist() == [[extreme]]
    beyond = 1 if extreme > 0 else -1
    with pytest.raises(FlowError, match=rf"channel 0 of layer 'conv' spans .*{abs(extreme) + 1}"):
        reference.check_accumulator(one_channel(weights, extreme - reach + beyond, zero_point))


def refuses(weights: list[int], bias: int) -> bool:
    try:
        reference.check_accumulator(one_channel(weights, bias))
    except FlowError:
        return True
    return False


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("bound", ["ACC_MIN", "ACC_MAX", "INT8_MIN", "INT8_MAX"])
def test_a_bound_that_is_moved_by_one_is_noticed(bound: str, by: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the extremes, and of one beyond each, one at least is then judged otherwise."""

    def judged() -> list[bool]:
        biases = [(w, extreme - int(np.dot(w, codes)), extreme) for w, extreme, codes in EXTREMES]
        return [refuses(w, bias + (beyond if end > 0 else -beyond)) for w, bias, end in biases for beyond in (0, 1)]

    assert judged() == [False, True] * len(EXTREMES)
    monkeypatch.setattr(reference, bound, getattr(reference, bound) + by)
    assert judged() != [False, True] * len(EXTREMES)


def test_folded_bias_takes_pruned_weights() -> None:
    layer = CONVOLUTIONS[0]
    assert np.array_equal(reference.folded_bias(layer, np.zeros_like(layer.weights)), layer.bias)
    assert reference.folded_bias(layer)[2] == int(layer.bias[2]) + 7 * int(layer.weights[2].astype(int).sum())


def with_factor(*factors: float) -> ArrayLayer:
    """A layer whose requantization factors are exactly `factors`."""
    layer = conv_layer((1, len(factors)), (3,), Window((1,), (1,), (0, 0), (1,)))
    one = Quantization(np.float32(1), 0, False)
    return replace(layer, weight_scales=np.array(factors, np.float32), input_quantization=one, output_quantization=one)


def test_multipliers_are_the_float32_factor() -> None:
    mantissa, shift = reference.multipliers(with_factor(1.0, 0.1, 2.0**22, 2.0**-34, 0.0, 2.0**-35, 1e-40))
    assert mantissa.tolist()[:4] == [2**23, int(np.float32(0.1) * 2.0**27), 2**23, 2**23]
    assert shift.tolist()[:4] == [23, 27, 1, 57]
    assert mantissa.tolist()[4:] == [0, 0, 0]
    assert shift.tolist()[4:] == [1, 1, 1]


@pytest.mark.parametrize("factor", [2.0**23, np.inf, np.nan])
def test_a_factor_out_of_reach_is_refused(factor: float) -> None:
    with pytest.raises(FlowError, match="at channel 1 of layer 'conv'"):
        reference.multipliers(with_factor(1.0, factor))


@given(
    acc=st.integers(-(2**31), 2**31 - 1),
    mantissa=st.one_of(st.just(0), st.integers(2**23, 2**24 - 1)),
    shift=st.integers(1, 57),
    zero_point=st.integers(-128, 127),
)
def test_requantize_rounds_half_to_even_exactly(acc: int, mantissa: int, shift: int, zero_point: int) -> None:
    exact = round(Fraction(acc * mantissa, 2**shift)) + zero_point  # Python rounds fractions half to even
    got = reference.requantize(
        np.array([acc], np.int32), np.array([mantissa]), np.array([shift]), zero_point, (-100, 90)
    )
    assert got.tolist() == [min(max(exact, -100), 90)]


def test_requantize_ties() -> None:
    acc = np.array([-3, -1, 1, 3, 5], np.int32)
    half = np.full(5, 2**23), np.full(5, 24)
    assert reference.requantize(acc, *half, 0, (-128, 127)).tolist() == [-2, 0, 0, 2, 2]


@pytest.mark.parametrize(
    "model",
    [
        conv_net(),
        conv_net(unsigned=True, pads=[1, 0, 2, 1]),
        conv_net(activation="Clip", strides=[2, 1], dilations=[2, 1]),
        conv_net(activation="", group=4, pads=[1, 1, 1, 1]),
    ],
    ids=["relu", "uint8", "clip", "depthwise"],
)
def test_one_layer_is_within_one_step_of_onnx_runtime(model: onnx.ModelProto) -> None:
    network = cut.partition(model, "net")
    feeds = samples(model, 4)
    ours = run_network(network, feeds)[network.outputs[0]]
    steps = np.rint((ours - runtime.predict(model, feeds)) / 0.1)
    assert np.abs(steps).max() <= 1
    assert (steps != 0).mean() < 0.01


def test_a_whole_network_agrees_with_onnx_runtime_layer_by_layer() -> None:
    network = cut.partition(residual_net(), "net")
    feeds = samples(network.model, 5)
    tensors = run_network(network, feeds)
    probe = onnx.ModelProto()
    probe.CopyFrom(network.model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=layer.output) for layer in network.layers)
    theirs = runtime.run(probe, feeds)
    for layer in network.layers[:-1]:
        difference = tensors[layer.output].astype(int) - theirs[layer.output].astype(int)
        assert np.abs(difference).max() <= 1, layer.name
    assert tensors[network.layers[-1].output].dtype == np.float32
    assert np.allclose(tensors[network.outputs[0]], theirs[network.outputs[0]], atol=0.1)


def test_the_accelerator_can_take_the_place_of_the_reference() -> None:
    network = cut.partition(residual_net(), "net")
    feeds = samples(network.model, 1)
    called = []

    def hook(layer: ArrayLayer, tensor: NDArray[Any]) -> NDArray[Any]:
        called.append(layer.name)
        return reference.run_layer(layer, tensor)

    sessions = runtime.Sessions()
    once = run_network(network, feeds, hook, sessions)
    twice = run_network(network, feeds, hook, sessions)
    assert called == [layer.name for layer in network.layers] * 2
    assert np.array_equal(once[network.outputs[0]], twice[network.outputs[0]])


def test_a_tensor_is_dropped_after_its_last_reader() -> None:
    network = cut.partition(residual_net(), "net")
    feeds = samples(network.model, 4)
    batches = [{name: array[i : i + 2] for name, array in feeds.items()} for i in (0, 2)]
    readers = [(step.input,) if isinstance(step, ArrayLayer) else step.inputs for step in network.steps]
    for layer in run_steps(network.steps, batches, kept=network.outputs):
        number = network.steps.index(layer)
        later = {name for names in readers[number:] for name in names}
        for tensors in batches:
            assert layer.input in tensors and tensors.keys() <= later | set(network.outputs)
            tensors[layer.output] = reference.run_layer(layer, tensors[layer.input])
    whole = run_network(network, feeds, kept=network.outputs)
    assert whole.keys() == batches[0].keys() == set(network.outputs)
    for name in network.outputs:
        assert np.array_equal(whole[name], np.concatenate([tensors[name] for tensors in batches]))
