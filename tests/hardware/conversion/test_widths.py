"""Explicit widths change no value: expressions drawn at random in Icarus Verilog, emitted blocks proven by Yosys."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flow.hardware.conversion.explicit import explicit
from tests.helpers.tools import require_tool

SIGNALS = {"a": 8, "b": 5, "c": 1, "d": 33, "p": 8, "q": 4, "r": 20}  # the last three are signed
INPUTS = "".join(
    f"input {'signed ' * (name in 'pqr')}{f'[{bits - 1}:0] ' if bits > 1 else ''}{name};\n"
    for name, bits in SIGNALS.items()
)


def module(name: str, declared: str, lines: str) -> str:
    return f"module {name} (\n    y\n);\n\n{INPUTS}{declared}\n\n{lines}\nendmodule\n"


def written(statement: str, declared: str) -> str:
    """A line of a module, with explicit widths."""
    text = explicit(module("m", declared, statement), {})
    (line,) = re.findall(r"^assign y .*$", text, re.MULTILINE)
    return str(line)


@pytest.mark.parametrize(
    ("bits", "given", "expected"),
    [
        # extensions
        ("[7:0] ", "b", "{3'd0, b}"),
        ("signed [15:0] ", "p", "{{8{p[7]}}, p}"),
        ("signed [15:0] ", "$signed(b)", "{{11{b[4]}}, b}"),
        ("signed [15:0] ", "$signed({1'b0, b})", "{11'd0, b}"),
        ("[9:0] ", "((a + b) + 1)", "{2'd0, a} + {5'd0, b} + 10'd1"),
        ("[9:0] ", "(a - (b - c))", "{2'd0, a} - ({5'd0, b} - {9'd0, c})"),
        ("signed [9:0] ", "(p + q)", "{{2{p[7]}}, p} + {{6{q[3]}}, q}"),
        ("[11:0] ", "(p + a)", "{4'd0, p} + {4'd0, a}"),  # unsigned, as soon as one of them is
        ("[9:0] ", "(a << b)", "{2'd0, a} << b"),
        ("[15:0] ", "(a < b)", "{15'd0, a < {3'd0, b}}"),
        # only what is needed of the operands
        ("[3:0] ", "(a - 1)", "a[3:0] - 4'd1"),
        ("[2:0] ", "a[7-1:2]", "a[4:2]"),
        ("[2:0] ", "(a >>> 4)", "a[6:4]"),
        ("[5:0] ", "(a >>> 4)", "{2'd0, a[7:4]}"),
        ("[5:0] ", "(a >>> 8)", "6'd0"),
        ("signed [5:0] ", "$signed(p >>> 4)", "{{2{p[7]}}, p[7:4]}"),
        ("[31:0] ", "33'h8e62a355", "32'h8e62a355"),
        ("[3:0] ", "0", "4'd0"),
        ("", "1", "1'b1"),
        # products of signals: a multiplier of their size
        ("signed [11:0] ", "(p * q)", "p * q"),
        ("[12:0] ", "((a * b) + 1)", "(a * b) + 13'd1"),
        ("signed [20:0] ", "((p * q) - p)", "(p * q) - $signed({{13{p[7]}}, p})"),
        ("[8:0] ", "(b * 4)", "b * 9'd4"),
        # conditions and comparisons
        ("", "(!a)", "a == 8'd0"),
        ("", "((a != 0) && c)", "(a != 8'd0) && c"),
        ("", "(a == 300)", "{1'b0, a} == 9'd300"),
        ("", "((a + 1) == b)", "({1'b0, a} + 9'd1) == {4'd0, b}"),
        ("", "(p < $signed({1'b0, b}))", "p < $signed({3'd0, b})"),
        ("", "(p >= (-3))", "p >= -8'sd3"),
        ("", "(a == p)", "a == p"),
        # what has to stay as it is
        ("[3:0] ", "((a + b) >>> 1)", "((a + b) >>> 1)"),  # its carry would be lost
        ("[3:0] ", "(a / b)", "(a / b)"),
    ],
)
def test_an_expression(bits: str, given: str, expected: str) -> None:
    assert written(f"assign y = {given};", f"output {bits}y;\nwire {bits}y;") == f"assign y = {expected};"


def test_counters_of_loops_have_the_bits_that_they_need() -> None:
    lines = """always @(a, b) begin: search
    integer i;
    integer k;
    y = 0;
    for (i=0; i<6; i=i+1) begin
        k = (2 * i);
        if (($signed({1'b0, b}) == i)) begin
            y = i;
        end
        if (a[(k + 1)]) begin
            y = k;
        end
    end
end"""
    text = explicit(module("m", "output [2:0] y;\nreg [2:0] y;", lines), {})
    assert re.findall(r"if \((.*)\) begin", text) == ["b == i[4:0]", "a[k + 1]"]
    assert re.findall(r" (\w) = (.*);", text) == [("y", "3'd0"), ("k", "32'd2 * i"), ("y", "i[2:0]"), ("y", "k[2:0]")]


def expressions(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Ranges of results, and expressions as MyHDL writes them."""
    draw = random.Random(seed)

    def leaf() -> str:
        name = draw.choice([*SIGNALS])
        high = draw.randrange(SIGNALS[name])
        forms = [name, name, str(draw.choice([0, 1, 2, 7, 255, 300])), f"(-{draw.randrange(1, 40)})"]
        if SIGNALS[name] > 1:
            forms += [f"{name}[{high + 1}-1:{draw.randrange(high + 1)}]", f"{name}[{high}]", f"{name}[{'b[3-1:0]'}]"]
        forms += [f"$signed({name})", f"$signed({{1'b0, {name}}})", f"{{{name}, 2'd1, a}}", "37'h8e62a355"]
        return draw.choice(forms)

    def tree(depth: int) -> str:
        if depth == 0 or draw.random() < 0.15:
            return leaf()
        operator = draw.choice(
            ["+", "-", "*", "&", "|", "^", "<<", ">>>", "==", "!=", "<", "<=", ">", ">=", "&&", "||"]
        )
        if operator in ("<<", ">>>") and draw.random() < 0.8:
            places = draw.choice(["1", "3", "9", "b", "$signed({1'b0, b})"])
            return f"({tree(depth - 1)} {operator} {places})"
        made = f"({tree(depth - 1)} {operator} {tree(depth - 1)})"
        wrap = draw.random()
        if wrap < 0.12:
            return f"$signed{made}"
        return f"({draw.choice('~-!')}{made})" if wrap < 0.2 else made

    for _ in range(count):
        bits = draw.choice([1, 2, 4, 5, 8, 9, 12, 20, 33, 34, 48])
        sign = draw.choice(["", "signed "]) if bits > 1 else ""
        yield f"{sign}[{bits - 1}:0] ", tree(draw.choice([1, 1, 2, 2, 3]))


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(2, 8))])
def test_random_expressions_have_the_same_values(seed: int, tmp_path: Path) -> None:
    drawn = list(expressions(150, seed))
    declared = "".join(f"wire {bits}y{number};\n" for number, (bits, _) in enumerate(drawn))
    lines = "".join(f"assign y{number} = {text};\n" for number, (_, text) in enumerate(drawn))
    before = module("before", declared, lines)
    after = explicit(module("after", declared, lines), {})
    pairs = [re.findall(r"^assign (y\d+) = (.*);$", text, re.MULTILINE) for text in (before, after)]
    changed = [name for (name, one), (_, other) in zip(*pairs, strict=True) if one != other]
    assert len(changed) > 100
    names = ", ".join(SIGNALS)
    regs = "".join(f"reg {'signed ' * (n in 'pqr')}[{bits - 1}:0] {n};\n" for n, bits in SIGNALS.items())
    draws = "".join(f"{n} = pick({bits});\n" for n, bits in SIGNALS.items())
    checks = "".join(f'if (before.{n} !== after.{n}) $display("{n}");\n' for n in changed)
    ports = lambda text: text.replace("    y\n", f"    {names}\n", 1)  # noqa: E731
    (tmp_path / "bench.v").write_text(
        f"module bench;\n{regs}integer seed, turn;\n"
        "function [63:0] pick(input integer bits); begin\n"
        "case ($random(seed) & 3) 0: pick = {64{1'b1}}; 1: pick = 64'd1 << ($random(seed) & 63);\n"
        "default: pick = {$random(seed), $random(seed)}; endcase end endfunction\n"
        f"before before({names});\nafter after({names});\n"
        f"initial begin seed = 1; for (turn = 0; turn < 100; turn = turn + 1) begin\n{draws}#1\n{checks}end\n"
        f'$display("done"); end\nendmodule\n{ports(before)}{ports(after)}'
    )
    command = [require_tool("iverilog"), "-g2005", "-o", "bench", "bench.v"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run(["vvp", "-n", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True)
    wrong = sorted(set(done.stdout.split()) - {"done"})
    shown = [f"{one} -> {other}" for (n, one), (_, other) in zip(*pairs, strict=True) if n in wrong]
    assert done.stdout.endswith("done\n") and not shown, "\n".join(shown)
