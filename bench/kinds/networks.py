"""The networks: small ones of every kind, with the nodes that exporters write and drawn weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import onnx

from bench.kinds.drawing import Drawing


def resnet(each: int, size: int = 32) -> onnx.ModelProto:
    """Three stages of `each` residual blocks; a stage begins with half the pixels and twice the channels."""
    net, channels = Drawing(each), 16
    x = net.conv("x", 3, channels, 3)
    for number in range(3 * each):
        stride = 2 if number in (each, 2 * each) else 1
        inner = net.conv(x, channels, channels * stride, 3, stride)
        made = net.conv(inner, channels * stride, channels * stride, 3, then="")
        x = x if stride == 1 else net.conv(x, channels, channels * 2, 1, 2, then="")
        x, channels = net.node("Relu", net.node("Add", made, x)), channels * stride
    return net.model((3, size, size), net.classes(x, channels, 10))


def mobilenet_v1() -> onnx.ModelProto:
    """A quarter of the width."""
    net, channels = Drawing(1), 8
    x = net.conv("x", 3, channels, 3, 2)
    for outputs, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        x = net.conv(net.depthwise(x, channels, 3, stride), channels, outputs, 1)
        channels = outputs
    return net.model((3, 48, 48), net.classes(x, channels, 10))


def mobilenet_v2() -> onnx.ModelProto:
    """Inverted residuals with ReLU6."""
    net, channels = Drawing(2), 16
    x = net.conv("x", 3, channels, 3, 2, then="Relu6")
    for times, outputs, stride in ((1, 8, 1), (6, 16, 2), (6, 16, 1), (6, 24, 2), (6, 24, 1)):
        wide = net.conv(x, channels, channels * times, 1, then="Relu6") if times > 1 else x
        wide = net.depthwise(wide, channels * times, 3, stride, then="Relu6")
        made = net.conv(wide, channels * times, outputs, 1, then="")
        x, channels = net.node("Add", x, made) if (channels, 1) == (outputs, stride) else made, outputs
    return net.model((3, 32, 32), net.classes(net.conv(x, channels, 96, 1, then="Relu6"), 96, 10))


def mobilenet_v3() -> onnx.ModelProto:
    """Inverted residuals with squeeze and excitation, HardSwish and HardSigmoid."""
    net, channels = Drawing(3), 16
    x = net.conv("x", 3, channels, 3, 2, then="HardSwish")
    blocks = ((3, 16, 16, 1, True, "Relu"), (5, 72, 24, 2, False, "Relu"), (5, 96, 24, 1, True, "HardSwish"))
    for kernel, wide, outputs, stride, squeezes, then in blocks:
        made = net.depthwise(net.conv(x, channels, wide, 1, then=then), wide, kernel, stride, then=then)
        if squeezes:
            few = net.conv(net.node("GlobalAveragePool", made), wide, wide // 4, 1)
            gate = net.node("HardSigmoid", net.conv(few, wide // 4, wide, 1, then=""), alpha=1 / 6)
            made = net.node("Mul", made, gate)
        made = net.conv(made, wide, outputs, 1, then="")
        x, channels = net.node("Add", x, made) if (channels, 1) == (outputs, stride) else made, outputs
    mean = net.node("GlobalAveragePool", net.conv(x, channels, 96, 1, then="HardSwish"))
    last = net.conv(mean, 96, 64, 1, then="HardSwish")
    return net.model((3, 32, 32), net.gemm(net.node("Flatten", last), 64, 10))


def unet(transposed: bool) -> onnx.ModelProto:
    """Two sizes down and up again, by ConvTranspose or by Resize; each joined with what was there before."""
    net, sizes = Drawing(4 + transposed), (8, 16, 24)
    x, channels, before = "x", 3, list[str]()
    for outputs in sizes:
        if before:
            x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        x = net.conv(net.conv(x, channels, outputs, 3), outputs, outputs, 3)
        before.append(x)
        channels = outputs
    for outputs, skipped in zip(sizes[-2::-1], before[-2::-1], strict=True):
        if transposed:
            weights = net.drawn(channels, outputs, 2, 2, reads=channels)
            up = net.node("ConvTranspose", x, weights, net.constant(np.zeros(outputs)), strides=[2, 2])
        else:
            up = net.node("Resize", x, "", net.constant([1, 1, 2, 2]), mode="linear")
            up = net.conv(up, channels, outputs, 3)
        x, channels = net.conv(net.node("Concat", up, skipped, axis=1), 2 * outputs, outputs, 3), outputs
    return net.model((3, 32, 32), net.conv(x, channels, 2, 1, then=""))


def detector() -> onnx.ModelProto:
    """Two heads, of classes and of boxes, at each of two sizes, as SSD has them."""
    net = Drawing(6)
    x = net.conv(net.conv("x", 3, 16, 3, 2), 16, 32, 3, 2)
    heads: dict[str, list[str]] = {"scores": [], "boxes": []}
    for _ in range(2):
        for name, numbers in (("scores", 5), ("boxes", 4)):
            made = net.node("Transpose", net.conv(x, 32, 3 * numbers, 3, then=""), perm=[0, 2, 3, 1])
            heads[name].append(net.node("Reshape", made, net.numbers(0, -1, numbers)))
        x = net.conv(x, 32, 32, 3, 2)
    scores, boxes = (net.node("Concat", *parts, axis=1) for parts in heads.values())
    return net.model((3, 32, 32), net.node("Softmax", scores, axis=-1), boxes)


def yolo() -> onnx.ModelProto:
    """Cross-stage blocks, a pyramid of poolings, a nearest upsampling, SiLU, and heads at two sizes."""
    net = Drawing(7)

    def cross_stage(x: str, inputs: int, outputs: int) -> str:
        parts = net.several("Split", 2, net.conv(x, inputs, outputs, 1, then="SiLU"), net.numbers(*[outputs // 2] * 2),
                            axis=1)  # fmt: skip
        inner = net.conv(parts[1], outputs // 2, outputs // 2, 3, then="SiLU")
        added = net.node("Add", parts[1], net.conv(inner, outputs // 2, outputs // 2, 3, then="SiLU"))
        return net.conv(net.node("Concat", *parts, added, axis=1), outputs // 2 * 3, outputs, 1, then="SiLU")

    x = net.conv("x", 3, 16, 3, 2, then="SiLU")
    fine = cross_stage(net.conv(x, 16, 32, 3, 2, then="SiLU"), 32, 32)
    coarse = cross_stage(net.conv(fine, 32, 32, 3, 2, then="SiLU"), 32, 32)
    pyramid = [net.conv(coarse, 32, 16, 1, then="SiLU")]
    for _ in range(3):
        pyramid.append(net.node("MaxPool", pyramid[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4))
    coarse = net.conv(net.node("Concat", *pyramid, axis=1), 64, 32, 1, then="SiLU")
    up = net.node("Resize", coarse, "", net.constant([1, 1, 2, 2]), mode="nearest", nearest_mode="floor",
                  coordinate_transformation_mode="asymmetric")  # fmt: skip
    fine = cross_stage(net.node("Concat", up, fine, axis=1), 64, 32)
    heads = []
    for x in (fine, coarse):
        flat = net.node("Reshape", net.conv(x, 32, 9, 1, then=""), net.numbers(0, 9, -1))
        heads.append(flat)
    boxes, scores = net.several("Split", 2, net.node("Concat", *heads, axis=2), net.numbers(4, 5), axis=1)
    return net.model((3, 32, 32), net.node("Concat", boxes, net.node("Sigmoid", scores), axis=1))


def espcn() -> onnx.ModelProto:
    """Three times as many rows and columns, by DepthToSpace."""
    net = Drawing(8)
    x = net.conv(net.conv("x", 1, 32, 5, then="Tanh"), 32, 16, 3, then="Tanh")
    x = net.node("DepthToSpace", net.conv(x, 16, 9, 3, then=""), blocksize=3, mode="CRD")
    return net.model((1, 24, 24), x)


def densenet() -> onnx.ModelProto:
    """Every layer joins what was there before it; BatchNormalization and ReLU before each convolution."""
    net, channels, grows = Drawing(9), 16, 8
    x = net.conv("x", 3, channels, 3, then="")
    for block in range(3):
        for _ in range(3):
            inner = net.conv(net.normed(x, channels), channels, 4 * grows, 1, then="")
            made = net.conv(net.normed(inner, 4 * grows), 4 * grows, grows, 3, then="")
            x, channels = net.node("Concat", x, made, axis=1), channels + grows
        if block < 2:
            x = net.conv(net.normed(x, channels), channels, channels // 2, 1, then="")
            x, channels = net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), channels // 2
    return net.model((3, 24, 24), net.classes(net.normed(x, channels), channels, 10))


def shufflenet() -> onnx.ModelProto:
    """ShuffleNetV2: half the channels go by, then all are shuffled."""
    net, channels, size = Drawing(10), 24, 8

    def shuffled(x: str, channels: int) -> str:
        groups = net.node("Reshape", x, net.numbers(-1, 2, channels // 2, size, size))
        turned = net.node("Transpose", groups, perm=[0, 2, 1, 3, 4])
        return net.node("Reshape", turned, net.numbers(-1, channels, size, size))

    def branch(x: str, inputs: int, outputs: int, stride: int) -> str:
        inner = net.depthwise(net.conv(x, inputs, outputs, 1), outputs, 3, stride, then="")
        return net.conv(inner, outputs, outputs, 1)

    x = net.node(
        "MaxPool", net.conv("x", 3, channels, 3), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
    )  # fmt: skip
    by = net.conv(net.depthwise(x, channels, 3, 2, then=""), channels, channels, 1)
    x, channels = shuffled(net.node("Concat", by, branch(x, channels, channels, 2), axis=1), 2 * channels), 2 * channels
    for _ in range(2):
        by, other = net.several("Split", 2, x, net.numbers(channels // 2, channels // 2), axis=1)
        x = shuffled(net.node("Concat", by, branch(other, channels // 2, channels // 2, 1), axis=1), channels)
    return net.model((3, 32, 32), net.classes(net.conv(x, channels, 96, 1), 96, 10))


def dscnn() -> onnx.ModelProto:
    """A keyword spotter: a first kernel of 10 by 4, then four separable convolutions."""
    net, channels = Drawing(11), 64
    weights = net.drawn(channels, 1, 10, 4, reads=40)
    x = net.node("Conv", "x", weights, net.constant(np.zeros(channels)), strides=[2, 2], pads=[4, 1, 5, 1])
    x = net.node("Relu", x)
    for _ in range(4):
        x = net.conv(net.depthwise(x, channels, 3), channels, channels, 1)
    return net.model((1, 49, 10), net.classes(x, channels, 12))


def autoencoder() -> onnx.ModelProto:
    """That of MLPerf Tiny, without its BatchNormalization."""
    net, x = Drawing(12), "x"
    sizes = (640, 128, 128, 128, 8, 128, 128, 128, 640)
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        x = net.gemm(x, inputs, outputs, "Relu" if number < len(sizes) - 2 else "")
    return net.model((640,), x)


def gru() -> onnx.ModelProto:
    """A keyword spotter: two layers of a GRU over 25 steps, and scores of the last state."""
    net, hidden, inputs = Drawing(13), 32, 40
    x = net.node("Transpose", "x", perm=[1, 0, 2])
    for number in range(2):
        weights = [net.drawn(1, 3 * hidden, reads, reads=2 * reads) for reads in (inputs, hidden)]
        made = net.several("GRU", 2, x, *weights, net.constant(np.zeros((1, 6 * hidden))), hidden_size=hidden,
                           linear_before_reset=1)  # fmt: skip
        x, inputs = net.node("Squeeze", made[0], net.numbers(1)) if number == 0 else made[1], hidden
    return net.model((25, 40), net.gemm(net.node("Squeeze", x, net.numbers(0)), hidden, 12))


def mixer() -> onnx.ModelProto:
    """Products along the tokens and along the channels, in turn."""
    net, tokens, channels = Drawing(14), 16, 48
    x = net.node("Conv", "x", net.drawn(channels, 3, 8, 8, reads=192), strides=[8, 8])
    x = net.node("Transpose", net.node("Reshape", x, net.numbers(0, channels, tokens)), perm=[0, 2, 1])
    for _ in range(2):
        along = net.node("Transpose", net.layer_norm(x, channels), perm=[0, 2, 1])
        along = net.product(net.product(along, tokens, 32, "GELU"), 32, tokens)
        x = net.node("Add", x, net.node("Transpose", along, perm=[0, 2, 1]))
        x = net.node(
            "Add", x, net.product(net.product(net.layer_norm(x, channels), channels, 96, "GELU"), 96, channels)
        )
    mean = net.node("ReduceMean", net.layer_norm(x, channels), axes=[1], keepdims=0)
    return net.model((3, 32, 32), net.gemm(mean, channels, 10))


def attention(net: Drawing, x: str, tokens: int, heads: int, width: int) -> str:
    """Self-attention of `heads`, each of `width` channels."""
    channels = heads * width
    shape = net.numbers(0, tokens, heads, width)
    parts = (net.node("Reshape", net.product(x, channels, channels), shape) for _ in range(3))
    q, k, v = (net.node("Transpose", part, perm=[0, 2, 1, 3]) for part in parts)
    scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 1, 3, 2]))
    shares = net.node("Softmax", net.node("Div", scores, net.constant(width**0.5)), axis=-1)
    made = net.node("Transpose", net.node("MatMul", shares, v), perm=[0, 2, 1, 3])
    return net.product(net.node("Reshape", made, net.numbers(0, tokens, channels)), channels, channels)


def vit() -> onnx.ModelProto:
    """A block of the size of ViT-Tiny: three heads of 64 channels, norms before the sums; 17 tokens."""
    net, tokens, channels = Drawing(15), 17, 192
    x = net.node("Conv", "x", net.drawn(channels, 3, 8, 8, reads=192), strides=[8, 8])
    x = net.node("Transpose", net.node("Reshape", x, net.numbers(0, channels, tokens - 1)), perm=[0, 2, 1])
    shape = net.node("Concat", net.node("Shape", x, start=0, end=1), net.numbers(1, channels), axis=0)
    token = net.node("Expand", net.constant(net.rng.normal(0, 1, (1, 1, channels))), shape)
    x = net.node("Concat", token, x, axis=1)
    x = net.node("Add", x, net.constant(net.rng.normal(0, 0.5, (1, tokens, channels))))
    x = net.node("Add", x, attention(net, net.layer_norm(x, channels), tokens, 3, 64))
    inner = net.product(net.layer_norm(x, channels), channels, 4 * channels, "GELU")
    x = net.layer_norm(net.node("Add", x, net.product(inner, 4 * channels, channels)), channels)
    return net.model((3, 32, 32), net.gemm(net.node("Gather", x, net.constant(0, np.int64), axis=1), channels, 10))


def bert() -> onnx.ModelProto:
    """A layer of an encoder: four heads of 32 channels, norms behind the sums; 32 tokens."""
    net, tokens, channels = Drawing(16), 32, 128
    x = net.layer_norm(net.node("Add", "x", attention(net, "x", tokens, 4, 32)), channels)
    inner = net.product(net.product(x, channels, 4 * channels, "GELU"), 4 * channels, channels)
    return net.model((tokens, channels), net.layer_norm(net.node("Add", x, inner), channels))


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "ResNet-8": lambda: resnet(1),
    "ResNet-20": lambda: resnet(3),
    "MobileNetV1": mobilenet_v1,
    "MobileNetV2": mobilenet_v2,
    "MobileNetV3": mobilenet_v3,
    "U-Net, ConvTranspose": lambda: unet(True),
    "U-Net, Resize": lambda: unet(False),
    "detector": detector,
    "YOLO": yolo,
    "ESPCN": espcn,
    "DenseNet": densenet,
    "ShuffleNet": shufflenet,
    "DS-CNN": dscnn,
    "auto-encoder": autoencoder,
    "GRU": gru,
    "mixer": mixer,
    "ViT-Tiny block": vit,
    "BERT layer": bert,
}
