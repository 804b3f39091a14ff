"""Softmax and LayerNormalization in the hardware's integers: beside ONNX Runtime, at their limits, and refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.network.model import HostSegment, Quantization
from flow.onnxtools import runtime
from flow.scheduling.onchip import post
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.maps import Held, OffChipError
from flow.scheduling.onchip.nodes import post_operations
from flow.scheduling.onchip.norms import Norm, exact, exponentials, finished, normalized
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.program import assemble, fitted
from flow.scheduling.onchip.sweeps import rectangles
from tests.helpers.codes import Codes
from tests.helpers.networks import KINDS, Floats, pruned, quantized

CHANNELS = (1, 2, 3, 8, 17, 64, 197, 768)


class Rows(Codes):
    """Nodes on "x", int8 [1, tokens, channels], the channels of a map."""

    def __init__(self, seed: int, channels: int, tokens: int) -> None:
        super().__init__(seed, (tokens, channels))

    def step(self, low: float, high: float) -> None:
        """A scale of "x" of 2^low to 2^high."""
        given = self.scales["x"]
        self.scales["x"] = replace(given, scale=np.float32(2.0 ** self.rng.uniform(low, high)))

    def operation(self, *outputs: str, opset: int = 20) -> tuple[PostOp, HostSegment]:
        segment = self.segment(*outputs, opset=opset)
        tokens, channels = self.shape
        held = {
            name: Held(name, (channels, 1, tokens), self.scales[name], self.shape, True) for name in ("x", "z")
        }  # fmt: skip
        (op,) = post_operations(segment, held)
        return op, segment

    def compared(self, codes: NDArray[np.int8], *outputs: str) -> tuple[PostOp, int]:
        """The operation, and how many codes differ from ONNX Runtime's: by 1, and only where they are ties."""
        op, segment = self.operation(*outputs)
        shape = (1, *self.shape)
        feeds = {"x": codes.reshape(shape), "z": codes.reshape(shape)}
        want = runtime.run(segment.model, feeds)[outputs[0]][0].T[:, None]
        operands = (np.ascontiguousarray(codes.T[:, None]),)
        got = post.run(op, operands)
        away, near = np.abs(got.astype(int) - want.astype(int)), post.near_tie(op, operands)
        assert away.max() <= 1 and not away[~near].any()
        return op, int(away.sum())


def drawn(rng: np.random.Generator, tokens: int, channels: int) -> NDArray[np.int8]:
    """Codes of any spread; some rows of one value, or of two neighbours."""
    spread = rng.choice([0.3, 3, 30, 300], (tokens, 1))
    codes: NDArray[np.int8] = np.clip(np.rint(rng.normal(0, spread, (tokens, channels))), -128, 127).astype(np.int8)
    return codes


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(CHANNELS), st.integers(1, 9))
def test_softmax_is_onnx_runtimes(seed: int, channels: int, tokens: int) -> None:
    net = Rows(seed, channels, tokens)
    net.step(-10, 0)
    y = net.codes(net.node("Softmax", net.real("x"), axis=-1))
    scale = np.float32(net.rng.choice([1 / 255, 1 / 256, 0.3 / 255, 0.03 / 255]))
    net.scales[y] = Quantization(scale, -128, False)
    _requantized(net, y)
    op, _ = net.compared(drawn(net.rng, tokens, channels), y)
    assert op.kind == "softmax" and op.norm is not None and op.norm.channels == channels


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(CHANNELS), st.integers(1, 9), st.sampled_from([1e-12, 1e-5, 1e-2]))
def test_layer_normalization_is_onnx_runtimes(seed: int, channels: int, tokens: int, epsilon: float) -> None:
    """Scales of any sign, of nothing and nearly nothing, with biases and without."""
    net = Rows(seed, channels, tokens)
    net.step(-9, 0)
    gain, summand = (net.rng.normal(0, 1, channels).astype(np.float32) for _ in range(2))
    gain[net.rng.random(channels) < 0.2] *= net.rng.choice([0, 1e-4])
    extra = [net.constant(summand)] if seed % 3 else []
    y = net.codes(net.node("LayerNormalization", net.real("x"), net.constant(gain), *extra, epsilon=epsilon))
    op, _ = net.compared(drawn(net.rng, tokens, channels), y)
    assert op.kind == "layernorm"


def _requantized(net: Rows, name: str) -> None:
    """The QuantizeLinear of an 8-bit tensor again, with its scale as it is now."""
    (node,) = [node for node in net.nodes if name in node.output]
    node.CopyFrom(helper.make_node("QuantizeLinear", [node.input[0], *net.pair(name)], [name], name))


def test_a_softmax_of_a_scaled_map_is_one_operation() -> None:
    """Scores times a constant, as attention has them, need not be quantized again."""
    net = Rows(5, 19, 6)
    scaled = net.node("Div", net.node("Mul", net.real("x"), net.constant(np.float32(0.7))), net.constant(np.float32(3)))
    y = net.codes(net.node("Softmax", scaled, axis=-1))
    op, _ = net.compared(drawn(net.rng, 6, 19), y)
    assert op.norm is not None and op.norm.roundings == 3
    assert op.norm.step == pytest.approx(float(net.scales["x"].scale) * 0.7 / 3, rel=1e-6)


def test_the_largest_of_everything() -> None:
    """The most channels, codes at both ends, the smallest epsilon: every integer stays within its bits."""
    rng = np.random.default_rng(1)
    for norm in (
        Norm("layernorm", 4096, 1e-6, 128, 1e3, True, ((1.0, 0.0),) * 4096),
        Norm("layernorm", 4096, 10.0, 0, 1e-12, False, ((1.0, 0.0),) * 4096),
        Norm("layernorm", 1, 0.1, 255, 1e-5, False, ((1.0, 0.0),)),
        Norm("softmax", 4096, 1e-9, 0),
    ):
        octets = rng.choice([0, 255], (norm.channels, 5))
        octets[:, 0] = 255
        octets[:, 1] = 0
        octets[0, 1] = 255
        a, found = normalized(norm, octets)
        assert np.abs(a).max() < 1 << 33 and found[0].max() <= 1 << 28 and 0 <= found[1].min() <= found[1].max() < 32
        assert all(0 <= constant < 1 << 64 for constant in norm.constants)
        t = finished(norm, a, found, norm.fraction, False)
        assert np.abs(t).max() <= 1 << 30 and 0 <= norm.shift(norm.fraction) < 128
        if norm.softmax:
            assert np.allclose(t, 2.0**30 / 4096, rtol=1e-3)


@pytest.mark.parametrize("scale", [1 / 255, 0.1 / 255, 1e-5])
def test_a_softmax_of_small_codes_is_as_exact(scale: float) -> None:
    """Nearer to the real result than float32, where a code could be rounded otherwise; what is too large saturates."""
    rng = np.random.default_rng(6)
    for channels in (max(1, round(1 / (300 * scale))), 64, 197):
        norm = Norm("softmax", channels, 0.05, 128)
        octets = np.clip(np.rint(rng.normal(128, 40, (channels, 40))), 0, 255).astype(np.int64)
        (group,) = norm.octet(0, scale)
        a, found = normalized(norm, octets)
        t = finished(norm, a, found, group.fraction, False)
        real, size = (each / scale for each in exact(norm, octets))
        counts = (real > 0.45) & (real < 256)
        assert (np.abs(t * 2.0**-group.fraction / scale - real) <= size * 2.0**-24)[counts].all()
        assert (t[real > 600] * 2.0**-group.fraction / scale > 300).all()


def test_exponentials_are_rounded_once() -> None:
    found = exponentials(0.037)
    assert found[0] == 1 << 32 and all(
        abs(e - np.exp(-0.037 * d) * 2.0**32) <= 0.51 for d, e in enumerate(found)
    )  # fmt: skip


@pytest.mark.parametrize(("height", "width", "most"), [(1, 7, 64), (1, 130, 64), (9, 10, 32), (3, 70, 32), (1, 1, 32)])
def test_rectangles_cover_a_map(height: int, width: int, most: int) -> None:
    seen = np.zeros((height, width), int)
    for (y, x), (rows, columns) in rectangles(height, width, most):
        assert 1 <= rows * columns <= most
        seen[y : y + rows, x : x + columns] += 1
    assert (seen == 1).all()


def refused(op: str, reason: str, shape: tuple[int, ...] = (6, 5), opset: int = 20, **attributes: Any) -> None:
    net = Rows(2, shape[1], shape[0])
    extra = [net.constant(np.ones(shape[1], np.float32))] if op == "LayerNormalization" else []
    y = net.codes(net.node(op, net.real("x"), *extra, **attributes))
    with pytest.raises(OffChipError, match=reason):
        net.operation(y, opset=opset)


def test_other_axes_and_sizes_are_refused() -> None:
    refused("Softmax", "does not run over the channels", axis=0)
    refused("Softmax", "does not run over the channels", opset=12, axis=1)
    refused("LayerNormalization", "does not run over the channels", (1, 5), axis=1)
    refused("LayerNormalization", "its epsilon is not more than 0", epsilon=0.0)
    refused("Softmax", "over 4,097 channels, and the hardware takes 4,096", (1, 4097))


def test_what_a_softmax_reads_is_linear() -> None:
    net = Rows(3, 5, 4)
    curved = net.node("Softmax", net.node("Exp", net.real("x")))
    with pytest.raises(OffChipError, match="reads a function of a map that is not linear"):
        net.operation(net.codes(curved))


def test_layer_normalization_gives_nothing_else() -> None:
    net = Rows(3, 5, 4)
    gain = net.constant(np.ones(5, np.float32))
    net.nodes.append(helper.make_node("LayerNormalization", [net.real("x"), gain], ["y", "mean"], "norm"))
    with pytest.raises(OffChipError, match="gives its mean or deviation, too"):
        net.operation(net.codes("y"))


def test_its_scale_is_constant() -> None:
    net = Rows(3, 5, 4)
    with pytest.raises(OffChipError, match="reads|constant"):
        net.operation(net.codes(net.node("LayerNormalization", net.real("x"), net.real("z"))))


def test_a_block_that_normalizes_behind_its_sums_stays_on_chip() -> None:
    """As in BERT: what is normalized is added to what is computed of it, so it has 8 bits of its own."""
    net = Floats(15)
    w = [net.constant(net.rng.normal(0, 0.5, shape).astype(np.float32)) for shape in ((9, 8), (8, 8), (8, 8), (8, 5))]
    ones = net.constant(np.ones(8, np.float32))
    a = net.node("LayerNormalization", net.node("MatMul", "x", w[0]), ones)
    b = net.node("LayerNormalization", net.node("Add", a, net.node("MatMul", a, w[1])), ones)
    c = net.node("Add", net.node("MatMul", b, w[2]), net.node("Tanh", b))
    linked = chain(quantized(net.model((6, 9), net.node("MatMul", c, w[3]))))
    assert linked.whole and not linked.left
    assert [step.kind for step in linked.steps if isinstance(step, PostOp)] == [
        "layernorm",
        "add",
        "layernorm",
        "table",
        "add",
    ]


def test_a_class_token_is_quantized_with_what_it_joins() -> None:
    """A constant for every sample: without it all sums behind it would stay float, and leave the chip."""
    net = Floats(16)
    w = [net.constant(net.rng.normal(0, 0.5, shape).astype(np.float32)) for shape in ((9, 8), (8, 8), (8, 8))]
    batch = net.node("Shape", "x", start=0, end=1)
    shape = net.node("Concat", batch, net.constant(np.array([1, 8])), axis=0)
    token = net.node("Expand", net.constant(net.rng.normal(0, 1, (1, 1, 8)).astype(np.float32)), shape)
    a = net.node("Concat", token, net.node("MatMul", "x", w[0]), axis=1)
    b = net.node("Add", a, net.node("MatMul", a, w[1]))
    ones = net.constant(np.ones(8, np.float32))
    linked = chain(quantized(net.model((6, 9), net.node("MatMul", net.node("LayerNormalization", b, ones), w[2]))))
    assert [step.kind for step in linked.steps if isinstance(step, PostOp)] == ["join", "add", "layernorm"]


def test_classes_at_an_output_stay_float() -> None:
    """A Softmax behind the last layer, and what only moves it, is not quantized."""
    net = Floats(17)
    w = net.constant(net.rng.normal(0, 0.5, (9, 8)).astype(np.float32))
    shares = net.node("Transpose", net.node("Softmax", net.node("MatMul", "x", w), axis=-1), perm=[0, 2, 1])
    model = quantized(net.model((6, 9), shares)).model
    (last,) = [node for node in model.graph.node if model.graph.output[0].name in node.output]
    assert last.op_type == "Transpose"


def test_a_normalizer_goes_with_the_array_that_has_it() -> None:
    network, encoded = pruned(quantized(KINDS["normalized"]()), 4)
    linked = chain(network)
    config = fitted(ArrayConfig(4, 4), linked)
    assert config.normalizer and config.name.endswith("_normalizer") and not config.dense().normalizer
    assert linked.whole and [step.kind for step in linked.steps if isinstance(step, PostOp)] == [
        "add", "layernorm", "softmax"
    ]  # fmt: skip
    with pytest.raises(FlowError, match="normalizes channels on chip, but the array was built without a normalizer"):
        assemble(linked, encoded, replace(config, normalizer=False))
    with pytest.raises(FlowError, match="normalizations go with feature maps on chip"):
        ArrayConfig(4, 4, normalizer=True)
    with pytest.raises(FlowError, match="results of 32 bits, but accumulator_bits is 24"):
        replace(config, accumulator_bits=24)
