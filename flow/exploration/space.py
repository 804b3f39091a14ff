"""The design space: array, weight buffer and pruning, and the designs that are always tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flow.compression.allocate import PRESETS
from flow.compression.choice import DEFAULT_BITS, Pruning, pruning
from flow.compression.encoding import BBS
from flow.hardware.config import ArrayConfig

ROWS = (4, 8, 16, 32, 64)
COLUMNS = (8, 16, 32, 64)
WEIGHT_WORDS = (256, 512, 1024, 2048, 4096)
USUAL = ArrayConfig()  # the array of the designs that are always measured
BUDGETS = (2.5, 8.0, 0.25)  # bits per weight: from, to, step
SENSITIVE = (0.0, 0.5, 0.05)  # share of sensitive channels: from, to, step
BUDGET = "budget"  # the method that refines weights on calibration samples


@dataclass(frozen=True)
class Design:
    """One point of the design space."""

    rows: int
    columns: int
    weight_depth: int
    chosen: Pruning

    @property
    def config(self) -> ArrayConfig:
        return ArrayConfig(self.rows, self.columns).with_weight_buffer(self.weight_depth)

    @property
    def options(self) -> str:
        """The options of `bbs compile` that build this design."""
        chosen = self.chosen
        how = (
            f"--bits {chosen.bits:g}" if chosen.bits is not None
            else f"--columns {chosen.columns} --sensitive {chosen.sensitive:g} --method {chosen.method}"
        )  # fmt: skip
        return f"--array {self.rows}x{self.columns} --weight-buffer {self.weight_depth} {how}"


def suggest(trial: Any, methods: Sequence[str]) -> Design:
    """The design that an Optuna trial draws; for a finished trial, the design that it had."""
    rows = trial.suggest_categorical("rows", ROWS)
    columns = trial.suggest_categorical("columns", COLUMNS)
    words = trial.suggest_categorical("weight_buffer", WEIGHT_WORDS)
    method = trial.suggest_categorical("method", methods)
    if method == BUDGET:
        chosen = pruning(bits=trial.suggest_float("bits", *BUDGETS[:2], step=BUDGETS[2]))
    else:
        low, high, step = SENSITIVE
        beta = trial.suggest_float("sensitive", low, high, step=step)
        n = trial.suggest_int("pruned", 0, BBS.max_columns_pruned)
        chosen = pruning(columns=n, sensitive=round(beta, 4), method=method)
    return Design(rows, columns, words, chosen)


def first_designs(methods: Sequence[str]) -> list[dict[str, Any]]:
    """Designs that are always measured: the paper's presets and, if budgets are possible, the default budget."""
    array = {"rows": USUAL.rows, "columns": USUAL.columns, "weight_buffer": USUAL.weight_depth}
    starts: list[dict[str, Any]] = [
        array | {"method": p.method, "pruned": p.columns_pruned, "sensitive": p.sensitive} for p in PRESETS.values()
    ]
    return [*starts, *([array | {"method": BUDGET, "bits": DEFAULT_BITS}] if BUDGET in methods else [])]
