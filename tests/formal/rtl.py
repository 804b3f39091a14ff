"""The accelerators that the claims are about, and what is emitted of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig

ARRAYS = {
    "bitvert": ArrayConfig(4, 4),
    "dense": ArrayConfig(4, 4, "dense"),
    "parallel": ArrayConfig(2, 2, "parallel"),
    "pairs": ArrayConfig(2, 2, "pairs", columns_per_cycle=2),
    "narrow": ArrayConfig(2, 2, accumulator_bits=24),
    "maps": ArrayConfig(2, 2, accumulator_bits=24).with_maps(128),
    "units": ArrayConfig(4, 4).with_maps(128, tables=True, products=True, normalizer=True, operands=True),
}
WRAPPED = {"axi": (ArrayConfig(2, 2), AxiConfig())}
BEAT = 2  # bits of a memory word of the small streams
DEPTH = 4
JOBS, TOGETHER = 2, 2  # of the small words ahead
COLLECT = {"ROWS": 2, "COLUMNS": 3, "LANES": 2}  # of the small tiles that are collected


@dataclass(frozen=True)
class Emitted:
    """Emitted files, and the block of each module."""

    files: tuple[Path, ...]
    functions: dict[str, str]
