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
end
"""


def test_every_kind_of_place_in_verilog() -> None:
    found = {kind: MODULE[:begin] + new + MODULE[end:] for kind, begin, end, new in places(MODULE)}
    assert "negedge clk" in found["edge"] and "if (!(a == 1))" in found["condition"]
    assert "(c + 3)" in found["constant"] and "b <=" not in found["assignment"]
    assert found["operator"] != MODULE and all(
        text.startswith("module m (clk);\ninput clk;") for text in found.values()
    )


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
