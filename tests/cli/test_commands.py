"""The command: exit status, one line for what cannot be used, nothing half-written."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import flow
from flow.cli import tables
from tests.helpers.nets import float_net, residual_net
from tests.helpers.networks import Floats, feeds
from tests.helpers.tools import Run, heed_signals, quick_engine, require_engine


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with small.onnx (INT8), float.onnx, and calibration samples, good and bad."""
    onnx.save(residual_net(), str(tmp_path / "small.onnx"))
    onnx.save(float_net(), str(tmp_path / "float.onnx"))
    x = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "good.npz", x=x)
    np.savez(tmp_path / "shape.npz", x=x[:, :, :4])
    np.savez(tmp_path / "dtype.npz", x=x.astype(np.float64))
    np.savez(tmp_path / "nan.npz", x=np.where(x > 2, np.nan, x).astype(np.float32))
    (tmp_path / "text.onnx").write_text("this is no network")
    (tmp_path / "truncated.onnx").write_bytes((tmp_path / "small.onnx").read_bytes()[:300])
    (tmp_path / "file").write_text("")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.tex").write_text("")
    external(tmp_path)
    unknown_operator(tmp_path)
    dynamic(tmp_path)
    no_layer(tmp_path)
    return tmp_path


def external(folder: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(residual_net())
    onnx.save(
        model,
        str(folder / "external.onnx"),
        save_as_external_data=True,
        location="data.bin",
        size_threshold=0,
    )
    (folder / "data.bin").unlink()


def unknown_operator(folder: Path) -> None:
    model = residual_net()
    model.graph.node[0].op_type = "Frobnicate"
    (folder / "operator.onnx").write_bytes(model.SerializeToString())


def dynamic(folder: Path) -> None:
    model = residual_net()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, str(folder / "dynamic.onnx"))


def no_layer(folder: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    graph = helper.make_graph([node], "nothing", values[:1], values[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        str(folder / "nothing.onnx"),
    )
    np.savez(folder / "four.npz", x=np.ones((2, 4), np.float32))


SMALL = ("--array", "2x2", "--engine", quick_engine(), "--samples", 1, "--processes", 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("absent.onnx",), "does not exist"),
        (("text.onnx",), "not an ONNX file"),
        (("truncated.onnx",), "truncated"),
        (("external.onnx",), "external data"),
        (("operator.onnx",), "Frobnicate"),
        (("dynamic.onnx",), "height"),
        (("nothing.onnx", "--calibration", "four.npz"), "no layer for the array"),
        (("float.onnx",), "needs calibration samples"),
        (("float.onnx", "--calibration", "absent.npz"), "no file"),
        (("float.onnx", "--calibration", "text.onnx"), "text.onnx"),
        (("float.onnx", "--calibration", "shape.npz"), "must have shape"),
        (("float.onnx", "--calibration", "dtype.npz"), "must be float32"),
        (("float.onnx", "--calibration", "nan.npz"), "NaN"),
        (("small.onnx", "--evaluate", "dtype.npz"), "must be float32"),
        (("small.onnx", "--preset", "extreme"), "conservative, moderate"),
        (("small.onnx", "--preset", "moderate", "--columns", 3), "give one of them"),
        (("small.onnx", "--bits", 4, "--preset", "moderate"), "give one of them"),
        (("small.onnx", "--bits", 4), "needs calibration samples"),
        (("small.onnx", "--bits", 9), "more than 0 and at most 8"),
        (("small.onnx", "--max-drop", -1), "0 to 100"),
        (("small.onnx", "--block", 0), "1 or more"),
        (("small.onnx", "--columns", 7), "0..6"),
        (("small.onnx", "--columns", -1), "0..6"),
        (("small.onnx", "--sensitive", 20), "0..1"),
        (("small.onnx", "--method", "magic"), "rounded-averaging"),
        (("small.onnx", "--array", "0x4"), "1 to 64"),
        (("small.onnx", "--array", "4x400"), "1 to 64"),
        (("small.onnx", "--array", "big"), "ROWSxCOLUMNS"),
        (("small.onnx", "--engine", "spice"), "unknown engine"),
        (("small.onnx", "--samples", 0), "must be 1 to"),
        (("small.onnx", "--coverage", 2), "0 to 1, but it is 2; change --coverage"),
        (("small.onnx", "--coverage", -0.5), "0 to 1, but it is -0.5; change --coverage"),
        (("small.onnx", "--coverage", "nan"), "0 to 1, but it is nan; change --coverage"),
        (("small.onnx", "--weight-buffer", 3), "the weight buffer is 3; give another depth with --weight-buffer"),
        (("small.onnx", "--weight-buffer", 2**17), "4 to 65,536"),
        (("small.onnx", "--processes", 0), "one process or more"),
        (("small.onnx", "--scheduler", "here"), "tcp://HOST:PORT"),
        (("small.onnx", "--frobnicate"), "No such option"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], words: str
) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    given = arguments if "--engine" in arguments or "--array" in arguments else (*arguments, *SMALL[:4])
    status, out, err = run("compile", *given, "-o", "out")
    assert status == 2
    assert out == ""
    assert err.startswith("bbs: error: ")
    assert err.count("\n") == 1
    assert words in err
    assert sorted(place.rglob("*")) == before


def test_outputs_in_use_are_kept(run: Run, place: Path) -> None:
    model = place / "small.onnx"
    for output, words in (("file", "is a file"), ("used", "in use"), ("file/below", "cannot be written")):
        status, _, err = run("compile", model, *SMALL, "-o", place / output)
        assert (status, words in err) == (2, True), err
    status, _, err = run("compile", model, *SMALL, "-o", place / "used", "--force")
    assert (status, "earlier build only" in err) == (2, True), err
    assert (place / "used" / "thesis.tex").exists()
    status, _, err = run("compress", model, "-o", place / "file")
    assert (status, "exists" in err) == (2, True), err
    (place / "plot.svg").write_text("mine")
    status, _, err = run("compress", model, "-o", place / "new.onnx", "--plot", place / "plot.svg")
    assert (status, "plot.svg' exists; choose another, or add --force" in err) == (2, True), err
    assert (place / "plot.svg").read_text() == "mine" and not (place / "new.onnx").exists()


def shell(place: Path, script: str) -> tuple[int, str]:
    """Status and stderr of a script in which `bbs` is the command."""
    call = f'bbs() {{ "{sys.executable}" -c "from flow.cli import main; main()" "$@"; }}; '
    environment = {**os.environ, "PYTHONPATH": str(Path(flow.__file__).parents[1])}
    done = subprocess.run(["bash", "-c", call + script], cwd=place, env=environment, text=True, capture_output=True)
    return done.returncode, done.stderr


def test_stdout_that_is_full_closed_or_read_in_part(place: Path) -> None:
    """What was written is said on stderr; who reads the first line only has no error."""
    compress = "bbs compress small.onnx --preset moderate --force -o out.onnx"
    unprinted = "bbs: error: the results cannot be printed to standard output: "
    full = f"{unprinted}No space left on device; The pruned network is in out.onnx\n"
    assert shell(place, f"{compress} > /dev/full")[1].endswith(full) and (place / "out.onnx").exists()
    status, err = shell(place, f"{compress} --json >&-")
    assert (status, err) == (2, f"{unprinted}it is closed; The pruned network is in out.onnx\n")
    assert shell(place, f"{compress} --quiet >&- 2>&- <&-")[0] == 0
    status, err = shell(place, "bbs inspect small.onnx | head -n 1; exit ${PIPESTATUS[0]}")
    assert (status, err) == (0, "")


def test_what_an_error_has_left_is_said(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing, the network without its plot, or all of it."""
    arguments = ("compress", place / "small.onnx", "--preset", "moderate", "-o", place / "out.onnx")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/place")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    compress = sys.modules["flow.api.compress"]
    for raised, words in ((full, "No space left on device"), (interrupted, "interrupted")):
        for module, name, left in (
            (compress, "write_output", "nothing was written"),
            (compress, "curves", f"the pruned network is in '{place}/out.onnx', without its plot"),
            (sys.modules["flow.cli.commands"], "print_report", f"The pruned network is in {place}/out.onnx"),
        ):
            (place / "out.onnx").unlink(missing_ok=True)
            with monkeypatch.context() as patch:
                patch.setattr(compress, "_sweep", lambda *_: {})
                patch.setattr(module, name, raised)
                status, _, err = run(*arguments, *(("--plot", place / "plot.svg") if name == "curves" else ()))
            last = err.splitlines()[-1]
            assert status == 2 and last.startswith("bbs: error: ") and words in last and left in last, last
            assert (place / "out.onnx").exists() == (name != "write_output")


LOST = """
import os, signal
from flow.cli import commands
from flow.programs import pause

class Deleted:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        pause(0)  # Python prints the exception that is raised here, and goes on

def work(*_):
    Deleted()
    for _ in range(100):
        pause(0.1)
    print("went on to its end")

commands.run_verify = work
commands.main()
"""


def interrupted(script: str, place: Path) -> subprocess.CompletedProcess[str]:
    """`bbs verify`, begun by a script that interrupts it."""
    return subprocess.run(
        [sys.executable, "-c", script, "verify", str(place)], capture_output=True, text=True, check=False,
        preexec_fn=heed_signals, env={**os.environ, "PYTHONPATH": str(Path(flow.__file__).parents[1])},
    )  # fmt: skip


def test_an_interruption_that_python_ignores_ends_the_command(place: Path) -> None:
    done = interrupted(LOST, place)
    assert "Exception ignored" in done.stderr and "KeyboardInterrupt" in done.stderr
    assert not done.stdout
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "bbs: error: interrupted; nothing was written")


TRIED = """
import os, signal, sys, tempfile
from flow.cli import commands

def find():
    os.kill(os.getpid(), signal.SIGTERM)
    print("tried to the end")
    return sys.argv[-1]

tempfile._get_default_tempdir = find
commands.main()
"""


def test_what_python_tries_in_the_temporary_folder_is_not_interrupted(place: Path) -> None:
    """It writes a file there and deletes it: nothing comes in between."""
    done = interrupted(TRIED, place)
    assert (done.returncode, done.stdout) == (2, "tried to the end\n")
    assert done.stderr == "bbs: error: interrupted; nothing was written\n"


def test_simulation_without_a_compiler_is_announced(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything begins, with the remedy; how long it takes is said when that is known."""
    said: list[str] = []

    def begin(*_: object) -> None:
        raise RuntimeError("begun")

    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ziglang" else find(name))
    monkeypatch.setattr("flow.simulation.engines.verilator.COMPILERS", ())
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("flow.cli.stages._LogPrinter.emit", lambda self, record: said.append(record.getMessage()))
    monkeypatch.setattr(sys.modules["flow.api.compile"], "read_network", begin)
    with pytest.raises(RuntimeError, match="begun"):
        run("compile", place / "small.onnx", "-o", place / "out")
    remedy = "pip install ziglang, or apt-get install g++"
    assert said[0].startswith(f"Simulated by MyHDL, which is slow. Verilator needs a C++ compiler: {remedy}")


def test_a_missing_simulator_is_said(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    status, _, err = run("compile", place / "small.onnx", "--engine", "icarus", "-o", place / "out")
    assert status == 2
    assert "apt-get install iverilog" in err


def test_compile_cosim_and_force(run: Run, place: Path) -> None:
    status, out, err = run("compile", place / "small.onnx", *SMALL, "-o", place / "out")
    assert status == 0, err
    assert "Verdict: pass" in out
    assert "made-up inputs are used" in err
    status, out, err = run("compile", place / "small.onnx", *SMALL, "-o", place / "out", "--force", "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert report == json.loads((place / "out" / "report.json").read_text())
    status, out, err = run("cosim", place / "out", "--engine", quick_engine(), "--samples", 2, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["summary"]["samples"] == 2
    status, _, err = run("cosim", place / "out", "--engine", quick_engine(), "--samples", 17)
    assert (status, "1 to 16" in err) == (2, True)
    status, _, err = run("cosim", place)
    assert (status, "no build" in err) == (2, True)


def test_a_failed_verdict_is_status_1(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flow.judgement.verdict.TIER2_LSB", -1)
    status, out, _ = run("compile", place / "small.onnx", *SMALL, "-o", place / "out")
    assert status == 1
    assert "Verdict: fail" in out
    assert (place / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("shipped", "words"), [(0, "No layer ran from the descriptors that ship: each is too long"), (1, "1 of 2"), (2, "")]
)
def test_what_did_not_run_as_it_ships_is_said(shipped: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_shipped(shipped, 2)
    out = capsys.readouterr().out
    assert out.startswith(words) and bool(out) == bool(words)


def test_inspect_and_help(run: Run, place: Path) -> None:
    status, out, _ = run("inspect", place / "small.onnx", "--json")
    assert status == 0
    found = json.loads(out)
    assert {node["target"] for node in found["nodes"]} == {"array", "host", "post-processing"}
    assert found["macs"] == sum(node["macs"] for node in found["nodes"]) and 0 < found["array_share"] <= 1
    assert run("--help")[0] == 0
    assert run()[0] == 2


def test_a_sample_of_the_rtl_is_forecast_and_said(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long beforehand, how far on the way, and what went through RTL at the end."""
    options = ("--array", "2x2", "--engine", "icarus", "--samples", 1)
    require_engine("icarus")
    assert run("compile", place / "small.onnx", *options, "--coverage", 0, "-o", place / "out")[0] == 0
    monkeypatch.setattr("flow.api.simulate.FORECAST", 0)
    monkeypatch.setattr("flow.cli.stages.SECONDS_SAID", 0)
    status, out, err = run("cosim", place / "out", *options[2:], "--coverage", 0.1, "--processes", 2)
    assert status == 0
    assert re.search(r"About \d+ s: [\d,]+ cycles at [\d,]+ a second in 2 processes\.", err), err
    assert re.search(r"co-simulate: \d+ %, about \d+ s left\.", err), err
    share = re.search(r"([\d.]+) % of the MACs went through RTL, the rest through the integer reference\.", out)
    assert share and 10 <= float(share[1]) < 100
    shipped = re.search(
        r"(\d) of (\d) layers ran from the descriptors that ship; those of the others were read back", out
    )
    assert shipped and 1 <= int(shipped[1]) < int(shipped[2])
    assert "Verdict: pass. 1 sample on a 2x2 array by icarus: 0 of" in out
    head, *rows = [line.split() for line in out.splitlines()[:5]]
    assert head[-2:] == ["RTL", "%"] and all(10 <= float(row[-1]) <= 100 for row in rows)
    status, out, _ = run("cosim", place / "out", *options[2:], "--coverage", 0)
    assert status == 0
    assert "Nothing went through RTL" in out and "Verdict: none. 1 sample by the integer reference" in out


def test_the_cache_is_shown_and_cleaned(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BBS_CACHE", str(tmp_path))
    (tmp_path / "area-old.json").write_text("x" * 2**20)
    os.utime(tmp_path / "area-old.json", (0, 0))
    status, out, _ = run("cache")
    assert status == 0 and re.search(r"areas +1 +1\.0\n", out) and f"1.0 MiB are in {tmp_path}." in out
    status, out, _ = run("cache", "--older", 100_000, "--json")
    assert status == 0 and json.loads(out)["areas"] == {"entries": 0, "bytes": 0}
    status, out, _ = run("cache", "--clean")
    assert status == 0 and f"1.0 MiB were removed from {tmp_path}." in out
    assert not list(tmp_path.iterdir())
    status, _, err = run("cache", "--older", -1)
    assert status == 2 and err.count("\n") == 1


def test_layers_of_one_set_of_weights_are_one_row(run: Run, tmp_path: Path) -> None:
    """As the steps of a recurrent layer; a report lists each, and counts their weights once."""
    net = Floats(17)
    weights, y = net.constant(net.rng.normal(0, 0.4, (8, 8)).astype(np.float32)), "x"
    for _ in range(4):
        y = net.node("Relu", net.node("MatMul", y, weights))
    model = net.model((8,), net.gemm(y, 8, 3))
    onnx.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "net_calibration.npz", x=feeds(model, 20)["x"])
    status, out, _ = run("compress", tmp_path / "net.onnx", "-o", tmp_path / "out.onnx", "--preset", "moderate")
    assert status == 0 and "MatMul_0 (and 3 more)" in out and "Gemm_8" in out and "MatMul_2" not in out
    _, out, _ = run("compress", tmp_path / "net.onnx", "-o", tmp_path / "2.onnx", "--preset", "moderate", "--json")
    layers = json.loads(out)["layers"]
    assert [layer["weights_of"] for layer in layers] == [None, *["MatMul_0"] * 3, None]
    _, out, _ = run("inspect", tmp_path / "net.onnx", "--all")
    assert "The array takes 5 layers: 280 MACs (100.0 % of the network's), 88 weights." in out
    assert json.loads(run("inspect", tmp_path / "net.onnx", "--json")[1])["macs"] == 280


def test_control_characters_of_names_do_not_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    """ESC and OSC in node names, and what turns text round: in tables, notes and errors."""
    model = residual_net()
    hostile = "\x1b]0;title\x07\x1b[31mred\u202e"
    model.graph.node[0].name = hostile
    for node in model.graph.node:
        if node.op_type == "Conv":
            node.name = hostile + node.name
    onnx.save(model, str(tmp_path / "net.onnx"))
    for arguments in (("inspect",), ("compress", "-o", tmp_path / "out.onnx", "--preset", "moderate")):
        status, out, err = run(arguments[0], tmp_path / "net.onnx", *arguments[1:])
        assert status == 0
        assert not {"\x1b", "\x07", "\u202e"} & set(out + err)
        assert r"\x1b]0;title\x07" in out.replace("\n", "")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_of_layers_fits_a_terminal(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Names of layers and all figures are there, whatever the width."""
    monkeypatch.setattr("flow.cli.tables.out.width", width)
    status, out, _ = run("compile", place / "small.onnx", *SMALL, "--coverage", 0, "-o", place / "out")
    assert status == 0
    rows = out.split("bits per weight")[0].splitlines()[:-1]
    assert all(len(line) <= width for line in rows)
    flat = "".join(line[: 9 if width == 60 else 13].strip() for line in rows)
    report = json.loads((place / "out" / "report.json").read_text())
    for layer in report["layers"]:
        assert layer["name"] in flat
        assert any(f" {layer['cycles']:,} " in line and f"{layer['bits_per_weight']:.2f}" in line for line in rows)
