"""Small float networks of every kind that runs on chip, quantized and pruned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.compression.encoding import EncodedLayer
from flow.compression.prune import prune
from flow.frontend.int8 import cut
from flow.frontend.preparation.prepare import prepare
from flow.frontend.quantize import quantize
from flow.hardware.config import ArrayConfig
from flow.network.model import Network, by_weights
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.program import OnChip, assemble, fitted


class Floats:
    """A float network, node by node; every method returns the name of the tensor it makes."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def conv(self, x: str, inputs: int, outputs: int, kernel: int, relu: bool = True, **attributes: Any) -> str:
        """A square kernel that keeps the size at stride 1."""
        groups, dilation = attributes.get("group", 1), attributes.get("dilations", [1, 1])[0]
        weights = self.rng.normal(0, 1, (outputs, inputs // groups, kernel, kernel)) / kernel
        bias = self.rng.normal(0, 0.1, outputs)
        pads = [kernel // 2 * dilation] * 4
        made = self.node(
            "Conv", x, self.constant(weights.astype(np.float32)), self.constant(bias.astype(np.float32)),
            **{"pads": pads} | attributes,
        )  # fmt: skip
        return self.node("Relu", made) if relu else made

    def gemm(self, x: str, inputs: int, outputs: int) -> str:
        weights = self.rng.normal(0, 1, (outputs, inputs)).astype(np.float32)
        return self.node("Gemm", x, self.constant(weights), self.constant(np.zeros(outputs, np.float32)), transB=1)

    def model(self, shape: tuple[int, ...], *outputs: str) -> onnx.ModelProto:
        values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])]
        result = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs]
        graph = helper.make_graph(self.nodes, "net", values, result, self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(made)


def residual() -> onnx.ModelProto:
    """A residual block whose shortcut loses half its pixels and gains channels of zeros, then global pooling."""
    net = Floats(1)
    a = net.conv("x", 3, 8, 3)
    b = net.conv(net.conv(a, 8, 16, 3, strides=[2, 2]), 16, 16, 3, relu=False)
    bounds = [net.constant(np.array(v, np.int64)) for v in ([0, 0], [9, 9], [2, 3], [2, 2])]
    pads = net.constant(np.array([0, 8, 0, 0, 0, 0, 0, 0], np.int64))
    shortcut = net.node("Pad", net.node("Slice", a, *bounds), pads, net.constant(np.float32(0)))
    c = net.node("Relu", net.node("Add", b, shortcut))
    return net.model((3, 5, 7), net.gemm(net.node("Flatten", net.node("GlobalAveragePool", c)), 16, 5))


def mixed() -> onnx.ModelProto:
    """Pooling of both kinds, groups, dilation, a concatenation, a flattened map, channels that fill no octet."""
    net = Floats(2)
    a = net.node("MaxPool", net.conv("x", 5, 12, 3), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    b, c = net.conv(a, 12, 8, 3, group=2), net.conv(a, 12, 4, 3, dilations=[2, 2])
    d = net.node("AveragePool", net.node("Concat", b, c, axis=1), kernel_shape=[2, 2], strides=[2, 2])
    e = net.conv(d, 12, 6, 1, relu=False)
    return net.model((5, 9, 8), net.gemm(net.node("Flatten", e), 6 * 2 * 2, 7))


def depthwise() -> onnx.ModelProto:
    """A separable network with strides, as MobileNets are."""
    net = Floats(3)
    a = net.conv("x", 1, 16, 3, strides=[2, 2])
    b = net.conv(net.conv(a, 16, 16, 3, group=16), 16, 24, 1)
    c = net.conv(net.conv(b, 24, 24, 3, group=24, strides=[2, 2]), 24, 8, 1)
    return net.model((1, 13, 11), c)


def dense() -> onnx.ModelProto:
    """An auto-encoder of Gemms."""
    net = Floats(4)
    a = net.node("Relu", net.gemm("x", 40, 24))
    return net.model((40,), net.gemm(net.node("Relu", net.gemm(a, 24, 5)), 5, 40))


def tokens() -> onnx.ModelProto:
    """Rows of channels through MatMuls."""
    net = Floats(5)
    weights = [net.constant(net.rng.normal(0, 1, shape).astype(np.float32)) for shape in ((24, 16), (16, 8))]
    return net.model((6, 24), net.node("MatMul", net.node("Relu", net.node("MatMul", "x", weights[0])), weights[1]))


def line() -> onnx.ModelProto:
    """Convolutions of one axis."""
    net = Floats(6)
    weights = [net.constant(net.rng.normal(0, 1, shape).astype(np.float32)) for shape in ((8, 4, 5), (6, 8, 3))]
    a = net.node("Relu", net.node("Conv", "x", weights[0], pads=[2, 2]))
    return net.model((4, 19), net.node("Conv", a, weights[1], strides=[2], pads=[1, 0]))


def functions() -> onnx.ModelProto:
    """Element-wise functions behind layers, as exporters write them, and one behind another."""
    net = Floats(9)
    a = net.node("HardSwish", net.conv("x", 3, 9, 3, relu=False))
    b = net.conv(a, 9, 8, 1, relu=False)
    c = net.conv(net.node("Mul", b, net.node("Sigmoid", b)), 8, 8, 1, relu=False)  # SiLU
    d = net.conv(net.node("LeakyRelu", c, alpha=0.2), 8, 5, 1, relu=False)
    scaled = net.node("Mul", net.node("Tanh", d), net.constant(np.float32(1.5)))
    return net.model((3, 4, 3), net.conv(net.node("Abs", scaled), 5, 4, 1, relu=False))


def gated() -> onnx.ModelProto:
    """Squeeze and excitation with functions around it, a product and a difference of maps, as MobileNetV3 has them."""
    net = Floats(10)
    a = net.node("HardSwish", net.conv("x", 3, 11, 3, relu=False))
    squeezed = net.node("Relu", net.conv(net.node("GlobalAveragePool", a), 11, 5, 1, relu=False))
    gate = net.node("HardSigmoid", net.conv(squeezed, 5, 11, 1, relu=False), alpha=1 / 6)
    b = net.node("Add", a, net.conv(net.node("Mul", gate, a), 11, 11, 1, relu=False))
    c = net.node("Sub", net.node("Mul", net.conv(b, 11, 8, 1), net.conv(b, 11, 8, 3)), net.conv(b, 11, 8, 1))
    return net.model((3, 4, 3), net.conv(c, 8, 4, 1, relu=False))


def chosen() -> onnx.ModelProto:
    """The larger of two maps, the smallest of four, a map where another one or a constant says so, several slopes."""
    net = Floats(15)
    a = net.conv("x", 3, 11, 1, relu=False)
    b = net.node("Max", a, net.conv(a, 11, 11, 1))
    squeezed = net.conv(net.node("GlobalAveragePool", b), 11, 11, 1, relu=False)
    more = [net.node("Sigmoid", net.conv(b, 11, 1, 1, relu=False)), net.conv(b, 11, 11, 1, relu=False)]
    c = net.node("Min", net.conv(b, 11, 11, 1, relu=False), squeezed, *more, net.constant(np.float32(0.9)))
    seen = net.node("Less", net.conv(c, 11, 11, 1, relu=False), net.constant(np.float32(0.2)))
    d = net.conv(net.node("Where", seen, c, net.constant(np.float32(0.5))), 11, 8, 1)
    columns = net.constant((np.arange(3) % 2 == 0).reshape(1, 1, 1, 3))
    e = net.node("Where", columns, net.constant(np.float32(0)), d)
    slopes = net.constant(np.linspace(-0.2, 0.9, 8, dtype=np.float32).reshape(8, 1, 1))
    bent = net.node("PRelu", net.conv(e, 8, 8, 1, relu=False), slopes)
    f = net.node("Where", net.node("Less", e, net.constant(np.float32(0.3))), bent, e)
    return net.model((3, 4, 3), net.conv(f, 8, 4, 1, relu=False))


def shuffled() -> onnx.ModelProto:
    """Channels that are split, joined and shuffled at any place, and pixels that are repeated."""
    net = Floats(11)

    def numbers(*values: int) -> str:
        return net.constant(np.array(values, np.int64))

    parts = [f"part_{number}" for number in range(2)]
    a = net.conv("x", 3, 14, 3)
    net.nodes.append(helper.make_node("Split", [a, numbers(5, 9)], parts, "split", axis=1))
    b = net.node("Concat", net.conv(parts[0], 5, 6, 1), parts[1], net.conv(a, 14, 3, 1), axis=1)
    groups = net.node("Transpose", net.node("Reshape", b, numbers(0, 2, 9, 4, 3)), perm=[0, 2, 1, 3, 4])
    c = net.node("Reshape", groups, numbers(0, 18, 4, 3))
    sizes = net.constant(np.array([1, 1, 2, 3], np.float32))
    d = net.node("Resize", net.conv(c, 18, 12, 1), "", sizes, mode="nearest")
    e = net.node("DepthToSpace", net.conv(d, 12, 12, 1, strides=[2, 3]), blocksize=2)
    return net.model((3, 4, 3), net.conv(e, 3, 4, 3, relu=False))


def pooled() -> onnx.ModelProto:
    """Averages and maxima whose windows reach beyond the map, and means and maxima of all pixels."""
    net = Floats(12)
    a = net.node("AveragePool", net.conv("x", 3, 9, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    b = net.node(
        "AveragePool", net.conv(a, 9, 8, 1), kernel_shape=[3, 2], pads=[1, 0, 0, 1], count_include_pad=1
    )  # fmt: skip
    c = net.node("MaxPool", net.conv(b, 8, 8, 3), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    d = net.conv(c, 8, 10, 1, relu=False)
    largest = net.gemm(net.node("Flatten", net.node("GlobalMaxPool", d)), 10, 3)
    return net.model((3, 9, 7), net.gemm(net.node("ReduceMean", d, axes=[-1, -2], keepdims=0), 10, 5), largest)


def attention() -> onnx.ModelProto:
    """A convolution, an attention with its shortcut over the pixels as tokens, and a convolution."""
    net = Floats(3)
    tokens = net.constant(np.array([0, 8, 16], np.int64))
    image = net.constant(np.array([0, 8, 4, 4], np.int64))
    a = net.node("Transpose", net.node("Reshape", net.conv("x", 3, 8, 3), tokens), perm=[0, 2, 1])
    w = [net.constant(net.rng.normal(0, 0.4, (8, 8)).astype(np.float32)) for _ in range(4)]
    q, k, v = (net.node("MatMul", a, each) for each in w[:3])
    scores = net.node("Softmax", net.node("MatMul", q, net.node("Transpose", k, perm=[0, 2, 1])), axis=-1)
    b = net.node("Add", net.node("MatMul", net.node("MatMul", scores, v), w[3]), a)
    return net.model((3, 4, 4), net.conv(net.node("Reshape", net.node("Transpose", b, perm=[0, 2, 1]), image), 8, 4, 1))


def divided() -> onnx.ModelProto:
    """A quotient of two maps, which leaves the chip, inside a residual block."""
    net = Floats(7)
    a = net.conv("x", 3, 8, 3)
    gate = net.node("Sigmoid", net.conv(net.node("GlobalAveragePool", a), 8, 8, 1))
    b = net.conv(net.node("Div", a, gate), 8, 8, 3, relu=False)
    return net.model((3, 4, 3), net.conv(net.node("Relu", net.node("Add", b, a)), 8, 4, 1))


def heads() -> onnx.ModelProto:
    """A detector: two heads at two sizes, and outputs in the middle, of a layer and of a function of one."""
    net = Floats(4)
    a = net.conv("x", 3, 8, 3)
    b = net.conv(a, 8, 8, 3, strides=[2, 2])
    outputs = [net.conv(a, 8, 6, 1, relu=False), net.conv(net.conv(b, 8, 8, 1), 8, 6, 1, relu=False)]
    return net.model((3, 6, 6), *outputs, net.node("Softmax", b, axis=1), a)


def sharing() -> onnx.ModelProto:
    """A pyramid: one convolution at two sizes, and again on its own output, with two biases; a head at each size."""
    net = Floats(15)
    a = net.conv("x", 3, 8, 3)
    weights = net.constant((net.rng.normal(0, 1, (8, 8, 3, 3)) / 5).astype(np.float32))
    biases = [net.constant(net.rng.normal(0, 0.1, 8).astype(np.float32)) for _ in range(2)]

    def again(x: str, bias: str) -> str:
        return net.node("Relu", net.node("Conv", x, weights, bias, pads=[1, 1, 1, 1]))

    b = again(again(a, biases[0]), biases[1])
    c = again(net.node("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), biases[0])
    return net.model((3, 6, 6), net.conv(b, 8, 5, 1, relu=False), net.conv(c, 8, 6, 1, relu=False))


def unet(size: int = 4) -> onnx.ModelProto:
    """A U-Net with a bilinear upsampling and normalizations of groups of channels, as PyTorch writes both."""
    net = Floats(21)

    def grouped(x: str, channels: int, size: int, groups: int) -> str:
        shapes = [net.constant(np.array(each, np.int64)) for each in ([0, groups, -1], [0, channels, size, size])]
        pair = [net.constant(np.full(groups, value, np.float32)) for value in (1, 0)]
        rows = net.node("InstanceNormalization", net.node("Reshape", x, shapes[0]), *pair)
        gains = [net.constant(net.rng.normal(1 - i, 0.3, (channels, 1, 1)).astype(np.float32)) for i in range(2)]
        return net.node("Add", net.node("Mul", net.node("Reshape", rows, shapes[1]), gains[0]), gains[1])

    a = net.node("Relu", grouped(net.conv("x", 3, 8, 3, relu=False), 8, size, 2))
    b = net.node("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2])
    b = grouped(net.conv(b, 8, 12, 3, relu=False), 12, size // 2, 3)
    b = net.node("Mul", b, net.node("Sigmoid", b))  # SiLU
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    up = net.node("Resize", b, "", scales, mode="linear", coordinate_transformation_mode="align_corners")
    c = net.conv(net.node("Concat", up, a, axis=1), 20, 8, 3)
    return net.model((3, size, size), net.conv(c, 8, 2, 1, relu=False))


def normed() -> onnx.ModelProto:
    """BatchNormalization behind a concatenation, as DenseNets have it, and factors of any sign for each channel."""
    net = Floats(13)
    a = net.conv("x", 3, 7, 3)
    b = net.node("Concat", a, net.conv(a, 7, 6, 1), axis=1)
    gains = [net.rng.uniform(low, high, 13).astype(np.float32) for low, high in ((0.1, 2), (-1, 1), (-1, 1), (0.2, 2))]
    c = net.node("Relu", net.node("BatchNormalization", b, *(net.constant(each) for each in gains)))
    d = net.node("Concat", net.conv(c, 13, 5, 3), a, axis=1)
    factors, summands = (net.constant(net.rng.normal(0, 1, (12, 1, 1)).astype(np.float32)) for _ in range(2))
    return net.model((3, 9, 8), net.conv(net.node("Add", net.node("Mul", d, factors), summands), 12, 4, 1, relu=False))


def normalized() -> onnx.ModelProto:
    """Tokens through LayerNormalization and Softmax, as transformers have them, of channels that fill no octet."""
    net = Floats(14)

    def drawn(*shape: int) -> str:
        return net.constant(net.rng.normal(0, 0.5, shape).astype(np.float32))

    a = net.node("MatMul", "x", drawn(12, 11))
    b = net.node("Add", a, net.node("MatMul", a, drawn(11, 11)))
    c = net.node("MatMul", net.node("LayerNormalization", b, drawn(11), drawn(11), axis=-1), drawn(11, 13))
    d = net.node("Softmax", net.node("Mul", c, net.constant(np.float32(1.7))), axis=-1)
    return net.model((7, 12), net.node("MatMul", d, drawn(13, 5)))


KINDS: dict[str, Callable[[], onnx.ModelProto]] = {
    each.__name__: each
    for each in (
        residual,
        mixed,
        depthwise,
        dense,
        tokens,
        line,
        functions,
        gated,
        shuffled,
        pooled,
        sharing,
        normed,
        normalized,
    )
}


def feeds(model: onnx.ModelProto, count: int, seed: int = 7) -> dict[str, NDArray[np.float32]]:
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return {"x": np.random.default_rng(seed).normal(0, 1, (count, *shape)).astype(np.float32)}


def quantized(model: onnx.ModelProto) -> Network:
    return cut.partition(quantize(prepare(model), feeds(model, 16)).model, "net")


def pruned(network: Network, columns: int, seed: int = 8) -> tuple[Network, dict[str, EncodedLayer]]:
    """The network with N drawn for every block of so many channels, and its weights as stored."""
    rng, layers, encoded = np.random.default_rng(seed), [], dict[str, EncodedLayer]()
    for first, *others in by_weights(network.layers):
        n = np.repeat(rng.choice([0, 2, 4, 5], -(-first.channels // columns)), columns)[: first.channels]
        stored, weights = prune(first.weights, rng.permutation(n))
        encoded |= {layer.name: stored for layer in (first, *others)}
        layers += [replace(layer, weights=weights) for layer in (first, *others)]
    return cut.partition_again(network, layers), encoded


def on_chip(kind: str, config: ArrayConfig) -> tuple[Network, OnChip]:
    """A network of this kind and its program, with room for its maps and no more."""
    return program(KINDS[kind](), config)


def program(model: onnx.ModelProto, config: ArrayConfig) -> tuple[Network, OnChip]:
    """A float network, quantized and pruned, and its program, with room for its maps and no more."""
    network, encoded = pruned(quantized(model), config.columns)
    linked = chain(network)
    return network, assemble(linked, encoded, fitted(config, linked))


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "net.onnx")
    np.savez(folder / "net_calibration.npz", **feeds(model, 16))  # type: ignore[arg-type]
    return folder / "net.onnx"
