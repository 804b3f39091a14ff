"""The whole pipeline on the shipped network, and what the output folder must hold."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import flow
from flow.compression import tune
from flow.compression.effort import EFFORTS, Effort
from flow.errors import FlowError
from flow.frontend import admit
from flow.frontend.int8 import cut
from flow.hardware.config import ArrayConfig
from flow.output.manifest import Manifest
from flow.output.report import plot
from flow.output.report.report import Report
from tests.helpers.nets import DIGITS, residual_net, samples, small
from tests.helpers.tools import once_each, quick_engine, require_engine

SUMMARY = {
    "model", "preset", "bits_per_weight", "compression_ratio", "cycles", "cycles_dense", "speedup",
    "utilization", "engine", "samples", "verdict", "accuracy",
}  # fmt: skip
LAYER = {
    "name", "op", "target", "macs", "columns_pruned", "bits_per_weight", "cycles", "cycles_dense",
    "cycles_model", "utilization", "tier1_mismatches", "tier2_mismatches", "tier2_max_lsb", "elements",
}  # fmt: skip


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network, compiled for a 4x4 array."""
    require_engine("verilator")
    folder = tmp_path_factory.mktemp("digits") / "build"
    report = flow.compile(DIGITS, folder, array=(4, 4), engine="verilator", samples=2)
    assert report.passed
    return folder


def test_digits_agree_on_every_tier(digits: Path) -> None:
    report = json.loads((digits / "report.json").read_text())
    summary = report["summary"]
    assert set(summary) >= SUMMARY
    assert {name: summary["predicted"][name] for name in ("cycles", "cycles_dense", "speedup")} == {
        name: summary[name] for name in ("cycles", "cycles_dense", "speedup")
    }
    assert summary["budget"] == {"measure": "bits", "asked": 5.0, "reached": summary["bits_per_weight"]}
    assert all(set(layer) >= LAYER for layer in report["layers"])
    assert summary["verdict"] == "pass"
    assert summary["accuracy"]["rtl"] == summary["accuracy"]["pruned_simulated"]
    assert summary["accuracy"]["float"] >= 0.97
    assert summary["accuracy"]["pruned"] >= 0.95
    model = onnx.load(str(DIGITS))
    assert len(report["layers"]) == sum(node.op_type in ("Conv", "Gemm") for node in model.graph.node)
    for layer in report["layers"]:
        assert layer["elements"] > 0
        assert layer["tier1_mismatches"] == layer["tier1b_mismatches_dense"] == 0
        assert layer["tier2_max_lsb"] <= 1
        assert layer["cycles"] == layer["cycles_model"] >= layer["cycles_ideal"]
        assert layer["cycles_dense_source"] == "rtl"
        assert layer["speedup"] == round(layer["cycles_dense"] / layer["cycles"], 4)
    assert summary["cycles"] == sum(layer["cycles"] for layer in report["layers"])


@pytest.mark.full
def test_the_transformer_agrees_on_every_tier(tmp_path: Path) -> None:
    """The vision transformer that ships: tokens are the windows, attention runs on the host."""
    require_engine("verilator")
    model = DIGITS.with_name("digits_vit.onnx")
    report = flow.compile(model, tmp_path / "vit", pruning=flow.pruning("moderate"), array=(4, 4), samples=1)
    assert report.passed
    assert {layer.op for layer in report.layers} == {"Conv", "MatMul", "Gemm"} and len(report.layers) == 14
    assert all(layer.tier1_mismatches == 0 for layer in report.layers)
    assert (report.summary.accuracy.int8 or 0) > 0.97


def test_the_manifest_lists_every_file(digits: Path) -> None:
    manifest = Manifest.read(digits)
    files = {path.relative_to(digits).as_posix() for path in digits.rglob("*") if path.is_file()}
    assert set(manifest.sha256) == files - {"manifest.json"}
    for name, digest in manifest.sha256.items():
        assert hashlib.sha256((digits / name).read_bytes()).hexdigest() == digest
    assert {name.split("/")[0] for name in files} == {
        "verilog", "vhdl", "memory", "vectors", "testbench", "firmware", "soc", "model_int8.onnx", "model_bbs.onnx",
        "manifest.json", "report.json", "report.html", f"{manifest.axi.top}.core",
    }  # fmt: skip


def test_the_pruned_network_runs_in_plain_onnx_runtime(digits: Path) -> None:
    onnx.checker.check_model(onnx.load(str(digits / "model_bbs.onnx")))
    session = onnxruntime.InferenceSession(str(digits / "model_bbs.onnx"))
    test = np.load(DIGITS.with_name("digits_cnn_test.npz"))
    answers = session.run(None, {session.get_inputs()[0].name: test["x"]})[0]
    assert (answers.argmax(1) == test["y"]).mean() > 0.9


@pytest.mark.parametrize("engine", once_each(["verilator", "icarus", "ghdl"], lambda engine: True))
def test_every_engine_gives_the_same_bits_and_cycles(digits: Path, engine: str) -> None:
    require_engine(engine)
    built = Report.read(digits)
    again = flow.cosim(digits, engine=engine, samples=1, coverage=1 if engine == "verilator" else 0.2)
    assert again.passed and all(layer.rtl_share >= 0.2 for layer in again.layers)
    assert [layer.cycles for layer in again.layers] == [layer.cycles for layer in built.layers]
    assert again.summary.tier1_mismatches == 0


@pytest.mark.full
def test_the_small_network_on_myhdl_and_with_every_method(tmp_path: Path) -> None:
    model = small(tmp_path)
    for method, columns, engine in (
        ("rounded-averaging", 2, "myhdl"),
        ("optimal", 5, quick_engine()),
        ("optimal", 0, quick_engine()),
    ):
        chosen = flow.pruning(columns=columns, sensitive=0.0, method=method)
        report = flow.compile(
            model, tmp_path / "out", pruning=chosen, array=(3, 2), engine=engine, samples=1, force=True
        )
        assert report.passed
        assert all(layer.columns_pruned.keys() == {columns} for layer in report.layers)


def test_compress_writes_the_network_compile_would(tmp_path: Path) -> None:
    report = flow.compress(DIGITS, tmp_path / "small.onnx", array=(4, 4))
    assert (report.summary.accuracy.pruned or 0) > 0.9
    assert "verdict" not in report.as_dict()["summary"]
    network = cut.partition(admit.load(tmp_path / "small.onnx"), "small")
    assert [layer.name for layer in network.layers] == [layer.name for layer in report.layers]


@pytest.mark.parametrize("level", [None, 0, 2])
def test_the_effort_reaches_the_tuning(level: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    efforts, survey = list[Effort](), tune.survey

    def seen(network: Any, data: tune.CalibrationData, *rest: Any) -> tune.Survey:
        efforts.append(data.effort)
        return survey(network, data, *rest)

    monkeypatch.setattr(tune, "survey", seen)
    path = small(tmp_path)
    np.savez(tmp_path / "small_calibration.npz", x=samples(residual_net(), 12)["x"])
    report = flow.compress(path, tmp_path / "out.onnx", effort=level)
    assert efforts == [EFFORTS[1 if level is None else level]]
    assert ("effort" in report.summary.rule) == (level is not None)


def test_compress_plots_curves_over_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surveys, survey = [0], tune.survey

    def counted(*given: Any) -> tune.Survey:
        surveys[0] += 1
        return survey(*given)

    monkeypatch.setattr(tune, "survey", counted)
    path = small(tmp_path)
    np.savez(tmp_path / "small_calibration.npz", x=samples(residual_net(), 12)["x"])
    flow.compress(path, tmp_path / "out.onnx", plot=tmp_path / "curves.svg")
    assert surveys == [2]  # for the network, and for all budgets of the plot
    drawn = (tmp_path / "curves.svg").read_text()
    assert drawn.count("bits per weight") >= 2 and "svg" in drawn
    points = {"budget": [plot.Point(4, 9.5, 0.1), plot.Point(5, 9.1, 0.01)]}
    for metric, shown, unit in (("perplexity", "perplexity", "9.0"), ("top-1", "top-1, %", "900")):
        plot.curves(points, 9.0, "net", tmp_path / "curves.svg", metric)
        assert f"<!-- {shown} -->" in (drawn := (tmp_path / "curves.svg").read_text()) and f"<!-- {unit} -->" in drawn
    for name, words in (("curves.txt", "is a .png, .svg or .pdf"), ("nowhere/curves.svg", "there is no folder")):
        with pytest.raises(FlowError, match=words):
            flow.compress(path, tmp_path / "other.onnx", plot=tmp_path / name)
    assert not (tmp_path / "other.onnx").exists()


def test_a_failed_compile_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flow.api.simulate.cosimulate", broken)
    with pytest.raises(KeyboardInterrupt):
        flow.compile(small(tmp_path), tmp_path / "out", array=(2, 2), engine="myhdl", samples=1)
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_a_changed_build_is_refused(digits: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    (copy / "memory" / "index.hex").write_text("0\n")
    with pytest.raises(FlowError, match="index.hex' has changed"):
        flow.cosim(copy)
    (copy / "memory" / "index.hex").unlink()
    with pytest.raises(FlowError, match="lacks 'memory/index.hex'"):
        flow.cosim(copy)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(FlowError, match="damaged"):
        flow.cosim(copy)


def test_a_wrong_weight_memory_fails_and_is_located(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The RTL with one wrong weight bit: tier 1b must see it and name the place."""
    from flow.output.build import Build, read

    def flipped(folder: Path) -> Build:
        build = read(folder)
        build.memories["weight"][0, 0] ^= 1
        return build

    monkeypatch.setattr(sys.modules["flow.api.cosim"], "read", flipped)
    report = flow.cosim(digits, engine="verilator", samples=1)
    assert not report.passed
    first = report.layers[0]
    assert first.tier1b_mismatches > 0
    assert first.tier1a_mismatches == 0
    assert f"layer '{first.name}', channel block 0 (array column 0)" in (first.first_mismatch or "")
    assert all(layer.tier1_mismatches == 0 for layer in report.layers[1:])


def test_buffer_depths_and_drain_do_not_change_results(tmp_path: Path) -> None:
    assert ArrayConfig(4, 8, drain=8).lanes == 1
    for wrong in ({"drain": 0}, {"weight_depth": 100}, {"accumulator_bits": 40}, {"pe": "dens"}):
        with pytest.raises(FlowError):
            ArrayConfig(4, 4, **wrong)
