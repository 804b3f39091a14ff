"""The workers of a Dask cluster."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from flow.errors import FlowError, first_line
from flow.files import fingerprint
from flow.hardware.interface import Memory
from flow.programs import pause
from flow.simulation.engines.base import Command, Result, Simulator
from flow.simulation.workers.job import DesignSources, Job, run

if TYPE_CHECKING:
    from distributed import Client


CONNECT_SECONDS = 20  # timeout to reach a scheduler, and again to wait for its first worker
QUEUE = 4  # jobs under way for each thread of a cluster


class Cluster:
    """The workers of a Dask scheduler, which may come and go: the jobs of a lost worker run on another."""

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise FlowError("--scheduler needs Dask, which is not installed; pip install 'bbs-flow[cluster]'") from None
        try:
            self._client: Client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise FlowError(
                f"no Dask scheduler answers at '{address}' ({first_line(error)}); start one with 'dask scheduler' and "
                "give its address as tcp://HOST:PORT"
            ) from None
        try:
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            self._check()
        except TimeoutError:
            self.close()
            raise FlowError(
                f"the Dask scheduler '{address}' has no workers; start some with 'dask worker {address}'"
            ) from None
        except BaseException:
            self.close()
            raise

    @property
    def count(self) -> int:
        threads = sum(worker["nthreads"] for worker in self._client.scheduler_info(n_workers=-1)["workers"].values())
        return max(1, int(threads))

    @property
    def queue(self) -> int:
        return QUEUE * self.count

    def _check(self) -> None:
        """FlowError unless every worker has the very same version of this package, byte for byte."""
        try:
            fingerprints = self._client.run(fingerprint)
        except Exception as error:  # any exception of the import on a worker
            raise FlowError(f"the Dask workers cannot load bbs-flow ({first_line(error)}); install it there") from None
        for worker, theirs in fingerprints.items():
            if theirs != fingerprint():
                raise FlowError(f"the Dask worker '{worker}' has another bbs-flow than this machine; "
                                "install the same there")  # fmt: skip

    def simulator(self, design: DesignSources) -> Simulator:
        return _Remote(self._client, design)

    def close(self) -> None:
        with suppress(Exception):  # a scheduler that is gone
            self._client.close(timeout=5)


class _Remote:
    """Runs jobs on the cluster. Every job carries its design, because data stored on a worker is lost with it."""

    def __init__(self, client: Client, design: DesignSources) -> None:
        self._client, self._design = client, design

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        from distributed import CancelledError, KilledWorker

        job = Job(memories, command, writes)
        try:
            future = self._client.submit(run, self._design, job, pure=False)
            while not future.done():
                pause(0.05)
            result: Result = future.result()
        except KilledWorker as error:
            raise FlowError(f"a job was lost with several workers, one after the other ({first_line(error)}); "
                            "give them more memory, then --resume") from None  # fmt: skip
        except (CancelledError, OSError) as error:
            raise FlowError(f"the Dask scheduler was lost ({first_line(error)}); "
                            "start it again, then --resume") from None  # fmt: skip
        return result
