"""What rows and columns of the array give to their processing elements, and how sums leave these.

Stages are those of the array: see docs/hardware.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flow.hardware.conversion.bundles import bits, flag


@dataclass(frozen=True)
class RowOperands:
    """A row's activations, at stage 2, and their sums, at stage 3."""

    x_low: Any = bits(64)
    x_high: Any = bits(64)
    sum_low: Any = bits(11)
    sum_high: Any = bits(11)
    sum_all: Any = bits(12)


@dataclass(frozen=True)
class ColumnControl:
    """What a column's BitVert elements share: choices at stage 2, the last two at stage 4, all others at stage 3."""

    select_low: Any = bits(12)
    select_high: Any = bits(12)
    invert_low: Any = flag()
    invert_high: Any = flag()
    piece: Any = bits(3)  # of the constant
    high: Any = flag()  # it is its signed upper half
    fine: Any = bits(2)  # the column counts 2^fine, ...
    scale_high: Any = flag()  # the piece counts eightfold
    coarse: Any = flag()  # ... and 16 times that


@dataclass(frozen=True)
class PairOperands:
    """A row's activations and the sums of their pairs, at stage 2; the sum of all and three times that, at stage 3."""

    single: Any = bits(128)
    both: Any = bits(72)
    total: Any = bits(12)
    triple: Any = bits(14)


@dataclass(frozen=True)
class PairControl:
    """What a column's pairs elements share: picks at stage 2, fine and size at stage 3, all others at stage 4."""

    picks: Any = bits()  # 24 lines for each bit column of the slice, the most significant one lowest
    fine: Any = bits(2)  # the slice's least significant column counts 2^fine, ...
    size: Any = bits(4)  # of the constant's digit
    coarse: Any = flag()  # ... and 16 times that
    minus: Any = flag()  # the digit is negative
    high: Any = flag()  # it counts eightfold


@dataclass(frozen=True)
class DrainPort:
    """Finished sums on their way along a row: capture an own one, or drain: take the neighbour's, `behind`."""

    capture: Any = flag()
    drain: Any = flag()
    behind: Any = bits()
    result: Any = bits()
