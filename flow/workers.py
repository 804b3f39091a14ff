"""Where simulations run: processes on this machine, or the workers of a Dask cluster. Results are the same.

A simulator of workers is used like any other (`flow.engines.base.Simulator`): `run` sends one job and waits for its
result, so whoever wants many at a time calls it from many threads.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flow.engines import ENGINES
from flow.engines.base import Device, Memory, Result, Simulator, cache_folder
from flow.errors import FlowError, first_line
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import device

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 20  # to reach a scheduler, and for it to have a worker
QUEUE = 4  # jobs under way for each thread of a cluster


@dataclass(frozen=True)
class Design:
    """All that another process needs to simulate a device: the engine's name, the array, the HDL by file name."""

    engine: str
    config: ArrayConfig
    verilog: tuple[tuple[str, str], ...]
    vhdl: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, engine: str, config: ArrayConfig, built: Device) -> Design:
        texts = [tuple((path.name, path.read_text()) for path in files) for files in (built.files, built.vhdl_files)]
        return cls(engine, config, *texts)


@dataclass(frozen=True)
class Job:
    """The arguments of one run; see `flow.engines.base.Simulator`."""

    memories: dict[str, Memory]
    first: int
    count: int
    writes: dict[str, int]
    limit: int


class Workers(Protocol):
    """Whoever runs the jobs: `count` at a time. `queue` are to be under way, more where workers may yet join."""

    @property
    def count(self) -> int: ...

    @property
    def queue(self) -> int: ...

    def simulator(self, design: Design) -> Simulator:
        """The design, ready to run on the workers."""
        ...


def run(design: Design, job: Job) -> Result:
    """One job, in the process that calls."""
    return _opened(design).run(job.memories, job.first, job.count, job.writes, job.limit)


@lru_cache(maxsize=4)
def _opened(design: Design) -> Simulator:
    """The design's simulator in this process."""
    folder = _unpacked(design)
    paths = [
        [folder / kind / name for name, _ in files]
        for kind, files in (("verilog", design.verilog), ("vhdl", design.vhdl))
    ]
    return ENGINES[design.engine].open(device(design.config, *paths))


def _unpacked(design: Design) -> Path:
    """The folder of the design's files, in the cache."""
    folder = cache_folder(None) / f"design-{hashlib.sha256(repr(design).encode()).hexdigest()[:24]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="design-", dir=folder.parent) as temporary:
            made = Path(temporary) / "made"
            for kind, files in (("verilog", design.verilog), ("vhdl", design.vhdl)):
                (made / kind).mkdir(parents=True)
                for name, text in files:
                    (made / kind / name).write_text(text)
            with suppress(OSError):  # another process was faster
                made.rename(folder)
    return folder


# -------------------------------------------------------------------------------- this machine


class Local:
    """Processes on this machine, started when the first job comes."""

    def __init__(self, count: int) -> None:
        import loky

        self.count = self.queue = count
        self._pool = loky.ProcessPoolExecutor(count, initializer=_end_with, initargs=(os.getpid(),))

    def simulator(self, design: Design) -> Simulator:
        return _Local(self._pool, design)

    def close(self) -> None:
        self._pool.shutdown(wait=True, kill_workers=True)  # else the end of Python warns of what it left


def _end_with(parent: int) -> None:
    """From now on this process ends when its parent does, however that ends."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


class _Local:
    def __init__(self, pool: Any, design: Design) -> None:
        self._pool, self._design = pool, design

    def run(self, memories: dict[str, Memory], first: int, count: int, writes: dict[str, int], limit: int) -> Result:
        try:
            result: Result = self._pool.submit(run, self._design, Job(memories, first, count, writes, limit)).result()
        except BrokenExecutor:
            raise FlowError(
                "a simulation process was killed, perhaps for want of memory; run the command again with --resume, "
                "and fewer --processes"
            ) from None
        return result


# -------------------------------------------------------------------------------- a cluster


class Cluster:
    """The workers of a Dask scheduler, which may come and go: jobs of one that is lost are done by another."""

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
        """Every worker has this package, to the byte."""
        try:
            found = self._client.run(fingerprint)
        except Exception as error:  # whatever the worker's import says
            raise FlowError(f"the Dask workers cannot load bbs-flow ({first_line(error)}); install it there") from None
        for worker, theirs in found.items():
            if theirs != fingerprint():
                raise FlowError(f"the Dask worker '{worker}' has another bbs-flow than this machine; "
                                "install the same there")  # fmt: skip

    def simulator(self, design: Design) -> Simulator:
        return _Remote(self._client, design)

    def close(self) -> None:
        with suppress(Exception):  # a scheduler that is gone
            self._client.close(timeout=5)


class _Remote:
    """Every job brings the design: what is stored on workers goes with them."""

    def __init__(self, client: Client, design: Design) -> None:
        self._client, self._design = client, design

    def run(self, memories: dict[str, Memory], first: int, count: int, writes: dict[str, int], limit: int) -> Result:
        from distributed import CancelledError, KilledWorker

        job = Job(memories, first, count, writes, limit)
        try:
            result: Result = self._client.submit(run, self._design, job, pure=False).result()
        except KilledWorker as error:
            raise FlowError(f"a job was lost with several workers, one after the other ({first_line(error)}); "
                            "give them more memory, then --resume") from None  # fmt: skip
        except (CancelledError, OSError) as error:
            raise FlowError(f"the Dask scheduler was lost ({first_line(error)}); "
                            "start it again, then --resume") from None  # fmt: skip
        return result


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """A digest of this package's sources."""
    whole = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".cpp", ".j2"):
            whole.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def check(scheduler: str | None, processes: int | None) -> None:
    """FlowError, before any work, when `workers` cannot be asked for like this."""
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
    """The cluster at this address, or so many processes here; as many as there are processors by default."""
    check(scheduler, processes)
    made = Cluster(scheduler) if scheduler is not None else Local(processes or os.cpu_count() or 1)
    try:
        yield made
    finally:
        made.close()


# -------------------------------------------------------------------------------- after a stop


class Kept:
    """A simulator whose results are kept in a folder, so that none is computed twice, also after a stop.

    A result's name is the digest of all that it depends on. `simulator` is the one that computes.
    """

    def __init__(self, simulator: Simulator, design: Design, version: str, folder: Path) -> None:
        self.simulator, self._folder = simulator, folder
        self._key = hashlib.sha256(repr((design, version)).encode()).digest()

    def run(self, memories: dict[str, Memory], first: int, count: int, writes: dict[str, int], limit: int) -> Result:
        whole = hashlib.blake2b(self._key + repr((first, count, sorted(writes.items()), limit)).encode())
        for name in sorted(memories):
            memory = memories[name]
            whole.update(f"{name}{memory.shape}".encode() + np.ascontiguousarray(memory).tobytes())
        file = self._folder / f"{whole.hexdigest()[:32]}.npz"
        if (known := _read(file)) is not None:
            return known
        result = self.simulator.run(memories, first, count, writes, limit)
        with suppress(FileNotFoundError):  # another run of the same request has come to its end
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as part:
                np.savez(part, cycles=result.cycles, **result.memories)  # type: ignore[arg-type]
            os.replace(part.name, file)
        return result


def _read(file: Path) -> Result | None:
    """A kept result; None if there is none, or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return Result(int(arrays.pop("cycles")), arrays)
    except Exception:
        return None


@contextmanager
def kept_runs(request: str, resume: bool) -> Iterator[Path]:
    """The folder for results of the run described by `request`; removed when the run is finished.

    What an earlier run that was stopped has left there is used when `resume` is set, else removed.
    """
    folder = cache_folder(None) / "runs" / hashlib.sha256(request.encode()).hexdigest()[:24]
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
