"""Float networks of tokens as exporters write them: a small ViT, a mixer, attention with a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from tests.helpers.networks import Floats


@dataclass(frozen=True)
class Tokens:
    """Sizes: an image of `grid` patches of two by two pixels, each a token of `channels`, `hidden` between layers.

    `last`: the channels are the last axis behind the patches' convolution, as in a network of TensorFlow.
    """

    grid: tuple[int, int]
    channels: int
    hidden: int
    last: bool = False

    @property
    def count(self) -> int:
        return self.grid[0] * self.grid[1]


class _Nodes(Floats):
    def drawn(self, *shape: int) -> str:
        return self.constant(self.rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32))

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def norm(self, x: str, channels: int) -> str:
        scale = self.constant(self.rng.uniform(0.5, 1.5, channels).astype(np.float32))
        return self.node("LayerNormalization", x, scale, self.drawn(channels), axis=-1)

    def turned(self, x: str) -> str:
        return self.node("Transpose", x, perm=[0, 2, 1])

    def steps(self, kind: str, x: str, inputs: int, hidden: int, **attributes: Any) -> tuple[str, str]:
        """A recurrent operator on [steps, batch, inputs]: the states of all steps, and the last one."""
        gates, count = hidden * {"GRU": 3, "LSTM": 4, "RNN": 1}[kind], 2 if "direction" in attributes else 1
        given = [self.drawn(count, gates, inputs), self.drawn(count, gates, hidden), self.drawn(count, 2 * gates)]
        made = [f"{kind}_{len(self.nodes)}", f"{kind}_{len(self.nodes)}_last"]
        attributes = {name: value for name, value in attributes.items() if value}
        self.nodes.append(onnx.helper.make_node(kind, [x, *given], made, made[0], hidden_size=hidden, **attributes))
        return made[0], made[1]

    def patches(self, net: Tokens) -> str:
        """A convolution of patches, and their channels as tokens [1, count, channels]."""
        made = self.node("Conv", "x", self.drawn(net.channels, 3, 2, 2), strides=[2, 2])
        if net.last:
            made = self.node("Transpose", made, perm=[0, 2, 3, 1])
            return self.node("Reshape", made, self.numbers(0, net.count, net.channels))
        return self.turned(self.node("Reshape", made, self.numbers(0, net.channels, -1)))

    def mixed(self, x: str, inputs: int, hidden: int) -> str:
        """A product, a function, and a product back."""
        return self.node(
            "MatMul", self.node("Tanh", self.node("MatMul", x, self.drawn(inputs, hidden))), self.drawn(hidden, inputs)
        )

    def image(self, net: Tokens, *outputs: str) -> onnx.ModelProto:
        return self.model((3, 2 * net.grid[0], 2 * net.grid[1]), *outputs)


def vit(net: Tokens, seed: int = 0) -> onnx.ModelProto:
    """A class token before the patches, positions, a block, and a layer that reads the class token alone.

    The class token is repeated for every sample, as PyTorch writes it.
    """
    n = _Nodes(seed)
    made = n.patches(net)
    shape = n.node("Concat", n.node("Shape", made, start=0, end=1), n.numbers(1, net.channels), axis=0)
    token = n.node("Expand", n.drawn(1, 1, net.channels), shape)
    made = n.node("Concat", token, made, axis=1)
    made = n.node("Add", made, n.drawn(1, net.count + 1, net.channels))
    made = n.node("Add", made, n.mixed(n.norm(made, net.channels), net.channels, net.hidden))
    first = n.node("Gather", n.norm(made, net.channels), n.constant(np.int64(0)), axis=1)
    return n.image(net, n.gemm(first, net.channels, 5))


def mixer(net: Tokens, seed: int = 0) -> onnx.ModelProto:
    """Products along the tokens and along the channels in turn, and the mean of all tokens."""
    n = _Nodes(seed)
    made = n.patches(net)
    across = n.mixed(n.turned(n.norm(made, net.channels)), net.count, net.hidden)
    made = n.node("Add", made, n.turned(across))
    made = n.node("Add", made, n.mixed(n.norm(made, net.channels), net.channels, net.hidden))
    mean = n.node("ReduceMean", n.norm(made, net.channels), axes=[1], keepdims=0)
    return n.image(net, n.gemm(mean, net.channels, 5))


def scaled(rows: int, columns: int, seed: int = 0) -> onnx.ModelProto:
    """A residual block of a ConvNeXt: a depthwise convolution, then products over the channels as last of four axes.

    What it adds has a scale for each channel (LayerScale).
    """
    n = _Nodes(seed)
    made = n.conv("x", 3, 8, 1)
    last = n.node("Transpose", n.conv(made, 8, 8, 3, relu=False, group=8), perm=[0, 2, 3, 1])
    wide = n.node("Tanh", n.node("Add", n.node("MatMul", n.norm(last, 8), n.drawn(8, 12)), n.drawn(12)))
    added = n.node("Mul", n.drawn(8), n.node("Add", n.node("MatMul", wide, n.drawn(12, 8)), n.drawn(8)))
    made = n.node("Add", made, n.node("Transpose", added, perm=[0, 3, 1, 2]))
    return n.model((3, rows, columns), n.conv(made, 8, 4, 1))


def windows(size: int, across: int, seed: int = 0) -> onnx.ModelProto:
    """Attention within windows of `size` by `size` pixels, two by `across` of them, as a Swin transformer has it."""
    n, channels, pixels = _Nodes(seed), 8, size * size
    made = n.node("MatMul", "x", n.drawn(6, channels))
    parts = n.node("Reshape", made, n.numbers(0, 2, size, across, size, channels))
    parts = n.node("Reshape", n.node("Transpose", parts, perm=[0, 1, 3, 2, 4, 5]), n.numbers(-1, pixels, channels))
    q, k, v = (n.node("MatMul", parts, n.drawn(channels, channels)) for _ in range(3))
    weights = n.node("Softmax", n.node("MatMul", q, n.turned(k)), axis=-1)
    parts = n.node("MatMul", n.node("MatMul", weights, v), n.drawn(channels, channels))
    parts = n.node("Reshape", parts, n.numbers(-1, 2, across, size, size, channels))
    whole = n.node(
        "Reshape", n.node("Transpose", parts, perm=[0, 1, 3, 2, 4, 5]), n.numbers(-1, 2 * size, across * size, channels)
    )
    made = n.norm(n.node("Add", made, whole), channels)
    return n.model((2 * size, across * size, 6), n.node("MatMul", made, n.drawn(channels, 4)))


def heads_first(tokens: int, heads: int, seed: int = 0) -> onnx.ModelProto:
    """Attention whose heads are along axis 0, as torch.bmm has them."""
    n, width = _Nodes(seed), 8 * heads
    x, parts = n.node("MatMul", "x", n.drawn(width, width)), n.numbers(0, tokens, heads, 8)
    split = (n.node("Reshape", n.node("MatMul", x, n.drawn(width, width)), parts) for _ in range(3))
    turned = (n.node("Transpose", each, perm=[0, 2, 1, 3]) for each in split)
    q, k, v = (n.node("Reshape", each, n.numbers(-1, tokens, 8)) for each in turned)
    scores = n.node("Mul", n.node("MatMul", q, n.turned(k)), n.constant(np.float32(0.3)))
    made = n.node("Reshape", n.node("MatMul", n.node("Softmax", scores, axis=-1), v), n.numbers(-1, heads, tokens, 8))
    made = n.node("Reshape", n.node("Transpose", made, perm=[0, 2, 1, 3]), n.numbers(-1, tokens, width))
    return n.model((tokens, width), n.node("MatMul", made, n.drawn(width, 3)))


def shared_keys(tokens: int, heads: int, seed: int = 0) -> onnx.ModelProto:
    """Attention of several heads with the keys and values of one (multi-query attention)."""
    n, width = _Nodes(seed), 8 * heads
    split = n.node("Reshape", n.node("MatMul", "x", n.drawn(6, width)), n.numbers(0, tokens, heads, 8))
    q = n.node("Transpose", split, perm=[0, 2, 1, 3])
    k, v = (n.node("Unsqueeze", n.node("MatMul", "x", n.drawn(6, 8)), n.numbers(1)) for _ in range(2))
    scores = n.node("MatMul", q, n.node("Transpose", k, perm=[0, 1, 3, 2]))
    weights = n.node("Softmax", n.node("Mul", scores, n.constant(np.float32(0.3))), axis=-1)
    made = n.node("Transpose", n.node("MatMul", weights, v), perm=[0, 2, 1, 3])
    return n.model(
        (tokens, 6), n.node("MatMul", n.node("Reshape", made, n.numbers(0, tokens, width)), n.drawn(width, 3))
    )


def image_attention(rows: int, columns: int, seed: int = 0) -> onnx.ModelProto:
    """Attention over the pixels of an image, whose channels are first, as detectors have it: V S^T, and a sum."""
    n, pixels = _Nodes(seed), rows * columns
    split = (n.node("Reshape", n.conv("x", 4, 8, 1, relu=False), n.numbers(0, 1, 8, pixels)) for _ in range(3))
    q, k, v = split
    scores = n.node("MatMul", n.node("Transpose", q, perm=[0, 1, 3, 2]), k)
    weights = n.node("Softmax", n.node("Mul", scores, n.constant(np.float32(0.3))), axis=-1)
    made = n.node("MatMul", v, n.node("Transpose", weights, perm=[0, 1, 3, 2]))
    image = n.numbers(0, 8, rows, columns)
    near = n.conv(n.node("Reshape", v, image), 8, 8, 3, relu=False, group=8)
    return n.model((4, rows, columns), n.conv(n.node("Add", n.node("Reshape", made, image), near), 8, 3, 1, relu=False))


def recurrent(kind: str, steps: int, seed: int = 0) -> onnx.ModelProto:
    """The last state of an LSTM, a GRU or an RNN over some steps, as a keyword spotter has it, and a layer."""
    n = _Nodes(seed)
    _, last = n.steps(kind, n.node("Transpose", "x", perm=[1, 0, 2]), 6, 8, linear_before_reset=seed % 2)
    return n.model((steps, 6), n.gemm(n.node("Squeeze", last, n.numbers(0)), 8, 4))


def stacked(kind: str, steps: int, seed: int = 0) -> onnx.ModelProto:
    """Two layers in both directions, of whose second one a layer reads the states of all steps."""
    n, made = _Nodes(seed), ""
    for inputs in (6, 10):
        sequence = n.node("Transpose", made or "x", perm=[1, 0, 2])
        every, _ = n.steps(kind, sequence, inputs, 5, direction="bidirectional")
        made = n.node("Reshape", n.node("Transpose", every, perm=[2, 0, 1, 3]), n.numbers(0, 0, 10))
    return n.model((steps, 6), n.node("MatMul", made, n.drawn(10, 4)))


def masked(kind: str, tokens: int = 5, heads: int = 2, seed: int = 0) -> onnx.ModelProto:
    """Attention with a mask between its products, the norm behind the sum: "causal", a "column", or one of the "input".

    As a "column" hides the last tokens of every sample, the "input" says how many of a sample's tokens are there, and
    "input causal" hides later tokens, too. The mask is added, or "where ..." chooses between the scores and a number.
    """
    n, width = _Nodes(seed), 8 * heads
    x = n.norm(n.node("MatMul", "x", n.drawn(width, width)), width)
    parts = n.numbers(0, tokens, heads, 8)
    q, k, v = (n.node("Reshape", n.node("MatMul", x, n.drawn(width, width)), parts) for _ in range(3))
    q, v = (n.node("Transpose", each, perm=[0, 2, 1, 3]) for each in (q, v))
    scores = n.node("MatMul", q, n.node("Transpose", k, perm=[0, 2, 3, 1]))
    scores = n.node("Mul", scores, n.constant(np.float32(8**-0.5)))
    column = np.arange(tokens) >= tokens - 1
    if kind.startswith("where"):
        first = n.node("Slice", "x", n.numbers(0), n.numbers(1), n.numbers(2))
        away = n.node("Unsqueeze", n.node("Less", n.turned(first), n.constant(np.float32(0))), n.numbers(1))
        if kind == "where input causal":
            away = n.node("Or", away, n.constant(np.triu(np.ones((1, 1, tokens, tokens), bool), 1)))
        seen = n.constant(np.tril(np.ones((1, 1, tokens, tokens), bool)))
        low = n.constant(np.float32(-3.4e38))
        hidden = n.node("Where", *((seen, scores, low) if kind == "where causal" else (away, low, scores)))
    elif kind == "causal":
        mask = n.constant(np.triu(np.full((1, 1, tokens, tokens), -np.inf, np.float32), 1))
    elif kind == "column":
        mask = n.constant(np.where(column, np.float32(-3.4e38), np.float32(0)).reshape(1, 1, 1, -1))
    else:  # a token is there if its first channel is more than 0
        first = n.node("Slice", "x", n.numbers(0), n.numbers(1), n.numbers(2))
        away = n.node("Cast", n.node("Less", n.turned(first), n.constant(np.float32(0))), to=1)
        away = n.node("Unsqueeze", away, n.numbers(1))
        if kind == "input causal":
            away = n.node("Max", away, n.constant(np.triu(np.ones((1, 1, tokens, tokens), np.float32), 1)))
        mask = n.node("Mul", away, n.constant(np.float32(-10000)))
    if not kind.startswith("where"):
        hidden = n.node("Add", scores, mask)
    weights = n.node("Softmax", hidden, axis=-1)
    product = n.node("Transpose", n.node("MatMul", weights, v), perm=[0, 2, 1, 3])
    flat = n.node("Reshape", product, n.numbers(0, tokens, width))
    made = n.norm(n.node("Add", n.node("MatMul", flat, n.drawn(width, width)), x), width)
    return n.model((tokens, width), n.node("MatMul", made, n.drawn(width, 3)))
