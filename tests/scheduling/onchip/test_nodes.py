"""Nodes between layers as post-processing, of any shape and in several spellings, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flow.scheduling.onchip.maps import OffChipError
from flow.scheduling.onchip.nodes import post_operations
from tests.helpers.codes import Codes, operations

SEEDS = st.integers(0, 10_000)
SHAPES = st.tuples(st.integers(1, 20), st.integers(1, 6), st.integers(1, 6))
KINDS = {"Add": "add", "Sub": "subtract", "Mul": "product"}


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(sorted(KINDS)), SHAPES, st.tuples(*[st.booleans()] * 3), st.booleans())
def test_pairs_of_maps(seed: int, kind: str, shape: tuple[int, ...], alone: tuple[bool, ...], swapped: bool) -> None:
    """Each of the two operands has all elements of an axis, or one that counts for all."""
    other = tuple(1 if one else size for one, size in zip(alone, shape, strict=True))
    net = Codes(seed, other if swapped else shape, shape if swapped else other)
    (op,) = operations(net, net.codes(net.node(kind, net.real("x"), net.real("z"))))
    assert op.kind == KINDS[kind] and op.output_shape == shape
    assert len(op.scratch()) == int(other != shape)


@settings(max_examples=30)
@given(SEEDS, st.sampled_from(["Add", "Mul", "Max", "Where"]), SHAPES, st.tuples(*[st.booleans()] * 3), st.booleans())
def test_rows_that_are_repeated(
    seed: int, kind: str, shape: tuple[int, ...], alone: tuple[bool, ...], swapped: bool
) -> None:
    """As a mask is for all heads, or a bias for all tokens: each operand has all elements of an axis, or one."""
    other = tuple(1 if one else size for one, size in zip(alone, shape, strict=True))
    net = Codes(seed, other if swapped else shape, shape if swapped else other, rows=True)
    read = [net.real("x"), net.real("z")]
    if kind == "Where":
        read[:0] = [net.node("Less", read[seed % 2], net.constant(np.float32(0.1)))]
    (op,) = operations(net, net.codes(net.node(kind, *read)))
    assert op.output_shape[0] == shape[2] and np.prod(op.output_shape) == np.prod(shape)


def test_rows_that_are_repeated_in_turn_are_refused() -> None:
    net = Codes(0, (2, 3, 1, 4), (1, 1, 2, 1), rows=True)
    assert operations(net, net.codes(net.node("Mul", net.real("x"), net.real("z"))))[0].output_shape == (4, 6, 2)
    net = Codes(0, (2, 1, 2, 4), (1, 2, 1, 4), rows=True)
    segment = net.segment(net.codes(net.node("Mul", net.real("x"), net.real("z"))))
    with pytest.raises(OffChipError, match=r"Mul 'Mul2' reads maps of different shapes"):
        post_operations(segment, net.maps())


def test_maps_of_different_sizes_are_refused() -> None:
    net = Codes(0, (4, 3, 3), (3, 3))
    segment = net.segment(net.codes(net.node("Mul", net.real("x"), net.real("z"))))
    with pytest.raises(OffChipError, match=r"Mul 'Mul2' reads maps of different shapes"):
        post_operations(segment, net.maps())


def numbers(net: Codes, *values: int) -> str:
    return net.constant(np.array(values, np.int64))


def joined(net: Codes, rng: np.random.Generator) -> tuple[list[str], int]:
    return [net.node("Concat", net.real("x"), net.real("z"), net.real("x"), axis=int(rng.choice([1, -3])))], 20


def sliced(net: Codes, rng: np.random.Generator) -> tuple[list[str], int]:
    """Of all axes a part, at any stride, counted from either end."""
    starts = [int(rng.integers(0, size)) for size in net.shape]
    ends = [int(rng.integers(start + 1, size + 3)) for start, size in zip(starts, net.shape, strict=True)]
    steps = [int(rng.integers(1, 4)) for _ in net.shape]
    starts = [start - size if rng.random() < 0.5 else start for start, size in zip(starts, net.shape, strict=True)]
    bounds = [numbers(net, *each) for each in (starts, ends, [1, 2, -1], steps)]
    return [net.node("Slice", net.real("x"), *bounds)], 20


def split(net: Codes, rng: np.random.Generator) -> tuple[list[str], int]:
    axis = int(rng.integers(0, 3))
    assume(net.shape[axis] > 1)
    first = int(rng.integers(1, net.shape[axis]))
    made = net.node("Split", net.real("x"), numbers(net, first, net.shape[axis] - first), axis=axis + 1)
    net.nodes[-1].output.append("second")
    return [made, "second"], 20


def padded(net: Codes, rng: np.random.Generator) -> tuple[list[str], int]:
    """Before and after channels, rows and columns, as an input or, before opset 11, as an attribute."""
    pads = [0, *rng.integers(0, 10, 1).tolist(), *rng.integers(0, 3, 2).tolist()]
    pads += [0, *rng.integers(0, 10, 1).tolist(), *rng.integers(0, 3, 2).tolist()]
    if rng.random() < 0.3:
        return [net.node("Pad", net.real("x"), numbers(net, *pads[1:4], *pads[5:]), "", numbers(net, 1, 2, 3))], 20
    return [net.node("Pad", net.real("x"), numbers(net, *pads), net.constant(np.float32(0)))], 13


def resized(net: Codes, rng: np.random.Generator) -> tuple[list[str], int]:
    """By scales or sizes, by the rules of coordinates that repeat pixels."""
    factors = rng.integers(1, 4, 2).tolist()
    scales = net.constant(np.array([1, 1, *factors], np.float32))
    form = int(rng.integers(0, 4))
    if form == 0:
        return [net.node("Resize", net.real("x"), "", scales, mode="nearest")], 19
    if form == 1:
        sizes = numbers(net, 1, net.shape[0], net.shape[1] * factors[0], net.shape[2] * factors[1])
        rules = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return [net.node("Resize", net.real("x"), "", "", sizes, mode="nearest", **rules)], 13
    if form == 2:
        rules = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        none = net.constant(np.zeros(0, np.float32))
        return [net.node("Resize", net.real("x"), none, scales, mode="nearest", **rules)], 11
    return [net.node("Resize", net.real("x"), "", scales, mode="linear") if max(factors) == 1 else net.node(
        "Resize", net.real("x"), "", scales, mode="nearest", coordinate_transformation_mode="half_pixel"
    )], 13  # fmt: skip


def to_depth(net: Codes, rng: np.random.Generator) -> tuple[list[str], int]:
    block = int(rng.integers(1, 4))
    assume(net.shape[0] % block**2 == 0)
    return [net.node("DepthToSpace", net.real("x"), blocksize=block, mode=str(rng.choice(["DCR", "CRD"])))], 13


def shuffled(net: Codes, rng: np.random.Generator) -> tuple[list[str], int]:
    channels, height, width = net.shape
    groups = int(rng.choice([n for n in range(1, channels + 1) if channels % n == 0]))
    parts = net.node("Reshape", net.real("x"), numbers(net, 1, groups, channels // groups, height, width))
    turned = net.node("Transpose", parts, perm=[0, 2, 1, 3, 4])
    return [net.node("Reshape", turned, numbers(net, 0, -1, height, width))], 13


def chosen(net: Codes, rng: np.random.Generator) -> tuple[list[str], int]:
    picked = rng.integers(-net.shape[0], net.shape[0], int(rng.integers(1, 20)))
    return [net.node("Gather", net.real("x"), numbers(net, *picked.tolist()), axis=1)], 13


@pytest.mark.parametrize(
    "make", [joined, sliced, split, padded, resized, to_depth, shuffled, chosen], ids=lambda make: make.__name__
)
def test_what_only_moves_elements_is_a_copy(make: Any) -> None:
    """No code differs, whichever channels and pixels it takes."""

    @settings(max_examples=12)
    @given(SEEDS, SHAPES, st.integers(1, 12))
    def equal(seed: int, shape: tuple[int, int, int], more: int) -> None:
        net = Codes(seed, shape, (more, *shape[1:]))
        net.scales["z"] = net.scales["x"]
        made, opset = make(net, np.random.default_rng(seed))
        found = operations(net, *(net.codes(each, "x") for each in made), opset=opset)
        assert {op.kind for op in found} <= {"move"}

    equal()


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_other_padding_is_refused(mode: str) -> None:
    net = Codes(1)
    made = net.node("Pad", net.real("x"), numbers(net, 0, 0, 1, 1, 0, 0, 1, 1), mode=mode)
    with pytest.raises(OffChipError, match=r"Pad 'Pad1' has no place in hardware"):
        post_operations(net.segment(net.codes(made)), net.maps())


def test_padding_with_other_than_zero_is_refused() -> None:
    """Also where the number is that of an element."""
    net = Codes(1, (1, 1, 1))
    made = net.node("Pad", net.real("x"), numbers(net, 0, 1, 0, 0, 0, 0, 0, 0), net.constant(np.float32(1)))
    with pytest.raises(OffChipError, match=r"Pad 'Pad1' .* pads with others than zero"):
        post_operations(net.segment(net.codes(made)), net.maps())


@settings(max_examples=60)
@given(SEEDS, st.booleans(), st.integers(1, 2))
def test_pooling(seed: int, average: bool, axes: int) -> None:
    """Windows that reach into padding or beyond it, of one or two axes; maxima of codes, too."""
    rng = np.random.default_rng(seed)
    net = Codes(seed, tuple(rng.integers(3, 9, axes + 1).tolist()))
    kernel = rng.integers(1, 4, axes)
    pads = rng.integers(0, np.tile(kernel, 2) // 2 + 1).tolist()
    attributes = {"kernel_shape": kernel.tolist(), "strides": rng.integers(1, 4, axes).tolist(), "pads": pads}
    attributes["ceil_mode"] = int(rng.integers(0, 2))
    if average:
        attributes["count_include_pad"] = int(rng.integers(0, 2))
        made = net.codes(net.node("AveragePool", net.real("x"), **attributes))
    elif rng.random() < 0.5:
        net.scales["codes"] = net.scales["x"]
        made = net.node("MaxPool", "x", **attributes)
    else:
        made = net.codes(net.node("MaxPool", net.real("x"), **attributes), "x")
    try:
        (op,) = operations(net, made)
    except OffChipError as reason:  # shape inference counts a window more than ONNX Runtime computes
        assert "begins behind the map" in str(reason) and attributes["ceil_mode"]
        assume(False)
    assert op.kind == ("average" if average else "maximum")


@pytest.mark.parametrize(("opset", "keep"), [(13, 0), (13, 1), (18, 0), (18, 1), (20, 1)])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, 2]])
def test_means_of_all_pixels(opset: int, keep: int, axes: list[int]) -> None:
    net = Codes(2, (9, 4, 5))
    if opset < 18:
        made = net.node("ReduceMean", net.real("x"), axes=axes, keepdims=keep)
    else:
        made = net.node("ReduceMean", net.real("x"), numbers(net, *axes), keepdims=keep)
    (op,) = operations(net, net.codes(made), opset=opset)
    assert op.kind == "average" and op.output_shape == (9, 1, 1)


def test_a_mean_in_a_row_and_back() -> None:
    """GlobalAveragePool, Reshape to a row and back to a map, which gates the map."""
    net = Codes(3, (9, 4, 5))
    mean = net.real(net.codes(net.node("GlobalAveragePool", net.real("x"))))
    row = net.node("Reshape", mean, numbers(net, 0, -1))
    back = net.node("Reshape", net.real(net.codes(row, net.nodes[-3].output[0])), numbers(net, 1, 9, 1, 1))
    found = operations(net, net.codes(net.node("Mul", net.real("x"), back)))
    assert [op.kind for op in found] == ["average", "product"]


@settings(max_examples=40)
@given(SEEDS, SHAPES, st.booleans())
def test_a_factor_and_a_summand_for_each_channel(seed: int, shape: tuple[int, int, int], norm: bool) -> None:
    """BatchNormalization, or products and sums with constants, of any sign and size; a ReLU behind them."""
    rng = np.random.default_rng(seed)
    channels = shape[0]
    assume(channels > 1)

    def drawn() -> str:
        values = rng.normal(0, 1, channels) * 10.0 ** rng.uniform(-4, 1, channels)
        values[rng.random(channels) < 0.1] = 0
        lead = (1,) if rng.random() < 0.5 else ()
        return net.constant(values.astype(np.float32).reshape(channels if norm else (*lead, channels, 1, 1)))

    net = Codes(seed, shape)
    if norm:
        variance = net.constant(rng.uniform(0.001, 2, channels).astype(np.float32))
        made = net.node("BatchNormalization", net.real("x"), drawn(), drawn(), drawn(), variance, epsilon=1e-3)
    else:
        made = net.node("Sub", drawn(), net.node("Add", drawn(), net.node("Mul", net.real("x"), drawn())))
        made = net.node("Div", made, net.constant(np.float32(-3)))
    if rng.random() < 0.5:
        made = net.node("Relu", made)
    (op,) = operations(net, net.codes(made))
    assert op.kind == "scale" and len(op.gains) == channels
    for octet in range(-(-channels // 8)):
        for group in op.octet_gains(octet):
            least, most = (group.bias + sign * group.factor * 255 for sign in (0, -1 if group.negative else 1))
            offset = 1 << 29 if group.negative else 0
            assert (np.abs(least + offset) < 2**31).all() and (np.abs(most + offset) < 2**31).all()
            assert (np.abs(group.bias) < 2**31).all()


@settings(max_examples=30)
@given(SEEDS, st.sampled_from(["ReduceMean", "ReduceMax"]), SHAPES, st.booleans(), st.booleans(), st.booleans())
def test_pixels_along_one_axis(
    seed: int, kind: str, shape: tuple[int, ...], down: bool, kept: bool, rows: bool
) -> None:
    """Means and maxima of the rows or the columns of a map, as coordinate attention has them."""
    channels, height, width = shape
    net = Codes(seed, (height, width, channels) if rows else shape, rows=rows)
    axis = (1 if down else 2) + (not rows)
    made = net.codes(net.node(kind, net.real("x"), axes=[axis - 4 * (seed % 2)], keepdims=int(kept)), "x")
    (op,) = operations(net, made, opset=13)
    assert op.kind == {"ReduceMean": "average", "ReduceMax": "maximum"}[kind]
    assert op.output_shape == ((channels, 1, width) if down else (channels, height, 1))


@pytest.mark.parametrize("shape", [(1, 3, 2, 4), (3, 1, 1)])
def test_a_mask_is_a_constant_operand(shape: tuple[int, ...]) -> None:
    """Of each element or of each channel, where a factor and a summand have no numbers for it."""
    net = Codes(3, (3, 2, 4))
    mask = np.where(np.arange(np.prod(shape)) % 3 == 1, np.float32(-3e38), np.float32(0)).reshape(shape)
    (op,) = operations(net, net.codes(net.node("Add", net.real("x"), net.constant(mask)), "x"))
    assert op.kind == "add" and [number for number, _ in op.constants] == [1] and op.inputs == ("x",)


def test_a_mask_that_hides_too_little_is_refused() -> None:
    net = Codes(3, (3, 2, 4))
    mask = np.where(np.arange(24) % 3 == 1, np.float32(-1.0001), np.float32(0)).reshape(1, 3, 2, 4)
    segment = net.segment(net.codes(net.node("Add", net.real("x"), net.constant(mask)), "x"))
    with pytest.raises(OffChipError, match="Add 'Add1' has a constant of several values"):
        post_operations(segment, net.maps())


@settings(max_examples=20)
@given(SEEDS, st.sampled_from(sorted(KINDS)), st.booleans(), st.booleans())
def test_a_constant_of_8_bits_is_an_operand(seed: int, kind: str, first: bool, unsigned: bool) -> None:
    net = Codes(seed, (3, 2, 4))
    codes = net.rng.integers(0, 256, (1, 3, 2, 4)) if unsigned else net.rng.integers(-128, 128, (1, 3, 2, 4))
    codes = codes.astype(np.uint8 if unsigned else np.int8)
    zero = net.constant(codes.dtype.type(7))
    constant = net.node("DequantizeLinear", net.constant(codes), net.constant(np.float32(0.02)), zero)
    pair = (constant, net.real("x")) if first else (net.real("x"), constant)
    (op,) = operations(net, net.codes(net.node(kind, *pair)))
    assert op.kind == KINDS[kind] and len(op.constants) == 1 and op.inputs == ("x",)
    assert not first or kind != "Sub" or op.constants[0][0] == 0


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 3), st.booleans(), st.integers(1, 4))
def test_constants_are_joined_with_maps(seed: int, axis: int, first: bool, more: int) -> None:
    """Channels, rows or columns of real numbers, as their QuantizeLinear would have them."""
    net = Codes(seed, (3, 2, 4))
    shape = [1, 3, 2, 4]
    shape[axis] = more
    constant = net.constant(net.rng.normal(0, 1, shape).astype(np.float32))
    pair = (constant, net.real("x")) if first else (net.real("x"), constant)
    (op,) = operations(net, net.codes(net.node("Concat", *pair, axis=axis), "x"))
    assert op.kind in ("move", "join") and [number for number, _ in op.constants] == [0 if first else 1]


def drawn_operand(net: Codes, name: str) -> str:
    """A map of real numbers, or a function of it that has no 8 bits of its own."""
    real = net.real(name)
    return [lambda: real, lambda: net.node("Sigmoid", real), lambda: net.node("Relu", real)][net.rng.integers(3)]()


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(["Max", "Min"]), SHAPES, st.tuples(*[st.booleans()] * 3), st.integers(0, 3))
def test_the_largest_of_maps(seed: int, kind: str, shape: tuple[int, ...], one: tuple[bool, ...], more: int) -> None:
    """Of any number of maps of any scales, and a number, to the bit; some may be repeated."""
    net = Codes(seed, shape, tuple(1 if alone else size for alone, size in zip(one, shape, strict=True)))
    read = [drawn_operand(net, name) for name in ("x", "z", *["x", "z", "z"][:more])]
    numbers = [net.constant(np.float32(net.rng.normal(0, 1)))] if net.rng.random() < 0.5 else []
    made = net.node(kind, *net.rng.permutation([*read, *numbers]).tolist())
    made = net.node("Relu", made) if net.rng.random() < 0.5 else made
    (op,) = operations(net, net.codes(made, ["", "x"][seed % 2]))
    assert op.kind == {"Max": "largest", "Min": "smallest"}[kind] and op.output_shape == shape
    assert len(op.inputs) == len(set(read))


@pytest.mark.parametrize(("least", "away"), [(1, 0.09), (64, 0.06), (256, 0.05)])
def test_a_product_with_a_reciprocal_of_8_bits_is_no_quotient(least: int, away: float) -> None:
    """Why no map is divided by another on chip: of all pairs of codes, so many would get another code, at least.

    The divisors are from `least` steps on; the reciprocals have all codes from 0 to 255.
    """
    a, b = np.arange(-128, 128), np.arange(least, least + 256)
    quotient = a[:, None] / b.astype(np.float32)
    step = np.float32(np.abs(quotient).max() / 127)
    product = a[:, None] * np.rint(255 * least / b) * (1 / (255 * least * step))
    assert (np.rint(product) != np.rint(quotient / step)).mean() > away


@settings(max_examples=40)
@given(SEEDS, st.sampled_from(["map", "one", "constant"]), st.booleans(), st.floats(-1e38, 1e38))
def test_a_map_where_a_mask_says_so(seed: int, kind: str, first: bool, otherwise: float) -> None:
    """The mask is a condition on another map, which may be repeated, or a constant: no code differs."""
    net = Codes(seed, (9, 2, 3), (9, 2, 3) if kind == "map" else (1, 2, 3))
    constant = net.constant(np.float32(otherwise if seed % 2 else net.rng.normal(0, 1)))
    if kind == "constant":
        mask = net.constant(net.rng.random((1, 9, 1, 3)) < 0.5)
    else:
        mask = net.node(["Less", "Greater"][seed % 2], net.real("z"), net.constant(np.float32(0.1)))
    data = drawn_operand(net, "x")
    made = net.node("Where", mask, *([data, constant] if first else [constant, data]))
    (op,) = operations(net, net.codes(made))
    assert op.kind == "choice" and len(op.constants) == int(kind == "constant")


@settings(max_examples=30)
@given(SEEDS, st.booleans(), st.tuples(*[st.booleans()] * 3))
def test_one_of_two_maps_where_a_mask_says_so(seed: int, constant: bool, one: tuple[bool, ...]) -> None:
    """The mask may be a condition on one of the two: no code differs."""
    net = Codes(
        seed, (9, 2, 3), tuple(1 if alone and not constant else n for alone, n in zip(one, (9, 2, 3), strict=True))
    )
    if constant:
        mask = net.constant(net.rng.random((1, 1, 2, 3)) < 0.5)
    else:
        mask = net.node("Less", net.real(["x", "z"][seed % 2]), net.constant(np.float32(0.1)))
    made = net.node("Where", mask, *net.rng.permutation([drawn_operand(net, "x"), drawn_operand(net, "z")]).tolist())
    (op,) = operations(net, net.codes(made))
    assert op.kind == "select" and len(op.constants) == int(constant)


def test_the_largest_of_maps_and_several_numbers_is_refused() -> None:
    net = Codes(0)
    several = net.constant(np.arange(net.shape[-1], dtype=np.float32))
    made = net.node("Max", net.real("x"), net.real("z"), several)
    with pytest.raises(OffChipError, match=r"Max 'Max2' is a function of several maps"):
        post_operations(net.segment(net.codes(made)), net.maps())


def grouped(net: Codes, groups: int, alike: bool = True) -> str:
    """The map x with its channels in groups, each of which has a mean of 0 and a variance of 1."""
    values = [np.full(groups, value) if alike else net.rng.normal(0, 1, groups) for value in (1, 0)]
    pair = [net.constant(each.astype(np.float32)) for each in values]
    rows = net.codes(net.node("Reshape", net.real("x"), numbers(net, 0, groups, -1)), "x")
    return net.codes(net.node("InstanceNormalization", net.real(rows), *pair))


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
def test_groups_of_channels_are_normalized(seed: int, groups: int, channels: int, height: int, width: int) -> None:
    """As a QDQ network has it; the groups come back as channels where their reader wants these."""
    net = Codes(seed, (groups * channels, height, width))
    made = grouped(net, groups)
    back = net.node("Reshape", net.real(made), numbers(net, 0, *net.shape))
    found = operations(net, net.codes(net.node("Add", net.real("x"), back), "x"))
    assert "layernorm" in {op.kind for op in found} and found[-1].kind == "add"


def test_groups_with_factors_of_their_own_are_refused() -> None:
    net = Codes(1, (6, 2, 3))
    segment = net.segment(grouped(net, 2, alike=False))
    with pytest.raises(OffChipError, match="InstanceNormalization .* has no constant scale and bias for every channel"):
        post_operations(segment, net.maps())
