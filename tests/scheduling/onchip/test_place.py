"""The places of maps: they never share words while both are alive, and need few more than those alive at once."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.scheduling.onchip import place

LIVES = st.lists(st.tuples(st.integers(1, 50), st.integers(-1, 9), st.integers(0, 9)), min_size=1, max_size=14)


@settings(max_examples=100)
@given(LIVES)
def test_maps_that_are_alive_lie_apart(drawn: list[tuple[int, int, int]]) -> None:
    lives = [(size, min(born, last), last) for size, born, last in drawn]
    found = place._best(lives)
    for (a, one), (b, other) in combinations(zip(found, lives, strict=True), 2):
        if one[1] <= other[2] and other[1] <= one[2]:
            assert a + one[0] <= b or b + other[0] <= a
    needed = max(base + size for base, (size, _, _) in zip(found, lives, strict=True))
    at_once = [sum(size for size, born, last in lives if born <= step <= last) for step in range(-1, 10)]
    assert place._most(lives) == max(at_once) <= needed <= 1.5 * max(at_once)


def test_the_map_that_ends_last_is_put_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first order needs more words than are alive at once."""
    lives = [(3, 0, 3), (2, 3, 6), (2, 1, 4), (5, 1, 4), (5, 4, 4)]

    def needed() -> int:
        return max(base + size for base, (size, _, _) in zip(place._best(lives), lives, strict=True))

    assert needed() == place._most(lives) == 14
    monkeypatch.setattr(place, "TRIES", 1)
    assert needed() == 17
