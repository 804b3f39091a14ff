"""Area and clock rate of the processing elements, by open synthesis, beside the paper's tables IV and V.

    python -m bench.area [--liberty FILE] [--fabric] [--fmax] [--json FILE]

Every PE in the cells of one library (Debian's qflow-tech-osu018, or a file of your own), flip-flops mapped, as ratios
to the dense PE with 8 and with 16 lanes. "alone" is the PE as it stands in the array: the activations come from
registers that a row of PEs shares, the chosen bits from what a column shares. "registered" adds registers for all
its inputs, alike for all. "parallel" is one plain INT8 multiplier with an accumulator, one weight a cycle, "plain_8" a
dot product of eight, "pairs_2" the pairs element with two bit columns a cycle. Of these arrays the area of an element
with its share of what rows and columns have in common is printed, too, and throughput per area. `--fabric`
adds lookup tables and flip-flops of ECP5 and iCE40, `--fmax` the clock rate that nextpnr reaches. Whole accelerators
are `bench.whole`'s.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.paper.published import PE_AREA, PE_VARIANTS
from flow.errors import FlowError
from flow.hardware import synthesis
from flow.hardware.competitors.catalogue import (
    COLUMN_CONTROL,
    ELEMENTS,
    OCTET_REGISTER,
    OPERANDS,
    OURS,
    PAIR_TABLES,
    PAIRS,
    PAIRS_CONTROLS,
    PARALLEL,
    PLAINS,
    REQUANTIZER,
    SCHEDULER,
    VARIANTS,
    Element,
)
from flow.hardware.config import ArrayConfig
from flow.hardware.synthesis import Area, Fabric

ROWS, COLUMNS = 16, 32
ARRAYS = ((16, 32), (8, 8))
PRUNED = (0, 1, 2, 3, 4)  # bit columns
FAMILIES = ("ecp5", "ice40")
IN_ARRAYS = (
    OURS,
    *PLAINS,
    *PAIRS,
    OPERANDS,
    COLUMN_CONTROL,
    PAIR_TABLES,
    *PAIRS_CONTROLS,
    OCTET_REGISTER,
)  # of `arrays`
PLAIN = {"stripes_8": 1, "stripes_16": 2, PARALLEL.name: 1}  # elements without skipping, and their weights a cycle


@dataclass(frozen=True)
class Measured:
    """One block: in cells alone and with its inputs registered, in FPGA cells, MHz by family (empty: not asked for)."""

    name: str
    alone: Area
    registered: Area
    fabric: dict[str, Fabric]
    mhz: dict[str, float]


def measure(
    elements: Sequence[Element], liberty: Path | None = None, fabric: bool = False, fmax: bool = False
) -> dict[str, Measured]:
    """The blocks by name, two at a time. FlowError if a tool or the library is missing."""
    cells, _ = synthesis.library(liberty), synthesis.yosys()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        files = {element.name: element.verilog(Path(folder) / element.name) for element in elements}
        jobs = [pool.submit(_measure, element, files[element.name], cells, fabric, fmax) for element in elements]
        return {job.result().name: job.result() for job in jobs}


def _measure(element: Element, files: Sequence[Path], liberty: Path, fabric: bool, fmax: bool) -> Measured:
    wrapper = files[0].parent / f"{element.name}_registered.v"
    wrapper.write_text(registered(element))
    return Measured(
        element.name,
        synthesis.area(files, element.name, liberty),
        synthesis.area([*files, wrapper], f"{element.name}_registered", liberty),
        {family: synthesis.fabric(files, element.name, family) for family in FAMILIES} if fabric else {},
        {
            family: synthesis.clock_rate(files, element.name, family, dict(element.ports), element.outputs)
            for family in FAMILIES
            if synthesis.tool(synthesis.NEXTPNR[family])
        }
        if fmax
        else {},
    )


def registered(element: Element) -> str:
    """A module around the element that registers all its inputs."""
    inputs = {name: width for name, width in element.ports.items() if name not in element.outputs and name != "clk"}
    ports = ["input clk"]
    ports += [f"input [{width - 1}:0] {name}" for name, width in inputs.items()]
    ports += [f"output [{element.ports[name] - 1}:0] {name}" for name in element.outputs]
    registers = [f"reg [{width - 1}:0] {name}_reg;" for name, width in inputs.items()]
    copies = " ".join(f"{name}_reg <= {name};" for name in inputs)
    pins = [
        ".clk(clk)",
        *(f".{name}({name}_reg)" for name in inputs),
        *(f".{name}({name})" for name in element.outputs),
    ]
    return "\n".join([
        f"module {element.name}_registered({', '.join(ports)});", *registers,
        f"always @(posedge clk) begin {copies} end", f"{element.name} device({', '.join(pins)});", "endmodule", "",
    ])  # fmt: skip


@dataclass(frozen=True)
class Ratios:
    """A block's area over the dense PE's with 8 and with 16 lanes, alone and registered."""

    alone_8: float
    alone_16: float
    registered_8: float
    registered_16: float


def ratios(blocks: dict[str, Measured], name: str) -> Ratios:
    block, eight, sixteen = blocks[name], blocks["stripes_8"], blocks["stripes_16"]
    return Ratios(
        block.alone.area / eight.alone.area,
        block.alone.area / sixteen.alone.area,
        block.registered.area / eight.registered.area,
        block.registered.area / sixteen.registered.area,
    )


def shared(blocks: dict[str, Measured]) -> dict[str, float]:
    """What a column's two schedulers and a row's operand registers add to each PE, relative to the PE's own area."""
    own = blocks[OURS.name].alone.area
    return {
        "schedulers": 2 * blocks[SCHEDULER.name].alone.area / ROWS / own,
        "operand registers": blocks[OPERANDS.name].alone.area / COLUMNS / own,
    }


def per_area(blocks: dict[str, Measured], plain: str) -> dict[int, float]:
    """Weights per cycle and area of our PE at N = 0, 2, 4, relative to a PE without skipping, both alone."""
    of_a_weight = blocks[plain].alone.area / PLAIN[plain]
    return {n: 16 / (8 - n) * of_a_weight / blocks[OURS.name].alone.area for n in (0, 2, 4)}


@dataclass(frozen=True)
class InArray:
    """A kind of array: its elements, what a row and a column of them share, and weights per cycle by columns pruned.

    Shares are blocks, and octets of registers: operands on their way, and the words that the buffers show.
    """

    element: str
    row: str | None
    row_octets: int
    column: str | None
    column_octets: int
    rates: dict[int, float]

    def area(self, blocks: dict[str, Measured], rows: int, columns: int) -> float:
        """Of one element with its share of an array of this size."""
        octet = blocks[OCTET_REGISTER.name].alone.area
        row, column = (blocks[name].alone.area if name else 0 for name in (self.row, self.column))
        return (
            blocks[self.element].alone.area
            + (row + self.row_octets * octet) / columns
            + (column + self.column_octets * octet) / rows
        )


def kinds() -> list[InArray]:
    """Arrays of plain, BitVert and pairs elements; plain ones keep operands in two registers, as ours do."""
    bits = {n: ArrayConfig().slices(8 - n) for n in PRUNED}
    made = [InArray(plain.name, None, 3 * 2**i, None, 3 * 2**i, dict.fromkeys(PRUNED, 2.0**i))
            for i, plain in enumerate(PLAINS)]  # fmt: skip
    made.append(InArray(OURS.name, OPERANDS.name, 16, COLUMN_CONTROL.name, 3, {n: 16 / bits[n] for n in PRUNED}))
    for element, control, per_cycle in zip(PAIRS, PAIRS_CONTROLS, (1, 2, 4), strict=True):
        config = ArrayConfig(pe="pairs", columns_per_cycle=per_cycle)
        rates = {n: config.step / config.slices(8 - n) for n in PRUNED}
        made.append(InArray(element.name, PAIR_TABLES.name, 16, control.name, 2 * per_cycle + 1, rates))
    return made


def arrays(blocks: dict[str, Measured], rows: int, columns: int) -> dict[str, tuple[float, dict[int, float]]]:
    """By element: its area with its share, and area for one weight a cycle by columns pruned."""
    found = {}
    for kind in kinds():
        area = kind.area(blocks, rows, columns)
        found[kind.element] = area, {n: area / rate for n, rate in kind.rates.items()}
    return found


def _arrays_table(blocks: dict[str, Measured], rows: int, columns: int) -> Table:
    found = arrays(blocks, rows, columns)
    ours = found[OURS.name][1]
    table = Table(box=None, pad_edge=False)
    for name in (
        f"{rows} x {columns}",
        "area with its share",
        *(f"N = {n}" for n in PRUNED),
        "over bitvert, N = 0",
        "4",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for name, (area, each) in found.items():
        table.add_row(
            name, f"{area:,.0f}", *(f"{each[n]:,.0f}" for n in PRUNED), *(f"{ours[n] / each[n]:.2f}" for n in (0, 4))
        )
    return table


@click.command(help=__doc__)
@click.option("--liberty", type=click.Path(path_type=Path), help="a library of your own")
@click.option("--fabric", is_flag=True, help="ECP5 and iCE40 cells, too")
@click.option("--fmax", is_flag=True, help="clock rates, by nextpnr where it is installed")
@click.option("--json", "file", type=click.Path(path_type=Path), help="the figures as JSON")
def main(liberty: Path | None, fabric: bool, fmax: bool, file: Path | None) -> None:
    try:
        alone = [*ELEMENTS, PARALLEL, *PLAINS, *PAIRS, *VARIANTS]
        shared_by = [SCHEDULER, OPERANDS, COLUMN_CONTROL, PAIR_TABLES, *PAIRS_CONTROLS, OCTET_REGISTER]
        blocks = measure([*alone, *shared_by, REQUANTIZER], liberty, fabric, fmax)
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if file is not None:
        file.write_text(json.dumps({name: asdict(block) for name, block in blocks.items()}, indent=1) + "\n")
    console = Console(width=150)
    console.print(_table(blocks, fabric, fmax))
    for name, share in shared(blocks).items():
        console.print(f"{name} of a 16 x 32 array, shared: {share:.1%} of a PE's area each")
    for plain in PLAIN:
        rates = ", ".join(f"N = {n}: {rate:.2f}" for n, rate in per_area(blocks, plain).items())
        console.print(f"throughput per area over {plain}: {rates}")
    console.print("Area for one weight a cycle, and throughput per area over bitvert, in arrays:")
    for size in ARRAYS:
        console.print(_arrays_table(blocks, *size))


def _table(blocks: dict[str, Measured], fabric: bool, fmax: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    names = ["PE", "area", "cells", "flip-flops", "transistors", "/ 8 lanes", "/ 16", "registered / 8", "/ 16", "paper"]
    names += [f"{family} LUT4, FF" for family in FAMILIES] if fabric else []
    names += [f"{family} MHz" for family in FAMILIES] if fmax else []
    for name in names:
        table.add_column(name, justify="left" if name == "PE" else "right", no_wrap=True)
    for name, block in blocks.items():
        relative = ratios(blocks, name)
        row = [
            name, f"{block.alone.area:,.0f}", f"{block.alone.cells:,}", str(block.alone.flip_flops),
            f"{block.alone.transistors:,}", *(f"{value:.2f}" for value in asdict(relative).values()), _paper(name),
        ]  # fmt: skip
        if fabric:
            row += [f"{block.fabric[family].luts}, {block.fabric[family].flip_flops}" for family in FAMILIES]
        if fmax:
            row += [f"{block.mhz[family]:.0f}" if family in block.mhz else "–" for family in FAMILIES]
        table.add_row(*row)
    return table


def _paper(name: str) -> str:
    """The paper's ratio to its own Stripes PE."""
    if name.startswith("bitvert_"):
        group, kind = name.removeprefix("bitvert_").split("_")
        area = PE_VARIANTS[int(group)][kind == "optimized"][0]
    elif name in PE_AREA or name == "stripes_8":
        area = PE_AREA[name.removesuffix("_8")]
    else:
        return "–"
    return f"{area / PE_AREA['stripes']:.2f}"


if __name__ == "__main__":
    main()
