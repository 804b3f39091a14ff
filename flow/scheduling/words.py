"""Packs descriptors, weights, parameters, activations and outputs into memory words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.compression.encoding import BBS, EncodedLayer
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.hardware.fields import INDEX_BITS, PARAMETER, PARAMETER_BITS, SUBGROUP, field_span
from flow.network.model import OFFSET, ArrayLayer, as_int8, as_uint8
from flow.network.reference import folded_bias, multipliers
from flow.scheduling.blocks import Block, Bytes, LayerSchedule


def pack_fields(values: dict[str, int], fields: Sequence[tuple[str, int]], bits: int, where: str) -> Bytes:
    """Pack named fields, least significant first, into one little-endian word; FlowError for too large a value."""
    word, begin = 0, 0
    for name, width in fields:
        value = values[name]
        if not 0 <= value < 1 << width:
            raise FlowError(
                f"layer '{where}': {name} = {value} needs more than the hardware's {width} bits; "
                "use a larger array or split the layer"
            )
        word |= value << begin
        begin += width
    return np.frombuffer(word.to_bytes(bits // 8, "little"), np.uint8)


def pack_descriptor(values: Mapping[str, int], config: ArrayConfig, where: str) -> Bytes:
    """One descriptor; fields that `values` does not have are zero."""
    unknown = set(values) - {name for name, _ in config.descriptor}
    assert not unknown, unknown
    complete = {name: values.get(name, 0) for name, _ in config.descriptor}
    return pack_fields(complete, config.descriptor, config.descriptor_bits, where)


def unpack_fields(word: Bytes, fields: Sequence[tuple[str, int]]) -> dict[str, int]:
    """The named fields of one little-endian word, as `pack_fields` packs them."""
    number, values = int.from_bytes(word.tobytes(), "little"), {}
    for name, width in fields:
        values[name] = number & ((1 << width) - 1)
        number >>= width
    return values


@dataclass
class Image:
    """A memory image while it is written: words, part after part."""

    parts: list[Bytes] = field(default_factory=list)
    used: int = 0
    known: dict[tuple[str, int, bytes], int] = field(default_factory=dict)

    def add(self, words: Bytes) -> tuple[int, int]:
        """Append words; returns the first one's address, and how many there are."""
        begin = self.used
        self.parts.append(words)
        self.used += len(words)
        return begin, len(words)

    def share(self, words: Bytes, owner: str) -> tuple[int, int]:
        """As `add`, but words that are there already, of the same owner, are not stored again."""
        key = (owner, len(words), hashlib.sha256(words.tobytes()).digest())
        if key not in self.known:
            self.known[key], _ = self.add(words)
        return self.known[key], len(words)


def weight_words(block: Block, layer: ArrayLayer, encoded: EncodedLayer, config: ArrayConfig) -> tuple[Bytes, Bytes]:
    """Weight and metadata memory words of a block.

    Weight word: array column c from bit c*step on, weight i of the step at its bit i; words in the order step,
    bit column (most significant first). Of a bit-parallel element: the whole weight, weight 7 of the step first.
    Of `columns_per_cycle` > 1: so many bit columns, the first of a word lowest; array column c begins at bit
    c*step*columns_per_cycle, and what is missing to whole words comes in front, as copies of the sign. Words beyond
    the last bit column are zero.
    Metadata word: one byte r (2) . d (6) per array column, one word per group of 32 weights.
    """
    if config.element.words:
        packed: tuple[Bytes, Bytes] = config.element.words(block, layer, encoded, config)
        return packed
    count, width = len(block.channels), config.step
    if config.element.encoded:
        part = next(p for p in encoded.parts if p.groups.columns_pruned == BBS.weight_bits - block.columns)
        rows = np.searchsorted(part.channels, block.channels)
        per_channel = encoded.groups_per_channel
        kept = part.groups.kept.reshape(len(part.channels), -1)[rows]
        redundant = part.groups.redundant.reshape(-1, per_channel)[rows].astype(np.uint8)
        constant = part.groups.constant.reshape(-1, per_channel)[rows].view(np.uint8)
        metadata = np.zeros((per_channel, config.columns), np.uint8)
        low_bits = np.uint8(2**BBS.constant_bits - 1)
        metadata[:, :count] = ((redundant << BBS.constant_bits) | (constant & low_bits)).T
    else:
        kept = layer.weights[block.channels]
        metadata = np.zeros((0, config.columns), np.uint8)
    padded = np.zeros((count, block.steps * width), np.int8)
    padded[:, : min(kept.shape[1], padded.shape[1])] = kept[:, : padded.shape[1]]
    steps = padded.reshape(count, block.steps, width)
    together = config.columns_per_cycle
    used = -(-block.columns // together)  # slices with bit columns
    shifts = np.arange(used * together - 1, -1, -1)  # beyond a weight's own bits: its sign
    bits = (steps[:, :, None, :] >> shifts[None, None, :, None]) & 1
    if config.element.parallel:
        bits = whole_weights(bits)
    words = np.zeros((block.steps, block.slices, config.columns, together * width), np.uint8)
    slices = bits.reshape(count, block.steps, used, -1)
    words[:, :used, :count] = slices.transpose(1, 2, 0, 3)
    flat = words.reshape(block.steps * block.slices, -1)
    return np.packbits(flat, axis=1, bitorder="little"), metadata


def whole_weights(bits: NDArray[np.int8]) -> NDArray[np.int8]:
    """Bits [..., column, weight] of eight weights, column 7 - k their bit k, as [..., 7 - weight, bit]; or back."""
    return bits[..., ::-1, ::-1].swapaxes(-1, -2)


def channel_parameters(layer: ArrayLayer) -> NDArray[np.uint64]:
    """Bias and scale of every channel in the format of the hardware, uint64 [channels].

    The bias is b' - OFFSET * sum(w), modulo 2^32: activations are stored as x + OFFSET, so that the array only adds
    unsigned bytes.
    """
    bias = folded_bias(layer) - OFFSET * layer.weights.sum(axis=1, dtype=np.int64)
    if layer.output_quantization:
        multiplier, shift = multipliers(layer)
    else:
        multiplier, shift = np.zeros_like(bias), np.ones_like(bias)
    return pack_parameters(bias, multiplier, shift)


def pack_parameters(
    bias: NDArray[np.int64], multiplier: NDArray[np.int64], shift: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """The fields of PARAMETER packed into one number per channel, uint64 [channels]; the bias modulo 2^32."""
    values, packed = {"bias": bias, "multiplier": multiplier, "shift": shift}, np.zeros(len(bias), np.uint64)
    for name, width in PARAMETER:
        _, begin = field_span(PARAMETER, name)
        packed |= (values[name] & (1 << width) - 1).astype(np.uint64) << np.uint64(begin)
    return packed


def parameter_words(block: Block, packed: NDArray[np.uint64], config: ArrayConfig) -> tuple[Bytes, Bytes]:
    """Bias/scale and channel-index words of a block, `config.lanes` channels each; `packed`: `channel_parameters`."""
    count, lanes = len(block.channels), config.lanes
    words = -(-count // lanes)
    parameters = np.zeros(words * lanes, np.uint64)
    parameters[:count] = packed[block.channels]
    index = np.zeros(words * lanes, np.uint16)
    index[:count] = block.channels
    return (
        parameters.view(np.uint8).reshape(words, lanes * PARAMETER_BITS // 8),
        index.view(np.uint8).reshape(words, lanes * INDEX_BITS // 8),
    )


def activation_words(scheduled: LayerSchedule, windows: NDArray[np.int8], config: ArrayConfig) -> Bytes:
    """Activation memory of one sample: windows int8 [groups, positions, reduction] to uint8 [words, 8 * rows].

    Word order: conv group, position tile, eight reduction positions at a time; in a word row 0 is lowest.
    Padding of the reduction is the byte 0, so the weights there do not matter.
    """
    groups, positions, reduction = windows.shape
    words = scheduled.steps * config.beats
    padded = np.zeros((groups, scheduled.tiles * config.rows, words * SUBGROUP), np.uint8)
    padded[:, :positions, :reduction] = as_uint8(windows)
    tiled = padded.reshape(groups, scheduled.tiles, config.rows, words, SUBGROUP).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(tiled).reshape(-1, config.rows * SUBGROUP)


def output_rows(scheduled: LayerSchedule, memory: Bytes, config: ArrayConfig) -> NDArray[np.int8] | NDArray[np.int32]:
    """Read a layer's result back: output memory to int8 codes (or int32 sums when raw) [tiles * rows, channels].

    Beyond the layer's positions, the rows are those of array rows without a window.
    """
    layer = scheduled.layer
    words = memory.reshape(scheduled.tiles, scheduled.planes, layer.channels, config.rows)
    rows = words.transpose(0, 3, 2, 1).reshape(-1, layer.channels, scheduled.planes)
    if scheduled.planes == 1:
        return np.ascontiguousarray(as_int8(rows[..., 0]))
    return np.ascontiguousarray(rows).view(np.int32)[..., 0]


def pack_outputs(scheduled: LayerSchedule, rows: NDArray[Any], config: ArrayConfig) -> Bytes:
    """Output memory that holds `rows` [tiles * rows, channels]: the inverse of `output_rows`."""
    layer = scheduled.layer
    octets = (
        np.ascontiguousarray(rows)
        .view(np.uint8)
        .reshape(scheduled.tiles, config.rows, layer.channels, scheduled.planes)
    )
    words = np.ascontiguousarray(octets.transpose(0, 3, 2, 1)).reshape(-1, config.rows)
    return as_uint8(words.view(np.int8)) if scheduled.planes == 1 else words
