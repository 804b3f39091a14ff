"""Processes on this machine."""

from __future__ import annotations

import os
import time
from concurrent.futures import BrokenExecutor
from threading import Thread
from typing import Any

from flow.errors import FlowError
from flow.hardware.interface import Memory
from flow.simulation.engines.base import Command, Result, Simulator
from flow.simulation.workers.job import DesignSources, Job, run


class Local:
    """Processes on this machine, started when the first job comes."""

    def __init__(self, count: int) -> None:
        import loky

        self.count = self.queue = count
        self._pool = loky.ProcessPoolExecutor(count, initializer=_end_with, initargs=(os.getpid(),))

    def simulator(self, design: DesignSources) -> Simulator:
        return _Local(self._pool, design)

    def close(self) -> None:
        self._pool.shutdown(wait=True, kill_workers=True)  # otherwise Python warns of leaked resources at exit


def _end_with(parent: int) -> None:
    """Makes this process end when its parent ends, in whatever way."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


class _Local:
    def __init__(self, pool: Any, design: DesignSources) -> None:
        self._pool, self._design = pool, design

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        try:
            result: Result = self._pool.submit(run, self._design, Job(memories, command, writes)).result()
        except BrokenExecutor:
            raise FlowError(
                "a simulation process was killed, perhaps for want of memory; run the command again with --resume, "
                "and fewer --processes"
            ) from None
        return result
