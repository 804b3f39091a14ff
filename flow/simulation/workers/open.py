"""Where simulations run: processes on this machine, or the workers of a Dask cluster. Results are the same."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from flow.errors import FlowError
from flow.simulation.workers.cluster import Cluster
from flow.simulation.workers.job import Workers
from flow.simulation.workers.local import Local


def check(scheduler: str | None, processes: int | None) -> None:
    """FlowError, before any work, when `workers` cannot be called with these arguments."""
    if processes is not None and processes < 1:
        raise FlowError(f"there must be one process or more to simulate in, but there are {processes}; "
                        "change --processes")  # fmt: skip
    if scheduler is not None and processes is not None:
        raise FlowError("--scheduler and --processes came together: a cluster has its own workers; give one of them")
    if scheduler is not None and not re.fullmatch(r"(?:tcp|tls)://(?:[\w.-]+|\[[\da-fA-F:.]+\]):\d{1,5}", scheduler):
        raise FlowError(f"the address of a Dask scheduler is tcp://HOST:PORT, but it is '{scheduler}'; "
                        "change --scheduler")  # fmt: skip


@contextmanager
def workers(scheduler: str | None, processes: int | None) -> Iterator[Workers]:
    """The cluster at this address, or `processes` on this machine, by default one for each processor."""
    check(scheduler, processes)
    pool = Cluster(scheduler) if scheduler is not None else Local(processes or os.cpu_count() or 1)
    try:
        yield pool
    finally:
        pool.close()
