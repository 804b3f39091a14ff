"""Preparation of float networks: constants and shapes folded, followers of products taken over, images on an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from flow.api.inspect import inspect
from flow.frontend.preparation.prepare import prepare
from flow.network.run import run_network
from flow.onnxtools import runtime
from tests.helpers.nets import Builder, samples
from tests.helpers.networks import quantized

Net = Callable[[Builder], str]


def real(b: Builder, *shape: int) -> str:
    return b.constant(b.rng.uniform(0.3, 1.5, shape).astype(np.float32))


def same(model: onnx.ModelProto, count: int = 3) -> onnx.ModelProto:
    """The prepared network, after its answers were compared with the network's."""
    prepared, feeds = prepare(model), samples(model, count)
    onnx.checker.check_model(prepared)
    wanted, got = (runtime.predict(each, feeds) for each in (model, prepared))
    assert np.allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    return prepared


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


PRODUCTS: dict[str, Net] = {
    "Conv": lambda b: b.node("Conv", "x", real(b, 6, 2, 3, 3), real(b, 6), group=2),
    "ConvTranspose": lambda b: b.node("ConvTranspose", "x", real(b, 4, 3, 3, 3), group=2),
    "Gemm": lambda b: b.node("Gemm", b.node("Flatten", "x"), real(b, 6, 100), real(b, 6), transB=1),
    "MatMul": lambda b: b.node("MatMul", b.node("Flatten", "x"), real(b, 100, 6)),
}


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(
    "follower", ["BatchNormalization", "Mul", "Div", "Add", "Sub", "from constant", "scalar", "several"]
)
def test_what_scales_and_shifts_channels_is_folded_into_the_product(product: str, follower: str) -> None:
    b = Builder(11)
    y = PRODUCTS[product](b)
    shape = (6, 1, 1) if product.startswith("Conv") else (1, 6)
    if follower == "BatchNormalization":
        y = b.node("BatchNormalization", y, *(real(b, 6) for _ in range(4)), epsilon=0.01)
    elif follower == "from constant":
        y = b.node("Sub", real(b, *shape), y)
    elif follower == "scalar":
        y = b.node("Mul", real(b), b.node("Add", y, real(b, 1)))
    elif follower == "several":
        y = b.node("Add", b.node("Mul", b.node("Sub", y, real(b, *shape)), real(b, *shape)), real(b, *shape))
    else:
        y = b.node(follower, y, real(b, *shape))
    prepared = same(b.model({"x": ["N", 4, 5, 5]}, b.node("Relu", y), rank=4 if product.startswith("Conv") else 2))
    kept = [op for op in operators(prepared) if op not in ("Flatten", "Relu")]
    assert kept in ([product], ["Gemm"], ["Conv"])


@pytest.mark.parametrize(
    "make",
    [
        lambda b, y: b.node("Add", y, real(b, 2, 1, 1, 1)),  # widens the batch
        lambda b, y: b.node("Add", y, real(b, 6, 3, 3)),  # one for each position
        lambda b, y: b.node("Mul", y, real(b, 3)),  # along the last axis
        lambda b, y: b.node("Div", real(b, 6, 1, 1), y),
        lambda b, y: b.node("Div", y, b.constant(np.zeros((6, 1, 1), np.float32))),
        lambda b, y: b.node("Add", b.node("Relu", y), b.node("Mul", y, real(b, 6, 1, 1))),  # y is read twice
    ],
)
def test_what_is_no_factor_of_a_channel_stays(make: Callable[[Builder, str], str]) -> None:
    b = Builder(12)
    y = b.node("Conv", "x", real(b, 6, 4, 3, 3))
    model = b.model({"x": [1, 4, 5, 5]}, make(b, y), rank=4)
    before, after = operators(model), operators(prepare(model))
    assert after == before
    feeds = samples(model, 1)
    wanted, got = (next(iter(runtime.run(each, feeds).values())) for each in (model, prepare(model)))
    assert np.array_equal(wanted, got, equal_nan=True)


@pytest.mark.parametrize("follower", ["Mul", "Div", "Sub", "from constant", "scalar", "several", "factor first"])
def test_a_linear_takes_over_what_scales_it_behind_its_bias(follower: str) -> None:
    """On tokens no operator has a bias: the Add stays. A scale of each channel, as LayerScale has it, is gone."""
    b = Builder(11)
    y = b.node("MatMul", "x", real(b, 5, 6))
    if follower == "factor first":
        y = b.node("Mul", y, real(b, 6))
    y = b.node("Add", real(b, 6), y) if follower == "Mul" else b.node("Add", y, real(b, 6))
    if follower == "from constant":
        y = b.node("Sub", real(b, 1, 1, 6), y)
    elif follower == "several":
        y = b.node("Add", b.node("Mul", real(b, 1, 6), y), real(b, 6))
    elif follower != "factor first":
        y = b.node("Mul" if follower == "scalar" else follower, y, real(b) if follower == "scalar" else real(b, 6))
    prepared = same(b.model({"x": ["N", 4, 5]}, b.node("Relu", y), rank=3))
    assert operators(prepared) == ["MatMul", "Add", "Relu"]
    product, add, _ = prepared.graph.node
    assert product.name.startswith("MatMul") and add.name.startswith("Add")


def test_a_linear_and_its_bias_stay_as_they_are() -> None:
    b = Builder(11)
    model = b.model({"x": ["N", 4, 5]}, b.node("Add", b.node("MatMul", "x", real(b, 5, 6)), real(b, 6)), rank=3)
    assert list(prepare(model).graph.node) == list(model.graph.node)


@pytest.mark.parametrize("op", ["Gemm", "Conv"])
def test_weights_that_products_share_stay_shared_behind_their_biases(op: str) -> None:
    b = Builder(14)
    weights = real(b, *((4, 4) if op == "Gemm" else (4, 4, 3, 3)))
    y = "x"
    for _ in range(2):
        y = b.node("MatMul" if op == "Gemm" else op, y, weights)
        y = b.node("Relu", b.node("Add", y, real(b, *((4,) if op == "Gemm" else (4, 1, 1)))))
    prepared = same(b.model({"x": ["N", 4] if op == "Gemm" else ["N", 4, 9, 9]}, y, rank=2 if op == "Gemm" else 4))
    products = [node for node in prepared.graph.node if node.op_type == op]
    assert [node.input[1] for node in products] == [weights] * 2
    assert len({node.input[2] for node in products}) == 2


def test_nodes_keep_their_names() -> None:
    b = Builder(13)
    y = b.node("HardSwish", b.node("Mul", b.node("Conv", "x", real(b, 6, 4, 3, 3)), real(b, 6, 1, 1)))
    model = b.model({"x": ["N", 4, 5, 5]}, y, rank=4)
    assert [node.name for node in same(model).graph.node] == ["Conv_0", "HardSwish_2"]


def test_a_pad_with_zeros_is_folded_into_the_convolution() -> None:
    b = Builder(14)
    pads = b.constant(np.array([0, 0, 1, 0, 0, 0, 2, 3]))
    y = b.node("Conv", b.node("Pad", "x", pads), real(b, 6, 4, 3, 3), pads=[1, 1, 0, 0])
    prepared = same(b.model({"x": ["N", 4, 5, 5]}, y, rank=4))
    assert operators(prepared) == ["Conv"]
    b = Builder(14)
    pads = b.constant(np.array([0, 0, 1, 0, 0, 0, 2, 3]))
    y = b.node("Conv", b.node("Pad", "x", pads, real(b)), real(b, 6, 4, 3, 3))
    assert operators(same(b.model({"x": ["N", 4, 5, 5]}, y, rank=4))) == ["Pad", "Conv"]


@pytest.mark.parametrize("least", [None, -1.0, 0.25])
def test_a_relu_is_folded_into_the_clip_behind_it(least: float | None) -> None:
    b = Builder(15)
    bound = "" if least is None else b.constant(np.float32(least))
    y = b.node("Clip", b.node("Relu", "x"), bound, b.constant(np.float32(1)))
    assert operators(same(b.model({"x": ["N", 4]}, y))) == ["Clip"]


# -------------------------------------------------------------------------------- constants and shapes


def test_constants_are_folded() -> None:
    b = Builder(16)
    weights = b.node("Transpose", b.node("Add", real(b, 5, 4), b.node("Constant", value_float=1.0)), perm=[1, 0])
    assert operators(same(b.model({"x": ["N", 4]}, b.node("MatMul", "x", weights)))) == ["MatMul"]


def test_random_numbers_and_what_grows_are_not_folded() -> None:
    b = Builder(17)
    noise = b.node("RandomNormalLike", real(b, 4), seed=1.0)
    large = b.node("Expand", b.constant(np.ones(1, np.float32)), b.constant(np.array([2048, 2048])))
    y = b.node("Add", b.node("Add", "x", noise), b.node("ReduceMax", large, keepdims=0))
    kept = operators(prepare(b.model({"x": ["N", 4]}, y)))
    assert (
        "RandomNormalLike" in kept
        and sum(len(t.raw_data) for t in prepare(b.model({"x": ["N", 4]}, y)).graph.initializer) < 2**20
    )


@pytest.mark.parametrize("last", [-1, 36])
def test_the_shape_of_a_flatten_is_folded_with_an_open_batch(last: int) -> None:
    """As older PyTorch exporters write x.view(x.size(0), -1)."""
    b = Builder(18)
    y = b.node("Conv", "x", real(b, 4, 3, 3, 3))
    batch = b.node(
        "Unsqueeze", b.node("Gather", b.node("Shape", y), b.constant(np.int64(0))), b.constant(np.array([0]))
    )
    y = b.node("Reshape", y, b.node("Concat", batch, b.constant(np.array([last])), axis=0))
    model = b.model({"x": ["N", 3, 5, 5]}, b.node("MatMul", y, real(b, 36, 5)))
    assert operators(same(model, 7)) == ["Conv", "Reshape", "MatMul"]
    assert inspect(model).array_share == 1


def test_rows_of_an_open_batch_are_folded() -> None:
    """As TensorFlow writes a Dense layer on [N, 7, 16]: the product of all axes but the last."""
    b = Builder(19)
    shape = b.node("Shape", "x")
    rows = b.node(
        "ReduceProd", b.node("Slice", shape, b.constant(np.array([0])), b.constant(np.array([2]))), keepdims=1
    )
    flat = b.node("Reshape", "x", b.node("Concat", rows, b.constant(np.array([16])), axis=0))
    y = b.node("MatMul", flat, real(b, 16, 8))
    head = b.node("Slice", shape, b.constant(np.array([0])), b.constant(np.array([2])))
    model = b.model(
        {"x": ["N", 7, 16]}, b.node("Reshape", y, b.node("Concat", head, b.constant(np.array([8])), axis=0)), 3
    )
    assert operators(same(model, 5)) == ["Reshape", "MatMul", "Reshape"]
    assert inspect(model).array_share == 1


def test_what_depends_on_the_batch_otherwise_stays() -> None:
    b = Builder(20)
    size = b.node("Slice", b.node("Shape", "x"), b.constant(np.array([0])), b.constant(np.array([1])))
    ones = b.node("ConstantOfShape", b.node("Concat", size, b.constant(np.array([4])), axis=0))
    assert "ConstantOfShape" in operators(same(b.model({"x": ["N", 4]}, b.node("Add", "x", ones)), 5))


@pytest.mark.parametrize("condition", [True, False])
def test_a_decided_condition_is_inlined(condition: bool) -> None:
    branches = {}
    for branch, op in (("then_branch", "Relu"), ("else_branch", "Neg")):
        nodes = [helper.make_node(op, ["x"], ["t0"]), helper.make_node("Sigmoid", ["t0"], ["inner"])]
        result = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        branches[branch] = helper.make_graph(nodes, branch, [], [result])
    b = Builder(21)
    y = b.node("If", b.constant(np.array(condition)), **branches)
    assert operators(same(b.model({"x": ["N", 4]}, b.node("Tanh", y)))) == [
        "Relu" if condition else "Neg", "Sigmoid", "Tanh",
    ]  # fmt: skip


def test_identities_and_dropout_are_left_out() -> None:
    b = Builder(22)
    y = b.node("Identity", b.node("Dropout", b.node("Cast", "x", to=TensorProto.FLOAT), b.constant(np.float32(0.5))))
    assert operators(same(b.model({"x": ["N", 4]}, b.node("Relu", y)))) == ["Relu"]


# -------------------------------------------------------------------------------- images along an axis


@pytest.mark.parametrize(("batch", "declared"), [(1, False), (1, True), ("N", False)])
@pytest.mark.parametrize("attributes", [{}, {"pads": [1, 2, 0, 1], "strides": [2, 1]}, {"auto_pad": "SAME_UPPER"}])
def test_a_convolution_over_the_frames_of_a_sample_runs_on_the_array(
    batch: Any, declared: bool, attributes: dict[str, Any]
) -> None:
    """[N, frames, 3, 6, 6] as [N * frames, 3, 6, 6]: 2-D convolutions of several images a sample.

    `declared`: the model has the shapes of all tensors, also of those that get another one.
    """
    b = Builder(23)
    y = b.node("Reshape", "x", b.constant(np.array([-1, 3, 6, 6])))
    y = b.node("Relu", b.node("Conv", y, real(b, 4, 3, 3, 2), real(b, 4), **attributes))
    y = b.node("Conv", y, real(b, 2, 2, 1, 1), group=2)
    y = b.node("ReduceMean", b.node("Reshape", y, b.constant(np.array([-1, 5, 2, 0]))), axes=[1])
    b.nodes[-2].input[1] = b.constant(np.array([-1, 5, 2]))
    y = b.nodes[-1].output[0]
    model = b.model({"x": [batch, 5, 3, 6, 6]}, y)
    if declared:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        assert model.graph.value_info
    prepared, feeds = prepare(model), samples(model, 4)
    step = 1 if batch == 1 else 4
    for start in range(0, 4, step):
        part = {"x": feeds["x"][start : start + step]}
        wanted, got = (next(iter(runtime.run(each, part).values())) for each in (model, prepared))
        assert np.allclose(wanted, got, rtol=1e-4, atol=1e-4)
    found = inspect(model)
    assert [node.target for node in found.nodes if node.op == "Conv"] == ["array", "array"]
    if declared:
        ran = run_network(quantized(model), {"x": feeds["x"][:1]})
        assert np.corrcoef(ran[y].reshape(-1), runtime.run(model, {"x": feeds["x"][:1]})[y].reshape(-1))[0, 1] > 0.95


@pytest.mark.parametrize("terms", [1, 2, 4])
def test_a_sum_is_additions(terms: int) -> None:
    """One after the other, as ONNX Runtime adds them; what is the same for every sample goes into the product."""
    b = Builder()
    product = b.node("MatMul", "x", real(b, 4, 6))
    found = [product, real(b, 6), b.node("Relu", product), b.node("Tanh", product)][:terms]
    total = b.node("Sum", *found)
    b.nodes[-1].name = "all"
    prepared = same(b.model({"x": ["N", 4]}, b.node("Sigmoid", total)))
    assert "Sum" not in operators(prepared)
    assert operators(prepared).count("Add") == {1: 0, 2: 0, 4: 3}[terms]
    assert terms != 4 or [node.name for node in prepared.graph.node if node.op_type == "Add"][-1] == "all"


def test_a_pad_is_folded_into_a_convolution_that_pads_nothing() -> None:
    b = Builder(14)
    pads = b.constant(np.array([0, 0, 1, 0, 0, 0, 2, 3]))
    y = b.node("Conv", b.node("Pad", "x", pads), real(b, 6, 4, 3, 3), auto_pad="VALID")
    assert operators(same(b.model({"x": ["N", 4, 5, 5]}, y, rank=4))) == ["Conv"]


@pytest.mark.parametrize("shape", [(), (6,), (1, 6)])
def test_factors_of_a_gemm_are_folded(shape: tuple[int, ...]) -> None:
    b = Builder(16)
    model = b.model({"x": ["N", 4]}, b.node("Gemm", "x", real(b, 4, 6), real(b, *shape), alpha=0.5, beta=2.0))
    (node,) = same(model).graph.node
    assert not {"alpha", "beta"} & {entry.name for entry in node.attribute}
