"""The order of work in a layer by itself: every tile once, windows held where that moves fewer bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from flow.hardware.config import ArrayConfig
from flow.network.model import ArrayLayer
from flow.scheduling import order
from flow.scheduling.blocks import LayerSchedule, layer_schedule
from flow.scheduling.order import by_itself, layout
from flow.scheduling.traffic import memory_traffic
from tests.helpers.layers import layer_of, random_weights

CONFIG = ArrayConfig(2, 3, drain=2, activation_depth=16)


def layer(channels: int, reduction: int, positions: int) -> ArrayLayer:
    rng = np.random.default_rng(0)
    return layer_of(random_weights(rng, channels, reduction), positions, rng)


def walk(scheduled: LayerSchedule) -> list[tuple[int, int, int, int]]:
    """First channel, first tile, tiles and tiles whose windows are fetched, of every block."""
    return [(int(b.channels[0]), b.first_tile, b.tiles, b.fetched) for b in scheduled.blocks]


def test_windows_are_held_for_all_channels() -> None:
    """Three steps of 12 words: four tiles of two windows at once, the next ones fetched with the last block."""
    given = layer(7, 40, 29)  # fifteen tiles
    scheduled = by_itself(given, np.full(7, 4), CONFIG)
    assert walk(scheduled) == [
        (0, 0, 4, 4), (3, 0, 4, 0), (6, 0, 4, 4), (0, 4, 4, 0), (3, 4, 4, 0), (6, 4, 4, 4),
        (0, 8, 4, 0), (3, 8, 4, 0), (6, 8, 4, 3), (0, 12, 3, 0), (3, 12, 3, 0), (6, 12, 3, 0),
    ]  # fmt: skip
    assert [block.hold for block in scheduled.blocks] == [True, True, False] * 4
    assert [block.given for block in scheduled.blocks] == [False] + [True] * 11


def test_windows_that_all_fit_fill_the_buffer() -> None:
    """Five tiles of three steps in sixteen words."""
    assert walk(by_itself(layer(4, 40, 10), np.full(4, 4), CONFIG)) == [(0, 0, 5, 5), (3, 0, 5, 0)]


def test_weights_that_pass_for_every_tile_pass_by_held_windows() -> None:
    """Nine words of weights in a buffer of eight: blocks of one tile, which then share its windows."""
    config = replace(CONFIG, weight_depth=8)
    scheduled = by_itself(layer(4, 40, 5), np.full(4, 5), config)
    assert walk(scheduled) == [(0, 0, 1, 1), (3, 0, 1, 1), (0, 1, 1, 0), (3, 1, 1, 1), (0, 2, 1, 0), (3, 2, 1, 0)]
    assert not any(block.resident for block in scheduled.blocks)


@pytest.mark.parametrize(
    ("channels", "reduction", "positions", "why"),
    [
        (3, 40, 29, "one block"),
        (7, 16 * 17, 29, "a tile's windows are more than the buffer"),
        (7, 16 * 16, 200, "a tile's windows fill the buffer, and weights are more than they"),
    ],
)
def test_blocks_over_all_tiles_move_fewer_bytes(channels: int, reduction: int, positions: int, why: str) -> None:
    given = layer(channels, reduction, positions)
    config = replace(CONFIG, columns=16, weight_depth=4096) if "weights" in why else CONFIG
    given = layer(17, reduction, positions) if "weights" in why else given
    plain = layer_schedule(given, None, config)
    assert walk(by_itself(given, None, config)) == walk(plain), why


def test_any_layer_is_computed_once_with_the_fewer_bytes() -> None:
    rng = np.random.default_rng(1)
    met = set()
    for _ in range(60):
        channels, reduction, positions = (int(rng.integers(1, most)) for most in (20, 400, 90))
        config = replace(
            CONFIG, activation_depth=int(rng.choice([4, 16, 64])), weight_depth=int(rng.choice([16, 1024]))
        )
        given, n = layer(channels, reduction, positions), rng.choice([0, 3, 4], channels)
        scheduled, plain = by_itself(given, n, config), layer_schedule(given, n, config)
        met.add(walk(scheduled) == walk(plain))
        assert sum(memory_traffic(scheduled, config).values()) <= sum(memory_traffic(plain, config).values())
        assert scheduled.ideal_cycles == plain.ideal_cycles
        cells = [(int(c), b.first_tile + t) for b in scheduled.blocks for c in b.channels for t in range(b.tiles)]
        assert Counter(cells) == {(c, t): 1 for c in range(channels) for t in range(plain.tiles)}
        for block, before in zip(scheduled.blocks, [None, *scheduled.blocks], strict=False):
            assert block.given == (before is not None and (before.hold or before.ahead > 0))
            assert not (block.ahead and (block.hold or not block.given))
            if before is not None and before.hold:
                assert (block.first_tile, block.tiles) == (before.first_tile, before.tiles)
                assert block.tiles * block.steps <= config.activation_depth
            elif before is not None and before.ahead:
                assert (block.first_tile, block.tiles) == (before.first_tile + before.tiles, before.ahead)
        assert not scheduled.blocks[-1].hold and not scheduled.blocks[-1].ahead
    assert met == {True, False}


def test_windows_are_not_held_at_any_number_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    given, n = layer(7, 40, 29), np.full(7, 4)
    assert len(layout([given, given], {given.name: n}, CONFIG)[1].blocks) == 12
    monkeypatch.setattr(order, "MOST_DESCRIPTORS", 23)
    found = layout([given, given], {given.name: n}, CONFIG)
    assert [len(scheduled.blocks) for scheduled in found] == [3, 3] and found[1].first == 3
    monkeypatch.setattr(order, "MOST_DESCRIPTORS", 24)
    assert [len(scheduled.blocks) for scheduled in layout([given, given], {given.name: n}, CONFIG)] == [12, 12]
    for most, blocks in ((12, 12), (11, 3)):
        monkeypatch.setattr(order, "MOST_HOLDING", most)
        assert len(by_itself(given, n, CONFIG).blocks) == blocks
