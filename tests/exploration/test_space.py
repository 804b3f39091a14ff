"""What a search may choose from."""

from __future__ import annotations

from flow.compression.choice import DEFAULT_BITS
from flow.exploration.space import BUDGET, COLUMNS, ROWS, WEIGHT_WORDS, first_designs


def test_every_size_can_be_built_on_chip() -> None:
    assert all(size & (size - 1) == 0 for size in (*ROWS, *COLUMNS, *WEIGHT_WORDS))


def test_the_default_budget_is_measured_first_where_budgets_are_possible() -> None:
    presets = first_designs(["optimal"])
    assert presets and all("bits" not in each for each in presets)
    *others, budget = first_designs(["optimal", BUDGET])
    assert others == presets and (budget["method"], budget["bits"]) == (BUDGET, DEFAULT_BITS)
