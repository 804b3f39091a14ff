"""The cache folder: its size, entries in use, removal of entries that were not used for long.

The modification time of an entry's file or folder is its last use; `hold` updates it. A process that uses an entry for
longer holds a shared lock on it, and only an entry that can be locked exclusively is removed. See
`flow.files.cache_folder` for the place.
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
YOUNG = 60  # seconds: a younger entry may still be written, and not be locked yet
DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Size:
    """A number of cache entries, and the bytes of all their files."""

    entries: int
    bytes: int


class Held:
    """An entry of the cache in use: it is not removed while this object lives, or until `release`."""

    def __init__(self, descriptor: int) -> None:
        self.release = weakref.finalize(self, os.close, descriptor)


def hold(entry: Path) -> Held | None:
    """Mark an entry as in use; None if it does not exist, or was removed meanwhile."""
    try:
        descriptor = os.open(entry, os.O_RDONLY)
    except OSError:
        return None
    held = Held(descriptor)
    with suppress(OSError):  # a file system without locks, or another user's entry, whose time stays as it is
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.utime(descriptor)
    try:
        exists = os.path.samestat(os.fstat(descriptor), entry.stat())
    except OSError:
        exists = False
    if exists:
        return held
    held.release()
    return None


def cache_size(cache: Path | None = None) -> dict[str, Size]:
    """Number and bytes of the entries in the cache, for each of `KINDS`."""
    return {kind: _size(list(_entries(cache_folder(cache), kind))) for kind in KINDS}


def clean_cache(days: float, cache: Path | None = None) -> dict[str, Size]:
    """Remove the entries that were not used for `days` days and are not in use; returns them, for each of `KINDS`.

    0 days: all entries that are not in use, except those used within the last minute (`YOUNG`).
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
    """The time of the entry's last use; infinity if it was removed meanwhile."""
    try:
        return entry.stat().st_mtime
    except OSError:  # removed meanwhile
        return float("inf")


def _removed(entry: Path, before: float) -> bool:
    """Remove the entry unless it is held or was used after `before`; returns whether it was removed."""
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
