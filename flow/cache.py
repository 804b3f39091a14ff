"""The cache folder: entries that are checked, its size, entries in use, removal of those not used for long.

An entry that is a file has a digest of its content in its name, which is checked whenever it is used: NAME-DIGEST.EXT.
A damaged one is removed and made again. A lock for each entry lets one process make it while others wait.

The modification time of an entry's file or folder is its last use; `hold` updates it. A process that uses an entry for
longer holds a shared lock on it, and only an entry that can be locked exclusively is removed. See
`flow.files.cache_folder` for the place.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from flow.errors import FlowError
from flow.files import cache_folder, locked, name_place, sha256
from flow.programs import pause

KINDS = {
    "compiled simulators": ("verilator-*", "runtime-*", "build-*", "design-*"),
    "emitted designs": ("emitted-*",),
    "areas": ("area-*",),
    "kept runs": ("runs/*",),
}
DIGEST = 32  # hex digits of the sha256 in an entry's name
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


def made(folder: Path) -> Path:
    """The cache folder, made for this user alone if it is not there.

    FlowError if it cannot be made, or if others could put files there, which are run as this user's.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
    except OSError as error:
        raise FlowError(
            f"the folder for compiled simulators, '{folder}', cannot be made: {error.strerror}; set BBS_CACHE"
        ) from None
    if about.st_uid != os.getuid():
        raise FlowError(f"the folder for compiled simulators, '{folder}', belongs to another user, whose programs "
                        "would be run as yours; set BBS_CACHE to a folder of your own")  # fmt: skip
    if about.st_mode & stat.S_IWOTH:
        raise FlowError(f"in the folder for compiled simulators, '{folder}', every user may put programs that would "
                        f"be run as yours; chmod 700 it, or set BBS_CACHE to another folder")  # fmt: skip
    return folder


@contextmanager
def making(entry: Path) -> Iterator[None]:
    """One thread or process at a time makes the entry (NAME.EXT); the others wait until it is there."""
    with locked(entry.with_name(f".{entry.name}-lock"), lambda: pause(0.05)):
        yield


@contextmanager
def workplace(cache: Path) -> Iterator[Path]:
    """A new folder in the cache, on its file system, in use until its end. It is an entry of the cache itself.

    What killed processes left of this kind is removed.
    """
    for left in cache.glob("build-*"):
        remove(left, time.time() - YOUNG)
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache, ignore_cleanup_errors=True) as folder:
        held = hold(Path(folder))
        try:
            yield Path(folder)
        except OSError as error:
            name_place(error, cache)
            raise
        finally:
            if held is not None:
                held.release()


def look_up(entry: Path) -> tuple[Path, Held] | None:
    """The file of the entry NAME.EXT, undamaged and held; None if there is none. Damaged ones are removed."""
    for file in sorted(entry.parent.glob(f"{entry.stem}-{'[0-9a-f]' * DIGEST}{entry.suffix}")):
        if (held := hold(file)) is None:
            continue
        with suppress(OSError):
            if file.stem.endswith(sha256(file)[:DIGEST]):
                return file, held
            file.unlink(missing_ok=True)
        held.release()
    return None


def store(part: Path, entry: Path) -> Path:
    """Move a finished file of the same file system to where `look_up` finds it as the entry NAME.EXT."""
    file = entry.with_name(f"{entry.stem}-{sha256(part)[:DIGEST]}{entry.suffix}")
    try:
        part.replace(file)
    except OSError as error:
        name_place(error, file)
        raise
    return file


def kept(entry: Path, make: Callable[[], str]) -> str:
    """The text of the entry NAME.EXT, as `make` gives it unless the cache has it."""
    with making(entry):
        if (found := look_up(entry)) is not None:
            with suppress(OSError):  # removed meanwhile
                return found[0].read_text()
        text = make()
        with workplace(entry.parent) as folder:
            part = folder / entry.name
            part.write_text(text)
            store(part, entry)
    return text


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
        gone = [sizes[entry] for entry in entries if remove(entry, before)]
        removed[kind] = Size(len(gone), sum(size.bytes for size in gone))
    for lock in cache_folder(cache).glob(".*-lock"):  # of killed processes
        with suppress(OSError), locked(lock):
            pass
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


def remove(entry: Path, before: float = float("inf")) -> bool:
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
