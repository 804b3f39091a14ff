"""A whole network behind a bus: its cycles layer by layer and on chip, and the width that it needs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from flow.hardware.axi.bus import WIDTHS, AxiConfig
from flow.hardware.config import ArrayConfig
from flow.scheduling.blocks import Bytes, Program
from flow.scheduling.bus.bursts import SlowMemory
from flow.scheduling.bus.jobs import Words
from flow.scheduling.bus.model import BusTime, bus_time
from flow.scheduling.onchip.program import OnChip, outputs_only

GAIN: Final = 0.05  # of cycles: what a bus of twice the width must save to be worth it
MOST: Final = 400_000  # cycles of a network that is modelled whole; of longer ones runs are modelled by parts
SHARE: Final = 10_000  # cycles of a run that is modelled whole in any case


class Run:
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
        return isinstance(other, Run) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True)
class Behind:
    """One sample behind a bus: each layer by itself, and each segment on chip, which writes its outputs alone.

    What is asked for is modelled when it is asked for. `whole` are the cycles of the network as it runs: the segments
    and the layers in none, or else all layers.
    """

    axi: AxiConfig
    memory: SlowMemory
    layer_runs: tuple[Run, ...]
    segment_runs: tuple[Run, ...]
    alone: tuple[int, ...]  # numbers of the layers in no segment

    @property
    def layers(self) -> tuple[BusTime, ...]:
        return self._times(self.layer_runs)

    @property
    def segments(self) -> tuple[BusTime, ...]:
        return self._times(self.segment_runs)

    @property
    def running(self) -> tuple[BusTime, ...]:
        """The runs of a sample."""
        return self.segments + self._times([self.layer_runs[number] for number in self.alone])

    @property
    def whole(self) -> int:
        return sum(run.cycles for run in self.running)

    def _times(self, runs: Sequence[Run]) -> tuple[BusTime, ...]:
        most = max(SHARE, MOST // (len(self.layer_runs) + len(self.segment_runs)))
        return tuple(_time(run, self.axi, self.memory, most) for run in runs)


def behind(program: Program, onchip: OnChip | None, axi: AxiConfig, memory: SlowMemory) -> Behind:
    """The network's layers, and its segments if there are any, behind a bus with a memory like this."""
    layers = tuple(Run(program.memories, (each.first, len(each.blocks)), program.config) for each in program.layers)
    if onchip is None:
        return Behind(axi, memory, layers, (), tuple(range(len(layers))))
    memories = {**onchip.memories, "descriptor": outputs_only(onchip)}
    segments = tuple(Run(memories, start, onchip.config) for start in onchip.starts)
    names = {layer.name for layer in onchip.chain.alone}
    alone = tuple(number for number, each in enumerate(program.layers) if each.layer.name in names)
    return Behind(axi, memory, layers, segments, alone)


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


@lru_cache(maxsize=256)
def _time(run: Run, axi: AxiConfig, memory: SlowMemory, most: int) -> BusTime:
    return bus_time(run.memories, run.start, run.config, axi, memory, most)
