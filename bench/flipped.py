"""Flipped gates: does a build's testbench fail on a netlist in which one gate is another?

    python -m bench.flipped BUILD [--count N] [--seed S]

The build's own `make gate` makes the netlist and runs it, in a copy of the folder, first as it is. Then gates are drawn
at random; in each, one at a time, AND becomes OR and OR AND, XOR becomes XNOR, an inverter a wire, and a multiplexer's
inputs change places. The layers run, the shortest first, until one fails.

Where none does, Yosys compares both netlists by SAT, for every content of flip-flops and memories and every input:
"equivalent" means that no output, no flip-flop's next value and no memory's input can differ. "differs" means that one
can, in a state that none of the build's runs is in, or that nothing depends on in them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from flow.errors import FlowError
from flow.hardware.synthesis import YOSYS, tool

FLIPS = (
    (re.compile(r"( = \S+ (?:\[\d+\])?) ?& "), r"\1 | ", "AND to OR"),
    (re.compile(r"( = \S+ (?:\[\d+\])?) ?\| "), r"\1 & ", "OR to AND"),
    (re.compile(r"( = \S+ (?:\[\d+\])?) ?\^ "), r"\1 ~^ ", "XOR to XNOR"),
    (re.compile(r" = ~"), " = ", "NOT to a wire"),
    (re.compile(r"( \? )(.+)( : )(.+);"), r"\1\4\3\2;", "MUX with its inputs exchanged"),
)
FAILED, EQUIVALENT, DIFFERS = "failed", "equivalent", "differs"


@dataclass(frozen=True)
class Flip:
    """One gate of the netlist: the number of its line, the net that it drives, what it became, the line that it is."""

    line: int
    net: str
    kind: str
    text: str


@dataclass(frozen=True)
class Outcome:
    """`verdict` is FAILED, EQUIVALENT or DIFFERS; `layer` is the one that failed, with what its run printed."""

    flip: Flip
    verdict: str
    layer: str = ""
    printed: str = ""


def flips(netlist: str) -> list[Flip]:
    """Every gate of a netlist of simple gates, one `assign` each."""
    found = []
    for number, line in enumerate(netlist.splitlines()):
        if line.startswith("  assign "):
            for pattern, becomes, kind in FLIPS:
                if pattern.search(line):
                    net = line.split(" = ")[0].removeprefix("  assign ").strip()
                    found.append(Flip(number, net, kind, pattern.sub(becomes, line)))
                    break
    return found


class Flipped:
    """A copy of a build's folder, in which gates are flipped. FlowError if its own netlist does not pass."""

    def __init__(self, build: Path, folder: Path) -> None:
        self.folder = Path(shutil.copytree(build, folder, ignore=shutil.ignore_patterns("run")))
        bench = self.folder / "testbench"
        listed = subprocess.run(["make", "-s", "-C", bench, "layers"], capture_output=True, text=True, check=False)
        cycles = {name: self._cycles(name) for name in listed.stdout.split()}
        self.layers = sorted(cycles, key=lambda name: cycles[name])
        self.file = bench / "run" / "gate" / "netlist.v"
        if not self.layers or (printed := self.run(self.layers[0])) is not None:
            raise FlowError(f"the netlist of '{build}' does not pass as it is: {listed.stderr or printed}; "
                            "run 'make gate' in its testbench/")  # fmt: skip
        self.netlist = self.file.read_text()

    def _cycles(self, layer: str) -> int:
        places = [self.folder / top / layer / "layer.txt" for top in ("vectors", "network", ".")]
        text = next(place.read_text() for place in places if place.is_file())
        return int(text.split("cycles ")[1].split()[0])

    def run(self, layer: str) -> str | None:
        """What the testbench prints of a layer if it fails."""
        call = ["make", "-s", "-C", self.folder / "testbench", "gate", f"LAYER={layer}"]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr).strip() if done.returncode else None

    def try_one(self, flip: Flip) -> Outcome:
        """The netlist with one gate flipped."""
        lines = self.netlist.splitlines()
        lines[flip.line] = flip.text
        self.file.write_text("\n".join(lines) + "\n")
        for layer in self.layers:
            if (printed := self.run(layer)) is not None:
                return Outcome(flip, FAILED, layer, printed)
        return Outcome(flip, EQUIVALENT if self.equivalent() else DIFFERS)

    def equivalent(self) -> bool:
        """Whether the netlist as it is now and the build's own do the same in every state. FlowError without Yosys."""
        program = tool(YOSYS)
        if program is None:
            raise FlowError("netlists are compared by Yosys, but there is none; install Debian's yosys")
        place = self.file.parent
        (place / "own.v").write_text(self.netlist)
        makefile = (self.folder / "testbench" / "Makefile").read_text()
        macros = re.findall(r"^MACROS := (.*)$", makefile, re.M)[0].replace("../", str(self.folder.resolve()) + "/")
        top = re.findall(r"^module (\w+)", self.netlist, re.M)[0]
        script = (
            f"read_verilog own.v; rename {top} own; read_verilog netlist.v; rename {top} other; "
            f"read_verilog -lib {macros}; proc; opt_clean; expose -evert -evert-dff own other; "
            "miter -equiv -flatten own other miter; hierarchy -top miter; opt -full; sat -verify -prove trigger 0 miter"
        )
        done = subprocess.run([program, "-q", "-p", script], cwd=place, capture_output=True, text=True, check=False)
        assert not done.returncode or "proof did fail" in done.stderr + done.stdout, done.stderr[-2000:]
        return not done.returncode


def study(build: Path, count: int, seed: int) -> list[Outcome]:
    """`count` gates drawn at random, each flipped by itself. FlowError if the netlist does not pass as it is."""
    with tempfile.TemporaryDirectory() as name:
        bench = Flipped(build, Path(name) / "build")
        every = flips(bench.netlist)
        chosen = np.random.default_rng(seed).choice(len(every), count, replace=False)
        found = []
        for place in chosen:
            found.append(bench.try_one(every[place]))
            print(f"{found[-1].flip.net}: {found[-1].verdict}", file=sys.stderr)
        return found


def table(found: Sequence[Outcome]) -> Table:
    shown = Table(box=None, pad_edge=False)
    for head in ("net", "gate", "verdict", "layer", "first lines"):
        shown.add_column(head)
    for each in found:
        said = [line for line in each.printed.splitlines() if not line.endswith(":")]
        shown.add_row(each.flip.net, each.flip.kind, each.verdict, each.layer, said[0] if said else "")
    return shown


@click.command(help=__doc__)
@click.argument("build", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--count", type=click.IntRange(1), default=20, help="gates")
@click.option("--seed", type=int, default=0)
def main(build: Path, count: int, seed: int) -> None:
    try:
        found = study(build, count, seed)
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    Console(width=150).print(table(found))
    counts = {verdict: sum(each.verdict == verdict for each in found) for verdict in (FAILED, EQUIVALENT, DIFFERS)}
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))


if __name__ == "__main__":
    main()
