"""The mutants: what is changed, and that results are kept."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np

from bench.mutation import ROOT, changed, failing, flip, found, kept, mirrored, mutated, nodes, places, users

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


def test_a_bit_of_one_image_is_flipped() -> None:
    memories = {"weight": np.zeros((2, 3), np.uint8), "index": np.zeros((1, 2), np.uint8)}
    flipped = flip(memories, "memory/weight:1:17")
    assert flipped["weight"].tolist() == [[0, 0, 0], [0, 0, 2]] and flipped["index"] is memories["index"]
    assert not memories["weight"].any()


def test_how_a_flip_shows() -> None:
    assert found(True, lambda seed: False) == {"result": "read back"}
    wrong_from = {"simulated": (0, 1, 2), "missed": (1,), "harmless": ()}
    for result, seeds in wrong_from.items():
        assert found(False, seeds.__contains__) == {"result": result}


def test_tests_of_a_file() -> None:
    """Its own, wherever it lies; those that import it by either form."""
    assert mirrored(ROOT, "flow/scheduling/onchip/post.py") == ["tests/scheduling/onchip/test_post.py"]
    using = users(ROOT, "flow/scheduling/words.py")
    assert "tests/simulation/test_axi.py" not in using and "tests/scheduling/test_schedule.py" in using
    assert mirrored(ROOT, "flow/scheduling/words.py") == using
    assert "tests/judgement/test_diagnosis.py" in users(ROOT, "flow/judgement/images.py")


def test_the_tests_of_a_copy_run_in_a_child(tmp_path: Path) -> None:
    """They use the copy's package, not this one; what does not end is ended."""
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "__init__.py").write_text("TIME = 60\n")
    tests = {"right": "assert flow.TIME == 60", "wrong": "assert flow.TIME == 61", "slow": "time.sleep(flow.TIME)"}
    for name, body in tests.items():
        (tmp_path / f"test_{name}.py").write_text(f"import time, flow\ndef test_it():\n    {body}\n")
    assert failing(tmp_path, ["test_right.py"], 10) is None
    assert "test_wrong.py::test_it" in (failing(tmp_path, ["test_right.py", "test_wrong.py"], 10) or "")
    assert failing(tmp_path, ["test_slow.py"], 0) == "no end"
