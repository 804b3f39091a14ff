"""Functions of the user's: found, run, and what they do wrong in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.errors import FlowError
from flow.network.metrics import call, metric, shown
from flow.network.usercode import UserFunction

CODE = """
from __future__ import annotations
import dataclasses
import beside

@dataclasses.dataclass
class Held:
    value: float

def good(outputs, y):
    print("on the way")
    return Held(beside.HALF).value + len(outputs) + float(y.sum())

def lower(outputs, y):
    outputs["out"][:] = 7
    return np_value(), "lower"

def np_value():
    import numpy
    return numpy.float32(3)

def text(outputs, y):
    return "high"

def nothing(outputs, y):
    pass

def many(outputs, y):
    return [1, 2]

def other(outputs, y):
    return 1, "best"

def nan(outputs, y):
    return float("nan")

def broken(outputs, y):
    x = 1
    return outputs["missing"]

def leaves(outputs, y):
    raise SystemExit("stop")

NUMBER = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("HALF = 0.5\n")
    path = tmp_path / "own.py"
    path.write_text(CODE)
    return path


OUTPUTS = {"out": np.zeros((2, 3), np.float32)}


def test_a_function_is_called_with_outputs_and_labels(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = UserFunction.of(f"{file}:good", "--metric")
    found = call(good, OUTPUTS, np.arange(2))
    assert (found.value, found.lower) == (2.5, False) and str(good) == "own.py:good"
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == "on the way\n"  # stdout is for results
    below = call(UserFunction.of(f"{file}:lower", "--metric"), OUTPUTS, None)
    assert (below.value, below.lower) == (3, True) and not OUTPUTS["out"].any()  # it has a copy


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text", "a number and 'lower' or 'higher', but 'text' of '.*own.py' returns 'high' \\(str\\); mend it"),
        ("nothing", "returns None \\(NoneType\\)"),
        ("many", "returns \\[1, 2\\] \\(list\\)"),
        ("other", "returns \\(1, 'best'\\) \\(tuple\\)"),
        ("nan", "returns nan \\(float\\)"),
        ("broken", "the function 'broken' of '.*own.py' fails in line 39: KeyError: 'missing'; mend it"),
        ("leaves", "fails in line 42: SystemExit: stop"),
        ("absent", "must have the function 'absent', but it has .*good, lower"),
        ("NUMBER", "must have the function 'NUMBER'"),
    ],
)
def test_what_a_function_does_wrong(file: Path, name: str, words: str) -> None:
    with pytest.raises(FlowError, match=words) as error:
        call(UserFunction.of(f"{file}:{name}", "--metric"), OUTPUTS, np.arange(2))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("code", "words"), [("def f(:", "in line 1: SyntaxError"), ("\n1 / 0", "in line 2: ZeroDiv")])
def test_a_file_that_does_not_run(tmp_path: Path, code: str, words: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(code)
    with pytest.raises(FlowError, match=f"the function 'f' of '.*bad.py' fails {words}"):
        UserFunction.of(f"{file}:f", "--metric")()


def test_a_relative_path_has_lines_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("def f():\n    return 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FlowError, match=r"of 'mine\.py' fails in line 2: ZeroDivisionError"):
        UserFunction.of("mine.py:f", "--metric")()


def test_a_function_is_named_by_file_and_name(file: Path) -> None:
    for text in ("own.py", "own.py:", "own.txt:f", "own.py:a b"):
        with pytest.raises(FlowError, match=r"FILE.py:NAME, but it is"):
            UserFunction.of(text, "--metric")
    with pytest.raises(FlowError, match=r"there is no file 'none.py'; change --metric"):
        metric("none.py:f")
    with pytest.raises(FlowError, match="a metric is one of top1, top5, .*but it is 'top2'; change --metric"):
        metric("top2")
    before = UserFunction.of(f"{file}:good", "--metric").record
    file.write_text(CODE + "\n")
    assert before["function"] == "own.py:good" and UserFunction.of(f"{file}:good", "--metric").record != before


def test_metrics_as_they_are_printed() -> None:
    assert shown("top-1", 0.5) == shown("word error rate", 0.5) == "50.00 %" and shown("R2", 0.5) == "0.5000"
    assert (
        shown("mean squared error", 1e-5) == "1e-05" and shown(None, 1234.5) == "1234" and shown("AUC", None) == "none"
    )
