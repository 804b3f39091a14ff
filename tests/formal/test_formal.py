"""What is proven of the emitted Verilog, for all inputs, and that a fault in it is refuted.

The column step in three parts, as a miter of the whole is out of reach: the scheduler takes each bit of a column, or
of its complement, once; scheduler and multiplexers give the sum under the ones, for every column and all activations;
the constant is multiplied. Then the requantizer's sum and its raw bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from flow import synthesis
from flow.hardware import faults
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit, modules
from tests.conftest import require_tool
from tests.formal.prover import Claim, proven, refuted

ARRAYS = {
    "bitvert": ArrayConfig(4, 4, weight_depth=4, metadata_depth=4, activation_depth=4),
    "narrow": ArrayConfig(2, 2, accumulator_bits=24),
}
STAGES: dict[str, int | None] = {"SCHEDULER": 1, "SUBGROUP": 1, "RESULT": 4, "BIAS": 3, "SHIFT": 1, "TOTAL": 2}


def sums(bits: int) -> Claim:
    return Claim(f"requantizer's sum, {bits} bits", "requantizer.sv", (), 5, macros=STAGES | {"BITS": bits})


CLAIMS = (
    ("bitvert", Claim("scheduler", "scheduler.sv", ("scheduler", "priority_encoder"), 4, True, STAGES)),
    ("bitvert", Claim("encoders", "encoders.sv", ("priority_encoder",), macros=STAGES)),
    *(
        ("bitvert", Claim(f"columns {k} of 4", "columns.sv", (), 2, macros=STAGES,
                          cases=tuple(("bits", column) for column in range(k, 256, 4))))
        for k in range(4)
    ),
    ("bitvert", Claim("constant", "constant.sv", ("constant_multiplier",),
                      cases=tuple(("d", constant) for constant in range(64)))),
    ("bitvert", sums(32)),
    ("narrow", sums(24)),
)  # fmt: skip


@dataclass(frozen=True)
class Design:
    """Emitted files, and the block of each module."""

    files: tuple[Path, ...]
    functions: dict[str, str]


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Design]:
    """design(name): one of ARRAYS."""
    if synthesis.tool(synthesis.YOSYS) is None:
        require_tool("yosys")

    @cache
    def make(name: str) -> Design:
        config = ARRAYS[name]
        found = {module.name: module.function for module in modules(config).values()}
        return Design(emit(config, tmp_path_factory.mktemp("rtl")).files, found)

    return make


@pytest.mark.parametrize(("name", "claim"), CLAIMS, ids=[claim.name for _, claim in CLAIMS])
def test_claim_is_proven(name: str, claim: Claim, design: Callable[[str], Design]) -> None:
    assert proven(claim, design(name).files)


REFUTED = [
    (name, claim, fault)
    for name, claim in CLAIMS
    for fault in faults.FAULTS.values()
    if fault.block in claim.blocks and name == "bitvert"
]


def test_a_fault_is_refuted_by_one_of_its_claims(design: Callable[[str], Design]) -> None:
    """Every fault of the blocks that are proven, put into the Verilog, has a counterexample."""
    missed = {fault.name for _, _, fault in REFUTED}
    assert len(missed) > 5
    for name, claim, fault in REFUTED:
        if fault.name not in missed:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            broken = faults.inject(design(name).files, design(name).functions, fault, Path(scratch))
            if refuted(claim, broken):
                missed.discard(fault.name)
    assert not missed


def test_a_multiplexer_of_the_wrong_lane_is_refuted(design: Callable[[str], Design], tmp_path: Path) -> None:
    """The column claims fail when one activation is taken for its neighbour: columns without bit 0 and with bit 1."""
    files = []
    for file in design("bitvert").files:
        text = file.read_text()
        if file.stem == "multiplexer":
            assert "x[16-1:8]" in text
            text = text.replace("x[16-1:8]", "x[24-1:16]", 1)
        files.append(tmp_path / file.name)
        files[-1].write_text(text)
    claim = next(claim for _, claim in CLAIMS if claim.name == "columns 2 of 4")
    assert refuted(claim, files)
