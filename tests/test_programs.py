"""Other programs: what they print, or one line that says why not; none outlives the wait for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from flow.errors import FlowError
from flow.programs import Threads, first_answer, in_parallel, in_turns, last_words, limit, pause, run, together
from tests.helpers.tools import fake, until


def shell(script: str, seconds: float = 20) -> str:
    return run(["/bin/sh", "-c", script], "on it", seconds=seconds)


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == "zombie")
    except psutil.NoSuchProcess:
        return True


@contextmanager
def leaving(folder: Path) -> Iterator[str]:
    """A script that starts another process and waits for it; afterwards neither is there."""
    file = folder / "pids"
    yield f"sleep 60 & echo $$ $! > {file}.part; mv {file}.part {file}; wait"
    for pid in file.read_text().split():
        until(partial(gone, int(pid)), 5)


def test_what_it_prints() -> None:
    assert shell("echo one; echo two >&2; printf three") == "one\nthree"
    assert shell("head -c 3000000 /dev/zero | tr '\\0' x").count("x") == 3_000_000  # more than a pipe holds
    assert shell("cat; echo end") == "end\n"  # nothing to read
    assert shell("printf '\\377'") == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'a.v:3: error: not so' >&2; echo 'one error' >&2; exit 3", "(status 3): a.v:3: error: not so"),
        ("echo one; echo two; exit 1", "(status 1): two"),
        ("exit 2", "(status 2): it printed nothing"),
        ("kill -SEGV $$", "(killed by SIGSEGV): it printed nothing"),
        ("kill -40 $$", "(killed by signal 40)"),
        ("yes", "(it printed more than 64 MiB): y"),
    ],
)  # fmt: skip
def test_a_failure_is_one_line(script: str, words: str) -> None:
    with pytest.raises(FlowError) as failed:
        shell(script)
    assert str(failed.value).startswith(f"sh on it failed {words}") and "\n" not in str(failed.value)
    assert "; 'bbs doctor' shows its version" in str(failed.value)


def test_what_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="nowhere on it cannot be started: No such file or directory"):
        run([str(tmp_path / "nowhere")], "on it")
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    with pytest.raises(FlowError, match="text cannot be started: Exec format error"):
        run([str(tmp_path / "text")])


def test_a_hanging_program_ends_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = time.monotonic()
    with leaving(tmp_path) as script, pytest.raises(FlowError, match="not done after 0.5 s, the limit; BBS_SECONDS"):
        shell(script, 0.5)
    with pytest.raises(FlowError, match="not done after 0.5 s"):  # without anything to read from it
        shell("exec >&- 2>&-; sleep 60", 0.5)
    assert time.monotonic() - begin < 10
    monkeypatch.setenv("BBS_SECONDS", "7.5")
    assert limit() == 7.5
    for wrong in ("0", "-1", "soon", "nan", "1e300"):
        monkeypatch.setenv("BBS_SECONDS", wrong)
        with pytest.raises(FlowError, match=f"BBS_SECONDS is .* but it is '{wrong}'"):
            limit()


def test_children_that_stay_end_too(tmp_path: Path) -> None:
    """They would keep the pipes open."""
    file = tmp_path / "pid"
    begin = time.monotonic()
    assert shell(f"sleep 60 & echo $! > {file}; echo done") == "done\n"
    assert time.monotonic() - begin < 10
    until(partial(gone, int(file.read_text())), 5)


def test_an_interruption_ends_it(tmp_path: Path) -> None:
    """Whether the program runs in the thread that is interrupted, or in others."""

    def interrupt() -> None:
        until(lambda: (tmp_path / "pids").exists())
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the processes of pytest-xdist ignore it
    try:
        for how in (shell, lambda script: in_parallel(shell, [script, "sleep 60"], 2)):
            with leaving(tmp_path) as script, pytest.raises(KeyboardInterrupt):
                threading.Thread(target=interrupt).start()
                how(script)
            (tmp_path / "pids").unlink()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_killed_process_leaves_no_program(tmp_path: Path) -> None:
    """SIGKILL, which nobody can handle: neither the program runs on, nor its children, nor what guards them."""
    with leaving(tmp_path) as script:
        code = f"from flow.programs import run; run(['/bin/sh', '-c', {script!r}])"
        process = subprocess.Popen([sys.executable, "-c", code])
        until(lambda: (tmp_path / "pids").exists())
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
    for child in children:
        until(partial(gone, child.pid), 5)


def test_a_failure_ends_those_beside_it(tmp_path: Path) -> None:
    """Also those of threads that threads have started, and threads that wait; those of others go on."""
    begin = time.monotonic()
    waited: list[str] = []

    def work(script: str) -> str:
        if script == "wait":
            try:
                while True:
                    pause(0.01)
            except FlowError as error:
                waited.append(str(error))
                raise
        return next(inner.map(shell, [script]))

    with leaving(tmp_path) as script, Threads(4) as inner, Threads(4) as outer:
        other = outer.submit(shell, "sleep 1; echo whole")
        with pytest.raises(FlowError, match="status 7"), together(outer, inner):
            scripts = [f"until test -f {tmp_path}/pids; do :; done; exit 7", script, "wait"]
            list(outer.map(work, scripts))
        assert other.result() == "whole\n"
    assert "another part of the same work failed" in waited[0] and time.monotonic() - begin < 20


def test_temporary_files_of_a_program(tmp_path: Path) -> None:
    assert run(["/bin/sh", "-c", "echo $TMPDIR; pwd"], temporary=tmp_path, folder=tmp_path.parent).splitlines() == [
        str(tmp_path), str(tmp_path.parent),
    ]  # fmt: skip


def test_versions(tmp_path: Path) -> None:
    assert first_answer([str(fake(tmp_path, "tool", "")), "-V"]) == "Fake 1.0"
    with pytest.raises(FlowError, match="mute -V prints no version; check what is installed"):
        first_answer([str(fake(tmp_path, "mute", "", version="")), "-V"])


def test_last_words() -> None:
    assert last_words("", "a\n\n b  c \n") == "b c" and last_words(" \n") == "it printed nothing"
    assert last_words("x: fatal: y\nin the end\n") == "x: fatal: y"
    assert len(last_words("x" * 5000)) == 400


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_in_turns_are_in_order_and_few(threads: int) -> None:
    begun, taken = list[int](), list[int]()

    def square(number: int) -> int:
        begun.append(number)
        return number**2

    for result in in_turns(square, range(8), threads):
        taken.append(result)
        assert len(begun) - len(taken) < threads
    assert taken == [number**2 for number in range(8)]
