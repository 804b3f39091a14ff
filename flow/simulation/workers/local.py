"""Processes on this machine."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from concurrent.futures import BrokenExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

from flow.errors import FlowError
from flow.files import scratch
from flow.hardware.interface import Memory
from flow.programs import pause, stop_all
from flow.simulation.engines.base import Command, Result, Simulator
from flow.simulation.workers.job import DesignSources, Job, run

WAIT = 0.5  # seconds between two looks whether a job is still wanted


class Local:
    """Processes on this machine, started when the first job comes."""

    def __init__(self, count: int) -> None:
        import loky

        self.count = self.queue = count
        self._open = ExitStack()
        folder = self._open.enter_context(scratch())  # the processes are killed at the end, and leave their files
        self._pool = loky.ProcessPoolExecutor(count, initializer=_begin, initargs=(os.getpid(), folder))

    def simulator(self, design: DesignSources) -> Simulator:
        return _Local(self._pool, design)

    def close(self) -> None:
        with self._open:
            self._pool.shutdown(wait=True, kill_workers=True)  # otherwise Python warns of leaked resources at exit


def _begin(parent: int, folder: Path) -> None:
    """Makes this process end when its parent ends, in whatever way, and put its temporary files into `folder`.

    Its programs end with it. Ctrl-C goes to the parent, too, which then ends it.
    """
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)

    def end(*_: object) -> None:
        stop_all()
        os._exit(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        end()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, end)
    Thread(target=watch, daemon=True).start()


class _Local:
    def __init__(self, pool: Any, design: DesignSources) -> None:
        self._pool, self._design = pool, design

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        try:
            future = self._pool.submit(run, self._design, Job(memories, command, writes))
            while not wait([future], WAIT).done:
                pause(0)  # the job is ended with its process
            result: Result = future.result()
        except BrokenExecutor:
            raise FlowError(
                "a simulation process was killed, perhaps for want of memory; run the command again with --resume, "
                "and fewer --processes"
            ) from None
        return result
