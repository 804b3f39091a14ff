"""Flipped gates: does a build's testbench fail on a netlist in which one gate is another?

    python -m bench.flipped BUILD [--count N] [--seed S]

The build's own `make gate` makes the netlist and runs it, in a copy of the folder, first as it is. Then gates are drawn
at random; in each, AND becomes OR and OR AND, XOR becomes XNOR, an inverter a wire, and a multiplexer's inputs change
places. A number in a file says which of them is flipped, so that the netlist is compiled once for all of them. The
layers run, the shortest first, until one fails.

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from flow.errors import FlowError
from flow.hardware.synthesis import YOSYS, tool

FLIPS = (
    (r" & ", " | ", "AND to OR"),
    (r" \| ", " & ", "OR to AND"),
    (r" \^ ", " ~^ ", "XOR to XNOR"),
    (r" = ~", " = ", "NOT to a wire"),
    (r" \? (.+) : (.+);", r" ? \2 : \1;", "MUX with its inputs exchanged"),
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
                if re.search(pattern, line):
                    net = line.split(" = ")[0].removeprefix("  assign ").strip()
                    found.append(Flip(number, net, kind, re.sub(pattern, becomes, line)))
                    break
    return found


CHOICE = """
integer flip, flip_file, flip_fields;
initial begin
    flip_file = $fopen("run/gate/flip", "r");
    flip_fields = $fscanf(flip_file, "%d", flip);
    $fclose(flip_file);
end
"""


class Flipped:
    """A copy of a build's folder, whose netlist can have any one of the `chosen` gates flipped.

    `choose` takes the netlist's gates. FlowError if the netlist does not pass as it is.
    """

    def __init__(self, build: Path, folder: Path, choose: Callable[[list[Flip]], list[Flip]]) -> None:
        self.folder = Path(shutil.copytree(build, folder, ignore=shutil.ignore_patterns("run")))
        bench = self.folder / "testbench"
        listed = subprocess.run(["make", "-s", "-C", bench, "layers"], capture_output=True, text=True, check=False)
        cycles = {name: self._cycles(name) for name in listed.stdout.split()}
        self.layers = sorted(cycles, key=lambda name: cycles[name])
        self.place = bench / "run" / "gate"
        for layer in self.layers:
            if (printed := self.run(layer)) is not None:
                raise FlowError(f"the netlist of '{build}' does not pass as it is: {printed}; look at its testbench/")
        self.netlist = (self.place / "netlist.v").read_text()
        self.chosen = choose(flips(self.netlist))
        (self.place / "netlist.v").write_text(self._with_a_choice())

    def _cycles(self, layer: str) -> int:
        places = [self.folder / top / layer / "layer.txt" for top in ("vectors", "network", ".")]
        text = next(place.read_text() for place in places if place.is_file())
        return int(text.split("cycles ")[1].split()[0])

    def _with_a_choice(self) -> str:
        lines = self.netlist.splitlines()
        for number, flip in enumerate(self.chosen):
            net, own = lines[flip.line].split(" = ")
            other = flip.text.split(" = ")[1]
            lines[flip.line] = f"{net} = flip == {number} ? ({other.rstrip(';')}) : ({own.rstrip(';')});"
        head, body = "\n".join(lines).split(");", 1)
        return f"{head});{CHOICE}{body}\n"

    def run(self, layer: str) -> str | None:
        """What the testbench prints of a layer if it fails."""
        call = ["make", "-s", "-C", str(self.folder / "testbench"), "gate", f"LAYER={layer}"]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr).strip() if done.returncode else None

    def outcomes(self) -> Iterator[Outcome]:
        """Of the chosen gates, one after the other."""
        for number, flip in enumerate(self.chosen):
            (self.place / "flip").write_text(f"{number}\n")
            failed = ((layer, printed) for layer in self.layers if (printed := self.run(layer)) is not None)
            layer, printed = next(failed, ("", ""))
            yield Outcome(flip, FAILED if layer else self._survived(flip), layer, printed)

    def _survived(self, flip: Flip) -> str:
        own, other = self.place / "own.v", self.place / "other.v"
        lines = self.netlist.splitlines()
        lines[flip.line] = flip.text
        own.write_text(self.netlist)
        other.write_text("\n".join(lines) + "\n")
        makefile = (self.folder / "testbench" / "Makefile").read_text()
        (macros,) = re.findall(r"^MACROS := (.*)$", makefile, re.M)
        models = [(self.folder / "testbench" / name).resolve() for name in macros.split()]
        return EQUIVALENT if equivalent(own, other, models) else DIFFERS


def equivalent(own: Path, other: Path, macros: Sequence[Path] = ()) -> bool:
    """Whether two netlists, in one folder, do the same in every state. FlowError if Yosys is missing.

    Compared are outputs, the next value of every flip-flop, and what the modules in `macros` get.
    """
    program = tool(YOSYS)
    if program is None:
        raise FlowError("netlists are compared by Yosys, but there is none; install Debian's yosys")
    (top,) = re.findall(r"^module (\w+)", own.read_text(), re.M)
    script = (
        f"read_verilog {own.name}; rename {top} own; read_verilog {other.name}; rename {top} other; "
        f"read_verilog -lib {' '.join(map(str, macros))}; proc; opt_clean; expose -evert -evert-dff own/c:* other/c:*; "
        "miter -equiv -flatten own other miter; hierarchy -top miter; "
        "opt_merge; opt_clean; sat -verify -prove trigger 0 miter"
    )
    call = [program, "-q", "-p", script]
    done = subprocess.run(call, cwd=own.parent, capture_output=True, text=True, check=False)
    assert not done.returncode or "proof did fail" in done.stderr + done.stdout, done.stderr[-2000:]
    return not done.returncode


def study(build: Path, count: int, seed: int) -> list[Outcome]:
    """`count` gates drawn at random, each flipped by itself. FlowError if the netlist does not pass as it is."""

    def choose(gates: list[Flip]) -> list[Flip]:
        return [gates[place] for place in np.random.default_rng(seed).choice(len(gates), count, replace=False)]

    found = []
    with tempfile.TemporaryDirectory() as name:
        for outcome in Flipped(build, Path(name) / "build", choose).outcomes():
            found.append(outcome)
            print(f"{len(found)} of {count}: {outcome.flip.text.strip()} {outcome.verdict}", file=sys.stderr)
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
