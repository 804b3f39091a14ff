"""Element-wise functions as tables: equal to ONNX Runtime for every code, fused, and refused where they are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.hardware.config import ArrayConfig
from flow.network.model import HostSegment, Quantization
from flow.onnxtools import runtime
from flow.onnxtools.graph import Graph
from flow.scheduling.onchip import post
from flow.scheduling.onchip.maps import Held, OffChipError
from flow.scheduling.onchip.nodes import post_operations
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.tables import table_of
from tests.helpers.networks import on_chip


class Codes:
    """Nodes on the 8-bit tensors "x" and "z", int8 [1, *shape]: each method returns the name of what it makes."""

    def __init__(self, seed: int = 0, shape: tuple[int, int, int] = (2, 4, 5)) -> None:
        self.rng, self.nodes, self.constants = np.random.default_rng(seed), list[Any](), list[Any]()
        self.shape = shape
        self.scales: dict[str, Quantization] = {}
        for name in ("x", "z"):
            self.scale(name)

    def constant(self, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), f"c{len(self.constants)}"))
        return str(self.constants[-1].name)

    def scale(self, name: str) -> None:
        drawn = np.float32(self.rng.uniform(0.01, 0.05))
        self.scales[name] = Quantization(drawn, int(self.rng.integers(-40, 40)), False)

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def pair(self, name: str) -> list[str]:
        given = self.scales[name]
        return [self.constant(given.scale), self.constant(np.int8(given.zero_point))]

    def real(self, name: str) -> str:
        return self.node("DequantizeLinear", name, *self.pair(name))

    def codes(self, real: str) -> str:
        name = f"{real}_codes"
        self.scale(name)
        self.nodes.append(helper.make_node("QuantizeLinear", [real, *self.pair(name)], [name], name))
        return name

    def segment(self, *outputs: str, opset: int = 20) -> HostSegment:
        shape = [1, *self.shape]
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT8, shape) for name in ("x", "z")]
        made = [helper.make_tensor_value_info(name, TensorProto.INT8, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "part", inputs, made, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        return HostSegment("part", model, ("x", "z"), outputs, tuple(node.op_type for node in self.nodes))

    def maps(self) -> dict[str, Held]:
        return {name: Held(name, self.shape, self.scales[name], self.shape) for name in ("x", "z")}


def operations(net: Codes, *outputs: str) -> list[PostOp]:
    """The operations of the segment, after a comparison of all its outputs with ONNX Runtime."""
    segment, held = net.segment(*outputs), net.maps()
    found = post_operations(segment, held)
    rng = np.random.default_rng(3)
    feeds = {name: rng.integers(-128, 128, (1, *net.shape)).astype(np.int8) for name in ("x", "z")}
    want, maps = runtime.run(segment.model, feeds), {name: codes[0] for name, codes in feeds.items()}
    for op in found:
        maps[op.output] = post.run(op, tuple(maps[name] for name in op.inputs))
    for name in outputs:
        away = np.abs(maps[held[name].tensor].astype(int) - want[name][0].astype(int)).max()
        assert away <= int(any(op.kind == "add" for op in found)), name
    return found


FUNCTIONS: dict[str, dict[str, Any]] = {
    "HardSwish": {}, "Sigmoid": {}, "Tanh": {}, "Gelu": {}, "Erf": {}, "Exp": {}, "Abs": {}, "Neg": {}, "Softplus": {},
    "Relu": {}, "Mish": {}, "HardSigmoid": {"alpha": 0.3}, "LeakyRelu": {"alpha": 0.2}, "Elu": {}, "Softsign": {},
}  # fmt: skip
CONSTANT = ("Add", "Sub", "Mul", "Div", "PRelu", "Max")


@settings(max_examples=25)
@given(st.integers(0, 1000), st.lists(st.sampled_from([*FUNCTIONS, *CONSTANT]), min_size=1, max_size=4), st.booleans())
def test_chains_are_one_table(seed: int, chosen: list[str], between: bool) -> None:
    """Whether or not the tensors between are 8 bits wide: one operation, and no code differs."""
    assume(chosen[0] != "Relu")
    net = Codes(seed)
    real = net.real("x")
    for number, kind in enumerate(chosen):
        extra = [net.constant(np.float32(net.rng.uniform(0.1, 2)))] if kind in CONSTANT else []
        real = net.node(kind, real, *extra, **FUNCTIONS.get(kind, {}))
        if between and number < len(chosen) - 1:
            real = net.real(net.codes(real))
    (op,) = operations(net, net.codes(real))
    assert op.kind == "table" and op.inputs == ("x",) and op.zero == 0


def test_a_relu_alone_is_no_table() -> None:
    """The clamp of a copy is enough, in an array without tables."""
    net = Codes(3)
    (op,) = operations(net, net.codes(net.node("Relu", net.real("x"))))
    assert op.kind == "move" and not op.table


def test_a_product_with_its_sigmoid_is_one_table() -> None:
    net = Codes(1)
    real = net.real("x")
    gate = net.real(net.codes(net.node("Sigmoid", net.real("x"))))
    (op,) = operations(net, net.codes(net.node("Mul", real, gate)))
    assert op.kind == "table" and len(op.table) == 256


def test_hard_swish_in_parts() -> None:
    """x * Clip(x + 3, 0, 6) / 6, as older exporters write it."""
    net = Codes(2)
    real = net.real("x")
    three, zero, six = (net.constant(np.float32(value)) for value in (3, 0, 6))
    gate = net.node("Div", net.node("Clip", net.node("Add", real, three), zero, six), six)
    (op,) = operations(net, net.codes(net.node("Mul", real, gate)))
    assert op.kind == "table"


def test_a_function_that_is_added_and_read_again_is_a_map_of_its_own() -> None:
    """Of two functions of x one is an operand of an addition, and its function is a table from x, too."""
    net = Codes(4)
    a = net.codes(net.node("Tanh", net.real("x")))
    total = net.codes(net.node("Add", net.real(a), net.real("z")))
    b = net.codes(net.node("Exp", net.real(a)))
    found = operations(net, total, b)
    assert [(op.kind, op.inputs) for op in found] == [("table", ("x",)), ("add", (a, "z")), ("table", ("x",))]
    assert found[0].output == a


def test_constants_of_several_values_are_no_table() -> None:
    net = Codes(5)
    each = net.constant(np.array([1, 2], np.float32).reshape(2, 1, 1))
    segment = net.segment(net.codes(net.node("Mul", net.real("x"), each)))
    with pytest.raises(OffChipError, match=r"Mul 'Mul1' has a constant of several values"):
        post_operations(segment, net.maps())
    same = Codes(5)
    alike = same.constant(np.array([2, 2], np.float32).reshape(2, 1, 1))
    (op,) = operations(same, same.codes(same.node("Mul", same.real("x"), alike)))
    assert op.kind == "table"


def test_a_constant_that_widens_a_map_is_no_table() -> None:
    net = Codes(6)
    wide = net.constant(np.full((3, 1, 1, 1), 2, np.float32))
    segment = net.segment(net.codes(net.node("Mul", net.real("x"), wide)))
    with pytest.raises(OffChipError, match="changes the shape of a map"):
        post_operations(segment, net.maps())


@pytest.mark.parametrize("shape", [(2, 4, 5), (1, 30, 30)])
def test_what_depends_on_the_place_is_found_by_its_answers(shape: tuple[int, int, int]) -> None:
    """Whatever its operators are called: a subgraph that adds other values at other places."""
    net = Codes(7, shape)
    ramp: NDArray[np.float32] = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    name = net.codes(net.node("Add", net.real("x"), net.constant(ramp)))
    graph = Graph.of(net.segment(name).model)
    with pytest.raises(OffChipError, match="is not the same function of 'x' at every place"):
        table_of(graph, net.maps()["x"], name, net.scales[name])


def test_tables_go_with_the_array_that_has_them() -> None:
    """An array for a network without functions is as it was, and one with them says so."""
    _, plain = on_chip("dense", ArrayConfig(2, 4))
    _, onchip = on_chip("functions", ArrayConfig(2, 4))
    assert not plain.config.tables and not plain.config.name.endswith("_tables")
    assert onchip.config.tables and onchip.config.name.endswith("_tables")
    assert not onchip.config.dense().tables
