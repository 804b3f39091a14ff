"""Pixels in any order as runs of pixels, of which a walk takes one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Run:
    """Pixels `first` + `stride` * row + `step` * column, for `rows` rows of `columns` columns, row by row."""

    first: int
    step: int
    columns: int
    stride: int
    rows: int

    @property
    def size(self) -> int:
        return self.rows * self.columns

    @property
    def pixels(self) -> NDArray[np.int64]:
        each = self.stride * np.arange(self.rows)[:, None] + self.step * np.arange(self.columns)
        return self.first + each.reshape(-1)


def runs_of(pixels: NDArray[np.int64]) -> Iterator[Run]:
    """The runs that pixels int64 [n] in this order consist of, each as long as can be."""
    begin = 0
    while begin < len(pixels):
        rest = pixels[begin:]
        step = int(rest[1] - rest[0]) if len(rest) > 1 else 1
        apart = np.flatnonzero(np.diff(rest) != step)
        columns = int(apart[0]) + 1 if len(apart) else len(rest)
        lines = rest[: len(rest) // columns * columns].reshape(-1, columns)
        stride = int(lines[1, 0] - lines[0, 0]) if len(lines) > 1 else 1
        expected = lines[0] + stride * np.arange(len(lines))[:, None]
        wrong = np.flatnonzero((lines != expected).any(axis=1))
        rows = int(wrong[0]) if len(wrong) else len(lines)
        yield Run(int(rest[0]), step, columns, stride, rows)
        begin += rows * columns
