"""What a whole accelerator takes, block by block: standard cells and FPGAs; and the FPGAs that have as much.

A device "fits" by these counts alone: nothing is placed or routed. Nothing is shared or removed across modules.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Final

from flow.hardware.synthesis import Module, cell_modules, instances, modules
from flow.programs import in_parallel

FAMILIES: Final[Mapping[str, str]] = {  # how a whole design is synthesised, module by module
    "ecp5": "synth_ecp5 -noflatten",
    "ice40": "synth_ice40 -noflatten",
    "xilinx": "synth_xilinx -noiopad -noclkbuf",
    "gowin": "synth_gowin -noflatten -noiopads",
}
# What a cell takes: lookup tables (Artix-7: of 6 inputs, else of 4), flip-flops, block memories, multipliers. A carry
# is in the cell of its lookup table on iCE40 and Artix-7; multiplexers between lookup tables take none.
CELL_COSTS: Final[tuple[tuple[str, tuple[float, float, float, float]], ...]] = (
    ("LUT[1-6]|SB_LUT4|INV|SRL16E|SRLC32E", (1, 0, 0, 0)),
    ("CCU2C", (2, 0, 0, 0)),
    ("ALU", (1, 0, 0, 0)),
    ("TRELLIS_DPR16X4", (6, 0, 0, 0)),  # three slices
    ("RAM16SDP4|RAM32M|RAM64M|RAM128X1D", (4, 0, 0, 0)),
    ("RAM32X1D|RAM64X1D|RAM16SDP2", (2, 0, 0, 0)),
    ("RAM16SDP1", (1, 0, 0, 0)),
    ("TRELLIS_FF|SB_DFF.*|FD[RSCP]E(_1)?|DFF.*", (0, 1, 0, 0)),
    ("DP16KD|SB_RAM40_4K.*|RAMB36E1|SDPX?9?B?|DPX?9?B?|SPX?9?B?", (0, 0, 1, 0)),
    ("RAMB18E1", (0, 0, 0.5, 0)),
    ("MULT18X18D|SB_MAC16|DSP48E1|MULT\\d+X\\d+", (0, 0, 0, 1)),
)
# Blocks by the modules that they begin with; what is below belongs to them, too, up to the next one named here. Below
# the accelerator's top, a module that is not here is a block of its own, with its own name.
BLOCKS: Final[Mapping[str, tuple[str, ...]]] = {
    "elements": ("pe", "dense_pe", "parallel_pe", "pairs_pe"),
    "operands, schedulers": ("bitvert_array", "dense_array", "parallel_array", "pairs_array"),
    "requantizers": ("requantizer",),
    "write-back": ("write_back",),
    "post-processing": ("post",),
    "tables": ("tables",),
    "map banks": ("banks",),
    "map fetch": ("fetch",),
    "map store": ("store",),
    "map walkers": ("walkers",),
    "map arbiters": ("arbiter",),
    "streams": ("stream",),
    "controllers": ("dispatcher", "guard", "sequencer", "drain_control"),
    "AXI reads": ("axi_read", "axi_requests", "axi_ahead"),
    "AXI writes": ("axi_write",),
    "AXI registers": ("axi_lite", "axi_control", "axi_wait"),
}
REST: Final = "rest"  # of the tops themselves
_BLOCK_OF: Final = {name: block for block, names in BLOCKS.items() for name in names}


@dataclass(frozen=True)
class Resources:
    """What a block takes of an FPGA, or what one has: lookup tables, flip-flops, block memories, multipliers."""

    luts: float = 0
    flip_flops: float = 0
    memories: float = 0
    multipliers: float = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, count: int) -> Resources:
        return Resources(*(value * count for value in astuple(self)))


@dataclass(frozen=True)
class Fpga:
    """An FPGA, and where its capacity is published."""

    family: str
    has: Resources
    source: str


_TRELLIS = "Lattice FPGA-DS-02012 (ECP5); lookup tables and flip-flops as nextpnr-ecp5 has them"
_ARTIX, _GW2A, _GW5A = "AMD DS180 (7 series)", "Gowin DS102 (GW2A)", "Gowin DS1103 (GW5A)"
DEVICES: Final[Mapping[str, Fpga]] = {
    "ECP5-25": Fpga("ecp5", Resources(24_288, 24_288, 56, 28), _TRELLIS),
    "ECP5-45": Fpga("ecp5", Resources(43_848, 43_848, 108, 72), _TRELLIS),
    "ECP5-85": Fpga("ecp5", Resources(83_640, 83_640, 208, 156), _TRELLIS),
    "iCE40 UP5K": Fpga("ice40", Resources(5_280, 5_280, 30, 8), "Lattice FPGA-DS-02008 (iCE40 UltraPlus)"),
    "iCE40 HX8K": Fpga("ice40", Resources(7_680, 7_680, 32, 0), "Lattice FPGA-DS-02029 (iCE40 LP/HX)"),
    "Artix-7 35T": Fpga("xilinx", Resources(20_800, 41_600, 50, 90), _ARTIX),
    "Artix-7 100T": Fpga("xilinx", Resources(63_400, 126_800, 135, 240), _ARTIX),
    "Gowin GW2A-18": Fpga("gowin", Resources(20_736, 15_552, 46, 48), _GW2A),
    "Gowin GW5A-25": Fpga("gowin", Resources(23_040, 23_040, 56, 28), _GW5A),
}


@dataclass(frozen=True)
class Shortage:
    """What a device has too little of."""

    resource: str
    takes: float
    has: float


def shortages(takes: Resources, device: Fpga) -> tuple[Shortage, ...]:
    """What the device has too little of; none if the design fits."""
    pairs = ((each.name, getattr(takes, each.name), getattr(device.has, each.name)) for each in fields(Resources))
    return tuple(Shortage(name, value, has) for name, value, has in pairs if value > has)


def resources(module: Module) -> Resources:
    """What the cells of one module take."""
    total = Resources()
    for name, count in module.cells.items():
        cost = next((Resources(*cost) for kind, cost in CELL_COSTS if re.fullmatch(kind, name)), Resources())
        total += cost * count
    return total


def in_blocks(files: Sequence[Path], top: str, accelerator: str) -> Counter[tuple[str, str]]:
    """How often each module is there in each block, below `top`; `accelerator` is the name that modules begin with."""
    texts = {file.stem: file.read_text() for file in files}
    inside = {name: instances(text, texts) for name, text in texts.items()}

    def block_of(name: str, parent: str) -> str:
        if name in (top, accelerator):
            return REST
        bare = re.sub(r"_\d+$", "", name.removeprefix(f"{accelerator}_"))
        return _BLOCK_OF.get(bare, bare if parent == REST else parent)

    @lru_cache
    def below(name: str, block: str) -> Counter[tuple[str, str]]:
        found = Counter({(block, name): 1})
        for child, count in inside[name].items():
            for key, times in below(child, block_of(child, block)).items():
                found[key] += count * times
        return found

    return below(top, REST)


def _ordered(blocks: set[str]) -> list[str]:
    """Those of `BLOCKS` in its order, then others, the tops last."""
    named = [block for block in BLOCKS if block in blocks]
    return [*named, *sorted(blocks - {*named, REST}), *(block for block in (REST,) if block in blocks)]


def fpga_blocks(files: Sequence[Path], top: str, accelerator: str, family: str, cache: Path) -> dict[str, Resources]:
    """What each block takes of an FPGA of this family, one of `FAMILIES`. FlowError if Yosys is missing or fails."""
    there = in_blocks(files, top, accelerator)
    own = {
        name: resources(module) for name, module in modules(files, top, f"{FAMILIES[family]} -top {top}", cache).items()
    }
    total = {block: Resources() for block in _ordered({block for block, _ in there})}
    for (block, name), count in there.items():
        total[block] += own[name] * count
    return total


def fpgas(files: Sequence[Path], top: str, accelerator: str, cache: Path) -> dict[str, dict[str, Resources]]:
    """The same for every one of `FAMILIES`."""
    found = in_parallel(lambda family: fpga_blocks(files, top, accelerator, family, cache), FAMILIES)
    return dict(zip(FAMILIES, found, strict=True))


@dataclass(frozen=True)
class CellBlock:
    """A block in standard cells: its area in the library's unit, and the bits of its memories, which are no cells."""

    area: float
    memory_bits: int


def cell_blocks(files: Sequence[Path], top: str, accelerator: str, liberty: Path, cache: Path) -> dict[str, CellBlock]:
    """What each block takes in the cells of a library. FlowError if Yosys is missing or fails."""
    there = in_blocks(files, top, accelerator)
    own = cell_modules(files, top, liberty, cache)
    total = {block: CellBlock(0, 0) for block in _ordered({block for block, _ in there})}
    for (block, name), count in there.items():
        module, sum_ = own[name], total[block]
        total[block] = CellBlock(sum_.area + count * (module.area or 0), sum_.memory_bits + count * module.memory_bits)
    return total


def whole(blocks: Mapping[str, Resources]) -> Resources:
    """All blocks together."""
    return sum(blocks.values(), Resources())
