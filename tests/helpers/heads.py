"""Attention without and with its Softmax: matrix products of two activations, of one head or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.int8 import cut
from flow.frontend.preparation.prepare import prepare
from flow.frontend.quantize import from_float, quantize
from flow.network.model import Network
from tests.helpers.networks import Floats, feeds


@dataclass(frozen=True)
class Attention:
    """Sizes and zero points: `tokens` of `inputs` channels, `heads` of `size` channels.

    `joined`: one layer makes queries, keys and values, which one zero point then has; `values`: there is a second
    product, with the values.
    """

    tokens: int
    inputs: int
    heads: int
    size: int
    zero_left: int = 0
    zero_right: int = 0
    unsigned: bool = False
    joined: bool = False
    values: bool = True


class _Nodes:
    def __init__(self, seed: int, unsigned: bool) -> None:
        self.rng, self.nodes, self.constants = np.random.default_rng(seed), list[Any](), list[Any]()
        self.unsigned = unsigned

    def constant(self, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), f"c{len(self.constants)}"))
        return str(self.constants[-1].name)

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def codes(self, tensor: str, scale: float, zero: int) -> str:
        """The tensor in 8 bits and back; `zero` is that of int8."""
        point = np.uint8(zero + 128) if self.unsigned else np.int8(zero)
        pair = [self.constant(np.float32(scale)), self.constant(point)]
        return self.node("DequantizeLinear", self.node("QuantizeLinear", tensor, *pair), *pair)

    def layer(self, x: str, inputs: int, outputs: int, zero: int) -> str:
        weights = self.constant(self.rng.integers(-127, 128, (inputs, outputs)).astype(np.int8))
        scales = self.constant(np.full(outputs, 0.0101, np.float32))
        real = self.node("DequantizeLinear", weights, scales, self.constant(np.zeros(outputs, np.int8)), axis=1)
        return self.codes(self.node("MatMul", x, real), 0.0331 * inputs**0.5, zero)


def attention(net: Attention, seed: int = 0) -> onnx.ModelProto:
    """A network in QDQ form: layers, one or two products of all heads, and a layer."""
    n, tokens, width = _Nodes(seed, net.unsigned), net.tokens, net.heads * net.size
    x = n.codes("x", 0.0307, 5)
    if net.joined:
        every = n.layer(x, net.inputs, 3 * width, net.zero_right)
        parted = n.node("Reshape", every, n.numbers(0, tokens, 3, net.heads, net.size))
        three = n.node("Transpose", parted, perm=[2, 0, 3, 1, 4])
        q, k, v = (n.node("Gather", three, n.constant(np.int64(part)), axis=0) for part in range(3))
    else:
        made = [n.layer(x, net.inputs, width, zero) for zero in (net.zero_left, net.zero_right, net.zero_right)]
        shape = n.numbers(0, tokens, net.heads, net.size)
        q, k, v = (n.node("Transpose", n.node("Reshape", each, shape), perm=[0, 2, 1, 3]) for each in made)
    scores = n.node("MatMul", q, n.node("Transpose", k, perm=[0, 1, 3, 2]))
    scaled = n.node("Div", scores, n.constant(np.float32(net.size**0.5)))
    made_of, outputs = n.codes(scaled, 0.0593 * net.inputs, net.zero_left), net.heads * tokens
    if net.values:
        product = n.node("Transpose", n.node("MatMul", made_of, v), perm=[0, 2, 1, 3])
        flat, outputs = n.node("Reshape", product, n.numbers(0, tokens, width)), width
        made_of = n.codes(flat, 0.0613 * net.inputs**1.5 * tokens**0.5, 3)
    elif net.heads == 1:
        made_of, outputs = n.node("Reshape", made_of, n.numbers(0, tokens, tokens)), tokens
    last = n.layer(made_of, outputs, 5, 0) if net.values or net.heads == 1 else made_of
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", tokens, net.inputs])]
    graph = helper.make_graph(n.nodes, "net", values, [helper.make_tensor_value_info(last, 1, None)], n.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def partitioned(net: Attention, seed: int = 0) -> Network:
    return cut.partition(quantize(attention(net, seed)).model, "net")


def float_attention(tokens: int = 5, heads: int = 2, size: int = 8) -> onnx.ModelProto:
    """A float network: attention with its Softmax between two layers."""
    net, width = Floats(3), heads * size
    w = [net.constant(net.rng.normal(0, 0.4, (width, width)).astype(np.float32)) for _ in range(5)]
    x = net.node("MatMul", "x", w[0])
    parts = net.constant(np.array([0, tokens, heads, size], np.int64))
    q, k, v = (
        net.node("Transpose", net.node("Reshape", net.node("MatMul", x, each), parts), perm=[0, 2, 1, 3])
        for each in w[1:4]
    )
    scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 1, 3, 2]))
    weights = net.node("Softmax", net.node("Mul", scores, net.constant(np.float32(size**-0.5))), axis=-1)
    product = net.node("Transpose", net.node("MatMul", weights, v), perm=[0, 2, 1, 3])
    flat = net.node("Reshape", product, net.constant(np.array([0, tokens, width], np.int64)))
    return net.model((tokens, width), net.node("MatMul", flat, w[4]))


def for_the_chip(model: onnx.ModelProto) -> Network:
    """A float network, quantized with its products of two activations."""
    return cut.partition(from_float(prepare(model), feeds(model, 16), products=True).model, "net")
