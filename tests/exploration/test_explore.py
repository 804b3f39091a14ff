"""Exploration: the Pareto front of what was measured, a study shared by processes, storages that do not open."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
import pytest
import sqlalchemy

import flow
from flow.api.inputs import evaluation, import_network
from flow.api.requests import ExploreRequest
from flow.api.source import read_source
from flow.compression.choice import pruning
from flow.compression.prune import METHODS
from flow.errors import FlowError
from flow.exploration import space as designs
from flow.exploration import study
from flow.exploration.evaluate import Evaluator, Measured
from flow.exploration.explore import explore
from flow.exploration.space import Design
from flow.exploration.study import Found, open_storage
from flow.exploration.study import search as search_study
from flow.hardware import blocks
from flow.hardware.config import ArrayConfig
from flow.hardware.synthesis import Estimate
from flow.onnxtools import runtime
from flow.scheduling.bus.bursts import SlowMemory
from tests.helpers.browser import probed
from tests.helpers.nets import heads_net, residual_net, samples, small
from tests.helpers.tools import Run, require_tool, until

ROOT = Path(__file__).parents[2]
SPACE = {"ROWS": (2,), "COLUMNS": (2, 4), "WEIGHT_WORDS": (256, 1024), "USUAL": ArrayConfig(2, 2)}
REQUEST = {"model": "some network"}
OTHER = f"""
import sys
from flow.exploration import space
from flow.exploration.explore import explore
from flow.hardware.config import ArrayConfig
vars(space).update({SPACE!r})
explore(sys.argv[1], sys.argv[2], storage=sys.argv[3], trials=int(sys.argv[4]))
"""


@pytest.fixture(autouse=True)
def space(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays that Yosys is done with in seconds."""
    for name, value in SPACE.items():
        monkeypatch.setattr(designs, name, value)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of `small` with samples to calibrate and, labelled, to evaluate beside it."""
    file = small(tmp_path_factory.mktemp("model"))
    np.savez(file.with_name("small_calibration.npz"), x=samples(residual_net(), 12)["x"])
    x = samples(residual_net(), 30)["x"]
    np.savez(file.with_name("small_test.npz"), x=x, y=runtime.predict(residual_net(), x).argmax(axis=1))
    return file


@pytest.fixture(scope="module")
def bench(model: Path) -> Evaluator:
    require_tool("yosys")
    return evaluator(model)


def evaluator(model: Path, evaluate: dict[str, Any] | None = None) -> Evaluator:
    """What measures designs by these samples, or by those beside the network."""
    source = read_source(model).admitted()
    taken = import_network(source, None, [])
    bus = ExploreRequest.of(model=model, output="out").axi
    return Evaluator(taken, evaluation(taken.network, source, evaluate, None, []), None, bus, SlowMemory())


def dominates(one: Measured, other: Measured, scored: bool = True) -> bool:
    """As good in all, better in one."""
    pairs = [*zip(one.values, other.values, strict=True)]
    pairs[0] = (-pairs[0][0], -pairs[0][1]) if scored else pairs[0]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def check_front(found: list[Found], scored: bool = True) -> None:
    for each in found:
        beaten = any(dominates(other.measured, each.measured, scored) for other in found)
        assert each.best == (not beaten), each


# -------------------------------------------------------------------------------- a study
def test_a_study_is_searched_reported_and_gone_on_with(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_tool("yosys")
    measured: list[Design] = []
    actual = Evaluator.measure

    def measure(self: Evaluator, design: Design) -> Measured:
        measured.append(design)
        return actual(self, design)

    monkeypatch.setattr(Evaluator, "measure", measure)
    out = tmp_path / "out"
    first = explore(model, out, trials=5)
    assert [each.design for each in first] == measured and len(first) == 5
    assert {each.design.options for each in first} >= {
        "--array 2x2 --weight-buffer 1024 --columns 2 --sensitive 0.1 --method rounded-averaging",
        "--array 2x2 --weight-buffer 1024 --columns 4 --sensitive 0.2 --method zero-point-shifting",
        "--array 2x2 --weight-buffer 1024 --bits 5",
    }
    check_front(first)
    again = explore(model, out, trials=7)
    assert [replace(each, best=True) for each in again[:5]] == [replace(each, best=True) for each in first]
    assert len(again) == len(measured) == 7
    check_front(again)
    assert explore(model, out, trials=3) == again and len(measured) == 7  # it has as many already
    check_report(out, again)


def check_report(out: Path, found: list[Found]) -> None:
    assert {path.name for path in out.iterdir()} == {"explore.db", "explore.html", "explore.json"}
    report = json.loads((out / "explore.json").read_text())
    assert (report["model"], report["study"], report["samples"]) == ("small", "small", 30)
    assert {design["number"]: design["best"] for design in report["designs"]} == {f.number: f.best for f in found}
    front = [design["cycles_bus"] for design in report["designs"] if design["best"]]
    assert front == sorted(front) and all(design["best"] for design in report["designs"][: len(front)])
    page = (out / "explore.html").read_text()
    text = re.sub(r"<[^>]+>", "", page)
    for design in report["designs"]:
        assert design["compile"] in " ".join(text.split())
        assert f"{design['cycles']:,}" in text and f"{design['cycles_bus']:,}" in text
        assert f"{100 * design['accuracy']:.2f} %" in text
    assert page.count("<svg") == 4
    for design in report["designs"]:  # every point of the four plots has its row, and that its command
        row = re.search(rf'<tr id="design-{design["number"]}".*?</tr>', page, re.DOTALL)
        assert row is not None and f"bbs compile small.onnx {design['compile']} -o DIR" in row[0]
        assert page.count(f'href="#design-{design["number"]}"') == 4
    seen = probed(out / "explore.html", out.parent, 390, True)
    assert seen["errors"] == [] and seen["width"][0] <= seen["width"][1] and seen["points"] == 4 * len(found)
    assert f"{len(front)} designs of {len(found)} are on the Pareto front" in text


def test_a_design_is_what_compile_would_build(
    model: Path, bench: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cycles, bits, top-1, traffic and transistors as the report of a build has them."""
    monkeypatch.setattr(blocks, "FAMILIES", {})
    design = Design(4, 4, 256, pruning(columns=3, sensitive=0.3, method="optimal"))
    assert design.options == "--array 4x4 --weight-buffer 256 --columns 3 --sensitive 0.3 --method optimal"
    report = flow.compile(
        model, tmp_path / "out", pruning=design.chosen, array=(4, 4), weight_buffer=256, synth=True, coverage=0
    )
    got = bench.measure(design)
    traffic = sum(sum(layer.memory_traffic.values()) for layer in report.layers)
    summary, accuracy = report.summary, report.summary.accuracy
    assert (got.cycles, got.traffic) == (summary.cycles, traffic)
    assert report.bus is not None and got.cycles_bus == report.bus.cycles > got.cycles
    assert summary.area is not None and got.transistors == summary.area.transistors
    assert got.accuracy == accuracy.pruned and got.divergence == accuracy.divergence["pruned"]
    assert round(got.bits_per_weight, 4) == summary.bits_per_weight


@pytest.mark.full
def test_two_processes_share_a_study(
    model: Path, bench: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process is at it when this one joins; both measure, and both see all."""
    url, trials = f"sqlite:///{tmp_path / 'shared.db'}", 20
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", OTHER, str(model), str(tmp_path / "other"), url, str(trials)]
    other = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    def begun() -> Any:
        assert other.poll() is None, other.communicate()
        kept = open_storage(url)
        names = [study.study_name for study in kept.get_all_studies()]
        study = optuna.load_study(study_name=names[0], storage=kept) if names else None
        return study if study and any(trial.state.is_finished() for trial in study.trials) else None

    study = until(begun)
    mine: list[Design] = []

    def measure(design: Design) -> Measured:
        mine.append(design)
        return Evaluator.measure(bench, design)

    monkeypatch.setattr(bench, "measure", measure)
    request = json.loads(study.user_attrs["request"])
    found = search_study(bench, open_storage(url), study.study_name, request, trials)
    _, said = other.communicate(timeout=120)
    assert other.returncode == 0, said
    assert 0 < len(mine) < trials
    everything = optuna.load_study(study_name=study.study_name, storage=url).trials
    done = [trial for trial in everything if trial.state == optuna.trial.TrialState.COMPLETE]
    assert trials <= len(done) <= trials + 1  # both may have been at the last one
    check_front(found)
    theirs = json.loads((tmp_path / "other" / "explore.json").read_text())["designs"]
    assert {design["number"] for design in theirs} <= {trial.number for trial in done}


def test_a_design_is_taken_by_one_worker(tmp_path: Path) -> None:
    """Another worker asks for the first design between the reading and the writing of the one that takes it."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    one, other = open_storage(url), open_storage(url)
    name = optuna.create_study(storage=one).study_name
    optuna.load_study(study_name=name, storage=one).enqueue_trial({})
    ours, theirs = (optuna.load_study(study_name=name, storage=storage) for storage in (one, other))
    taken: list[optuna.Trial] = []
    worker = threading.Thread(target=lambda: taken.append(theirs.ask()))

    def between(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "WHERE trials.trial_id = ?" in statement and worker.ident is None:
            worker.start()
            worker.join(0.5)

    sqlalchemy.event.listen(one.engine, "after_cursor_execute", between)
    mine = ours.ask()
    worker.join()
    assert {mine.number, taken[0].number} == {0, 1}


def test_less_divergence_is_better_where_nothing_is_labelled(model: Path) -> None:
    made = evaluator(model, {"x": samples(residual_net(), 4)["x"]})
    assert made.metric is None and not made.rising
    assert evaluator(model).rising


# -------------------------------------------------------------------------------- the search
@dataclass
class Made:
    """A bench that measures by a formula, by which a bus is too slow for wide arrays; those with the buffer `refused`
    cannot be built.
    """

    scored: bool = True
    methods: tuple[str, ...] = tuple(METHODS)
    refused: tuple[int, ...] = ()
    measured: list[Design] = field(default_factory=list)

    @property
    def rising(self) -> bool:
        return self.scored

    def measure(self, design: Design) -> Measured:
        if design.weight_depth in self.refused:
            raise FlowError(f"a buffer of {design.weight_depth} cannot be")
        self.measured.append(design)
        chosen = design.chosen
        assert chosen.columns is not None and chosen.sensitive is not None
        worse = chosen.columns * (1 - chosen.sensitive)
        return Measured(
            0.99 - 0.01 * worse if self.scored else None, worse, 8 - worse, 1000 // design.columns - chosen.columns,
            2000 + design.columns - chosen.columns, design.columns * 100, design.weight_depth,
        )  # fmt: skip


def search(made: Made, kept: Any, trials: int, **others: Any) -> list[Found]:
    told: list[int] = []
    request = {**REQUEST, **others}
    found = search_study(cast(Evaluator, made), kept, "study", request, trials, lambda done=1: told.append(done))
    assert sum(told) == trials
    return found


@pytest.mark.parametrize("scored", [True, False])
def test_the_front_is_what_nothing_beats(scored: bool) -> None:
    found = search(Made(scored), optuna.storages.InMemoryStorage(), 40)
    check_front(found, scored)
    assert 0 < sum(each.best for each in found) < len(found) == 40
    assert {each.design.columns for each in found if each.best} == {2}  # of 4 is faster with ideal memories alone


def test_designs_that_cannot_be_built_are_left_out() -> None:
    made = Made(refused=(256,))
    found = search(made, optuna.storages.InMemoryStorage(), 30)
    assert [each.design for each in found] == made.measured and 0 < len(found) < 30
    with pytest.raises(FlowError, match="none of the 4 designs tried can be built .*a buffer of .* cannot be"):
        search(Made(refused=(256, 1024)), optuna.storages.InMemoryStorage(), 4)


def test_a_study_of_something_else_is_refused() -> None:
    kept = optuna.storages.InMemoryStorage()
    search(Made(), kept, 4)
    for others in ({"model": "another"}, {"samples": ["0"]}, {"bus": {"bits": 128}}):
        with pytest.raises(FlowError, match="study 'study' was begun with another network.*another bus.*--study"):
            search(Made(), kept, 5, **others)
    with pytest.raises(FlowError, match="study 'study' has other objectives.*--study"):
        search(Made(scored=False), kept, 5)
    assert len(search(Made(), kept, 5)) == 5


# -------------------------------------------------------------------------------- storages
@pytest.mark.parametrize(
    "url",
    [
        "nonsense", "sqlite:///no/such/folder/study.db", f"sqlite:///{__file__}", "mysql://user:secret@127.0.0.1/study",
        "postgresql://user:secret@127.0.0.1:1/study", "postgresql://user:secret@host:port/study", "grpc://127.0.0.1:1",
    ],
)  # fmt: skip
def test_a_storage_that_does_not_open_is_one_line(
    run: Run,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(study, "GRPC_SECONDS", 1)
    monkeypatch.setattr(sys.modules["flow.exploration.explore"], "yosys", lambda: "")
    status, out, err = run("explore", small(tmp_path), "-o", tmp_path / "out", "--storage", url)
    assert (status, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("bbs: error: the storage '") and last.endswith("; check --storage")
    assert "secret" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_postgresql_is_reached_by_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(optuna.storages, "RDBStorage", lambda url, engine_kwargs: asked.append((url, engine_kwargs)))
    study.open_storage("postgresql://user:secret@host/study?sslmode=require")
    assert asked == [("postgresql+psycopg://user:secret@host/study?sslmode=require", {})]
    assert study.without_password("postgresql://user:secret@host/study") == "postgresql://user:***@host/study"
    assert study.without_password("sqlite:///a:b@c.db") == "sqlite:///a:b@c.db"


@pytest.mark.full
def test_workers_that_start_together_share_a_new_file(tmp_path: Path) -> None:
    """Whoever finds the tables half made by another waits for them."""
    opening = "import sys; from flow.exploration.study import open_storage; open_storage(sys.argv[1]).get_all_studies()"
    command = [sys.executable, "-c", opening, f"sqlite:///{tmp_path / 'new.db'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    together = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate()[1] for process in together]
    assert [process.returncode for process in together] == [0, 0, 0], said


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[str]:
    """The URL of a PostgreSQL server of its own, where one is installed."""
    programs = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), Path(shutil.which("initdb") or "/none/x").parent]
    place = next((folder for folder in programs if (folder / "initdb").exists()), None)
    if place is None:
        pytest.skip("PostgreSQL is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        data, as_user = Path(folder) / "data", {}
        if os.getuid() == 0:  # which PostgreSQL refuses
            as_user = {"user": "nobody"}
            shutil.chown(folder, "nobody")
        quiet: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **as_user}
        subprocess.run([str(place / "initdb"), "-D", str(data), "-U", "someone", "-A", "trust"], check=True, **quiet)
        options = ("-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", folder)
        server = subprocess.Popen([str(place / "postgres"), *options], **quiet)
        ready = [str(place / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        until(lambda: subprocess.run(ready, check=False).returncode == 0)
        yield f"postgresql://someone@127.0.0.1:{port}/postgres"
        server.send_signal(signal.SIGINT)
        server.wait()


@pytest.mark.full
def test_a_study_in_postgresql(postgresql: str) -> None:
    found = search(Made(), study.open_storage(postgresql), 5)
    assert len(found) == 5
    assert search(Made(), study.open_storage(postgresql), 5) == found


PROXY = """
import sys, optuna
optuna.storages.run_grpc_proxy_server(optuna.storages.RDBStorage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Optuna's gRPC proxy before the SQLite file study.db: its URL, its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = f"sqlite:///{tmp_path / 'study.db'}"
    process = subprocess.Popen([sys.executable, "-c", PROXY, file, str(port)], stderr=subprocess.DEVNULL)
    yield f"grpc://127.0.0.1:{port}", process
    process.kill()
    process.wait()


@pytest.mark.full
def test_a_study_behind_a_proxy(proxy: tuple[str, subprocess.Popen[bytes]], tmp_path: Path) -> None:
    found = search(Made(), study.open_storage(proxy[0]), 5)
    assert len(found) == 5
    assert search(Made(), study.open_storage(f"sqlite:///{tmp_path / 'study.db'}"), 5) == found  # the file has it all


@pytest.mark.full
def test_a_lost_storage_is_said(
    proxy: tuple[str, subprocess.Popen[bytes]], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(self: Evaluator, design: Design) -> Measured:
        proxy[1].kill()
        proxy[1].wait()
        return Made().measure(design)

    monkeypatch.setattr(sys.modules["flow.exploration.explore"], "yosys", lambda: "")
    monkeypatch.setattr(Evaluator, "measure", measure)
    with pytest.raises(FlowError, match="the storage 'grpc://.*' was lost .*the same command goes on"):
        explore(model, tmp_path / "out", trials=3, storage=proxy[0])


# -------------------------------------------------------------------------------- the command
@pytest.mark.full
def test_designs_are_judged_by_the_metric_asked_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Squared errors, of which less is better; the page gives each design's command, with the metric and the weight."""
    monkeypatch.setattr(sys.modules["flow.exploration.explore"], "yosys", lambda: "")
    monkeypatch.setattr(Evaluator, "_area", lambda self, config: Estimate(10 * config.columns, 0, 0))
    file, net, x = tmp_path / "net.onnx", heads_net(), samples(heads_net(), 20, 2)
    file.write_bytes(net.SerializeToString())
    labels: dict[str, Any] = {"y_box": runtime.predict_all(net, x)["box"]}
    np.savez(tmp_path / "net_calibration.npz", allow_pickle=False, **samples(net, 16, 1))
    np.savez(tmp_path / "net_test.npz", allow_pickle=False, **x, **labels)
    asked = ("--metric", "mse", "--output-weight", "cls=0.5", "--bus", 32, "--latency", 7, "--bandwidth", 2)
    status, out, err = run("explore", file, "-o", tmp_path / "out", "--trials", 3, *asked, "--clock", 150)
    assert status == 0 and "mean squared error" in out and "inferences/s" in out, err
    report = json.loads((tmp_path / "out" / "explore.json").read_text())
    assert (report["metric"], report["clock"]) == ("mean squared error", 150.0)
    keys = ("accuracy", "cycles_bus", "transistors", "traffic")
    costs = {design["number"]: tuple(design[key] for key in keys) for design in report["designs"]}
    for design in report["designs"]:
        own = costs[design["number"]]
        beaten = any(all(a <= b for a, b in zip(o, own, strict=True)) and o != own for o in costs.values())
        assert design["best"] == (not beaten)
    page = (tmp_path / "out" / "explore.html").read_text()
    spelled = "--metric mse --output-weight cls=0.5 --bus 32 --latency 7 --bandwidth 2 --clock 150"
    assert page.count(f"bbs compile net.onnx {spelled} --array") >= 3
    usual = next(design for design in report["designs"] if design["compile"].endswith("--bits 5"))
    made = flow.compress(file, tmp_path / "five.onnx", array=(2, 2), bits=5, metric="mse", output_weight={"cls": 0.5})
    labelled = made.summary.accuracy.labelled
    assert labelled is not None and usual["accuracy"] == labelled.values["pruned"]


def test_what_cannot_be_explored_is_one_line(
    run: Run,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys.modules["flow.exploration.explore"], "yosys", lambda: "")
    model, used = small(tmp_path), tmp_path / "used"
    used.mkdir()
    (used / "thesis.tex").write_text("")
    for arguments, words in (
        (("-o", tmp_path / "out", "--trials", 0), "one design or more.*--trials"),
        (("-o", used), "in use and holds no exploration"),
        (("-o", model), "is a file"),
        (("-o", model / "below"), "cannot be written"),
    ):
        status, out, err = run("explore", model, *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1) and re.search(words, err), err
    status, _, err = run("explore", tmp_path / "absent.onnx", "-o", tmp_path / "out")
    assert status == 2 and "does not exist" in err
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "")
    status, _, err = run("explore", model, "-o", tmp_path / "out")
    assert status == 2 and "needs Yosys" in err
    assert {path.name for path in tmp_path.iterdir()} == {"small.onnx", "used"}


def test_without_labels_the_divergence_counts(
    run: Run,
    tmp_path: Path,
) -> None:
    require_tool("yosys")
    status, out, err = run("explore", small(tmp_path), "-o", tmp_path / "out", "--trials", 4, "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert out == (tmp_path / "out" / "explore.json").read_text()
    assert [design["accuracy"] for design in report["designs"]] == [None] * 4
    assert "--bits" not in out  # a budget needs calibration samples
    status, out, err = run("explore", tmp_path / "small.onnx", "-o", tmp_path / "out", "--trials", 4)
    assert status == 0, err
    assert f"{sum(design['best'] for design in report['designs'])} of 4 designs are on the Pareto front." in out
