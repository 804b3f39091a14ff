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
class TableWork:
    """Fields of the descriptor whose results leave the array now, for `tables`."""

    fill: Any
    through: Any


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
