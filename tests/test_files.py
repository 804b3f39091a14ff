"""Files: written whole or not at all, locks, temporary folders, also when processes are killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import flow
from flow import files
from flow.files import beside, locked, name_place, remove_unlocked, scratch, sync_all, uninterrupted, write_file

HOLD = """
import sys, tempfile
from pathlib import Path
from flow.files import beside, locked, scratch
with scratch() as folder, locked(beside(Path(sys.argv[1]), "lock")):
    beside(Path(sys.argv[1]), "writing", "0123abcd").touch()
    (folder / "large").touch()
    print(folder, flush=True)
    input()
"""


def hold(file: Path, temporary: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that writes to a file, and its temporary folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(flow.__file__).parents[1]), "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_left_goes_what_a_living_one_has_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    for name in ("bbs-scratch-mine", "bbs-scratch-01234567.txt", "other"):
        (temporary / name).mkdir(parents=True)
    (temporary / "bbs-made-01234567").mkdir()
    os.utime(temporary / "bbs-made-01234567", (0, 0))
    mine = {"bbs-scratch-mine", "bbs-scratch-01234567.txt", "other"}
    killed, left = hold(tmp_path / "a", temporary)
    living, kept = hold(tmp_path / "b", temporary)
    killed.kill()
    killed.wait()
    assert (left / "large").exists() and beside(tmp_path / "a", "writing", "0123abcd").exists()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr("flow.files._scratch", [])
    with scratch() as one, scratch() as two:
        assert one != two and one.parent == two.parent and one.parent.parent == temporary
        assert {path.name for path in temporary.iterdir()} == mine | {one.parent.name, kept.parent.name}
    assert {path.name for path in temporary.iterdir()} == mine | {kept.parent.name}
    write_file(tmp_path / "a", b"new")
    with pytest.raises(BlockingIOError), locked(beside(tmp_path / "b", "lock")):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"temporary", "a", ".b-lock", ".b-writing-0123abcd"}
    living.communicate("\n")
    assert {path.name for path in temporary.iterdir()} == mine
    write_file(tmp_path / "b", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"temporary", "a", "b"}


def test_what_another_user_or_a_moment_ago_has_left_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / "bbs-0123abcd"
    left.write_text("what was left")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: left.stat().st_uid + 1)
        remove_unlocked(tmp_path, "bbs")
        assert left.exists()
    remove_unlocked(tmp_path, "bbs", older=3600)
    assert left.exists()
    remove_unlocked(tmp_path, "bbs")
    assert not left.exists()


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ("n" * 250)  # as long as a name may be, about
    order: list[str] = []
    replace = Path.replace

    def replaced(self: Path, target: Path) -> Path:
        order.append("replace")
        return replace(self, target)

    monkeypatch.setattr("os.fsync", lambda descriptor: order.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    monkeypatch.setattr(Path, "replace", replaced)
    write_file(file, b"old")
    assert order[1:] == ["replace", str(tmp_path)] and "-writing-" in order[0]  # the file, then its folder

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FileExistsError):
        write_file(file, b"new", new=True)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{file}'"):
        write_file(file, b"new")
    assert file.read_bytes() == b"old" and [*tmp_path.iterdir()] == [file]


def test_everything_is_made_to_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").touch()
    synced: list[str] = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    sync_all(tmp_path)
    assert synced[-1] == str(tmp_path) and set(synced) == {
        str(tmp_path / name) for name in (".", "a", "a/b", "a/b/c")
    }  # fmt: skip


def test_the_fullest_place_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rooms = {tmp_path / "a": 5, tmp_path / "b": 3, tmp_path: 4}
    for place in rooms:
        place.mkdir(exist_ok=True)
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": rooms[place]}))
    error = OSError(errno.ENOSPC, "full")
    name_place(error, tmp_path / "a", tmp_path / "b", tmp_path / "absent")
    assert error.filename == str(tmp_path / "b")
    name_place(error, tmp_path / "a")  # named already
    assert error.filename == str(tmp_path / "b")
    other = OSError(errno.EIO, "broken")
    name_place(other, tmp_path)
    assert other.filename is None


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    inside: list[int] = []

    def work() -> None:
        for _ in range(50):
            with locked(tmp_path / "lock", lambda: time.sleep(0.0001)) as alone:
                assert alone
                inside.append(1)
                assert sum(inside) == 1
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not inside and not [*tmp_path.iterdir()]


def test_signals_wait_for_the_end_of_a_block() -> None:
    done = []
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.signal(number, signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt), uninterrupted():
            signal.raise_signal(number)
            done.append(number)
        assert signal.signal(number, before) is signal.default_int_handler
    assert done == [signal.SIGINT, signal.SIGTERM]


def test_a_scratch_folder_gives_its_lock_back() -> None:
    place = files._Scratch()
    root = place.enter()
    descriptor = place._descriptor
    assert descriptor is not None and os.fstat(descriptor)
    place.leave()
    assert not root.exists()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_name_is_given_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr("os.link", none)
    part, path = tmp_path / "part", tmp_path / "file"
    part.write_text("new")
    files._link(part, path)
    assert path.read_text() == "new" and not part.exists()
    part.write_text("newer")
    with pytest.raises(FileExistsError):
        files._link(part, path)
    assert path.read_text() == "new"
