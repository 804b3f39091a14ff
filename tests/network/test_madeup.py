"""Made-up inputs are of the kind that the network tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from flow.network.samples import MADE_UP, random
from flow.onnxtools import runtime
from tests.helpers.nets import Builder, residual_net


def of_kind(model: onnx.ModelProto, **kinds: int) -> onnx.ModelProto:
    for value in model.graph.input:
        value.type.tensor_type.elem_type = kinds.get(value.name, TensorProto.FLOAT)
    return model


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT])
def test_tokens_are_rows_of_the_embedding(kind: int) -> None:
    """Behind casts and reshapes; of several tables the smallest; a mask, the one that is computed with, is of ones."""
    b = Builder(1)
    tables = [b.constant(np.ones((rows, 4), np.float32)) for rows in (50, 30)]
    rows = b.node("Unsqueeze", b.node("Cast", "ids", to=TensorProto.INT64), b.constant(np.array([2])))
    both = b.node("Add", b.node("Gather", tables[0], rows), b.node("Gather", tables[1], rows))
    inverse = b.node("Sub", b.constant(np.float32(1)), b.node("Cast", "attend", to=TensorProto.FLOAT))
    y = b.node("Add", b.node("ReduceSum", both, b.constant(np.array([2, 3])), keepdims=0), inverse)
    model = of_kind(b.model({"ids": ["N", 9], "attend": ["N", 9]}, y), ids=kind, attend=TensorProto.INT64)
    found = random(model, 200)
    ids, attend = found.feeds["ids"], found.feeds["attend"]
    assert ids.min() == 0 and ids.max() == 29 and np.array_equal(ids, np.rint(ids)) and len(np.unique(ids)) == 30
    assert (attend == 1).all() and found.made_up and found.source == MADE_UP
    assert np.isfinite(runtime.predict(model, found.feeds)).all()


def test_masks_and_positions_of_a_decoder() -> None:
    """A mask whose shape is read, too, is of ones; positions are rows of the tables of a rotary embedding."""
    b = Builder(1)
    q = b.constant(np.ones((1, 4, 16), np.float32))
    tables = [b.constant(np.ones((7, 8), np.float32)) for _ in range(2)]
    turned = b.node("RotaryEmbedding", q, "positions", *tables, domain="com.microsoft", num_heads=1)
    mixed = b.node("MultiHeadAttention", turned, q, q, "", "keys", domain="com.microsoft", num_heads=1)
    length = b.node("Gather", b.node("Shape", "mask"), b.constant(np.int64(1)))
    total = b.node("Add", b.node("ReduceSum", "mask", b.constant(np.array([1]))), length)
    model = b.model({name: ["N", 4] for name in ("positions", "keys", "mask")}, mixed, rank=3)
    model.graph.output.append(onnx.ValueInfoProto(name=total))
    made = random(of_kind(model, positions=TensorProto.INT64, keys=TensorProto.INT32, mask=TensorProto.INT64), 99).feeds
    assert (made["keys"] == 1).all() and (made["mask"] == 1).all()
    assert made["positions"].min() == 0 and made["positions"].max() == 6


def test_rows_of_a_quantized_embedding_along_another_axis() -> None:
    b = Builder(1)
    pair = b.constant(np.float32(0.1)), b.constant(np.int8(0))
    table = b.node("DequantizeLinear", b.constant(np.ones((4, 12), np.int8)), *pair)
    model = b.model({"ids": ["N", 3]}, b.node("Gather", table, "ids", axis=-1), rank=3)
    ids = random(of_kind(model, ids=TensorProto.INT64), 100).feeds["ids"]
    assert ids.min() == 0 and ids.max() == 11


@pytest.mark.parametrize(
    ("kind", "shape", "low", "high"),
    [
        (TensorProto.UINT8, [3, 8, 8], 0, 255), (TensorProto.INT8, [3, 8, 8], -128, 127),
        (TensorProto.INT64, [8], 0, 0), (TensorProto.FLOAT, [3, 8, 8], 0, 1), (TensorProto.FLOAT, [8, 8, 1], 0, 1),
        (TensorProto.FLOAT, [7, 8, 8], -6, 6), (TensorProto.FLOAT, [20], -6, 6),
    ],
)  # fmt: skip
def test_values_by_type_and_shape(kind: int, shape: list[int], low: float, high: float) -> None:
    b = Builder(1)
    model = of_kind(b.model({"x": ["N", *shape]}, b.node("Abs", "x"), rank=len(shape) + 1), x=kind)
    x = random(model, 40).feeds["x"].astype(float)
    assert low <= x.min() and x.max() <= high and (low == high or x.max() - x.min() > 0.9 * min(high - low, 6))


@pytest.mark.parametrize("operator", ["Log", "Sqrt"])
def test_what_has_a_logarithm_or_a_root_is_positive(operator: str) -> None:
    b = Builder(1)
    model = b.model({"x": ["N", 20]}, b.node(operator, b.node("Unsqueeze", "x", b.constant(np.array([1])))), rank=3)
    assert (random(model, 10).feeds["x"] > 0).all()


def test_indices_of_what_is_computed_are_zeros() -> None:
    b = Builder(1)
    y: Any = b.node("Gather", b.node("Relu", "x"), "i", axis=1)
    model = of_kind(b.model({"x": ["N", 5], "i": ["N", 2]}, y, rank=3), i=TensorProto.INT64)
    assert not random(model, 10).feeds["i"].any()


def test_a_quantized_input_has_its_range() -> None:
    x = random(residual_net(), 20).feeds["x"]  # scale 0.05, zero point -5
    assert -6.2 < x.min() < -6.1 and 6.5 < x.max() < 6.7


@pytest.mark.filterwarnings("error")
def test_a_range_beyond_the_type_gives_no_warning() -> None:
    b = Builder(1)
    y = b.node("QuantizeLinear", "x", b.constant(np.float32(3e38)), b.constant(np.int8(0)))
    x = random(b.model({"x": ["N", 4]}, b.node("Cast", y, to=TensorProto.FLOAT), rank=2), 20).feeds["x"]
    assert np.isinf(x).any() and x.dtype == np.float32
