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

import flow.hardware.axi
import flow.hardware.core
import flow.hardware.elements
import flow.hardware.maps
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import PE_KINDS, ArrayConfig
from flow.hardware.conversion import hierarchy
from flow.hardware.emit import Wrapper, emit, emit_wrapped
from flow.hardware.interface import Device
from tests.helpers.tools import require_tool

TINY: dict[str, Any] = {"weight_depth": 8, "metadata_depth": 4, "activation_depth": 8}


def block_names() -> list[str]:
    """The functions of flow.hardware that are blocks, in the order of their files."""
    names = []
    rooms = (flow.hardware.elements, flow.hardware.core, flow.hardware.maps, flow.hardware.axi)
    packages = (flow.hardware, *rooms)
    for where in [f"{p.__name__}.{info.name}" for p in packages for info in pkgutil.iter_modules(p.__path__)]:
        module = importlib.import_module(where)
        blocks = [value for value in vars(module).values() if isinstance(value, hierarchy.block)]
        names += [block.func.__name__ for block in blocks if block.func.__module__ == module.__name__]
    return names


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Device, Wrapper]]:
    """A 2x3 accelerator of either element, with two lanes, and one with feature maps and tables; behind AXI, too."""
    configs = {kind: ArrayConfig(2, 3, kind, **TINY, drain=2) for kind in PE_KINDS}
    configs["maps"] = configs["bitvert"].with_maps(24, True)
    buses = {"bitvert": AxiConfig(), "dense": AxiConfig(256, 40, 8), "maps": AxiConfig(32, 33)}
    return {name: emit_wrapped(config, buses[name], tmp_path_factory.mktemp(name)) for name, config in configs.items()}


def test_blocks_are_found() -> None:
    assert {"pe", "dense_pe", "scheduler", "stream", "ram", "requantizer", "accelerator"} <= set(block_names())


@pytest.mark.parametrize("name", block_names())
def test_block_is_clean_verilog(
    name: str, devices: dict[str, tuple[Device, Wrapper]], lint: Callable[..., None]
) -> None:
    """Each variant of the block (its other port widths or parameters) by itself, children included."""
    variants = [
        (wrapper, file.stem)
        for device, wrapper in devices.values()
        for file in wrapper.files
        if (file.stem, name) in ((device.name, "accelerator"), (wrapper.name, "axi_accelerator"))
        or re.fullmatch(rf"{name}(_\d+)?", file.stem)  # a number tells variants apart
    ]
    assert variants, f"no module of {name} in either accelerator"
    for wrapper, top in variants:
        lint(_with_children(wrapper, top), top)


def _with_children(wrapper: Wrapper, top: str) -> list[Path]:
    """The module's file and those of all it instantiates, directly or not."""
    files = {file.stem: file for file in wrapper.files}
    needed, pending = set(), [top]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            found = re.findall(r"^(\w+) \w+ \($", files[name].read_text(), re.MULTILINE)
            pending += [child for child in found if child in files]
    return [file for file in wrapper.files if file.stem in needed]


@pytest.mark.parametrize("kind", [*PE_KINDS, "maps"])
def test_every_block_is_legal_vhdl(kind: str, devices: dict[str, tuple[Device, Wrapper]], tmp_path: Path) -> None:
    """File by file in compile order, then the whole is elaborated: ports and generics fit."""
    ghdl, (device, wrapper) = require_tool("ghdl"), devices[kind]
    modules = [file.stem for file in wrapper.vhdl_files if not file.stem.startswith("pck_myhdl")]
    assert modules == [file.stem for file in wrapper.files]
    assert wrapper.files[: len(device.files)] == device.files
    analyse = [ghdl, "-a", "--std=08", *map(str, wrapper.vhdl_files)]
    for command in (analyse, *([ghdl, "-e", "--std=08", top] for top in (device.name, wrapper.name))):
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert result.returncode == 0 and not result.stderr, result.stderr


@pytest.mark.parametrize("kind", PE_KINDS)
def test_the_wrapper_leaves_the_accelerator_as_it_is(kind: str, tmp_path: Path) -> None:
    """With and without AXI around it the accelerator has the same files, byte for byte."""
    config = ArrayConfig(2, 3, kind, **TINY, drain=2)
    alone, (inside, _) = emit(config, tmp_path / "alone"), emit_wrapped(config, AxiConfig(), tmp_path / "inside")
    for ours, theirs in zip(alone.files + alone.vhdl_files, inside.files + inside.vhdl_files, strict=True):
        assert ours.name == theirs.name and ours.read_bytes() == theirs.read_bytes()


@pytest.mark.full
@pytest.mark.parametrize("kind", PE_KINDS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (4, 4), (16, 32)])
def test_accelerator_is_clean_verilog(
    kind: str, rows: int, columns: int, tmp_path: Path, lint: Callable[..., None]
) -> None:
    device, wrapper = emit_wrapped(ArrayConfig(rows, columns, kind), AxiConfig(128), tmp_path)
    lint(device.files, device.name)
    lint(wrapper.files, wrapper.name)


def test_emitting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    _, first = emit_wrapped(ArrayConfig(2, 2, **TINY), AxiConfig(), tmp_path / "first")
    _, second = emit_wrapped(ArrayConfig(2, 2, **TINY), AxiConfig(), tmp_path / "second")
    for ours, theirs in zip(first.files + first.vhdl_files, second.files + second.vhdl_files, strict=True):
        assert ours.name == theirs.name and ours.read_bytes() == theirs.read_bytes()
