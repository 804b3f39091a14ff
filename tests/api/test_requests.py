"""Requests: every option stands once; what Python, the command, the manifest and --resume make of it."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import flow
from flow.api.options import Request, flag, option_of
from flow.api.requests import CompileRequest, CompressRequest, CosimRequest, ExploreRequest, PruningOptions
from flow.cli import bbs
from flow.compression.prune import METHODS
from flow.errors import FlowError
from tests.helpers.nets import residual_net, samples, small
from tests.helpers.tools import Run, quick_engine

FAST: dict[str, Any] = {"array": (2, 2), "engine": quick_engine(), "samples": 1, "processes": 1}
VERBS: dict[str, type[Request]] = {
    "compile": CompileRequest, "compress": CompressRequest, "cosim": CosimRequest, "explore": ExploreRequest,
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_the_command_has_the_options_of_the_request(verb: str) -> None:
    own = {"as_json", "quiet", "verbose"}
    command = {each.name: each for each in bbs.commands[verb].params if each.name not in own}
    asked = {
        each.name: each for each in fields(VERBS[verb]) if option_of(each).argument or option_of(each).flag is not None
    }
    assert command.keys() == asked.keys()
    for name, parameter in command.items():
        if not option_of(asked[name]).argument:
            assert flag(asked[name]) in parameter.opts
            assert f"--{name.replace('_', '-')}" in parameter.opts or flag(asked[name]).startswith("--no-")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"bits": 4.5}, "budget"), ({"preset": "moderate"}, "moderate"), ({"pruning": "conservative"}, "conservative"),
        ({"pruning": flow.pruning(columns=2)}, "custom"), ({"columns": 3, "method": "optimal"}, "custom"),
        ({}, "default"), ({"max_drop": 1, "bias_correction": False}, "budget"),
    ],
)  # fmt: skip
def test_how_much_to_prune(values: dict[str, Any], names: str) -> None:
    request = CompileRequest.of(model="net.onnx", output="out", **values)
    assert request.chosen.name == names
    assert ("bias" in request.chosen.means) == (names in ("budget", "default") and "bias_correction" not in values)


def test_an_array_is_given_in_any_form() -> None:
    forms: list[Any] = ["8x4", "8X4", (8, 4), [8, 4], (np.int64(8), np.int32(4))]
    assert {CompileRequest.of(model="n.onnx", output="o", array=form).array for form in forms} == {(8, 4)}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"array": "big"}, "ROWSxCOLUMNS"), ({"array": (8, 8, 8)}, "'array' must be ROWSxCOLUMNS"),
        ({"array": 8}, "must be ROWSxCOLUMNS, .*but it is 8"), ({"array": (8.0, 8)}, "must be ROWSxCOLUMNS"),
        ({"arry": "8x8"}, "there is no option 'arry'; did you mean 'array'"),
        ({"samples": 2.5}, "'samples' must be a whole number, but it is 2.5"), ({"samples": True}, "a whole number"),
        ({"bits": "4"}, "'bits' must be a number, but it is '4'"), ({"on_chip": 1}, "must be True or False"),
        ({"pruning": 5}, "the name of a preset, but it is 5"), ({"pruning": "extreme"}, "conservative, moderate"),
        ({"pruning": "moderate", "bits": 4}, "'pruning' came together with"),
        ({"calibration": 5}, "an array, or a dict of arrays"), ({"calibration": {"x": object()}}, "a dict of arrays"),
        ({"evaluate": []}, "a dict of arrays, but it is a list"), ({"engine": 3}, "'engine' must be text"),
        ({"model": None}, "'model' must be the path of an ONNX file"), ({"model": 3}, "the path of an ONNX file"),
        ({"output": None}, "'output' must be a path"), ({"output": ""}, "'output' must be a path"),
        ({"coverage": 2}, "0 to 1"), ({"coverage": None}, "'coverage' must be a number, but it is None"),
        ({"bus": 48}, "give --bus 32, 64"), ({"latency": -1}, "give --latency 0 to 10,000"),
        ({"bandwidth": 0}, "give --bandwidth 1 or more"),
        ({"address_bits": 65}, "give --address-bits 32 to 64"), ({"weight_buffer": 3}, "weight buffer"),
        ({"drain": 9}, "sums leave the array in 1 to 8 cycles, but drain is 9; change --drain"),
        ({"processes": 0}, "one process or more"),
        ({"clock": 0}, "more than 0 MHz, but it is 0; change --clock"), ({"clock": float("nan")}, "more than 0 MHz"),
        ({"on_chip": True, "array": (3, 4)}, "rows"), ({"bits": float("nan")}, "more than 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line(values: dict[str, Any], words: str) -> None:
    with pytest.raises(FlowError, match=words) as refused:
        CompileRequest.of(**{"model": "net.onnx", "output": "out"} | values)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        {}, {"bits": 4.25, "array": "8x4", "samples": 3, "clock": 200.5}, {"preset": "moderate", "on_chip": True},
        {"pruning": flow.pruning("conservative")}, {"columns": 2, "sensitive": 0.15, "method": "optimal"},
        {"pruning": flow.pruning(bits=6, means=("bias",))}, {"speedup": 3.0, "engine": "icarus", "synth": True},
        {"max_drop": 0.5, "objective": "cycles", "compensation": False, "front": True, "effort": 3},
        {"cycles": 12345, "bus": 128, "latency": 9},
        {"shape": {"x": (1, 3, 8, 8), "N": (4,)}, "output_weight": {"a b": 0.125, "c": 1e-7}, "metric": "auc"},
        {"calibration": Path("it's data.npz"), "coverage": 0.1, "block": 16, "bias_correction": False},
        {"force": True, "resume": True, "prefix": "top", "weight_buffer": 256, "drain": 8},
    ],
)  # fmt: skip
def test_a_command_gives_its_request_again(values: dict[str, Any]) -> None:
    """What the report says is parsed as the command parses it: every recorded option is as it was."""
    request = CompileRequest.of(**{"model": "net 1.onnx", "output": "out"} | values)
    words = shlex.split(request.command("compile", "force", "resume"))
    assert words[:3] == ["bbs", "compile", "net 1.onnx"] and not {"--force", "--resume"} & set(words)
    parsed = bbs.commands["compile"].make_context("compile", words[2:]).params
    names = [each.name for each in fields(CompileRequest)]
    again = CompileRequest.of(**{n: v for n, v in parsed.items() if n in names and v not in (None, ())})
    assert again.record() == request.record() and again.engine == request.engine


def test_a_command_names_no_folder() -> None:
    """Equal requests have equal commands; what was in memory is named in capitals."""
    arrays = {"calibration": {"x": np.zeros(3)}, "evaluate": Path("/home/someone/test.npz")}
    request = CompileRequest.of(model=residual_net(), output="/tmp/secret/out", **arrays)
    said = "bbs compile MODEL.onnx --calibration FILE.npz --evaluate test.npz --output out"
    assert sorted(shlex.split(request.command("compile"))) == sorted(shlex.split(said))


def test_every_option_that_changes_a_build_is_recorded() -> None:
    """A new option is recorded unless it says otherwise; those that are not are here, with the reason."""
    record = CompileRequest.of(model="net.onnx", output="out", bits=4.5, array="8x8").record()
    absorbed = {each.name for each in fields(PruningOptions)} - {"pruning"}  # `pruning` is what they say
    elsewhere = {"model", "output", "engine"}  # the model's digest, the place, the engine's version
    same_result = {"scheduler", "processes", "force", "resume"}
    assert record.keys() == {each.name for each in fields(CompileRequest)} - absorbed - elsewhere - same_result
    assert json.loads(json.dumps(record)) == record
    assert record["pruning"]["bits"] == 4.5 and record["array"] == [8, 8]


def test_the_bus_is_as_given_or_fits_the_array() -> None:
    for bus, array, bits in ((None, (2, 4), 64), (None, (16, 32), 128), (512, (2, 4), 512)):
        asked = CompileRequest.of(model="net.onnx", output="out", array=array, bus=bus, address_bits=40)
        found = asked.axi(asked.sized(asked.array), asked.address_bits)
        assert (found.data_bits, found.address_bits) == (bits, 40)


def test_a_function_is_recorded_by_its_code(tmp_path: Path) -> None:
    """Not by its place: a build is the same wherever the file lies."""
    records = []
    for place, code in (("a", "1"), ("b", "1"), ("a", "2")):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "own.py").write_text(f"def f(outputs, y):\n    return {code}\n")
        request = CompileRequest.of(model="net.onnx", output="out", metric=f"{tmp_path / place / 'own.py'}:f")
        records.append(json.dumps(request.record()))
    assert records[0] == records[1] != records[2] and str(tmp_path) not in records[0]
    assert CompileRequest.of(model="net.onnx", output="out", metric="auc").record()["metric"] == "auc"


def test_arrays_and_a_model_in_memory_do_as_files(tmp_path: Path) -> None:
    model, x = residual_net(), samples(residual_net(), 6)["x"]
    y = np.arange(6) % 3
    np.savez(tmp_path / "c.npz", x=x)
    np.savez(tmp_path / "t.npz", x=x, y=y)
    path = small(tmp_path)
    by_file = flow.compile(
        path,
        tmp_path / "one",
        calibration=tmp_path / "c.npz",
        evaluate=str(tmp_path / "t.npz"),
        bits=6,
        coverage=0,
        **FAST,
    )
    for number, (calibration, evaluate) in enumerate([(x, (x, y)), ({"x": x}, {"x": x, "y": y})]):
        folder = tmp_path / f"memory{number}"
        report = flow.compile(model, folder, calibration=calibration, evaluate=evaluate, bits=6, coverage=0, **FAST)
        assert report.layers == by_file.layers
        assert (folder / "model_bbs.onnx").read_bytes() == (tmp_path / "one" / "model_bbs.onnx").read_bytes()
        assert flow.cosim(folder, engine=quick_engine(), samples=1, processes=1).passed
        again = flow.compile(
            model, folder, calibration=calibration, evaluate=evaluate, bits=6, coverage=0, resume=True, **FAST
        )
        assert again.as_dict() == report.as_dict()
        with pytest.raises(FlowError, match="this one differs in calibration"):
            flow.compile(model, folder, calibration=x + 1, evaluate=evaluate, bits=6, coverage=0, resume=True, **FAST)
    assert {node.target for node in flow.inspect(model).nodes} == {node.target for node in flow.inspect(path).nodes}


def test_constants_in_files_need_the_path(tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(residual_net())
    file = tmp_path / "net.onnx"
    onnx.save(model, str(file), save_as_external_data=True, location="net.data", size_threshold=0)
    with pytest.raises(FlowError, match="must be in memory, but .* is in a file"):
        flow.inspect(onnx.load(str(file), load_external_data=False))


def test_quiet_and_verbose(run: Run, tmp_path: Path) -> None:
    model = small(tmp_path)
    options = ("--preset", "moderate", "--array", "2x2", "--engine", quick_engine(), "--samples", 1)
    status, out, err = run("compile", model, "-o", tmp_path / "out", *options, "-q")
    assert (status, out, err) == (0, "Verdict: pass.\n", "")
    status, out, err = run("compress", model, "-o", tmp_path / "out.onnx", "--preset", "moderate", "-v")
    assert status == 0 and "prune and encode: 0." in err and "bits per weight" in out
    status, _, err = run("inspect", model, "-q", "-v")
    assert (status, "give one of them" in err) == (2, True)


def test_doctor_tells_what_is_installed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, _ = run("doctor", "--json")
    found = {each["name"]: each for each in json.loads(out)}
    assert status == 0
    assert found["numpy"]["version"] == np.__version__
    assert found["engine myhdl"]["version"]
    monkeypatch.setenv("PATH", "")
    status, out, _ = run("doctor")
    assert status == 0 and "apt-get install iverilog" in out and str(METHODS) not in out
