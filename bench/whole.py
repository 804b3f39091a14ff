"""A whole accelerator behind AXI: what its blocks take, and the FPGAs that have as much.

    python -m bench.whole ROWSxCOLUMNS [--pe KIND] [--per-cycle COUNT] [--maps WORDS] [--liberty FILE] [--json FILE]

Every block in the cells of one library (Debian's qflow-tech-osu018, or a file of your own), its memories apart, in
bits; and of an ECP5, its memories block RAM where they are large. An accelerator without AXI is the same without those
blocks. A device "fits" by its published counts alone: nothing is placed or routed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from flow.api.options import SIZE
from flow.errors import FlowError
from flow.files import cache_folder, scratch
from flow.hardware import blocks, synthesis
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.blocks import CellBlock, Resources
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit_wrapped


@dataclass(frozen=True)
class Whole:
    """By block, what an accelerator takes: in cells of a library, and by family of FPGAs."""

    cells: dict[str, CellBlock]
    fpgas: dict[str, dict[str, Resources]]


def measure_whole(config: ArrayConfig, liberty: Path | None = None) -> Whole:
    """An accelerator behind AXI; without AXI it is the same without those blocks.

    FlowError if Yosys or the library is missing, or Yosys fails.
    """
    cells, cache = synthesis.library(liberty), cache_folder(None)
    with scratch() as folder:
        device, wrapper = emit_wrapped(config, AxiConfig(), folder)
        design = wrapper.files, wrapper.name, device.name
        return Whole(blocks.cell_blocks(*design, cells, cache), blocks.fpgas(*design, cache))


def blocks_table(found: Whole) -> Table:
    """Every block with its area in cells, over that of the elements, its share; and what it takes of an ECP5."""
    names = ("block", "area", "/ elements", "share", "memory bits", "LUT", "share", "FF", "BRAM", "DSP")
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name == "block" else "right", no_wrap=True)
    area = sum(block.area for block in found.cells.values())
    elements, takes = found.cells["elements"].area, blocks.whole(found.fpgas["ecp5"])
    bits = sum(block.memory_bits for block in found.cells.values())
    rows = {name: (block, found.fpgas["ecp5"][name]) for name, block in found.cells.items()}
    for name, (block, has) in {**rows, "whole": (CellBlock(area, bits), takes)}.items():
        luts, *others = map(round, astuple(has))
        table.add_row(
            name, f"{block.area:,.0f}", f"{block.area / elements:.2f}", f"{block.area / area:.1%}",
            f"{block.memory_bits:,}", f"{luts:,}", f"{luts / takes.luts:.1%}", *(f"{value:,}" for value in others),
        )  # fmt: skip
    return table


def fits(found: Whole, name: str) -> str:
    """`yes`, or `no` and what the device has too little of."""
    device = blocks.DEVICES[name]
    short = blocks.shortages(blocks.whole(found.fpgas[device.family]), device)
    lacking = [f"{each.resource.replace('_', '-')} {each.takes:,.0f} of {each.has:,.0f}" for each in short]
    return f"no: {', '.join(lacking)}" if lacking else "yes"


@click.command(help=__doc__)
@click.argument("size", metavar="ROWSxCOLUMNS")
@click.option("--pe", default="bitvert", show_default=True, help="the element: bitvert, dense, parallel or pairs")
@click.option("--per-cycle", default=1, show_default=True, help="bit columns that an element takes in a cycle")
@click.option("--maps", default=0, show_default=True, help="words of feature maps; 0: none")
@click.option("--liberty", type=click.Path(path_type=Path), help="a library of your own")
@click.option("--json", "file", type=click.Path(path_type=Path), help="the figures as JSON")
def main(size: str, pe: str, per_cycle: int, maps: int, liberty: Path | None, file: Path | None) -> None:
    try:
        rows, columns = SIZE.parse(size)
        config = ArrayConfig(rows, columns, pe, columns_per_cycle=per_cycle, map_words=maps)
        found = measure_whole(config, liberty)
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if file is not None:
        file.write_text(json.dumps(asdict(found), indent=1) + "\n")
    console = Console(width=150, highlight=False)
    console.print(blocks_table(found))
    for name, device in blocks.DEVICES.items():
        console.print(f"fits {name}: {fits(found, name)} ({device.source})")


if __name__ == "__main__":
    main()
