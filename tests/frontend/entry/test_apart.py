"""What operators tell of the samples of a batch: apart only where runs agree, and not where they mix them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from flow.frontend.entry import batch
from flow.frontend.entry.apart import computes_apart
from flow.onnxtools import runtime
from tests.helpers.nets import Builder
from tests.helpers.networks import KINDS


def ints(b: Builder, *values: int) -> str:
    return b.constant(np.array(values, np.int64))


def real(b: Builder, *shape: int) -> str:
    return b.constant(b.rng.normal(size=shape).astype(np.float32))


def net(make: Callable[[Builder], str], shape: tuple[int, ...] = (4, 6), opset: int = 17) -> onnx.ModelProto:
    """`make` adds nodes that read "x", [N, *shape]."""
    b = Builder(1)
    output = make(b)
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])]
    graph = helper.make_graph(b.nodes, "net", values, [onnx.ValueInfoProto(name=output)], b.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def node(op: str, *further: Callable[[Builder], str], **attributes: Any) -> Callable[[Builder], str]:
    return lambda b: b.node(op, "x", *(each(b) for each in further), **attributes)


def constant(*shape: int) -> Callable[[Builder], str]:
    return lambda b: real(b, *shape)


def numbers(*values: int) -> Callable[[Builder], str]:
    return lambda b: ints(b, *values)


APART: dict[str, onnx.ModelProto] = {
    "add": net(node("Add", constant(4, 6))),
    "add one row": net(node("Add", constant(1, 4, 6))),
    "itself": net(lambda b: b.node("Mul", "x", b.node("Sigmoid", "x"))),
    "softmax": net(node("Softmax", axis=-1)),
    "softmax of opset 11": net(node("Softmax"), opset=11),
    "mean": net(node("ReduceMean", axes=[1, -1])),
    "sum": net(node("ReduceSum", numbers(2))),
    "squeeze": net(node("Squeeze", numbers(1)), (1, 6)),
    "unsqueeze": net(node("Unsqueeze", numbers(1))),
    "concat": net(lambda b: b.node("Concat", "x", b.node("Relu", "x"), axis=-1)),
    "flatten": net(node("Flatten")),
    "gemm": net(lambda b: b.node("Gemm", b.node("Flatten", "x"), real(b, 24, 3), real(b, 3))),
    "matmul": net(node("MatMul", constant(6, 2))),
    "product": net(lambda b: b.node("MatMul", "x", b.node("Transpose", "x", perm=[0, 2, 1]))),
    "pad": net(node("Pad", numbers(0, 1, 0, 0, 0, 2))),
    "reshape, 0": net(node("Reshape", numbers(0, 3, 8))),
    "reshape, -1": net(node("Reshape", numbers(-1, 24))),
    "resize": net(lambda b: b.node("Resize", "x", "", b.constant(np.array([1, 2, 1], np.float32)))),
    "slice": net(node("Slice", numbers(0, 1), numbers(2**63 - 1, 3), numbers(0, 1))),
    "gather": net(node("Gather", numbers(2, 0), axis=1)),
    "convolution": net(node("Conv", constant(3, 4, 3), pads=[1, 1])),
    "quantized": net(
        lambda b: b.node("QuantizeLinear", "x", b.constant(np.float32(0.1)), b.constant(np.int8(3))),
    ),
    **{kind: make() for kind, make in KINDS.items()},
}
MIXED: dict[str, onnx.ModelProto] = {
    "add along the batch": net(node("Add", constant(2, 4, 6))),
    "add of fewer axes": net(lambda b: b.node("Add", "x", b.node("ReduceSum", "x", ints(b, 2), keepdims=0))),
    "softmax": net(node("Softmax", axis=0)),
    "mean": net(node("ReduceMean", axes=[0])),
    "mean of all": net(node("ReduceMean")),
    "concat": net(lambda b: b.node("Concat", "x", "x", axis=0)),
    "flatten": net(node("Flatten", axis=0)),
    "matmul": net(lambda b: b.node("MatMul", real(b, 4, 4), "x")),
    "product": net(lambda b: b.node("MatMul", b.node("Flatten", "x"), b.node("Transpose", b.node("Flatten", "x")))),
    "product of two axes": net(lambda b: b.node("MatMul", "x", b.node("Relu", "x")), (1,)),
    "pad": net(node("Pad", numbers(1, 0, 0, 0, 0, 0))),
    "reshape": net(node("Reshape", numbers(4, -1))),
    "reshape, -1": net(node("Reshape", numbers(-1, 48))),
    "slice": net(node("Slice", numbers(0), numbers(1), numbers(0))),
    "slice of the rest": net(node("Slice", numbers(1), numbers(2**63 - 1), numbers(0))),
    "slice backwards": net(node("Slice", numbers(-1), numbers(-(2**31)), numbers(0), numbers(-1))),
    "gather": net(node("Gather", numbers(0, 0))),
    "transpose": net(node("Transpose")),
    "squeeze": net(node("Squeeze"), (1, 6)),
    "shape": net(lambda b: b.node("Mul", "x", b.node("Cast", b.node("Shape", "x", end=1), to=1))),
    "cumulated": net(node("CumSum", numbers(0))),
}


@pytest.mark.parametrize("kind", APART)
def test_what_operators_tell_is_what_runs_show(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = APART[kind]
    assert computes_apart(model) and batch._why_alone(model) is None
    monkeypatch.setattr(runtime, "session", lambda *_: pytest.fail("it ran"))
    assert batch.fix_batch(model) is None


@pytest.mark.parametrize("kind", MIXED)
def test_what_mixes_samples_is_not_told_apart(kind: str) -> None:
    assert not computes_apart(MIXED[kind])
