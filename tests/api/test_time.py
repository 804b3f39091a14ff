"""Budgets of time from the user's side: what is asked, reached, reported and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flow
from flow.api.inputs import compress_network, import_network
from flow.api.source import read_source
from flow.api.speed import Speed
from flow.compression.choice import OBJECTIVES, pruning
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.network.samples import random
from flow.onnxtools import runtime
from flow.output.report.report import Report
from flow.output.report.summary import amounts
from flow.progress import silent
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.program import needed_words
from flow.scheduling.timing import layer_by_layer
from tests.helpers.nets import samples
from tests.helpers.networks import residual, saved
from tests.helpers.tools import Run

SIZE = (4, 4)


def told(report: Report) -> tuple[float | None, float | None, int]:
    budget, predicted = report.summary.budget, report.summary.predicted
    assert budget is not None and predicted is not None
    return budget.asked, budget.reached, predicted.cycles


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(residual(), tmp_path_factory.mktemp("time"))


@pytest.mark.full
def test_a_build_is_as_fast_as_asked(network: Path, tmp_path: Path) -> None:
    """Nothing is simulated here: the report's cycles are the cycle model's of the schedule, as the RTL takes them."""
    report = flow.compile(network, tmp_path / "out", speedup=3.0, array=SIZE, coverage=0, samples=1)
    summary, (asked, reached, cycles) = report.summary, told(report)
    assert asked == 3.0 and reached == summary.speedup and cycles == summary.cycles
    assert reached is not None and reached >= 3.0
    assert report.summary.predicted is not None and not report.summary.predicted.on_chip
    line = f"Asked: 3x over dense PEs; reached: {reached:.4g}x over dense PEs."
    assert line in (tmp_path / "out" / "report.html").read_text()
    written = json.loads((tmp_path / "out" / "report.json").read_text())["summary"]
    assert written["budget"] == {"measure": "speedup", "asked": 3.0, "reached": reached}


def test_networks_on_chip_are_as_fast_as_asked(network: Path) -> None:
    source = read_source(network).admitted({}, [])
    imported = import_network(source, network.with_name("net_calibration.npz"), [])
    evaluated = random(imported.network.model, 4)
    linked = chain(imported.network)
    config = ArrayConfig(*SIZE).with_maps(needed_words(linked, SIZE[0]))
    speed = Speed.by_default(imported.network, config)
    _, made = compress_network(imported, pruning(speedup=1.9), speed, evaluated, silent, [])
    predicted, alone = speed.predicted(made.allocation), layer_by_layer(imported.network.layers, ArrayConfig(*SIZE))
    assert predicted.on_chip and predicted.cycles_dense == alone.dense
    assert 1.9 * predicted.cycles <= alone.dense and predicted.speedup >= 1.9
    assert not made.allocation[imported.network.layers[0].name].any()  # three inputs fill no octet: stored unpruned


def test_compression_names_what_was_asked_and_reached(network: Path, tmp_path: Path, run: Run) -> None:
    status, out, _ = run("compress", network, "-o", tmp_path / "small.onnx", "--speedup", "2.5", "--array", "4x4")
    assert status == 0
    assert "Asked: 2.5x over dense PEs; reached: " in out and "behind a bus of 128 bits), array 4x4: " in out
    status, out, _ = run("compress", network, "-o", tmp_path / "bits.onnx", "--bits", "5", "--array", "4x4")
    assert status == 0 and "Asked: 5 bits per weight; reached: " in out
    dense = flow.compress(network, tmp_path / "dense.onnx", speedup=1, array=SIZE)
    assert all(set(layer.columns_pruned) == {0} for layer in dense.layers)


def labelled(network: Path) -> Path:
    """Samples to evaluate the network with, whose labels are what it says of them."""
    x: dict[str, Any] = dict(samples(residual(), 40))
    answers = next(iter(runtime.predict_all(residual(), x).values()))
    file = network.with_name("labelled.npz")
    np.savez(file, **x, y=answers.reshape(40, -1).argmax(axis=1))
    return file


@pytest.mark.full
def test_the_least_energy_is_less_than_with_other_objectives(network: Path, tmp_path: Path) -> None:
    spent: dict[str, float] = {}
    budget = None
    for name in OBJECTIVES:
        made = flow.compress(network, tmp_path / f"{name}.onnx", max_drop=20, objective=name, array=SIZE,
                             evaluate=labelled(network), compensation=False, scale_search=False)  # fmt: skip
        predicted, budget = made.summary.predicted, made.summary.budget
        assert predicted is not None and budget is not None and budget.measure == name and budget.asked is None
        assert predicted.energy is not None and predicted.energy_int8 is not None
        assert predicted.energy < predicted.energy_int8
        spent[name] = predicted.energy
    assert budget is not None and spent["energy"] == min(spent.values()) and budget.reached == spent["energy"]
    assert amounts(budget) == ("the least energy", f"{spent['energy']:,.4g} microjoules a sample")
    assert "a drop of 20 points, with the least energy" in made.summary.rule


def test_energy_without_a_model_is_refused_before_any_work(network: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"max_drop": 1, "objective": "energy", "array": SIZE}
    with pytest.raises(FlowError, match="no model of the energy of feature maps on chip"):
        flow.compile(network, tmp_path / "out", on_chip=True, **asked)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_reached_is_one_line(network: Path, tmp_path: Path) -> None:
    with pytest.raises(FlowError, match=r"a speed-up of 20 over dense PEs .*: \d\.\d\d at most, [\d,]+ cycles of"):
        flow.compress(network, tmp_path / "small.onnx", speedup=20, array=SIZE)
    with pytest.raises(FlowError, match=r"10 cycles are fewer than pruning reaches .*: [\d,]+ at least"):
        flow.compress(network, tmp_path / "small.onnx", cycles=10, array=SIZE)
    with pytest.raises(FlowError, match=r"\(--bits, --speedup, --cycles, --max-drop\) needs calibration samples"):
        int8 = tmp_path / "int8.onnx"
        flow.compress(network, int8, columns=0, sensitive=0.0, array=SIZE)
        flow.compress(int8, tmp_path / "small.onnx", speedup=2, array=SIZE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"speedup": 2.0, "bits": 4.0}, "bits and speedup: each says how much to prune"),
        ({"speedup": 2.0, "cycles": 100}, "speedup and cycles: each says how much to prune"),
        ({"cycles": 100, "max_drop": 1.0}, "cycles and max-drop: each says how much to prune"),
        ({"speedup": 2.0, "preset_name": "moderate"}, "preset 'moderate' came together with speedup"),
        ({"speedup": 0.5}, "must be 1 or more, but it is 0.5; change --speedup"),
        ({"cycles": 0}, "must be 1 cycle or more, but it is 0; change --cycles"),
        ({"objective": "cycles"}, "give --max-drop, too"),
        ({"max_drop": 1.0, "objective": "joules"}, "unknown objective 'joules'; choose one of bits, cycles, energy"),
        ({"objective": "energy"}, "give --max-drop, too"),
        ({"max_drop": 1.0, "objective": "energy", "block": 4}, "a budget of energy as many channels share one N as"),
        ({"speedup": 2.0, "block": 4}, "as many channels share one N as the array has columns, but --block is 4"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_choices_that_do_not_fit_together(given: dict[str, float], message: str) -> None:
    with pytest.raises(FlowError, match=message.replace("(", r"\(")):
        pruning(**given)  # type: ignore[arg-type]
