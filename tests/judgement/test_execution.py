"""Networks on chip executed from their images: right ones pass, and a wrong number in one sweep is found.

The wrong numbers are those of the code that packs: both the images and the network assembled again have them, so that
nothing else in the judgement on images sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest

from flow.compression.encoding import EncodedLayer
from flow.hardware.config import ArrayConfig
from flow.hardware.fields import SUBGROUP
from flow.judgement import execution, images
from flow.network.model import Window
from flow.scheduling.onchip import program
from flow.scheduling.onchip.chain import Chain, chain
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.program import OnChip, assemble, fitted
from flow.scheduling.onchip.sweeps import Sweep, sweeps
from tests.helpers.heads import for_the_chip
from tests.helpers.networks import (
    Floats,
    chosen,
    depthwise,
    gated,
    mixed,
    normalized,
    normed,
    pooled,
    pruned,
    residual,
    shuffled,
)
from tests.helpers.tokens import Tokens, image_attention, mixer, vit, windows


def held() -> onnx.ModelProto:
    """A function of a map where a constant says so, another map elsewhere: tables of an operation with constants."""
    net = Floats(3)
    a = net.conv("x", 3, 11, 1, relu=False)
    says = net.constant(net.rng.integers(0, 2, (1, 11, 4, 3)).astype(bool))
    b = net.node("Where", says, net.node("Sigmoid", a), net.conv(a, 11, 11, 1, relu=False))
    return net.model((3, 4, 3), net.conv(b, 11, 9, 1, relu=False))


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "residual": residual, "mixed": mixed, "depthwise": depthwise, "gated": gated, "chosen": chosen, "pooled": pooled,
    "shuffled": shuffled, "normed": normed, "normalized": normalized, "windows": lambda: windows(2, 2),
    "across": lambda: image_attention(2, 3), "vit": lambda: vit(Tokens((1, 3), 5, 3, True), 0),
    "held": held, "mixer": lambda: mixer(Tokens((2, 3), 11, 3, True), 0),
}  # fmt: skip
SQUARE = ArrayConfig(4, 4, drain=2)
CONFIGS = {"4x4": SQUARE, "2x16": ArrayConfig(2, 16, drain=2), "8x8": replace(SQUARE, rows=8, columns=8, pe="pairs")}


@cache
def linked(kind: str) -> tuple[Chain, dict[str, EncodedLayer]]:
    network, encoded = pruned(for_the_chip(NETWORKS[kind]()), SQUARE.columns)
    return chain(network), encoded


def on_chip(kind: str, config: ArrayConfig = SQUARE) -> OnChip:
    made, encoded = linked(kind)
    return assemble(made, encoded, fitted(config, made))


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_step_gives_what_it_is_to_give(kind: str) -> None:
    """Also in the output memory, and whatever was in the maps before."""
    for config in CONFIGS.values():
        onchip = on_chip(kind, config)
        assert not images.judge_on_chip(onchip, onchip)
        assert not [*map(str, execution.judge(onchip) + execution.judge(onchip, seed=1))]


Change = Callable[[Sweep], Sweep]


def moved(walk: str, **more: int) -> Change:
    """A walk with other numbers: so much more, or a pair whose last number is so much more."""

    def change(sweep: Sweep) -> Sweep:
        old = getattr(sweep, walk)
        new = {
            name: value + by if isinstance(value := getattr(old, name), int) else (value[0], value[1] + by)
            for name, by in more.items()
        }
        return replace(sweep, **{walk: replace(old, **new)})

    return change


def first_tap_alone(sweep: Sweep) -> Sweep:
    return replace(sweep, window=replace(sweep.window, kernel=(1, 1)))


def dilated(sweep: Sweep) -> Sweep:
    return replace(sweep, window=Window(sweep.window.kernel, (1, 1), (0,) * 4, (2, 2)))


def biased(sweep: Sweep) -> Sweep:
    """By two codes at least."""
    numbers = sweep.requantization
    return replace(
        sweep, requantization=replace(numbers, bias=numbers.bias + (1 << np.maximum(numbers.shift, 22) - 22))
    )


def swapped(sweep: Sweep) -> Sweep:
    """The first entry takes two channels the other way round."""
    first, second, *others = sweep.entries[0].channels
    entry = replace(sweep.entries[0], channels=(second, first, *others))
    return replace(sweep, entries=(entry, *sweep.entries[1:]))


def with_other(**values: Any) -> Change:
    return lambda sweep: replace(sweep, **values)


def of_table(sweep: Sweep) -> Sweep:
    return replace(sweep, table=bytes([sweep.table[0] ^ 1]) + sweep.table[1:])


def of_normal(**more: int) -> Change:
    def change(sweep: Sweep) -> Sweep:
        assert sweep.normal is not None
        values = {name: getattr(sweep.normal, name) + by for name, by in more.items()}
        return replace(sweep, normal=replace(sweep.normal, **values))

    return change


def in_output(sweep: Sweep) -> Sweep:
    """What reads the output memory takes other columns."""
    results = sweep.results.copy()
    results[:, 1] = (results[:, 1] + 1) % SUBGROUP
    return replace(sweep, results=results)


# kind of network, kind of operation, which of its sweeps, what is wrong with it
WRONG: list[tuple[str, str, int, Change]] = [
    ("residual", "add", 0, biased),
    ("residual", "add", 0, with_other(factors=(5, 7))),
    ("residual", "add", 0, with_other(plane=1)),
    ("residual", "add", 0, with_other(zero=1)),
    ("residual", "add", 0, with_other(clamp=(-128, 100))),
    ("residual", "average", 0, first_tap_alone),
    ("residual", "move", 0, moved("over", step=1)),
    ("residual", "move", 0, moved("over", word=1)),
    ("residual", "move", 0, moved("into", word=1)),
    ("residual", "move", 0, with_other(pad=5)),
    ("mixed", "maximum", 0, dilated),
    ("mixed", "maximum", 0, with_other(maximum=False)),
    ("mixed", "maximum", 0, with_other(pitch=3)),
    ("mixed", "maximum", 0, moved("over", origin=1)),
    ("mixed", "maximum", 0, moved("over", size=-1)),
    ("mixed", "maximum", 0, moved("over", columns=1)),
    ("mixed", "maximum", 0, moved("into", size=-1)),
    ("mixed", "maximum", 0, in_output),
    ("mixed", "move", 0, swapped),
    ("gated", "product", 0, with_other(product=False)),
    ("gated", "subtract", 0, with_other(minus=False)),
    ("gated", "product", -1, with_other(waits=False)),
    ("chosen", "smallest", -1, with_other(waits=False)),
    ("chosen", "select", -1, with_other(octets=1)),
    ("normalized", "softmax", 0, of_normal(passes=-2)),
    ("normalized", "softmax", 1, of_normal(fraction=1)),
    ("normalized", "layernorm", 1, of_normal(negative=1)),
    ("normalized", "layernorm", 1, biased),
    ("windows", "gather", 0, moved("over", step_word=1)),
    ("vit", "join", 2, of_table),
    ("vit", "join", -1, moved("into", origin=1)),
]


def one_wrong(change: Change, kind: str, at: int) -> Callable[..., Iterator[Sweep]]:
    """`sweeps`, with one sweep of each operation of a kind changed."""

    def made(op: PostOp, *rest: Any) -> Iterator[Sweep]:
        every = [*sweeps(op, *rest)]
        if op.kind == kind:
            every[at] = change(every[at])
        yield from every

    return made


@pytest.mark.parametrize(("network", "kind", "at", "change"), WRONG)
def test_a_wrong_number_of_a_sweep_is_found(
    network: str, kind: str, at: int, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked(network)
    monkeypatch.setattr(program, "sweeps", one_wrong(change, kind, at))
    onchip = on_chip(network)
    assert not images.judge_on_chip(onchip, onchip)
    errors = execution.judge(onchip)
    names = {step.name for step in onchip.chain.steps if isinstance(step, PostOp) and step.kind == kind}
    assert errors and {error.layer for error in errors} <= names, errors
    assert {(error.memory, error.place) for error in errors} == {("descriptor", images.NETWORK)}
