"""GHDL: the converted VHDL with a generated testbench, one process for each run."""

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
from flow.simulation.engines import fst
from flow.simulation.engines.base import Command, DeviceError, Result, Scope, check_run
from flow.simulation.engines.testbench import read_outputs, vhdl_testbench, write_command, write_inputs

DUMPED, WAVE_OPTIONS = "waves.opt", "$ version 1.1"  # the file of what to dump, and its first line
RUN = ("--max-stack-alloc=0", "--ieee-asserts=disable")


class GhdlEngine:
    """Runs the device's VHDL under GHDL; see `flow.simulation.engines.base` for the contract."""

    name = "ghdl"
    fast = False

    def available(self) -> str | None:
        return None if shutil.which("ghdl") else "GHDL (ghdl) not found on PATH: apt-get install ghdl"

    def version(self) -> str:
        return _version(shutil.which("ghdl"))

    def open(self, device: Device, cache: Path | None = None) -> GhdlSimulator:
        reason = self.available()
        if reason:
            raise FlowError(f"engine ghdl: {reason}")
        return GhdlSimulator(device)


@lru_cache(maxsize=1)
def _version(program: str | None) -> str:
    assert program, "call available() first"
    return first_answer([program, "--version"])


class GhdlSimulator:
    """Analyses and runs in a new folder for every run, because the memory depths are in the testbench."""

    language = "VHDL"

    def __init__(self, device: Device) -> None:
        self.device = device

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        return self._run(memories, command, writes)

    def from_zeros(self) -> GhdlSimulator:
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
        """As `run`, with a list of what to dump; see `flow.simulation.engines.base`."""
        root = (f"tb_{self.device.name}", "dut")
        lines = [f"/{'/'.join((*root, *scope.path))}/{'*' if scope.levels else '**'}" for scope in scopes]
        with suppress(DeviceError):
            self._run(memories, command, writes, lines, file)
        if file.suffix != ".fst":
            return root
        topmost = next((each.scopes[0] for each in fst.declarations(file) if each.scopes), root[0])
        return root[root.index(topmost) :]  # FST of GHDL 2 has no scope for the testbench

    def _run(
        self, memories: dict[str, Memory], command: Command, writes: dict[str, int], dumped: Sequence[str] = (),
        file: Path | None = None,
    ) -> Result:  # fmt: skip
        read = check_run(self.device, memories, command, writes)
        depths = writes | {name: len(memory) for name, memory in read.items()}
        bench = vhdl_testbench(self.device.name, self.device.ports, depths)
        sources = [str(path.resolve()) for path in self.device.vhdl_files]
        with scratch() as folder:
            (folder / "bench.vhd").write_text(bench)
            write_inputs(folder, read)
            write_command(folder, self.device.ports, depths, command)
            bench_top, task = f"tb_{self.device.name}", f"on {self.device.name}"
            run(["ghdl", "-a", "--std=08", *sources, "bench.vhd"], task, folder=folder, temporary=folder)
            call = ["ghdl", "--elab-run", "--std=08", bench_top, *RUN]
            if file is not None:
                (folder / DUMPED).write_text("\n".join([WAVE_OPTIONS, *dumped, ""]))
                call += [f"--{file.suffix.removeprefix('.')}={file.resolve()}", f"--read-wave-opt={DUMPED}"]
            output = run(call, task, folder=folder, temporary=folder)
            return read_outputs(folder, output, self.device, "ghdl", depths, command.limit)
