"""Convolutions of three axes as convolutions of two."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flow.network import reference
from flow.network.model import ArrayLayer, Quantization, Window
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.planes import more_products, with_planes_as_channels
from tests.helpers.heads import for_the_chip
from tests.helpers.networks import Floats

TRIPLE = st.tuples(*[st.integers(1, 3)] * 3)


def drawn(
    rng: np.random.Generator, size: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...],
    dilations: tuple[int, ...], groups: int,
) -> ArrayLayer:  # fmt: skip
    """A layer of `groups` groups of two channels, with any pads and zero point."""
    pads = tuple(int(each) for each in rng.integers(0, 3, 6))
    spans = [
        edge + pads[axis] + pads[axis + 3] - (taps - 1) * dilation - 1
        for axis, (edge, taps, dilation) in enumerate(zip(size, kernel, dilations, strict=True))
    ]
    assume(min(spans) >= 0)
    output = (3 * groups, *(span // stride + 1 for span, stride in zip(spans, strides, strict=True)))
    weights = rng.integers(-128, 128, (3 * groups, int(np.prod(kernel)) * 2)).astype(np.int8)
    scale = Quantization(np.float32(0.1), int(rng.integers(-128, 128)), False)
    return ArrayLayer(
        "conv", "Conv", "x", "y", "w", weights, rng.uniform(0.1, 1, 3 * groups).astype(np.float32),
        rng.integers(-999, 999, 3 * groups).astype(np.int32), scale, scale, (-128, 127), (2 * groups, *size), output,
        Window(kernel, strides, pads, dilations), groups,
    )  # fmt: skip


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 5)] * 3), TRIPLE, TRIPLE, TRIPLE, st.integers(1, 2))
def test_the_sums_are_the_same(
    seed: int, size: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...],
    groups: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    layer = drawn(rng, size, kernel, strides, dilations, groups)
    codes = rng.integers(-128, 128, (1, *layer.input_shape)).astype(np.int8)
    flat = with_planes_as_channels(layer)
    assert flat.positions * flat.channels == layer.positions * layer.channels and more_products(layer) >= 1
    results = [
        reference.run_layer(each, each.input_quantization.from_int8(codes.reshape(1, *each.input_shape))).reshape(-1)
        for each in (layer, flat)
    ]
    assert np.array_equal(results[0], results[1])


@pytest.mark.parametrize(("planes", "whole"), [(8, True), (16, False)])
def test_many_planes_run_by_themselves(planes: int, whole: bool) -> None:
    """As a convolution of two axes the layer would have several times its products, most of them with zeros."""
    net = Floats(1)
    weights = [net.constant(net.rng.normal(0, 1, (2, 2, 3, 3, 3)).astype(np.float32)) for _ in range(2)]
    made = net.node("Relu", net.node("Conv", "x", weights[0], pads=[1] * 6))
    linked = chain(for_the_chip(net.model((2, planes, 3, 3), net.node("Conv", made, weights[1], pads=[1] * 6))))
    assert linked.whole == whole
    if not whole:
        assert all(
            "would have 5.6 times as many products with planes as channels" in each.reason for each in linked.left
        )
        assert len(linked.alone) == 2
