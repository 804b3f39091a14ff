"""The environment of a run: versions of packages, the engine, the processor."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("numpy", "onnx", "onnxruntime", "myhdl")


@dataclass(frozen=True)
class Environment:
    """Versions of packages, the engine if any, the judge with its optimisation level, the processor."""

    versions: dict[str, str]
    engine: str | None
    judge: str
    cpu: str


def environment(engine: str | None) -> Environment:
    """The environment of this process, with this engine."""
    versions = {"bbs-flow": _own_version(), "python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES}
    judge = f"ONNX Runtime {versions['onnxruntime']}, graph optimisation level BASIC, CPU"
    return Environment(versions, engine, judge, _processor())


def _own_version() -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version("bbs-flow")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split("\t: ", 1) for line in lines if "\t: " in line)
    name = fields.get("model name", platform.machine())
    return f"{name} ({'with' if 'vnni' in fields.get('flags', '') else 'without'} VNNI)"
