"""Pixels in any order as runs of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flow.scheduling.onchip.runs import Run, runs_of


@settings(max_examples=60)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_runs_have_all_pixels_in_order(pixels: list[int]) -> None:
    """Whatever the order is, also with pixels more than once."""
    found = list(runs_of(np.array(pixels)))
    assert np.concatenate([run.pixels for run in found]).tolist() == pixels
    assert sum(run.size for run in found) == len(pixels)


@pytest.mark.parametrize(
    ("order", "count"),
    [
        (np.arange(35).reshape(5, 7).T, 1),  # rows and columns in turn
        (np.arange(35)[::-1], 1),
        (np.arange(36).reshape(3, 2, 3, 2).transpose(0, 2, 1, 3), 9),  # windows of two by two
        (np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2), 3),
    ],
)
def test_regular_orders_have_few_runs(order: NDArray[np.int64], count: int) -> None:
    assert len(list(runs_of(order.reshape(-1)))) == count


def test_a_run_goes_row_by_row() -> None:
    assert Run(5, 2, 3, -1, 2).pixels.tolist() == [5, 7, 9, 4, 6, 8]
