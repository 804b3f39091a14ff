"""Walks, taps and the arbiter against what they stand for: every tap of every window of a convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from myhdl import Signal, intbv

from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.hardware.fields import ADDRESS, WALK
from flow.hardware.maps.arbiter import arbiter
from flow.hardware.maps.bundles import Tap
from flow.hardware.maps.walker import walker
from flow.network.model import Window
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.program import assemble, needed_words
from flow.scheduling.onchip.walks import MapWalk, taps
from tests.helpers.clocking import Bench, reset, wire
from tests.helpers.networks import mixed, pruned, quantized

ROWS = 4


def field_word(fields: dict[str, int]) -> int:
    word, begin = 0, 0
    for name, width in WALK:
        assert 0 <= fields[name] < 1 << width, (name, fields[name])
        word, begin = word | fields[name] << begin, begin + width
    return word


def windows(size: tuple[int, int], kernel: int, stride: int, pad: int, dilation: int) -> list[int]:
    """Rows and columns of a convolution's output."""
    return [(extent + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for extent in size]


WALKS = [
    (height, width, *shape, first)
    for height, width in [(5, 7), (4, 4), (3, 9), (1, 6)]
    for shape in [(3, 1, 1, 1), (3, 2, 1, 1), (1, 2, 0, 1), (2, 1, 1, 2)]
    for first in (0, 3)
    if first < np.prod(windows((height, width), *shape))
]


@pytest.mark.parametrize(("height", "width", "kernel", "stride", "pad", "dilation", "first"), WALKS)
def test_every_tap_of_every_window(
    height: int, width: int, kernel: int, stride: int, pad: int, dilation: int, first: int
) -> None:
    """The walker's addresses and padding are those of the convolution, from any window on."""
    grid = windows((height, width), kernel, stride, pad, dilation)
    base, plane, octets = 11, height * width | 1, 2
    count = grid[0] * grid[1] - first
    over = MapWalk(
        base, width, (height, width), grid[1], count, first, step=(stride, stride), origin=(-pad, -pad)
    ).fields(ROWS)
    window = Window((kernel, kernel), (stride, stride), (pad,) * 4, (dilation, dilation))
    given = taps(window, octets, plane, width, 2, True)
    assert given["filler"] == kernel * kernel * octets % 2 and given["wait"] == 1
    clk, restart, advance, ready = wire(), wire(), wire(), wire()
    fields, tap_word, tap_x, tap_y = wire(sum(width for _, width in WALK)), wire(ADDRESS), wire(16), wire(16)
    addresses, present = wire(ADDRESS * ROWS), wire(ROWS)
    bench = Bench(
        walker(clk, reset(), restart, advance, ready, fields, Tap(tap_word, tap_x, tap_y), addresses, present, ROWS),
        clk,
    )
    fields.next, restart.next = field_word(over), True
    bench.step()
    restart.next = False
    bench.step(ROWS)
    for tile in range(-(-count // ROWS)):
        assert ready
        word = 0
        for ky in range(kernel):
            for kx in range(kernel):
                for octet in range(octets):
                    tap_word.next, tap_x.next, tap_y.next = word, kx * dilation, ky * dilation
                    bench.settle()
                    check(int(addresses), int(present), (height, width), grid, tile, first, base + octet * plane,
                          (ky * dilation - pad, kx * dilation - pad), stride, width)  # fmt: skip
                    bench.step()
                    step = "delta_octet" if octet < octets - 1 else "delta_x" if kx < kernel - 1 else "delta_y"
                    word = (word + given[step]) % (1 << ADDRESS)
        advance.next = True
        bench.step()
        advance.next = False
    bench.close()


def check(
    addresses: int, present: int, size: tuple[int, int], grid: list[int], tile: int, first: int, origin: int,
    tap: tuple[int, int], stride: int, pitch: int,
) -> None:  # fmt: skip
    for row in range(ROWS):
        number = first + tile * ROWS + row
        y, x = (number // grid[1]) * stride + tap[0], number % grid[1] * stride + tap[1]
        inside = number < grid[0] * grid[1] and 0 <= y < size[0] and 0 <= x < size[1]
        assert bool(present >> row & 1) == inside, (tile, row)
        if inside:
            assert addresses >> ADDRESS * row & (1 << ADDRESS) - 1 == origin + y * pitch + x, (tile, row)


def test_the_arbiter_serves_the_first_of_each_bank() -> None:
    """Random addresses: of the rows that want one bank the lowest is served, with its line; no other bank is used."""
    rng, lines = np.random.default_rng(1), 8
    pending, addresses, granted, enables = wire(ROWS), wire(ADDRESS * ROWS), wire(ROWS), wire(ROWS)
    at, chosen = wire(3 * ROWS), Signal(intbv(0)[2 * ROWS :])
    bench = Bench(arbiter(pending, addresses, granted, enables, at, chosen, ROWS, 3))
    for _ in range(300):
        wanted, who = rng.integers(0, ROWS * lines, ROWS), int(rng.integers(0, 1 << ROWS))
        addresses.next = sum(int(word) << ADDRESS * row for row, word in enumerate(wanted))
        pending.next = who
        bench.step()
        first: dict[int, int] = {}
        for row in range(ROWS):
            if who >> row & 1:
                first.setdefault(int(wanted[row]) % ROWS, row)
        assert int(granted) == sum(1 << row for row in first.values())
        assert int(enables) == sum(1 << bank for bank in first)
        for bank, row in first.items():
            assert int(chosen) >> 2 * bank & 3 == row and int(at) >> 3 * bank & 7 == wanted[row] // ROWS
    bench.close()


def test_maps_that_do_not_fit_are_refused() -> None:
    network, encoded = pruned(quantized(mixed()), 4)
    linked = chain(network)
    small = ArrayConfig(4, 4).with_maps(64)
    assert needed_words(linked, 4) > 64
    with pytest.raises(FlowError, match=r"the feature maps need \d+ words of 8 bytes, but the memory has 64"):
        assemble(linked, encoded, small)


@pytest.mark.parametrize(
    ("rows", "words", "pe"), [(3, 96, "bitvert"), (4, 97, "bitvert"), (1, 64, "bitvert"), (4, 64, "dense")]
)
def test_arrays_that_cannot_have_maps(rows: int, words: int, pe: str) -> None:
    config: Any = ArrayConfig(rows, 4, pe)
    with pytest.raises(FlowError, match="feature maps"):
        config.with_maps(words)
