"""Energy of a network on the array as a function of N of its channels: measured elements, stated memories.

    elements  of every element of the array, each cycle in which a bit column is computed (`ELEMENT_CYCLE`)
    buffers   every bit that comes into the on-chip buffers, and every bit that the array reads of them (`SRAM_BIT`)
    bus       every byte over the memory ports, from or to DRAM (`DRAM_BYTE`)

Left out: control, requantization, what rows and columns share, leakage, and cycles in which the array waits. It is of
layers one after the other; feature maps on chip have no model yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flow.compression.encoding import BBS
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.network.model import ArrayLayer
from flow.scheduling.blocks import LayerSchedule
from flow.scheduling.order import by_itself
from flow.scheduling.traffic import memory_traffic

# Energy of a cycle of one element at work, by N = 0 to 6 (of elements that are not encoded, alone), in pJ of a 180 nm
# library, on the digits that ship; by the array's element and its bit columns a cycle:
#   python -m bench.energy --pruned 0 --element stripes_8 --element parallel
#   python -m bench.energy --pruned 0,1,2,3,4,5,6 --element bitvert \
#       --element pairs_1 --element pairs_2 --element pairs_4
GATES: Final[Mapping[tuple[str, int], tuple[float, ...]]] = {
    ("bitvert", 1): (51.2, 53.1, 55.5, 58.8, 62.1, 68.3, 80.0),
    ("dense", 1): (33.2,),
    ("parallel", 1): (32.8,),
    ("pairs", 1): (41.9, 43.3, 45.5, 49.5, 52.9, 55.8, 65.3),
    ("pairs", 2): (60.7, 61.2, 68.1, 70.9, 80.9, 78.0, 77.9),
    ("pairs", 4): (96.7, 99.5, 103.4, 106.7, 101.0, 99.2, 101.8),
}

# What the BitVert element takes at 28 nm, placed and routed: 0.45 mW at 800 MHz (BBS paper, table V). The paper does
# not say with what data; here it is N = 4, about that of its moderate preset. All others by the measured ratios.
BITVERT_CYCLE: Final = 0.45e-3 / 800e6 * 1e12  # pJ
ELEMENT_CYCLE: Final[Mapping[tuple[str, int], tuple[float, ...]]] = {
    element: tuple(each * BITVERT_CYCLE / GATES["bitvert", 1][4] for each in cycles)
    for element, cycles in GATES.items()
}

# Horowitz, "Computing's energy problem", ISSCC 2014: 10 pJ for 64 bits of an 8 KB memory at 45 nm; here per bit and
# scaled with the feature size to 28 nm.
SRAM_BIT: Final = 10 / 64 * 28 / 45  # pJ

# The same source: 1.3 to 2.6 nJ for 64 bits of DRAM. The lower end, per byte.
DRAM_BYTE: Final = 1300 / 8  # pJ


@dataclass(frozen=True)
class LayerEnergy:
    """Picojoules of one layer."""

    elements: float
    buffers: float
    bus: float

    @property
    def total(self) -> float:
        return self.elements + self.buffers + self.bus


@dataclass(frozen=True)
class ArrayEnergy:
    """Energy of one sample, one layer after the other: what `energy_on` gives."""

    config: ArrayConfig

    stored = False

    def of(self, layer: ArrayLayer, columns_pruned: NDArray[np.int64]) -> int:
        """Picojoules of a layer whose channels lose so many columns, int64 [channels]."""
        return round(layer_energy(by_itself(layer, columns_pruned, self.config), self.config).total)


def modelled(config: ArrayConfig) -> bool:
    """Whether there is a model of the energy of this array."""
    return not config.map_words and (config.pe, config.columns_per_cycle) in ELEMENT_CYCLE


def energy_on(config: ArrayConfig) -> ArrayEnergy:
    """The energy of layers on this array. FlowError if there is no model of it."""
    if config.map_words:
        raise FlowError(
            "there is no model of the energy of feature maps on chip; give --objective cycles, or leave out --on-chip"
        )
    if not modelled(config):
        raise FlowError(
            f"the energy of element '{config.pe}' was not measured; give --objective cycles, or another --pe"
        )
    return ArrayEnergy(config)


def layer_energy(scheduled: LayerSchedule, config: ArrayConfig) -> LayerEnergy:
    """The parts of a layer's energy; the array has a model."""
    by_columns = ELEMENT_CYCLE[config.pe, config.columns_per_cycle]
    cycles = read = 0.0
    for block in scheduled.blocks:
        pruned = BBS.weight_bits - block.columns if config.element.encoded else 0
        cycles += block.tiles * block.steps * block.slices * by_columns[pruned]
        read += block.tiles * block.steps * (block.slices * config.weight_bits + config.beats * config.activation_bits)
        read += block.tiles * config.element.metadata_words(block.steps) * config.metadata_bits
    moved = sum(memory_traffic(scheduled, config).values())
    return LayerEnergy(cycles * config.rows * config.columns, SRAM_BIT * (read + 8 * moved), DRAM_BYTE * moved)
