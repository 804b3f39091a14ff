"""What a run's descriptors ask of memories, of the array and of the feature maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.hardware.config import ArrayConfig
from flow.hardware.fields import COORDINATE, ENTRY, INDEX_BITS, WALK
from flow.scheduling import banks
from flow.scheduling.blocks import Bytes
from flow.scheduling.words import unpack_fields

Words = tuple[int, int]  # the first one, and how many
Values = Mapping[str, int]
OPERANDS = ("weight", "metadata", "parameter", "index", "entry")  # what is fetched ahead, but for the descriptors
PLANES = 4  # of a raw result


@dataclass(frozen=True, eq=False)
class Job:
    """A descriptor as the units see it.

    operands   by memory of `OPERANDS`, the words that it reads; activation: the same, in words of the memory port
    compute    tiles, steps of a tile, slices of a step; hold, resident, post: as the descriptor has them;
               operand, across: its activations are weights of the next job, or with `operand` alone those are its
               weights
    results    channels, planes of the output; addresses[plane][word][lane]: of the first tile, `stride` to the next;
               mirror: they are written to the output memory
    fetch      external, waits; turns: cycles that the banks take for each octet, in order
    store      entries of a tile; stored: cycles that the banks take for each entry, tile after tile
    """

    operands: dict[str, Words]
    activation: Words
    tiles: int
    steps: int
    slices: int
    hold: bool
    resident: bool
    post: bool
    operand: bool
    across: bool
    channels: int
    addresses: tuple[tuple[tuple[int, ...], ...], ...]
    stride: int
    mirror: bool
    external: bool
    waits: bool
    turns: bytes
    entries: int
    stored: bytes

    @property
    def words(self) -> int:
        """Of parameters, for each tile."""
        return self.operands["parameter"][1]

    @property
    def fetched(self) -> Mapping[str, Words]:
        """The operands that come from the bus: weights that are a map's are none of them."""
        return self.operands | {"weight": (0, 0)} if self.operand else self.operands


def jobs(memories: Mapping[str, Bytes], first: int, count: int, config: ArrayConfig) -> list[Job]:
    """The jobs of `count` descriptors from number `first` on; `memories` are those of a schedule."""
    walks = _Walks(config.rows)
    return [
        _job(unpack_fields(word, config.descriptor), memories, config, walks)
        for word in memories["descriptor"][first : first + count]
    ]


def _job(values: Values, memories: Mapping[str, Bytes], config: ArrayConfig, walks: _Walks) -> Job:
    operands = {name: (values[f"{name}_base"], values[f"{name}_count"]) for name in ("weight", "metadata", "parameter")}
    operands["index"] = operands["parameter"]
    turns, stored = b"", b""
    if config.map_words:
        operands["entry"] = values["entry_base"], values["entry_count"]
        if not values["external"]:
            turns = walks.fetch(values)
        begin, entries = operands["entry"]
        stored = walks.store(values, memories["entry"][begin : begin + entries])
    return Job(
        operands, (values["activation_base"], values["activation_count"]), values["tiles"], values["steps"],
        config.slices(values["columns"]), bool(values["hold"]), bool(values["resident"]),
        bool(values.get("post")), bool(values.get("operand")), bool(values.get("across")), values["channels"],
        _addresses(values, memories["index"], config), values["tile_stride"], bool(values.get("mirror", 1)),
        bool(values.get("external")), bool(values.get("wait")), turns, values.get("entry_count", 0), stored,
    )  # fmt: skip


def _addresses(values: Values, indices: Bytes, config: ArrayConfig) -> tuple[tuple[tuple[int, ...], ...], ...]:
    begin, count = values["parameter_base"], values["parameter_count"]
    numbers = indices[begin : begin + count].reshape(-1).view(f"<u{INDEX_BITS // 8}").tolist()
    channels, lanes = values["channels"], config.lanes
    return tuple(
        tuple(
            tuple(values["output_base"] + plane * values["plane_stride"] + each for each in numbers[at:end])
            for at in range(0, channels, lanes)
            for end in (min(at + lanes, channels),)
        )
        for plane in range(PLANES if values["raw"] else 1)
    )


class _Walks:
    """Cycles that banks take for the words of walks, and those that were worked out before."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._known: dict[tuple[int, ...], bytes] = {}

    def fetch(self, values: Values) -> bytes:
        """Of each octet of a job's windows, tile after tile, the tile's filler last."""
        walk = [values[f"fetch_{name}"] for name, _ in WALK]
        shape = [values[name] for name in ("tiles", "taps_y", "taps_x", "taps_octet", "filler")]
        steps = [values[name] for name in ("delta_octet", "delta_x", "delta_y", "dilation_x", "dilation_y")]
        key = (*walk, *shape, *steps)
        if key not in self._known:
            tiles, taps_y, taps_x, octets, filler = shape
            delta_octet, delta_x, delta_y, dilation_x, dilation_y = steps
            word, x, y, size = self._windows(walk, tiles)
            found, at = [], 0
            for row in range(taps_y):
                for column in range(taps_x):  # the octets of a pixel are as far apart in all windows
                    turns = self._turns(word + at, x + column * dilation_x, y + row * dilation_y, size)
                    found += [turns] * octets
                    at += (octets - 1) * delta_octet + delta_x
                at += delta_y - delta_x
            found += [np.ones(tiles, np.int64)] * filler
            self._known[key] = np.stack(found, axis=1).astype(np.uint8).tobytes()
        return self._known[key]

    def store(self, values: Values, entries: Bytes) -> bytes:
        """Of each entry of a job, tile after tile."""
        if not len(entries):
            return b""
        walk = [values[f"store_{name}"] for name, _ in WALK]
        where = [unpack_fields(entry, ENTRY) for entry in entries]
        places = [(each["offset"], each["offset_x"], each["offset_y"]) for each in where]
        key = (*walk, values["tiles"], *(number for place in places for number in place))
        if key not in self._known:
            word, x, y, size = self._windows(walk, values["tiles"])
            turns = [self._turns(word + offset, x + across, y + down, size) for offset, across, down in places]
            self._known[key] = np.stack(turns, axis=1).astype(np.uint8).tobytes()
        return self._known[key]

    def _windows(
        self, walk: list[int], tiles: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], tuple[int, int]]:
        """Word, column and row of each window, int64 [tiles, rows], and the size of the map, as `maps/walker.py`.

        Windows beyond the last have a row that is in no map.
        """
        values = dict(zip((name for name, _ in WALK), walk, strict=True))
        number = np.arange(tiles * self.rows).reshape(tiles, self.rows)
        row = (values["window"] + number) // max(1, values["windows"])
        word = values["word"] + number * values["step_word"] + row * values["wrap_word"]
        x = values["x"] + number * values["step_x"] - row * values["wrap_x"]
        y = values["y"] + row * values["step_y"]
        size = values["height"], values["width"]
        return word, x, np.where(number < values["positions"], y, -(1 << COORDINATE - 1)), size

    def _turns(
        self, word: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64], size: tuple[int, int]
    ) -> NDArray[np.int64]:
        """Cycles in which the banks serve all rows, int64 [tiles]: one at least."""
        places = 1 << COORDINATE
        used = (x % places < size[1]) & (y % places < size[0])
        return banks.turns(word, used, self.rows)
