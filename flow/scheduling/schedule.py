"""Schedule: an encoded network becomes descriptors, memory images and the order in which the array works.

The array takes one *channel block* at a time (up to `config.columns` output channels of one conv group, all with
the same number of stored bit columns) over all *position tiles* (`config.rows` windows each).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flow.compression.encoding import EncodedLayer
from flow.hardware.config import ArrayConfig
from flow.hardware.fields import ENTRY_BITS
from flow.network.model import OFFSET, ArrayLayer
from flow.scheduling.blocks import Block, Bytes, LayerSchedule, Program
from flow.scheduling.order import layout
from flow.scheduling.words import Image, channel_parameters, pack_descriptor, parameter_words, weight_words

OPERANDS = ("weight", "metadata", "parameter")  # with an address in the descriptor; indices share the parameters'


def schedule(encoded: Sequence[EncodedLayer], layers: Sequence[ArrayLayer], config: ArrayConfig) -> Program:
    """Lay all layers out in the memories.

    Raises FlowError when a sum may overflow the accumulator or a count does not fit its descriptor field.
    """
    allocation = {layer.name: part.columns_pruned for layer, part in zip(layers, encoded, strict=True)}
    schedules = layout(layers, allocation, config)
    images = {name: Image() for name in ("descriptor", "weight", "metadata", "parameter", "index")}
    for scheduled, stored in zip(schedules, encoded, strict=True):
        packed = channel_parameters(scheduled.layer)
        placed: dict[
            int, dict[str, tuple[int, int]]
        ] = {}  # by first channel: the blocks of a tile each that share channels share words, too
        for block in scheduled.blocks:
            channel = int(block.channels[0])
            if channel not in placed:
                weight, metadata = weight_words(block, scheduled.layer, stored, config)
                parameters, index = parameter_words(block, packed, config)
                words = {"parameter": parameters, "index": index}
                owner = scheduled.layer.weight_tensor
                placed[channel] = {name: images[name].add(image) for name, image in words.items()}
                placed[channel] |= {"weight": images["weight"].share(weight, owner),
                                    "metadata": images["metadata"].share(metadata, owner)}  # fmt: skip
            images["descriptor"].add(_descriptor(scheduled, block, placed[channel], config))
    memories = {name: np.ascontiguousarray(np.concatenate(image.parts)) for name, image in images.items()}
    if config.map_words:  # the windows come from outside, so nothing is written to the maps
        memories["entry"] = np.zeros((1, ENTRY_BITS // 8), np.uint8)
    for name, memory in memories.items():  # a dense array has no metadata, but a memory has at least one word
        if not len(memory):
            memories[name] = np.zeros((1, memory.shape[1]), np.uint8)
    return Program(config, memories, schedules)


def _descriptor(
    scheduled: LayerSchedule, block: Block, placed: Mapping[str, tuple[int, int]], config: ArrayConfig
) -> Bytes:
    """One descriptor word; `placed` is (first word, number of words) of the block's operands, by memory."""
    values = descriptor_values(scheduled, block, config)
    values |= {f"{name}_base": placed[name][0] for name in OPERANDS}
    values |= {f"{name}_count": placed[name][1] for name in OPERANDS}
    outside = {"mirror": 1, "external": 1} if config.map_words else {}
    return pack_descriptor(values | outside, config, scheduled.layer.name)[None]


def descriptor_values(scheduled: LayerSchedule, block: Block, config: ArrayConfig) -> dict[str, int]:
    """The fields of a block's descriptor, without the addresses of its operands."""
    layer, planes, beats = scheduled.layer, scheduled.planes, scheduled.steps * config.beats
    quantization = layer.output_quantization
    return {
        "activation_base": (block.group * scheduled.tiles + block.first_tile + (block.ahead and block.tiles)) * beats,
        "activation_count": block.fetched * beats,
        "output_base": block.first_tile * planes * layer.channels,
        "tile_stride": planes * layer.channels,
        "plane_stride": layer.channels,
        "tiles": block.tiles,
        "steps": block.steps,
        "channels": len(block.channels),
        "columns": block.columns,
        "hold": int(block.hold),
        "ahead": int(block.ahead > 0),
        "resident": int(block.resident),
        "raw": int(quantization is None),
        "zero": quantization.zero_point + OFFSET if quantization else 0,
        "low": layer.clamp[0] + OFFSET,
        "high": layer.clamp[1] + OFFSET,
    }
