"""Tensors where their readers want them: what is the same map, what is copied, what is turned, and what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flow.network.model import Quantization
from flow.scheduling.onchip import post
from flow.scheduling.onchip.arrange import arranged, laid_out, settled
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.maps import Held, OffChipError, View, element_order
from flow.scheduling.onchip.post import PostOp
from flow.simulation.onchip import as_map, as_tensor
from tests.helpers.heads import for_the_chip
from tests.helpers.tokens import Tokens, mixer, vit

SCALE = Quantization(np.float32(0.1), 3, False)


def image(channels: int, height: int, width: int) -> Held:
    return Held("x", (channels, height, width), SCALE, (channels, height, width))


def moved(held: Held, tensor: NDArray[np.int64]) -> Held:
    """The tensor of these elements of the map."""
    return arranged(held, tensor[None], "it is moved")


def test_channels_first_and_last_are_one_map() -> None:
    """Of a map [C, H, W], [H, W, C], [H * W, C] and [C, H * W] are itself; [W, H, C] is not."""
    held = image(5, 2, 3)
    order = element_order(held, (1, 5, 2, 3))[0]
    last = moved(held, order.transpose(1, 2, 0))
    assert (last.shape, last.rows, last.view, last.tensor) == ((5, 1, 6), True, None, "x")
    assert moved(held, order.transpose(1, 2, 0).reshape(6, 5)).axes == (6, 5)
    assert moved(last, order) == held
    assert settled(Held("x", (5, 2, 3), SCALE, (5, 6))).shape == (5, 1, 6)
    assert moved(held, order.transpose(2, 1, 0)).view is not None


@settings(max_examples=30)
@given(st.integers(1, 20), st.integers(1, 19), st.integers(0, 99))
def test_what_is_turned_has_its_channels_as_pixels(channels: int, tokens: int, seed: int) -> None:
    """By one operation, which the tensor itself can be read back from; asked again, there is no second one."""
    held = Held("x", (channels, 1, tokens), SCALE, (tokens, channels), True)
    turned = moved(held, element_order(held, (1, tokens, channels))[0].T)
    made, maps = list[PostOp](), {"x": held}
    found = laid_out(made, maps, turned, True, "a reader")
    assert found.rows and found.shape == (tokens, 1, channels) and found.view is None
    codes = np.random.default_rng(seed).integers(-128, 128, (channels, 1, tokens)).astype(np.int8)
    if channels == 1 or tokens == 1:
        assert len(made) <= 1
        return
    (op,) = made
    got = post.run(op, (codes,))
    assert op.kind == "turn" and np.array_equal(got[:, 0], codes[:, 0].T)
    assert np.array_equal(as_tensor(maps[op.output], got), as_tensor(held, codes))
    assert np.array_equal(as_map(maps[op.output], as_tensor(held, codes)), got)
    assert laid_out(made, maps, turned, True, "a reader") == found and len(made) == 1
    assert not post.near_tie(op, (codes,)).any()


def test_channels_in_another_order_are_copied() -> None:
    held = image(6, 2, 2)
    order = element_order(held, (1, 6, 2, 2))[0]
    shuffled = moved(held, order.reshape(2, 3, 2, 2).transpose(1, 0, 2, 3).reshape(6, 2, 2))
    made = list[PostOp]()
    found = laid_out(made, {"x": held}, shuffled, False, "a reader")
    assert [op.kind for op in made] == ["move"] and found.shape == (6, 2, 2)
    codes = np.arange(24, dtype=np.int8).reshape(6, 2, 2)
    assert np.array_equal(post.run(made[0], (codes,)), codes[[0, 3, 1, 4, 2, 5]])


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_channels_that_become_pixels_are_copied(channels: int, height: int, down: int, across: int) -> None:
    """A pixel shuffle as exporters write it: Reshape, Transpose, Reshape."""
    held = image(channels * down * across, height, 3)
    order = element_order(held, (1, channels, down, across, height, 3))[0].transpose(0, 3, 1, 4, 2)
    order = order.reshape(channels, height * down, 3 * across)
    made = list[PostOp]()
    found = laid_out(made, {"x": held}, moved(held, order), False, "a reader")
    assert found.shape == order.shape and found.view is None
    codes = np.random.default_rng(1).integers(-128, 128, held.shape).astype(np.int8)
    got = post.run(made[0], (codes,)) if made else codes
    assert [op.kind for op in made] == (["move"] if down * across > 1 else [])
    assert np.array_equal(got.reshape(-1), codes.reshape(-1)[order.reshape(-1)])


@settings(max_examples=30)
@given(st.integers(0, 999), st.integers(1, 20), st.booleans())
def test_pixels_in_another_order_are_gathered(seed: int, channels: int, rows: bool) -> None:
    """Whole channels from anywhere, some of them with their pixels in one order, and some in another."""
    rng, held = np.random.default_rng(seed), image(channels, 2, 3)
    order = element_order(held, (1, channels, 6))[0][rng.permutation(channels)]
    order[::2] = order[::2, [1, 4, 0, 3, 2, 5]]
    tensor = moved(held, order.T if rows else order.reshape(channels, 3, 2))
    made, maps = list[PostOp](), {"x": held}
    found = laid_out(made, maps, tensor, rows, "a reader")
    (op,) = made
    codes = rng.integers(-128, 128, (channels, 2, 3)).astype(np.int8)
    assert op.kind == "gather" and found.shape == ((channels, 1, 6) if rows else (channels, 3, 2))
    assert np.array_equal(post.run(op, (codes,)).reshape(-1), codes.reshape(-1)[order.reshape(-1)])
    assert np.array_equal(as_tensor(maps[op.output], post.run(op, (codes,))), as_tensor(held, codes))
    assert not post.near_tie(op, (codes,)).any()


def test_what_nothing_can_move_is_refused_with_the_mover() -> None:
    held = image(6, 2, 3)
    order = np.random.default_rng(1).permutation(36).reshape(1, 3, 2, 6)
    view = Held("x", (6, 2, 3), SCALE, (3, 2, 6), view=View(order, "Transpose 't' turns", "t"))
    with pytest.raises(OffChipError, match="Transpose 't' turns") as error:
        laid_out([], {"x": held}, view, False, "a reader")
    assert error.value.view == "t"


def test_networks_of_tokens_are_seen_whole() -> None:
    """Of a class token that is the same for every sample, and of tokens and channels in turn."""
    net = Tokens((2, 3), 10, 7)
    for model in (vit(net), mixer(net)):
        linked = chain(for_the_chip(model))
        assert linked.whole, linked.left
    (join,) = (step for step in chain(for_the_chip(vit(net))).steps if isinstance(step, PostOp) and step.kind == "join")
    assert join.input_shapes == ((10, 1, 1), (10, 1, 6)) and join.corners == ((0, 0), (0, 1))
    assert [number for number, _ in join.constants] == [0] and len(join.inputs) == 1


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 5), st.integers(0, 99))
def test_groups_of_channels_become_channels_and_come_back(
    groups: int, size: int, height: int, width: int, seed: int
) -> None:
    """A group's channels with all their pixels are the channels of one pixel, as a GroupNormalization wants them."""
    codes = np.random.default_rng(seed).integers(-128, 128, (groups * size, height, width)).astype(np.int8)
    held = image(groups * size, height, width)
    made, maps, done = list[PostOp](), {"x": held}, {"x": codes}
    order = element_order(held, (1, groups, size * height * width))
    found = laid_out(made, maps, arranged(held, order, "its groups are joined"), True, "a reader")
    for op in made:
        done[op.output] = post.run(op, [done[name] for name in op.inputs])
    assert found.shape == (size * height * width, 1, groups)
    grouped = done[found.tensor].reshape(-1, groups)
    assert np.array_equal(grouped, codes.reshape(groups, -1).T)

    own = Held("y", found.shape, SCALE, found.axes, True)
    back = arranged(own, element_order(own, (1, groups, size * height * width)).reshape(1, *held.axes), "and parted")
    made, maps, done = [], {"y": own}, {"y": grouped.reshape(found.shape)}
    found = laid_out(made, maps, back, False, "a reader")
    for op in made:
        done[op.output] = post.run(op, [done[name].reshape(op.input_shapes[-1]) for name in op.inputs])
    assert np.array_equal(done[found.tensor].reshape(codes.shape), codes) and len(made) <= 2
