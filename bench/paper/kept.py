"""Results kept as they come, so that a run that was stopped goes on where it was.

A result is found again while its inputs are the same: the files of a network (by size and time of change), the
sections asked for, and all source files of `flow` and `bench` (by what is in them). What no longer applies stays in
the folder until the user deletes it.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
ROOT = Path(__file__).parents[2]


class Kept:
    """A folder with one file for each result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        sources = sorted(file for room in ("flow", "bench") for file in (ROOT / room).rglob("*.py"))
        self.code = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()

    def place(self, name: str, wanted: Collection[str], files: Sequence[Path] = ()) -> Path:
        """Where the result called `name` is, that these files and sections give."""
        stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        about = hashlib.sha256(repr((name, sorted(wanted), stats, self.code)).encode()).hexdigest()
        return self.folder / f"{name}-{about[:16]}.pickle"

    def put(self, place: Path, result: object) -> None:
        """Whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = place.with_suffix(f".{os.getpid()}")
        part.write_bytes(pickle.dumps(result))
        part.replace(place)

    def get(self, place: Path, kind: type[Result]) -> Result | None:
        """What was kept there; None if nothing was, or nothing of that kind."""
        if not place.is_file():
            return None
        found = pickle.loads(place.read_bytes())
        return found if isinstance(found, kind) else None
