"""Linear interpolations of rows and columns one axis after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from flow.frontend.preparation.prepare import prepare
from flow.frontend.preparation.resizes import resizes_by_axis
from flow.frontend.quantize import from_float, from_int8
from flow.onnxtools import runtime
from tests.helpers.networks import Floats, feeds


def net(scales: tuple[float, ...] = (), sizes: tuple[int, ...] = (), **attributes: Any) -> onnx.ModelProto:
    """Two convolutions with a Resize between them, by scales or to sizes."""
    made = Floats(5)
    bounds = ["", made.constant(np.array(scales, np.float32)) if scales else ""]
    bounds += [made.constant(np.array(sizes, np.int64))] if sizes else []
    a = made.node("Resize", made.conv("x", 3, 4, 1), *bounds, **{"mode": "linear"} | attributes)
    return made.model((3, 6, 5), made.conv(a, 4, 2, 1, relu=False))


def shapes(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    """What the Resizes of a model make of one sample."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    found = [node.output[0] for node in model.graph.node if node.op_type == "Resize"]
    del named.graph.output[:]
    named.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in found)
    made = runtime.run(named, feeds(model, 1))
    return [made[name].shape for name in found]


@pytest.mark.parametrize(
    ("model", "want"),
    [
        (net((1, 1, 2, 2)), [(1, 4, 12, 5), (1, 4, 12, 10)]),
        (net((1, 1, 3, 0.5), coordinate_transformation_mode="asymmetric"), [(1, 4, 6, 2), (1, 4, 18, 2)]),
        (net(sizes=(1, 4, 9, 11), coordinate_transformation_mode="align_corners"), [(1, 4, 9, 5), (1, 4, 9, 11)]),
        (net((1, 1, 2, 1)), [(1, 4, 12, 5)]),
        (net((1, 1, 2, 2), mode="nearest"), [(1, 4, 12, 10)]),
        (net((1, 1, 2, 2), mode="cubic"), [(1, 4, 12, 10)]),
    ],
)  # fmt: skip
def test_it_computes_the_same(model: onnx.ModelProto, want: list[tuple[int, ...]]) -> None:
    made, divided = resizes_by_axis(model)
    assert shapes(made) == want and len(divided) == len(want) - 1
    assert [node.name for node in made.graph.node if node.op_type == "Resize"][-1] == "Resize_2"
    x = feeds(model, 1)
    (expected,), (got,) = (runtime.run(each, x).values() for each in (model, made))
    assert np.allclose(expected, got, rtol=1e-4, atol=1e-5)


def test_a_float_network_is_divided_for_the_chip_alone() -> None:
    model = net((1, 1, 2, 2))
    x = feeds(model, 4)
    for products, count in ((False, 1), (True, 2)):
        quantized = from_float(prepare(model), x, products=products).model
        kinds = [node.op_type for node in quantized.graph.node]
        assert kinds.count("Resize") == count
        behind = kinds[kinds.index("Resize") + 1 :][:2]
        assert behind == ["QuantizeLinear", "DequantizeLinear"]


def test_an_int8_network_gets_8_bits_between_and_a_note() -> None:
    model = net((1, 1, 2, 2))
    given = from_float(prepare(model), feeds(model, 4)).model
    assert not from_int8(given).notes
    result = from_int8(given, products=True)
    assert [note for note in result.notes if "Resize 'Resize_2' interpolates rows and columns one after" in note]
    first, second = (node for node in result.model.graph.node if node.op_type == "Resize")
    makers = {node.output[0]: node for node in result.model.graph.node}
    codes = makers[makers[second.input[0]].input[0]]
    assert codes.op_type == "QuantizeLinear" and codes.input[0] == first.output[0]
    assert codes.input[1:] == makers[first.input[0]].input[1:]
    x = feeds(model, 4)
    (expected,), (got,) = (runtime.run(each, x).values() for each in (given, result.model))
    assert 0 < np.abs(expected - got).max() < 0.1 * np.abs(expected).max()
