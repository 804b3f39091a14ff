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
from flow.cache import KINDS, YOUNG, Size, cache_size, clean_cache, hold
from flow.files import cache_folder
from flow.hardware.config import ArrayConfig
from flow.progress import Advance, ignore
from flow.simulation.engines.base import Command, Result
from flow.simulation.workers.job import DesignSources
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
    sizes = {"compiled simulators": Size(3, 9), "areas": Size(1, 2), "kept runs": Size(2, 6)}
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
    removed = {"compiled simulators": Size(3, 9), "areas": Size(0, 0), "kept runs": Size(1, 5)}
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


def test_a_build_during_which_all_is_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a stage begins, all that may go goes: the build is none the worse for it."""
    require_engine("verilator")
    monkeypatch.setenv("BBS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("flow.cache.YOUNG", -1)

    @contextmanager
    def stage(name: str, total: int | None = None) -> Iterator[Advance]:
        clean_cache(0)
        yield ignore

    report = flow.compile(small(tmp_path), tmp_path / "out", array=(2, 2), samples=1, stage=stage)
    assert report.passed and cache_size()["compiled simulators"].entries > 0
