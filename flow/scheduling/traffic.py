"""Memory traffic of a layer by itself, from its channel blocks alone."""

from __future__ import annotations

from flow.hardware.config import ArrayConfig
from flow.hardware.fields import INDEX_BITS, PARAMETER_BITS
from flow.scheduling.blocks import LayerSchedule


def memory_traffic(scheduled: LayerSchedule, config: ArrayConfig) -> dict[str, int]:
    """Bytes of one sample over each memory port: `output` is written, the others are read.

    Words are as wide as their port, so that their padding is counted, too.
    """
    words = dict.fromkeys(("descriptor", "weight", "metadata", "activation", "parameter", "index"), 0)
    for block in scheduled.blocks:
        parameters = -(-len(block.channels) // config.lanes)
        words["descriptor"] += 1
        words["weight"] += block.steps * block.slices
        words["metadata"] += config.element.metadata_words(block.steps)
        words["activation"] += block.fetched * block.steps * config.beats
        words["parameter"] += parameters
        words["index"] += parameters
    bits = {
        "descriptor": config.descriptor_bits,
        "weight": config.weight_bits,
        "metadata": config.metadata_bits,
        "activation": config.activation_bits,
        "parameter": PARAMETER_BITS * config.lanes,
        "index": INDEX_BITS * config.lanes,
    }
    read = {name: count * bits[name] // 8 for name, count in words.items()}
    return {**read, "output": scheduled.output_words * config.rows}
