"""Schedule: an encoded network becomes descriptors, memory images and the order in which the array works.

The array takes one *channel block* at a time (up to `config.columns` output channels of one conv group, all with
the same number of stored bit columns) over all *position tiles* (`config.rows` windows each).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.encoding import BBS, EncodedLayer
from flow.errors import FlowError
from flow.hardware.config import (
    INDEX_BITS,
    PARAMETER_BITS,
    SUBGROUP,
    ArrayConfig,
)
from flow.hardware.maps.fields import ENTRY_BITS
from flow.network import ArrayLayer
from flow.reference import check_accumulator, folded_bias, multipliers

Bytes = NDArray[np.uint8]
OPERANDS = ("weight", "metadata", "parameter")  # what a descriptor points at; indices lie as parameters do
OFFSET = 128  # activations travel as u = x + 128, so the array only ever adds unsigned bytes


@dataclass(frozen=True)
class Block:
    """One channel block: `channels` int [n] original indices, stored `columns` each, over `tiles` position tiles."""

    group: int
    channels: NDArray[np.int64]
    columns: int
    steps: int
    tiles: int
    first_tile: int
    resident: bool


@dataclass(frozen=True)
class LayerSchedule:
    """Where a layer's job lies in the memories, and its blocks in order."""

    layer: ArrayLayer
    first: int  # descriptor number
    blocks: tuple[Block, ...]
    tiles: int
    steps: int
    planes: int

    @property
    def ideal_cycles(self) -> int:
        """Bit columns alone: tiles x steps x stored columns, summed over the blocks."""
        return sum(block.tiles * block.steps * block.columns for block in self.blocks)

    @property
    def output_words(self) -> int:
        return self.tiles * self.planes * self.layer.channels


@dataclass(frozen=True)
class Program:
    """A scheduled network: memory images uint8 [words, bytes per word], and one schedule per layer."""

    config: ArrayConfig
    memories: dict[str, Bytes]
    layers: tuple[LayerSchedule, ...]


def pack_fields(values: dict[str, int], fields: Sequence[tuple[str, int]], bits: int, where: str) -> Bytes:
    """Pack named fields, least significant first, into one little-endian word; refuse what does not fit."""
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
    """One descriptor; fields that are not given are zero."""
    unknown = set(values) - {name for name, _ in config.descriptor}
    assert not unknown, unknown
    given = {name: values.get(name, 0) for name, _ in config.descriptor}
    return pack_fields(given, config.descriptor, config.descriptor_bits, where)


def unpack_fields(word: Bytes, fields: Sequence[tuple[str, int]]) -> dict[str, int]:
    """The named fields of one little-endian word, as `pack_fields` packs them."""
    whole, values = int.from_bytes(word.tobytes(), "little"), {}
    for name, width in fields:
        values[name] = whole & ((1 << width) - 1)
        whole >>= width
    return values


def channel_blocks(layer: ArrayLayer, columns_pruned: NDArray[np.int64], config: ArrayConfig) -> list[Block]:
    """Reorder the channels so that those of one N stand together, and cut them into blocks (paper fig. 10)."""
    tiles = -(-layer.positions // config.rows)
    steps = -(-layer.reduction // config.step)
    per_group = layer.channels // layer.groups
    blocks = []
    for group in range(layer.groups):
        members = np.arange(group * per_group, (group + 1) * per_group)
        pruned = columns_pruned[members]
        for n in np.unique(pruned):
            same = members[pruned == n]
            columns = BBS.weight_bits - int(n)
            resident = steps * columns <= config.weight_depth and -(-steps // 2) <= config.metadata_depth
            for begin in range(0, len(same), config.columns):
                chosen = same[begin : begin + config.columns]
                if resident:
                    blocks.append(Block(group, chosen, columns, steps, tiles, 0, True))
                else:  # weights larger than their buffer pass through it once per position tile
                    blocks += [Block(group, chosen, columns, steps, 1, tile, False) for tile in range(tiles)]
    return blocks


def weight_words(block: Block, layer: ArrayLayer, encoded: EncodedLayer, config: ArrayConfig) -> tuple[Bytes, Bytes]:
    """Weight and metadata memory words of a block.

    Weight word: array column c at bits c*step and on, weight i of the step at bit i; words in the order step,
    bit column (most significant first). Metadata word: one byte r (2) . d (6) per array column, one word per
    group of 32 weights.
    """
    count, width = len(block.channels), config.step
    if config.pe == "bitvert":
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
    shifts = np.arange(block.columns - 1, -1, -1)
    bits = (steps[:, :, None, :] >> shifts[None, None, :, None]) & 1
    words = np.zeros((block.steps, block.columns, config.columns, width), np.uint8)
    words[:, :, :count] = bits.transpose(1, 2, 0, 3)
    flat = words.reshape(block.steps * block.columns, -1)
    return np.packbits(flat, axis=1, bitorder="little"), metadata


def check_width(layer: ArrayLayer, config: ArrayConfig) -> None:
    """Prove from the weights that the array's own sums fit; at 32 bits they may wrap, the bias wraps them back."""
    weights = layer.weights.astype(np.int64)
    reach = 255 * np.maximum(np.maximum(weights, 0).sum(axis=1), -np.minimum(weights, 0).sum(axis=1)).max()
    if config.accumulator_bits < 32 and reach >= 2 ** (config.accumulator_bits - 1):
        raise FlowError(
            f"layer '{layer.name}': its sums reach {reach}, more than {config.accumulator_bits}-bit accumulators "
            "hold; build the array with 32 bits"
        )


def channel_parameters(layer: ArrayLayer) -> NDArray[np.uint64]:
    """Bias and scale of every channel as the hardware wants them, uint64 [channels].

    The bias is b' - 128*sum(w), modulo 2^32, because activations travel as x + 128.
    """
    bias = folded_bias(layer) - OFFSET * layer.weights.sum(axis=1, dtype=np.int64)
    if layer.output_quantization:
        multiplier, shift = multipliers(layer)
    else:
        multiplier, shift = np.zeros_like(bias), np.ones_like(bias)
    packed: NDArray[np.uint64] = (
        (bias & 0xFFFFFFFF).astype(np.uint64)
        | multiplier.astype(np.uint64) << np.uint64(32)
        | shift.astype(np.uint64) << np.uint64(56)
    )
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


def layout(
    layers: Sequence[ArrayLayer], columns_pruned: Mapping[str, NDArray[np.int64]], config: ArrayConfig
) -> tuple[LayerSchedule, ...]:
    """The order of work: every layer's channel blocks and its place in the descriptor memory.

    `columns_pruned` is N of every channel, by layer name. FlowError when a sum may leave the accumulator or
    the blocks are too many to number.
    """
    schedules, first = [], 0
    for layer in layers:
        check_accumulator(layer)
        check_width(layer, config)
        n = columns_pruned[layer.name] if config.pe == "bitvert" else np.zeros(layer.channels, np.int64)
        blocks = channel_blocks(layer, n, config)
        tiles, steps = -(-layer.positions // config.rows), -(-layer.reduction // config.step)
        planes = 1 if layer.output_quantization else 4
        schedules.append(LayerSchedule(layer, first, tuple(blocks), tiles, steps, planes))
        first += len(blocks)
        if first >= 2**16:
            raise FlowError(
                f"layer '{layer.name}': the network needs more than 65,535 descriptors on a "
                f"{config.rows}x{config.columns} array; use a larger array or deeper buffers"
            )
    return tuple(schedules)


def schedule(encoded: Sequence[EncodedLayer], layers: Sequence[ArrayLayer], config: ArrayConfig) -> Program:
    """Lay all layers out in the memories.

    Raises FlowError when a sum may leave the accumulator or a count does not fit its descriptor field.
    """
    allocation = {layer.name: part.columns_pruned for layer, part in zip(layers, encoded, strict=True)}
    schedules = layout(layers, allocation, config)
    images: dict[str, list[Bytes]] = {name: [] for name in ("descriptor", "weight", "metadata", "parameter", "index")}
    used = dict.fromkeys(images, 0)
    for scheduled, stored in zip(schedules, encoded, strict=True):
        packed = channel_parameters(scheduled.layer)
        placed: dict[
            int, dict[str, tuple[int, int]]
        ] = {}  # by first channel: blocks of one tile each share their words
        for block in scheduled.blocks:
            channel = int(block.channels[0])
            if channel not in placed:
                weight, metadata = weight_words(block, scheduled.layer, stored, config)
                parameters, index = parameter_words(block, packed, config)
                words = {"weight": weight, "metadata": metadata, "parameter": parameters, "index": index}
                placed[channel] = {name: (used[name], len(image)) for name, image in words.items()}
                for name, image in words.items():
                    images[name].append(image)
                    used[name] += len(image)
            images["descriptor"].append(_descriptor(scheduled, block, placed[channel], config))
    memories = {name: np.ascontiguousarray(np.concatenate(parts)) for name, parts in images.items()}
    if config.map_words:  # the windows come from outside, so nothing is written to the maps
        memories["entry"] = np.zeros((1, ENTRY_BITS // 8), np.uint8)
    for name, memory in memories.items():  # a dense array has no metadata, but every memory has a word
        if not len(memory):
            memories[name] = np.zeros((1, memory.shape[1]), np.uint8)
    return Program(config, memories, schedules)


def _descriptor(
    scheduled: LayerSchedule, block: Block, placed: Mapping[str, tuple[int, int]], config: ArrayConfig
) -> Bytes:
    """One descriptor word; `placed` is (first word, words) of what the block reads, by memory."""
    values = descriptor_values(scheduled, block, config)
    values |= {f"{name}_base": placed[name][0] for name in OPERANDS}
    values |= {f"{name}_count": placed[name][1] for name in OPERANDS}
    outside = {"mirror": 1, "external": 1} if config.map_words else {}
    return pack_descriptor(values | outside, config, scheduled.layer.name)[None]


def descriptor_values(scheduled: LayerSchedule, block: Block, config: ArrayConfig) -> dict[str, int]:
    """The fields of a block's descriptor, but for where its operands are."""
    layer, planes, beats = scheduled.layer, scheduled.planes, scheduled.steps * config.beats
    quantization = layer.output_quantization
    return {
        "activation_base": (block.group * scheduled.tiles + block.first_tile) * beats,
        "activation_count": block.tiles * beats,
        "output_base": block.first_tile * planes * layer.channels,
        "tile_stride": planes * layer.channels,
        "plane_stride": layer.channels,
        "tiles": block.tiles,
        "steps": block.steps,
        "channels": len(block.channels),
        "columns": block.columns,
        "resident": int(block.resident),
        "raw": int(quantization is None),
        "zero": quantization.zero_point + OFFSET if quantization else 0,
        "low": layer.clamp[0] + OFFSET,
        "high": layer.clamp[1] + OFFSET,
    }


def activation_words(scheduled: LayerSchedule, windows: NDArray[np.int8], config: ArrayConfig) -> Bytes:
    """Activation memory of one sample: windows int8 [groups, positions, reduction] to uint8 [words, 8 * rows].

    Word order: conv group, position tile, eight reduction positions at a time; in a word row 0 is lowest.
    Padding of the reduction is the byte 0, so what the weights hold there does not matter.
    """
    groups, positions, reduction = windows.shape
    words = scheduled.steps * config.beats
    padded = np.zeros((groups, scheduled.tiles * config.rows, words * SUBGROUP), np.uint8)
    padded[:, :positions, :reduction] = windows.view(np.uint8) ^ 0x80
    tiled = padded.reshape(groups, scheduled.tiles, config.rows, words, SUBGROUP).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(tiled).reshape(-1, config.rows * SUBGROUP)


def output_rows(scheduled: LayerSchedule, memory: Bytes, config: ArrayConfig) -> NDArray[np.int8] | NDArray[np.int32]:
    """Read a layer's result back: output memory to int8 codes (or int32 sums when raw) [positions, channels]."""
    layer = scheduled.layer
    words = memory.reshape(scheduled.tiles, scheduled.planes, layer.channels, config.rows)
    rows = words.transpose(0, 3, 2, 1).reshape(-1, layer.channels, scheduled.planes)[: layer.positions]
    if scheduled.planes == 1:
        return np.ascontiguousarray(rows[..., 0] ^ np.uint8(0x80)).view(np.int8)
    return np.ascontiguousarray(rows).view(np.int32)[..., 0]


def output_words(
    scheduled: LayerSchedule,
    rows: NDArray[np.int8] | NDArray[np.int32],
    idle: NDArray[Any],
    config: ArrayConfig,
) -> Bytes:
    """Output memory that holds `rows` [positions, channels]; the array's rows without a window hold `idle`."""
    layer = scheduled.layer
    padded = np.empty((scheduled.tiles * config.rows, layer.channels), rows.dtype)
    padded[: layer.positions] = rows
    padded[layer.positions :] = idle
    octets = padded.view(np.uint8).reshape(scheduled.tiles, config.rows, layer.channels, scheduled.planes)
    words = np.ascontiguousarray(octets.transpose(0, 3, 2, 1)).reshape(-1, config.rows)
    return words ^ np.uint8(0x80) if scheduled.planes == 1 else words
