"""Older operator sets and other float types become opset 13 or later and float32, and stay the same network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.api.compress import compress
from flow.errors import FlowError
from flow.frontend.preparation.prepare import prepare
from flow.frontend.preparation.upgrade import in_float32, upgraded
from flow.onnxtools import runtime
from flow.onnxtools.graph import opset
from tests.helpers.nets import Builder, samples

OLD: list[tuple[int, str, dict[str, Any], list[Any]]] = [
    (7, "Upsample", {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "linear"}, []),
    (9, "Upsample", {"mode": "linear"}, [np.array([1, 1, 2, 2], np.float32)]),
    (10, "Resize", {"mode": "linear"}, [np.array([1, 1, 1.5, 1.5], np.float32)]),
    (10, "Resize", {}, [np.array([1, 1, 1.5, 1.5], np.float32)]),
    (10, "ThresholdedRelu", {"alpha": 0.3}, []),
    (6, "Clip", {"min": -0.5, "max": 0.5}, []),
    (8, "Pad", {"pads": [0, 0, 1, 1, 0, 0, 0, 2], "value": 1.5}, []),
    (9, "ReduceSum", {"axes": [2, 3]}, []),
    (11, "Softmax", {"axis": 2}, []),
    (9, "Slice", {"starts": [1], "ends": [3], "axes": [2]}, []),
]


@pytest.mark.parametrize(("version", "op", "attributes", "constants"), OLD, ids=lambda value: str(value)[:16])
def test_an_old_operator_means_the_same(
    version: int, op: str, attributes: dict[str, Any], constants: list[Any]
) -> None:
    b = Builder(1)
    made = b.node(op, "x", *map(b.constant, constants), **attributes)
    made = b.node("Abs", made)  # the converter renames what is no output
    model = b.model({"x": [1, 4, 6, 5]}, made, 4, version)
    new = upgraded(model)
    assert opset(new) >= 13
    feeds = samples(model, 1)
    assert np.allclose(runtime.predict(new, feeds), runtime.predict(model, feeds), rtol=1e-5, atol=1e-6)


def test_a_conversion_that_changes_the_network_is_refused() -> None:
    """Up to opset 12 Hardmax takes all axes from `axis` on as one; ONNX's converter forgets that."""
    b = Builder(1)
    model = b.model({"x": [1, 4, 6, 5]}, b.node("Hardmax", "x", axis=1), 4, 11)
    with pytest.raises(FlowError, match="of opset 11 becomes another one .*output 't0' differs"):
        upgraded(model)


@pytest.mark.parametrize("version", [7, 9, 10, 12])
def test_a_network_of_an_old_opset_is_compressed(version: int, tmp_path: Path) -> None:
    b = Builder(2)
    normal = [b.constant(b.rng.uniform(0.5, 1.5, 4).astype(np.float32)) for _ in range(4)]
    weights = b.constant(b.rng.normal(size=(4, 3, 3, 3)).astype(np.float32))
    y = b.node("Relu", b.node("BatchNormalization", b.node("Conv", "x", weights, pads=[1] * 4), *normal))
    if version < 10:
        y = b.node("Upsample", y, b.constant(np.array([1, 1, 2, 2], np.float32))) if version > 8 else b.node(
            "Upsample", y, scales=[1.0, 1.0, 2.0, 2.0]
        )  # fmt: skip
    size = 4 * 36 * (4 if version < 10 else 1)
    y = b.node("Reshape", y, b.constant(np.array([-1, size])))
    bias = b.constant(np.ones(5, np.float32))
    y = b.node("Gemm", y, b.constant(b.rng.normal(size=(size, 5)).astype(np.float32)), bias)
    model = b.model({"x": ["N", 3, 6, 6]}, y, 2, version)
    report = compress(model, tmp_path / "o.onnx", calibration=samples(model, 9))
    assert [layer.op for layer in report.layers] == ["Conv", "Gemm"]
    assert min(output.sqnr or 0 for output in report.summary.fidelity.outputs) > 25


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_other_float_types_run_on_the_array(kind: int, tmp_path: Path) -> None:
    """All tensors of a network of float64 or float16, inputs and outputs too."""
    numpy_kind = helper.tensor_dtype_to_np_dtype(kind)
    b = Builder(3)
    sizes = [(8, 6), (6,), (6, 5)]
    first, bias, second = (b.constant(b.rng.normal(size=size).astype(numpy_kind)) for size in sizes)
    model = b.model({"x": ["N", 8]}, b.node("MatMul", b.node("Relu", b.node("Gemm", "x", first, bias)), second))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = kind
    x = b.rng.normal(size=(9, 8)).astype(numpy_kind)
    report = compress(model, tmp_path / "o.onnx", calibration=x)
    assert [layer.op for layer in report.layers] == ["Gemm", "MatMul"]
    assert min(output.sqnr or 0 for output in report.summary.fidelity.outputs) > 25
    pruned = onnx.load(str(tmp_path / "o.onnx"))
    assert [value.type.tensor_type.elem_type for value in (*pruned.graph.input, *pruned.graph.output)] == [kind, kind]


def test_a_network_of_16_bit_floats_and_an_old_opset() -> None:
    """Clip of opset 9 has its bounds as attributes; ONNX's converter makes float32 constants of them."""
    b = Builder(4)
    weights = b.constant(b.rng.normal(size=(8, 6)).astype(np.float16))
    model = b.model({"x": ["N", 8]}, b.node("Clip", b.node("MatMul", "x", weights), min=-1.0, max=1.0), opset=9)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    feeds = {"x": b.rng.normal(size=(3, 8)).astype(np.float16)}
    wanted, got = (runtime.predict(each, feeds) for each in (model, prepare(model)))
    assert got.dtype == np.float16 and np.allclose(wanted, got, atol=0.01)


def test_casts_and_constants_of_subgraphs_become_float32() -> None:
    branches = {}
    for branch, factor in (("then_branch", 2.0), ("else_branch", 3.0)):
        value = numpy_helper.from_array(np.array(factor), "factor")
        nodes = [helper.make_node("Mul", ["wide", "factor"], ["scaled"])]
        result = helper.make_tensor_value_info("scaled", TensorProto.DOUBLE, None)
        branches[branch] = helper.make_graph(nodes, branch, [], [result], [value])
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("If", ["which"], ["y"], **branches),
    ]
    values = [helper.make_tensor_value_info("x", 1, ["N", 4]), helper.make_tensor_value_info("which", 9, [])]
    graph = helper.make_graph(nodes, "net", values, [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    before = model.SerializeToString()
    narrow = in_float32(model)
    assert model.SerializeToString() == before
    for which in (True, False):
        feeds = {"x": np.ones((1, 4), np.float32), "which": np.array(which)}
        wanted, got = (next(iter(runtime.run(each, feeds).values())) for each in (model, narrow))
        assert got.dtype == np.float64 and np.array_equal(wanted, got)
    assert TensorProto.DOUBLE not in {n.attribute[0].i for n in prepare(narrow).graph.node[:-1] if n.op_type == "Cast"}
