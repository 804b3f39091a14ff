"""The array: what its elements sum is the dot product, whatever the encoding, the extreme or the pace."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from myhdl import Signal, intbv
from numpy.typing import NDArray

from flow.compression.encoding import BBS
from flow.hardware.config import PE_KINDS, ArrayConfig
from flow.hardware.core.array import LATENCY
from flow.hardware.core.bundles import Column
from flow.hardware.elements.activation_sum import activation_sum
from flow.hardware.elements.pe import constant_multiplier
from tests.helpers.clocking import Bench, packed, reset, signed, wire

Ints = NDArray[np.int64]
Draw = Literal["random", "lowest", "highest"]
draws = st.sampled_from(["random", "random", "lowest", "highest"])


class ArrayBench:
    """An array with the words and controls that the streams and the sequencer would give it."""

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        self.enable, self.finished, self.capture, self.drain = (wire() for _ in range(4))
        self.controls = {name: wire() for name in ("valid", "first", "last", "load", "high_phase")}
        self.controls["significance"] = wire(3)
        self.words = {
            "weight_word": wire(config.weight_bits),
            "metadata_word": wire(config.metadata_bits),
            "activation_word": wire(config.activation_bits * config.beats),
        }
        self.results = wire(config.accumulator_bits * config.rows * config.lanes)
        clk = wire()
        outs = {"finished": self.finished, "results": self.results}
        ins = {"enable": self.enable, "capture": self.capture, "drain": self.drain}
        column = Column(**self.controls)
        made = config.element.block(clk=clk, reset=reset(), column=column, config=config, **ins, **outs, **self.words)
        self.bench = Bench(made, clk)

    def column(self, stalls: Any, **values: int) -> None:
        """One edge with these words and controls, all others 0; before it, at random, edges without enable."""
        signals = self.words | self.controls
        while stalls is not None and stalls.integers(3) == 0:
            self.enable.next = 0
            for signal in signals.values():
                signal.next = int.from_bytes(stalls.bytes(len(signal) // 8 + 1), "little") % 2 ** len(signal)
            self.bench.step()
        self.enable.next = 1
        for name, signal in signals.items():
            signal.next = values.get(name, 0)
        self.bench.step()

    def sums(self) -> Ints:
        """Captures the finished sums and drains them: [rows, columns]."""
        rows, lanes, bits = self.config.rows, self.config.lanes, self.config.accumulator_bits
        self.capture.next = 1
        self.bench.step()
        self.capture.next = 0
        self.drain.next = 1
        sums: list[int] = []
        while len(sums) < rows * self.config.columns:
            sums += [signed(int(self.results) >> bits * i, bits) for i in range(rows * lanes)]
            self.bench.step()
        return np.array(sums, np.int64).reshape(-1, rows)[: self.config.columns].T


def run_array(
    config: ArrayConfig, kept: Ints, columns: int, x: Ints, metadata: Ints | None = None, stalls: Any = None
) -> Ints:
    """One tile: sums [rows, array columns].

    kept [array columns, reduction]: S, of which `columns` bit columns are stored; x [rows, reduction], unsigned;
    metadata bytes [array columns, groups]; `stalls`: a random generator, to hold the array at random edges.
    """
    made = ArrayBench(config)
    steps = kept.shape[1] // config.step
    together, slices = config.columns_per_cycle, config.slices(columns)
    used = -(-columns // together)
    pattern = kept[:, :, None] >> np.arange(used * together)[::-1] & 1
    pattern = pattern.reshape(len(kept), steps, config.step, used, together)
    try:
        for step in range(steps):
            part = slice(step * config.step, (step + 1) * config.step)
            halves = x[:, part].reshape(config.rows, config.beats, 8).transpose(1, 0, 2)
            for column in range(slices):
                # some bits of every weight, or every bit of one weight, the last first
                if column >= used:
                    bits = np.zeros(1, np.int64)
                elif config.element.parallel:
                    bits = pattern[:, step, 7 - column, ::-1]
                else:
                    bits = pattern[:, step, :, column].swapaxes(1, 2)
                made.column(
                    stalls,
                    weight_word=packed(bits.reshape(-1), 1),
                    metadata_word=0 if metadata is None else packed(metadata[:, step // 2]),
                    activation_word=packed(halves.reshape(-1)) if column == 0 else 0,
                    significance=(8 - together + -columns % together - together * column) % 8,
                    valid=1,
                    first=step == column == 0,
                    last=step == steps - 1 and column == slices - 1,
                    load=column == 0,
                    high_phase=column == 1,
                )
                assert not made.finished
        for edge in range(1, LATENCY):  # through the pipeline
            made.column(stalls)
            assert bool(made.finished) == (edge == LATENCY - 1)
        return made.sums()
    finally:
        made.bench.close()


def pick(rng: np.random.Generator, draw: Draw, lowest: int, highest: int, shape: tuple[int, int]) -> Ints:
    if draw == "random":
        return rng.integers(lowest, highest, shape, np.int64, endpoint=True)
    return np.full(shape, lowest if draw == "lowest" else highest, np.int64)


def metadata_bytes(redundant: Ints, constant: Ints) -> Ints:
    return np.asarray(redundant << BBS.constant_bits | constant & (2**BBS.constant_bits - 1), np.int64)


ENCODED = [ArrayConfig(1, 2, drain=2), *(ArrayConfig(1, 2, "pairs", drain=2, columns_per_cycle=c) for c in (1, 2, 4))]


@settings(max_examples=80)
@given(
    config=st.sampled_from(ENCODED), seed=st.integers(0, 2**32 - 1), pruned=st.integers(0, BBS.max_columns_pruned),
    steps=st.integers(1, 5), kept_draw=draws, constant_draw=draws, x_draw=draws,
)  # fmt: skip
def test_encoded_sums_are_dot_products(
    config: ArrayConfig, seed: int, pruned: int, steps: int, kept_draw: Draw, constant_draw: Draw, x_draw: Draw
) -> None:
    """Any S, r and d that the format can hold, legal INT8 or not; the last group may be half a group."""
    rng = np.random.default_rng(seed)
    groups, length = -(-steps // 2), steps * config.step
    kept = pick(rng, kept_draw, *BBS.kept_range(pruned), (2, length))
    redundant = pick(rng, "random", 0, BBS.max_redundant(pruned), (2, groups))
    constant = pick(rng, constant_draw, BBS.constant_min, BBS.constant_max, (2, groups))
    x = pick(rng, x_draw, 0, 255, (1, length))
    group = np.arange(length) // BBS.group_size
    weights = (kept << (pruned - redundant)[:, group]) + constant[:, group]
    got = run_array(config, kept, 8 - pruned, x, metadata_bytes(redundant, constant), rng)
    assert np.array_equal(got, x @ weights.T)


@settings(max_examples=25)
@given(
    kind=st.sampled_from(["dense", "parallel"]), seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 5),
    weight_draw=draws, x_draw=draws,
)  # fmt: skip
def test_plain_sums_are_dot_products(kind: str, seed: int, steps: int, weight_draw: Draw, x_draw: Draw) -> None:
    rng = np.random.default_rng(seed)
    config = ArrayConfig(2, 2, kind, drain=1)
    weights = pick(rng, weight_draw, -128, 127, (2, 8 * steps))
    x = pick(rng, x_draw, 0, 255, (2, 8 * steps))
    assert np.array_equal(run_array(config, weights, 8, x, None, rng), x @ weights.T)


@pytest.mark.parametrize("kind", PE_KINDS)
@pytest.mark.parametrize(("rows", "columns", "drain"), [(1, 1, 1), (3, 5, 2), (2, 5, 4), (2, 4, 1)])
def test_every_element_drains_to_its_place(kind: str, rows: int, columns: int, drain: int) -> None:
    config = ArrayConfig(rows, columns, kind, drain=drain)
    rng = np.random.default_rng(5)
    weights, x = rng.integers(-128, 128, (columns, 32)), rng.integers(0, 256, (rows, 32))
    assert np.array_equal(run_array(config, weights, 8, x), x @ weights.T)


@pytest.mark.parametrize("weight", [-128, 127])
@pytest.mark.parametrize("activation", [0, 255])
@pytest.mark.parametrize("kind", PE_KINDS)
def test_sums_at_the_ends_of_int8(kind: str, weight: int, activation: int) -> None:
    got = run_array(ArrayConfig(1, 1, kind), np.full((1, 64), weight), 8, np.full((1, 64), activation))
    assert got.item() == 64 * weight * activation


@pytest.mark.parametrize(
    ("config", "pruned"),
    [*((ArrayConfig(1, 4), n) for n in range(1, 7)), (ArrayConfig(1, 4, "pairs", columns_per_cycle=2), 3)],
)
def test_every_shift_and_constant_is_applied(config: ArrayConfig, pruned: int) -> None:
    """Each r with each d, in a group of its own; four array columns, so that a sum holds 16 to 64 of them."""
    every = [(r, d) for r in range(BBS.max_redundant(pruned) + 1) for d in range(-32, 32)]
    redundant, constant = np.array(every).reshape(4, -1, 2).transpose(2, 0, 1)
    rng = np.random.default_rng(pruned)
    length = 32 * redundant.shape[1]
    kept = rng.integers(*BBS.kept_range(pruned), (4, length), endpoint=True)
    x = rng.integers(0, 256, (1, length))
    weights = (kept << np.repeat(pruned - redundant, 32, axis=1)) + np.repeat(constant, 32, axis=1)
    got = run_array(config, kept, 8 - pruned, x, metadata_bytes(redundant, constant))
    assert np.array_equal(got, x @ weights.T)


def test_accumulators_of_24_bits_hold_their_range() -> None:
    """Up to 2^23 - 128; the sum just beyond it wraps, so check_width keeps such layers away."""
    config = ArrayConfig(1, 1, "dense", accumulator_bits=24)
    weights, x = np.zeros((1, 264), np.int64), np.full((1, 264), 255)
    weights[0, :260] = [127] * 259 + [3]
    most = 2**23 - 128
    assert run_array(config, weights, 8, x).item() == most
    assert run_array(config, -weights, 8, x).item() == -most
    weights[0, 260] = 1
    assert run_array(config, weights, 8, x).item() == most + 255 - 2**24


def test_activation_sum_adds_eight_bytes() -> None:
    clk, x, total = wire(), wire(64), wire(11)
    rng = np.random.default_rng(2)
    bench = Bench(activation_sum(clk, wire(1, 1), x, total), clk)
    try:
        for values in (np.zeros(8), np.full(8, 255), *rng.integers(0, 256, (20, 8)), *(255 * np.eye(8))):
            x.next = packed(values)
            bench.step()
            assert int(total) == values.sum()
    finally:
        bench.close()


def test_constant_multiplier_takes_both_pieces() -> None:
    """The low piece is 0 to 7, the high piece -4 to 3: together d from -32 to 31."""
    total, piece, high = wire(12), wire(3), wire()
    product = Signal(intbv(0, min=-(2**16), max=2**16))
    bench = Bench(constant_multiplier(total, piece, high, product))
    try:
        for value in (0, 1, 2040, 4080):
            for code in range(8):
                for is_high in (0, 1):
                    total.next, piece.next, high.next = value, code, is_high
                    bench.step()
                    assert int(product) == value * (signed(code, 3) if is_high else code)
    finally:
        bench.close()
