"""What the descriptors of a network on chip do, whole descriptors at a time: docs/hardware.md in NumPy.

Walks, taps, factors, tables, entries and requantization are decoded from the words by the layout of their fields
(flow/hardware/fields.py); none of the code that packs them is used. Time, banks and the order within a descriptor are
not modelled. Weights of layers are given, for `images.judge` compares those in the words with the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from flow.hardware.config import MAX_COLUMNS, ArrayConfig
from flow.hardware.fields import (
    ADDRESS,
    COORDINATE,
    ENTRY,
    EXPONENTIAL_BITS,
    MINUS_OFFSET,
    NORM_HIGH,
    NORM_LOW,
    PARAMETER,
    PARAMETER_BITS,
    PRODUCT_OFFSET,
    QUOTIENT_BITS,
    SUBGROUP,
    WRITES,
    ZERO,
)
from flow.hardware.interface import Memory
from flow.hardware.maps.normalizer import measuring
from flow.hardware.maps.operands import pixels_together, step_beats
from flow.judgement.images import WORD_BYTES, decoded
from flow.network.model import OFFSET, as_uint8
from flow.network.reference import requantize

COLUMN = ZERO - 1  # of a channel in an entry
TOGETHER = 4096  # windows whose sums are computed together
RADICAND = 64  # bits
ROOT_BITS = 31
NO_WEIGHTS = np.zeros((0, 0), np.int8)
LARGEST = (1 << 31) - 1  # of a normalizer's result

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


class CannotRunError(Exception):
    """A descriptor that the hardware does not take, or that reads or writes what is not there."""


@dataclass(frozen=True)
class _Walk:
    """The windows of a walk, tile by tile, int64 [windows]: word and place of each; those beyond the last do not exist.

    `size` is (height, width) of the map.
    """

    word: Ints
    y: Ints
    x: Ints
    exists: NDArray[np.bool_]
    size: tuple[int, int]

    @classmethod
    def of(cls, fields: Mapping[str, int], prefix: str, rows: int) -> _Walk:
        """The walk of a descriptor, for an array of `rows` rows."""
        walk = {name.removeprefix(f"{prefix}_"): value for name, value in fields.items() if name.startswith(prefix)}
        windows, skipped = walk["windows"], walk["tile_windows"]
        if not windows or skipped >= windows or walk["window"] >= windows:
            raise CannotRunError(f"{prefix}: window {walk['window']}, then {skipped} further, of {windows} in a row")
        row, tile = np.arange(rows), np.arange(fields["tiles"])[:, None]
        wrapped = (walk["window"] + row) // windows
        word = walk["word"] + row * walk["step_word"] + wrapped * walk["wrap_word"]
        x, y = walk["x"] + row * walk["step_x"] - wrapped * walk["wrap_x"], walk["y"] + wrapped * walk["step_y"]
        wrapped = ((walk["window"] + row) % windows + tile * skipped) // windows
        word = word + tile * walk["tile_word"] + wrapped * walk["wrap_word"]
        x = x + tile * walk["tile_x"] - wrapped * walk["wrap_x"]
        y = y + tile * walk["tile_y"] + wrapped * walk["step_y"]
        exists = (tile * rows + row < walk["positions"]).reshape(-1)
        return cls(word.reshape(-1), y.reshape(-1), x.reshape(-1), exists, (walk["height"], walk["width"]))

    def tap(self, word: int, y: int, x: int) -> tuple[Ints, NDArray[np.bool_]]:
        """The word that is so far from each window, and whether it lies in the map."""
        height, width = self.size
        inside = ((self.y + y) % (1 << COORDINATE) < height) & ((self.x + x) % (1 << COORDINATE) < width)
        return (self.word + word) % (1 << ADDRESS), inside & self.exists


@dataclass(frozen=True)
class _Measured:
    """What the normalizer keeps of positions: the largest byte or the sum of bytes, q and x, int64 [windows] each."""

    centre: Ints
    quotient: Ints
    lifted: Ints


class Chip:
    """The memory images, and what descriptors change: uint8 `maps` [words, 8] and `output` [words, rows].

    `writer` [words] is the descriptor that wrote a word of the maps last, -1 if
    none did since that was forgotten. `unsettled` [words]: written, and no descriptor has waited since.
    """

    def __init__(self, config: ArrayConfig, memories: Mapping[str, Memory], output_words: int) -> None:
        self.config, self.memories = config, dict(memories)
        self.maps = np.zeros((config.map_words, SUBGROUP), np.uint8)
        self.output = np.zeros((output_words, config.rows), np.uint8)
        self.writer = np.full(config.map_words, -1)
        self.unsettled = np.zeros(config.map_words, np.bool_)
        self._fields = decoded(memories["descriptor"], config.descriptor)
        self._table = np.zeros(256, np.uint8)
        self._constants = np.zeros(0, np.uint64)
        self._operands = np.zeros((0, config.rows, SUBGROUP), np.int64)
        self._loading: Mapping[str, int] = {}  # the fields of the descriptor that brought them
        self._measured: _Measured | None = None

    def run(self, number: int, weights: NDArray[np.int8] = NO_WEIGHTS) -> None:
        """Do what descriptor `number` says; `weights` int8 [channels, reduction] are a layer's, by index.

        Raises `CannotRunError`.
        """
        fields = {name: int(values[number]) for name, values in self._fields.items()}
        if fields["wait"]:
            self.unsettled[:] = False
        self._check(fields, len(weights))
        if fields["post"] and (fields["fill"] or fields["constants"]):
            self._bring(fields)
            return
        octets, read = self._fetched(fields)
        if fields["post"] and fields["operand"]:
            self._operands, self._loading = octets.transpose(1, 0, 2).astype(np.int64), fields
        elif fields["post"] and fields["normalize"] and not fields["applies"]:
            self._measured = self._measure(fields, octets)
        else:
            self._leave(number, fields, self._sums(fields, octets, weights))
        if self.unsettled[read].any():
            raise CannotRunError(
                f"word {read[self.unsettled[read]][0]} of the maps is read, but may not be written yet"
            )

    def _check(self, fields: Mapping[str, int], weights: int) -> None:
        """What the hardware refuses, or would wait for."""
        config, post, channels = self.config, fields["post"], fields["channels"]
        brings = post and (fields["fill"] or fields["constants"])
        most = SUBGROUP if post else config.columns
        for wrong, text in (
            (not fields["steps"] or not fields["tiles"], "it has no steps or no tiles"),
            (fields["activation_count"] != fields["tiles"] * fields["steps"] * config.beats,
             "activation_count is not tiles x steps x beats"),
            (fields["parameter_count"] != -(-channels // config.lanes), "parameter_count is not channels / lanes"),
            (not brings and not (SUBGROUP if post else 1) <= channels <= most, f"it has {channels} channels"),
            (post and fields["normalize"] and fields["columns"] != MAX_COLUMNS, "the normalizer takes eight columns"),
            (not post and not fields["operand"] and not weights, "no layer has this descriptor"),
            (not post and fields["operand"] and not self._loading, "nothing has brought its weights"),
        ):  # fmt: skip
            if wrong:
                raise CannotRunError(text)

    def _words(self, name: str, base: int, count: int) -> Memory:
        """Words of a memory."""
        found = self.memories[name][base : base + count]
        if len(found) < count:
            raise CannotRunError(f"words {base} to {base + count - 1} of memory '{name}' are not all there")
        return found

    def _own(self, name: str, fields: Mapping[str, int]) -> Memory:
        """The words of a memory that a descriptor reads."""
        return self._words(name, fields[f"{name}_base"], fields[f"{name}_count"])

    def _bring(self, fields: Mapping[str, int]) -> None:
        """A table or the normalizer's constants, in lane 0 of all parameters but the last."""
        words = np.ascontiguousarray(self._own("parameter", fields)[:-1, :WORD_BYTES])
        if fields["fill"]:
            self._table = words.reshape(-1)
        else:
            self._constants = words.view("<u8").reshape(-1)

    def _fetched(self, fields: Mapping[str, int]) -> tuple[Bytes, Ints]:
        """The octets of every window, uint8 [windows, octets, 8], and the words of the maps that are read."""
        rows, each = self.config.rows, fields["steps"] * self.config.beats
        down, across, deep = fields["taps_y"], fields["taps_x"], fields["taps_octet"]
        if down * across * deep + fields["filler"] != each:
            raise CannotRunError(f"{down} x {across} x {deep} taps and {fields['filler']} more are not {each} octets")
        if fields["external"]:
            words = self._words("activation", fields["activation_base"], fields["activation_count"])
            words = words.reshape(fields["tiles"], each, rows, SUBGROUP)
            return words.transpose(0, 2, 1, 3).reshape(-1, each, SUBGROUP), np.zeros(0, np.int64)
        walk, found = _Walk.of(fields, "fetch", rows), np.full((rows * fields["tiles"], each, SUBGROUP), fields["pad"])
        octets, reads = found.astype(np.uint8), list[Ints]()
        of_column = (deep - 1) * fields["delta_octet"] + fields["delta_x"]
        of_row = (across - 1) * of_column + (deep - 1) * fields["delta_octet"] + fields["delta_y"]
        for number, (y, x, octet) in enumerate(np.ndindex(down, across, deep)):
            word = y * of_row + x * of_column + octet * fields["delta_octet"]
            at, inside = walk.tap(word, y * fields["dilation_y"], x * fields["dilation_x"])
            reads.append(_there(at[inside], len(self.maps), "the maps"))
            octets[inside, number] = self.maps[at[inside]]
        octets[:, down * across * deep :] = 0
        return octets, np.concatenate(reads)

    def _sums(self, fields: Mapping[str, int], octets: Bytes, weights: NDArray[np.int8]) -> Ints:
        """What leaves the array or post-processing, int64 [windows, channels]."""
        if fields["post"]:
            made = self._normalized(fields, octets) if fields["normalize"] else _posted(fields, octets)
            if fields["through"]:
                made = made - made % 256 + self._table[made % 256]
            return made
        if fields["operand"]:
            return self._multiplied(fields, octets)
        matrix = weights[self._index(fields)].T.astype(np.float64)
        flat = octets.reshape(len(octets), -1)[:, : len(matrix)]
        sums = [flat[at : at + TOGETHER].astype(np.float64) @ matrix for at in range(0, len(flat), TOGETHER)]
        return np.concatenate(sums).astype(np.int64)

    def _index(self, fields: Mapping[str, int]) -> Ints:
        """The channel of each array column."""
        base, count, lanes = fields["parameter_base"], fields["channels"], self.config.lanes
        words = self._words("index", base, -(-count // lanes))
        return words.view("<u2").reshape(-1)[:count].astype(np.int64)

    def _seen(self, fields: Mapping[str, int], octets: Bytes) -> Ints:
        """The bytes that the normalizer sees, a channel in a cycle: int64 [windows, times of eight cycles, 8]."""
        slices, slot = self.config.slices(fields["columns"]), np.arange(SUBGROUP)
        steps = octets.reshape(len(octets), -1, SUBGROUP // slices, self.config.beats, SUBGROUP)
        seen: Ints = steps[:, :, slot // slices, 0, slot].astype(np.int64)
        return seen

    def _measure(self, fields: Mapping[str, int], octets: Bytes) -> _Measured:
        """What is kept of the positions of all tiles: the largest channel is looked for first, then come sums."""
        low, high = _number(fields["factor_low"], NORM_LOW), _number(fields["factor_high"], NORM_HIGH)
        seen, softmax, count = self._seen(fields, octets), bool(fields["maximum"]), low["count"]
        own = -(-count // SUBGROUP)
        if seen.shape[1] < (1 + softmax) * own + -(-measuring(softmax) // SUBGROUP):
            raise CannotRunError(f"{seen.shape[1]} octets are too few to measure positions of {count} channels")
        first, second = (seen[:, k * own : (k + 1) * own].reshape(len(seen), -1)[:, :count] for k in (0, softmax))
        if softmax:
            centre = first.max(axis=1)
            totals = self._powers(centre[:, None] - second).sum(axis=1)
            return _Measured(centre, (1 << EXPONENTIAL_BITS + QUOTIENT_BITS) // totals, np.zeros_like(centre))
        v = first - high["centre"]
        centre = v.sum(axis=1) * low["centred"]
        variance = zip((v * v).sum(axis=1).tolist(), centre.tolist(), strict=True)
        roots = [_root((count * q - c * c << 2 * high["doublings"]) + int(self._constants[0])) for q, c in variance]
        quotient, lifted = np.array(roots, np.int64).T
        return _Measured(centre, quotient, lifted)

    def _powers(self, differences: Ints) -> Ints:
        """The exponentials of differences of bytes, modulo 256."""
        powers: Ints = self._constants[differences % 256].astype(np.int64)
        return powers

    def _normalized(self, fields: Mapping[str, int], octets: Bytes) -> Ints:
        """One octet of the positions that were measured last, t [windows, 8]."""
        low, high, kept = (
            _number(fields["factor_low"], NORM_LOW),
            _number(fields["factor_high"], NORM_HIGH),
            self._measured,
        )
        if kept is None or len(kept.centre) != len(octets):
            raise CannotRunError("these positions have not been measured")
        byte, (centre, quotient, lifted) = (
            self._seen(fields, octets)[:, 0],
            (each[:, None] for each in (kept.centre, kept.quotient, kept.lifted)),
        )
        a = self._powers(centre - byte) if fields["maximum"] else low["count"] * (byte - high["centre"]) - centre
        t = np.minimum((a * quotient >> np.clip(high["scale"] - lifted, 0, 63)) + 1 >> 1, LARGEST)
        signed: Ints = -t if high["negative"] else t
        return signed

    def _multiplied(self, fields: Mapping[str, int], octets: Bytes) -> Ints:
        """A map times the map that the descriptor before has brought."""
        rows, columns, steps = self.config.rows, fields["channels"], fields["steps"]
        loading, column, k = self._loading, np.arange(columns)[:, None], np.arange(SUBGROUP)
        across = bool(loading["across"])
        beats, together = step_beats(rows, self.config.columns, across), pixels_together(rows)
        brought = self._operands[: steps * beats].reshape(steps, beats, rows, SUBGROUP)
        if across:
            first = loading["factor_low"] % SUBGROUP if self.config.columns < SUBGROUP else 0
            beat = k // together * -(-self.config.columns // SUBGROUP) + column // SUBGROUP
            w = brought[:, beat, k % together, column % SUBGROUP + first]
        else:
            w = brought[:, column // rows, column % rows, k]
        metadata = self._own("metadata", fields)[:, :columns].astype(np.int64) & 63
        d = (metadata - 2 * (metadata & 32)).repeat(2, axis=0)[:steps, :, None]
        low, high = (octets[:, half::2].reshape(len(octets), -1).astype(np.int64) for half in (0, 1))
        w -= OFFSET
        right, left = (each.transpose(0, 2, 1).reshape(-1, columns) for each in (w + d, ~w + d))
        sums: Ints = low @ right + high @ left
        return sums

    def _leave(self, number: int, fields: Mapping[str, int], sums: Ints) -> None:
        """Requantize, and write into the maps and to the output port."""
        count = fields["channels"]
        numbers = decoded(self._own("parameter", fields).reshape(-1, PARAMETER_BITS // 8)[:count], PARAMETER)
        acc = np.ascontiguousarray((sums + numbers["bias"]).astype(np.int32))
        planes = acc.view(np.uint8).reshape(len(acc), count, 4)
        if not fields["raw"]:
            zero, low, high = (fields[name] - OFFSET for name in ("zero", "low", "high"))
            codes = requantize(acc, numbers["multiplier"], numbers["shift"], zero, (low, high))
            planes = as_uint8(codes)[:, :, None]
        if fields["mirror"]:
            tiled = planes.reshape(fields["tiles"], self.config.rows, count, -1).transpose(0, 3, 2, 1)
            tile, plane = (np.arange(size)[:, None] for size in tiled.shape[:2])
            words = tile[:, :, None] * fields["tile_stride"] + plane * fields["plane_stride"] + self._index(fields)
            self.output[_there(fields["output_base"] + words, len(self.output), "the output memory")] = tiled
        if fields["entry_count"]:
            self._store(number, fields, planes[:, :, 0])

    def _store(self, number: int, fields: Mapping[str, int], results: Bytes) -> None:
        """Results [windows, channels] into the maps, by the entries."""
        walk, entries = _Walk.of(fields, "store", self.config.rows), decoded(self._own("entry", fields), ENTRY)
        for at in range(fields["entry_count"]):
            entry = {name: int(values[at]) for name, values in entries.items()}
            words, inside = walk.tap(entry["offset"], entry["offset_y"], entry["offset_x"])
            words = _there(words[inside], len(self.maps), "the maps")
            self.writer[words], self.unsettled[words] = number, True
            for slot in range(SUBGROUP):
                channel = entry[f"channel_{slot}"]
                if channel & WRITES and not channel & ZERO and channel & COLUMN >= fields["channels"]:
                    raise CannotRunError(f"an entry takes column {channel & COLUMN} of {fields['channels']}")
                if channel & WRITES:
                    self.maps[words, slot] = 0 if channel & ZERO else results[inside, channel & COLUMN]


def _there(words: Ints, count: int, memory: str) -> Ints:
    """These words of a memory, which must have as many."""
    if words.max(initial=0) >= count:
        raise CannotRunError(f"word {words.max()} of {memory} is not there: it has {count}")
    return words


def _posted(fields: Mapping[str, int], octets: Bytes) -> Ints:
    """Sums, maxima, products and differences of the two octets of each step, int64 [windows, 8]."""
    if fields["maximum"]:
        largest: Ints = octets.max(axis=1).astype(np.int64)
        return largest
    low, high = (octets[:, half::2].astype(np.int64) for half in (0, 1))
    by_low, by_high = fields["factor_low"], fields["factor_high"]
    if fields["product"]:
        made = (low - by_low % 256) * (high - by_high % 256) + PRODUCT_OFFSET
    elif fields["minus"]:
        made = low * by_low - high * by_high + MINUS_OFFSET
    else:
        made = low * by_low + high * by_high
    sums: Ints = made.sum(axis=1)
    return sums


def _number(value: int, fields: Sequence[tuple[str, int]]) -> dict[str, int]:
    """The fields of a number."""
    word = np.frombuffer(value.to_bytes(4, "little"), np.uint8)[None]
    return {name: int(values[0]) for name, values in decoded(word, fields).items()}


def _root(radicand: int) -> tuple[int, int]:
    """2^59 over the root of a number that is raised by x pairs of bits, as far as 64 bits permit, and x."""
    if not radicand:
        return 0, 0
    raised = (RADICAND - radicand.bit_length()) // 2
    quotient: int = (1 << ROOT_BITS + QUOTIENT_BITS) // isqrt(radicand << 2 * raised)
    return quotient, raised
