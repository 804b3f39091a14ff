"""soc/example/: a system around the accelerator that runs the network in simulation, with its program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flow.hardware.axi.bus import PAGE
from flow.output.handoff.firmware import c_name
from flow.output.handoff.whole import TEMPLATES, WHOLE, Handoff, written_as
from flow.simulation.onchip import commands

IRQ = 3  # of PicoRV32; the numbers below have meanings of its own
ROOT = "../.."  # the build's folder
PROGRAM, STACK = 2**16, 2**14  # bytes that suffice for the code, and for the stack
SLOWEST = 200  # cycles of the processor for each byte of the memories, and of the accelerator for each of its own
BOOT = 100_000


def write_example(folder: Path, handoff: Handoff, told: Mapping[str, Any]) -> None:
    """The network on chip, segment by segment, or else every layer, on the build's own vectors. `told`: see `describe`.

    Each run must leave the output memory that the build expects. Needs PicoRV32, which is not copied.
    """
    whole = handoff.whole if handoff.whole and handoff.whole.simulated else None
    placed = told["network"]["map"] if whole else told["map"]
    runs = _network(handoff) if whole else _layers(handoff, told)
    place = folder / "soc" / "example"
    place.mkdir()
    files = [place / run["folder"] / name for run in runs for name in ("activation.bin", "output.expected.bin")]
    needed = PROGRAM + STACK + placed["bytes"] + PAGE + sum(file.resolve().stat().st_size + 4 for file in files)
    cycles = sum(run["cycles"] for run in runs)
    classes = whole is not None and not whole.segments
    c = c_name(handoff)
    values = {
        "top": handoff.wrapper.name, "name": handoff.name, "c": c, "upper": c.upper(), "axi": handoff.wrapper.axi,
        "ports": handoff.wrapper.ports, "irq": IRQ, "page": PAGE, "root": ROOT, "runs": runs,
        "part": "NETWORK_" if whole else "", "stack": STACK, "ram": 1 << (needed - 1).bit_length(),
        "image": f"{ROOT}/firmware/axi/{WHOLE if whole else 'layers'}.bin",
        "room": placed["bytes"] - placed["image_bytes"],
        "limit": BOOT + SLOWEST * (needed + cycles),
        "outputs": [each["tensor"] for each in told["network"]["outputs"]] if classes else [],
        "verilog": [f"{ROOT}/verilog/{path.name}" for path in handoff.wrapper.files],
    }  # fmt: skip
    for template in sorted((Path(__file__).parent / "example").glob("*.j2")):
        target = place / written_as(template, handoff.wrapper.name)
        target.write_text(TEMPLATES.get_template(f"example/{template.name}").render(values))


def _layers(handoff: Handoff, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every layer, on one sample's input to it."""
    return [
        {"folder": f"{ROOT}/vectors/{layer['vectors']}"}
        | {key: layer[key] for key in ("name", "first", "count", "cycles", "activation_words", "output_words")}
        for layer in told["layers"]
    ]


def _network(handoff: Handoff) -> list[dict[str, Any]]:
    """The network on chip, or each of its segments, on one sample."""
    whole = handoff.whole
    assert whole is not None
    places = [f"{WHOLE}/{name}" for name in whole.segments] or [WHOLE]
    return [
        {
            "name": place.rpartition("/")[2], "folder": f"{ROOT}/{place}", "first": command.first,
            "count": command.count, "cycles": cycles, "activation_words": whole.words["activation"],
            "output_words": whole.words["output"],
        }
        for place, command, cycles in zip(
            places, commands(whole.onchip), whole.run.segment_cycles or (whole.run.cycles,), strict=True
        )
    ]  # fmt: skip
