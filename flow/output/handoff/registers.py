"""firmware/axi/: registers and memory map of the accelerator behind AXI, for C and as Markdown."""

from __future__ import annotations

from pathlib import Path

from flow.hardware.axi.bus import IDENTITY, PAGE, VERSION, regions, registers
from flow.hardware.fields import ERRORS
from flow.output.handoff.whole import TEMPLATES, Handoff


def write_registers(folder: Path, handoff: Handoff) -> None:
    """firmware/axi/registers.h and .md: registers of the accelerator behind AXI, and every memory's address range."""
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
    for name in ("registers.h", "registers.md"):
        text = TEMPLATES.get_template(f"{name}.j2").render(
            top=wrapper.name, axi=wrapper.axi, registers=list(registers(built.ports).values()), memories=memories,
            errors=ERRORS, identity=IDENTITY, version=VERSION, page=PAGE, count=whole and whole.onchip.descriptors,
            layers=regions(built.ports, wrapper.axi, handoff.most_layer_words),
            network=regions(built.ports, wrapper.axi, whole.words) if whole else [],
        )  # fmt: skip
        (place / name).write_text(text)
