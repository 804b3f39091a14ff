"""The rooms of the package: each uses those listed before it only, and every file is listed, with what it is for."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

FLOW = Path(__file__).parents[1] / "flow"
PACKAGES = sorted(file.parent for file in FLOW.rglob("__init__.py"))
FILES = sorted(file for file in FLOW.rglob("*.py") if file.name != "__init__.py")
ROW = re.compile(r"^(?P<name>\w+(?:\.py|/)) +(?P<purpose>\S.*)$", re.MULTILINE)


def listed(package: Path) -> list[str]:
    """The files (x.py) and rooms (x/) of a package, in the order of its docstring."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    return [row["name"] for row in ROW.finditer(text)]


def imported(file: Path) -> set[Path]:
    """The files and packages of this package that a file imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are absolute"
            whole = node.module or ""
            found |= {module(f"{whole}.{alias.name}") or module(whole) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {module(alias.name) for alias in node.names}
    return {each for each in found if each is not None}


def module(name: str) -> Path | None:
    """The file of a module or package of this package; None for all others."""
    place = FLOW.parent / name.replace(".", "/")
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in files if file.is_relative_to(FLOW) and file.is_file()), None)


def entry(file: Path, package: Path) -> str:
    """How a package lists the file, or the room it is in."""
    first, *rest = file.relative_to(package).parts
    return f"{first}/" if rest else first


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.relative_to(FLOW.parent).as_posix())
def test_every_file_is_listed(package: Path) -> None:
    files = {file.name for file in package.glob("*.py")} - {"__init__.py"}
    rooms = {f"{file.parent.name}/" for file in package.glob("*/__init__.py")}
    rows = listed(package)
    assert set(rows) == files | rooms
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(FLOW.parent).as_posix())
def test_nothing_runs_back(file: Path) -> None:
    """What a file imports is listed before it, or before its room, in the package that holds both."""
    for other in imported(file):
        package = next(each for each in file.parents if other.is_relative_to(each))
        rows = listed(package)
        if entry(other, package) == "__init__.py":  # the front of a package is for those outside it
            raise AssertionError(f"{file} imports from its own package {package}")
        before, after = rows.index(entry(other, package)), rows.index(entry(file, package))
        assert before < after, f"{rows[after]} imports {rows[before]}, which is listed behind it in {package}"


def test_fronts_use_their_own_room_only() -> None:
    """An `__init__.py` gathers what is in its room; that of the package gathers from all rooms."""
    for package in PACKAGES:
        for other in imported(package / "__init__.py"):
            assert other.is_relative_to(package) or package.name == "engines", (package, other)


def test_a_backward_import_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "early.py"
    file.write_text("def late():\n    from flow.cli import main\n    return main\n")
    assert imported(file) == {FLOW / "cli" / "__init__.py"}


def test_no_test_file_uses_another() -> None:
    """What several test files use is in tests/helpers, in a conftest, or in a file that is no test."""
    tests = FLOW.parent / "tests"
    for file in tests.rglob("*.py"):
        names = [
            node.module or "" for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)
        ]
        assert not [name for name in names if re.search(r"(^|\.)test_\w+$", name)], file


def branches(function: ast.FunctionDef) -> int:
    """McCabe's complexity of a function without those defined in it: one, and one for every decision."""
    total = 1
    stack: list[ast.AST] = [*function.body]
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        total += isinstance(node, (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension))
        total += len(node.cases) if isinstance(node, ast.Match) else 0
        stack += ast.iter_child_nodes(node)
    return total


def test_blocks_are_of_a_readable_size() -> None:
    """In hardware at most 15 parameters, constants counted, and each process by itself a complexity of at most 15."""
    longest = worst = 0
    for file in (FLOW / "hardware").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                given = node.args
                longest = max(longest, len(given.posonlyargs + given.args + given.kwonlyargs))
                worst = max(worst, branches(node))
                assert longest <= 15 and worst <= 15, f"{file}: {node.name}"
    assert (longest, worst) > (6, 6)
