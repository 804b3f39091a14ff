"""The normalizer in MyHDL's simulator against its integers, of any channels and positions, whatever waits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flow.hardware.fields import NORM_HIGH, NORM_LOW, NORM_WORDS
from flow.hardware.maps.bundles import Given, NormWork
from flow.hardware.maps.normalizer import measuring, normalizer
from flow.scheduling.onchip.norms import Norm, finished, normalized
from tests.helpers.clocking import Bench, packed, reset, signed, wire

ROWS = 2


def field_word(fields: tuple[tuple[str, int], ...], **values: int) -> int:
    word, begin = 0, 0
    for name, width in fields:
        assert 0 <= values[name] < 1 << width, (name, values[name])
        word, begin = word | values[name] << begin, begin + width
    return word


class Normalizer:
    """The block with its streams: enable is low now and then, and so is valid between steps."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.clk, self.enable = wire(), wire()
        self.valid, self.first, self.load, self.read, self.ends = (wire() for _ in range(5))
        self.word, self.brought = wire(64 * ROWS), wire(64)
        self.normal = Given(wire(8), wire(32 * ROWS), wire(), wire())
        self.work = NormWork(wire(), wire(), wire(), wire(), wire(21), wire(21), wire())
        self.left: list[tuple[int, list[int]]] = []  # channel, t of every row
        self.bench = Bench(
            normalizer(
                self.clk, reset(), self.enable, self.work, self.valid, self.first, self.load, self.word, self.read,
                self.ends, self.brought, self.normal, ROWS,
            ),
            self.clk,
        )  # fmt: skip

    def fill(self, constants: tuple[int, ...]) -> None:
        words, shown = [*constants, 0xDEAD], 0
        self.work.constants.next = 1
        for number, word in enumerate(words):
            self.read.next, self.ends.next, self.brought.next = 1, number == len(words) - 1, shown
            self.bench.step()
            shown = word
            self.read.next, self.ends.next, self.brought.next = 0, 0, shown
            self.bench.step(int(self.rng.integers(0, 2)))
        self.work.constants.next, self.brought.next = 0, 0xBEEF
        self.bench.step()

    def step(self) -> None:
        while self.rng.random() < 0.1:
            self.enable.next = 0
            self.bench.step()
        self.enable.next = 1
        if gives := int(self.normal.gives):
            assert gives & (gives - 1) == 0 and self.normal.holds4
            given = [signed(int(self.normal.given) >> 32 * row & 0xFFFFFFFF, 32) for row in range(ROWS)]
            self.left.append((gives.bit_length() - 1, given))
        self.bench.step()

    def block(self, norm: Norm, tiles: list[list[NDArray[np.int64]]], applies: bool, fraction: int, sign: bool) -> None:
        """One descriptor: of every tile the octets [ROWS, 8] that come, one after the other."""
        work = self.work
        work.take.next, work.normalize.next, work.applies.next, work.softmax.next = 1, 1, applies, norm.softmax
        work.factor_low.next = field_word(NORM_LOW, count=norm.channels, centred=int(norm.centred))
        scale = norm.shift(fraction) if applies else 0
        work.factor_high.next = field_word(
            NORM_HIGH, centre=norm.zero, scale=scale, negative=int(sign), doublings=norm.doublings
        )  # fmt: skip
        self.step()
        work.take.next, work.normalize.next = 0, 0
        self.step()
        for tile in tiles:
            first = True
            for octets in tile:
                while self.rng.random() < 0.1:
                    self.valid.next = 0
                    self.step()
                for channel in range(8):
                    self.valid.next, self.load.next, self.first.next = 1, channel == 0, first
                    self.word.next = packed(octets.reshape(-1)) if channel == 0 else 0xABCDEF
                    first = False
                    self.step()
                    self.load.next, self.first.next = 0, 0
        self.valid.next = 0


@pytest.mark.parametrize("kind", ["softmax", "layernorm"])
def test_it_is_its_integers(kind: str) -> None:
    """Positions measured together, then octet after octet, with signs and bits of their own."""

    @settings(max_examples=6, deadline=None)
    @given(st.integers(0, 10**6), st.sampled_from([1, 2, 7, 8, 9, 17]), st.integers(1, 3), st.booleans())
    def equal(seed: int, channels: int, tiles: int, centred: bool) -> None:
        rng, made = np.random.default_rng(seed), Normalizer(seed)
        step, zero = float(np.float32(2.0 ** rng.uniform(-9, -1))), int(rng.integers(0, 256))
        norm = Norm(kind, channels, step, zero)
        if kind == "layernorm":
            norm = Norm(kind, channels, step, zero, float(rng.choice([1e-12, 1e-5, 1e-2])), centred)
        spread = float(rng.choice([0.3, 3, 300]))
        octets = np.clip(np.rint(rng.normal(128, spread, (channels, tiles * ROWS))), 0, 255).astype(np.int64)
        count = -(-channels // 8)
        padded = np.zeros((count * 8, tiles * ROWS), np.int64)
        padded[:channels] = octets
        words = padded.reshape(count, 8, tiles, ROWS).transpose(2, 0, 3, 1)  # tile, octet, row, channel
        made.fill(norm.constants)
        passes = norm.passes + -(-measuring(norm.softmax) // (8 * count))
        made.block(norm, [[*words[tile]] * passes for tile in range(tiles)], False, 0, False)
        a, found = normalized(norm, octets)
        for octet in range(count):
            other = int(rng.integers(0, 4)) * (-1 if kind == "layernorm" else 3)
            fraction, sign = norm.fraction + other, bool(rng.integers(0, 2))
            made.left.clear()
            made.block(norm, [[words[tile, octet]] for tile in range(tiles)], True, fraction, sign)
            for _ in range(5):
                made.step()
            want = finished(norm, a, found, fraction, sign)
            assert [slot for slot, _ in made.left] == [*range(8)] * tiles
            for number, (slot, given_now) in enumerate(made.left):
                channel, tile = octet * 8 + slot, number // 8
                if channel < channels:
                    assert given_now == want[channel, tile * ROWS : (tile + 1) * ROWS].tolist(), (channel, tile)
        made.bench.close()

    equal()


def test_constants_fit_their_memory() -> None:
    assert len(Norm("softmax", 3, 0.1).constants) == NORM_WORDS == 256
