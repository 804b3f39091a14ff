"""Files: the cache folder, digests, atomic writes, locks, temporary folders, names of layer folders."""

from __future__ import annotations

import atexit
import errno
import fcntl
import glob
import hashlib
import json
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import platformdirs
from numpy.typing import NDArray

from flow.errors import FlowError

HEX = "[0-9a-f]" * 8  # the end of the name of a file or folder that is not yet, or no longer, in its place
SCRATCH, SCRATCH_MADE = "bbs-scratch-", "bbs-made-"
YOUNG = 60  # seconds: a younger folder without a lock may belong to a process that is about to lock it
LONGEST = 200  # bytes of a name, to which others are added
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_model(path: Path, model: onnx.ModelProto, new: bool = False) -> None:
    """Write an ONNX file as `write_file`."""
    write_file(path, model.SerializeToString(deterministic=True), new)


def write_file(path: Path, content: bytes, new: bool = False) -> None:
    """Write a file atomically: if interrupted, even by a power cut, an existing file stays unchanged.

    FileExistsError if it must be `new`, and there is one.
    """
    with locked(beside(path, "lock"), lambda: time.sleep(0.05)) as alone:
        if alone:
            remove_unlocked(path.parent, beside(path, "writing").name)
        part = beside(path, "writing", secrets.token_hex(4))
        try:
            with part.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if new:
                _link(part, path)
            else:
                part.replace(path)
            sync(path.parent)
        except OSError as error:
            name_place(error, path)
            raise
        finally:
            part.unlink(missing_ok=True)


def _link(part: Path, path: Path) -> None:
    """Give the file its name. FileExistsError if it is taken."""
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if path.exists():  # a file system without hard links
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        part.replace(path)


def beside(path: Path, kind: str, token: str = "") -> Path:
    """A hidden name in the same folder, which says whose place it will take, or has taken."""
    name = path.name
    if len(os.fsencode(name)) > LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return path.with_name(f".{name}-{kind}" + (f"-{token}" if token else ""))


def neighbour(folder: Path, suffix: str) -> Path:
    """The folder next to this one, of its name and the suffix; also of ".", which has no name."""
    place = folder if folder.name not in ("", "..") else folder.resolve()
    return place.parent / f"{folder.resolve().name}{suffix}"


def sync(path: Path) -> None:
    """Make a file or a folder's entries outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot, or need not
            error.filename = str(path)
            raise
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """`sync` of a folder and of everything in it."""
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            sync(path)


def name_place(error: OSError, *places: Path) -> None:
    """Name the place that is full in an error that names none: of these, the one with the least room."""

    def free(place: Path) -> int:
        there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
        return shutil.disk_usage(there).free

    if error.errno in FULL and error.filename is None:
        with suppress(OSError):
            error.filename = str(min(places, key=free))


@contextmanager
def locked(file: Path, wait: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold a lock, which no other thread or process holds meanwhile; gives whether the file system has locks.

    The file is there as long as the lock is held. `wait` is called as long as another holds it; without, that is a
    BlockingIOError. What a killed process leaves is no longer locked.
    """
    while True:
        descriptor, alone = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                break
        except BlockingIOError:
            os.close(descriptor)
            if wait is None:
                raise
            wait()
            continue
        except FileNotFoundError:  # removed by the one who held the lock
            pass
        except OSError:
            alone = False
            break
        os.close(descriptor)
    try:
        yield alone
    finally:
        if alone:
            file.unlink(missing_ok=True)
        os.close(descriptor)


def remove_unlocked(folder: Path, prefix: str, older: float = 0) -> None:
    """Remove what killed processes of this user have left: entries `prefix`-XXXXXXXX that no process has locked.

    Only those that have not changed for `older` seconds.
    """
    for entry in folder.glob(f"{glob.escape(prefix)}-{HEX}"):
        with suppress(OSError):  # locked, removed meanwhile, or another user's
            about = entry.lstat()
            if about.st_uid != os.getuid() or time.time() - about.st_mtime < older:
                continue
            descriptor = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink()
            finally:
                os.close(descriptor)


class _Scratch:
    """The folder of this process that holds its temporary folders: made for the first, removed with the last."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._lock, self._users = threading.Lock(), 0
        self._root: Path | None = None
        self._descriptor: int | None = None
        atexit.register(self.remove)

    def enter(self) -> Path:
        with self._lock:
            self._users += 1
            if self._root is None:
                self._make()
            assert self._root
            return self._root

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self.remove()

    def _make(self) -> None:
        """Locked before it has its name, so that none of that name is without a lock unless its process has ended."""
        folder, token = temporary_folder(), secrets.token_hex(4)
        remove_unlocked(folder, SCRATCH.removesuffix("-"))
        remove_unlocked(folder, SCRATCH_MADE.removesuffix("-"), YOUNG)
        self._root = folder / f"{SCRATCH}{token}"
        made = folder / f"{SCRATCH_MADE}{token}"
        try:
            made.mkdir(mode=0o700)
            self._descriptor = os.open(made, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            made.rename(self._root)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise

    def remove(self) -> None:
        if self.process != os.getpid() or self._root is None:  # a fork of the process that made it
            return
        shutil.rmtree(self._root, ignore_errors=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._root = self._descriptor = None


_scratch: list[_Scratch] = []


def temporary_folder() -> Path:
    """The folder for temporary files. FlowError if there is none that can be written."""
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise FlowError(f"there is no folder for temporary files ({error.strerror}); "
                        "set TMPDIR to one that can be written") from None  # fmt: skip


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder for temporary files, removed at the end. What a killed process left is removed by the next."""
    if not _scratch or _scratch[0].process != os.getpid():
        _scratch[:] = [_Scratch()]
    mine = _scratch[0]
    try:
        folder = Path(tempfile.mkdtemp(dir=mine.enter()))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        mine.leave()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Signals that end the process take effect at the end of the block, which is short."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        handler = signal.getsignal(number)
        if handler is not signal.SIG_IGN and handler is not None:
            before[number] = handler
            signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for each in came:
            signal.raise_signal(each)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file as `write_file`."""
    write_file(path, (json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """An .npz file; unlike numpy.savez it takes arrays of any name, also those of its parameters."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder(cache: Path | None) -> Path:
    """The cache folder: `cache`, else $BBS_CACHE, else the user's default (on Linux ~/.cache/bbs-flow)."""
    return cache or Path(os.environ.get("BBS_CACHE") or platformdirs.user_cache_path("bbs-flow"))


def layer_folder(layer: str, number: int) -> str:
    """A layer's folder in vectors/: its number and 60 characters of its name, as file systems and make accept them."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in layer)
    return f"{number:03d}_{plain[:60]}"


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """A digest of this package's sources."""
    sha = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".j2"):
            sha.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return sha.hexdigest()
