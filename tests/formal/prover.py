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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flow import synthesis

HERE = Path(__file__).parent
FOREVER = 4  # edges of the longest induction


@dataclass(frozen=True)
class Claim:
    """One harness, with its macros, and how far it is unrolled.

    cut     nets that may have any value, whatever drives them
    cases   inputs that are held: one proof for each
    """

    name: str
    harness: str
    blocks: tuple[str, ...]  # those it is about: any of their faults must refute it
    edges: int = 0  # all runs of so many edges, from any state, or from reset where the harness has one
    forever: bool = False  # all runs: by induction; `edges` is then how far a counterexample is looked for
    macros: Mapping[str, int | None] = field(default_factory=dict)
    cut: tuple[str, ...] = ()
    cases: tuple[tuple[str, int], ...] = ()


def proven(claim: Claim, files: Sequence[Path]) -> bool:
    """Whether Yosys proves it; False if there is a counterexample or an induction does not close."""
    how = f"-tempinduct -maxsteps {FOREVER}" if claim.forever else f"-seq {claim.edges + 1}"
    return _solve(claim, files, how)


def refuted(claim: Claim, files: Sequence[Path]) -> bool:
    """Whether there is a counterexample of at most `claim.edges` edges."""
    return not _solve(claim, files, f"-seq {claim.edges + 1}")


def _solve(claim: Claim, files: Iterable[Path], how: str) -> bool:
    """Whether all cases are proven; the first that is not ends it. AssertionError if Yosys could not try."""
    macros = " ".join(f"-D{name}" + ("" if value is None else f"={value}") for name, value in claim.macros.items())
    prove = f"sat -verify -set-assumes -prove-asserts {how}"
    script = [
        f"read_verilog {' '.join(file.name for file in files)}",
        f"read_verilog -sv -formal {macros} models.sv {claim.harness}",
        "hierarchy -check -top harness; proc; memory -nomap; memory_map; flatten",
        *(f"cutpoint w:{net}" for net in claim.cut),
        "opt -full",
        *(f"{prove} -set {signal} {value}" for signal, value in claim.cases),
        *([] if claim.cases else [prove]),
    ]
    with tempfile.TemporaryDirectory() as scratch:
        for file in (*files, HERE / "models.sv", HERE / claim.harness):
            shutil.copy(file, scratch)  # the PyPI package of Yosys sees no other folder
        (Path(scratch) / "run.ys").write_text("\n".join(script) + "\n")
        done = subprocess.run(
            [synthesis.yosys(), "-Q", "-T", "-s", "run.ys"], cwd=scratch, capture_output=True, text=True, check=False
        )
    successes = len(re.findall(r"SUCCESS!", done.stdout))
    if done.returncode == 0 and successes == max(1, len(claim.cases)):
        return True
    assert "proof did fail" in done.stdout + done.stderr, f"{claim.name}: {(done.stdout + done.stderr)[-3000:]}"
    return False
