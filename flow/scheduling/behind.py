"""A whole network behind a bus: its cycles layer by layer and on chip, and the width that it needs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from flow.compression.prune import prune
from flow.hardware.axi.bus import WIDTHS, AxiConfig
from flow.hardware.config import ArrayConfig
from flow.scheduling.blocks import Bytes, Program
from flow.scheduling.bus.bursts import SlowMemory
from flow.scheduling.bus.jobs import Words
from flow.scheduling.bus.model import BusTime, bus_time
from flow.scheduling.onchip.chain import Chain
from flow.scheduling.onchip.program import OnChip, assemble, fitted, outputs_only

GAIN: Final = 0.05  # of cycles: what a bus of twice the width must save to be worth it
MOST: Final = 400_000  # cycles of a network that is modelled whole; of longer ones runs are modelled by parts
SHARE: Final = 10_000  # cycles of a run that is modelled whole in any case


@dataclass(frozen=True)
class Behind:
    """One sample behind a bus: each layer by itself, and each segment on chip, which writes its outputs alone.

    `whole` are the cycles of the network as it runs: the segments and the layers in none, or else all layers.
    """

    axi: AxiConfig
    memory: SlowMemory
    layers: tuple[BusTime, ...]
    segments: tuple[BusTime, ...]
    alone: tuple[int, ...]  # numbers of the layers in no segment

    @property
    def running(self) -> list[BusTime]:
        """The runs of a sample."""
        return [*self.segments, *(self.layers[number] for number in self.alone)]

    @property
    def whole(self) -> int:
        return sum(run.cycles for run in self.running)


def behind(program: Program, onchip: OnChip | None, axi: AxiConfig, memory: SlowMemory) -> Behind:
    """The network's layers, and its segments if there are any, behind a bus with a memory like this."""
    runs = [_Run(program.memories, (each.first, len(each.blocks)), program.config) for each in program.layers]
    alone = tuple(range(len(runs)))
    if onchip is not None:
        memories = {**onchip.memories, "descriptor": outputs_only(onchip)}
        runs += [_Run(memories, start, onchip.config) for start in onchip.starts]
        names = {layer.name for layer in onchip.chain.alone}
        alone = tuple(number for number, each in enumerate(program.layers) if each.layer.name in names)
    most, layers = max(SHARE, MOST // len(runs)), len(program.layers)
    found = tuple(_time(run, axi, memory, most) for run in runs)
    return Behind(axi, memory, found[:layers], found[layers:], alone)


def unpruned(chain: Chain, config: ArrayConfig, axi: AxiConfig, memory: SlowMemory) -> tuple[BusTime, ...]:
    """The segments of a network on chip behind a bus, before it is pruned, on this array with room for its maps.

    FlowError if it cannot be built for this array.
    """
    layers = [layer for segment in chain.segments for layer in segment.layers]
    encoded = {layer.name: prune(layer.weights, np.zeros(layer.channels, np.int64))[0] for layer in layers}
    onchip = assemble(chain, encoded, fitted(config, chain))
    memories, most = {**onchip.memories, "descriptor": outputs_only(onchip)}, MOST // max(1, len(onchip.starts))
    runs = [_Run(memories, start, onchip.config) for start in onchip.starts]
    return tuple(_time(run, axi, memory, max(SHARE, most)) for run in runs)


@dataclass(frozen=True)
class Bus:
    """The network behind the bus that is built, and behind the narrowest that it needs."""

    built: Behind
    needed: Behind


def bus(program: Program, onchip: OnChip | None, axi: AxiConfig, memory: SlowMemory) -> Bus:
    """The network behind this bus, and the one that it needs with the same memory."""
    return Bus(behind(program, onchip, axi, memory), narrowest(program, onchip, memory))


def narrowest(program: Program, onchip: OnChip | None, memory: SlowMemory) -> Behind:
    """The network behind the narrowest bus of which twice the width saves less than `GAIN` of its cycles."""
    found = behind(program, onchip, AxiConfig(WIDTHS[0]), memory)
    for bits in WIDTHS[1:]:
        wider = behind(program, onchip, AxiConfig(bits), memory)
        if wider.whole > (1 - GAIN) * found.whole:
            break
        found = wider
    return found


class _Run:
    """A run as a key: what its time follows from."""

    def __init__(self, memories: Mapping[str, Bytes], start: Words, config: ArrayConfig) -> None:
        self.memories = {name: memories[name] for name in ("descriptor", "index", "entry") if name in memories}
        self.start, self.config = start, config
        first, count = start
        found = hashlib.sha256(memories["descriptor"][first : first + count].tobytes())
        for name in ("index", "entry"):
            if name in memories:
                found.update(memories[name].tobytes())
        self.key = found.digest(), count, replace(config, prefix="")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Run) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=256)
def _time(run: _Run, axi: AxiConfig, memory: SlowMemory, most: int) -> BusTime:
    return bus_time(run.memories, run.start, run.config, axi, memory, most)
