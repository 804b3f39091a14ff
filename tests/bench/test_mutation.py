"""The mutants: what is changed, and that results are kept."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from bench.mutation import changed, kept, mutated, nodes, places

MODULE = """module m (clk);
input clk;



always @(posedge clk) begin: step
    if (a == 1) begin
        b <= (c + 2);
    end
    if (d) begin
        e <= f + 8'd7;
        g <= 1'b0;
    end
end
"""


def test_every_kind_of_place_in_verilog() -> None:
    found: dict[str, list[str]] = {}
    for kind, begin, end, new in places(MODULE):
        found.setdefault(kind, []).append(MODULE[:begin] + new + MODULE[end:])

    def one(kind: str, text: str) -> bool:
        return sum(text in mutant for mutant in found[kind]) == 1

    assert one("edge", "negedge clk") and one("condition", "if (!(a == 1))") and one("operator", "(c - 2)")
    assert all(one("constant", text) for text in ("(c + 3)", "f + 8'd8;", "g <= 1'b1;"))
    assert [sum("b <=" not in mutant for mutant in found["assignment"]), len(found["assignment"])] == [1, 3]
    texts = [text for mutants in found.values() for text in mutants]
    assert MODULE not in texts and all(text.startswith("module m (clk);\ninput clk;") for text in texts)


def test_python_is_changed_at_one_place() -> None:
    source = "def f(x: int) -> int:\n    return x + 1 if x < 3 and x else x\n"
    able = [number for number, node in enumerate(nodes(ast.parse(source))) if changed(node)]
    texts = {mutated(source, number) for number in able}
    assert len(texts) == len(able) == 6  # a condition, an operator, and, a comparison, two constants
    assert ast.unparse(ast.parse(source)) not in texts


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    done = list[str]()

    def work(job: str) -> dict[str, Any]:
        done.append(job)
        return {"result": "caught"}

    file = tmp_path / "results" / "kind.jsonl"
    assert [entry["job"] for entry in kept(file, ["a", "b"], work)] == ["a", "b"]
    assert [entry["job"] for entry in kept(file, ["a", "c"], work)] == ["a", "c"]
    assert done == ["a", "b", "c"]
