"""What the files of the hand-over have in common: names, words of memories, templates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jinja2

from flow.files import layer_folder
from flow.hardware.interface import Device, Memory
from flow.scheduling.blocks import LayerSchedule, Program
from flow.scheduling.onchip.program import OnChip
from flow.simulation.onchip import ChainRun

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

    @property
    def memories(self) -> dict[str, Memory]:
        """What the run reads and writes."""
        return {**self.onchip.memories, **self.run.memories}

    @property
    def words(self) -> dict[str, int]:
        return {name: len(memory) for name, memory in self.memories.items()}


def layer_folders(program: Program) -> list[str]:
    return [layer_folder(scheduled.layer.name, number) for number, scheduled in enumerate(program.layers)]


def layer_words(program: Program, scheduled: LayerSchedule) -> dict[str, int]:
    """Words of every memory, as one layer sees them."""
    activation = scheduled.layer.groups * scheduled.tiles * scheduled.steps * program.config.beats
    images = {name: len(memory) for name, memory in program.memories.items()}
    return images | {PER_LAYER: activation, "output": scheduled.output_words}


def most_words(program: Program, built: Device, whole: Whole | None = None) -> dict[str, int]:
    """Words of every memory that do for each layer, and for the `whole` network."""
    each = [layer_words(program, scheduled) for scheduled in program.layers] + ([whole.words] if whole else [])
    return {port.name: max(words[port.name] for words in each) for port in built.ports}
