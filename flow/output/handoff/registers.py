"""firmware/axi/: registers and memory map of the accelerator behind AXI, and memory images as they lie there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flow.hardware.axi.bus import PAGE, MemoryRegion, constants, image_bytes, register_map, registers
from flow.hardware.fields import ERRORS
from flow.hardware.interface import Memory
from flow.network.model import ArrayLayer
from flow.output.handoff.whole import TEMPLATES, Handoff, Whole
from flow.scheduling.onchip.chain import OffChip

PART = 2**24  # bytes of an image written at a time


def write_registers(folder: Path, handoff: Handoff) -> None:
    """firmware/axi/registers.md: registers of the accelerator behind AXI, and every memory's address range.

    layers.bin and network.bin beside it: the memories that do not change from run to run, as they lie there.
    """
    built, wrapper, whole = handoff.device, handoff.wrapper, handoff.whole
    place = folder / "firmware" / "axi"
    place.mkdir()
    memories = []
    for port in built.ports:
        stride = wrapper.axi.stride(port)
        image = "written by the accelerator" if port.lanes else (
            f"`{port.name}.bin` as it is" if stride == port.bytes else f"`{port.name}.bin`, its words spread"
        )  # fmt: skip
        memories.append({"name": port.name, "bytes": port.bytes, "stride": stride, "image": image})
    there = registers(built.ports)
    text = TEMPLATES.get_template("registers.md.j2").render(
        top=wrapper.name, axi=wrapper.axi, registers=list(there.values()), memories=memories,
        reserved=[register for name, register in register_map().items() if name not in there],
        constants=constants(handoff.program.config, wrapper.axi), errors=ERRORS, page=PAGE,
        count=whole and whole.onchip.descriptors, layers=handoff.layer_regions, network=handoff.network_regions,
        image_bytes=image_bytes, segments=segment_rows(whole) if whole else [],
    )  # fmt: skip
    (place / "registers.md").write_text(text)
    _write_image(place / "layers.bin", handoff.layer_regions, handoff.program.memories)
    if whole:
        _write_image(place / "network.bin", handoff.network_regions, whole.memories)


def segment_rows(whole: Whole) -> list[dict[str, str]]:
    """Each segment in words: what runs before it, its command, what it reads and makes."""
    onchip, rows = whole.onchip, list[dict[str, str]]()
    for number, (segment, (first, count)) in enumerate(zip(onchip.chain.segments, onchip.starts, strict=True), 1):
        rows.append({
            "before": _off_chip(whole, f"before_{number}_", segment.before), "first": str(first), "count": str(count),
            "inputs": ", ".join(f"`{held.tensor}`" for held in segment.inputs),
            "outputs": ", ".join(f"`{name}`" for name in segment.outputs),
        })  # fmt: skip
    behind = _off_chip(whole, "after_", onchip.chain.after)
    return [*rows, {"before": behind, "first": "", "count": "", "inputs": "", "outputs": ""}]


def _off_chip(whole: Whole, start: str, steps: OffChip) -> str:
    """The models and layers between two segments."""
    models = [f"`{name}`" for name, _ in whole.off_chip() if name.startswith(start)]
    layers = [f"layer `{step.name}` by itself" for step in steps if isinstance(step, ArrayLayer)]
    return ", ".join([*models, *layers])


def _write_image(path: Path, placed: Sequence[MemoryRegion], memories: Mapping[str, Memory]) -> None:
    """The memories that do not change from run to run, each at its place, zeros between words and memories."""
    size = image_bytes(placed)
    with path.open("wb") as file:
        for region in placed:
            if region.offset >= size:
                break
            memory = memories[region.name]
            file.seek(region.offset)
            step = max(1, PART // region.stride)
            for first in range(0, len(memory), step):
                part = memory[first : first + step]
                words = np.zeros((len(part), region.stride), np.uint8)
                words[:, : part.shape[1]] = part
                file.write(words.data)
        file.truncate(size)
