"""A decoder with a cache of keys and values, in operators of ONNX Runtime's own, as its model builders write it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.helpers.nets import Builder

MICROSOFT = "com.microsoft"
WIDTH, HEADS, CACHED, SIZE, VOCABULARY = 12, 2, 1, 16, 20  # two heads of 16 values share one of keys
TOKENS, PAST = 4, 3


def decoder() -> onnx.ModelProto:
    """Tokens [N, tokens], a mask [N, past + tokens] and past keys and values to logits and present ones.

    SimplifiedLayerNormalization is in the standard domain; GroupQueryAttention takes several tokens of one sample only.
    """
    b = Builder(1)
    b.nodes += [
        helper.make_node("ReduceSum", ["mask", b.constant(np.array([1]))], ["seen"], "sum"),
        helper.make_node("Sub", ["seen", b.constant(np.array([1]))], ["last"], "last"),
        helper.make_node("Cast", ["last"], ["lengths"], "lengths", to=TensorProto.INT32),
        helper.make_node("Shape", ["mask"], ["sizes"], "sizes"),
        helper.make_node("Gather", ["sizes", b.constant(np.int64(1))], ["longest"], "longest"),
        helper.make_node("Cast", ["longest"], ["total"], "total", to=TensorProto.INT32),
    ]
    x = b.node("Gather", _drawn(b, VOCABULARY, WIDTH), "tokens")
    y = b.node("SimplifiedLayerNormalization", x, b.constant(np.ones(WIDTH, np.float32)), axis=-1, epsilon=1e-6)
    q, k, v = (b.node("MatMul", y, _drawn(b, WIDTH, heads * SIZE)) for heads in (HEADS, CACHED, CACHED))
    angles = np.arange(16)[:, None] / 100 ** (np.arange(0, SIZE, 2) / SIZE)
    tables = [b.constant(table.astype(np.float32)) for table in (np.cos(angles), np.sin(angles))]
    b.nodes.append(helper.make_node(
        "GroupQueryAttention", [q, k, v, "past.key", "past.value", "lengths", "total", *tables],
        ["mixed", "present.key", "present.value"], "attention", domain=MICROSOFT, num_heads=HEADS,
        kv_num_heads=CACHED, do_rotary=1,
    ))  # fmt: skip
    z = b.node("MatMul", "mixed", _drawn(b, HEADS * SIZE, WIDTH))
    b.nodes.append(helper.make_node(
        "SkipSimplifiedLayerNormalization", [x, z, b.constant(np.ones(WIDTH, np.float32))],
        ["normed", "", "", "residual"], "skip", domain=MICROSOFT, epsilon=1e-6,
    ))  # fmt: skip
    hidden = b.node("MatMul", "normed", _drawn(b, WIDTH, 16))
    down = b.node("MatMul", b.node("Mul", hidden, b.node("Sigmoid", hidden)), _drawn(b, 16, WIDTH))
    logits = b.node("MatMul", b.node("Add", "residual", down), _drawn(b, WIDTH, VOCABULARY))
    cache = ["N", CACHED, "past", SIZE]
    model = b.model({"tokens": ["N", "length"], "mask": ["N", "total"], "past.key": cache, "past.value": cache},
                    logits, rank=3)  # fmt: skip
    for value in model.graph.input[:2]:
        value.type.tensor_type.elem_type = TensorProto.INT64
    for name in ("present.key", "present.value"):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4))
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return model


def feeds(count: int, seed: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    past = [rng.normal(size=(count, CACHED, PAST, SIZE)).astype(np.float32) for _ in range(2)]
    return {
        "tokens": rng.integers(0, VOCABULARY, (count, TOKENS)), "mask": np.ones((count, PAST + TOKENS), np.int64),
        "past.key": past[0], "past.value": past[1],
    }  # fmt: skip


def _drawn(b: Builder, *shape: int) -> str:
    return b.constant(b.rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32))
