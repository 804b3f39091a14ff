"""The wheel has every file of the package, and works where there is nothing else of the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.test_build import small

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools import build_meta; print(build_meta.build_wheel('wheel'))"
RUN = """
import flow, sys
assert flow.__file__.startswith(sys.argv[1]), flow.__file__
sys.exit(not flow.compile(sys.argv[2], sys.argv[3], array=(2, 2), engine="myhdl", count=1).passed)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "flow", source / "flow", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    unpacked = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(source / "wheel" / done.stdout.split()[-1]) as archive:
        archive.extractall(unpacked)
    return unpacked


def test_the_wheel_has_every_file(wheel: Path) -> None:
    def files(folder: Path) -> set[str]:
        found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {path.relative_to(folder).as_posix() for path in found}

    assert files(wheel / "flow") == files(ROOT / "flow")
    assert {path.name for path in wheel.iterdir() if not path.name.endswith(".dist-info")} == {"flow"}


def test_the_wheel_works_elsewhere(wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(wheel), str(small(tmp_path)), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "report.html").is_file()
