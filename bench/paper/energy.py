"""Energy of a network: PEs, on-chip buffers, DRAM. Every constant has its source; memories' are the flow's.

    PE      power of table V at 800 MHz (28 nm, placed and routed) times the cycles computed, all 512 PEs
    SRAM    every bit read for the array and every byte written, from banks of 8 KB
    DRAM    every byte of `memory.traffic`

Left out for all alike: leakage while the array waits for memory, control, requantization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.paper.accelerators import ANT_COLUMNS, ANT_ROWS, Work, tiles
from bench.paper.memory import Traffic
from bench.paper.published import PE_POWER
from flow.hardware.config import ArrayConfig
from flow.network.model import ArrayLayer
from flow.scheduling.energy import DRAM_BYTE, SRAM_BIT

CLOCK = 800e6  # Hz

# The authors' simulator has 1 nJ for 64 bits (yc2367/BitSim, sim/sim/bitlet.py).
DRAM_BYTE_AUTHORS = 1000 / 8

# pJ a cycle of one PE. Of the bit-serial ones by the paper's table V. Of SparTen (one 8-bit product with prefix sum
# and priority encoder) and ANT (16 lanes of 6 bits) the authors' simulator has the values before placement and
# routing, for which it counts 1.5 (yc2367/BitSim, sim/sim/sparten.py and ant.py).
ROUTED = 1.5
PE_CYCLE = {name: milliwatt * 1e9 / CLOCK for name, milliwatt in PE_POWER.items()} | {
    "sparten": 1.11 * ROUTED,
    "ant": 0.28125 * 0.8 * ROUTED,
}


@dataclass(frozen=True)
class Energy:
    """Picojoules of a network."""

    dram: float
    chip: float

    @property
    def total(self) -> float:
        return self.dram + self.chip


def energy(
    name: str,
    layers: Sequence[ArrayLayer],
    spent: Sequence[tuple[Work, Traffic]],
    weight_bits: Mapping[str, float],
    activation_bits: Mapping[str, float],
    config: ArrayConfig,
) -> Energy:
    """Energy of one input on the accelerator `name`; bits as `memory.traffic` takes them."""
    work, moved = zip(*spent, strict=True)
    count = ANT_ROWS * ANT_COLUMNS if name == "ant" else config.rows * config.columns
    chip = sum(layer.cycles for layer in work) * count * PE_CYCLE[name]
    rows, columns = (ANT_ROWS, ANT_COLUMNS) if name == "ant" else (config.rows, config.columns)
    for layer, bytes_ in zip(layers, moved, strict=True):
        blocks = -(-(layer.channels // layer.groups) // columns)
        weights = layer.weights.size * weight_bits[layer.name] * tiles(layer, rows)
        inputs = layer.groups * blocks * layer.positions * layer.reduction * activation_bits[layer.name]
        chip += SRAM_BIT * (weights + inputs + 8 * bytes_.total)
    return Energy(sum(bytes_.total for bytes_ in moved) * DRAM_BYTE, chip)
