"""Linear interpolations of rows and columns one axis after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from flow.frontend.int8 import cut
from flow.frontend.preparation.prepare import prepare
from flow.frontend.preparation.resizes import known_scales, resizes_by_axis
from flow.frontend.quantize import from_float, from_int8
from flow.network.run import run_network
from flow.onnxtools import runtime
from flow.onnxtools.shapes import sample_shapes
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


def alike(model: onnx.ModelProto, other: onnx.ModelProto) -> None:
    """Both compute the same, up to rounding."""
    x = feeds(model, 1)
    (expected,), (got,) = (runtime.run(each, x).values() for each in (model, other))
    assert np.allclose(expected, got, rtol=1e-4, atol=1e-5)


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
    alike(model, made)


@pytest.mark.parametrize(
    ("bounds", "attributes", "want"),
    [
        ({"sizes": (1, 4, 9, 7)}, {"nearest_mode": "floor"}, [(1, 4, 6, 7), (1, 4, 9, 7)]),
        ({"scales": (1, 1, 2.5, 2)}, {}, [(1, 4, 6, 10), (1, 4, 15, 10)]),
        ({"scales": (1, 1, 2.1, 2.1)}, {"coordinate_transformation_mode": "asymmetric"},
         [(1, 4, 12, 5), (1, 4, 12, 10)]),
        ({"sizes": (1, 4, 3, 3)}, {"coordinate_transformation_mode": "align_corners"}, [(1, 4, 3, 5), (1, 4, 3, 3)]),
        ({"sizes": (1, 4, 18, 10)}, {}, [(1, 4, 18, 10)]),
        ({"scales": (1, 1, 0.5, 0.2)}, {}, [(1, 4, 3, 1)]),
    ],
)  # fmt: skip
def test_nearest_pixels_are_divided_where_they_are_uneven(
    bounds: dict[str, Any], attributes: dict[str, Any], want: list[tuple[int, ...]]
) -> None:
    """To the bit the same, so that no note says so."""
    model = net(**bounds, mode="nearest", **attributes)
    made, divided = resizes_by_axis(model)
    assert shapes(made) == want and not divided
    x = feeds(model, 3)
    (expected,), (got,) = (runtime.run(each, x).values() for each in (model, made))
    assert np.array_equal(expected, got)


def test_channels_that_are_last_become_the_first() -> None:
    """As TensorFlow has them."""
    made = Floats(5)
    scales = made.constant(np.array([1, 3, 2, 1], np.float32))
    a = made.node("Transpose", made.conv("x", 3, 4, 1), perm=[0, 2, 3, 1])
    a = made.node("Resize", a, "", scales, mode="linear")
    model = made.model((3, 6, 5), made.conv(made.node("Transpose", a, perm=[0, 3, 1, 2]), 4, 2, 1))
    divided, names = resizes_by_axis(model)
    assert shapes(divided) == [(1, 4, 6, 10), (1, 4, 18, 10)] and names == ["Resize_3"]
    alike(model, divided)


def test_what_no_layer_reads_stays() -> None:
    """Class scores that are made as large as the image have no 8 bits in between."""
    made = Floats(5)
    scales = made.constant(np.array([1, 1, 4, 4], np.float32))
    model = made.model((3, 6, 5), made.node("Resize", made.conv("x", 3, 4, 1), "", scales, mode="linear"))
    assert resizes_by_axis(model) == (model, [])


@pytest.mark.parametrize(
    ("mode", "coordinates"), [("nearest", "asymmetric"), ("linear", "half_pixel"), ("linear", "align_corners")]
)
def test_sizes_that_follow_from_shapes_are_scales(mode: str, coordinates: str) -> None:
    """As large as a skip of any batch, as PyTorch writes it: nothing else of the network changes."""
    made = Floats(3)
    a = made.conv("x", 3, 4, 3)
    b = made.node("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2])
    bounds = [[made.constant(np.array([each], np.int64)) for each in (*pair, 0)] for pair in ((0, 2), (2, 4))]
    parts = [made.node("Slice", made.node("Shape", each), *pair) for each, pair in zip((b, a), bounds, strict=True)]
    sizes = made.node("Concat", *parts, axis=0)
    up = made.node("Resize", b, "", "", sizes, mode=mode, coordinate_transformation_mode=coordinates)
    size = (8, 6) if mode == "nearest" else (9, 7)
    model = made.model((3, *size), made.conv(made.node("Concat", up, a, axis=1), 8, 2, 1))
    prepared = prepare(model)
    assert "Shape" not in {node.op_type for node in prepared.graph.node}
    x = feeds(model, 3)
    (expected,), (got,) = (runtime.run(each, x).values() for each in (model, prepared))
    assert np.allclose(expected, got, rtol=1e-5, atol=1e-5) and (mode == "linear" or np.array_equal(expected, got))


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_declared_sizes_are_those_of_onnx_runtime(mode: str) -> None:
    """Shape inference makes six columns of five by 1.4, ONNX Runtime seven: so have all segments of the host."""
    model = net((1, 1, 2, 1.4), mode=mode)
    assert [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim[2:]] == [12, 6]
    network = cut.partition(from_float(prepare(model), feeds(model, 4)).model, "net")
    assert run_network(network, feeds(model, 1))[network.outputs[0]].shape == (1, 2, 12, 7)


@pytest.mark.parametrize(("nearest", "stays"), [("round_prefer_floor", False), ("floor", True)])
def test_the_nearest_pixels_stay_the_same(nearest: str, stays: bool) -> None:
    """A scale that is a little larger takes others of some modes; then the node stays as it is."""
    made = Floats(3)
    scales = made.constant(np.array([1, 1, 1.4, 1.4], np.float32))
    model = made.model((3, 5, 5), made.node("Resize", "x", "", scales, mode="nearest", nearest_mode=nearest))
    given = onnx.ModelProto()
    given.CopyFrom(model)
    known_scales(model)
    assert (model.SerializeToString() == given.SerializeToString()) == stays
    x = feeds(model, 2)
    (expected,), (got,) = (runtime.run(each, x).values() for each in (given, model))
    assert np.array_equal(expected, got)


@pytest.mark.parametrize(("size", "scale"), [(5, 1.4), (10, 1.1), (7, 3.0), (64, 0.7)])
def test_every_arithmetic_rounds_to_the_same_size(size: int, scale: float) -> None:
    """ONNX's shape inference and ONNX Runtime do not agree of 5 * 1.4, and layers would have another input's shape."""
    made = Floats(3)
    scales = made.constant(np.array([1, 1, scale, scale], np.float32))
    model = made.model((3, size, size), made.node("Resize", "x", "", scales, mode="linear"))
    known_scales(model)
    (got,) = runtime.run(model, feeds(model, 1)).values()
    assert sample_shapes(onnx.shape_inference.infer_shapes(model))[model.graph.output[0].name] == got.shape


def test_scales_of_some_axes_are_those_of_all() -> None:
    model = net((3, 2), axes=[2, -1])
    model.opset_import[0].version = 18
    x = feeds(model, 1)
    (expected,) = runtime.run(model, x).values()
    known_scales(model)
    resize = next(node for node in model.graph.node if node.op_type == "Resize")
    assert not [each for each in resize.attribute if each.name == "axes"]
    (got,) = runtime.run(model, x).values()
    assert np.array_equal(expected, got)


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
