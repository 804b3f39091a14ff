"""The clock of a whole accelerator behind AXI on an ECP5-85F, and of each of its blocks by itself.

    python -m bench.clock ROWSxCOLUMNS [--maps WORDS] [--pe KIND] [--bus BITS] [--route]
    python -m bench.clock ROWSxCOLUMNS [...] --block all | --block BLOCK ...

Synthesised by Yosys and placed by nextpnr, with estimated delays of wires; routed as well with `--route`, which gives
the critical path from register to register, too. Pins are few, so all inputs come from a shift register and all outputs
leave, registered, through another one. A whole 2x2 takes some minutes to place. `--block` measures a block
instead, routed, in some seconds: of several of a kind the one with the widest ports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from flow.api.options import SIZE
from flow.errors import FlowError
from flow.files import scratch
from flow.hardware import blocks, synthesis
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit_wrapped, modules
from flow.hardware.synthesis import Hop, Pins, Timing
from flow.programs import first_answer

DEVICE = ("--85k", "--package", "CABGA756")
CELL = r"(\$|_(TRELLIS|CCU2C|LUT4|PFUMX|L6MUX21|DP16KD|MULT18X18D|INV)(_|$)).*"  # what Yosys and nextpnr add to names
SHOWN = ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D")
ALL = "all"
CLOCKS = ("clk", "aclk")
INSIDE = ("pe", "dense_pe", "parallel_pe", "pairs_pe", "walkers", "arbiter")  # of the array, of fetch and store


@dataclass(frozen=True)
class Design:
    """A module with what it instantiates, and its ports."""

    name: str
    top: str
    files: tuple[Path, ...]
    pins: Pins


def whole(config: ArrayConfig, axi: AxiConfig, folder: Path) -> Design:
    """The accelerator behind AXI, written to the folder."""
    _, wrapper = emit_wrapped(config, axi, folder)
    ports = {port.name: (port.bits, port.output) for port in wrapper.ports}
    return Design("whole", wrapper.name, wrapper.files, pins(ports))


def alone(config: ArrayConfig, axi: AxiConfig, folder: Path) -> list[Design]:
    """Its blocks, in the order of their files."""
    design = whole(config, axi, folder)
    named = {name for names in blocks.BLOCKS.values() for name in names} - set(INSIDE)
    found: dict[str, Design] = {}
    made = modules(config, axi)
    for file in design.files:
        module = made[file.stem]
        ports = {name: (len(signal), module.drives(name)) for name, signal in module.ports.items()}
        if module.function in named:
            each = Design(module.function, module.name, design.files, pins(ports))
            if module.function not in found or bits(each.pins) > bits(found[module.function].pins):
                found[module.function] = each
    return list(found.values())


def pins(ports: dict[str, tuple[int, bool]]) -> Pins:
    """Of ports' bits, and whether they are outputs."""
    clock = next(name for name in ports if name in CLOCKS)
    return Pins(
        clock,
        {name: width for name, (width, output) in ports.items() if not output and name != clock},
        {name: width for name, (width, output) in ports.items() if output},
    )


def bits(ports: Pins) -> int:
    """Of all ports."""
    return sum(ports.inputs.values()) + sum(ports.outputs.values())


def signals(path: Sequence[Hop]) -> list[str]:
    """The design's own signals on a path, without those that synthesis made: from a register to a register."""
    names = [re.sub(r"\[\d+\]$", "", hop.name.removeprefix("device.")) for hop in path if hop.routed]
    names = [name for name in names if not re.search(CELL, name)]
    if path:
        names += [re.sub(CELL, "", path[-1].name.removeprefix("device."))]  # of its cell, which is called by its output
    return [name for name, before in zip(names, ["", *names], strict=False) if name != before]


def described(design: Design, found: Timing) -> str:
    """The clock in one line, and in a second one the critical path, if it is known."""
    took = ", ".join(f"{count:,} {name}" for name, count in found.cells.items() if name in SHOWN)
    line = f"{design.name:16} {found.mhz:6.1f} MHz  {took}"
    if not found.path:
        return line
    wires = sum(hop.ns for hop in found.path if hop.routed)
    total = sum(hop.ns for hop in found.path)
    return f"{line}\n    {total:.1f} ns, of which {wires:.1f} on wires: {' > '.join(signals(found.path))}"


def measured(designs: Sequence[Design], route: bool) -> Iterator[str]:
    """What is printed: a paragraph for each design. FlowError if a tool is missing or fails."""
    for design in designs:
        yield described(design, synthesis.timing(design.files, design.top, design.pins, "ecp5", DEVICE, route))


def chosen(designs: Sequence[Design], names: Sequence[str]) -> list[Design]:
    """Those of these names, or all of them. FlowError if a name is none of them."""
    for name in names:
        if name != ALL and name not in {design.name for design in designs}:
            there = ", ".join(design.name for design in designs)
            raise FlowError(f"there is no block '{name}'; give --block {ALL}, or one of {there}")
    return [design for design in designs if ALL in names or design.name in names]


@click.command(help=__doc__)
@click.argument("size", metavar="ROWSxCOLUMNS")
@click.option("--maps", default=0, show_default=True, help="words of feature maps; 0: none")
@click.option("--pe", default="bitvert", show_default=True, help="the element: bitvert, dense, parallel or pairs")
@click.option("--bus", default=64, show_default=True, help="bits of the memory bus")
@click.option("--block", "names", multiple=True, help="one of its blocks by itself, routed, or all; may be repeated")
@click.option("--route", is_flag=True, help="route the whole, too, and show its critical path")
def main(size: str, maps: int, pe: str, bus: int, names: tuple[str, ...], route: bool) -> None:
    try:
        rows, columns = SIZE.parse(size)
        config, axi = ArrayConfig(rows, columns, pe, map_words=maps), AxiConfig(bus)
        routed = route or bool(names)
        print(
            f"{config.name} behind a bus of {bus} bits, {'placed and routed' if routed else 'placed'};"
            f" {first_answer([synthesis.yosys(), '-V'])}",
            flush=True,
        )
        with scratch() as folder:
            designs = chosen(alone(config, axi, folder), names) if names else [whole(config, axi, folder)]
            for paragraph in measured(designs, routed):
                print(paragraph, flush=True)
    except FlowError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
