"""The cache folder: how much is in it, and what was not used for long removed; what is in use stays.

An entry's last use is the time of its file or folder, which `hold` sets anew. Who uses an entry for longer holds it, by
a shared lock on it; only what can be locked by nobody else is removed. See `flow.files.cache_folder` for the place.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flow.files import cache_folder

KINDS = {
    "compiled simulators": ("verilator-*", "runtime-*", "build-*", "design-*"),
    "areas": ("area-*",),
    "kept runs": ("runs/*",),
}
YOUNG = 60  # seconds: what is younger may be in the making, and is not held yet
DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Size:
    """Entries of the cache, and the bytes of the files they are."""

    entries: int
    bytes: int


class Held:
    """An entry of the cache that is in use: nobody removes it while this lives, or until `release`."""

    def __init__(self, descriptor: int) -> None:
        self.release = weakref.finalize(self, os.close, descriptor)


def hold(entry: Path) -> Held | None:
    """The entry, from now on in use; None if there is none, or no more."""
    try:
        descriptor = os.open(entry, os.O_RDONLY)
    except OSError:
        return None
    held = Held(descriptor)
    with suppress(OSError):  # a file system without locks, or another user's entry, which has its time from there
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.utime(descriptor)
    try:
        there = os.path.samestat(os.fstat(descriptor), entry.stat())
    except OSError:
        there = False
    if there:
        return held
    held.release()
    return None


def cache_size(cache: Path | None = None) -> dict[str, Size]:
    """What is in the cache, for each of `KINDS`."""
    return {kind: _size(list(_entries(cache_folder(cache), kind))) for kind in KINDS}


def clean_cache(days: float, cache: Path | None = None) -> dict[str, Size]:
    """Removes what was not used for so many days, and is not in use; what was removed, for each of `KINDS`.

    0 days: all that is not in use, but for what is made just now.
    """
    before, removed = time.time() - max(days * DAY, YOUNG), {}
    for kind in KINDS:
        entries = [entry for entry in _entries(cache_folder(cache), kind) if _last_use(entry) < before]
        sizes = {entry: _size([entry]) for entry in entries}
        gone = [sizes[entry] for entry in entries if _removed(entry, before)]
        removed[kind] = Size(len(gone), sum(size.bytes for size in gone))
    return removed


def _entries(folder: Path, kind: str) -> Iterator[Path]:
    for pattern in KINDS[kind]:
        yield from sorted(folder.glob(pattern))


def _size(entries: list[Path]) -> Size:
    total = 0
    for entry in entries:
        for path in (entry, *entry.rglob("*")):
            with suppress(OSError):  # removed meanwhile
                total += path.stat().st_size if path.is_file() else 0
    return Size(len(entries), total)


def _last_use(entry: Path) -> float:
    """When it was last used."""
    try:
        return entry.stat().st_mtime
    except OSError:  # removed meanwhile
        return float("inf")


def _removed(entry: Path, before: float) -> bool:
    """Whether it is removed now: nobody holds it, nor has used it since."""
    try:
        descriptor = os.open(entry, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_mtime >= before:
            return False
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    except OSError:  # in use, removed meanwhile, or another user's
        return False
    finally:
        os.close(descriptor)
    return True
