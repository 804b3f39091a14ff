"""What a search may choose from."""

from __future__ import annotations

from flow.exploration.space import COLUMNS, ROWS, WEIGHT_WORDS


def test_every_size_can_be_built_on_chip() -> None:
    assert all(size & (size - 1) == 0 for size in (*ROWS, *COLUMNS, *WEIGHT_WORDS))
