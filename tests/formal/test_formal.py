"""The claims hold for the emitted Verilog, every fault in what they are about refutes them, the page lists them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flow.hardware import faults
from flow.hardware.faults import Fault
from tests.formal.claims import CLAIMS
from tests.formal.prover import Claim, proven, refuted
from tests.formal.rtl import Emitted

NAMED = [pytest.param(claim, id=claim.name) for claim in CLAIMS]
REFUTED = [pytest.param(claim, fault, id=f"{claim.name}, {fault.name}") for claim in CLAIMS for fault in claim.faults]
HARDWARE = Path(__file__).parents[2] / "docs" / "hardware.md"


@pytest.mark.full
@pytest.mark.parametrize("claim", NAMED)
def test_proven(claim: Claim, design: Callable[[str], Emitted]) -> None:
    assert proven(claim, design(claim.design).files)


@pytest.mark.full
@pytest.mark.parametrize(("claim", "fault"), REFUTED)
def test_a_fault_refutes_it(claim: Claim, fault: Fault, design: Callable[[str], Emitted], tmp_path: Path) -> None:
    made = design(claim.design)
    assert refuted(claim, faults.inject(made.files, made.functions, fault, tmp_path))


def test_faults_are_tried_on_all_hardware() -> None:
    assert [claim.name for claim in CLAIMS if not claim.faults] == ["ones and zeros"]  # arithmetic alone


def test_the_page_lists_them() -> None:
    section = HARDWARE.read_text().split("## What is proven\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    assert [(name, row[2]) for row in rows for name in row[0].split(", ")] == [(c.name, c.bound) for c in CLAIMS]
