"""Memory images read back: tiles, addresses, weights, scales and biases as the hardware takes them from the words.

A second way to the same bits: the images are decoded by the layout of their fields (flow/hardware/fields.py) and the
equations of docs/numbers.md, and compared with the network. None of the code that packs them is used. Every word that a
descriptor reaches is judged, whether it is simulated or not; bits that no output depends on are not: array columns
beyond a block's channels, lanes beyond its last channel, weights beyond the reduction (they meet zeros), and the
requantization of a layer that returns its sums.

Of the whole network on chip, the layers' descriptors and operands, the tables of element-wise functions and the
metadata of products of two maps are decoded in the same way. Walks, entries and post-processing are compared with those
that the network gives when it is assembled again, and what they do, with what each step is to give: execution.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flow.hardware.config import MAX_COLUMNS, ArrayConfig
from flow.hardware.fields import ENTRY, INDEX_BITS, PARAMETER, PARAMETER_BITS, TABLE_WORDS
from flow.hardware.interface import Memory
from flow.network.model import OFFSET, ArrayLayer
from flow.scheduling.blocks import Program
from flow.scheduling.onchip.place import Place
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.program import OnChip

WORD_BYTES = 8  # of a table in a word of parameters
GROUP = 32  # weights that share a metadata byte
MOST = 100  # errors of a layer that are kept
LAYERS, NETWORK = "memory", "network"  # the folders of the images in a build

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ImageError:
    """A value in a memory image that is not the network's: `field` of word `word` of the image `memory` in `place`."""

    memory: str
    word: int
    field: str
    layer: str
    text: str
    place: str = LAYERS

    def __str__(self) -> str:
        return f"layer '{self.layer}', {self.place}/{self.memory}, word {self.word}, {self.field}: {self.text}"


@dataclass(frozen=True)
class ImageVerdict:
    """The judgement on the memory images: words by image, images that could not be decoded, and errors in words."""

    verdict: Literal["pass", "fail"]
    words: dict[str, int]
    undecoded: tuple[str, ...]
    errors: tuple[str, ...]


def judge(program: Program, columns_pruned: Mapping[str, Ints]) -> list[ImageError]:
    """The errors in the memories of a program: layer by layer, descriptors first.

    Of its schedule, only the descriptors that a host starts for each layer are used. `columns_pruned` is N of every
    channel, by layer name.
    """
    errors: list[ImageError] = []
    for scheduled in program.layers:
        n = columns_pruned[scheduled.layer.name] if program.config.element.encoded else None
        work = _Work(scheduled.layer, n, scheduled.first, len(scheduled.blocks))
        errors += _LayerReader(work, program.config, program.memories).errors()[:MOST]
    return errors


def judge_on_chip(onchip: OnChip, again: OnChip | None = None) -> list[ImageError]:
    """The errors in the memories of a whole network on chip; `again` is the network assembled again, if it was."""
    errors, starts, number = list[ImageError](), onchip.firsts, 0
    for region in onchip.regions:
        if region.part is None or region.scheduled is None:
            continue
        number = max(number, starts[region.step])
        count = len(region.scheduled.blocks)
        work = _Work(region.part.layer, region.part.columns_pruned, number, count, region.base, NETWORK)
        errors += _LayerReader(work, onchip.config, onchip.memories).errors()[:MOST]
        number += count
    places = (made for segment, made in zip(onchip.chain.segments, onchip.places, strict=True) for _ in segment.steps)
    for step, first, end, map_places in zip(onchip.chain.steps, starts, onchip.ends, places, strict=True):
        if isinstance(step, PostOp):
            for number, table in _tables(step, range(first, end), map_places):
                errors += _unlike_table(onchip, step, number, table)[:MOST]
        if isinstance(step, PostOp) and step.matrices:
            errors += _unlike_constants(onchip, step, first, end)[:MOST]
    return errors + ([] if again is None else _unlike(onchip, again))


def _tables(op: PostOp, descriptors: range, places: Mapping[str, Place]) -> Iterator[tuple[int, bytes]]:
    """The tables of an operation, and the descriptors that bring them: each before the one whose results need it.

    Constants come before; each word of them is in a table of `TABLE_WORDS`, and two descriptors make every byte once.
    The smallest of several maps is turned round last.
    """
    words = [places[op.operands[number]].words for number, _ in op.constants]
    first = 2 * sum(-(-each // TABLE_WORDS) for each in words) + (2 if words else 0)
    numbers: Sequence[int] = descriptors[first::2]
    if op.kind == "smallest":
        numbers = [*numbers[: len(op.filled) - 1], descriptors[-2]]
    yield from zip(numbers, op.filled, strict=False)


def _unlike_table(onchip: OnChip, op: PostOp, number: int, table: bytes) -> list[ImageError]:
    """The errors of the descriptor `number`, which brings a table of the operation, and of the table's bytes."""
    memories, words = onchip.memories, len(table) // WORD_BYTES
    fields = decoded(memories["descriptor"][number : number + 1], onchip.config.descriptor)
    expected = {"post": 1, "fill": 1, "through": 0, "mirror": 0, "parameter_count": words + 1}
    errors = [
        ImageError("descriptor", number, name, op.name, f"{fields[name].tolist()} instead of {want}", NETWORK)
        for name, want in expected.items()
        if fields[name].tolist() != [want]
    ]
    if errors:
        return errors
    base = int(fields["parameter_base"][0])
    got, want = memories["parameter"][base : base + words, :WORD_BYTES].reshape(-1), np.frombuffer(table, np.uint8)
    if len(got) < len(want):
        return [ImageError("descriptor", number, "parameter_base", op.name, f"words {base} on are not there", NETWORK)]
    return [
        ImageError(
            "parameter", base + at // WORD_BYTES, f"byte {at % WORD_BYTES} (code {at - OFFSET})", op.name,
            f"{int(got[at]) - OFFSET} instead of {int(want[at]) - OFFSET}", NETWORK,
        )
        for at in np.flatnonzero(got != want).tolist()
    ]  # fmt: skip


def _unlike_constants(onchip: OnChip, op: PostOp, first: int, end: int) -> list[ImageError]:
    """The errors of the metadata that turns a map's codes into weights: none is redundant, and d is minus their zero.

    `first` to `end` are the product's descriptors.
    """
    fields = decoded(onchip.memories["descriptor"][first:end], onchip.config.descriptor)
    want, errors = -op.input_quantizations[1].zero_point % 64, list[ImageError]()
    for place in np.flatnonzero((fields["operand"] == 1) & (fields["post"] == 0)).tolist():
        base, count, channels = (int(fields[name][place]) for name in ("metadata_base", "metadata_count", "channels"))
        words = onchip.memories["metadata"][base : base + count]
        if len(words) < count:
            text = f"words {base} to {base + count - 1} are not all there"
            errors.append(ImageError("descriptor", first + place, "metadata_base", op.name, text, NETWORK))
        for word, column in np.argwhere(words[:, :channels] != want).tolist():
            text = f"{words[word, column]} instead of {want}"
            errors.append(ImageError("metadata", base + word, f"array column {column}", op.name, text, NETWORK))
    return errors


def _unlike(onchip: OnChip, again: OnChip) -> list[ImageError]:
    """The first word of each image that differs. Weights and their metadata can be stored in several ways."""
    errors, name = [], onchip.chain.steps[-1].output
    layouts = {"descriptor": onchip.config.descriptor, "entry": ENTRY, "parameter": PARAMETER, "index": ()}
    for memory, fields in layouts.items():
        got, want = onchip.memories[memory], again.memories[memory]
        if got.shape != want.shape:
            errors.append(ImageError(memory, len(want), "words", name, f"{len(got)} instead of {len(want)}", NETWORK))
        elif len(differing := np.flatnonzero((got != want).any(axis=1))):
            word = int(differing[0])
            size = sum(width for _, width in fields) // 8 if memory == "parameter" else got.shape[1]
            pair = [decoded(each[word].reshape(-1, size), fields) for each in (got, want)]
            wrong = next((key for key, _ in fields if (pair[0][key] != pair[1][key]).any()), "the word")
            text = "not as the network gives it when it is assembled again"
            errors.append(ImageError(memory, word, wrong, name, text, NETWORK))
    return errors


def summary(errors: Sequence[ImageError], program: Program, onchip: OnChip | None = None) -> ImageVerdict:
    """The judgement for the report. Weights that an element of another package packs itself are not decoded."""
    undecoded: tuple[str, ...] = ("weight", "metadata") if program.config.element.words else ()
    places = {LAYERS: program.memories} | ({NETWORK: onchip.memories} if onchip else {})
    words = {
        f"{place}/{name}": len(memory)
        for place, memories in places.items()
        for name, memory in memories.items()
        if name not in undecoded and name != "activation"
    }
    undecoded = tuple(f"{LAYERS}/{name}" for name in undecoded)
    return ImageVerdict("fail" if errors else "pass", words, undecoded, tuple(map(str, firsts(errors))))


def firsts(errors: Sequence[ImageError]) -> list[ImageError]:
    """The first error of each layer and memory."""
    found: dict[tuple[str, str, str], ImageError] = {}
    for error in errors:
        found.setdefault((error.layer, error.place, error.memory), error)
    return list(found.values())


def decoded(words: Memory, fields: Iterable[tuple[str, int]]) -> dict[str, Ints]:
    """Fields of little-endian words uint8 [words, bytes], least significant first: int64 [words] by name.

    What is left above the last field is `spare`: whether any bit there is set.
    """
    bits = np.unpackbits(words, axis=1, bitorder="little")
    values, begin = dict[str, Ints](), 0
    for name, width in fields:
        powers = 1 << np.arange(width, dtype=np.int64)
        read: Ints = bits[:, begin : begin + width].astype(np.int64) @ powers
        values[name] = read
        begin += width
    spare: Ints = np.asarray(bits[:, begin:].any(axis=1), np.int64)
    return values | {"spare": spare}


def factors(layer: ArrayLayer) -> tuple[Ints, Ints]:
    """(M, S) of a quantized layer, int64 [channels] each, from the bits of the float32 factor s_x * s_w / s_y.

    A normal number is (2^23 + fraction) * 2^(exponent - 150). What no shift up to 57 reaches is 0 * 2^-1.
    """
    output = layer.output_quantization
    assert output is not None
    product = np.float32(layer.input_quantization.scale) * layer.weight_scales.astype(np.float32)
    bits = (product / np.float32(output.scale)).astype(np.float32).view(np.uint32).astype(np.int64)
    mantissa, shift = (bits & (2**23 - 1)) + 2**23, 150 - (bits >> 23)
    vanishes = shift > 57
    return np.where(vanishes, 0, mantissa), np.where(vanishes, 1, shift)


def memory_bias(layer: ArrayLayer) -> Ints:
    """b - (z_x + 128) * sum(w) modulo 2^32, int64 [channels]: bytes on the array are codes + 128."""
    sums = layer.weights.sum(axis=1, dtype=np.int64)
    bias: Ints = (layer.bias.astype(np.int64) - (layer.input_quantization.zero_point + OFFSET) * sums) % 2**32
    return bias


@dataclass(frozen=True)
class _Block:
    """One descriptor as it was read: its number, fields, channels, and the least position tile it writes."""

    number: int
    fields: Mapping[str, int]
    channels: Ints
    columns: int  # stored bit columns that the network has


class _WrongError(Exception):
    """A descriptor that says nothing further."""


@dataclass(frozen=True)
class _Work:
    """A layer, or a part of one on chip: N of its channels, its descriptors, and its place in the output memory."""

    layer: ArrayLayer
    columns_pruned: Ints | None  # None: nothing is encoded
    first: int
    count: int
    base: int = 0
    place: str = LAYERS


class _LayerReader:
    """The images of one layer, descriptor by descriptor."""

    def __init__(self, work: _Work, config: ArrayConfig, memories: Mapping[str, Memory]) -> None:
        self.layer, self.config, self.memories, self.work = work.layer, config, memories, work
        self.first, self.count, self.columns_pruned = work.first, work.count, work.columns_pruned
        self.tiles = -(-self.layer.positions // config.rows)
        self.steps = -(-self.layer.reduction // config.step)
        self.planes = 1 if self.layer.output_quantization else 4
        self.most_held = config.activation_depth * config.beats  # words
        self.owner = np.full((self.layer.channels, self.tiles), -1, np.int64)  # the descriptor that writes it
        self.found: list[ImageError] = []
        self.seen: set[tuple[int, ...]] = set()  # operands judged already: blocks of one tile each share them

    def errors(self) -> list[ImageError]:
        words = self.memories["descriptor"][self.first : self.first + self.count]
        if len(words) < self.count:
            self.wrong("descriptor", self.first + len(words), "the word", "it is missing")
        fields, blocks, before = decoded(words, self.config.descriptor), [], None
        for offset in range(len(words)):
            values = {name: int(every[offset]) for name, every in fields.items()}
            try:
                blocks.append(self.descriptor(self.first + offset, values))
                self.windows(blocks[-1], before)
            except _WrongError:
                continue
            finally:
                before = values
        if not any(error.memory == "index" for error in self.found):  # else the channels' operands are others
            wrong = {error.word for error in self.found}
            for block in blocks:
                self.operands(block, block.number in wrong)
        missing = np.argwhere(self.owner < 0)
        if len(missing) and not self.found:
            channel, tile = missing[0]
            what = f"channel {channel}, position tile {tile} is written by no descriptor"
            self.wrong("descriptor", self.first, "output_base and tiles", what)
        return self.found

    def wrong(self, memory: str, word: int | np.integer[Any], field: str, text: str) -> None:
        self.found.append(ImageError(memory, int(word), field, self.layer.name, text, self.work.place))

    def same(self, number: int, fields: Mapping[str, int], expected: Mapping[str, int]) -> None:
        for name, want in expected.items():
            if fields[name] != want:
                self.wrong("descriptor", number, name, f"{fields[name]} instead of {want}")

    def words(self, number: int, name: str, base: int, count: int) -> Memory:
        """Words of a memory. Raises `_WrongError`, and notes it, where they are not all there."""
        found = self.memories[name][base : base + count]
        if len(found) < count:
            text = f"words {base} to {base + count - 1}, but memory '{name}' has {len(self.memories[name])}"
            base_name = "parameter_base" if name == "index" else f"{name}_base"
            self.wrong("descriptor", number, base_name, text)
            raise _WrongError
        return found

    def descriptor(self, number: int, fields: Mapping[str, int]) -> _Block:
        """Judge one descriptor: its channels, its fields, and the outputs that it writes."""
        block = self.block(number, fields)
        self.same(number, fields, self.expected(block))
        self.written(block, self.tile(block))
        return block

    def operands(self, block: _Block, wrong: bool) -> None:
        """Judge what a descriptor reads, unless it is itself `wrong`, or others read the same."""
        bases = (block.fields[f"{name}_base"] for name in ("weight", "metadata", "parameter"))
        operands = (*bases, *block.channels.tolist())
        if wrong or operands in self.seen:
            return
        self.seen.add(operands)
        try:
            self.parameters(block)
            if not self.config.element.words:
                self.weights(block)
        except _WrongError:
            return

    def block(self, number: int, fields: Mapping[str, int]) -> _Block:
        """The block's channels, from the indices, and their stored bit columns."""
        count, lanes = fields["channels"], self.config.lanes
        if not 1 <= count <= self.config.columns:
            self.wrong("descriptor", number, "channels", f"{count} on an array of {self.config.columns} columns")
            raise _WrongError
        base, words = fields["parameter_base"], -(-count // lanes)
        raw = self.words(number, "index", base, words).reshape(-1, INDEX_BITS // 8).astype(np.int64)
        channels = raw[:count] @ (1 << 8 * np.arange(INDEX_BITS // 8, dtype=np.int64))
        at = [(base + i // lanes, f"lane {i % lanes}") for i in range(count)]
        for i, channel in enumerate(channels):
            if channel >= self.layer.channels or channel in channels[:i]:
                again = "again" if channel < self.layer.channels else f"of {self.layer.channels} channels"
                self.wrong("index", *at[i], f"descriptor {number} reads channel {channel} {again}")
                raise _WrongError
        per_group = self.layer.channels // self.layer.groups
        if len(set((channels // per_group).tolist())) > 1:
            text = f"descriptor {number} reads channels {channels.tolist()} of several groups of the convolution"
            self.wrong("index", base, "the block's channels", text)
            raise _WrongError
        pruned = np.zeros(count, np.int64) if self.columns_pruned is None else self.columns_pruned[channels]
        if len(set(pruned.tolist())) > 1:
            text = f"descriptor {number} reads channels {channels.tolist()} of several N"
            self.wrong("index", base, "the block's channels", text)
            raise _WrongError
        return _Block(number, fields, channels, MAX_COLUMNS - int(pruned[0]))

    def expected(self, block: _Block) -> dict[str, int]:
        """The fields that follow from the network and the block's channels and tiles."""
        layer, config, steps = self.layer, self.config, self.steps
        metadata = -(-steps // 2) if config.element.encoded else 0
        fits = steps * config.slices(block.columns) <= config.weight_depth and -(-steps // 2) <= config.metadata_depth
        values = {
            "weight_count": steps * config.slices(block.columns),
            "metadata_count": metadata,
            "parameter_count": -(-len(block.channels) // config.lanes),
            "tile_stride": self.planes * layer.channels,
            "plane_stride": layer.channels,
            "steps": steps,
            "columns": block.columns,
            "resident": int(fits),
            "raw": int(layer.output_quantization is None),
            "spare": 0,
        }
        if layer.output_quantization:
            values |= {"zero": layer.output_quantization.zero_point, "low": layer.clamp[0], "high": layer.clamp[1]}
            values |= {name: values[name] + OFFSET for name in ("zero", "low", "high")}
        outside = {"mirror", "external"}  # windows from the activation memory, results to the output port
        names = [name for name, _ in config.descriptor]
        if self.work.place == NETWORK:
            values |= {"post": 0, "mirror": 1, "external": 0}
        elif "post" in names:
            values |= {name: int(name in outside) for name in names[names.index("post") :]}
        return values

    def tile(self, block: _Block) -> int:
        """The first position tile of a block, from where it writes; its tiles are judged, and where it reads."""
        fields, stride, at = block.fields, self.planes * self.layer.channels, block.fields["output_base"]
        tile, rest = divmod(at - self.work.base, stride)
        if rest or tile < 0:
            whole = f"no multiple of {stride}" + (f" from {self.work.base} on" if self.work.base else "")
            self.wrong("descriptor", block.number, "output_base", f"{at} is {whole}")
            raise _WrongError
        most = 1 if not fields["resident"] else self.tiles
        if not (1 <= fields["tiles"] <= most and tile + fields["tiles"] <= self.tiles):
            text = f"{fields['tiles']} from tile {tile} on, but the layer has {self.tiles}"
            self.wrong("descriptor", block.number, "tiles" if tile < self.tiles else "output_base", text)
            raise _WrongError
        group = int(block.channels[0]) // (self.layer.channels // self.layer.groups)
        own = (group * self.tiles + tile) * self.steps * self.config.beats if self.work.place == LAYERS else 0
        self.same(block.number, fields, {"activation_base": own + (fields["ahead"] and self.words_of(fields))})
        return tile

    def words_of(self, fields: Mapping[str, int]) -> int:
        """Words of the windows of a block's tiles."""
        return fields["tiles"] * self.steps * self.config.beats

    def windows(self, block: _Block, before: Mapping[str, int] | None) -> None:
        """What a block fetches, or has from the descriptor before it in the layer, and whether it may hold that."""
        fields, expected = block.fields, dict[str, int]()
        if before is not None and (before["hold"] or before["ahead"]):
            words = self.words_of(before) if before["hold"] else before["activation_count"]
            if self.words_of(fields) != words:
                expected["tiles"] = words // (self.steps * self.config.beats)
            expected["activation_base"] = before["activation_base"] + (fields["ahead"] and self.words_of(fields))
            if not fields["ahead"]:
                expected["activation_count"] = 0
        else:
            expected |= {"activation_count": self.words_of(fields), "ahead": 0}
        last = block.number == self.first + self.count - 1
        if self.work.place == NETWORK or last or fields["ahead"] or self.words_of(fields) > self.most_held:
            expected["hold"] = 0
        if self.work.place == NETWORK or last:
            expected["ahead"] = 0
        self.same(block.number, fields, expected)

    def written(self, block: _Block, tile: int) -> None:
        """Every output is written once."""
        tiles = slice(tile, tile + block.fields["tiles"])
        there = self.owner[block.channels, tiles]
        twice = np.flatnonzero((there >= 0).any(axis=1))
        if len(twice) == len(block.channels):
            text = f"{block.fields['output_base']}: descriptor {there.max()} writes there, too"
            self.wrong("descriptor", block.number, "output_base", text)
        elif len(twice):
            word, lane = divmod(int(twice[0]), self.config.lanes)
            channel, other = block.channels[twice[0]], there[twice[0]].max()
            text = f"descriptor {block.number} reads channel {channel}, which descriptor {other} writes, too"
            self.wrong("index", block.fields["parameter_base"] + word, f"lane {lane}", text)
        self.owner[block.channels, tiles] = block.number

    def parameters(self, block: _Block) -> None:
        """Bias, multiplier and shift of every channel."""
        layer, lanes, base = self.layer, self.config.lanes, block.fields["parameter_base"]
        words = self.words(block.number, "parameter", base, block.fields["parameter_count"])
        got = decoded(words.reshape(-1, PARAMETER_BITS // 8)[: len(block.channels)], PARAMETER)
        expected = {"bias": memory_bias(layer)}
        if layer.output_quantization:
            expected["multiplier"], expected["shift"] = factors(layer)
        for name, values in expected.items():
            for i in np.flatnonzero(got[name] != values[block.channels]):
                channel = block.channels[i]
                text = f"{got[name][i]} instead of {values[channel]}"
                self.wrong("parameter", base + i // lanes, f"{name} of lane {i % lanes} (channel {channel})", text)

    def stored_bits(self, block: _Block) -> NDArray[np.uint8]:
        """The words' bits, [steps, bit columns, array columns, weights of a step], most significant column first.

        With several bit columns a cycle there are as many as their words hold; words behind the last one must be zero.
        """
        config, together, base = self.config, self.config.columns_per_cycle, block.fields["weight_base"]
        slices, used = config.slices(block.columns), -(-block.columns // together)
        words = self.words(block.number, "weight", base, self.steps * slices)
        bits = np.unpackbits(words, axis=1, bitorder="little")
        bits = bits.reshape(self.steps, slices, config.columns, together, config.step)
        behind = bits[:, used:, : len(block.channels)].transpose(2, 1, 3, 0, 4).reshape(len(block.channels), -1)
        lasting = np.tile(np.arange(self.steps * config.step) < self.layer.reduction, (slices - used) * together)
        for channel, at in np.argwhere(behind * lasting):
            place, weight = divmod(int(at), self.steps * config.step)
            place, column = divmod(place, together)
            step, bit = divmod(weight, config.step)
            field = f"array column {channel}, bit {column * config.step + bit} (channel {block.channels[channel]})"
            self.wrong("weight", base + step * slices + used + place, field, "a bit behind the last bit column")
        columns = bits[:, :used].transpose(0, 1, 3, 2, 4)
        return columns.reshape(self.steps, used * together, config.columns, config.step)

    def weights(self, block: _Block) -> None:
        """Every weight, W' = (S << (N - r)) + d of an encoded element, else S, and the word that makes it wrong."""
        config, fields, count = self.config, block.fields, len(block.channels)
        slices, bits = config.slices(block.columns), self.stored_bits(block)
        columns = bits.shape[1]
        if config.element.parallel:  # word k of a step is its weight 7 - k
            bits = bits[:, ::-1, :, ::-1].swapaxes(1, 3)
        stored = bits[:, 0, :count].astype(np.int16) * -1  # the sign column
        for column in range(1, columns):
            stored = 2 * stored + bits[:, column, :count]
        kept = np.ascontiguousarray(stored.transpose(1, 0, 2)).reshape(count, -1)
        redundant = constant = np.zeros_like(kept)
        if config.element.encoded:
            octets = self.words(block.number, "metadata", fields["metadata_base"], -(-self.steps // 2))
            each = octets[:, :count].T.astype(np.int16).repeat(GROUP, axis=1)[:, : kept.shape[1]]
            redundant, constant = each >> 6, (each & 63) - 2 * (each & 32)
        reduction, want = self.layer.reduction, self.layer.weights[block.channels].astype(np.int16)
        kept, redundant, constant = (each[:, :reduction] for each in (kept, redundant, constant))
        shift = MAX_COLUMNS - block.columns - redundant
        got = (kept << np.maximum(shift, 0)) + constant
        wrong = (got != want) | (shift < 0)
        for channel, group in sorted({(int(c), int(w) // GROUP) for c, w in np.argwhere(wrong)}):
            here = (channel, slice(group * GROUP, (group + 1) * GROUP))
            apart = want[here] - got[here]
            if config.element.encoded and (shift[here].min() < 0 or _one_byte(kept[here], want[here], block.columns)):
                byte = f"r {redundant[here][0]}, d {constant[here][0]}"
                field = f"array column {channel} (channel {block.channels[channel]})"
                text = f"{byte}, but its weights are {want[here].tolist()}"
                self.wrong("metadata", fields["metadata_base"] + group, field, text)
                continue
            at = group * GROUP + int(np.flatnonzero(apart)[0])
            right = int(want[channel, at] - constant[channel, at]) >> int(shift[channel, at])
            differing = (right ^ int(kept[channel, at])) & ((1 << columns) - 1)
            column, bit = columns - differing.bit_length() if differing else 0, at % config.step
            if config.element.parallel:
                column, bit = MAX_COLUMNS - 1 - bit, MAX_COLUMNS - 1 - column
            place, of_word = divmod(column, config.columns_per_cycle)
            word, bit = fields["weight_base"] + at // config.step * slices + place, bit + of_word * config.step
            field = f"array column {channel}, bit {bit} (channel {block.channels[channel]}, weight {at})"
            self.wrong("weight", word, field, f"weight {got[channel, at]} instead of {want[channel, at]}")


def _one_byte(kept: NDArray[np.int16], want: NDArray[np.int16], columns: int) -> bool:
    """Whether another metadata byte, with the same bits, would give all the weights of a group."""
    if len(kept) < 2:
        return False
    return any(len(set((want - (kept << k)).tolist())) == 1 for k in range(MAX_COLUMNS - columns + 1))
