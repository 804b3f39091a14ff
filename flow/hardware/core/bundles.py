"""What the controllers, streams and the array say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flow.hardware.conversion.bundles import bits, flag


@dataclass(frozen=True)
class Unit:
    """The dispatcher and one unit: a descriptor's job is on offer; the unit takes one now."""

    job: Any = flag()
    ready: Any = flag()


@dataclass(frozen=True)
class Units:
    """All that take a job of every descriptor; without feature maps the last two are always ready."""

    weight: Unit
    metadata: Unit
    activation: Unit
    parameter: Unit
    index: Unit
    compute: Unit
    drain: Unit
    fetch: Unit
    store: Unit


@dataclass(frozen=True)
class Reader:
    """Who reads a stream: `ready`, there is a word; `read`, shown on `word` one cycle later.

    With `read`, `rewind` goes back to the oldest word kept, `discard` gives up those read so far.
    """

    read: Any = flag()
    rewind: Any = flag()
    discard: Any = flag()
    ready: Any = flag()
    word: Any = bits()


@dataclass(frozen=True)
class ReadControl:
    """A `Reader` as the sequencer has it, which does not use the words; `release` discards."""

    ready: Any = flag()
    read: Any = flag()
    rewind: Any = None
    release: Any = None


@dataclass(frozen=True)
class ComputeWork:
    """Fields of a descriptor for the sequencer; `post`: there are activations only."""

    tiles: Any
    steps: Any
    columns: Any
    hold: Any
    resident: Any
    post: Any


@dataclass(frozen=True)
class DrainWork:
    """Fields of a descriptor for the drain controller; `settings`: ... high . low . zero . raw."""

    tiles: Any
    channels: Any
    output_base: Any
    tile_stride: Any
    plane_stride: Any
    settings: Any


@dataclass(frozen=True)
class CheckedFields:
    """Fields of a descriptor for the guard; `post` and `entry_count` are 0 where there are no feature maps.

    `fill` exists only with tables, `constants` with a normalizer.
    """

    weight_count: Any
    metadata_count: Any
    activation_count: Any
    parameter_count: Any
    tiles: Any
    steps: Any
    channels: Any
    columns: Any
    hold: Any
    ahead: Any
    resident: Any
    post: Any
    entry_count: Any
    fill: Any = None
    constants: Any = None


@dataclass(frozen=True)
class Column:
    """The bit column under way, aligned with the words read."""

    valid: Any = flag()
    first: Any = flag()  # of a tile
    last: Any = flag()  # of a tile
    load: Any = flag()  # first of a step
    high_phase: Any = flag()  # second of a step
    significance: Any = bits(3)  # 7 - its number


@dataclass(frozen=True)
class ColumnStages:
    """The same at the array's stages 1 and 4."""

    load1: Any = flag()
    high1: Any = flag()
    significance1: Any = bits(3)
    valid4: Any = flag()
    first4: Any = flag()
    negative4: Any = flag()


@dataclass(frozen=True)
class Drained:
    """Results that leave the array, and where they belong; write-back takes them with `advance`."""

    advance: Any = flag()
    lanes_valid: Any = bits()
    base: Any = bits(32)  # output word of channel 0
    plane: Any = bits(2)
    tile_done: Any = flag()
    block_done: Any = flag()
