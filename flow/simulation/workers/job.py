"""One simulation job: a design's sources and the arguments of a run, in any process."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from flow.cache import Held, hold
from flow.files import cache_folder
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import device
from flow.hardware.interface import Device, Memory
from flow.simulation.engines import ENGINES
from flow.simulation.engines.base import Command, Result, Simulator


@dataclass(frozen=True)
class DesignSources:
    """All that another process needs to simulate a device: the engine's name, the array, the HDL by file name."""

    engine: str
    config: ArrayConfig
    verilog: tuple[tuple[str, str], ...]
    vhdl: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, engine: str, config: ArrayConfig, built: Device) -> DesignSources:
        texts = [tuple((path.name, path.read_text()) for path in files) for files in (built.files, built.vhdl_files)]
        return cls(engine, config, *texts)


@dataclass(frozen=True)
class Job:
    """The arguments of one run; see `flow.simulation.engines.base.Simulator`."""

    memories: dict[str, Memory]
    command: Command
    writes: dict[str, int]


class Workers(Protocol):
    """Whoever runs the jobs: `count` at a time. `queue` are to be under way, more where workers may yet join."""

    @property
    def count(self) -> int: ...

    @property
    def queue(self) -> int: ...

    def simulator(self, design: DesignSources) -> Simulator:
        """The design, ready to run on the workers."""
        ...


def run(design: DesignSources, job: Job) -> Result:
    """One job, in the process that calls."""
    simulator, _ = _opened(design)
    return simulator.run(job.memories, job.command, job.writes)


@lru_cache(maxsize=4)
def _opened(design: DesignSources) -> tuple[Simulator, Held]:
    """The design's simulator in this process, and its files, which stay as long."""
    folder = _unpacked(design)
    while (held := hold(folder)) is None:
        _unpacked(design)
    paths = [
        [folder / kind / name for name, _ in files]
        for kind, files in (("verilog", design.verilog), ("vhdl", design.vhdl))
    ]
    return ENGINES[design.engine].open(device(design.config, *paths)), held


def _unpacked(design: DesignSources) -> Path:
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
