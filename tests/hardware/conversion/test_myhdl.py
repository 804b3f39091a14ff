"""What of MyHDL's inside the conversion is built on: with a version that has it no more these names say so."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

NEEDED = {
    "myhdl": ["ConcatSignal", "ResetSignal", "Signal", "ToVHDLWarning", "ToVerilogWarning", "intbv"],
    "myhdl._block": ["_Block", "_inst_name_set", "_name_set", "_uniqueify_name", "block_decorator", "inspect"],
    "myhdl._instance": ["inspect"],
    "myhdl._util": ["_dedent", "_makeAST", "inspect"],
    "myhdl._Waiter": ["_dedent", "inspect"],
    "myhdl._extractHierarchy": ["_UserVerilogCode", "_UserVhdlCode"],
    "myhdl._ShadowSignal": ["_ShadowSignal", "_SliceSignal"],
    "myhdl._Signal": ["_Signal"],
    "myhdl._simulator": ["_signals"],
    "myhdl.conversion._toVerilog": ["_ConvertVisitor", "_ToVerilogConvertor", "toVerilog"],
    "myhdl.conversion._toVHDL": ["_ToVHDLConvertor", "_shortversion", "toVHDL"],
    "myhdl.conversion._VHDLNameValidation": ["_vhdl_keywords"],
    "myhdl.conversion._toVHDLPackage": ["_package"],
}
PARTS = {
    ("myhdl._block", "_Block"): ["_inferInterface"],
    ("myhdl._Signal", "_Signal"): ["_clear", "_markRead", "_markUsed"],
    ("myhdl._ShadowSignal", "_SliceSignal"): ["_setName"],
    ("myhdl.conversion._toVerilog", "_ToVerilogConvertor"): ["_convert_filter"],
    ("myhdl.conversion._toVerilog", "_ConvertVisitor"): ["accessIndex", "accessSlice", "visit_Name"],
    ("myhdl.conversion._toVHDL", "_ToVHDLConvertor"): ["_convert_filter"],
}
SIGNAL = ["_driven", "_init", "_max", "_min", "_name", "_nrbits", "_read", "_slicesigs", "_type", "_used", "_val"]
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("module", NEEDED)
def test_the_names_exist(module: str) -> None:
    found = vars(importlib.import_module(module))
    assert not [name for name in NEEDED[module] if name not in found], f"{module} has changed"


@pytest.mark.parametrize(("module", "kind"), PARTS)
def test_their_parts_exist(module: str, kind: str) -> None:
    found = getattr(importlib.import_module(module), kind)
    assert not [name for name in PARTS[module, kind] if not hasattr(found, name)], f"{module}.{kind} has changed"


def test_a_signal_has_what_is_read_of_it() -> None:
    import myhdl

    signal = myhdl.Signal(myhdl.intbv(0)[8:])
    assert not [name for name in SIGNAL if not hasattr(signal, name)]
    assert signal(4, 0)._sig is signal and signal(4, 0)._right == 0
    assert myhdl.ConcatSignal(signal, signal)._sigargs


def test_every_name_is_listed() -> None:
    """Every import from MyHDL's inside, in flow, is in the lists above."""
    for file in (ROOT / "flow").rglob("*.py"):
        for module, names in re.findall(r"^from (myhdl\.\S+) import (.*)$", file.read_text(), re.MULTILINE):
            for name in names.split(", "):
                assert name.split(" as ")[0] in NEEDED[module], f"{file}: {module}.{name}"


def test_the_version_is_bounded() -> None:
    assert '"myhdl>=0.11.50,<0.12"' in (ROOT / "pyproject.toml").read_text()
