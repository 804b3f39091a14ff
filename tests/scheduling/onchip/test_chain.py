"""A network as a chain: what is recognised, where its maps are, and what is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import onnx
import pytest

from flow.network.model import HostSegment
from flow.scheduling.onchip.chain import Chain, ChainLayer, chain
from flow.scheduling.onchip.place import least_words, places, words
from flow.scheduling.onchip.post import NOBODY, PostOp
from tests.helpers.heads import for_the_chip
from tests.helpers.networks import KINDS, Floats, mixed, quantized, residual
from tests.helpers.tokens import recurrent, stacked


def kinds(linked: Chain) -> list[str]:
    return [step.layer.op if isinstance(step, ChainLayer) else step.kind for step in linked.steps]


def test_a_residual_network_is_seen_whole() -> None:
    linked = chain(quantized(residual()))
    assert sorted(kinds(linked)) == sorted(["Conv", "move", "move", "Conv", "Conv", "add", "average", "Gemm"])
    by_kind = {step.kind: step for step in linked.steps if isinstance(step, PostOp)}
    assert by_kind["add"].clamp[0] == by_kind["add"].output_quantization.zero_point  # the ReLU behind it
    padded = ((*[(NOBODY, 0)] * 8, *((0, channel) for channel in range(8))),)
    assert by_kind["move"].picks == padded and by_kind["move"].output_shape == (16, 3, 4)
    (first, *_, last) = linked.steps
    assert isinstance(first, ChainLayer) and first.source == linked.inputs[0] and isinstance(last, ChainLayer)
    assert last.source.shape == (16, 1, 1) and last.source.flat
    assert linked.outputs == (last.output,)


def test_strided_slices_are_windows() -> None:
    slices = [s for s in chain(quantized(residual())).steps if isinstance(s, PostOp) and s.window.strides == (2, 2)]
    assert [each.input_shapes for each in slices] == [((8, 5, 7),)]


def test_concatenation_and_pooling() -> None:
    found = {step.kind: step for step in chain(quantized(mixed())).steps if isinstance(step, PostOp)}
    joined = (*((0, channel) for channel in range(8)), *((1, channel) for channel in range(4)))
    assert found["move"].picks == (joined,) and len(found["move"].inputs) == 2
    assert found["maximum"].window.pads == (1, 1, 1, 1) and found["average"].window.kernel == (2, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_maps_that_are_needed_never_share_words(kind: str) -> None:
    """At every step its operands, its result and all that is read later lie apart, and fewer words are impossible."""
    linked = chain(quantized(KINDS[kind]()))
    (made,) = places(linked)
    for number, step in enumerate(linked.steps):
        later = linked.steps[number:]
        read = {name for s in later for name in ((s.source.tensor,) if isinstance(s, ChainLayer) else s.inputs)}
        written = {held.tensor for held in linked.inputs} | {s.output for s in linked.steps[: number + 1]}
        live = [made[name] for name in (read & written) | ({step.output} & set(made))]
        spans = sorted((place.base, place.base + place.words) for place in live)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans)), (number, spans)
    assert words(made) == max(place.base + place.words for place in made.values()) == least_words(linked)
    assert words(made) < sum(place.words for place in made.values()) or len(made) < 3
    assert all(place.plane % 2 for place in made.values())


def logarithm_between() -> onnx.ModelProto:
    net = Floats()
    return net.model((3, 5, 5), net.conv(net.node("LogSoftmax", net.conv("x", 3, 8, 3), axis=1), 8, 8, 1))


def softmax_of_rows() -> onnx.ModelProto:
    net = Floats()
    return net.model((3, 5, 5), net.conv(net.node("Softmax", net.conv("x", 3, 8, 3), axis=2), 8, 8, 1))


def slopes() -> onnx.ModelProto:
    net = Floats()
    each = net.constant(np.linspace(0.1, 0.9, 8, dtype=np.float32).reshape(8, 1, 1))
    return net.model((3, 5, 5), net.conv(net.node("PRelu", net.conv("x", 3, 8, 3, relu=False), each), 8, 8, 1))


def quotient_of_maps() -> onnx.ModelProto:
    net = Floats()
    quotient = net.node("Div", net.conv("x", 3, 8, 3), net.conv("x", 3, 8, 1, relu=False))
    return net.model((3, 5, 5), net.conv(quotient, 8, 8, 1))


def float_between() -> onnx.ModelProto:
    net = Floats()  # of tensors of two axes, functions that are added stay float
    a = net.gemm("x", 9, 8)
    return net.model((9,), net.gemm(net.node("Add", net.node("Tanh", a), net.gemm(a, 8, 8)), 8, 8))


def mixed_axes() -> onnx.ModelProto:
    net = Floats()
    sizes = [net.constant(np.array(each, np.int64)) for each in ([0, 2, 4, 5, 3, 2], [0, 4, 20, 3])]
    parts = net.node("Reshape", net.conv("x", 3, 8, 3), sizes[0])
    turned = net.node("Transpose", parts, perm=[0, 1, 5, 2, 3, 4])  # of channels and of pixels, some become channels
    return net.model((3, 5, 6), net.conv(net.node("Reshape", turned, sizes[1]), 4, 8, 1))


def test_a_mean_behind_a_batch_normalization_stays_on_chip() -> None:
    """What a DenseNet ends with: the normalization has no layer to fold into, and no layer reads its function."""
    net = Floats(6)
    a = net.conv("x", 3, 8, 3)
    gains = [net.constant(net.rng.uniform(low, 2, 16).astype(np.float32)) for low in (0.1, -1, -1, 0.2)]
    b = net.node("BatchNormalization", net.node("Concat", a, net.conv(a, 8, 8, 1), axis=1), *gains)
    mean = net.node("GlobalAveragePool", net.node("Relu", b))
    linked = chain(for_the_chip(net.model((3, 4, 3), net.gemm(net.node("Flatten", mean), 16, 5))))
    assert linked.whole and kinds(linked) == ["Conv", "Conv", "move", "scale", "average", "Gemm"]


def repeated_token(spatial: int) -> onnx.ModelProto:
    """Between two convolutions a constant for every sample, repeated by the batch and put beside the pixels."""
    net = Floats(5)
    ones = [1] * (spatial - 1)
    rows = [5, 3] if spatial == 3 else [3]  # of five planes, which are too many
    w = [net.constant(net.rng.normal(0, 1, (4, size, *[1] * spatial)).astype(np.float32)) for size in (2, 4)]
    made = net.node("Conv", "x", w[0])
    batch = net.node("Shape", made, start=0, end=1)
    shape = net.node("Concat", batch, net.constant(np.array([4, *rows[:-1], 1, 5])), axis=0)
    token = net.node("Expand", net.constant(net.rng.normal(0, 1, (1, 4, *ones, 5)).astype(np.float32)), shape)
    joined = net.node("Concat", token, made, axis=spatial)
    return net.model((2, *rows, 5), net.node("Conv", joined, w[1]))


def test_what_is_the_same_for_every_sample_is_made_by_its_reader() -> None:
    """On chip as a constant, else by the host, which then needs it."""
    made = chain(quantized(repeated_token(2)))
    (join,) = (step for step in made.steps if isinstance(step, PostOp))
    assert made.whole and join.kind == "join" and [number for number, _ in join.constants] == [0]
    assert any("Expand" in name for unit in made.segments[0].units for name in unit.names)
    parts = [step for step in chain(quantized(repeated_token(3))).after if isinstance(step, HostSegment)]
    assert any("Expand" in part.operators for part in parts)


@pytest.mark.parametrize(
    ("kind", "seed"), [("GRU", 1), *(pytest.param(kind, 0, marks=pytest.mark.full) for kind in ("RNN", "GRU", "LSTM"))]
)
def test_recurrence_is_one_segment(kind: str, seed: int) -> None:
    """In a network quantized for the chip; else sums and products of states stay float."""
    assert chain(for_the_chip(stacked(kind, 2, seed))).whole
    assert chain(quantized(recurrent(kind, 3, seed))).whole == (kind == "RNN")


def three_axes() -> onnx.ModelProto:
    net = Floats()
    weights = net.constant(net.rng.normal(0, 1, (4, 2, 1, 3, 3)).astype(np.float32))
    return net.model((2, 5, 5, 5), net.node("Conv", "x", weights))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (logarithm_between, r"LogSoftmax '.*' has no place in hardware"),
        (softmax_of_rows, r"Softmax '.*' does not run over the channels"),
        (slopes, r"PRelu '.*' has a constant of several values; a table takes one for all channels"),
        (quotient_of_maps, r"Div '.*' divides a map by another; reciprocals of 8 bits would make other codes"),
        (float_between, r"Add 'Add_3' reads a tensor that is not quantized to 8 bits"),
        (mixed_axes, r"'.*' has another shape, \[2, 4, 5, 3, 2\], than its map"),
        (three_axes, r"layer '.*' would have 5.0 times as many products with planes as channels"),
    ],
)
def test_what_has_no_place_leaves_the_chip_by_name(make: Callable[[], onnx.ModelProto], said: str) -> None:
    """The host computes it, or the layer runs by itself; all other layers run on chip, in as few segments."""
    network = quantized(make())
    linked = chain(network)
    assert re.fullmatch(said, linked.left[0].reason) and all(each.returns for each in linked.left)
    assert not linked.whole
    layers = [layer for segment in linked.segments for layer in segment.layers]
    assert sorted(layer.name for layer in (*layers, *linked.alone)) == sorted(layer.name for layer in network.layers)
    assert bool(linked.alone) == (make is three_axes) == (not linked.segments)
    assert len(linked.segments) == (0 if make is three_axes else 2)
