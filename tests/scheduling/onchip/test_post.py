"""Post-processing in integers against ONNX Runtime's float32, over all codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.errors import FlowError
from flow.network.model import Quantization, Window
from flow.onnxtools import runtime
from flow.scheduling.onchip import post
from flow.scheduling.onchip.maps import POINT
from flow.scheduling.onchip.post import NOBODY, PostOp


def quantization(rng: np.random.Generator) -> Quantization:
    return Quantization(np.float32(rng.uniform(0.01, 0.1)), int(rng.integers(-128, 128)), False)


def operation(kind: str, seed: int, **changes: Any) -> PostOp:
    """An addition of two maps with every pair of codes; others of one."""
    rng = np.random.default_rng(seed)
    inputs = tuple(quantization(rng) for _ in range(2 if kind == "add" else 1))
    shape = (1, 256, 256)
    return PostOp(
        kind, kind, ("a", "b")[: len(inputs)], "y", inputs, quantization(rng), (-128, 127), (shape,) * len(inputs),
        shape, POINT,
    )  # fmt: skip


def by_onnx_runtime(op: PostOp, operands: list[NDArray[np.int8]], node: str, **attributes: Any) -> NDArray[np.int8]:
    """The quantized operation as ONNX Runtime runs it: dequantized, computed in float32, quantized."""
    nodes, constants = [], []
    for name, given in zip((*op.inputs, "y"), (*op.input_quantizations, op.output_quantization), strict=True):
        constants += [numpy_helper.from_array(np.array(given.scale, np.float32), f"{name}s")]
        constants += [numpy_helper.from_array(np.array(given.zero_point, np.int8), f"{name}z")]
    nodes += [helper.make_node("DequantizeLinear", [n, f"{n}s", f"{n}z"], [f"{n}f"]) for n in op.inputs]
    nodes.append(helper.make_node(node, [f"{n}f" for n in op.inputs], ["f"], **attributes))
    nodes.append(helper.make_node("QuantizeLinear", ["f", "ys", "yz"], ["y"]))
    graph = helper.make_graph(
        nodes, "op", [helper.make_tensor_value_info(n, TensorProto.INT8, None) for n in op.inputs],
        [helper.make_tensor_value_info("y", TensorProto.INT8, None)], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feeds = {name: codes[None] for name, codes in zip(op.inputs, operands, strict=True)}
    made: NDArray[np.int8] = runtime.run(model, feeds)["y"][0]
    return made


def every_pair() -> list[NDArray[np.int8]]:
    codes = np.arange(-128, 128).astype(np.int8)
    return [np.broadcast_to(codes[:, None], (1, 256, 256)).copy(), np.broadcast_to(codes, (1, 256, 256)).copy()]


@pytest.mark.parametrize("seed", range(20))
def test_additions_of_every_pair_of_codes(seed: int) -> None:
    """At most one in 10,000 is rounded the other way, by 1."""
    op, operands = operation("add", seed), every_pair()
    got, want = post.run(op, (operands[0], operands[1])), by_onnx_runtime(op, operands, "Add")
    away = np.abs(got.astype(int) - want.astype(int))
    assert away.max() <= 1 and (away > 0).mean() <= 1e-4, (away > 0).sum()
    assert len(np.unique(got)) > 20


ROUND = [Quantization(np.float32(step), zero, False) for step, zero in ((0.06, 3), (0.07, -20), (0.08, 5), (0.02, 7))]


@pytest.mark.parametrize(
    ("kind", "node", "into"), [("add", "Add", 2), ("subtract", "Sub", 2), ("product", "Mul", 3), ("maximum", "Relu", 2)]
)
def test_round_scales_have_ties(kind: str, node: str, into: int) -> None:
    """Many results lie in the middle of two codes, and nothing but these differs from float32, by 1."""
    maps = 1 if kind == "maximum" else 2
    op = replace(
        operation("add" if maps == 2 else kind, 0), kind=kind, input_quantizations=tuple(ROUND[:maps]),
        output_quantization=ROUND[into],
    )  # fmt: skip
    if maps == 1:
        op = replace(op, clamp=(ROUND[into].zero_point, 127))
    operands = every_pair()[:maps]
    got, want = post.run(op, tuple(operands)), by_onnx_runtime(op, operands, node)
    away, near = np.abs(got.astype(int) - want.astype(int)), post.near_tie(op, tuple(operands))
    assert away.max() <= 1 and not away[~near].any() and 0.01 < near.mean() < 0.3


def test_factors_fit_the_sum() -> None:
    """Two bytes times their factors, zero points taken out, stay within 32 bits, whatever the scales."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        op = operation("add", seed)
        scale = np.float32(2.0 ** rng.uniform(-20, 10))
        op = replace(op, output_quantization=replace(op.output_quantization, scale=scale))
        low, high = op.factors
        given = op.requantization()
        assert min(low, high) >= 0 and max(low, high) < 1 << 21 and 255 * (low + high) < 2**31
        assert -(2**31) <= given.bias <= 0 and 23 <= given.shift <= 57 and given.multiplier == 1 << 23


def test_scales_too_far_apart_are_refused() -> None:
    op = operation("add", 1)
    op = replace(op, output_quantization=replace(op.output_quantization, scale=np.float32(1e-9)))
    with pytest.raises(FlowError, match=r"scales of an addition may differ .* those of 'add' are .* calibrate"):
        _ = op.factors


@pytest.mark.parametrize("seed", range(5))
def test_averages(seed: int) -> None:
    """What differs from float32 is at a tie, and by 1."""
    rng = np.random.default_rng(seed)
    window = Window((3, 2), (2, 1), (0, 0, 0, 0), (1, 1))
    op = replace(operation("average", seed), input_shapes=((4, 41, 40),), output_shape=(4, 20, 39), window=window)
    if seed % 2:  # the same scale before and after: ties in one of six
        op = replace(op, output_quantization=op.input_quantizations[0])
    codes = rng.integers(-128, 128, (4, 41, 40)).astype(np.int8)
    want = by_onnx_runtime(op, [codes], "AveragePool", kernel_shape=[3, 2], strides=[2, 1])
    away, near = np.abs(post.run(op, (codes,)).astype(int) - want.astype(int)), post.near_tie(op, (codes,))
    assert away.max() <= 1 and not away[~near].any()
    assert (near.mean() > 0.1) == bool(seed % 2)


@pytest.mark.parametrize("seed", range(3))
def test_maxima_with_padding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    window = Window((3, 3), (2, 2), (1, 1, 1, 1), (1, 1))
    op = replace(operation("maximum", seed), input_shapes=((5, 17, 16),), output_shape=(5, 9, 8), window=window)
    op = replace(op, output_quantization=op.input_quantizations[0])
    codes = rng.integers(-128, 128, (5, 17, 16)).astype(np.int8)
    want = by_onnx_runtime(op, [codes], "MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    assert np.array_equal(post.run(op, (codes,)), want)


def test_channels_nobody_fills_are_zero() -> None:
    filled = tuple((0, channel) for channel in range(8))
    op = replace(
        operation("move", 3), input_shapes=((8, 4, 4),), output_shape=(24, 2, 4),
        picks=(((NOBODY, 0),) * 8 + filled + ((NOBODY, 0),) * 8,),
        window=Window((1, 1), (2, 1), (-1, 0, 0, 0), (1, 1)),
    )  # fmt: skip
    op = replace(op, output_quantization=op.input_quantizations[0])
    codes = np.random.default_rng(0).integers(-128, 128, (8, 4, 4)).astype(np.int8)
    made = post.run(op, (codes,))
    assert np.array_equal(made[8:16], codes[:, 1::2])
    assert (made[:8] == op.output_quantization.zero_point).all() and (made[16:] == made[0, 0, 0]).all()


def test_a_move_repeats_pixels_and_takes_another_channel_for_each_place() -> None:
    """Twice downwards, three times across: channel by channel of six places; scales and zero points are the same."""
    rng = np.random.default_rng(3)
    codes, given = rng.integers(-128, 128, (7, 3, 2)).astype(np.int8), quantization(rng)
    picks = tuple(((0, place), (0, 6 - place)) for place in range(6))
    op = PostOp(
        "move", "move", ("a",), "y", (given,), given, (-128, 127), ((7, 3, 2),), (2, 6, 6), POINT, picks, (2, 3)
    )  # fmt: skip
    want = np.empty((2, 6, 6), np.int8)
    for place in range(6):
        down, across = divmod(place, 3)
        want[:, down::2, across::3] = codes[[place, 6 - place]]
    assert np.array_equal(post.run(op, (codes,)), want)
