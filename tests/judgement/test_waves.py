"""`bbs cosim --waves`: the waveform of what was asked for, and views of it that name only what it has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx
import pytest

import flow
from flow.errors import FlowError
from flow.output.manifest import Manifest
from flow.simulation.engines.icarus import IcarusSimulator
from flow.simulation.engines.waveform import read, variables
from tests.helpers.networks import KINDS, quantized
from tests.helpers.tools import require_engine

TILES = 2  # of six rows of tokens on four array rows


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_engine("icarus")
    folder = tmp_path_factory.mktemp("waves")
    onnx.save(quantized(KINDS["tokens"]()).model, str(folder / "net.onnx"))
    options: dict[str, Any] = {"array": (4, 4), "on_chip": True, "samples": 1, "coverage": 0}
    flow.compile(folder / "net.onnx", folder / "out", engine="icarus", **options)
    return folder / "out"


def layer_names(built: Path) -> list[str]:
    return list(Manifest.read(built).columns_pruned)


def record(built: Path, waves: str, **options: Any) -> flow.Report:
    chosen: dict[str, Any] = {"engine": "icarus", "samples": 1, "processes": 1, "waves": waves}
    return flow.cosim(built, **chosen | options)


def test_a_tile_and_the_network_are_recorded(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Every signal of the views is in the waveform; the fields of the first descriptor are those of its bits.

    The tile is recorded as FST, and beside it as VCD, which declares the same.
    """
    recorded: Any = IcarusSimulator.record

    def both(self: IcarusSimulator, *what: Any) -> Any:
        assert what[-1].suffix == ".fst"
        recorded(self, *what[:-1], what[-1].with_suffix(".vcd"))
        return recorded(self, *what)

    first = layer_names(built)[0]
    beside, elsewhere = built.with_name("out-waves"), tmp_path / "here"
    with monkeypatch.context() as patch:
        patch.setattr(IcarusSimulator, "record", both)
        record(built, f"{first}:1", waves_format="fst")
    report = record(built, "network", waves_output=elsewhere)
    assert any("Waveforms of network" in note for note in report.notes)
    assert not flow.verify(built)[1].any
    lengths = []
    for folder, name, form in ((beside, f"000_{first}_tile1", "fst"), (elsewhere, "network", "vcd")):
        kinds = {"vcd", form, "gtkw", "sucl", "txt"}
        assert {path.name for path in folder.iterdir()} == {f"{name}.{kind}" for kind in kinds}
        root = (f"tb_{Manifest.read(built).top}", "dut")
        there = variables(folder / f"{name}.{form}", root)
        assert there == variables(folder / f"{name}.vcd", root)
        controls = {label for place, _ in there for label in place if label.startswith("column_control")}
        assert controls == {"column_control0"}  # of the first column
        trace = read(folder / f"{name}.vcd", root)
        lengths.append(trace.edges)
        view = (folder / f"{name}.gtkw").read_text()
        assert f'[dumpfile] "{name}.{form}"' in view and "[timestart] 0\n" in view
        shown = re.findall(r"^tb_\S+$", view, re.MULTILINE)
        assert len(shown) > 100 and set(shown) <= {each.name for each in there.values()}
        added = re.findall(r"^variable_add (\S+)$", (folder / f"{name}.sucl").read_text(), re.MULTILINE)
        assert f"load_file {name}.{form}" in (folder / f"{name}.sucl").read_text()
        assert len(added) == len(shown) and set(added) <= {each.path for each in there.values()}
        assert {"-host", "-weight memory", "-descriptor fields", "-sequencer0"} <= set(view.split("\n"))
        valid, data = (trace.values((), f"descriptor_{part}") for part in ("valid", "data"))
        word = next(value for flag, value in zip(valid, data, strict=True) if flag == 1)
        assert word is not None
        told = (folder / f"{name}.txt").read_text().split("descriptor ")[1].splitlines()[1:]
        fields = {line.split()[0]: int(line.split()[1]) for line in told}
        bits = there[(), "descriptor_data"].bits
        for field, places in re.findall(r"^#\{(\w+)\[\d+:0\]\} (.*)$", view, re.MULTILINE):
            picked = [word >> bits - 1 - int(place) & 1 for place in re.findall(r"\((\d+)\)", places)]
            assert int("".join(map(str, picked)), 2) == fields.pop(field), field
        assert not fields
    assert lengths[0] < lengths[1]


@pytest.mark.parametrize("form", ["vcd", "fst"])
def test_ghdl_shows_what_icarus_shows(built: Path, tmp_path: Path, form: str) -> None:
    """The VHDL's waveform has the same groups of the same signals; as VCD, their values are those of the Verilog's."""
    require_engine("ghdl")
    first = layer_names(built)[0]
    name, top = f"000_{first}_tile1", f"tb_{Manifest.read(built).top}"
    for engine in ("icarus", "ghdl"):
        record(built, f"{first}:1", engine=engine, waves_format=form, waves_output=tmp_path / engine)
    views = [(tmp_path / engine / f"{name}.sucl").read_text() for engine in ("icarus", "ghdl")]
    below = "dut" if form == "fst" else f"{top}.dut"  # GHDL's FST begins below the testbench
    assert views[0].replace(f" {top}.dut.", " dut.") == views[1].replace(f" {below}.", " dut.")
    shown = re.findall(rf"^{below}\S+$", (tmp_path / "ghdl" / f"{name}.gtkw").read_text(), re.MULTILINE)
    roots = {"icarus": (top, "dut"), "ghdl": tuple(below.split("."))}
    there = {engine: variables(tmp_path / engine / f"{name}.{form}", root) for engine, root in roots.items()}
    assert len(shown) > 100 and set(shown) <= {each.name for each in there["ghdl"].values()}
    blocks = [{place for place, _ in found if place and place[-1][-1].isdigit()} for found in there.values()]
    assert blocks[0] == blocks[1] and max(map(len, blocks[0])) > 2  # labels of blocks end in a number
    if form == "vcd":
        verilog, vhdl = (read(tmp_path / engine / f"{name}.vcd", (top, "dut")) for engine in ("icarus", "ghdl"))
        signals = [signal for place, signal in vhdl.codes if place == () and (place, signal) in verilog.codes]
        assert verilog.edges == vhdl.edges and len(signals) > 40
        for signal in signals:
            pairs = zip(verilog.values((), signal), vhdl.values((), signal), strict=True)
            assert all(one == other for one, other in pairs if None not in (one, other)), signal


def test_a_fault_of_the_verilog_is_none_of_the_vhdl(built: Path) -> None:
    require_engine("ghdl")
    with pytest.raises(FlowError, match="--fault breaks the Verilog, which ghdl does not run; add --engine verilator"):
        flow.cosim(built, engine="ghdl", fault="ram:no-bypass")


@pytest.mark.parametrize(
    ("waves", "options", "words"),
    [
        ("nothing", {}, "there is no layer 'nothing' to record.*and there are: .*network"),
        (f"FIRST:{TILES}", {}, f"has the position tiles 0 to {TILES - 1}, and no '{TILES}'; change --waves"),
        (
            "FIRST",
            {"engine": "myhdl"},
            "an engine that writes waveforms, but myhdl does not; add --engine verilator, icarus or ghdl",
        ),
        ("FIRST", {"coverage": 0}, "none is; leave out --coverage 0"),
        ("FIRST", {"waves_output": "INSIDE"}, "is in the build, which does not change"),
        (None, {"waves_output": "waves"}, "none are asked for; add --waves LAYER"),
        (None, {"waves_format": "fst"}, "none are asked for; add --waves LAYER"),
        ("FIRST", {"waves_format": "lxt"}, "written as vcd or fst, but not as 'lxt'; change --waves-format"),
    ],
)
def test_what_cannot_be_recorded_is_one_line(built: Path, waves: Any, options: dict[str, Any], words: str) -> None:
    if waves is not None:
        waves = waves.replace("FIRST", layer_names(built)[0])
    if options.get("waves_output") == "INSIDE":
        options = {"waves_output": built / "vectors" / "waves"}
    with pytest.raises(FlowError, match=words) as refused:
        record(built, waves, **options)
    assert "\n" not in str(refused.value)
