"""Stored simulation results, from which an interrupted run continues."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from flow.cache import Held, hold, made, remove
from flow.files import cache_folder, name_place
from flow.hardware.interface import Memory
from flow.simulation.engines.base import Command, Result, Simulator
from flow.simulation.workers.job import DesignSources


class Kept:
    """A simulator that stores its results in a folder, so that none is computed twice, not even after an interruption.

    The file name of a result is the digest of everything that it depends on. `simulator` computes missing results.
    """

    def __init__(self, simulator: Simulator, design: DesignSources, version: str, folder: Path) -> None:
        self.simulator, self.engine, self._folder = simulator, design.engine, folder
        self._held: Held | None = None
        self._key = hashlib.sha256(repr((design, version)).encode()).digest()

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        digest = hashlib.blake2b(self._key + repr((command, sorted(writes.items()))).encode())
        for name in sorted(memories):
            memory = memories[name]
            digest.update(f"{name}{memory.shape}".encode() + np.ascontiguousarray(memory).tobytes())
        file = self._folder / f"{digest.hexdigest()[:32]}.npz"
        if (stored := _read(file)) is not None:
            return stored
        result = self.simulator.run(memories, command, writes)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._held = hold(self._folder)  # from now on, however long the next result takes
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as part:
                np.savez(part, cycles=result.cycles, **result.memories)  # type: ignore[arg-type]
            os.replace(part.name, file)
        except FileNotFoundError:  # another run of the same request has finished, and removed the folder
            pass
        except OSError as error:
            name_place(error, self._folder)
            raise
        return result


def _read(file: Path) -> Result | None:
    """A stored result; None if there is none, or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return Result(int(arrays.pop("cycles")), arrays)
    except Exception:
        return None


@contextmanager
def kept_runs(request: str, resume: bool) -> Iterator[Path]:
    """The folder for results of the run described by `request`; removed when the run is finished.

    Results of an earlier, interrupted run are used if `resume` is set, otherwise removed.
    """
    folder = made(cache_folder(None)) / "runs" / hashlib.sha256(request.encode()).hexdigest()[:24]
    if not resume:
        remove(folder)  # unless another run of the same request is at work
    held = hold(folder)  # results of an earlier run; a new folder is held by the one that writes into it
    try:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        if held is not None:
            held.release()
