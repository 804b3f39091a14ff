"""What an FST file declares, however its hierarchy is packed; Verilator's FST where its libraries are missing."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, cast

import pytest

from flow.simulation.engines import fst, verilator
from flow.simulation.engines.fst import Declared
from flow.simulation.engines.verilator import VerilatorSimulator

# A scope `top`: `data [31:0]` with an attribute before it, a scope `part` with `clk`, and then `late [299:0]`.
HIERARCHY = (
    b"\xfe\x00top\x00\x00" b"\xfc\x00\x00name\x00\x85\x01" b"\x10\x00data [31:0]\x00\x20\x00" b"\xfd"
    b"\xfe\x00part\x00module\x00" b"\x10\x00clk\x00\x01\x00" b"\xff" b"\x10\x00late [299:0]\x00\xac\x02\x00" b"\xff"
)  # fmt: skip
WANTED = [
    Declared(("top",), "data [31:0]", 32), Declared(("top", "part"), "clk", 1), Declared(("top",), "late [299:0]", 300),
]  # fmt: skip


def literals(data: bytes) -> bytes:
    """LZ4 of literals alone."""
    extended, rest = divmod(len(data) - 15, 255)
    return b"\xf0" + b"\xff" * extended + bytes([rest]) + data


def block(kind: int, payload: bytes) -> bytes:
    return bytes([kind]) + (len(payload) + 8).to_bytes(8, "big") + payload


@pytest.mark.parametrize("kind", fst.HIERARCHY)
def test_every_packing_is_read(tmp_path: Path, kind: int) -> None:
    size, once = len(HIERARCHY).to_bytes(8, "big"), literals(HIERARCHY)
    packed = {4: gzip.compress(HIERARCHY), 6: once, 7: len(once).to_bytes(8, "big") + literals(once)}[kind]
    file = tmp_path / "x.fst"
    file.write_bytes(block(0, bytes(321)) + block(kind, size + packed) + block(3, b"geometry"))
    assert list(fst.declarations(file)) == WANTED
    whole = file.read_bytes()  # packed once more, as GHDL's writer does
    file.write_bytes(block(fst.WHOLE, len(whole).to_bytes(8, "big") + gzip.compress(whole)))
    assert list(fst.declarations(file)) == WANTED


def test_copies_of_lz4_reach_into_themselves() -> None:
    packed = b"\x2fab\x02\x00\x01" + b"\x10c"  # two literals, 4 + 15 + 1 bytes from two before, one literal
    assert fst._lz4(packed, 23) == b"ab" * 11 + b"c"
    with pytest.raises(ValueError, match="23 bytes, but should have 22"):
        fst._lz4(packed, 22)


def test_what_verilator_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = cast(Any, VerilatorSimulator).__new__(VerilatorSimulator)
    monkeypatch.setattr(verilator, "_packers", lambda form: ("z", "lz4") if form == "fst" else ())
    monkeypatch.setattr(verilator, "compiler", lambda: ("g++",))
    monkeypatch.setattr(verilator, "_finds", lambda command, library: library == "z")
    assert simulator.refuses("vcd") is None
    assert "does not find: lz4.h; install liblz4-dev, or add --engine icarus" in simulator.refuses("fst")
