"""The memory ports of an accelerator: what engines, benches and the bus put memories behind."""

from __future__ import annotations

from flow.engines.base import MemoryPort
from flow.hardware.config import INDEX_BITS, PARAMETER_BITS, ArrayConfig
from flow.hardware.maps.fields import ENTRY_BITS


def memory_ports(config: ArrayConfig) -> tuple[MemoryPort, ...]:
    """The accelerator's memory ports, in the order of its port list."""
    return (
        MemoryPort("descriptor", config.descriptor_bits),
        MemoryPort("weight", config.weight_bits),
        MemoryPort("metadata", config.metadata_bits),
        MemoryPort("activation", config.activation_bits),
        MemoryPort("parameter", PARAMETER_BITS * config.lanes),
        MemoryPort("index", INDEX_BITS * config.lanes),
        *([MemoryPort("entry", ENTRY_BITS)] if config.map_words else []),
        MemoryPort("output", 8 * config.rows, config.lanes),
    )
