"""Claims about the emitted Verilog, proven by Yosys' SAT solver.

A claim is a module `harness` in a `.sv` file of this folder: free inputs, emitted modules (the instance that a claim is
about is called `dut`), what may be assumed of the inputs, what is asserted. Registers start with any value, unless
the harness gives one; so what is known of the hardware's state is what the harness has seen.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flow.hardware import synthesis
from flow.hardware.faults import Fault

HERE = Path(__file__).parent
INDUCTION = 4  # edges of the longest one
# The stages of docs/hardware.md at which an array samples its operands and controls: macros of every harness.
STAGES = {"WORDS": 0, "BITS": 1, "PHASES": 1, "CHOICES": 2, "SUMS": 3, "TOTAL": 4}


@dataclass(frozen=True)
class Claim:
    """One harness, with its macros, how far it is unrolled, and what must refute it.

    design   the emitted files: see conftest.py
    edges    all runs of so many edges are looked at, from any state, or from reset where the harness has one
    forever  all runs, by induction; `edges` is then how far a counterexample is looked for
    cut      nets that may have any value, whatever drives them
    free     modules whose outputs may have any value
    cases    inputs that are held: a proof for each
    """

    name: str
    design: str
    harness: str
    faults: tuple[Fault, ...]
    edges: int = 0
    forever: bool = False
    macros: Mapping[str, int] = field(default_factory=dict)
    cut: tuple[str, ...] = ()
    free: tuple[str, ...] = ()
    cases: tuple[Mapping[str, int], ...] = ()

    @property
    def bound(self) -> str:
        """In words, as docs/hardware.md has it."""
        if self.forever:
            return "none"
        return f"{self.edges} edge{'s' * (self.edges > 1)}" if self.edges else "any state"


def proven(claim: Claim, files: Sequence[Path]) -> bool:
    """Whether Yosys proves it; False if there is a counterexample or an induction does not close."""
    return _solve(claim, files, f"-tempinduct -maxsteps {INDUCTION}" if claim.forever else f"-seq {claim.edges + 1}")


def refuted(claim: Claim, files: Sequence[Path]) -> bool:
    """Whether there is a counterexample of at most `claim.edges` edges."""
    return not _solve(claim, files, f"-seq {claim.edges + 1}")


def _solve(claim: Claim, files: Sequence[Path], how: str) -> bool:
    """Whether all cases are proven; the first that is not ends it. AssertionError if Yosys could not try."""
    macros = " ".join(f"-D{name}={value}" for name, value in {**STAGES, **claim.macros}.items())
    prove = f"sat -verify -set-assumes -prove-asserts {how}"
    script = [
        f"read_verilog {' '.join(file.name for file in files)}",
        f"read_verilog -sv -formal {macros} models.sv {claim.harness}",
        "hierarchy -check -top harness",
        *(f"cutpoint */t:{module}" for module in claim.free),
        # No opt_clean before all is flat: it removes instances whose outputs nobody reads.
        "hierarchy -top harness; proc; memory_collect; memory_map; flatten",
        *(f"cutpoint w:{net}" for net in claim.cut),
        "opt -full",
        *(" ".join([prove, *(f"-set {name} {value}" for name, value in case.items())]) for case in claim.cases),
        *([] if claim.cases else [prove]),
    ]
    with tempfile.TemporaryDirectory() as scratch:
        for file in (*files, HERE / "models.sv", HERE / claim.harness):
            shutil.copy(file, scratch)  # the PyPI package of Yosys sees no other folder
        (Path(scratch) / "run.ys").write_text("\n".join(script) + "\n")
        done = subprocess.run(
            [synthesis.yosys(), "-Q", "-T", "-s", "run.ys"], cwd=scratch, capture_output=True, text=True, check=False
        )
    said = done.stdout + done.stderr
    if done.returncode == 0 and len(re.findall("SUCCESS!", said)) == max(1, len(claim.cases)):
        return True
    assert "proof did fail" in said, f"{claim.name}: exit status {done.returncode}, {said[-3000:]}"
    return False
