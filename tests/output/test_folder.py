"""The output folder: complete or not there, whatever happens; resumed to the same bytes."""

from __future__ import annotations

import errno
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
import psutil
import pytest

import flow
from flow.errors import FlowError
from flow.output.folder import check_output, output_folder, write_output
from tests.helpers.nets import residual_net, small
from tests.helpers.tools import fake, heed_signals, require_engine, until

MOMENTS, PARTS = 30, 3
ONNX_RUNTIMES = ".ses"  # it writes this file when it is imported


def build(folder: Path, **options: Any) -> flow.Report:
    few: dict[str, Any] = {"engine": "icarus", "samples": 1, "processes": 1}
    return flow.compile(small(folder), folder / "out", array=(2, 2), **few | options)


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
            flow.compile(model, output, resume=resume, **options)
            os._exit(0)
        finally:
            os._exit(1)
    return process

def finish(process):
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0

options = dict(array=(2, 2), engine="verilator", samples=1, processes=1)
flow.compile(model, output.with_name("before"), **options)  # what a process keeps, those that are forked have
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


@pytest.fixture(scope="module")
def simulators(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Those of the small network, compiled by Verilator, are in the cache."""
    require_engine("verilator")
    assert build(tmp_path_factory.mktemp("simulators"), engine="verilator").passed


@pytest.mark.full
@pytest.mark.usefixtures("simulators")
@pytest.mark.parametrize("seed", range(PARTS))
def test_killed_at_any_moment_it_resumes_to_the_same_bytes(tmp_path: Path, seed: int) -> None:
    """SIGKILL at 30 random moments of the run: no output, or a whole one; --resume completes it."""
    model = small(tmp_path)
    command = [sys.executable, "-c", KILLED, str(model), str(tmp_path / "out"), str(MOMENTS // PARTS), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    moments, left = map(int, done.stdout.split()[-2:])
    assert moments * PARTS == MOMENTS
    assert left > 0  # some were killed while they wrote


def temporary_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "temporary").iterdir() if path.name != ONNX_RUNTIMES]


@pytest.mark.parametrize(
    ("sent", "at", "engine"),
    [
        (signal.SIGTERM, "staging", "myhdl"),
        (signal.SIGINT, "staging", "myhdl"),
        (signal.SIGHUP, "simulating", "icarus"),
        (signal.SIGTERM, "compiling", "verilator"),
    ],
)
def test_ended_it_cleans_up(built: Path, tmp_path: Path, sent: signal.Signals, at: str, engine: str) -> None:
    """Nothing is left beside the output, in TMPDIR and of the programs that ran; twice the signal changes nothing."""
    require_engine(engine)
    model = small(tmp_path)
    hanging = f"echo $$ > {tmp_path}/pid; touch $TMPDIR/of-the-tool; sleep 60 & wait"
    for name in ("vvp", "cxx"):
        fake(tmp_path / "tools", name, hanging)
    (tmp_path / "temporary").mkdir()
    command = ["compile", str(model), "-o", str(tmp_path / "out"), "--engine", engine, "--array", "2x2"]
    if at != "staging":
        command = ["cosim", str(built / "out"), "--engine", engine]
    started = subprocess.Popen(
        [sys.executable, "-c", "from flow.cli import main; main()", *command], stderr=subprocess.PIPE, text=True,
        env={
            **os.environ, "PYTHONPATH": str(Path(flow.__file__).parents[1]), "TMPDIR": str(tmp_path / "temporary"),
            "PATH": f"{tmp_path / 'tools'}{os.pathsep}{os.environ['PATH']}", "CXX": "cxx",
            "BBS_CACHE": str(tmp_path / "cache"),
        },
        preexec_fn=heed_signals,
    )  # fmt: skip
    until(lambda: list(tmp_path.glob(".out-building-*" if at == "staging" else "pid")))
    assert temporary_files(tmp_path) or at != "simulating"
    started.send_signal(sent)
    time.sleep(0.05)
    started.send_signal(sent)
    _, printed = started.communicate(timeout=90)
    assert started.returncode == 2
    last = "bbs: error: interrupted; nothing was written, but what was simulated is kept: --resume goes on"
    assert printed.splitlines()[-1] == last
    left = {path.name for path in tmp_path.iterdir()} - {"pid", "cache"}
    assert left == {"small.onnx", "tools", "temporary"}
    assert not temporary_files(tmp_path)
    assert not [path for path in tmp_path.glob("cache/*") if path.name.startswith((".", "build-", "verilator-"))]
    if at != "staging":
        pid = int((tmp_path / "pid").read_text())
        until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", 5)


# ----------------------------------------------------------- what is not ours
def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda out: (out / "mine.txt").write_text("x"), "also holds 'mine.txt', which is not of the build; move it"),
        (lambda out: (out / "verilog" / "a.v").symlink_to("/"), "also holds 'verilog/a.v', which"),
        (lambda out: (out / "later").mkdir(), "also holds 'later/', which"),
        (lambda out: [(out / name).touch() for name in "abc"], "also holds 'a' and 2 more, which"),
        (lambda out: (out / "manifest.json").write_text("{}"), "manifest.json' is not that of a build; choose another"),
        (lambda out: (out / "manifest.json").write_text("no json"), "is not that of a build"),
        (lambda out: (out / "manifest.json").write_text('{"name": "app", "version": 3}'), "is not that of a build"),
        (
            lambda out: (out / "manifest.json").write_text('{"format": 99, "request": 0, "sha256": {"a": "0"}}'),
            "is not",
        ),
        (lambda out: (out / "manifest.json").unlink(), "has no manifest.json; choose another folder, or delete it"),
    ],
)
def test_force_replaces_a_build_only(built: Path, tmp_path: Path, make: Any, words: str) -> None:
    out = Path(shutil.copytree(built / "out", tmp_path / "out"))
    make(out)
    before = snapshot(out)
    with pytest.raises(FlowError, match=words):
        check_output(out, force=True)
    with pytest.raises(FlowError, match=words), output_folder(out, force=True):
        pass
    assert snapshot(out) == before and [*tmp_path.iterdir()] == [out]


def test_force_replaces_a_build_that_was_changed_and_run(built: Path, tmp_path: Path) -> None:
    """Also one of an earlier format; simulators leave their files in it."""
    out = Path(shutil.copytree(built / "out", tmp_path / "out"))
    (out / "report.html").write_text("edited")
    (out / "testbench" / "run").mkdir()
    (out / "testbench" / "run" / "a.out").touch()
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "format": 1}))
    with output_folder(out, force=True) as folder:
        (folder / "new").touch()
    assert [*snapshot(out)] == ["new"] and [*tmp_path.iterdir()] == [out]


@pytest.mark.parametrize("force", [False, True])
def test_what_appears_meanwhile_stays(built: Path, tmp_path: Path, force: bool) -> None:
    """A folder, a file, a file in the earlier build: the finished build is under another name."""
    out = tmp_path / "out"

    def folder() -> None:
        out.mkdir()
        (out / "thesis.tex").write_text("mine")

    def within() -> None:
        shutil.copytree(built / "out", out, dirs_exist_ok=True)
        (out / "thesis.tex").write_text("mine")

    for make in (folder, lambda: out.write_text("mine"), within):
        with pytest.raises(FlowError, match=r"finished build is in '.*out-[0-9a-f]{8}', for its place is taken: "):  # noqa: SIM117
            with output_folder(out, force) as staging:
                (staging / "made").write_text("made")
                make()
        assert (out if out.is_file() else out / "thesis.tex").read_text() == "mine"
        (other,) = (path for path in tmp_path.iterdir() if path != out)
        assert snapshot(other) == {"made": b"made"}
        shutil.rmtree(other)
        out.unlink() if out.is_file() else shutil.rmtree(out)


def test_a_file_that_appears_between_check_and_move_stays(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(built / "out", tmp_path / "out"))

    def rename(self: Path, target: Path) -> Path:
        if self == out:
            (out / "late.txt").write_text("mine")
        return actual(self, target)

    actual = Path.rename
    with pytest.raises(FlowError, match="finished build is in .*also holds 'late.txt'"), output_folder(out, True):
        monkeypatch.setattr(Path, "rename", rename)
    assert (out / "late.txt").read_text() == "mine" and (out / "report.json").exists()
    assert len([*tmp_path.iterdir()]) == 2


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with output_folder(tmp_path / "out", False) as folder:
        (folder / "made").touch()
    assert [*snapshot(tmp_path)] == ["out", "out/made"]


HELD = """
import sys
from pathlib import Path
from flow.errors import FlowError
from flow.output.folder import output_folder
try:
    with output_folder(Path(sys.argv[1]), True) as folder:
        (folder / "made").touch()
        print("in", flush=True)
        input()
except FlowError as error:
    print(error)
"""


def test_of_two_processes_one_is_refused(built: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(built / "out", tmp_path / "out"))
    environment = {**os.environ, "PYTHONPATH": str(Path(flow.__file__).parents[1])}
    command = [sys.executable, "-c", HELD, str(out)]
    first, second = (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    )
    assert first.stdout and second.stdout
    said = sorted([first.stdout.readline(), second.stdout.readline()])
    assert said[0].startswith("another run is writing to ") and said[1] == "in\n"
    first.communicate("\n")
    second.communicate("\n")
    assert [*snapshot(out)] == ["made"] and [*tmp_path.iterdir()] == [out]


def test_it_is_made_to_last_before_it_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    with output_folder(tmp_path / "out", False) as folder:
        (folder / "made").touch()
    assert synced == [str(folder / "made"), str(folder), str(tmp_path)]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BBS_CACHE", str(tmp_path / "cache"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage._replace(free=1 if place == tmp_path else 2))
    with pytest.raises(OSError, match="No space left on device: '.*/out'"), output_folder(tmp_path / "out", False):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not [*tmp_path.iterdir()]


def test_a_network_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("mine")
    with pytest.raises(FlowError, match=r"net.onnx' appeared while .*; the network is in '.*net-[0-9a-f]{8}.onnx'"):
        write_output(tmp_path / "net.onnx", residual_net(), force=False)
    other, mine = sorted(tmp_path.iterdir())
    assert mine.read_text() == "mine" and onnx.load(str(other)).graph.node
    write_output(mine, residual_net(), force=True)
    assert mine.read_bytes() == other.read_bytes()
