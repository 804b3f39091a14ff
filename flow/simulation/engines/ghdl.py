"""GHDL: the converted VHDL with a generated testbench, one process for each run."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from flow.errors import FlowError
from flow.hardware.interface import Device, Memory
from flow.simulation.engines.base import Command, Result, check_run
from flow.simulation.engines.testbench import read_outputs, vhdl_testbench, write_command, write_inputs

RUN = ("--max-stack-alloc=0", "--ieee-asserts=disable")


class GhdlEngine:
    """Runs the device's VHDL under GHDL; see `flow.simulation.engines.base` for the contract."""

    name = "ghdl"
    fast = False

    def available(self) -> str | None:
        return None if shutil.which("ghdl") else "GHDL (ghdl) not found on PATH: apt-get install ghdl"

    def version(self) -> str:
        return _version()

    def open(self, device: Device, cache: Path | None = None) -> GhdlSimulator:
        reason = self.available()
        if reason:
            raise FlowError(f"engine ghdl: {reason}")
        return GhdlSimulator(device)


@cache
def _version() -> str:
    return subprocess.run(["ghdl", "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]


class GhdlSimulator:
    """Analyses and runs in a new folder for every run, because the memory depths are in the testbench."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        read = check_run(self.device, memories, command, writes)
        depths = writes | {name: len(memory) for name, memory in read.items()}
        bench = vhdl_testbench(self.device.name, self.device.ports, depths)
        sources = [str(path.resolve()) for path in self.device.vhdl_files]
        with tempfile.TemporaryDirectory(prefix="bbs-ghdl-") as temporary:
            folder = Path(temporary)
            (folder / "bench.vhd").write_text(bench)
            write_inputs(folder, read)
            write_command(folder, self.device.ports, depths, command)
            self._call(["ghdl", "-a", "--std=08", *sources, "bench.vhd"], folder)
            output = self._call(["ghdl", "--elab-run", "--std=08", f"tb_{self.device.name}", *RUN], folder)
            return read_outputs(folder, output, self.device, "ghdl", depths, command.limit)

    def _call(self, command: list[str], folder: Path) -> str:
        done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{command[0]} on {self.device.name} failed:\n{(done.stdout + done.stderr)[-4000:]}")
        return done.stdout
