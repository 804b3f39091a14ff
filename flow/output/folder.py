"""The output folder: written beside its place, moved there when complete."""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flow.errors import FlowError
from flow.output.manifest import MANIFEST

STAGING = "-building-"


def check_output(output: Path, force: bool) -> None:
    """Refuse, before any work, a folder that cannot or must not be written."""
    check_name(output)
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise FlowError(f"the output must be a folder, but '{output}' is a file; choose another name")
    if output.is_dir() and any(output.iterdir()):
        if not force:
            raise FlowError(f"the output folder '{output}' is in use; choose another, or add --force")
        if not (output / MANIFEST).is_file():
            raise FlowError(
                f"--force replaces an earlier build only, but '{output}' has no {MANIFEST}; "
                "choose another folder, or delete it yourself"
            )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise FlowError(f"the output folder '{output}' cannot be written: {error.strerror}; choose another") from None


def check_name(output: Path) -> None:
    if output.name in ("", ".."):
        raise FlowError(f"the output folder must have a name, but it is '{output}'; give it as PARENT/NAME")


def check_file(output: Path, force: bool, source: Path | None) -> None:
    """Refuse, before any work, a file that cannot or must not be written: never the `source` itself."""
    if source is not None and output.exists() and output.samefile(source):
        raise FlowError(f"the output file '{output}' is the network itself; choose another")
    if output.is_dir() or (output.exists() and not force):
        raise FlowError(f"the output file '{output}' exists; choose another, or add --force")
    try:
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise FlowError(f"the output file '{output}' cannot be written: {error.strerror}; choose another") from None


@contextmanager
def output_folder(output: Path, force: bool) -> Iterator[Path]:
    """A new folder that takes the place of `output` on success, and is removed on failure.

    Folders that a killed process left behind are removed first.
    """
    check_output(output, force)
    remove_leftovers(output)
    staging = output.with_name(f".{output.name}{STAGING}{secrets.token_hex(4)}")
    lock = None
    try:
        staging.mkdir()
        lock = os.open(staging, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield staging
        if output.exists():
            output.rename(_replaced(output))
            staging.rename(output)
            shutil.rmtree(_replaced(output))
        else:
            staging.rename(output)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _replaced(output: Path) -> Path:
    """Where an earlier build is while a new one takes its place."""
    return output.with_name(f".{output.name}-replaced")


def remove_leftovers(output: Path) -> None:
    """Undo an interrupted replacement, and remove staging folders that no process has locked."""
    if _replaced(output).is_dir() and not output.exists():
        _replaced(output).rename(output)
    shutil.rmtree(_replaced(output), ignore_errors=True)
    for staging in output.parent.glob(f".{glob.escape(output.name)}{STAGING}*"):
        with suppress(OSError):  # locked by another process at work on the same output, or another user's
            lock = os.open(staging, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(staging, ignore_errors=True)
            finally:
                os.close(lock)
