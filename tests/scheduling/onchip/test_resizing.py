"""Nodes that interpolate pixels linearly, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from flow.scheduling.onchip.lines import UNITY, Line, Lines
from flow.scheduling.onchip.maps import OffChipError
from flow.scheduling.onchip.nodes import post_operations
from tests.helpers.codes import Codes, operations

COORDINATES = ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"]
SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0, 0.25, 0.5, 1 / 3, 1])), min_size=1, max_size=20))
def test_lines_that_lie_evenly(given: list[tuple[int, float]]) -> None:
    """Every line is in one run, with its own factors, which always are 1 together."""
    lines = Lines(0, tuple(Line(*each) for each in given))
    found = {
        run.place + i * run.apart: (run.first + i * run.step, run.factors)
        for run in lines.spaced()
        for i in range(run.count)
    }
    assert sum(run.count for run in lines.spaced()) == len(given)
    assert found == {place: (line.first, line.factors) for place, line in enumerate(lines.each)}
    assert all(sum(line.factors) == UNITY for line in lines.each)


def test_twice_the_pixels_are_two_runs_and_the_ends() -> None:
    """So many descriptors an octet takes, whatever the size of the map."""
    net = Codes(1, (3, 2, 20))
    (op,) = operations(net, net.codes(resized(net, 3, 40, "half_pixel", True), "x"))
    assert op.lines is not None
    runs = {(run.place, run.apart, run.count, run.factors) for run in op.lines.spaced()}
    quarter = UNITY // 4
    assert {(1, 2, 19, (3 * quarter, quarter)), (2, 2, 19, (quarter, 3 * quarter)), (0, 39, 2, (UNITY, 0))} == runs


def resized(net: Codes, axis: int, size: int, coordinates: str, by_size: bool) -> str:
    """The map x with `size` rows (axis 2) or columns, by that size or by a scale."""
    own = [1, *net.shape]
    if by_size:
        sizes = [*own[:axis], size, *own[axis + 1 :]]
        rule: tuple[str, ...] = ("", "", net.constant(np.array(sizes, np.int64)))
    else:
        scales = np.ones(len(own), np.float32)
        scales[axis] = (size + 0.01) / own[axis]
        rule = ("", net.constant(scales))
    return net.node("Resize", net.real("x"), *rule, mode="linear", coordinate_transformation_mode=coordinates)


@settings(max_examples=80)
@given(SEEDS, st.tuples(*[st.integers(1, 12)] * 3), st.booleans(), st.integers(1, 30), st.sampled_from(COORDINATES),
       st.booleans())  # fmt: skip
def test_one_axis(seed: int, shape: tuple[int, ...], rows: bool, size: int, coordinates: str, by_size: bool) -> None:
    """Of any scale, up and down, to any scale of codes, or the same; a ReLU may follow."""
    net = Codes(seed, shape)
    axis = 2 if rows else 3
    made = resized(net, axis, size, coordinates, by_size)
    made = net.node("Relu", made) if seed % 3 == 0 else made
    (op,) = operations(net, net.codes(made, ["", "x"][seed % 2]))
    assert op.kind == "lines" and op.output_shape[axis - 1] == size


NEAREST = st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])


@settings(max_examples=60)
@given(SEEDS, st.tuples(*[st.integers(1, 12)] * 3), st.booleans(), st.integers(1, 30), st.sampled_from(COORDINATES),
       NEAREST, st.booleans(), st.booleans())  # fmt: skip
def test_the_nearest_pixels(
    seed: int, shape: tuple[int, ...], rows: bool, size: int, coordinates: str, nearest: str, by_size: bool,
    on_codes: bool,
) -> None:  # fmt: skip
    """By any scale, before DequantizeLinear or behind it: copies, where they are repeated unevenly of whole lines."""
    net = Codes(seed, shape)
    axis = 2 if rows else 3
    resized(net, axis, size, coordinates, by_size)
    node = net.nodes[-1]
    next(each for each in node.attribute if each.name == "mode").s = b"nearest"
    node.attribute.append(helper.make_attribute("nearest_mode", nearest))
    if on_codes:
        node.input[0] = "x"
        net.scales[node.output[0]] = net.scales["x"]
    made = operations(net, node.output[0] if on_codes else net.codes(node.output[0], "x"))
    for op in made:
        assert op.kind in ("move", "lines") and not (op.lines and any(line.share for line in op.lines.each))


def test_lines_are_taken_with_those_that_lie_alike() -> None:
    """By a scale of 3 to 2 every third line of the output is two lines further on."""
    nearest = tuple(Line(place * 2 // 3, 0) for place in range(60))
    assert [(run.apart, run.step, run.count) for run in Lines(0, nearest).spaced()] == [(3, 2, 20)] * 3


def test_a_line_of_pixels() -> None:
    net = Codes(2, (3, 7))
    (op,) = operations(net, net.codes(resized(net, 2, 11, "half_pixel", True), "x"))
    assert op.kind == "lines" and op.output_shape == (3, 1, 11)


@pytest.mark.parametrize(
    ("attributes", "scales", "reason"),
    [
        ({}, (1, 1, 2, 2), r"Resize 'Resize1' changes axes \[2, 3\]; on chip it is one axis of pixels"),
        ({}, (1, 2, 1, 1), r"changes axes \[1\]"),
        ({"antialias": 1}, (1, 1, 1, 0.4), "makes lines that do not lie between two of the map's"),
        ({}, (1, 1, 1, 1.4), "makes 7 lines in ONNX Runtime, and 6 by its shape"),
    ],
)
def test_what_is_refused(attributes: dict[str, int], scales: tuple[float, ...], reason: str) -> None:
    net = Codes(0, (2, 4, 5))
    made = net.node(
        "Resize", net.real("x"), "", net.constant(np.array(scales, np.float32)), mode="linear", **attributes
    )
    segment = net.segment(net.codes(made, "x"))
    with pytest.raises(OffChipError, match=reason):
        post_operations(segment, net.maps())
