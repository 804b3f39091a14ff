"""Linear models of scikit-learn are a layer of the array; labels, probabilities and a second class stay the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from flow.frontend import quantize
from flow.frontend.entry import checks
from flow.frontend.int8 import cut
from flow.frontend.preparation.prepare import prepare
from flow.onnxtools import runtime

FEATURES = 5
X = np.random.default_rng(0).normal(size=(40, FEATURES)).astype(np.float32)


def model_of(
    op: str, rows: int, kind: int = TensorProto.FLOAT, scaled: bool = False, **attributes: Any
) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    coefficients = rng.normal(size=rows * FEATURES).astype(np.float32).tolist()
    intercepts = rng.normal(size=rows).astype(np.float32).tolist()
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", None])]
    if op == "LinearClassifier":
        text = "classlabels_strings" in attributes
        label = TensorProto.STRING if text else TensorProto.INT64
        outputs.insert(0, helper.make_tensor_value_info("label", label, ["N"]))
    names = [value.name for value in outputs]
    nodes = [
        helper.make_node("Scaler", ["x"], ["scaled"], domain="ai.onnx.ml", offset=[0.1], scale=[2.0]),
        helper.make_node(op, ["scaled" if scaled else "x"], names, "model", domain="ai.onnx.ml",
                         coefficients=coefficients, intercepts=intercepts, **attributes),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes[0 if scaled else 1 :], "net", [helper.make_tensor_value_info("x", kind, ["N", FEATURES])], outputs
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


CASES = {
    "classes": model_of("LinearClassifier", 3, classlabels_ints=[0, 1, 2], post_transform="SOFTMAX"),
    "text": model_of("LinearClassifier", 3, classlabels_strings=["a", "b", "c"], post_transform="LOGISTIC"),
    "one row": model_of("LinearClassifier", 1, classlabels_ints=[0, 1], post_transform="LOGISTIC"),
    "two rows": model_of("LinearClassifier", 2, classlabels_ints=[0, 1], multi_class=1, post_transform="NONE"),
    "regressor": model_of("LinearRegressor", 2, targets=2),
    "behind a scaler": model_of("LinearClassifier", 3, scaled=True, classlabels_ints=[0, 1, 2]),
    "whole numbers": model_of("LinearClassifier", 2, TensorProto.INT64, classlabels_ints=[4, 7]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_linear_model_is_a_layer(case: str) -> None:
    model = CASES[case]
    checks.check(model, "net")
    x = (10 * X).astype(np.int64) if case == "whole numbers" else X
    wanted, got = runtime.run(model, {"x": x}), runtime.run(prepare(model), {"x": x})
    assert np.allclose(wanted["scores"], got["scores"], atol=1e-5)
    quantized = quantize.quantize(model, x).model
    (layer,) = cut.partition(quantized, "net").layers
    assert layer.op == "MatMul" and layer.name == "model/product"
    found = runtime.run(quantized, {"x": x})
    assert np.abs(found["scores"] - wanted["scores"]).max() < 0.05 * np.abs(wanted["scores"]).max()
    if "label" in wanted:
        assert list(got["label"]) == list(wanted["label"])
        assert np.mean(found["label"] == wanted["label"]) > 0.9


def test_coefficients_that_do_not_fit_stay_with_onnx_runtime() -> None:
    model = model_of("LinearRegressor", 2, targets=2)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    assert [node.op_type for node in prepare(model).graph.node].count("LinearRegressor") == 1
