"""A whole accelerator in FPGAs: what its blocks take, and the devices that have as much.

Capacities are the data sheets': Lattice FPGA-DS-02012 (ECP5), FPGA-DS-02029 (iCE40 LP/HX), FPGA-DS-02008 (iCE40
UltraPlus), AMD DS180 (7 series), Gowin DS102 (GW2A). A device "fits" by these counts alone: nothing is placed or
routed.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.table import Table

from flow.hardware import synthesis
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit_wrapped
from flow.hardware.synthesis import Resources
from flow.programs import in_parallel

DEVICES: Final[dict[str, tuple[str, Resources]]] = {
    "ECP5-25k": ("ecp5", Resources(24_000, 24_000, 56, 28)),
    "ECP5-45k": ("ecp5", Resources(44_000, 44_000, 108, 72)),
    "ECP5-85k": ("ecp5", Resources(84_000, 84_000, 208, 156)),
    "iCE40 HX8K": ("ice40", Resources(7_680, 7_680, 32, 0)),
    "iCE40 UP5K": ("ice40", Resources(5_280, 5_280, 30, 8)),
    "Artix-7 35T": ("xilinx", Resources(20_800, 41_600, 50, 90)),
    "Artix-7 100T": ("xilinx", Resources(63_400, 126_800, 135, 240)),
    "Gowin GW2A-18": ("gowin", Resources(20_736, 15_552, 46, 48)),
}


def measure_whole(config: ArrayConfig) -> dict[str, dict[str, Resources]]:
    """By family, what each block of the accelerator behind AXI takes with all below it, the whole first.

    FlowError if Yosys is missing or fails.
    """
    synthesis.yosys()
    with tempfile.TemporaryDirectory() as folder:
        _, wrapper = emit_wrapped(config, AxiConfig(), Path(folder))
        found = in_parallel(lambda family: synthesis.whole(wrapper.files, wrapper.name, family), synthesis.FAMILIES)

    def plain(name: str) -> str:
        return name if name == wrapper.name else name.removeprefix(f"{config.name}_")

    blocks = ({plain(name): block for name, block in each.items()} for each in found)
    return dict(zip(synthesis.FAMILIES, blocks, strict=True))


def blocks_table(blocks: dict[str, Resources], least: float = 0.01) -> Table:
    """The blocks with a share of at least `least` of the lookup tables; each counts all that is below it."""
    table = Table(box=None, pad_edge=False)
    for name in ("block", "LUT", "FF", "BRAM", "DSP"):
        table.add_column(name, justify="left" if name == "block" else "right", no_wrap=True)
    total = next(iter(blocks.values())).luts
    for name, block in blocks.items():
        if block.luts >= least * total:
            table.add_row(name, *(f"{value:,g}" for value in map(round, asdict(block).values())))
    return table


def fits(blocks: dict[str, dict[str, Resources]], device: str) -> str:
    """`yes`, or `no` and what the device has too few of."""
    family, has = DEVICES[device]
    takes = next(iter(blocks[family].values()))
    lacking = [
        f"{name.replace('_', '-')} {value:,.0f} of {capacity:,.0f}"
        for (name, value), capacity in zip(asdict(takes).items(), asdict(has).values(), strict=True)
        if value > capacity
    ]
    return f"no: {', '.join(lacking)}" if lacking else "yes"
