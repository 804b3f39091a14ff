"""The accelerator behind AXI, simulated: host and memory of axi_bench.sv.j2, under Verilator or Icarus Verilog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flow.errors import FlowError
from flow.files import cache_folder, scratch
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.emit import Wrapper
from flow.hardware.fields import ERRORS
from flow.hardware.interface import Memory
from flow.programs import last_words, run
from flow.simulation.engines.base import Command, DeviceError, Result, start_seed
from flow.simulation.engines.icarus import IcarusEngine
from flow.simulation.engines.testbench import axi_testbench, bus_bytes, read_hex, write_command, write_inputs
from flow.simulation.engines.verilator import RANDOM, VerilatorEngine, build_bench

SEED = 1  # of the pauses
LEAST = 2**20  # bytes of the memory on the bus


@dataclass(frozen=True)
class Wrapped:
    """The wrapper around an accelerator of these parameters, and the engine that simulates it."""

    wrapper: Wrapper
    config: ArrayConfig
    engine: str

    def run(self, memories: Mapping[str, Memory], command: Command, output_words: int) -> Result:
        """One run, started by the registers: the cycles that the register has, and the output memory.

        DeviceError if the run does not end (`command.limit` is that of the accelerator alone), ends with an error, or
        breaks a rule of the bus.
        """
        ports = memory_ports(self.config)
        words = {name: len(memory) for name, memory in memories.items()} | {"output": output_words}
        end = bus_bytes(self.config, self.wrapper.axi, words)
        room = max(LEAST, 1 << (end - 1).bit_length()) if self.engine == "verilator" else end  # few to compile
        bench = axi_testbench(self.wrapper.name, self.config, self.wrapper.axi, room)
        with scratch() as folder:
            write_inputs(folder, memories)
            write_command(folder, ports, words, command)
            printed = self._simulate(bench, folder, start_seed(memories, command))
            return self._result(printed, folder)

    def _simulate(self, bench: str, folder: Path, start: int) -> str:
        """What the bench printed; registers and memories begin at random, drawn from the seed `start`, in Verilator."""
        top = f"tb_{self.wrapper.name}"
        task = f"on {self.wrapper.name}"
        files = [path.resolve() for path in self.wrapper.files]
        if self.engine == "verilator":
            program, held = build_bench(top, files, bench, cache_folder(None))
            try:
                begun = [each.format(start) for each in RANDOM]
                return run([str(program), f"+seed={SEED}", *begun], task, folder=folder, temporary=folder)
            finally:
                held.release()
        (folder / "bench.sv").write_text(bench)
        compiler = ["iverilog", "-g2012", "-s", top, "-o", "bench", *map(str, files), "bench.sv"]
        run(compiler, task, folder=folder, temporary=folder)
        return run(["vvp", "-n", "bench", f"+seed={SEED}"], task, folder=folder, temporary=folder)

    def _result(self, printed: str, folder: Path) -> Result:
        name = f"{self.wrapper.name}, {self.engine}"
        (size,) = (port.bytes for port in memory_ports(self.config) if port.lanes)
        for line in printed.splitlines():
            match line.split():
                case ["CYCLES", cycles]:
                    try:
                        return Result(int(cycles), {"output": read_hex(folder / "output.out.hex", size)})
                    except RuntimeError as error:
                        raise DeviceError(f"{name}: {error}") from None
                case ["ERROR", code, cycle]:
                    what, meaning = ERRORS[int(code)] if int(code) < len(ERRORS) else ("", "")
                    raise DeviceError(
                        f"{name}: error {code} at cycle {cycle}" + (f" ({what}: {meaning})" if what else "")
                    )
                case ["LIMIT", cycle]:
                    raise DeviceError(f"{name}: no interrupt by cycle {cycle}, the limit")
                case ["REGISTER", offset, value]:
                    raise DeviceError(f"{name}: the register at {int(offset):#x} reads {value}, which is wrong")
                case ["RULE", *rule]:
                    raise DeviceError(f"{name}: {' '.join(rule)}")
        raise FlowError(f"{self.engine} ended the simulation of {self.wrapper.name} without a result: "
                        f"{last_words(printed)}; 'bbs doctor' shows its version")  # fmt: skip


def engine_behind_axi(chosen: str, brief: bool) -> str | None:
    """The engine for the Verilog behind AXI: the chosen one if it runs Verilog, else one that is there, or None.

    Of a `brief` run what counts is how long a simulator takes to compile: Icarus Verilog, if it is there.
    """
    there = {engine.name: engine for engine in (VerilatorEngine(), IcarusEngine())}
    order = ["icarus"] if brief else []
    order += [chosen] if chosen in there else []
    return next((name for name in [*order, *there] if there[name].available() is None), None)
