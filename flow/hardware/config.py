"""The parameters of one accelerator instance, and its memory ports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from flow.errors import FlowError
from flow.hardware.conversion.keywords import KEYWORDS
from flow.hardware.element import BITVERT, DENSE, PAIRS, PARALLEL, Element, element_of
from flow.hardware.fields import (
    DESCRIPTOR,
    DESCRIPTOR_BITS,
    ENTRY_BITS,
    INDEX_BITS,
    MAP_DESCRIPTOR,
    MAP_DESCRIPTOR_BITS,
    PARAMETER_BITS,
    SUBGROUP,
)
from flow.hardware.interface import MemoryPort

PE_KINDS: Final = (BITVERT.name, DENSE.name, PARALLEL.name, PAIRS.name)  # our own
MAX_COLUMNS: Final = 8  # bit columns of an unpruned weight

DEEPEST = 2**16  # words of a buffer
LONGEST = 64  # characters of a prefix
UNITS: Final[Mapping[str, str]] = {  # with feature maps, where a network needs them: by field, what they are for
    "tables": "tables of element-wise functions", "products": "products of maps", "normalizer": "normalizations",
    "operands": "maps as weights",
}  # fmt: skip


@dataclass(frozen=True)
class ArrayConfig:
    """One accelerator: `rows` windows x `columns` output channels of processing elements.

    Buffer depths are in words of their stream and powers of two: a weight word is one bit column of one step, or
    `columns_per_cycle` of them, for all array columns, a metadata word one byte per array column, an
    activation word one step for all rows.
    The prefix is the top module's name, and what those of all others begin with.
    """

    rows: int = 16
    columns: int = 32
    pe: str = BITVERT.name
    weight_depth: int = 1024
    metadata_depth: int = 128
    activation_depth: int = 128
    accumulator_bits: int = 32
    drain: int = 4  # cycles in which the sums of the whole array leave it
    map_words: int = 0  # of eight bytes, for feature maps on chip; 0: windows come from outside
    prefix: str = ""  # of module names; by default one that tells element and size
    tables: bool = False  # of element-wise functions, for results of post-processing
    columns_per_cycle: int = 1  # bit columns of a step that an element takes together
    products: bool = False  # and differences of two maps, in post-processing
    normalizer: bool = False  # of the channels of a position: Softmax, LayerNormalization
    operands: bool = False  # maps can be the weights of the array, for matrix products of two maps

    def __post_init__(self) -> None:
        if self.columns_per_cycle not in self.element.per_cycle:
            *others, last = map(str, self.element.per_cycle)
            raise FlowError(
                f"element '{self.pe}' takes {', '.join(others)}{' or ' * bool(others)}{last} bit columns a cycle, but "
                f"columns_per_cycle is {self.columns_per_cycle}; change --columns-per-cycle or --pe"
            )
        if not (1 <= self.rows <= 64 and 1 <= self.columns <= 64):
            raise FlowError(
                f"array size {self.rows}x{self.columns} cannot be built: rows and columns go from 1 to 64; "
                "give --array ROWSxCOLUMNS, for example 16x32"
            )
        self._check_buffers()
        if not 1 <= self.drain <= 8:
            raise FlowError(f"sums leave the array in 1 to 8 cycles, but drain is {self.drain}; change --drain")
        if not 24 <= self.accumulator_bits <= 32:
            raise FlowError(f"accumulator_bits is {self.accumulator_bits}: it must be 24 to 32")
        if self.map_words:
            self._check_maps()
        for unit, what in UNITS.items():
            if getattr(self, unit) and not self.map_words:
                raise FlowError(f"{what} go with feature maps on chip, but there is no memory for these; set map_words")
        if self.normalizer and self.accumulator_bits != 32:
            raise FlowError(f"a normalizer gives results of 32 bits, but accumulator_bits is {self.accumulator_bits}")
        if self.prefix:
            self._check_prefix()

    def _check_prefix(self) -> None:
        # Verilog, VHDL and C have to take it: no underscore at the end, no two in a row.
        legal = re.fullmatch(r"[A-Za-z](_?[A-Za-z0-9])*", self.prefix) and len(self.prefix) <= LONGEST
        if not legal or self.prefix.lower() in KEYWORDS:
            why = "it is a keyword of Verilog or VHDL" if legal else (
                f"it is at most {LONGEST} letters, digits and single underscores, a letter first and no underscore last"
            )  # fmt: skip
            raise FlowError(f"modules cannot be called '{self.prefix}': {why}; change --prefix")

    def _check_buffers(self) -> None:
        for name in ("weight_depth", "metadata_depth", "activation_depth"):
            depth = getattr(self, name)
            if not 4 <= depth <= DEEPEST or depth & (depth - 1):
                what = name.removesuffix("_depth")
                raise FlowError(
                    f"a buffer is a power of two of words deep, 4 to {DEEPEST:,}, but the {what} buffer is {depth}; "
                    "give another depth" + (" with --weight-buffer" if what == "weight" else "")
                )

    def _check_maps(self) -> None:
        if not self.element.maps:
            raise FlowError("feature maps on chip go with bitvert and pairs elements only; leave out --on-chip")
        lines, rest = divmod(self.map_words, self.rows)
        if self.rows < 2 or self.rows & (self.rows - 1) or rest or lines < 2:
            raise FlowError(
                f"feature maps of {self.map_words} words on {self.rows} rows cannot be built: each row has a bank, so "
                "the rows must be a power of two from 2, and the words a multiple of them; change --array"
            )

    def with_maps(
        self, words: int, tables: bool = False, products: bool = False, normalizer: bool = False, operands: bool = False
    ) -> ArrayConfig:
        """The same array with a memory of so many words for feature maps, and with these units or without.

        FlowError if it cannot have one.
        """
        return replace(
            self, map_words=words, tables=tables, products=products, normalizer=normalizer, operands=operands
        )

    def with_weight_buffer(self, words: int) -> ArrayConfig:
        """The same array with another weight buffer; its metadata buffer stays an eighth as deep."""
        return replace(self, weight_depth=words, metadata_depth=max(4, words // 8))

    @property
    def element(self) -> Element:
        return element_of(self.pe)

    @property
    def step(self) -> int:
        """Weights of one output channel that one PE takes together: 16 (BitVert, pairs) or 8 (dense)."""
        return self.element.step

    @property
    def descriptor(self) -> tuple[tuple[str, int], ...]:
        """The fields of a descriptor, least significant first."""
        return (*DESCRIPTOR, *MAP_DESCRIPTOR) if self.map_words else DESCRIPTOR

    @property
    def unit_fields(self) -> tuple[str, ...]:
        """The fields of a descriptor that only units of this array have, and need where results leave it."""
        return (*(("through", "fill") if self.tables else ()), *(("constants",) if self.normalizer else ()))

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

    def slices(self, columns: int) -> int:
        """Cycles, and weight words, of a step of so many bit columns.

        A slice is `columns_per_cycle` of them, but two bit columns or more take two cycles at least: one for each half
        of the constant.
        """
        return min(columns, max(2, -(-columns // self.columns_per_cycle)))

    @property
    def weight_bits(self) -> int:
        return self.columns * self.step * self.columns_per_cycle

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
        units = "".join(f"_{unit}" for unit in UNITS if getattr(self, unit))
        by = f"_by{self.columns_per_cycle}" if self.columns_per_cycle > 1 else ""
        return self.prefix or f"accelerator_{self.pe}{by}_{self.rows}x{self.columns}{maps}{units}"

    def dense(self) -> ArrayConfig:
        """The same array of dense bit-serial PEs with as many multipliers (Stripes), to compare with."""
        units = dict.fromkeys(UNITS, False)
        return replace(self, pe=DENSE.name, columns_per_cycle=1, map_words=0, prefix="", **units)


def memory_ports(config: ArrayConfig) -> tuple[MemoryPort, ...]:
    """The accelerator's memory ports, in the order of its port list."""
    return (
        MemoryPort("descriptor", config.descriptor_bits),
        MemoryPort("weight", config.weight_bits),
        MemoryPort("metadata", config.metadata_bits),
        MemoryPort("activation", config.activation_bits),
        MemoryPort("parameter", PARAMETER_BITS * config.lanes),
        MemoryPort("index", INDEX_BITS * config.lanes),
        *([MemoryPort("entry", ENTRY_BITS)] if config.map_words else []),
        MemoryPort("output", 8 * config.rows, config.lanes),
    )
