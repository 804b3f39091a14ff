"""Icarus Verilog: the converted Verilog with a generated testbench, one process for each run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from flow.errors import FlowError
from flow.files import scratch
from flow.hardware.interface import Device, Memory
from flow.programs import first_answer, run
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
        return _version(shutil.which("iverilog"))

    def open(self, device: Device, cache: Path | None = None) -> IcarusSimulator:
        reason = self.available()
        if reason:
            raise FlowError(f"engine icarus: {reason}")
        return IcarusSimulator(device)


@lru_cache(maxsize=1)
def _version(program: str | None) -> str:
    assert program, "call available() first"
    return first_answer([program, "-V"])


class IcarusSimulator:
    """Compiles and runs in a new folder for every run, because the memory depths are in the testbench."""

    language = "Verilog"

    def __init__(self, device: Device) -> None:
        self.device = device

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        return self._run(memories, command, writes)

    def from_zeros(self) -> IcarusSimulator:
        return self

    def refuses(self, form: str) -> str | None:
        return None

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
            self._run(memories, command, writes, dump, ("-fst",) if file.suffix == ".fst" else ())
        return root

    def _run(
        self, memories: dict[str, Memory], command: Command, writes: dict[str, int], dump: str = "",
        options: Sequence[str] = (),
    ) -> Result:  # fmt: skip
        read = check_run(self.device, memories, command, writes)
        depths = writes | {name: len(memory) for name, memory in read.items()}
        bench = verilog_testbench(self.device.name, self.device.ports, depths)
        sources = [str(path.resolve()) for path in self.device.files]
        tops = ["-s", f"tb_{self.device.name}", *(["-s", "dump"] if dump else [])]
        with scratch() as folder:
            (folder / "bench.sv").write_text(bench + dump)
            write_inputs(folder, read)
            write_command(folder, self.device.ports, depths, command)
            task = f"on {self.device.name}"
            compiler = ["iverilog", "-g2012", *tops, "-o", "bench", *sources, "bench.sv"]
            run(compiler, task, folder=folder, temporary=folder)
            output = run(["vvp", "-n", "bench", *options], task, folder=folder, temporary=folder)
            return read_outputs(folder, output, self.device, "icarus", depths, command.limit)
