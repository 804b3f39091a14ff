"""Addresses of walks over maps: the windows of a tile, and planes in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.hardware.fields import ADDRESS, COORDINATE
from flow.network.model import Window
from flow.scheduling.onchip.place import Place


def _modulo(values: Mapping[str, int], bits: int) -> dict[str, int]:
    return {name: value % (1 << bits) for name, value in values.items()}


@dataclass(frozen=True)
class MapWalk:
    """Windows over a map: `positions` of them from number `first` on, `columns` to a row of windows.

    `word` is the word of the map's pixel (0, 0), `pitch` the words of a row of pixels, `size` (rows, columns) of the
    map. `step` (rows, columns) is the distance of windows, `origin` (row, column) the pixel of window 0. `step_word`
    replaces the words from one window to the next where they are not pixels of a row.
    """

    word: int
    pitch: int
    size: tuple[int, int]
    columns: int
    positions: int
    first: int = 0
    step: tuple[int, int] = (1, 1)
    origin: tuple[int, int] = (0, 0)
    step_word: int | None = None

    def windows(self, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Row, column and word of every window, int64 [tiles, rows] each; those beyond the last are in no map."""
        number = np.arange(-(-self.positions // rows) * rows).reshape(-1, rows)
        row, column = np.divmod(self.first + number, self.columns)
        across = self.step[1] if self.step_word is None else self.step_word
        y, x = self.origin[0] + row * self.step[0], self.origin[1] + column * self.step[1]
        word = self.word + self.origin[0] * self.pitch + self.origin[1] + row * self.step[0] * self.pitch
        return np.where(number < self.positions, y, self.size[0]), x, word + column * across

    def fields(self, rows: int) -> dict[str, int]:
        """The fields of the walk in a descriptor, for an array of `rows` rows."""
        step, origin, columns = self.step, self.origin, self.columns
        across = step[1] if self.step_word is None else self.step_word
        down = step[0] * self.pitch
        row, column = divmod(self.first, columns)
        full, rest = divmod(rows, columns)
        y, x = origin[0] + row * step[0], origin[1] + column * step[1]
        return {
            **_modulo({
                "word": self.word + origin[0] * self.pitch + origin[1] + row * down + column * across,
                "step_word": across,
                "wrap_word": down - columns * across,
                "tile_word": full * down + rest * across,
            }, ADDRESS),
            **_modulo({
                "x": x, "y": y, "step_x": step[1], "step_y": step[0], "wrap_x": columns * step[1],
                "tile_x": rest * step[1], "tile_y": full * step[0],
            }, COORDINATE),
            "window": column, "windows": columns, "tile_windows": rest, "positions": self.positions,
            "height": self.size[0], "width": self.size[1],
        }  # fmt: skip


def taps(window: Window, octets: int, plane: int, pitch: int, beats: int, waits: bool = False) -> dict[str, int]:
    """The fields of a window's taps over `octets` planes; `beats` octets make a step. Pixels outside read as 0."""
    (rows, columns), (down, across) = window.kernel, window.dilations
    back = (octets - 1) * plane
    return {
        "taps_y": rows, "taps_x": columns, "taps_octet": octets,
        **_modulo({
            "delta_octet": plane, "delta_x": across - back, "delta_y": down * pitch - (columns - 1) * across - back,
        }, ADDRESS),
        "dilation_x": across, "dilation_y": down, "pad": 0, "filler": int(rows * columns * octets % beats),
        "external": 0, "wait": int(waits),
    }  # fmt: skip


def prefixed(prefix: str, values: Mapping[str, int]) -> dict[str, int]:
    return {f"{prefix}_{name}": value for name, value in values.items()}


def line_walk(base: int, count: int, rows: int) -> dict[str, int]:
    """A walk over `count` words in a row, whatever pixels they are."""
    return {
        "word": base, "step_word": 1, "tile_word": rows, "windows": (1 << COORDINATE) - 1, "positions": count,
        "height": 1, "width": 1,
    }  # fmt: skip


def grid_walk(word: int, outer: tuple[int, int], inner: tuple[int, int]) -> MapWalk:
    """A walk over words that are no pixels of a row: of either axis how many, and the words from one to the next."""
    (rows, down), (columns, across) = outer, inner
    return MapWalk(word, down, (rows, columns), columns, rows * columns, step_word=across)


def map_walk(place: Place) -> MapWalk:
    """A walk over all pixels of all octet planes, without the words between the planes."""
    return grid_walk(place.base, (place.octets, place.plane), (place.shape[1] * place.shape[2], 1))
