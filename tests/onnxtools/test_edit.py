"""Subgraphs as models of their own."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from flow.onnxtools import runtime
from flow.onnxtools.edit import between
from flow.onnxtools.graph import Graph
from tests.helpers.nets import Builder


def test_a_node_that_makes_an_input_of_the_part_beside_what_the_part_needs() -> None:
    """The part takes one output of a Split, and makes the other one itself."""
    b = Builder(1)
    b.nodes.append(helper.make_node("Split", ["x", b.constant(np.array([1, 2]))], ["low", "high"], "split", axis=1))
    model = b.model({"x": ["N", 3]}, b.node("Add", "low", b.node("ReduceSum", "high", b.constant(np.array([1])))))
    low = helper.make_tensor_value_info("low", TensorProto.FLOAT, ["N", 1])
    part = between(Graph.of(model), [model.graph.input[0], low], model.graph.output[0])
    onnx.checker.check_model(part)
    x, other = np.array([[1, 2, 3]], np.float32), np.array([[10]], np.float32)
    assert runtime.run(part, {"x": x, "low": other})[model.graph.output[0].name] == 15
    assert [name for node in model.graph.node for name in node.output][:2] == ["low", "high"]
