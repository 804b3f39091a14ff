"""Addresses of walks over maps: the windows of a tile, and planes in order."""

from __future__ import annotations

from collections.abc import Mapping

from flow.hardware.fields import ADDRESS, COORDINATE
from flow.network.model import Window
from flow.scheduling.onchip.place import Place


def _modulo(values: Mapping[str, int], bits: int) -> dict[str, int]:
    return {name: value % (1 << bits) for name, value in values.items()}


def walk(
    word: int, pitch: int, grid_columns: int, step: tuple[int, int], origin: tuple[int, int], first: int,
    positions: int, size: tuple[int, int], rows: int, step_word: int | None = None,
) -> dict[str, int]:  # fmt: skip
    """The fields of a walk over windows `grid_columns` in a row, from number `first` on.

    `word` is the word of the map's pixel (0, 0), `pitch` the words of a row of pixels; `step` (rows, columns) from
    window to window, `origin` (row, column) of window 0, `size` (rows, columns) of the map. `step_word` replaces the
    words from one window to the next where they are not pixels of a row.
    """
    across = step[1] if step_word is None else step_word
    down = step[0] * pitch
    row, column = divmod(first, grid_columns)
    full, rest = divmod(rows, grid_columns)
    y, x = origin[0] + row * step[0], origin[1] + column * step[1]
    return {
        **_modulo({
            "word": word + origin[0] * pitch + origin[1] + row * down + column * across,
            "step_word": across,
            "wrap_word": down - grid_columns * across,
            "tile_word": full * down + rest * across,
        }, ADDRESS),
        **_modulo({
            "x": x, "y": y, "step_x": step[1], "step_y": step[0], "wrap_x": grid_columns * step[1],
            "tile_x": rest * step[1], "tile_y": full * step[0],
        }, COORDINATE),
        "window": column, "windows": grid_columns, "tile_windows": rest, "positions": positions, "height": size[0],
        "width": size[1],
    }  # fmt: skip


def taps(window: Window, octets: int, plane: int, pitch: int, pad: int, beats: int, waits: bool) -> dict[str, int]:
    """The fields of a window's taps over `octets` planes; `beats` octets make a step."""
    (rows, columns), (down, across) = window.kernel, window.dilations
    back = (octets - 1) * plane
    return {
        "taps_y": rows, "taps_x": columns, "taps_octet": octets,
        **_modulo({
            "delta_octet": plane, "delta_x": across - back, "delta_y": down * pitch - (columns - 1) * across - back,
        }, ADDRESS),
        "dilation_x": across, "dilation_y": down, "pad": pad, "filler": int(rows * columns * octets % beats),
        "external": 0, "wait": int(waits),
    }  # fmt: skip


def prefixed(prefix: str, values: Mapping[str, int]) -> dict[str, int]:
    return {f"{prefix}_{name}": value for name, value in values.items()}


def line_walk(base: int, count: int, rows: int) -> dict[str, int]:
    """A walk over so many words in a row, whatever pixels they are."""
    return {
        "word": base, "step_word": 1, "tile_word": rows, "windows": (1 << COORDINATE) - 1, "positions": count,
        "height": 1, "width": 1,
    }  # fmt: skip


def plane_walk(place: Place, rows: int) -> dict[str, int]:
    """A walk over all pixels of all octet planes, but not over what lies between these."""
    size = (place.octets, place.shape[1] * place.shape[2])
    return walk(place.base, place.plane, size[1], (1, 1), (0, 0), 0, size[0] * size[1], size, rows)
