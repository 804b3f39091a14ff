"""Subgraphs as models of their own."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flow.onnxtools import runtime
from flow.onnxtools.edit import between, constants_to_initializers, rename_reads
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


def test_branches_that_hand_a_tensor_on_read_the_other_one() -> None:
    """Their outputs keep names of their own; other outputs stay."""
    b = Builder(1)
    value = helper.make_tensor_value_info
    on, made = value("seen", TensorProto.FLOAT, None), value("made", TensorProto.FLOAT, None)
    branches = {
        "then_branch": helper.make_graph([], "then", [], [on]),
        "else_branch": helper.make_graph([helper.make_node("Neg", ["seen"], ["made"])], "else", [], [made]),
    }
    seen, other = b.node("Abs", "x"), b.node("Identity", "x")
    b.nodes[-2].output[0] = "seen"
    asked = b.node("Cast", b.node("ReduceSum", "x", keepdims=0), to=TensorProto.BOOL)
    model = b.model({"x": [3]}, b.node("If", asked, **branches), rank=1)
    rename_reads(model.graph, "seen", other)
    onnx.checker.check_model(model, full_check=True)
    for x in ([1, -2, 3], [1, -2, 1]):  # the sum of the second one is 0
        got = runtime.run(model, {"x": np.array(x, np.float32)})[model.graph.output[0].name]
        assert got.tolist() == (x if sum(x) else [-each for each in x])
    assert seen != other


def test_constants_of_every_form_are_initializers() -> None:
    b = Builder(1)
    tensor = numpy_helper.from_array(np.array([[1, 2]], np.int8))
    given = {"value": tensor, "value_float": 0.5, "value_floats": [1.5, 2], "value_int": 3, "value_ints": [4, 5],
             "value_string": "text"}  # fmt: skip
    made = {form: b.node("Constant", **{form: value}) for form, value in given.items()}
    model = b.model({"x": [3]}, b.node("Relu", "x"), rank=1)
    constants_to_initializers(model)
    found = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    assert [node.op_type for node in model.graph.node] == ["Constant", "Relu"]
    assert {form: found[name].tolist() for form, name in made.items() if name in found} == {
        "value": [[1, 2]], "value_float": 0.5, "value_floats": [1.5, 2], "value_int": 3, "value_ints": [4, 5],
    }  # fmt: skip
    kinds = [found[made[form]].dtype for form in ("value", "value_float", "value_floats", "value_int", "value_ints")]
    assert kinds == [np.int8, np.float32, np.float32, np.int64, np.int64]
