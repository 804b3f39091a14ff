"""Other programs: compilers, simulators and synthesis tools, run with a time limit and ended with their children.

Every program runs in a process group of its own. Whatever ends the wait for it (its time limit, a signal, an error in
another thread) ends the whole group. A guard beside it ends the group if this process is killed.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import ParamSpec, TypeVar

from flow.errors import MAX_QUOTED, FlowError

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
SECONDS = 7200.0  # that a program may take; BBS_SECONDS sets another limit
ANSWER_SECONDS = 20.0  # that a program may take to print its version
MOST = 2**26  # bytes that a program may print
LOOKED = 2**15  # characters at the beginning and at the end of it in which an error is looked for
GUARD = 'read -r line; kill -9 "-$1"'
WORDS = re.compile(r"\berror\b|\bfatal\b", re.I)


class _Group:
    """The programs that one call started, directly or from threads that it started."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[bytes]] = set()
        self.stopped = False
        self._lock = threading.RLock()  # a signal's handler may stop the group

    def add(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self.running.add(process)
        if self.stopped:
            _end(process)

    def remove(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self.running.discard(process)

    def stop(self) -> None:
        self.stopped = True
        with self._lock:
            for process in self.running:
                _end(process)


_ALL = _Group()
_groups: ContextVar[tuple[_Group, ...]] = ContextVar("groups", default=(_ALL,))


def stop_all() -> None:
    """End all programs that this process has started; it starts no more. For a process that is about to end."""
    _ALL.stop()


def pause(seconds: float) -> None:
    """Wait. FlowError when the call that this thread works for has failed or was interrupted."""
    _go_on()
    time.sleep(seconds)


def _go_on() -> None:
    if any(group.stopped for group in _groups.get()):
        raise FlowError("stopped, because another part of the same work failed or was interrupted; see its message")


class Threads(ThreadPoolExecutor):
    """Threads whose jobs belong to what submits them; see `together`."""

    def submit(self, function: Callable[P, R], /, *arguments: P.args, **options: P.kwargs) -> Future[R]:
        context = copy_context()
        return super().submit(lambda: context.run(function, *arguments, **options))


@contextmanager
def together(*pools: Executor) -> Iterator[None]:
    """Jobs submitted to `Threads` inside, and by these jobs, belong together.

    If one fails, or the caller is interrupted, the programs that the others run are ended, `pause` fails in them, and
    those of the `pools` that have not begun are cancelled.
    """
    group = _Group()
    token = _groups.set((*_groups.get(), group))
    try:
        yield
    except BaseException:
        group.stop()
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        _groups.reset(token)


def in_parallel(function: Callable[[T], R], items: Iterable[T], threads: int | None = None) -> list[R]:
    """The function's results, computed `together` in threads, by default one for each processor."""
    items, threads = list(items), threads or os.cpu_count() or 1
    if min(threads, len(items)) < 2:
        return [function(item) for item in items]
    with Threads(threads) as pool, together(pool):
        return list(pool.map(function, items))


def in_turns(function: Callable[[T], R], items: Iterable[T], threads: int | None = None) -> Iterator[R]:
    """The results of `in_parallel` in order, of which no more are kept than there are threads."""
    items, threads = list(items), threads or os.cpu_count() or 1
    for begin in range(0, len(items), threads):
        yield from in_parallel(function, items[begin : begin + threads], threads)


def limit() -> float:
    """The seconds that a program may take. FlowError if BBS_SECONDS is no such number."""
    given = os.environ.get("BBS_SECONDS", "")
    try:
        seconds = float(given or SECONDS)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise FlowError(f"BBS_SECONDS is how many seconds a program may take, but it is '{given}'; "
                        "set a positive number, or unset it")  # fmt: skip
    return seconds


def run(
    command: Sequence[str],
    task: str = "",
    *,
    folder: Path | None = None,
    temporary: Path | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> str:
    """What the program prints to stdout. It runs in `folder`, and writes its temporary files to `temporary`.

    `task` says for messages what it does ("on bbs_4x4"). It is ended after `seconds`, by default `limit()`. FlowError,
    one line with the program's own last words, if it cannot be started, fails, is killed, or does not end.
    """
    what = f"{Path(command[0]).name} {task}".strip()
    seconds = limit() if seconds is None else seconds
    surroundings = dict(os.environ if environment is None else environment)
    if temporary is not None:
        surroundings |= dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(temporary.resolve()))
    _go_on()
    try:
        process = subprocess.Popen(
            command, cwd=folder, env=surroundings, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise FlowError(f"{what} cannot be started: {error.strerror}; 'bbs doctor' shows what is installed") from None
    groups = _groups.get()
    try:
        for group in groups:
            group.add(process)
        with _guarded(process):
            printed, said, why = _read(process, seconds)
    finally:
        for group in groups:
            group.remove(process)
        _end(process)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe
            pipe.close()
    _go_on()
    if why or process.returncode:
        how = why or _ending(process.returncode)
        raise FlowError(f"{what} failed ({how}): {last_words(said, printed)}; 'bbs doctor' shows its version")
    return printed


def first_answer(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """The first line that a program prints when it is asked for its version. FlowError as `run`, or if it is blank."""
    lines = run(command, "when asked for its version", environment=environment, seconds=ANSWER_SECONDS).splitlines()
    if not lines or not lines[0].strip():
        raise FlowError(f"{' '.join(command)} prints no version; check what is installed under that name")
    return lines[0].strip()


def _read(process: subprocess.Popen[bytes], seconds: float) -> tuple[str, str, str]:
    """What it prints to stdout and to stderr, and, if it has to be ended, why. Its children end with it."""
    assert process.stdout and process.stderr
    begin, size, why = time.monotonic(), 0, ""
    parts: dict[object, list[bytes]] = {process.stdout: [], process.stderr: []}
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            selector.register(pipe, selectors.EVENT_READ)
        while not why and (selector.get_map() or not _has_ended(process)):
            for key, _ in selector.select(0.2) if selector.get_map() else ():
                data = os.read(key.fd, 2**16)
                parts[key.fileobj].append(data)
                size += len(data)
                if not data:
                    selector.unregister(key.fileobj)
            if _has_ended(process):
                _end(process)  # children that outlive it would keep the pipes open
            elif time.monotonic() - begin > seconds:
                why = f"not done after {seconds:g} s, the limit; BBS_SECONDS sets another"
            elif not selector.get_map():
                time.sleep(0.01)
            if size > MOST:
                why = f"it printed more than {MOST >> 20} MiB"
    out, err = (b"".join(part).decode(errors="replace") for part in parts.values())
    return out, err, why


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended. It is not waited for: its number, and that of its group, must not go to another yet."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


@contextmanager
def _guarded(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Meanwhile, a shell that ends the program's group when the other end of its input closes: SIGKILL closes it, too.

    The guard ends before the program is waited for: the number of the group is not another's yet.
    """
    command = ["/bin/sh", "-c", GUARD, "sh", str(process.pid)]
    quiet = subprocess.DEVNULL
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield
    finally:
        guard.kill()
        guard.wait()
        assert guard.stdin
        guard.stdin.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that was not waited for yet, and all that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _ending(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def last_words(*texts: str) -> str:
    """Of the first of these texts that is not blank, the first line that names an error, else the last line."""
    for text in texts:
        text = text if len(text) <= 2 * LOOKED else f"{text[:LOOKED]}\n{text[-LOOKED:]}"
        lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
        if lines:
            words = next(filter(WORDS.search, lines), lines[-1])
            return words if len(words) <= MAX_QUOTED else f"{words[: MAX_QUOTED - 1]}…"
    return "it printed nothing"
