"""The cache folder: where it is, what is in it, and that what is in use stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import flow
from flow.cache import KINDS, YOUNG, Size, cache_size, clean_cache, hold, look_up, made, making, store, workplace
from flow.errors import FlowError
from flow.files import cache_folder
from flow.hardware.config import ArrayConfig
from flow.progress import Advance, ignore
from flow.simulation.engines.base import Command, Result
from flow.simulation.workers.job import DesignSources, _design_folder
from flow.simulation.workers.kept import Kept, kept_runs
from tests.helpers.nets import small
from tests.helpers.tools import require_engine

DAYS = 24 * 60 * 60


def aged(path: Path, days: float) -> Path:
    then = time.time() - days * DAYS
    os.utime(path, (then, then))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """Old entries of every kind: files and folders."""
    for name, content in {
        "verilator-1.so": "1234", "runtime-1.o": "12", "design-1/verilog/a.v": "123", "area-1.json": "{}",
        "emitted-1.json": "[[]]",
        "runs/1/a.npz": "12345", "runs/2/a.npz": "1", "other": "not ours",
    }.items():  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for path in [*tmp_path.rglob("*")]:
        aged(path, 10)
    yield tmp_path


def names(cache: Path) -> set[str]:
    return {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}


def test_the_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BBS_CACHE", str(tmp_path / "set"))
    assert cache_folder(None) == tmp_path / "set" and cache_folder(tmp_path) == tmp_path
    monkeypatch.delenv("BBS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert cache_folder(None) == tmp_path / "xdg" / "bbs-flow"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache_folder(None) == Path.home() / ".cache" / "bbs-flow"


def test_the_size(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {
        "compiled simulators": Size(3, 9),
        "emitted designs": Size(1, 4),
        "areas": Size(1, 2),
        "kept runs": Size(2, 6),
    }
    assert cache_size(cache) == sizes
    monkeypatch.setenv("BBS_CACHE", str(cache))
    assert cache_size() == sizes
    assert cache_size(cache / "nowhere") == dict.fromkeys(KINDS, Size(0, 0)) == clean_cache(0, cache / "nowhere")


def test_what_was_not_used_goes(cache: Path) -> None:
    aged(cache / "runs" / "2", 3)
    held = hold(cache / "area-1.json")
    assert held is not None
    held.release()  # used just now
    assert clean_cache(11, cache) == dict.fromkeys(KINDS, Size(0, 0))
    removed = {
        "compiled simulators": Size(3, 9),
        "emitted designs": Size(1, 4),
        "areas": Size(0, 0),
        "kept runs": Size(1, 5),
    }
    assert clean_cache(7, cache) == removed
    assert names(cache) == {"area-1.json", "runs/2/a.npz", "other"}
    assert clean_cache(2, cache)["kept runs"] == Size(1, 1)
    assert clean_cache(0, cache)["areas"] == Size(0, 0)  # within the last minute
    aged(cache / "area-1.json", 2 * YOUNG / DAYS)
    assert clean_cache(0, cache)["areas"] == Size(1, 2)
    assert names(cache) == {"other"}


def test_what_is_held_stays(cache: Path) -> None:
    """By this process, and by another one, however long ago it was used."""
    held = [hold(cache / name) for name in ("verilator-1.so", "design-1")]
    code = "import sys; from pathlib import Path; from flow.cache import hold; held = hold(Path(sys.argv[1]))"
    other = subprocess.Popen(
        [sys.executable, "-c", f"{code}; print(flush=True); input()", str(cache / "runs" / "1")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(flow.__file__).parents[1])},
    )  # fmt: skip
    assert other.stdout and other.stdout.readline()
    for name in ("verilator-1.so", "design-1", "runs/1"):
        aged(cache / name, 10)
    assert clean_cache(0, cache)["compiled simulators"] == Size(1, 2)
    assert names(cache) == {"verilator-1.so", "design-1/verilog/a.v", "runs/1/a.npz", "other"}
    other.communicate(b"\n")
    for one in held:
        assert one is not None
        one.release()
    assert clean_cache(0, cache)["compiled simulators"] == Size(2, 7)
    assert names(cache) == {"other"}


def test_what_is_not_there_is_not_held(cache: Path) -> None:
    assert hold(cache / "verilator-2.so") is None


def entry_of(cache: Path, text: str = "whole") -> Path:
    entry = cache / "area-0123.json"
    part = cache / "part"
    part.write_text(text)
    store(part, entry)
    return entry


@pytest.mark.parametrize("size", [0, 3])
def test_a_damaged_entry_is_none(cache: Path, size: int) -> None:
    entry = entry_of(cache)
    found = look_up(entry)
    assert found is not None and found[0].read_text() == "whole" and not entry.exists()
    os.truncate(found[0], size)
    assert look_up(entry) is None and not found[0].exists()  # made again, not found again
    assert look_up(cache / "area-1.json") is None  # another's name begins alike


MAKE = """
import sys, time
from pathlib import Path
from flow.cache import look_up, making, store
print(flush=True), input()
entry = Path(sys.argv[1])
with making(entry):
    if look_up(entry) is None:
        with (entry.parent / "log").open("a") as log:
            log.write("made\\n")
        time.sleep(0.5)
        (entry.parent / "part").write_text("whole")
        store(entry.parent / "part", entry)
print(look_up(entry)[0].read_text())
"""


def python(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(flow.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def test_two_processes_make_an_entry_once(cache: Path) -> None:
    (cache / ".area-2.json-lock").touch()  # of a killed process
    both = [python(MAKE, str(cache / "area-2.json")) for _ in range(2)]
    for process in both:
        assert process.stdout and process.stdin and process.stdout.readline()
    for process in both:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=30)[0] for process in both] == ["whole\n"] * 2
    assert (cache / "log").read_text() == "made\n"
    assert not list(cache.glob(".*"))


def test_what_a_killed_build_left_goes(cache: Path) -> None:
    for name in ("build-old", "build-held", "build-young"):
        (cache / name / "unit0.o").mkdir(parents=True)
        aged(cache / name, 0 if name == "build-young" else 1)
    held = hold(cache / "build-held")
    aged(cache / "build-held", 1)
    with workplace(cache) as folder:
        assert {path.name for path in cache.glob("build-*")} == {"build-held", "build-young", folder.name}
    assert held and {path.name for path in cache.glob("build-*")} == {"build-held", "build-young"}


def test_the_folder_is_this_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path / "a" / "b")
    assert folder.stat().st_mode & 0o777 == 0o700 and made(folder) == folder
    folder.chmod(0o777)
    with pytest.raises(FlowError, match="every user may put programs .*; chmod 700 it, or set BBS_CACHE"):
        made(folder)
    folder.chmod(0o755)
    (tmp_path / "file").touch()
    with pytest.raises(FlowError, match="cannot be made: .*; set BBS_CACHE"):
        made(tmp_path / "file")
    monkeypatch.setenv("BBS_CACHE", str(folder))
    with monkeypatch.context() as patch:
        patch.setattr("flow.cache.os.getuid", lambda: os.geteuid() + 1)
        with pytest.raises(FlowError, match="belongs to another user.*; set BBS_CACHE to a folder of your own"):
            _design_folder(DesignSources("myhdl", ArrayConfig(2, 2), (), ()))


def test_locks_of_killed_processes_are_cleaned(cache: Path) -> None:
    (cache / ".area-1.json-lock").touch()
    with making(cache / "area-2.json"):
        clean_cache(0, cache)
        assert {path.name for path in cache.glob(".*")} == {".area-2.json-lock"}


@pytest.mark.parametrize("half", [False, True])
def test_a_damaged_design_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: bool) -> None:
    monkeypatch.setenv("BBS_CACHE", str(tmp_path))
    design = DesignSources(
        "icarus", ArrayConfig(2, 2), (("a.v", "module a;"), ("b.v", "module b;")), (("c.vhd", "--"),)
    )
    folder = _design_folder(design)
    files = {path: path.read_text() for path in folder.rglob("*.*")}
    assert len(files) == 3
    for path, text in files.items():
        os.truncate(path, len(text) // 2 if half else 0)
    (folder / "verilog" / "a.v").unlink()
    assert _design_folder(design) == folder and {path: path.read_text() for path in folder.rglob("*.*")} == files


class One:
    """A simulator of one result."""

    def run(self, *_: object) -> Result:
        return Result(1, {})


def test_a_run_holds_what_it_keeps(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has written, and what an earlier run that was stopped has left."""
    monkeypatch.setenv("BBS_CACHE", str(cache))
    design = DesignSources("myhdl", ArrayConfig(2, 2), (), ())
    with pytest.raises(RuntimeError), kept_runs("request", resume=False) as folder:
        kept = Kept(One(), design, "1", folder)
        kept.run({}, Command(0, 1, 2), {})
        aged(folder, 10)
        assert clean_cache(0)["kept runs"] == Size(2, 6) and len([*folder.iterdir()]) == 1
        raise RuntimeError
    del kept
    with kept_runs("request", resume=True) as folder:
        aged(folder, 10)
        assert clean_cache(0)["kept runs"] == Size(0, 0) and len([*folder.iterdir()]) == 1
    assert not folder.exists()
    with pytest.raises(RuntimeError), kept_runs("request", resume=False):
        Kept(One(), design, "1", folder).run({}, Command(0, 1, 2), {})
        raise RuntimeError
    aged(folder, 10)
    assert clean_cache(0)["kept runs"].entries == 1 and not folder.exists()


@pytest.mark.full
def test_a_build_during_which_all_is_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a stage begins, all that may go goes: the build is none the worse for it."""
    require_engine("verilator")
    monkeypatch.setenv("BBS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("flow.cache.YOUNG", 0.5)  # seconds: far less than a simulator takes to compile

    @contextmanager
    def stage(name: str, total: int | None = None) -> Iterator[Advance]:
        clean_cache(0)
        yield ignore

    report = flow.compile(small(tmp_path), tmp_path / "out", array=(2, 2), samples=1, stage=stage)
    assert report.passed and cache_size()["compiled simulators"].entries > 0
