"""Small networks, quantized (QDQ) and float, and samples for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.onnxtools.graph import graph_inputs

DIGITS = Path(__file__).parents[2] / "models" / "digits_cnn.onnx"


def small(folder: Path) -> Path:
    """A network of five layers that takes a few hundred cycles."""
    path = folder / "small.onnx"
    onnx.save(residual_net(), str(path))
    return path


class Builder:
    """A small QDQ network, node by node; every method returns the name of the tensor it makes."""

    def __init__(self, seed: int = 0, unsigned: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.unsigned = unsigned
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], f"{op}_{len(self.nodes)}", **attributes))
        return name

    def quantized(self, tensor: str, scale: float, zero_point: int) -> str:
        """QuantizeLinear and DequantizeLinear; `zero_point` in the int8 domain."""
        kind, shift = (np.uint8, 128) if self.unsigned else (np.int8, 0)
        pair = (self.constant(np.float32(scale)), self.constant(kind(zero_point + shift)))
        return self.node("DequantizeLinear", self.node("QuantizeLinear", tensor, *pair), *pair)

    def weights(self, shape: tuple[int, ...], axis: int, input_scale: float) -> tuple[str, str]:
        """Per-channel int8 weights and their int32 bias, both dequantized."""
        codes = self.rng.integers(-127, 128, shape).astype(np.int8)
        scales = self.rng.uniform(0.002, 0.01, shape[axis]).astype(np.float32)
        zero = self.constant(np.zeros(shape[axis], np.int8))
        weight = self.node("DequantizeLinear", self.constant(codes), self.constant(scales), zero, axis=axis)
        bias = self.constant(self.rng.integers(-2000, 2000, shape[axis]).astype(np.int32))
        product = self.constant(np.float32(input_scale) * scales)
        return weight, self.node("DequantizeLinear", bias, product, axis=0)

    def model(self, inputs: dict[str, list[Any]], output: str, rank: int = 2, opset: int = 17) -> onnx.ModelProto:
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * rank)
        graph = helper.make_graph(self.nodes, "net", values, [result], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def conv_net(unsigned: bool = False, activation: str = "Relu", **attributes: Any) -> onnx.ModelProto:
    """input [N,4,9,8] -> Conv (+ activation), quantized on both sides."""
    b = Builder(1, unsigned)
    group = attributes.get("group", 1)
    x = b.quantized("x", 0.05, 3)
    weight, bias = b.weights((8, 4 // group, 3, 2), 0, 0.05)
    y = b.node("Conv", x, weight, bias, **attributes)
    if activation == "Relu":
        y = b.node("Relu", y)
    if activation == "Clip":
        y = b.node("Clip", y, b.constant(np.float32(-0.5)), b.constant(np.float32(2.0)))
    return b.model({"x": ["N", 4, 9, 8]}, b.quantized(y, 0.1, -20), rank=4)


def residual_net() -> onnx.ModelProto:
    """Conv+Relu, a depthwise Conv beside it, Add, pool, Flatten, Gemm, and a MatMul with float output."""
    b = Builder(2)
    x = b.quantized("x", 0.05, -5)
    w, bias = b.weights((6, 3, 3, 3), 0, 0.05)
    first = b.quantized(b.node("Relu", b.node("Conv", x, w, bias, pads=[1] * 4)), 0.06, -128)
    w, bias = b.weights((6, 1, 3, 3), 0, 0.06)
    second = b.quantized(b.node("Conv", first, w, bias, pads=[1] * 4, group=6), 0.07, 4)
    added = b.quantized(b.node("Relu", b.node("Add", first, second)), 0.08, -128)
    pooled = b.quantized(b.node("GlobalAveragePool", added), 0.05, -128)
    w, bias = b.weights((7, 6), 0, 0.05)
    gemm = b.quantized(b.node("Gemm", b.node("Flatten", pooled), w, bias, transB=1), 0.04, 9)
    w, _ = b.weights((7, 5), 1, 0.04)
    y = b.node("Add", b.node("MatMul", gemm, w), b.constant(np.ones(5, np.float32)))
    return b.model({"x": ["N", 3, 6, 7]}, y)


def wide_net() -> onnx.ModelProto:
    """A QDQ network with a depthwise Conv, a MaxPool, a Concat and a host operator between."""
    net = Builder(3)
    x = net.quantized("x", 0.02, 3)
    weight, bias = net.weights((4, 1, 3, 3), 0, 0.02)
    y = net.quantized(net.node("Relu", net.node("Conv", x, weight, bias, group=4, pads=[1, 1, 1, 1])), 0.05, -128)
    y = net.quantized(net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]), 0.05, -128)
    y = net.quantized(net.node("Concat", y, net.node("Neg", y), axis=1), 0.05, 0)
    weight, bias = net.weights((3, 8 * 9), 0, 0.05)
    y = net.node("Gemm", net.node("Flatten", y), weight, bias, transB=1)
    return net.model({"x": ["N", 4, 6, 6]}, net.node("Softmax", y))


def samples(model: onnx.ModelProto, count: int = 3, seed: int = 5) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:] for value in graph_inputs(model)
    }
    return {name: rng.normal(0, 2, (count, *shape)).astype(np.float32) for name, shape in shapes.items()}


def one_node_net(op: str = "Relu", shape: tuple[Any, ...] = ("N", 4), opset: int = 17) -> onnx.ModelProto:
    b = Builder()
    return b.model({"x": list(shape)}, b.node(op, "x"), opset=opset)


def integer_net() -> onnx.ModelProto:
    b = Builder()
    codes = b.node("Cast", "x", to=TensorProto.INT8)
    sums = b.node("MatMulInteger", codes, b.constant(np.ones((4, 3), np.int8)))
    return b.model({"x": ["N", 4]}, b.node("Cast", sums, to=TensorProto.FLOAT))


def float_net(batch: Any = "N") -> onnx.ModelProto:
    """Conv, BatchNorm, Relu, depthwise Conv, residual Add, pool, Gemm; float."""
    b = Builder(7)

    def real(*shape: int) -> str:
        return b.constant(np.asarray(b.rng.normal(0, 0.3, shape), np.float32))

    positive = b.constant(b.rng.uniform(0.5, 1.5, 8).astype(np.float32))
    y = b.node("Conv", "x", real(8, 3, 3, 3), real(8), pads=[1] * 4)
    y = b.node("Relu", b.node("BatchNormalization", y, positive, real(8), real(8), positive))
    z = b.node("Conv", y, real(8, 1, 3, 3), real(8), pads=[1] * 4, group=8)
    z = b.node("Flatten", b.node("GlobalAveragePool", b.node("Relu", b.node("Add", y, z))))
    return b.model({"x": [batch, 3, 8, 8]}, b.node("Gemm", z, real(5, 8), real(5), transB=1))


def heads_net(order: tuple[str, ...] = ("cls", "box")) -> onnx.ModelProto:
    """Gemm, Relu, then a Gemm for `cls` [N, 6], and Gemm, Relu, Gemm for `box` [N, 3]; float."""
    b = Builder(11)

    def layer(tensor: str, inputs: int, channels: int) -> str:
        weights = np.asarray(b.rng.normal(0, 0.4, (channels, inputs)), np.float32)
        bias = np.asarray(b.rng.normal(0, 0.2, channels), np.float32)
        return b.node("Gemm", tensor, b.constant(weights), b.constant(bias), transB=1)

    trunk = b.node("Relu", layer("x", 48, 64))
    made = {"cls": layer(trunk, 64, 6), "box": layer(b.node("Relu", layer(trunk, 64, 32)), 32, 3)}
    for node in b.nodes:
        node.output[0] = next((name for name, tensor in made.items() if tensor == node.output[0]), node.output[0])
    model = b.model({"x": ["N", 48]}, "cls")
    sizes = {"cls": 6, "box": 3}
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", sizes[n]]) for n in order)
    return model
