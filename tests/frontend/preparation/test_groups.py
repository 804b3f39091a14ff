"""Normalizations of pixels and of groups of channels in the form that is computed on chip."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from flow.frontend.preparation.groups import norms_by_row
from flow.frontend.preparation.prepare import prepare
from flow.frontend.quantize import from_float
from flow.onnxtools import runtime
from tests.helpers.networks import Floats, feeds


def net(op: str, size: int, shape: tuple[int, ...] = (6, 3, 4), opset: int = 21, **attributes: Any) -> onnx.ModelProto:
    """x -> a normalization with `size` factors and summands, of which 0 are ones and zeros -> a convolution."""
    made = Floats(3)
    count = abs(size) or shape[0]
    pair = [made.rng.normal(0, 1, count), made.rng.normal(0, 1, count)] if size else [np.ones(count), np.zeros(count)]
    made.node(op, "x", *(made.constant(each.astype(np.float32)) for each in pair), **attributes)
    made.nodes[-1].name = "norm"
    weights = made.constant(made.rng.normal(0, 1, (2, shape[0], *[1] * (len(shape) - 1))).astype(np.float32))
    model = made.model(shape, made.node("Conv", made.nodes[-1].output[0], weights))
    model.opset_import[0].version = opset
    return model


BACK = ["Reshape", "InstanceNormalization", "Reshape"]


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        (net("GroupNormalization", 6, num_groups=2, epsilon=1e-3), [*BACK, "Mul", "Add"]),
        (net("GroupNormalization", 3, opset=18, num_groups=3), [*BACK, "Mul", "Add"]),
        (net("GroupNormalization", 6, (6, 5), num_groups=2), [*BACK, "Mul", "Add"]),
        (net("GroupNormalization", 0, num_groups=2), BACK),
        (net("InstanceNormalization", 6, epsilon=1e-2), [*BACK, "Mul", "Add"]),
        (net("InstanceNormalization", 6, (6, 7)), ["InstanceNormalization", "Mul", "Add"]),
        (net("InstanceNormalization", 0, (6, 7)), ["InstanceNormalization"]),
        (net("InstanceNormalization", 6, (6, 2, 3, 2)), [*BACK, "Mul", "Add"]),
    ],
)  # fmt: skip
def test_it_computes_the_same(model: onnx.ModelProto, kinds: list[str]) -> None:
    made = norms_by_row(model)
    assert [node.op_type for node in made.graph.node] == [*kinds, "Conv"] and made.graph.node[-2].name == "norm"
    x = feeds(model, 3)
    (expected,), (got,) = (runtime.run(each, x).values() for each in (model, made))
    assert np.allclose(expected, got, rtol=1e-4, atol=1e-4)


def test_factors_that_are_computed_stay() -> None:
    model = net("InstanceNormalization", 6)
    model.graph.node.insert(0, helper.make_node("Relu", [model.graph.node[0].input[1]], ["computed"]))
    model.graph.node[1].input[1] = "computed"
    assert norms_by_row(model).graph.node[1] == model.graph.node[1]


def test_what_no_layer_reads_stays() -> None:
    model = net("InstanceNormalization", 6)
    del model.graph.node[1:]
    model.graph.output[0].name = model.graph.node[0].output[0]
    assert norms_by_row(model).graph.node[:] == model.graph.node[:]


@pytest.mark.parametrize("products", [False, True])
def test_it_has_8_bits_for_the_chip_alone(products: bool) -> None:
    """On the host the normalization stays one node, between float tensors."""
    made = Floats(5)
    each = [made.constant(made.rng.normal(1, 0.2, 4).astype(np.float32)) for _ in range(2)]
    a = made.node("InstanceNormalization", made.conv("x", 3, 4, 1), *each)
    gate = made.node("Mul", a, made.node("Sigmoid", a))  # of what has 8 bits on chip, too, for its table
    model = made.model((3, 6, 5), made.conv(gate, 4, 2, 1, relu=False))
    quantized = from_float(prepare(model), feeds(model, 4), products=products).model
    producers = {output: node for node in quantized.graph.node for output in node.output}
    readers = [node for node in quantized.graph.node if any(name == a for name in node.input)]
    norms = [node for node in quantized.graph.node if node.op_type == "InstanceNormalization"]
    assert len(norms) == 1 and {node.op_type for node in readers} == (
        {"QuantizeLinear"} if products else {"Mul", "Sigmoid"}
    )
    assert producers[norms[0].input[0]].op_type == "DequantizeLinear"
