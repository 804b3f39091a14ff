"""Integer operators of the QOperator form give the codes that ONNX Runtime's own integer kernels give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.dialects.standard import standard_quantization
from flow.frontend.int8.cut import partition
from flow.frontend.quantize import quantize
from flow.onnxtools import runtime

MICROSOFT = "com.microsoft"
Given = tuple[list[str], dict[str, Any]]


class Codes:
    """A network of one integer operator: int8 or uint8 codes in and out."""

    def __init__(self, kind: type, opset: int = 17) -> None:
        self.rng = np.random.default_rng(3)
        self.kind, self.opset = kind, opset
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.feeds: dict[str, Any] = {}

    def constant(self, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def codes(self, *shape: int) -> str:
        limits = np.iinfo(self.kind)
        name = f"x{len(self.inputs)}"
        element = helper.np_dtype_to_tensor_dtype(np.dtype(self.kind))
        self.inputs.append(helper.make_tensor_value_info(name, element, [None, *shape]))
        self.feeds[name] = self.rng.integers(limits.min, limits.max + 1, (40, *shape)).astype(self.kind)
        return name

    def pair(self, scale: float, zero: int) -> list[str]:
        """Scale and zero point, which is given in the int8 domain."""
        shift = 128 if self.kind is np.uint8 else 0
        return [self.constant(np.float32(scale)), self.constant(self.kind(zero + shift))]

    def model(self, op: str, inputs: list[str], rank: int, domain: str = MICROSOFT, **given: Any) -> onnx.ModelProto:
        floating = op == "QGemm" and len(inputs) < 8
        element = TensorProto.FLOAT if floating else helper.np_dtype_to_tensor_dtype(np.dtype(self.kind))
        node = helper.make_node(op, inputs, ["y"], op, domain=domain, **given)
        result = helper.make_tensor_value_info("y", element, [None] * rank)
        graph = helper.make_graph([node], "net", self.inputs, [result], self.constants)
        sets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=sets, ir_version=8)


def weights(net: Codes, *shape: int, axis: int | None = 0, zero: int = 0) -> list[str]:
    codes = net.rng.integers(-127, 128, shape).astype(np.int8)
    if axis is None:
        return [net.constant(codes), net.constant(np.float32(0.01037)), net.constant(np.int8(zero))]
    scales = net.rng.uniform(0.002, 0.02, shape[axis]).astype(np.float32)
    return [net.constant(codes), net.constant(scales), net.constant(np.full(shape[axis], zero, np.int8))]


def bias(net: Codes, count: int) -> str:
    return net.constant(net.rng.integers(-3000, 3000, count).astype(np.int32))


def conv(net: Codes) -> onnx.ModelProto:
    inputs = [net.codes(4, 7, 6), *net.pair(0.0517, 3), *weights(net, 8, 2, 3, 2), *net.pair(0.2131, -20), bias(net, 8)]
    return net.model("QLinearConv", inputs, 4, "", group=2, pads=[1, 0, 1, 1], strides=[2, 1])


def conv_of_one_scale(net: Codes) -> onnx.ModelProto:
    inputs = [net.codes(4, 7), *net.pair(0.0517, 3), *weights(net, 8, 4, 3, axis=None), *net.pair(0.2131, -20)]
    return net.model("QLinearConv", inputs, 3, "", auto_pad="SAME_UPPER")


def matmul(net: Codes) -> onnx.ModelProto:
    inputs = [net.codes(5, 12), *net.pair(0.0517, 3), *weights(net, 12, 6, axis=None), *net.pair(0.1071, 9)]
    return net.model("QLinearMatMul", inputs, 3, "")


def gemm(net: Codes) -> onnx.ModelProto:
    inputs = [net.codes(12), *net.pair(0.0517, 3), *weights(net, 6, 12), bias(net, 6), *net.pair(0.0517, 9)]
    return net.model("QGemm", inputs, 2, transB=1, alpha=0.5)


def gemm_of_a_row_as_bias(net: Codes) -> onnx.ModelProto:
    row = net.constant(net.rng.integers(-3000, 3000, (1, 6)).astype(np.int32))
    inputs = [net.codes(12), *net.pair(0.0517, 3), *weights(net, 6, 12), row, *net.pair(0.0517, 9)]
    return net.model("QGemm", inputs, 2, transB=1)


def gemm_to_float(net: Codes) -> onnx.ModelProto:
    inputs = [net.codes(12), *net.pair(0.0517, 3), *weights(net, 12, 6, axis=None), bias(net, 6)]
    return net.model("QGemm", inputs, 2)


def conv_of_channels_last(net: Codes) -> onnx.ModelProto:
    inputs = [net.codes(7, 6, 4), *net.pair(0.0517, 3), *weights(net, 8, 4, 3, 2), *net.pair(0.2131, -20), bias(net, 8)]
    return net.model("QLinearConv", inputs, 4, channels_last=1, pads=[1, 0, 1, 1])


LAYERS = (conv, conv_of_channels_last, conv_of_one_scale, matmul, gemm, gemm_of_a_row_as_bias, gemm_to_float)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("make", LAYERS, ids=lambda make: make.__name__)
def test_layers_have_the_same_codes(make: Callable[[Codes], onnx.ModelProto], kind: type) -> None:
    net = Codes(kind)
    model = make(net)
    standard, notes = standard_quantization(model)
    onnx.checker.check_model(standard)
    op = model.graph.node[0].op_type
    assert notes[0] == f"Quantization in standard form instead of 1 {op}."
    wanted, got = (runtime.run(each, net.feeds)["y"] for each in (model, standard))
    assert got.dtype == wanted.dtype
    if wanted.dtype == np.float32:
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
        return
    apart = np.abs(got.astype(np.int32) - wanted)
    assert apart.max() <= 1 and (apart != 0).mean() < 0.001 and len(np.unique(wanted)) > 50


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("make", LAYERS, ids=lambda make: make.__name__)
def test_layers_run_on_the_array(make: Callable[[Codes], onnx.ModelProto], kind: type) -> None:
    """The codes of weights and biases are kept as they are."""
    net = Codes(kind)
    model = make(net)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    quantized = quantize(standard_quantization(model)[0])
    assert not quantized.notes
    network = partition(quantized.model, "net")
    (layer,) = network.layers
    kept = next(array for array in found.values() if array.dtype == np.int8 and array.ndim > 1)
    assert sorted(layer.weights.reshape(-1)) == sorted(kept.reshape(-1))
    biases = [array for array in found.values() if array.dtype == np.int32]
    assert np.array_equal(layer.bias, biases[0].reshape(-1) if biases else np.zeros(layer.channels))
    assert layer.output_quantization is None if make is gemm_to_float else layer.output_quantization is not None


def binary(net: Codes) -> Given:
    return [net.codes(4, 5), *net.pair(0.0517, 3), net.codes(4, 5), *net.pair(0.0317, -7), *net.pair(0.0613, 2)], {}


def averages(net: Codes) -> Given:
    return [net.codes(3, 6, 6), *net.pair(0.0517, 3), *net.pair(0.0317, -7)], {}


def windows(net: Codes) -> Given:
    given = {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 2]}
    return averages(net)[0], given


def vectors(net: Codes) -> Given:
    return [net.codes(12), *net.pair(0.0517, 3), *net.pair(0.0317, -7)], {}


def leaky(net: Codes) -> Given:
    return vectors(net)[0], {"alpha": 0.2}


def scores(net: Codes) -> Given:
    return [net.codes(3, 4), *net.pair(0.0317, 3), *net.pair(1 / 256, -128)], {"axis": -1, "opset": 13}


def scores_of_two_axes(net: Codes) -> Given:
    return scores(net)[0], {"axis": 1, "opset": 11}


def means(net: Codes) -> Given:
    return averages(net)[0], {"axes": [2, 3], "keepdims": 0}


def parts(net: Codes) -> Given:
    first, second, result = net.pair(0.0517, 3), net.pair(0.0219, -1), net.pair(0.0613, 7)
    return [*result, net.codes(3, 5), *first, net.codes(2, 5), *second], {"axis": 1}


def choice(net: Codes) -> Given:
    condition = net.constant(np.arange(20).reshape(4, 5) % 3 == 0)
    first, second, result = net.pair(0.0517, 3), net.pair(0.0219, -1), net.pair(0.0613, 7)
    return [condition, net.codes(4, 5), *first, net.codes(4, 5), *second, *result], {}


OTHERS = [
    ("QLinearAdd", binary), ("QLinearMul", binary), ("QLinearAveragePool", windows),
    ("QLinearGlobalAveragePool", averages), ("QLinearSigmoid", vectors), ("QLinearLeakyRelu", leaky),
    ("QLinearSoftmax", scores), ("QLinearSoftmax", scores_of_two_axes),
    ("QLinearConcat", parts), ("QLinearWhere", choice),
]  # fmt: skip


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize(("op", "make"), OTHERS, ids=lambda value: getattr(value, "__name__", value))
def test_other_operators_are_at_most_one_code_apart(
    op: str, make: Callable[[Codes], Given], opset: int, kind: type
) -> None:
    net = Codes(kind, opset)
    inputs, given = make(net)
    model = net.model(op, inputs, 2 if make in (vectors, leaky) else 4 if make in (windows, averages) else 3)
    model.graph.node[0].attribute.extend(helper.make_attribute(name, value) for name, value in given.items())
    standard, _ = standard_quantization(model)
    assert not [node.op_type for node in standard.graph.node if node.domain == MICROSOFT]
    wanted, got = (runtime.run(each, net.feeds)["y"] for each in (model, standard))
    apart = np.abs(got.astype(np.int32) - wanted)
    assert got.dtype == wanted.dtype and apart.max() <= 1 and (apart != 0).mean() < 0.02


@pytest.mark.parametrize(
    ("op", "make"),
    [("QLinearAveragePool", windows), ("QLinearGlobalAveragePool", averages), ("QLinearSigmoid", vectors),
     ("QLinearLeakyRelu", leaky), ("QLinearSoftmax", scores)],
    ids=lambda value: getattr(value, "__name__", value),
)  # fmt: skip
def test_the_last_zero_point_may_be_left_out(op: str, make: Callable[[Codes], Given]) -> None:
    net = Codes(np.uint8)
    inputs, given = make(net)
    standard, _ = standard_quantization(net.model(op, inputs[:-1], 4, **given))
    inputs[-1] = net.constant(np.uint8(0))
    wanted = runtime.run(standard_quantization(net.model(op, inputs, 4, **given))[0], net.feeds)["y"]
    got = runtime.run(standard, net.feeds)["y"]
    assert got.dtype == np.uint8 and np.array_equal(got, wanted)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_pools_of_channels_last(kind: type) -> None:
    """The number of axes of a global pool is that of the convolution before it."""
    net = Codes(kind)
    first, second, third, last = (net.pair(scale, 3) for scale in (0.0517, 0.2131, 0.1931, 0.0917))
    given: dict[str, Any] = {"domain": MICROSOFT, "channels_last": 1}
    nodes = [
        helper.make_node(
            "QLinearConv", [net.codes(7, 6, 4), *first, *weights(net, 8, 4, 3, 2), *second], ["a"], **given
        ),
        helper.make_node("QLinearAveragePool", ["a", *second, *third], ["b"], **given, kernel_shape=[2, 2]),
        helper.make_node("QLinearGlobalAveragePool", ["b", *third, *last], ["y"], **given),
    ]
    model = net.model("QLinearConv", [], 4)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    standard, _ = standard_quantization(model)
    assert [node.op_type for node in standard.graph.node].count("Transpose") == 2  # in front, and at the end
    assert not [node.op_type for node in standard.graph.node if node.domain == MICROSOFT]
    wanted, got = (runtime.run(each, net.feeds)["y"] for each in (model, standard))
    assert got.shape == wanted.shape == (40, 1, 1, 8) and np.abs(got.astype(np.int32) - wanted).max() <= 1


@pytest.mark.parametrize("opset", [17, 18])
def test_means_of_codes(opset: int) -> None:
    """ONNX Runtime declares QLinearReduceMean but has no kernel for it."""
    net = Codes(np.int8, opset)
    inputs, given = means(net)
    standard, _ = standard_quantization(net.model("QLinearReduceMean", inputs, 2, **given))
    real = (net.feeds["x0"].astype(np.float64) - 3) * 0.0517
    wanted = np.clip(np.rint(real.mean(axis=(2, 3)) / 0.0317) - 7, -128, 127)
    assert np.abs(runtime.run(standard, net.feeds)["y"] - wanted).max() <= 1


def test_weights_that_are_computed_stay_with_their_operator() -> None:
    net = Codes(np.int8)
    x, kernels = net.codes(4, 7), net.codes(4, 3)
    inputs = [x, *net.pair(0.0517, 3), kernels, *net.pair(0.01, 0), *net.pair(0.2, 1)]
    model = net.model("QLinearConv", inputs, 3, "")
    assert [node.op_type for node in standard_quantization(model)[0].graph.node] == ["QLinearConv"]
