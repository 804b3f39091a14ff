"""Simulations in processes and on a Dask cluster: the same report as in one process, also when a worker is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from distributed import Client

import flow
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit
from flow.hardware.interface import Memory
from flow.simulation.engines import ENGINES
from flow.simulation.engines.base import Command, Result
from flow.simulation.workers import cluster
from flow.simulation.workers.job import DesignSources, Job, run
from flow.simulation.workers.kept import Kept, kept_runs
from flow.simulation.workers.local import _Local
from tests.helpers.layers import random_codes, random_layer, single
from tests.helpers.nets import small
from tests.helpers.tools import heed_signals, require_engine, until

ROOT = Path(__file__).parents[2]
SAMPLES, JOBS = 8, 32  # of the build, whose four layers are one piece each
COSIM = ["-c", "from flow.cli import main; main()", "cosim"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the module's own, for all processes it starts."""
    folder, before = tmp_path_factory.mktemp("cache"), os.environ.get("BBS_CACHE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BBS_CACHE", str(folder))
        patch.setenv("PYTHONPATH", str(ROOT))
        yield folder
    assert os.environ.get("BBS_CACHE") == before


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_engine("icarus")
    folder = tmp_path_factory.mktemp("build")
    flow.compile(small(folder), folder / "out", array=(2, 2), engine="icarus", coverage=0)
    return folder / "out"


@pytest.fixture(scope="module")
def serial(build: Path) -> dict[str, Any]:
    """The report of one process."""
    return flow.cosim(build, engine="icarus", samples=SAMPLES, processes=1).as_dict()


def kept(cache: Path) -> list[Path]:
    """The results of runs that have not ended."""
    return sorted((cache / "runs").glob("*/*.npz"))


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> tuple[DesignSources, Job, Result]:
    """A device, a job for it, and its result."""
    require_engine("icarus")
    config = ArrayConfig(2, 2)
    built = emit(config, tmp_path_factory.mktemp("hdl"))
    encoded, layer = random_layer(0, 20, 3, [0, 3, 3])
    work = single(encoded, layer, config, random_codes(0, layer))
    command = Command(0, len(work.scheduled.blocks), 5000)
    job = Job(work.memories, command, {"output": work.scheduled.output_words})
    result = ENGINES["icarus"].open(built).run(job.memories, job.command, job.writes)
    assert (result.memories["output"] == work.want).all()
    return DesignSources.of("icarus", config, built), job, result


def same(got: Result, want: Result) -> bool:
    return got.cycles == want.cycles and np.array_equal(got.memories["output"], want.memories["output"])


def test_a_design_runs_from_its_text_alone(design: tuple[DesignSources, Job, Result]) -> None:
    made, job, result = design
    assert same(run(made, job), result)


@pytest.mark.full
def test_processes_give_the_same_report(build: Path, serial: dict[str, Any], cache: Path) -> None:
    assert serial["summary"]["tier1_mismatches"] == 0 and serial["summary"]["rtl_share"] == 1
    assert flow.cosim(build, engine="icarus", samples=SAMPLES, processes=2).as_dict() == serial
    assert not kept(cache)  # a run that has ended keeps nothing


def test_a_killed_process_is_said(build: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was done before is kept."""

    def run(self: Any, *arguments: Any) -> Result:
        if len(kept(cache)) == 3:
            for process in list(self._pool._processes.values()):
                os.kill(process.pid, signal.SIGKILL)
        return actual(self, *arguments)

    actual = _Local.run
    monkeypatch.setattr(_Local, "run", run)
    with pytest.raises(FlowError, match="simulation process was killed.*--resume"):
        flow.cosim(build, engine="icarus", samples=SAMPLES, processes=1)
    assert len(kept(cache)) >= 3
    shutil.rmtree(cache / "runs")


@pytest.mark.full
def test_a_killed_command_goes_on(
    build: Path, serial: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--engine", "icarus", "--samples", str(SAMPLES), "--processes", "2"]
    command = subprocess.Popen([sys.executable, *COSIM, str(build), *options], stderr=subprocess.DEVNULL)
    until(lambda: len(kept(cache)) >= 5)
    children = psutil.Process(command.pid).children(recursive=True)
    command.send_signal(signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(children, timeout=20)
    assert children and not alive  # its processes end with it
    done = len(kept(cache))
    assert 5 <= done < JOBS
    kept(cache)[0].write_bytes(b"half a result")
    asked: list[Any] = []

    def run(self: Any, *arguments: Any) -> Result:
        asked.append(arguments)
        return actual(self, *arguments)

    actual = _Local.run
    monkeypatch.setattr(_Local, "run", run)
    assert flow.cosim(build, engine="icarus", samples=SAMPLES, resume=True).as_dict() == serial
    assert len(asked) == JOBS - done + 1
    assert not kept(cache)


@pytest.mark.full
def test_an_interrupted_command_says_how_it_goes_on(build: Path, cache: Path) -> None:
    options = ["--engine", "icarus", "--samples", str(SAMPLES), "--processes", "1"]
    command = subprocess.Popen(
        [sys.executable, *COSIM, str(build), *options], stderr=subprocess.PIPE, text=True,
        preexec_fn=heed_signals,
    )  # fmt: skip
    until(lambda: kept(cache))
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=60)
    assert command.returncode == 2
    assert said.splitlines()[-1].startswith("bbs: error: interrupted") and "--resume goes on" in said
    assert kept(cache)
    shutil.rmtree(cache / "runs")


class Counting:
    """A simulator that gives one result, and counts."""

    def __init__(self, result: Result) -> None:
        self.result, self.runs = result, 0

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        self.runs += 1
        return self.result


def test_a_result_is_kept_for_what_it_depends_on(design: tuple[DesignSources, Job, Result], tmp_path: Path) -> None:
    made, job, result = design
    counting = Counting(result)
    other = DesignSources(made.engine, ArrayConfig(2, 3), made.verilog, made.vhdl)
    changed = {name: memory.copy() for name, memory in job.memories.items()}
    changed["weight"][-1, -1] ^= 1
    cases = [
        (Kept(counting, made, "1.0", tmp_path), job.memories, job.command),
        (Kept(counting, made, "1.1", tmp_path), job.memories, job.command),
        (Kept(counting, other, "1.0", tmp_path), job.memories, job.command),
        (Kept(counting, made, "1.0", tmp_path), changed, job.command),
        (Kept(counting, made, "1.0", tmp_path), job.memories, replace(job.command, limit=job.command.limit + 1)),
    ]
    for number, (simulator, memories, command) in enumerate(cases, 1):
        for _ in range(2):
            assert same(simulator.run(memories, command, job.writes), result)
        assert counting.runs == len(list(tmp_path.iterdir())) == number


def test_runs_are_kept_until_they_end(cache: Path) -> None:
    with pytest.raises(KeyboardInterrupt), kept_runs("some request", False) as folder:
        folder.mkdir(parents=True)
        raise KeyboardInterrupt
    with kept_runs("another request", True) as other:
        assert other != folder
    with kept_runs("some request", True) as again:
        assert again == folder and folder.is_dir()
    assert not folder.exists()
    folder.mkdir()
    with kept_runs("some request", False):
        assert not folder.exists()


@pytest.mark.parametrize(
    ("scheduler", "processes", "words"),
    [
        (None, 0, "one process or more.*--processes"),
        (None, -3, "one process or more.*--processes"),
        ("tcp://127.0.0.1:1", 2, "--scheduler and --processes came together"),
        *((wrong, None, r"is tcp://HOST:PORT, but it is .*--scheduler") for wrong in (
            "", "here", "127.0.0.1:8786", "tcp://127.0.0.1", "http://127.0.0.1:80", "tcp://a b:1", "tcp://h:port",
        )),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for(
    build: Path, tmp_path: Path, scheduler: str | None, processes: int | None, words: str
) -> None:
    with pytest.raises(FlowError, match=words):
        flow.cosim(build, scheduler=scheduler, processes=processes)
    with pytest.raises(FlowError, match=words):  # before any work: the network is not even read
        flow.compile(tmp_path / "absent.onnx", tmp_path / "out", scheduler=scheduler, processes=processes)


@contextmanager
def started(module: str, *arguments: object, path: Path = ROOT) -> Iterator[subprocess.Popen[bytes]]:
    """A process of Dask's, and its children, ended at the end."""
    environment = {**os.environ, "PYTHONPATH": str(path), "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "60s"}
    command = [sys.executable, "-m", f"distributed.cli.{module}", *map(str, arguments)]
    process = subprocess.Popen(
        command, env=environment, cwd=path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler without workers."""
    file = tmp_path_factory.mktemp("scheduler") / "scheduler.json"
    options = ("--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--no-jupyter", "--scheduler-file", file)
    with started("dask_scheduler", *options):
        until(lambda: file.exists() and file.read_text().endswith("}"))
        yield json.loads(file.read_text())["address"]


def worker(scheduler: str, path: Path = ROOT) -> Any:
    """A worker of one thread, without a nanny that would start it again."""
    return started("dask_worker", scheduler, "--nthreads", 1, "--no-nanny", "--no-dashboard", path=path)


@pytest.mark.full
def test_a_cluster_gives_the_same_report_though_a_worker_is_killed(
    scheduler: str, build: Path, serial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker had jobs when it was killed; the other one does them."""
    killed: list[tuple[str, ...]] = []
    with worker(scheduler) as first, worker(scheduler), Client(scheduler, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        victim = next(address for address, pid in client.run(os.getpid).items() if pid == first.pid)

        def run(self: Any, *arguments: Any) -> Result:
            result = actual(self, *arguments)
            if not killed and (jobs := until(lambda: client.processing().get(victim))):
                killed.append(tuple(jobs))
                first.send_signal(signal.SIGKILL)
            return result

        actual = cluster._Remote.run
        monkeypatch.setattr(cluster._Remote, "run", run)
        assert flow.cosim(build, engine="icarus", samples=SAMPLES, scheduler=scheduler).as_dict() == serial
        assert killed and first.wait() == -signal.SIGKILL
        assert victim not in client.scheduler_info()["workers"]


@pytest.mark.full
def test_a_worker_with_another_version_is_refused(scheduler: str, build: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "flow", tmp_path / "flow", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "flow" / "network" / "reference.py").open("a") as source:
        source.write("\n# one line more\n")
    with worker(scheduler, tmp_path), pytest.raises(FlowError, match="has another bbs-flow than this machine"):
        flow.cosim(build, engine="icarus", samples=1, scheduler=scheduler)


@pytest.mark.full
def test_schedulers_that_cannot_help_are_said(scheduler: str, build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(FlowError, match="has no workers; start some with 'dask worker tcp://"):
        flow.cosim(build, engine="icarus", samples=1, scheduler=scheduler)
    with pytest.raises(FlowError, match="no Dask scheduler answers at 'tcp://127.0.0.1:9'"):
        flow.cosim(build, engine="icarus", samples=1, scheduler="tcp://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(FlowError, match=r"needs Dask.*bbs-flow\[cluster\]"):
        flow.cosim(build, engine="icarus", samples=1, scheduler=scheduler)
