"""The same input gives the same bytes: twice, and in every Python that tox finds."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import flow
from flow.files import write_file
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import PE_KINDS, ArrayConfig
from flow.hardware.emit import emit_wrapped
from tests.helpers.layers import TINY
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
    files |= {config.name: digest for config, digest in designs(folder)}
    said = {"compile": report.as_dict(), "compress": tuned.as_dict()}
    for each in said.values():
        del each["environment"]
    return {"files": files, "said": json.loads(json.dumps(said)), "manifest": manifest}


def designs(folder: Path) -> Iterator[tuple[ArrayConfig, str]]:
    """Small arrays of every element and with every unit, behind AXI, and the sha256 of all Verilog and VHDL."""
    tiny = ArrayConfig(2, 3, **TINY, drain=2)
    several = replace(tiny, pe="pairs", columns_per_cycle=4)
    maps = tiny.with_maps(128, tables=True, products=True, normalizer=True, operands=True)
    for config in (*(replace(tiny, pe=kind) for kind in PE_KINDS), several, maps):
        emit_wrapped(config, AxiConfig(), folder / config.name)
        made = sorted(file for file in (folder / config.name).rglob("*") if file.is_file())
        yield config, hashlib.sha256(b"".join(file.read_bytes() for file in made)).hexdigest()


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return contents(tmp_path_factory.mktemp("once"))


@pytest.mark.full
def test_two_builds_are_the_same_to_the_byte(
    once: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(once["files"]) > 100
    monkeypatch.setenv("BBS_CACHE", str(tmp_path / "cache"))  # so that the designs are converted again
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
