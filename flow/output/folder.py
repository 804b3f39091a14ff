"""The output folder: written beside its place, moved there when complete."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import onnx

from flow.errors import FlowError
from flow.files import (
    HEX,
    beside,
    cache_folder,
    locked,
    name_place,
    remove_unlocked,
    sync,
    sync_all,
    temporary_folder,
    uninterrupted,
    write_model,
)
from flow.output.manifest import MANIFEST, not_of_the_build

STAGING, REPLACED, LOCK = "building", "replaced", "lock"


def check_output(output: Path, force: bool) -> None:
    """Refuse, before any work, a folder that cannot or must not be written."""
    check_name(output)
    check_place(output, force)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise FlowError(f"the output folder '{output}' cannot be written: {error.strerror}; choose another") from None
    with claimed(output):
        pass


def check_name(output: Path) -> None:
    if output.name in ("", ".."):
        raise FlowError(f"the output folder must have a name, but it is '{output}'; give it as PARENT/NAME")


def check_place(output: Path, force: bool) -> None:
    """FlowError unless there is nothing, an empty folder or, with `force`, a build and nothing else."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise FlowError(f"the output must be a folder, but '{output}' is a file; choose another name")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not force:
        raise FlowError(f"the output folder '{output}' is in use; choose another, or add --force")
    if not (output / MANIFEST).is_file():
        raise FlowError(
            f"--force replaces an earlier build only, but '{output}' has no {MANIFEST}; "
            "choose another folder, or delete it yourself"
        )
    others = not_of_the_build(output)
    if others is None:
        raise FlowError(
            f"--force replaces an earlier build only, but '{output / MANIFEST}' is not that of a build; "
            "choose another folder, or delete it yourself"
        )
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise FlowError(
            f"--force replaces an earlier build only, but '{output}' also holds '{others[0]}'{more}, which is not of "
            "the build; move it away, or choose another folder"
        )


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


def write_output(output: Path, model: onnx.ModelProto, force: bool) -> None:
    """Write the network. FlowError if, without `force`, a file of that name has appeared: it is then under another."""
    try:
        write_model(output, model, new=not force)
    except FileExistsError:
        other = output.with_name(f"{output.stem}-{secrets.token_hex(4)}{output.suffix}")
        write_model(other, model, new=True)
        raise FlowError(
            f"the output file '{output}' appeared while this command ran; the network is in '{other}', move it yourself"
        ) from None


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Keep other runs from this place, and remove what killed ones left. FlowError if another run is at work on it."""
    if not os.access(output.parent, os.W_OK):  # nothing can be written there, and nothing was
        yield
        return
    with ExitStack() as stack:
        try:
            alone = stack.enter_context(locked(beside(output, LOCK)))
        except BlockingIOError:
            raise FlowError(f"another run is writing to '{output}'; wait for it, or choose another folder") from None
        if alone:
            _remove_leftovers(output)
        yield


@contextmanager
def output_folder(output: Path, force: bool) -> Iterator[Path]:
    """A new folder that takes the place of `output` on success, and is removed on failure.

    FlowError if another run is writing to that place. If the place is taken when the folder is complete, the folder
    stays under a name that the FlowError says.
    """
    check_output(output, force)
    with claimed(output):
        staging = beside(output, STAGING, secrets.token_hex(4))
        try:
            staging.mkdir()
            yield staging
            sync_all(staging)
            with uninterrupted():
                _take_place(staging, output, force)
        except BaseException as error:
            if isinstance(error, OSError):
                name_place(error, output, temporary_folder(), cache_folder(None))
            shutil.rmtree(staging, ignore_errors=True)
            raise


def _take_place(staging: Path, output: Path, force: bool) -> None:
    """Move the finished folder to its place, which is checked once more, and remove the build that was there."""
    old = None
    try:
        check_place(output, force)
        if output.exists() and any(output.iterdir()):
            old = beside(output, REPLACED, secrets.token_hex(4))
            output.rename(old)
            check_place(old, force)  # nothing can be added to the build any more
        staging.rename(output)
    except (FlowError, OSError) as error:
        if old is not None and not output.exists():
            old.rename(output)
        other = output.with_name(f"{output.name}-{secrets.token_hex(4)}")
        staging.rename(other)
        reason = str(error) if isinstance(error, FlowError) else f"'{output}' cannot be written: {error.strerror}"
        raise FlowError(f"the finished build is in '{other}', for its place is taken: {reason}") from None
    try:
        sync(output.parent)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:
        error.add_note(f"'{output}' is complete")
        raise


def _remove_leftovers(output: Path) -> None:
    """Undo an interrupted replacement, and remove what killed processes left; the lock of the place is held."""
    pattern = f"{glob.escape(beside(output, REPLACED).name)}-{HEX}"
    replaced = sorted(output.parent.glob(pattern), key=os.path.getmtime)
    if replaced and not output.exists():
        replaced[-1].rename(output)
    for kind in (REPLACED, STAGING):
        remove_unlocked(output.parent, beside(output, kind).name)
