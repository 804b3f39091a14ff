"""The same input gives the same bytes: twice, and in every Python that tox finds."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

import pytest

import flow
from flow.cache import remove
from flow.files import cache_folder, write_file
from tests.helpers.nets import DIGITS, small
from tests.helpers.tools import quick_engine

OF_THE_ENVIRONMENT = {"report.html", "report.json"}  # they name Python and its packages


def contents(folder: Path) -> dict[str, Any]:
    """sha256 of all that a small build and a tuned network are made of, and their reports."""
    report = flow.compile(small(folder), folder / "out", array=(2, 2), engine=quick_engine(), samples=1, processes=1)
    tuned = flow.compress(DIGITS, folder / "tuned.onnx", array=(4, 4))
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    files = {name: digest for name, digest in manifest["sha256"].items() if name not in OF_THE_ENVIRONMENT}
    files["tuned.onnx"] = hashlib.sha256((folder / "tuned.onnx").read_bytes()).hexdigest()
    said = {"compile": report.as_dict(), "compress": tuned.as_dict()}
    for each in said.values():
        del each["environment"]
    return {"files": files, "said": json.loads(json.dumps(said)), "manifest": manifest}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return contents(tmp_path_factory.mktemp("once"))


@pytest.mark.full
def test_two_builds_are_the_same_to_the_byte(once: dict[str, Any], tmp_path: Path) -> None:
    assert len(once["files"]) > 100
    for entry in cache_folder(None).glob("emitted-*"):  # so that the designs are converted again
        remove(entry)
    assert contents(tmp_path) == once  # the manifest holds the sha256 of the reports, too


@pytest.mark.full
def test_builds_are_the_same_in_every_python(once: dict[str, Any]) -> None:
    """Each Python leaves what it made, by the state of the sources, and compares with what others left."""
    if not (shared := os.environ.get("BBS_SAME_BYTES")):
        pytest.skip("BBS_SAME_BYTES names no folder; tox sets it")
    here = Path(__file__).parents[1]
    sources = sorted(path for pattern in ("flow/**/*", "tests/*.py", "models/*") for path in here.glob(pattern))
    state = hashlib.sha256(b"".join(path.read_bytes() for path in sources if path.suffix in SOURCES)).hexdigest()
    folder = Path(shared) / state[:16]
    folder.mkdir(parents=True, exist_ok=True)
    made = {key: once[key] for key in ("files", "said")}
    write_file(folder / f"{platform.python_version()}.json", json.dumps(made).encode())  # others may be reading
    for other in folder.glob("*.json"):
        assert json.loads(other.read_text()) == made, other.stem


SOURCES = {".py", ".j2", ".cpp", ".onnx", ".npz"}
