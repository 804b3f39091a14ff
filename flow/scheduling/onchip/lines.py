"""Linear interpolation along one axis: lines (rows or columns) between two neighbours, as post-processing weighs them.

A line is L of one of a map's lines and H of the next one, L + H = 2^BITS, so that real zero stays real zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BITS = 20
UNITY = 1 << BITS
MOST_APART = 16


@dataclass(frozen=True)
class Line:
    """The share of the line `first` + 1, 0 to 1; what is missing to 1 is that of line `first`."""

    first: int
    share: float

    @property
    def factors(self) -> tuple[int, int]:
        """L and H."""
        high = round(self.share * UNITY)
        return (UNITY - high, high)


@dataclass(frozen=True)
class Spaced:
    """`count` lines with the same factors: `place` + i * `apart` of the output, from `first` + i * `step` on."""

    factors: tuple[int, int]
    place: int
    apart: int
    first: int
    step: int
    count: int


@dataclass(frozen=True)
class Lines:
    """Every row (axis 0) or column (axis 1) of a map that is interpolated along this axis."""

    axis: int
    each: tuple[Line, ...]

    def spaced(self) -> Iterator[Spaced]:
        """All lines, those together that have the same factors and lie evenly."""
        alike: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for place, line in enumerate(self.each):
            alike.setdefault(line.factors, []).append((place, line.first))
        for factors, lines in alike.items():
            yield from (Spaced(factors, *run) for run in _runs(lines))


def _runs(lines: Sequence[tuple[int, int]]) -> list[tuple[int, int, int, int, int]]:
    """Lines (place, first) in as few runs that lie evenly as every so-manyth one gives, up to `MOST_APART`.

    Of the nearest pixels by a scale of 3 to 2, each third line of the output is two lines of the map further on.
    """
    found = list(_even(lines))
    for apart in range(2, min(MOST_APART, len(found)) + 1):
        made = [run for begin in range(apart) for run in _even(lines[begin::apart])]
        found = min(found, made, key=len)
    return found


def _even(lines: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int, int, int]]:
    """Lines (place, first) in runs that follow each other: place, apart, first, step, count."""
    begin = 0
    while begin < len(lines):
        steps = np.diff(lines[begin:], axis=0)
        uneven = np.flatnonzero((steps != steps[:1]).any(axis=1))
        count = 1 + int(uneven[0] if len(uneven) else len(steps))
        apart, step = (int(each) for each in steps[0]) if len(steps) else (1, 1)
        yield lines[begin][0], apart, lines[begin][1], step, count
        begin += count
