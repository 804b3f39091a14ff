"""Memory traffic of a layer by itself, from its channel blocks alone."""

from __future__ import annotations

from flow.hardware.config import ArrayConfig
from flow.hardware.fields import INDEX_BITS, PARAMETER_BITS
from flow.scheduling.blocks import Block, LayerSchedule


def memory_traffic(scheduled: LayerSchedule, config: ArrayConfig) -> dict[str, int]:
    """Bytes of one sample over each memory port: `output` is written, the others are read.

    Words are as wide as their port, so that their padding is counted, too.
    """
    sizes = word_bytes(config)
    words = dict.fromkeys(sizes, 0)
    for block in scheduled.blocks:
        words["activation"] += block.fetched * block.steps * config.beats
        for name, count in operand_words(block, config).items():
            words[name] += count
    read = {name: count * sizes[name] for name, count in words.items()}
    return {**read, "output": scheduled.output_words * config.rows}


def operand_words(block: Block, config: ArrayConfig) -> dict[str, int]:
    """Words that a block reads, by memory, but for its windows."""
    parameters = -(-len(block.channels) // config.lanes)
    return {
        "descriptor": 1,
        "weight": block.steps * block.slices,
        "metadata": config.element.metadata_words(block.steps),
        "parameter": parameters,
        "index": parameters,
    }


def word_bytes(config: ArrayConfig) -> dict[str, int]:
    """Bytes of a word of each memory that is read."""
    bits = {
        "descriptor": config.descriptor_bits,
        "weight": config.weight_bits,
        "metadata": config.metadata_bits,
        "activation": config.activation_bits,
        "parameter": PARAMETER_BITS * config.lanes,
        "index": INDEX_BITS * config.lanes,
    }
    return {name: width // 8 for name, width in bits.items()}
