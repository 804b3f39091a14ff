"""Random numbers: the same in every session, run and batch; a network that draws them is compared as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import flow
from flow.onnxtools import runtime
from flow.onnxtools.draws import drawn_once
from tests.helpers.nets import Builder

X = np.random.default_rng(0).uniform(0.2, 0.8, (3, 60, 70)).astype(np.float32)


def drawing(op: str, opset: int = 17, **attributes: Any) -> onnx.ModelProto:
    b = Builder(1)
    drawn = b.node(op, *(["x"] if op.endswith("Like") or op == "Bernoulli" else []), **attributes)
    return b.model({"x": ["N", 60, 70]}, b.node("Add", "x", drawn), rank=3, opset=opset)


@pytest.mark.parametrize(
    ("op", "attributes", "mean", "deviation"),
    [
        ("RandomNormalLike", {"mean": 2.0, "scale": 3.0}, 2, 3),
        ("RandomNormal", {"shape": [60, 70], "scale": 0.5}, 0, 0.5),
        ("RandomUniformLike", {"low": 1.0, "high": 3.0, "dtype": TensorProto.FLOAT}, 2, 2 / 12**0.5),
        ("RandomUniform", {"shape": [60, 70], "seed": 3.0}, 0.5, 1 / 12**0.5),
        ("Bernoulli", {}, 0.5, 0.5),
    ],
)
@pytest.mark.parametrize("opset", [11, 14, 17])
def test_every_run_draws_the_same(
    op: str, attributes: dict[str, Any], mean: float, deviation: float, opset: int
) -> None:
    if op == "Bernoulli" and opset < 15:
        pytest.skip("Bernoulli came with opset 15")
    model = drawing(op, opset, **attributes)
    before = model.SerializeToString()
    session, (name,) = runtime.session(model), [value.name for value in model.graph.output]
    first = runtime.run(session, {"x": X})[name]
    assert np.array_equal(runtime.run(session, {"x": X})[name], first)
    assert np.array_equal(runtime.run(runtime.session(model), {"x": X[1:2]})[name], first[1:2])
    drawn = first - X
    assert drawn.mean() == pytest.approx(mean, abs=0.05 * deviation)
    assert drawn.std() == pytest.approx(deviation, rel=0.05)
    assert model.SerializeToString() == before


def test_every_node_draws_other_numbers() -> None:
    b = Builder(1)
    both = [b.node("RandomNormalLike", "x") for _ in range(2)]
    model = b.model({"x": ["N", 60, 70]}, b.node("Sub", *both), rank=3)
    assert runtime.predict(model, {"x": X}).std() == pytest.approx(2**0.5, rel=0.05)


def test_what_draws_nothing_stays_as_it_is() -> None:
    b = Builder(1)
    model = b.model({"x": ["N", 4]}, b.node("Relu", "x"))
    assert drawn_once(model) is model


def test_an_output_of_random_numbers_is_compared(tmp_path: Path) -> None:
    """It had -1 dB, and its error hid that of the other output from the budget."""
    b = Builder(2)

    def layer(tensor: str, inputs: int, outputs: int) -> str:
        weights = b.constant(np.asarray(b.rng.normal(0, 0.5, (inputs, outputs)), np.float32))
        return b.node("MatMul", tensor, weights)

    mean = layer(b.node("Relu", layer("x", 20, 16)), 16, 8)
    made = layer(b.node("Add", mean, b.node("RandomNormalLike", mean)), 8, 10)
    model = b.model({"x": ["N", 20]}, made)
    model.graph.output.append(onnx.helper.make_tensor_value_info(mean, TensorProto.FLOAT, ["N", 8]))
    onnx.save(model, str(tmp_path / "net.onnx"))
    samples = b.rng.normal(0, 1, (48, 20)).astype(np.float32)
    report = flow.compress(tmp_path / "net.onnx", tmp_path / "out.onnx", calibration={"x": samples})
    found = report.summary.fidelity
    assert found is not None and min(output.sqnr or 0 for output in found.outputs) > 30
    assert sum("draw them" in note for note in report.notes) == 1
    written = onnx.load(str(tmp_path / "out.onnx"))
    assert [node.op_type for node in written.graph.node].count("RandomNormalLike") == 1
