"""Samples as the user has them: archives and folders, made into inputs by a function of the user's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flow
from flow.errors import FlowError
from flow.network.preprocess import prepare
from flow.network.samples import arrays, digest, load_arrays
from flow.network.usercode import UserFunction
from tests.helpers.nets import float_net, heads_net

CODE = """
import numpy as np

def scaled(raw):
    raw["image"] //= 2
    return {"x": raw["image"].transpose(0, 3, 1, 2).astype(np.float32) / 255}

def labelled(raw):
    return {"x": raw["image"], "y": raw["y"] - 1}

def file(path):
    return np.frombuffer(path.read_bytes(), np.uint8).astype(np.float32)

def picture(path):
    return np.full((3, 8, 8), path.read_bytes()[0] / 99, np.float32)

def two(path):
    return {"a": np.float32(len(path.name)), "b": np.zeros(2)}

def codes(raw):
    return raw["image"].transpose(0, 3, 1, 2)

def nothing(raw):
    return None

def words(raw):
    return {"x": object()}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(CODE)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "pictures"
    place.mkdir()
    for number, name in enumerate(("c.raw", "a.raw", "b.raw")):
        (place / name).write_bytes(bytes([number, 7]))
    (place / ".hidden").write_text("")
    (place / "more").mkdir()
    return place


def function(own: Path, name: str) -> UserFunction:
    return UserFunction.of(f"{own}:{name}", "--preprocess")


def test_arrays_of_an_archive(own: Path, tmp_path: Path) -> None:
    image, y = np.full((2, 8, 8, 3), 255, np.uint8), np.array([1, 2])
    np.savez(tmp_path / "raw.npz", image=image, y=y)
    made = prepare(function(own, "scaled"), tmp_path / "raw.npz", "evaluation")
    assert made.place == "raw.npz" and made.arrays["x"].shape == (2, 3, 8, 8) and made.arrays["y"].tolist() == [1, 2]
    same = prepare(function(own, "scaled"), {"image": image, "y": y}, "evaluation")
    assert digest(same) == digest(made) and image.min() == 255  # the user's own arrays are not changed
    assert prepare(function(own, "labelled"), tmp_path / "raw.npz", "evaluation").arrays["y"].tolist() == [0, 1]


def test_files_of_a_folder_by_name(own: Path, folder: Path) -> None:
    made = prepare(function(own, "file"), folder, "evaluation")
    assert made.place == "pictures" and arrays(made).keys() == {"x"}
    assert made.arrays["x"].tolist() == [[1, 7], [2, 7], [0, 7]]  # a, b, c
    both = prepare(function(own, "two"), folder, "evaluation").arrays
    assert both["a"].shape == (3,) and both["b"].shape == (3, 2)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("0\n2\n1\n", [0, 2, 1]),
        ("c.raw 1\nb.raw 2\na.raw 0\n", [0, 2, 1]),
        ("0.5\n1\n2", [0.5, 1, 2]),
        ("a.raw big cat\nb.raw dog\nc.raw dog\n", ["big cat", "dog", "dog"]),
        ("the cat\na dog\nno\n", ["the cat", "a dog", "no"]),
    ],
)
def test_labels_of_a_folder(own: Path, folder: Path, text: str, labels: list[Any]) -> None:
    (folder / "labels.txt").write_text(text)
    assert prepare(function(own, "file"), folder, "evaluation").arrays["y"].tolist() == labels
    np.save(folder / "y.npy", np.array([7, 8, 9]))
    assert prepare(function(own, "file"), folder, "evaluation").arrays["y"].tolist() == [7, 8, 9]


def test_labels_of_files_whose_names_have_spaces(own: Path, folder: Path) -> None:
    """A line was split at its first space: it had no file, and was a label as a whole."""
    for number, name in enumerate(("a.raw", "b.raw", "c.raw")):
        (folder / name).rename(folder / ("p" + " 1" * number))
    (folder / "labels.txt").write_text("p 1 1\t8\np 6\np 1   7\n")
    assert prepare(function(own, "file"), folder, "evaluation").arrays["y"].tolist() == [6, 7, 8]


def test_what_cannot_be_prepared_is_one_line(own: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FlowError, match=r"'.*pictures' is a folder; add --preprocess FILE.py:FUNCTION"):
        load_arrays(folder)
    (folder / "labels.txt").write_text("1\n2\n")
    with pytest.raises(FlowError, match=r"labels.txt' must have a line for each of the 3 files, .* but it has 2;"):
        prepare(function(own, "file"), folder, "evaluation")
    (folder / "d.raw").write_bytes(b"too long")
    with pytest.raises(
        FlowError, match=r"makes \[2\] float32 for 'x' of 'a.raw' and \[8\] float32 of 'd.raw'; mend it"
    ):
        prepare(function(own, "file"), folder, "evaluation")
    for name, returned in (("nothing", "None (NoneType)"), ("words", "{'x': <object")):
        words = f"'{name}' of '{own}' returns {returned}"
        with pytest.raises(FlowError, match=re.escape(words)):
            prepare(function(own, name), {"x": np.zeros(3)}, "evaluation")
    said = r"the function 'scaled' of '.*own.py' fails in line 5 for 'the evaluation arrays': KeyError: 'image'"
    with pytest.raises(FlowError, match=said):
        prepare(function(own, "scaled"), {"x": np.zeros(3)}, "evaluation")
    with pytest.raises(FlowError, match=r"fails in line 5 for '.*a.raw': TypeError: 'PosixPath' object"):
        prepare(function(own, "scaled"), folder, "evaluation")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FlowError, match=r"a folder of samples needs a file for each, but '.*empty' has none"):
        prepare(function(own, "file"), tmp_path / "empty", "evaluation")


def test_a_network_gets_what_was_prepared(own: Path, folder: Path, tmp_path: Path) -> None:
    """The function makes the inputs of both roles; sizes, ranges and labels are of its arrays."""
    (folder / "labels.txt").write_text("0\n2\n1\n")
    raw = {"image": np.random.default_rng(0).integers(0, 255, (12, 8, 8, 3)).astype(np.uint8)}
    options: dict[str, Any] = {"preset": "moderate", "force": True}
    report = flow.compress(float_net(), tmp_path / "out.onnx", calibration=raw, preprocess=f"{own}:scaled", **options)
    assert report.summary.accuracy.made_up
    report = flow.compress(
        float_net(), tmp_path / "out.onnx", calibration=folder, evaluate=folder, preprocess=f"{own}:picture", **options
    )
    assert report.summary.accuracy.source == "pictures" and report.summary.accuracy.outputs[0].metric == "top-1"
    with pytest.raises(FlowError, match=r"calibration samples for input 'x' must be float32, but they are uint8"):
        flow.compress(float_net(), tmp_path / "out.onnx", calibration=raw, preprocess=f"{own}:codes", **options)
    assert flow.inspect(heads_net(), calibration={"image": np.zeros((2, 48), np.float32), "y": np.zeros(2)},
                        preprocess=f"{own}:labelled").nodes  # fmt: skip
