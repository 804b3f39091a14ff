"""memory/, vectors/ and network/: memory images that tools load, and expected outputs."""

from __future__ import annotations

from pathlib import Path

from flow.hardware.interface import Device
from flow.network import reference
from flow.output.handoff import formats
from flow.output.handoff.whole import PER_LAYER, WHOLE, Handoff, Whole, layer_folders, layer_words
from flow.programs import in_parallel
from flow.scheduling.blocks import LayerSchedule
from flow.scheduling.onchip.program import outputs_only
from flow.scheduling.words import activation_words
from flow.simulation.cosim import cycle_limit
from flow.simulation.engines.base import Command
from flow.simulation.engines.testbench import write_command
from flow.simulation.onchip import commands
from flow.simulation.onchip import cycle_limit as on_chip_limit
from flow.simulation.results import LayerRun, expected_words


def write_memories(folder: Path, handoff: Handoff) -> None:
    """memory/PORT.*: the images of the whole network."""
    (folder / "memory").mkdir()
    for port in handoff.device.reads:
        if port.name != PER_LAYER:
            formats.write(folder / "memory", port.name, handoff.program.memories[port.name], port.width)


def write_vectors(folder: Path, handoff: Handoff) -> None:
    """vectors/LAYER/: the command, one sample's activation memory and the output memory the reference expects."""
    program, ports = handoff.program, handoff.device.ports
    widths = {port.name: port.width for port in ports}

    def one(name: str, scheduled: LayerSchedule, layer_run: LayerRun) -> None:
        place = folder / "vectors" / name
        place.mkdir(parents=True)
        codes = scheduled.layer.input_quantization.to_int8(layer_run.tensor)
        windows = reference.windows(scheduled.layer, codes)
        formats.write(place, PER_LAYER, activation_words(scheduled, windows, program.config), widths[PER_LAYER])
        rows = None if layer_run.mismatches else layer_run.rows  # rows without a mismatch equal the reference's
        expected = expected_words(scheduled, codes, program.config, rows)
        formats.write(place, "output.expected", expected, widths["output"])
        command = Command(scheduled.first, len(scheduled.blocks), cycle_limit(scheduled, program.config))
        write_command(place, ports, layer_words(program, scheduled), command, layer_run.cycles)

    (folder / "vectors").mkdir()
    runs = zip(layer_folders(program), program.layers, handoff.run.layers, strict=False)
    in_parallel(lambda each: one(*each), runs)


def write_whole(folder: Path, built: Device, whole: Whole) -> None:
    """network/: the memory images of the whole network on chip, one sample's command, and its output memory.

    The descriptors of a run that writes the network's outputs alone are there, too. If nothing was simulated, there is
    no output memory to expect, and the command says that the cycles are not checked. Of several segments each has a
    folder with its command and the output memory that it writes; the command of all of them checks no cycles. host/ has
    what the host computes before each segment and behind the last one.
    """
    place = folder / WHOLE
    place.mkdir()
    for port in built.ports:
        name = "output.expected" if port.lanes else port.name
        if port.lanes and not whole.simulated:
            continue
        formats.write(place, name, whole.memories[port.name], port.width)
        if port.name == "descriptor":
            formats.write(place, "descriptor.outputs", outputs_only(whole.onchip), port.width)
    count, limit = whole.onchip.descriptors, on_chip_limit(whole.onchip)
    write_command(place, built.ports, whole.words, Command(0, count, limit), 0 if whole.segments else whole.run.cycles)
    cycles = whole.run.segment_cycles or (0,) * len(whole.segments)
    for number, name in enumerate(whole.segments):
        _write_segment(place / name, built, whole, number, cycles[number])
    (place / "host").mkdir()
    for name, segment in whole.off_chip():
        (place / "host" / name).write_bytes(segment.model.SerializeToString(deterministic=True))


def _write_segment(place: Path, built: Device, whole: Whole, number: int, cycles: int) -> None:
    """The vectors of one of several segments, as those of a layer."""
    onchip = whole.onchip
    place.mkdir()
    widths = {port.name: port.width for port in built.ports}
    formats.write(place, PER_LAYER, whole.memories[PER_LAYER], widths[PER_LAYER])
    if whole.simulated:
        written = onchip.written(whole.memories["output"], onchip.segment_steps[number])
        formats.write(place, "output.expected", written, widths["output"])
    write_command(place, built.ports, whole.words, commands(onchip)[number], cycles)
