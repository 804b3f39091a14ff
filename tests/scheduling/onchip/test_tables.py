"""Element-wise functions as tables: equal to ONNX Runtime for every code, fused, and refused where they are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flow.hardware.config import ArrayConfig
from flow.onnxtools.graph import Graph
from flow.scheduling.onchip.maps import OffChipError
from flow.scheduling.onchip.nodes import post_operations
from flow.scheduling.onchip.tables import table_of
from tests.helpers.codes import Codes, operations
from tests.helpers.networks import on_chip

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
    segment = net.segment(net.codes(net.node("PRelu", net.real("x"), each)))
    with pytest.raises(OffChipError, match=r"PRelu 'PRelu1' has a constant of several values"):
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
