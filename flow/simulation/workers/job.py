"""One simulation job, which any process can run: a design's sources and the arguments of a run."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from flow.cache import Held, hold, made, making
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
    """Processes that run jobs, `count` at a time; `queue` is how many to submit, more where workers may still join."""

    @property
    def count(self) -> int: ...

    @property
    def queue(self) -> int: ...

    def simulator(self, design: DesignSources) -> Simulator:
        """The design, ready to run on the workers."""
        ...


def run(design: DesignSources, job: Job) -> Result:
    """Runs one job in the calling process."""
    simulator, _ = _open_simulator(design)
    return simulator.run(job.memories, job.command, job.writes)


@lru_cache(maxsize=4)
def _open_simulator(design: DesignSources) -> tuple[Simulator, Held]:
    """The design's simulator in this process, and a hold that keeps its files in the cache."""
    folder = _design_folder(design)
    while (held := hold(folder)) is None:
        _design_folder(design)
    paths = [
        [folder / kind / name for name, _ in files]
        for kind, files in (("verilog", design.verilog), ("vhdl", design.vhdl))
    ]
    return ENGINES[design.engine].open(device(design.config, *paths)), held


def _design_folder(design: DesignSources) -> Path:
    """The cache folder with the design's files. Those that are missing or damaged are written."""
    cache = made(cache_folder(None))
    folder = cache / f"design-{hashlib.sha256(repr(design).encode()).hexdigest()[:24]}"
    with making(folder):
        for left in folder.glob("part-*"):  # by a killed process
            left.unlink()
        for kind, files in (("verilog", design.verilog), ("vhdl", design.vhdl)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            for name, text in files:
                file, content = folder / kind / name, text.encode()
                try:
                    if file.read_bytes() == content:
                        continue
                except FileNotFoundError:
                    pass
                part = folder / f"part-{secrets.token_hex(4)}"
                part.write_bytes(content)
                part.replace(file)  # others may be reading the folder
    return folder
