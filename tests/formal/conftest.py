"""The Verilog that the claims are about, as it is emitted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flow.hardware import synthesis
from flow.hardware.axi.ahead import axi_ahead
from flow.hardware.conversion import hierarchy
from flow.hardware.conversion.bundles import fresh
from flow.hardware.core.bundles import Reader
from flow.hardware.core.stream import stream
from flow.hardware.emit import emit, emit_wrapped, modules
from flow.hardware.fields import ENTRY_BITS
from flow.hardware.interface import ReadPort
from flow.hardware.maps.banks import bank
from flow.hardware.maps.bundles import TableWork
from flow.hardware.maps.collect import collect
from flow.hardware.maps.tables import tables
from tests.formal.rtl import ARRAYS, BEAT, COLLECT, DEPTH, JOBS, TOGETHER, WRAPPED, Emitted
from tests.helpers.clocking import reset, wire
from tests.helpers.tools import require_tool


@pytest.fixture(scope="session")
def design(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Emitted]:
    """design(name): one of ARRAYS, WRAPPED or SMALL."""
    if synthesis.tool(synthesis.YOSYS) is None:
        require_tool("yosys")

    @cache
    def make(name: str) -> Emitted:
        folder = tmp_path_factory.mktemp("rtl")
        if config := ARRAYS.get(name):
            found = modules(config)
            files = emit(config, folder).files
        elif wrapped := WRAPPED.get(name):
            found = modules(*wrapped)
            files = emit_wrapped(*wrapped, folder)[1].files
        else:
            found = {}
            block, build = SMALL[name]
            files = tuple(hierarchy.export(build, block, folder, "verilog", found))
        return _plain(files, {module.name: module.function for module in found.values()}, folder)

    return make


def _plain(files: tuple[Path, ...], functions: dict[str, str], folder: Path) -> Emitted:
    """The modules under names without the prefix, as the claims call them."""
    top = next((name for name, function in functions.items() if function == "accelerator"), "")
    names = {name: name.removeprefix(f"{top}_") for name in functions} if top else {}
    written = []
    for file in files if top else ():
        text = re.sub(rf"\b{top}_\w+", lambda match: names.get(match[0], match[0]), file.read_text())
        written.append(folder / f"{names[file.stem]}.v")
        written[-1].write_text(text)
    return Emitted(tuple(written) or files, {names.get(name, name): function for name, function in functions.items()})


def _stream(beats: int) -> Any:
    width = BEAT * beats
    return stream(
        wire(), reset(), wire(), wire(), wire(32), wire(32), fresh(ReadPort, data=BEAT), fresh(Reader, word=width),
        wire(), wire(), width, DEPTH, beats,
    )  # fmt: skip


def _ahead() -> Any:
    return axi_ahead(
        wire(), reset(), wire(), wire(4), wire(3), wire(4), replace(fresh(ReadPort, data=BEAT), addr=None),
        fresh(ReadPort, data=BEAT), wire(), JOBS, DEPTH, TOGETHER,
    )  # fmt: skip


def _bank() -> Any:
    return bank(wire(), wire(), wire(8), wire(2), wire(64), wire(), wire(2), wire(64), DEPTH)


def _collect() -> Any:
    rows, columns, lanes = COLLECT.values()
    return collect(
        wire(), reset(), wire(lanes), wire(), wire(8 * rows * lanes), wire(), wire(), wire(ENTRY_BITS),
        wire(64 * rows), wire(8), rows, columns, lanes,
    )  # fmt: skip


def _tables() -> Any:
    return tables(
        wire(), reset(), TableWork(wire(), wire()), wire(), wire(), wire(64), wire(64), wire(64),
        rows=2, lanes=1, bits=32,
    )  # fmt: skip


# The block, and how it is built: streams of one or two beats a word.
SMALL: Mapping[str, tuple[str, Callable[[], Any]]] = {
    "stream 1": ("stream", lambda: _stream(1)), "stream 2": ("stream", lambda: _stream(2)),
    "ahead": ("axi_ahead", _ahead), "bank": ("bank", _bank),
    "collect": ("collect", _collect), "tables": ("tables", _tables),
}  # fmt: skip
