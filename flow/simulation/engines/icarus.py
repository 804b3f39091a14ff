"""Icarus Verilog: the converted Verilog with a generated testbench, one process for each run."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from flow.errors import FlowError
from flow.hardware.interface import Device, Memory
from flow.simulation.engines.base import Command, DeviceError, Result, Scope, check_run
from flow.simulation.engines.testbench import read_outputs, verilog_testbench, write_command, write_inputs


class IcarusEngine:
    """Runs the device's Verilog under Icarus; see `flow.simulation.engines.base` for the contract."""

    name = "icarus"
    fast = False

    def available(self) -> str | None:
        if shutil.which("iverilog") and shutil.which("vvp"):
            return None
        return "Icarus Verilog (iverilog, vvp) not found on PATH: apt-get install iverilog"

    def version(self) -> str:
        return _version()

    def open(self, device: Device, cache: Path | None = None) -> IcarusSimulator:
        reason = self.available()
        if reason:
            raise FlowError(f"engine icarus: {reason}")
        return IcarusSimulator(device)


@cache
def _version() -> str:
    return subprocess.run(["iverilog", "-V"], check=True, capture_output=True, text=True).stdout.splitlines()[0]


class IcarusSimulator:
    """Compiles and runs in a new folder for every run, because the memory depths are in the testbench."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        return self._run(memories, command, writes)

    def record(
        self,
        memories: dict[str, Memory],
        command: Command,
        writes: dict[str, int],
        scopes: Sequence[Scope],
        file: Path,
    ) -> tuple[str, ...]:
        """As `run`, with a second top module that dumps the waveform; see `flow.simulation.engines.base`."""
        root = (f"tb_{self.device.name}", "dut")
        dumps = "".join(f"    $dumpvars({scope.levels}, {'.'.join((*root, *scope.path))});\n" for scope in scopes)
        dump = f'module dump;\ninitial begin\n    $dumpfile("{file.resolve()}");\n{dumps}end\nendmodule\n'
        with suppress(DeviceError):
            self._run(memories, command, writes, dump)
        return root

    def _run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int], dump: str = "") -> Result:
        read = check_run(self.device, memories, command, writes)
        depths = writes | {name: len(memory) for name, memory in read.items()}
        bench = verilog_testbench(self.device.name, self.device.ports, depths)
        sources = [str(path.resolve()) for path in self.device.files]
        tops = ["-s", f"tb_{self.device.name}", *(["-s", "dump"] if dump else [])]
        with tempfile.TemporaryDirectory(prefix="bbs-icarus-") as temporary:
            folder = Path(temporary)
            (folder / "bench.sv").write_text(bench + dump)
            write_inputs(folder, read)
            write_command(folder, self.device.ports, depths, command)
            self._call(["iverilog", "-g2012", *tops, "-o", "bench", *sources, "bench.sv"], folder)
            output = self._call(["vvp", "-n", "bench"], folder)
            return read_outputs(folder, output, self.device, "icarus", depths, command.limit)

    def _call(self, command: list[str], folder: Path) -> str:
        done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{command[0]} on {self.device.name} failed:\n{(done.stdout + done.stderr)[-4000:]}")
        return done.stdout
