"""Post-processing as sweeps: how many descriptors copies take, and that they write what they are to write."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.hardware.config import ArrayConfig
from flow.judgement import execution
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.program import OnChip, assemble, fitted
from flow.scheduling.onchip.sweeps import sweeps
from tests.helpers.heads import for_the_chip
from tests.helpers.networks import Floats, pruned

ROWS = 4


def joined(net: Floats) -> str:
    return net.node("Concat", net.conv("x", 3, 24, 1), net.conv("x", 3, 16, 1), axis=1)


def part(net: Floats) -> str:
    bounds = [net.constant(np.array([each], np.int64)) for each in (8, 32, 1)]
    return net.node("Slice", net.conv("x", 3, 40, 1), *bounds)


def column(net: Floats) -> str:
    """Every row of it is of the same column, so that its pixels are a row of the map apart."""
    bounds = [net.constant(np.array([each], np.int64)) for each in (1, 2, 3)]
    return net.node("Slice", net.conv("x", 3, 24, 1), *bounds)


def shuffled(net: Floats) -> str:
    shapes = [net.constant(np.array(each, np.int64)) for each in ([0, 2, 24, 3, 2], [0, 48, 3, 2])]
    turned = net.node("Transpose", net.node("Reshape", net.conv("x", 3, 48, 1), shapes[0]), perm=[0, 2, 1, 3, 4])
    return net.node("Reshape", turned, shapes[1])


def above(net: Floats) -> str:
    """Rows of pixels under each other, of channels that do not fill the last octet."""
    return net.node("Concat", net.conv("x", 3, 20, 1), net.conv("x", 3, 20, 1), axis=2)


def gated(net: Floats) -> str:
    a = net.conv("x", 3, 24, 1)
    return net.node("Mul", a, net.node("Sigmoid", net.conv(net.node("GlobalAveragePool", a), 24, 24, 1)))


def crop(net: Floats) -> str:
    """Neither rows nor columns are whole."""
    bounds = [net.constant(np.array(each, np.int64)) for each in ([0, 1], [2, 3], [2, 3])]
    wide = net.node("Resize", net.conv("x", 3, 24, 1), "", net.constant(np.array([1, 1, 1, 2], np.float32)))
    return net.node("Slice", wide, *bounds)


def padded(net: Floats) -> str:
    """By a row, and by channels, which no convolution can."""
    pads = net.constant(np.array([0, 8, 1, 0, 0, 0, 0, 0], np.int64))
    return net.node("Pad", net.conv("x", 3, 24, 1), pads)


def beside(net: Floats) -> str:
    return net.node("Concat", net.conv("x", 3, 24, 1), net.conv("x", 3, 24, 1), axis=3)


def ordered(net: Floats) -> str:
    """Octets 0, 1, 3, 2, 4 of five."""
    channels = np.array([0, 1, 3, 2, 4])[:, None] * 8 + np.arange(8)
    return net.node("Gather", net.conv("x", 3, 40, 1), net.constant(channels.reshape(-1)), axis=1)


def of_rows(net: Floats) -> str:
    """A gate for each channel and column, which all rows share."""
    a = net.conv("x", 3, 24, 1)
    gate = net.node("Sigmoid", net.conv(net.node("ReduceMean", a, axes=[2], keepdims=1), 24, 24, 1))
    return net.node("Mul", a, gate)


def enlarged(net: Floats) -> str:
    """Twice as many columns, and five rows of three, in two runs."""
    scales = net.constant(np.array([1, 1, 5 / 3, 2], np.float32))
    return net.node("Resize", net.conv("x", 3, 20, 1), "", scales, mode="nearest")


@pytest.mark.parametrize(
    ("make", "channels", "wanted"),
    [(joined, 40, [2]), (part, 24, [1]), (column, 24, [1]), (shuffled, 48, [4]), (above, 20, [4]),
     (gated, 24, [1, 1, 2]), (crop, 24, [3, 3]), (padded, 32, [4]), (beside, 24, [6]), (ordered, 40, [3]),
     (of_rows, 24, [3, 1, 4]), (enlarged, 20, [6, 3])],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_octets_that_lie_alike_are_copied_together(
    make: Callable[[Floats], str], channels: int, wanted: list[int]
) -> None:
    """So many sweeps have the operations in order, and each writes what it is to write."""
    net = Floats(1)
    onchip = assembled(net.model((3, 3, 2), net.conv(make(net), channels, 4, 1, relu=False)))
    linked, (found,) = onchip.chain, onchip.places
    assert linked.whole, linked.left
    operations = [step for step in linked.steps if isinstance(step, PostOp)]
    assert [len([*sweeps(step, found, ROWS)]) for step in operations] == wanted
    assert not execution.judge(onchip)


def assembled(model: onnx.ModelProto) -> OnChip:
    config = ArrayConfig(ROWS, 4, drain=2)
    network, encoded = pruned(for_the_chip(model), config.columns)
    linked = chain(network)
    return assemble(linked, encoded, fitted(config, linked))


def moving(seed: int) -> onnx.ModelProto:
    """Parts of maps, joined and shuffled at random, a gate, and a layer."""
    rng, net = np.random.default_rng(seed), Floats(seed)
    rows, columns = (int(each) for each in rng.integers(1, 5, 2))
    counts, axis = [int(each) for each in rng.integers(1, 34, 2)], int(rng.choice([1, 2, 3]))
    counts = counts if axis == 1 else [counts[0]] * 2
    made = net.node("Concat", *(net.conv("x", 3, count, 1) for count in counts), axis=axis)
    size = [sum(counts) if axis == 1 else counts[0], rows * (1 + (axis == 2)), columns * (1 + (axis == 3))]
    steps = [int(rng.integers(1, 3)) for _ in size]
    begins = [int(rng.integers(0, each)) for each in size]
    bounds = [begins, size, [1, 2, 3], steps]
    made = net.node("Slice", made, *(net.constant(np.array(each, np.int64)) for each in bounds))
    size = [len(range(a, b, c)) for a, b, c in zip(begins, size, steps, strict=True)]
    order = net.constant(rng.permutation(size[0] // 8)[:, None] * 8 + np.arange(8))  # whole octets, in any order
    if size[0] % 8 == 0:
        made = net.node("Reshape", net.node("Gather", made, order, axis=1), net.constant(np.array([0, *size])))
    gate = net.node("Sigmoid", net.conv(net.node("GlobalAveragePool", made), size[0], size[0], 1, relu=False))
    return net.model((3, rows, columns), net.conv(net.node("Mul", made, gate), size[0], 4, 1, relu=False))


def test_copies_of_any_octets_and_pixels() -> None:
    """By executing the descriptors, from whatever was in the maps before."""

    @settings(max_examples=8)
    @given(st.integers(0, 10_000))
    def right(seed: int) -> None:
        assert not execution.judge(assembled(moving(seed)), seed)

    right()
