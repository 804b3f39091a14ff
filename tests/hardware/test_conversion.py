"""Every block converts: its Verilog passes the lint, its VHDL is analysed, for both elements and several sizes."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flow.hardware
import flow.hardware.maps
from flow.engines import Device
from flow.hardware import hierarchy
from flow.hardware.config import PE_KINDS, ArrayConfig
from flow.hardware.emit import emit
from tests.conftest import require_tool

TINY: dict[str, Any] = {"weight_depth": 8, "metadata_depth": 4, "activation_depth": 8}


def block_names() -> list[str]:
    """The functions of flow.hardware that are blocks, in the order of their files."""
    names = []
    paths = {"flow.hardware": flow.hardware.__path__, "flow.hardware.maps": flow.hardware.maps.__path__}
    for where in [f"{package}.{info.name}" for package, path in paths.items() for info in pkgutil.iter_modules(path)]:
        module = importlib.import_module(where)
        blocks = [value for value in vars(module).values() if isinstance(value, hierarchy.block)]
        names += [block.func.__name__ for block in blocks if block.func.__module__ == module.__name__]
    return names


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Device]:
    """A 2x3 accelerator of either element, emitted, with two lanes, and one with feature maps."""
    configs = {kind: ArrayConfig(2, 3, kind, **TINY, drain=2) for kind in PE_KINDS}
    configs["maps"] = configs["bitvert"].with_maps(24)
    return {name: emit(config, tmp_path_factory.mktemp(name)) for name, config in configs.items()}


def test_blocks_are_found() -> None:
    assert {"pe", "dense_pe", "scheduler", "stream", "ram", "requantizer", "accelerator"} <= set(block_names())


@pytest.mark.parametrize("name", block_names())
def test_block_is_clean_verilog(name: str, devices: dict[str, Device], lint: Callable[..., None]) -> None:
    """Each variant of the block (its other port widths or parameters) by itself, children included."""
    variants = [
        (device, file.stem)
        for device in devices.values()
        for file in device.files
        if (file.stem == device.name and name == "accelerator")
        or re.fullmatch(rf"{name}(_block)?(_\d+)?", file.stem)  # "array" is a keyword, a number tells variants apart
    ]
    assert variants, f"no module of {name} in either accelerator"
    for device, top in variants:
        lint(_with_children(device, top), top)


def _with_children(device: Device, top: str) -> list[Path]:
    """The module's file and those of all it instantiates, directly or not."""
    files = {file.stem: file for file in device.files}
    needed, pending = set(), [top]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            found = re.findall(r"^(\w+) \w+ \($", files[name].read_text(), re.MULTILINE)
            pending += [child for child in found if child in files]
    return [file for file in device.files if file.stem in needed]


@pytest.mark.parametrize("kind", PE_KINDS)
def test_every_block_is_legal_vhdl(kind: str, devices: dict[str, Device], tmp_path: Path) -> None:
    """File by file in compile order, then the whole is elaborated: ports and generics fit."""
    ghdl, device = require_tool("ghdl"), devices[kind]
    modules = [file.stem for file in device.vhdl_files if not file.stem.startswith("pck_myhdl")]
    assert modules == [file.stem for file in device.files]
    analyse = [ghdl, "-a", "--std=08", *map(str, device.vhdl_files)]
    for command in (analyse, [ghdl, "-e", "--std=08", device.name]):
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert result.returncode == 0 and not result.stderr, result.stderr


@pytest.mark.parametrize("kind", PE_KINDS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (4, 4), (16, 32)])
def test_accelerator_is_clean_verilog(
    kind: str, rows: int, columns: int, tmp_path: Path, lint: Callable[..., None]
) -> None:
    device = emit(ArrayConfig(rows, columns, kind), tmp_path)
    lint(device.files, device.name)


def test_emitting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (emit(ArrayConfig(2, 2, **TINY), tmp_path / name) for name in ("first", "second"))
    for ours, theirs in zip(first.files + first.vhdl_files, second.files + second.vhdl_files, strict=True):
        assert ours.name == theirs.name and ours.read_bytes() == theirs.read_bytes()
