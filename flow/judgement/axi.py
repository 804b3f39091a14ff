"""The verdict on the accelerator behind AXI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flow.simulation.axi import AxiRun


@dataclass(frozen=True)
class AxiVerdict:
    """The accelerator behind AXI, started by its registers, on a bus that keeps it waiting at random.

    `engine` simulated the Verilog of all its modules. One layer ran whole, and, on chip, the whole network.
    """

    verdict: Literal["pass", "fail"]
    engine: str
    runs: tuple[AxiRun, ...]


def judge(runs: Sequence[AxiRun], engine: str) -> AxiVerdict | None:
    """The verdict on the runs; None if there are none."""
    if not runs:
        return None
    return AxiVerdict("pass" if all(run.right for run in runs) else "fail", engine, tuple(runs))
