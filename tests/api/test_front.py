"""The front of accuracy against bits and cycles: each point is what a build of its own would reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import flow
from flow.api import front as api_front
from flow.compression import tune
from flow.errors import FlowError
from flow.network.samples import arrays
from flow.onnxtools import runtime
from flow.output.report.report import Report
from flow.output.report.summary import Front
from tests.helpers.nets import samples, small
from tests.helpers.networks import residual, saved

SIZE = (4, 4)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with samples to calibrate, and labelled ones to evaluate."""
    file = saved(residual(), tmp_path_factory.mktemp("front"))
    x: dict[str, Any] = dict(samples(residual(), 40))
    answers = next(iter(runtime.predict_all(residual(), x).values()))
    np.savez(file.with_name("net_test.npz"), **x, y=answers.reshape(40, -1).argmax(axis=1))
    return file


def front_of(report: Report) -> Front:
    assert report.summary.front is not None
    return report.summary.front


def check(front: Front) -> None:
    """`best` are those that nothing beats."""
    sign = 1 if front.lower else -1
    costs = [(sign * (each.value or 0.0) if front.metric else each.divergence, each.cycles_bus, each.bits_per_weight,
              each.energy or 0.0) for each in front.points]  # fmt: skip
    for point, own in zip(front.points, costs, strict=True):
        assert point.best == (not any(all(a <= b for a, b in zip(one, own, strict=True)) and one != own
                                      for one in costs))  # fmt: skip
    assert [each.kind for each in front.points].count("chosen") == 1 == [e.kind for e in front.points].count("int8")


def test_other_budgets_are_what_they_would_be(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_front, "BUDGETS", (4.0, 5.0, 6.0))
    simple: dict[str, Any] = {"array": SIZE, "compensation": False, "scale_search": False, "bus": 32, "latency": 9}
    surveys, survey = [0], tune.survey

    def counted(*given: Any) -> tune.Survey:
        surveys[0] += 1
        return survey(*given)

    monkeypatch.setattr(tune, "survey", counted)
    report = flow.compile(network, tmp_path / "out", coverage=0, samples=1, front=True, bits=5, **simple)
    assert surveys == [1]  # the budget chosen, and all others
    front, accuracy = front_of(report), report.summary.accuracy
    check(front)
    budgets = {each.option: each for each in front.points if each.kind == "budget"}
    assert budgets.keys() == {"--bits 4", "--bits 6"}
    own = flow.compress(network, tmp_path / "four.onnx", bits=4, **simple).summary
    four = budgets["--bits 4"]
    assert own.predicted is not None
    assert (four.bits_per_weight, four.cycles) == (own.bits_per_weight, own.predicted.cycles)
    assert four.energy == own.predicted.energy and four.energy is not None
    assert four.cycles < four.cycles_bus == own.predicted.cycles_bus and own.predicted.bus_bits == 32
    assert (four.value, four.divergence) == (
        own.accuracy.outputs[0].values["pruned"],
        own.accuracy.divergence["pruned"],
    )
    chosen, int8 = (next(each for each in front.points if each.kind == kind) for kind in ("chosen", "int8"))
    assert (chosen.cycles, chosen.value) == (report.summary.cycles, accuracy.outputs[0].values["pruned"])
    assert (int8.value, int8.divergence) == (accuracy.outputs[0].values["int8"], accuracy.divergence["int8"])
    assert int8.bits_per_weight == 8 and int8.cycles > chosen.cycles
    assert report.summary.predicted is not None and chosen.energy == report.summary.predicted.energy
    assert (int8.energy or 0.0) > (chosen.energy or 0.0) > four.energy
    assert report.bus is not None and chosen.cycles_bus == report.bus.whole_cycles == report.bus.cycles
    page = (tmp_path / "out" / "report.html").read_text()
    words = f"{four.cycles_bus:,} cycles behind the bus, {four.cycles:,} with ideal memories, {four.energy:,.3g} microj"
    assert page.count(words) == 12
    assert page.count("cycles of a sample, behind the bus") == 4 and f"({int8.cycles_bus:,} behind the bus)" in page
    assert (
        page.count('href="#front-0"') == page.count('class="point') / len(front.points) == 6
    )  # answers and divergence, over each of three


def test_on_chip_a_point_is_the_whole_network_behind_the_bus(network: Path, tmp_path: Path) -> None:
    """Its cycles behind the bus are those of the report; of INT8 those of a build that prunes nothing."""
    asked: dict[str, Any] = {"array": SIZE, "on_chip": True, "coverage": 0, "samples": 1}
    report = flow.compile(network, tmp_path / "out", preset="moderate", **asked)
    whole = flow.compile(network, tmp_path / "whole", columns=0, sensitive=0.0, **asked)
    assert report.bus is not None and whole.bus is not None
    points = {each.kind: each.cycles_bus for each in front_of(report).points}
    assert points == {"chosen": report.bus.whole_cycles, "int8": whole.bus.whole_cycles}
    assert all(each.energy is None for each in front_of(report).points)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "There is no model of the energy of this array." in page and "microjoules" not in page
    assert points["chosen"] < points["int8"] and points["chosen"] != report.bus.cycles  # those are layer by layer


def test_what_was_tried_for_a_drop_is_shown(network: Path, tmp_path: Path) -> None:
    report = flow.compile(network, tmp_path / "out", array=SIZE, coverage=0, samples=1, max_drop=30.0,
                          compensation=False, scale_search=False)  # fmt: skip
    front = front_of(report)
    check(front)
    tried = [each for each in front.points if each.kind == "tried"]
    chosen = next(each for each in front.points if each.kind == "chosen")
    base = report.summary.accuracy.outputs[0].values["float"]
    assert tried and base is not None
    for each in tried:
        assert each.value is not None and each.kept == (each.value >= base - 0.3)
        assert not each.kept or each.bits_per_weight >= chosen.bits_per_weight


def test_without_calibration_there_are_no_budgets(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="--front .*need calibration samples, but there are none; leave it out"):
        flow.compile(small(tmp_path), tmp_path / "out", array=SIZE, coverage=0, front=True)
    assert not (tmp_path / "out").exists()


def test_int8_and_pruning_are_told_apart(network: Path, tmp_path: Path) -> None:
    """By what ONNX Runtime makes of the build's own networks, with labels or without."""
    out = tmp_path / "out"
    report = flow.compile(
        network, out, array=SIZE, coverage=0, samples=1, preset="moderate", clock=125, latency=7, bandwidth=4
    )
    x = {name: array for name, array in arrays(network.with_name("net_test.npz")).items() if name != "y"}
    forms = {"float": network, "int8": out / "model_int8.onnx", "pruned": out / "model_bbs.onnx"}
    first = {}
    for form, file in forms.items():
        loaded = runtime.predict_all(onnx.load(str(file)), x)
        first[form] = next(iter(loaded.values())).astype(np.float64)
    output = report.summary.accuracy.outputs[0]
    for form in ("int8", "pruned"):
        assert output.error[form] == pytest.approx(np.sqrt(((first[form] - first["float"]) ** 2).mean()))
    assert output.deviation == pytest.approx(first["float"].std())
    noise = ((first["pruned"] - first["int8"]) ** 2).mean()
    assert output.by_pruning["sqnr"] == pytest.approx(10 * np.log10(first["int8"].var() / noise))
    clock, bus = report.summary.clock, report.bus
    assert bus is not None and (bus.latency, bus.bandwidth, bus.on_chip) == (7, 4, None)
    cycles = sum(layer.cycles_bus for layer in report.layers)
    assert bus.cycles == bus.whole_cycles == cycles > report.summary.cycles
    assert bus.cost == pytest.approx(cycles / report.summary.cycles - 1, abs=1e-4)
    assert flow.cosim(out, coverage=0, samples=1).bus == bus  # of the build, whose manifest has the memory
    assert clock is not None and clock.on_chip is None
    assert clock.layers.milliseconds == pytest.approx(cycles / 125e3)
    assert clock.layers.inferences_per_second == pytest.approx(125e6 / cycles)
    page = (out / "report.html").read_text()
    assert report.command is not None and report.command in page and "at 125 MHz" in page
    assert "Behind AXI, a bus of 128 bits, memory of 7 cycles and 4 bytes a cycle" in page
