"""The parameters of one accelerator instance and the layout of what it reads: descriptors and parameters.

Everything the RTL, the schedule and the reference must agree on is a field here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from flow.errors import FlowError
from flow.hardware.maps.fields import TAPS, WALK, place

PE_KINDS: Final = ("bitvert", "dense")
SUBGROUP: Final = 8  # activations one sub-group of a PE sees
MAX_COLUMNS: Final = 8  # bit columns of an unpruned weight

# One descriptor is one channel block: up to `columns` output channels, every position tile. Least significant
# field first. Counts are in words of the memory they belong to.
DESCRIPTOR: Final[tuple[tuple[str, int], ...]] = (
    ("weight_base", 32),
    ("weight_count", 32),
    ("metadata_base", 32),
    ("metadata_count", 32),
    ("activation_base", 32),
    ("activation_count", 32),
    ("parameter_base", 32),
    ("parameter_count", 16),
    ("output_base", 32),
    ("tile_stride", 24),  # output words from one position tile to the next
    ("plane_stride", 16),  # output words from one byte plane of a raw result to the next
    ("tiles", 24),  # position tiles
    ("steps", 16),  # reduction steps of one tile
    ("channels", 16),  # channels of this block
    ("columns", 4),  # stored bit columns, 8 - N
    ("resident", 1),  # the block's weights stay in the buffer for all tiles
    ("raw", 1),  # write the 32-bit sums, byte plane by byte plane, instead of requantizing
    ("zero", 8),  # output zero point + 128
    ("low", 8),  # clamp, + 128
    ("high", 8),
)
DESCRIPTOR_BITS: Final = 416

# With feature maps on chip a descriptor goes on: where operands come from and results go, and post-processing.
FACTOR_BITS: Final = 21  # so that two bytes times their factors fit a 32-bit sum
MAP_DESCRIPTOR: Final[tuple[tuple[str, int], ...]] = (
    ("post", 1),  # sums or maxima of windows instead of products; `factor_*` weigh the octets of a step
    ("maximum", 1),
    ("mirror", 1),  # results also go to the output port
    ("factor_low", FACTOR_BITS),
    ("factor_high", FACTOR_BITS),
    ("entry_base", 32),
    ("entry_count", 16),  # of a tile, into the maps; none if it is not kept
    *TAPS,
    *((f"fetch_{name}", width) for name, width in WALK),
    *((f"store_{name}", width) for name, width in WALK),
)
MAP_DESCRIPTOR_BITS: Final = 864
ENTRY_DEPTH: Final = 64  # words of the entries' buffer: those of two blocks, or of a large one

# Per output channel, least significant field first.
PARAMETER: Final[tuple[tuple[str, int], ...]] = (("bias", 32), ("multiplier", 24), ("shift", 8))
PARAMETER_BITS: Final = 64
INDEX_BITS: Final = 16

# Why a run ended early: the error code is the place in this list.
ERRORS: Final[tuple[tuple[str, str], ...]] = (
    ("none", "the run is right"),
    ("command", "start with count 0"),
    ("tiles", "no tiles, or more than one of a block that is not resident"),
    ("steps", "no steps"),
    ("columns", "bit columns outside what the element takes: 2 to 8, dense 1 to 8"),
    ("channels", "no channels, or more than the array has columns"),
    ("weight_count", "not steps x columns"),
    ("metadata_count", "not a word for every two steps, dense none"),
    ("activation_count", "not tiles x steps x beats"),
    ("parameter_count", "not channels / lanes, rounded up"),
    ("buffer", "a resident block whose weights or metadata are more than their buffer holds"),
)
LEAST_COLUMNS: Final = {"bitvert": 2, "dense": 1}  # the two pieces of a BitVert constant take a column each


def error_code(name: str) -> int:
    """The code of an error."""
    return [error for error, _ in ERRORS].index(name)


def descriptor_slice(name: str) -> tuple[int, int]:
    """(end, begin) bit positions of a descriptor field, as MyHDL slices want them."""
    return place((*DESCRIPTOR, *MAP_DESCRIPTOR), name)


DEEPEST = 2**16  # words of a buffer


@dataclass(frozen=True)
class ArrayConfig:
    """One accelerator: `rows` windows x `columns` output channels of processing elements.

    Buffer depths are in words of their stream and powers of two: a weight word is one bit column of one step
    for all array columns, a metadata word one byte per array column, an activation word one step for all rows.
    """

    rows: int = 16
    columns: int = 32
    pe: str = "bitvert"
    weight_depth: int = 1024
    metadata_depth: int = 128
    activation_depth: int = 128
    accumulator_bits: int = 32
    drain: int = 4  # cycles in which the sums of the whole array leave it
    map_words: int = 0  # of eight bytes, for feature maps on chip; 0: windows come from outside

    def __post_init__(self) -> None:
        if self.pe not in PE_KINDS:
            raise FlowError(f"unknown PE kind '{self.pe}': choose one of {', '.join(PE_KINDS)}")
        if not (1 <= self.rows <= 64 and 1 <= self.columns <= 64):
            raise FlowError(
                f"array size {self.rows}x{self.columns} cannot be built: rows and columns go from 1 to 64; "
                "give --array ROWSxCOLUMNS, for example 16x32"
            )
        for name in ("weight_depth", "metadata_depth", "activation_depth"):
            depth = getattr(self, name)
            if not 4 <= depth <= DEEPEST or depth & (depth - 1):
                what = name.removesuffix("_depth")
                raise FlowError(
                    f"a buffer is a power of two of words deep, 4 to {DEEPEST:,}, but the {what} buffer is {depth}; "
                    "give another depth" + (" with --weight-buffer" if what == "weight" else "")
                )
        if not 1 <= self.drain <= 8:
            raise FlowError(f"drain is {self.drain}: it must be 1 to 8 cycles")
        if not 24 <= self.accumulator_bits <= 32:
            raise FlowError(f"accumulator_bits is {self.accumulator_bits}: it must be 24 to 32")

        if self.map_words and self.pe != "bitvert":
            raise FlowError("feature maps on chip go with the BitVert PE only; leave out --on-chip")
        lines, rest = divmod(self.map_words, self.rows)
        if self.map_words and (self.rows < 2 or self.rows & (self.rows - 1) or rest or lines < 2):
            raise FlowError(
                f"feature maps of {self.map_words} words on {self.rows} rows cannot be built: each row has a bank, so "
                "the rows must be a power of two from 2, and the words a multiple of them; change --array"
            )

    def with_maps(self, words: int) -> ArrayConfig:
        """The same array with a memory of so many words for feature maps. FlowError if it cannot have one."""
        return replace(self, map_words=words)

    def with_weight_buffer(self, words: int) -> ArrayConfig:
        """The same array with another weight buffer; its metadata buffer stays an eighth as deep."""
        return replace(self, weight_depth=words, metadata_depth=max(4, words // 8))

    @property
    def step(self) -> int:
        """Weights of one output channel that one PE takes together: 16 (BitVert) or 8 (dense)."""
        return 2 * SUBGROUP if self.pe == "bitvert" else SUBGROUP

    @property
    def descriptor(self) -> tuple[tuple[str, int], ...]:
        """The fields of a descriptor, least significant first."""
        return (*DESCRIPTOR, *MAP_DESCRIPTOR) if self.map_words else DESCRIPTOR

    @property
    def descriptor_bits(self) -> int:
        return DESCRIPTOR_BITS + (MAP_DESCRIPTOR_BITS if self.map_words else 0)

    @property
    def elements(self) -> int:
        """Processing elements."""
        return self.rows * self.columns

    @property
    def lanes(self) -> int:
        """Output channels that leave the array in one cycle."""
        return -(-self.columns // self.drain)

    @property
    def weight_bits(self) -> int:
        return self.columns * self.step

    @property
    def metadata_bits(self) -> int:
        return self.columns * 8

    @property
    def activation_bits(self) -> int:
        """Width of the activation memory port: one sub-group of eight bytes per row."""
        return self.rows * SUBGROUP * 8

    @property
    def beats(self) -> int:
        """Activation memory words that make one step."""
        return self.step // SUBGROUP

    @property
    def name(self) -> str:
        maps = f"_{self.map_words}" if self.map_words else ""
        return f"accelerator_{self.pe}_{self.rows}x{self.columns}{maps}"

    def dense(self) -> ArrayConfig:
        """The same array of dense bit-serial PEs with as many multipliers (Stripes), to compare with."""
        return replace(self, pe="dense", map_words=0)
