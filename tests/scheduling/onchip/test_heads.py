"""Where the matrices of products of two activations lie, and what of them stays with the host."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.scheduling.onchip import post
from flow.scheduling.onchip.chain import Chain, chain
from flow.scheduling.onchip.heads import matrices_of, placed_results
from flow.scheduling.onchip.post import Head, Matrices, PostOp
from flow.scheduling.onchip.program import assemble, fitted
from tests.helpers.heads import Attention, float_attention, for_the_chip, partitioned
from tests.helpers.networks import pruned


def products(linked: Chain) -> list[PostOp]:
    return [step for step in linked.steps if isinstance(step, PostOp) and step.matrices is not None]


def reasons(net: Attention) -> str:
    linked = chain(partitioned(net))
    return "; ".join(left.reason for left in linked.left) if not products(linked) else ""


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.integers(1, 9), st.booleans())
def test_matrices_are_found_where_they_lie(heads: int, rows: int, octets: int, columns: int, across: bool) -> None:
    """Of numbered elements: the left operand by channels, the right one either way, the result side by side."""
    reduction = 8 * octets
    left = np.arange(heads * reduction * rows).reshape(heads, reduction, rows)  # channel by channel, pixel by pixel
    width = 8 * -(-columns // 8) if across else reduction
    right = np.arange(heads * width * (reduction if across else columns)).reshape(heads, width, -1)
    second = np.moveaxis(right[:, :columns], 1, 2) if across else right
    found = matrices_of(
        left.transpose(0, 2, 1), second, [(heads * reduction, 1, rows), (heads * width, 1, right.shape[2])]
    )
    assert isinstance(found, Matrices) and (found.rows, found.reduction, found.columns) == (rows, reduction, columns)
    assert [head.left for head in found.heads] == [(reduction * number, 0) for number in range(heads)]
    assert [head.right for head in found.heads] == [(width * number, 0) for number in range(heads)]
    results = np.arange(heads * rows * columns).reshape(heads, rows, columns).transpose(1, 0, 2).reshape(rows, -1)
    placed = placed_results(found, results)
    assert placed is not None
    assert [head.result for head in placed.heads] == [(columns * number, 0) for number in range(heads)]
    if heads * rows > 1 and columns > 1:
        assert placed_results(found, np.flip(results, axis=1)) is None


def test_the_product_is_what_onnx_defines() -> None:
    """With every zero point and factor: sums of products of real numbers, in codes of the result."""
    rng = np.random.default_rng(4)
    (op, other) = products(chain(partitioned(Attention(5, 6, 2, 8, -20, 7))))
    maps = tuple(rng.integers(-128, 128, shape).astype(np.int8) for shape in op.input_shapes)
    q, k = (
        (codes.reshape(2, 8, 5).astype(float) - given.zero_point) * float(given.scale)
        for codes, given in zip(maps, op.input_quantizations, strict=True)
    )
    scores = np.einsum("hdt,hds->hts", q, k) / 8**0.5 / float(op.output_quantization.scale)
    got = post.run(op, maps).reshape(5, 2, 5).transpose(1, 2, 0)  # heads, rows, columns
    want = np.clip(np.rint(scores + op.output_quantization.zero_point), -128, 127)
    near = post.near_tie(op, maps).reshape(5, 2, 5).transpose(1, 2, 0)
    assert ((got == want) | near).all() and not near.all()
    assert other.matrices is not None and other.matrices.across
    assert [head.result for head in other.matrices.heads] == [(0, 0), (8, 0)]  # side by side, as the next layer reads


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (Attention(5, 6, 1, 8, 0, 33), "a right operand with zero point 33; maps as weights have -31 to 32"),
        (Attention(5, 6, 1, 8, 0, -32), "a right operand with zero point -32"),
        (Attention(2, 1, 1, 1032, values=False), "sums over 1,032 values, more than 1,024"),
    ],
    ids=["zero point", "negative", "long"],
)
def test_what_the_array_cannot_multiply_stays_with_the_host(net: Attention, why: str) -> None:
    assert why in reasons(net)


@pytest.mark.parametrize("joined", [False, True])
def test_heads_inside_octets_are_moved_to_octets_of_their_own(joined: bool) -> None:
    """Once each, with zeros behind them: what is summed over has whole octets on both sides."""
    linked = chain(partitioned(Attention(5, 6, 3, 12, joined=joined)))
    moves = [step for step in linked.steps if isinstance(step, PostOp) and step.kind == "move"]
    assert linked.whole and [step.output_shape for step in moves] == ([(144, 1, 5)] if joined else [(48, 1, 5)] * 3)
    first, second = products(linked)
    assert first.matrices is not None and second.matrices is not None
    assert (first.matrices.reduction, second.matrices.columns) == (16, 12)
    assert first.matrices.macs == second.matrices.macs == 3 * 5 * 12 * 5
    begin = 96 if joined else 0
    assert [head.right for head in second.matrices.heads] == [(begin + each, 0) for each in (0, 16, 32)]
    assert [head.result for head in second.matrices.heads] == [(0, 0), (12, 0), (24, 0)]


def test_a_product_keeps_the_network_on_chip() -> None:
    """Without the Softmax between them, and with it."""
    assert chain(partitioned(Attention(5, 6, 2, 8))).whole
    linked = chain(for_the_chip(float_attention()))
    assert linked.whole and len(products(linked)) == 2


def test_weights_must_fit_their_buffer() -> None:
    network, encoded = pruned(partitioned(Attention(3, 4, 1, 40)), 4)
    linked = chain(network)
    config = fitted(ArrayConfig(4, 4), linked)
    assert config.operands and assemble(linked, encoded, config).descriptors
    with pytest.raises(FlowError, match=r"over 40 values.* take 40 words of the weight buffer.*--weight-buffer"):
        assemble(linked, encoded, replace(config, weight_depth=32))
    with pytest.raises(FlowError, match=r"built without maps as weights"):
        assemble(linked, encoded, replace(config, operands=False))
    with pytest.raises(FlowError, match=r"no memory for these"):
        ArrayConfig(4, 4, operands=True)


def test_narrow_accumulators_must_hold_the_sums() -> None:
    network, encoded = pruned(partitioned(Attention(2, 1, 1, 1000, values=False)), 4)
    linked = chain(network)
    config = replace(fitted(ArrayConfig(4, 4), linked), accumulator_bits=24)
    with pytest.raises(FlowError, match=r"more than 24-bit accumulators hold; build the array with 32 bits"):
        assemble(linked, encoded, config)


def test_heads_have_a_place_each() -> None:
    head = Head((8, 0), (0, 3), (16, 2))
    left, right = np.arange(48).reshape(16, 1, 3), np.arange(100).reshape(10, 1, 10)
    first, second = Matrices(2, 8, 4, False, (head,)).operands(head, left, right)
    assert first.tolist() == left[8:16, 0, :2].T.tolist() and second.tolist() == right[:8, 0, 3:7].tolist()
    _, turned = Matrices(2, 4, 6, True, (head,)).operands(head, left, right)
    assert turned.tolist() == right[:6, 0, 3:7].T.tolist()
