"""Networks whose samples may not share a batch: it is fixed to one sample, and results are those of each sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from flow.api.inputs import import_network, read_network
from flow.api.requests import CompressRequest
from flow.errors import FlowError
from flow.frontend import admit
from flow.frontend.entry import batch, load
from flow.frontend.entry.batch import fix_batch
from flow.onnxtools import runtime
from flow.onnxtools.graph import graph_inputs
from tests.helpers.nets import Builder

X = np.random.default_rng(0).normal(size=(6, 4, 8)).astype(np.float32)


def admitted(model: onnx.ModelProto) -> admit.Admitted:
    return admit.admit(load.from_memory(model), "net")


def batches(model: onnx.ModelProto) -> list[int | str]:
    return [
        dims[0].dim_value or dims[0].dim_param for v in graph_inputs(model) if (dims := v.type.tensor_type.shape.dim)
    ]


def linear(b: Builder, tensor: str) -> str:
    return b.node("MatMul", tensor, b.constant(b.rng.normal(size=(8, 8)).astype(np.float32)))


def attending_net() -> onnx.ModelProto:
    """What exporters call the batch is a set: every element is compared with the mean of all."""
    b = Builder(1)
    mean = b.node("ReduceMean", "x", axes=[0], keepdims=1)
    return b.model({"x": ["N", 4, 8]}, linear(b, b.node("Relu", b.node("Sub", "x", mean))), rank=3)


def one_sample_net() -> onnx.ModelProto:
    """The batch is declared open, and a Reshape has room for one sample."""
    b = Builder(2)
    flat = b.node("Reshape", linear(b, "x"), b.constant(np.array([1, 32], np.int64)))
    return b.model({"x": ["N", 4, 8]}, b.node("Relu", flat))


def turned_net() -> onnx.ModelProto:
    """The batch moves to axis 1, and one output has it there."""
    b = Builder(3)
    return b.model({"x": ["N", 4, 8]}, linear(b, b.node("Transpose", "x", perm=[1, 0, 2])), rank=3)


def alone(model: onnx.ModelProto) -> NDArray[Any]:
    return np.concatenate([next(iter(runtime.run(model, {"x": X[i : i + 1]}).values())) for i in range(len(X))])


def numbered_net() -> onnx.ModelProto:
    """What a sample gives depends on its place in the batch: detectors name the image of each box."""
    b = Builder(8)
    zeros = b.node("ReduceMax", b.node("Mul", "x", b.constant(np.float32(0))), axes=[1, 2])
    places = b.node("CumSum", b.node("Exp", zeros), b.constant(0))
    return b.model({"x": ["N", 4, 8]}, b.node("Mul", linear(b, "x"), places), rank=3)


@pytest.mark.parametrize(
    ("net", "reason"),
    [(attending_net, "in a batch, other samples change output"), (one_sample_net, "it does not run with more")],
)
def test_samples_are_computed_one_by_one_where_a_batch_is_no_batch(net: Any, reason: str, tmp_path: Any) -> None:
    model = net()
    found = admitted(model)
    assert batches(found.model) == [1]
    assert any(f"The batch is fixed to one sample: {reason}" in note for note in found.notes)
    request = CompressRequest.of(model=model, output=tmp_path / "out.onnx", calibration={"x": X}, bits=5)
    imported = import_network(read_network(request), {"x": X}, [])
    (output,) = imported.network.outputs
    assert imported.network.layers
    np.testing.assert_array_equal(
        runtime.predict_all(imported.source, X)[output].reshape(alone(model).shape), alone(model)
    )
    assert np.abs(runtime.predict(imported.network.model, X).reshape(alone(model).shape) - alone(model)).max() < 0.5


def test_a_sample_may_not_depend_on_its_place() -> None:
    assert batches(admitted(numbered_net()).model) == [1]


def test_a_batch_that_is_one_stays_open() -> None:
    assert batches(admitted(turned_net()).model) == ["N"]


def test_random_numbers_do_not_tell_of_a_batch() -> None:
    b = Builder(4)
    noisy = b.node("Add", linear(b, "x"), b.node("RandomNormalLike", "x"))
    assert batches(admitted(b.model({"x": ["N", 4, 8]}, noisy, rank=3)).model) == ["N"]


def test_an_input_of_one_sample_fixes_the_batch_of_all() -> None:
    b = Builder(5)
    model = b.model({"x": ["N", 4, 8], "state": [1, 4, 8]}, linear(b, b.node("Add", "x", "state")), rank=3)
    found = admitted(model)
    assert batches(found.model) == [1, 1]
    assert not found.notes


def test_a_batch_of_two_fixes_none() -> None:
    """Beside an open one: there is no sample to fix it to."""
    b = Builder(3)
    model = b.model({"x": ["N", 4], "s": [2, 4]}, b.node("Concat", "x", "s", axis=0), rank=2)
    assert fix_batch(model) is None and batches(model) == ["N", 2]


def test_the_given_network_may_not_mix_samples_either() -> None:
    """One scale for a whole batch: DynamicQuantizeLinear makes it of all its samples."""
    b = Builder(6)
    b.nodes.append(onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"], "dynamic"))
    weights = b.constant(b.rng.integers(-127, 128, (8, 8)).astype(np.int8))
    sums = b.node("Cast", b.node("MatMulInteger", "codes", weights, "zero"), to=onnx.TensorProto.FLOAT)
    found = admitted(b.model({"x": ["N", 4, 8]}, b.node("Mul", sums, "scale"), rank=3))
    assert found.given is not None
    assert (batches(found.given), batches(found.model)) == ([1], ["N"])


def test_samples_that_a_network_cannot_run_on_are_named_first() -> None:
    """An index beyond a table is no fault of the network."""
    b = Builder(7)
    table = b.constant(np.zeros((5, 8), np.float32))
    model = b.model({"x": ["N", 4]}, b.node("Gather", table, b.node("Cast", "x", to=onnx.TensorProto.INT64)), rank=3)
    with pytest.raises(FlowError, match="out of data bounds.*; give other samples, or mend the network"):
        runtime.predict(model, np.full((2, 4), 9, np.float32))


@pytest.mark.parametrize(("apart", "equal"), [(0.4, True), (2.0, False)])
def test_alone_a_sample_may_be_rounded_otherwise(apart: float, equal: bool) -> None:
    """Beside others it is equal to the bit."""
    first, second, third, fourth = (np.full((1, 4), value, np.float32) for value in (1, 2, 3, 4))
    pairs = [np.concatenate(pair) for pair in ((first, third), (first, fourth), (second, fourth))]
    alone = [each * np.float32(1 + apart * batch.EQUAL) for each in (first, fourth)]
    assert batch._is_apart(alone, pairs) == equal
    pairs[0][0, 0] += np.float32(1e-6)
    assert not batch._is_apart([first, fourth], pairs)
