"""What the files of the hand-over have in common: names, words of memories, templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from flow.files import layer_folder
from flow.hardware.emit import Wrapper
from flow.hardware.interface import Device, Memory
from flow.scheduling.blocks import LayerSchedule, Program
from flow.scheduling.onchip.program import OnChip
from flow.simulation.onchip import ChainRun
from flow.simulation.results import SampleRun

PER_LAYER = "activation"  # the only memory that is not one image for all layers
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
    """The whole network on chip, and one sample's run of it."""

    onchip: OnChip
    run: ChainRun

    @classmethod
    def of(cls, onchip: OnChip | None, runs: Sequence[ChainRun]) -> Whole | None:
        """With the first of the runs, if there is one and it came to its end."""
        return cls(onchip, runs[0]) if onchip and runs and not runs[0].failure else None

    @property
    def memories(self) -> dict[str, Memory]:
        """What the run reads and writes."""
        return {**self.onchip.memories, **self.run.memories}

    @property
    def words(self) -> dict[str, int]:
        return {name: len(memory) for name, memory in self.memories.items()}


@dataclass(frozen=True)
class Handoff:
    """What is handed over: a network's program, the accelerator by itself and behind AXI, one sample's run of it.

    And the `whole` network on chip, where it is.
    """

    name: str  # of the network
    program: Program
    device: Device
    wrapper: Wrapper
    run: SampleRun
    whole: Whole | None = None

    @property
    def most_words(self) -> dict[str, int]:
        """Words of every memory that do for each layer, and for the whole network."""
        return self._most([self.whole.words] if self.whole else [])

    @property
    def most_layer_words(self) -> dict[str, int]:
        """Words of every memory that do for each layer."""
        return self._most([])

    def _most(self, others: list[dict[str, int]]) -> dict[str, int]:
        each = [layer_words(self.program, scheduled) for scheduled in self.program.layers] + others
        return {port.name: max(words[port.name] for words in each) for port in self.device.ports}


def layer_folders(program: Program) -> list[str]:
    return [layer_folder(scheduled.layer.name, number) for number, scheduled in enumerate(program.layers)]


def layer_words(program: Program, scheduled: LayerSchedule) -> dict[str, int]:
    """Words of every memory, as one layer sees them."""
    activation = scheduled.layer.groups * scheduled.tiles * scheduled.steps * program.config.beats
    images = {name: len(memory) for name, memory in program.memories.items()}
    return images | {PER_LAYER: activation, "output": scheduled.output_words}
