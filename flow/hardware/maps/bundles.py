"""Jobs, places in a map, and what passes to and from the banks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flow.hardware.conversion.bundles import bits, flag


@dataclass(frozen=True)
class Window:
    """A window: the word of its first tap, its place in the map, its number in its row of windows."""

    word: Any
    x: Any
    y: Any
    window: Any


@dataclass(frozen=True)
class LaneWalk:
    """What of a walk (flow/hardware/fields.py WALK) one array row's window needs, steady while it is under way.

    `tile_*`: on to the next tile; `wrap_*`: the same beyond the end of a row of windows, from window `wrap_from` on.
    """

    wrap_from: Any
    wrap_window: Any
    wrap_word: Any
    wrap_x: Any
    wrap_y: Any
    tile_windows: Any
    tile_word: Any
    tile_x: Any
    tile_y: Any
    height: Any
    width: Any


@dataclass(frozen=True)
class Tap:
    """What a tap adds to the place of its window."""

    word: Any
    x: Any
    y: Any


@dataclass(frozen=True)
class FetchWork:
    """Fields of a descriptor for `fetch`: of all rows `count` octets, from `base` on if they come from outside."""

    walk: Any
    taps: Any
    base: Any
    count: Any


@dataclass(frozen=True)
class StoreWork:
    """Fields of a descriptor for `store`: entries of a tile, none if the block is not kept, and tiles."""

    walk: Any
    entries: Any
    tiles: Any


@dataclass(frozen=True)
class PostWork:
    """Fields of a descriptor for `post`, the last two with products only; `take`: they are those of the next block."""

    take: Any = flag()
    maximum: Any = flag()
    factor_low: Any = None
    factor_high: Any = None
    product: Any = None
    minus: Any = None


@dataclass(frozen=True)
class NormWork:
    """Fields of a descriptor for `normalizer`, and `constants` of the one whose results leave the array now."""

    take: Any
    normalize: Any
    applies: Any
    softmax: Any
    factor_low: Any
    factor_high: Any
    constants: Any


@dataclass(frozen=True)
class NormPlace:
    """Which octet's channel, and which of the positions that are measured: written next, shown now."""

    slot: Any = bits(3)
    written: Any = bits(6)
    shown: Any = bits(6)


@dataclass(frozen=True)
class NormSteps:
    """What every row of the normalizer does; stage 1, or the one in the name."""

    softmax: Any = flag()
    applies1: Any = flag()
    restart: Any = flag()  # a position's first channel
    compare: Any = flag()
    multiply: Any = flag()  # channels times the sum of squares
    take: Any = flag()  # that product; the square of the sum is multiplied
    subtract: Any = flag()
    pairs: Any = bits(5)  # of bits by which the radicand is moved: a power of two
    shift: Any = flag()
    add: Any = flag()
    lift: Any = flag()
    root: Any = flag()
    divisor: Any = flag()
    divide: Any = flag()
    keep: Any = flag()  # what was measured
    sum2: Any = flag()
    sum4: Any = flag()
    applies2: Any = flag()


@dataclass(frozen=True)
class RootSteps:
    """Those of them that find a quotient."""

    softmax: Any
    restart: Any
    take: Any
    subtract: Any
    pairs: Any
    shift: Any
    add: Any
    lift: Any
    root: Any
    divisor: Any
    divide: Any


@dataclass(frozen=True)
class NormTerms:
    """Fields of the normalizer's descriptor, of the stage in their names; `zero` of stage 1."""

    zero: Any
    count2: Any
    centred2: Any
    softmax2: Any
    scale4: Any
    negative4: Any


@dataclass(frozen=True)
class Pair:
    """What a channel of `post` needs to multiply or subtract the two octets of a step; `late`: this is the high one.

    With the low octet, `following` is the high one's byte.
    """

    late: Any
    product: Any
    minus: Any
    zero_low: Any
    zero_high: Any
    following: Any


@dataclass(frozen=True)
class Given:
    """Results of the normalizer for `post`, at its last stage: of which channel, if of any, of every row.

    `holds3`, `holds4`: at the stage before, and at the last one, the block is one of the normalizer's.
    """

    gives: Any = bits(8)
    given: Any = bits()
    holds3: Any = flag()
    holds4: Any = flag()


@dataclass(frozen=True)
class TableWork:
    """Fields of the descriptor whose results leave the array now, for `tables`."""

    fill: Any
    through: Any


@dataclass(frozen=True)
class OperandWork:
    """What `operands` has to know of descriptors: the jobs of the sequencer and of the weight stream, and fields.

    `operand` with `post`: the octets become weights; without: the weights are those. `first`: of an array of less than
    eight columns, the channel of an octet that column 0 takes `across` pixels.
    """

    compute: Any
    weight: Any
    operand: Any
    post: Any
    across: Any
    first: Any = None


@dataclass(frozen=True)
class Kept:
    """Results that leave write-back for the feature maps, which are `full` when they take no more."""

    valid: Any = bits()
    tile_done: Any = flag()
    data: Any = bits()
    full: Any = flag()


@dataclass(frozen=True)
class BankReads:
    """For each bank: read this line; the words, a cycle later."""

    reads: Any = bits()
    read_lines: Any = bits()
    read_data: Any = bits()


@dataclass(frozen=True)
class BankWrites:
    """For each bank: write this word to this line; which bytes, alike for all."""

    writes: Any = bits()
    write_mask: Any = bits(8)
    write_lines: Any = bits()
    write_data: Any = bits()
