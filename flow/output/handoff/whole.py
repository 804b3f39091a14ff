"""Common to all files of the hand-over: names, words of memories, templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from flow.files import layer_folder
from flow.hardware.axi.bus import MemoryRegion, regions
from flow.hardware.emit import Wrapper
from flow.hardware.interface import Device, Memory
from flow.network.model import HostSegment
from flow.scheduling.blocks import LayerSchedule, Program
from flow.scheduling.onchip.program import OnChip
from flow.simulation.onchip import ChainRun
from flow.simulation.results import SampleRun

PER_LAYER = "activation"  # the only memory whose image differs from layer to layer
WHOLE = "network"  # the folder of the whole network on chip, and its name as a LAYER

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
)


@dataclass(frozen=True)
class Whole:
    """The whole network on chip, and one sample's run of it, which may only be prepared."""

    onchip: OnChip
    run: ChainRun

    @classmethod
    def of(cls, onchip: OnChip | None, runs: Sequence[ChainRun]) -> Whole | None:
        """The network with the first of its runs; None if there is no run, or it did not finish."""
        return cls(onchip, runs[0]) if onchip and runs and not runs[0].failure else None

    @property
    def memories(self) -> dict[str, Memory]:
        """The memories that the run reads and writes."""
        return {**self.onchip.memories, **self.run.memories}

    @property
    def words(self) -> dict[str, int]:
        return {"output": self.onchip.output_words} | {name: len(memory) for name, memory in self.memories.items()}

    @property
    def segments(self) -> list[str]:
        """The names of the segments as LAYERs, and of their folders in that of the whole network; none if it is one."""
        count = len(self.onchip.starts)
        return [f"{WHOLE}_{number}" for number in range(1, count + 1)] if count > 1 else []

    @property
    def layers(self) -> list[str]:
        """What a testbench runs of it: each segment, if a run of them was simulated."""
        return (self.segments or [WHOLE]) if self.simulated else []

    def off_chip(self) -> list[tuple[str, HostSegment]]:
        """What the host computes before each segment and behind the last one, with a file name for each part."""
        chain = self.onchip.chain
        places = [(f"before_{number}", each.before) for number, each in enumerate(chain.segments, 1)]
        return [
            (f"{place}_{part}.onnx", step)
            for place, steps in (*places, ("after", chain.after))
            for part, step in enumerate(steps, 1)
            if isinstance(step, HostSegment)
        ]

    @property
    def simulated(self) -> bool:
        """Whether there is an output memory to expect."""
        return bool(self.run.cycles)


@dataclass(frozen=True)
class Handoff:
    """The contents of the hand-over: a network's program, the accelerator alone and behind AXI, one sample's run.

    `whole` is the whole network on chip, if it runs there; `example` asks for soc/example/, too.
    """

    name: str  # of the network
    program: Program
    device: Device
    wrapper: Wrapper
    run: SampleRun
    whole: Whole | None = None
    example: bool = False

    @property
    def most_words(self) -> dict[str, int]:
        """Words of every memory that suffice for each layer, and for the whole network."""
        return self._most([self.whole.words] if self.whole else [])

    @property
    def most_layer_words(self) -> dict[str, int]:
        """Words of every memory that suffice for each layer."""
        return self._most([])

    @property
    def layer_regions(self) -> list[MemoryRegion]:
        """Where the memories lie on the bus, with room for each layer."""
        return regions(self.device.ports, self.wrapper.axi, self.most_layer_words)

    @property
    def network_regions(self) -> list[MemoryRegion]:
        """The same for the whole network; none if it does not run on chip."""
        return regions(self.device.ports, self.wrapper.axi, self.whole.words) if self.whole else []

    def _most(self, others: list[dict[str, int]]) -> dict[str, int]:
        each = [layer_words(self.program, scheduled) for scheduled in self.program.layers] + others
        return {port.name: max(words[port.name] for words in each) for port in self.device.ports}


def written_as(template: Path, top: str) -> str:
    """The name of the file that a template becomes: of `top...` one that begins with the top module's."""
    name = template.name.removesuffix(".j2")
    return f"{top}{name.removeprefix('top')}" if name.startswith("top") else name


def layer_folders(program: Program) -> list[str]:
    return [layer_folder(scheduled.layer.name, number) for number, scheduled in enumerate(program.layers)]


def layer_words(program: Program, scheduled: LayerSchedule) -> dict[str, int]:
    """Words of every memory, as one layer sees them."""
    activation = scheduled.layer.groups * scheduled.tiles * scheduled.steps * program.config.beats
    images = {name: len(memory) for name, memory in program.memories.items()}
    return images | {PER_LAYER: activation, "output": scheduled.output_words}
