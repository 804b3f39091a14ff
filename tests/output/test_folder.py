"""The output folder: complete or not there, whatever happens; resumed to the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

import flow
from flow.errors import FlowError
from flow.output.folder import check_output, output_folder
from tests.helpers.nets import residual_net, small
from tests.helpers.tools import require_engine

MOMENTS, PARTS = 50, 5


def build(folder: Path, **options: Any) -> flow.Report:
    return flow.compile(small(folder), folder / "out", array=(2, 2), engine="icarus", **{"samples": 1} | options)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_engine("icarus")
    folder = tmp_path_factory.mktemp("artefacts")
    assert build(folder).passed
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_resume_gives_the_report_of_a_whole_build(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(built)
    monkeypatch.setattr("flow.api.simulate.cosimulate", None)
    again = build(built, resume=True)
    assert again.as_dict() == json.loads((built / "out" / "report.json").read_text())
    assert files(built) == before


def test_resume_mends_a_build_to_the_same_bytes(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    (copy / "out" / "memory" / "weight.hex").write_text("0")
    (copy / "out" / "report.html").unlink()
    assert flow.verify(copy / "out")[1].any
    build(copy, resume=True)
    assert files(copy) == files(built)


def test_resume_removes_nothing_of_the_users(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    (copy / "out" / "mine.txt").write_text("kept")
    assert build(copy, resume=True).passed
    (copy / "out" / "report.html").unlink()
    with pytest.raises(FlowError, match=r"remove 'mine.txt', which is not of the build; move it away"):
        build(copy, resume=True)
    assert (copy / "out" / "mine.txt").read_text() == "kept"


def test_resume_refuses_another_request(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    before = files(copy)
    with pytest.raises(FlowError, match="differs in samples; choose another folder"):
        build(copy, resume=True, samples=2)
    with pytest.raises(FlowError, match="differs in pruning"):
        build(copy, resume=True, pruning=flow.pruning("conservative"))
    assert files(copy) == before
    other = residual_net()
    other.graph.initializer[0].raw_data = other.graph.initializer[0].raw_data[::-1]
    onnx.save(other, str(copy / "small.onnx"))
    with pytest.raises(FlowError, match="differs in model"):
        flow.compile(copy / "small.onnx", copy / "out", array=(2, 2), engine="icarus", samples=1, resume=True)


def test_what_a_killed_process_left_is_removed(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    with output_folder(copy / "new", force=False) as held:
        for name in (
            ".out-building-deadbeef",
            ".out-replaced-12345678",
            ".new-building-deadbeef",
            ".out-building-mine",
        ):
            (copy / name / "inside").mkdir(parents=True)
        os.utime(copy / ".out-replaced-12345678", (0, 0))
        (copy / ".out-lock").touch()
        (copy / "out").rename(copy / ".out-replaced-cafecafe")  # killed between the two renames of --force
        build(copy, resume=True)
        assert held.is_dir()
        left = {path.name for path in copy.iterdir()}
        others = {".new-building-deadbeef", ".new-lock", ".out-building-mine"}  # of a living run, and not ours
        assert left == {"small.onnx", "out", held.name} | others
        with pytest.raises(FlowError, match="another run is writing to .*new'; wait for it, or choose another"):
            check_output(copy / "new", force=False)
        assert held.is_dir()
    with output_folder(copy / "new", force=False):
        assert not (copy / ".new-building-deadbeef").exists()


@pytest.mark.parametrize("name", ["", "/", "..", "x/.."])
def test_an_output_without_a_name_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for resume in (False, True):
        with pytest.raises(FlowError, match="must have a name"):
            flow.compile(small(tmp_path), Path(name), engine="myhdl", resume=resume)


KILLED = """
import os, random, shutil, signal, sys, time
from pathlib import Path
import flow, flow.cli, flow.output.report.figures, onnxruntime

model, output, moments = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def start(resume):
    process = os.fork()
    if not process:
        try:
            flow.compile(model, output, array=(2, 2), engine="verilator", samples=1, resume=resume)
            os._exit(0)
        finally:
            os._exit(1)
    return process

def finish(process):
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0

finish(start(False))  # the simulators are in the cache after that
shutil.rmtree(output)
began = time.monotonic()
finish(start(False))
took = time.monotonic() - began
wanted = (output / "manifest.json").read_bytes()
generator, left = random.Random(int(sys.argv[4])), 0
for _ in range(moments):
    shutil.rmtree(output, ignore_errors=True)
    process = start(False)
    time.sleep(generator.uniform(0, 1.1 * took))
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    left += any(path.name.startswith(".") for path in output.parent.iterdir())
    if output.exists():
        assert not flow.verify(output)[1].any
    finish(start(True))
    assert (output / "manifest.json").read_bytes() == wanted
    assert not flow.verify(output)[1].any
    assert not [path for path in output.parent.iterdir() if path.name.startswith(".")]
print(moments, left)
"""


@pytest.mark.full
@pytest.mark.parametrize("seed", range(PARTS))
def test_killed_at_any_moment_it_resumes_to_the_same_bytes(tmp_path: Path, seed: int) -> None:
    """SIGKILL at 50 random moments of the run: no output, or a whole one; --resume completes it."""
    require_engine("verilator")
    model = small(tmp_path)
    command = [sys.executable, "-c", KILLED, str(model), str(tmp_path / "out"), str(MOMENTS // PARTS), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    moments, left = map(int, done.stdout.split()[-2:])
    assert moments * PARTS == MOMENTS
    assert left > 0  # some were killed while they wrote


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_ended_it_cleans_up(tmp_path: Path, sent: signal.Signals) -> None:
    model = small(tmp_path)
    command = [
        sys.executable,
        "-c",
        "from flow.cli import main; main()",
        "compile",
        str(model),
        "-o",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(flow.__file__).parents[1])}
    started = subprocess.Popen(
        [*command, "--engine", "myhdl", "--array", "8x8"], stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )  # fmt: skip
    while not list(tmp_path.glob(".out-*")):
        assert started.poll() is None
        time.sleep(0.01)
    started.send_signal(sent)
    _, printed = started.communicate(timeout=60)
    assert started.returncode == 2
    last = "bbs: error: interrupted; nothing was written, but what was simulated is kept: --resume goes on"
    assert printed.splitlines()[-1] == last
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]
