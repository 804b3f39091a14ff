"""soc/example of a build: the processor runs the network on the accelerator, and a wrong byte fails the program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

import flow
from tests.helpers.nets import small
from tests.helpers.networks import KINDS, quantized
from tests.helpers.tools import quick_engine, require_module, require_tool, verilator


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` in soc/example, with this Python and the Verilator of the engines."""
    require_tool("make")
    for module in ("pythondata_cpu_picorv32", "ziglang"):
        require_module(module)
    program, environment = verilator()
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = ["make", "-C", str(folder / "soc" / "example"), f"PYTHON={sys.executable}", f"VERILATOR={program}"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, check=False)


def built(folder: Path, kind: str | None, **options: Any) -> Path:
    model = small(folder)
    if kind:
        model = folder / "net.onnx"
        onnx.save(quantized(KINDS[kind]()).model, str(model))
    flow.compile(
        model, folder / "out", array=(2, 2), engine=quick_engine(), samples=1, soc=True, on_chip=bool(kind), **options
    )
    return folder / "out"


@pytest.mark.full
@pytest.mark.parametrize(("kind", "bus"), [(None, 64), ("residual", 128)])
def test_it_runs_and_can_fail(kind: str | None, bus: int, tmp_path: Path) -> None:
    """Layer by layer and on chip, with and without stalls: a line for each run, cycles that stalls make more, PASS."""
    build = built(tmp_path, kind, bus=bus)
    cycles = []
    for stalls in (0, 7):
        done = make(build, "sim", f"STALLS={stalls}")
        assert done.returncode == 0 and "PASS" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
        assert "arning" not in done.stderr, done.stderr
        runs = re.findall(
            r"^(\S+): (\d+) cycles \((\d+) with ideal memories\), results as expected$", done.stdout, re.M
        )
        folders = (
            ["network"] if kind else [path.name for path in sorted((build / "vectors").iterdir()) if path.is_dir()]
        )
        assert len(runs) == len(folders)
        assert all(int(real) > int(ideal) for _, real, ideal in runs)
        assert ("largest of" in done.stdout) == bool(kind)
        cycles.append(sum(int(real) for _, real, _ in runs))
    assert cycles[1] > cycles[0]
    expected = build / ("network" if kind else f"vectors/{folders[-1]}") / "output.expected.bin"
    data = bytearray(expected.read_bytes())
    data[-1] ^= 1
    expected.write_bytes(data)
    done = make(build, "sim")
    assert done.returncode != 0 and "FAIL" in done.stdout
    assert done.stdout.count("results differ") == 1


def test_it_says_what_is_missing(tmp_path: Path) -> None:
    """Files are written on demand alone; without a processor there is one line."""
    build = built(tmp_path, None, coverage=0)
    place = build / "soc" / "example"
    assert {path.suffix for path in place.iterdir()} == {".c", ".S", ".ld", ".v", ""}
    done = make(build, "run/verilator/soc", "PICORV32=")
    assert done.returncode != 0 and "no PicoRV32: pip install pythondata-cpu-picorv32" in done.stdout
    shutil.rmtree(build)
    flow.compile(tmp_path / "small.onnx", build, array=(2, 2), engine=quick_engine(), samples=1, coverage=0)
    assert not place.exists()
