"""What a build hands to tools that know nothing of this package: memories, vectors, testbenches, a C header."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jinja2
import numpy as np

from flow import reference
from flow.cosim import LayerRun, SampleRun, cycle_limit, expected_words
from flow.engines.base import ADDRESS_BITS, COMMAND_BITS, RESET_EDGES, Device, Memory
from flow.engines.testbench import verilog_testbench, vhdl_testbench, write_command
from flow.handoff import formats
from flow.hardware.axi.bus import IDENTITY, PAGE, VERSION, regions, registers
from flow.hardware.config import ERRORS
from flow.hardware.emit import Wrapper
from flow.network import ArrayLayer
from flow.onchip.chain import Step
from flow.onchip.layout import input_words, layout
from flow.onchip.program import OnChip, outputs_only
from flow.onchip.run import ChainRun
from flow.onchip.run import cycle_limit as on_chip_limit
from flow.reference import accumulator_scales
from flow.schedule import LayerSchedule, Program, activation_words

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


def write(
    folder: Path,
    name: str,
    program: Program,
    built: Device,
    wrapper: Wrapper,
    run: SampleRun,
    whole: Whole | None = None,
) -> None:
    """Write memory/, vectors/, testbench/ and firmware/ for the network `name`; `run` is one sample's.

    And network/ where the `whole` network runs on chip.
    """
    write_memories(folder, program, built)
    write_vectors(folder, program, built, run)
    if whole:
        write_whole(folder, built, whole)
    write_testbenches(folder, program, built, run, whole)
    write_firmware(folder, name, program, built, run, whole)
    write_registers(folder, program, built, wrapper, whole)


def layer_folder(layer: str, number: int) -> str:
    """A layer's folder in vectors/: its number, and of its name what every file system and make takes."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in layer)
    return f"{number:03d}_{plain[:60]}"


def layer_folders(program: Program) -> list[str]:
    return [layer_folder(scheduled.layer.name, number) for number, scheduled in enumerate(program.layers)]


def write_memories(folder: Path, program: Program, built: Device) -> None:
    """memory/PORT.*: the images of the whole network."""
    (folder / "memory").mkdir()
    for port in built.reads:
        if port.name != PER_LAYER:
            formats.write(folder / "memory", port.name, program.memories[port.name], port.width)


def write_vectors(folder: Path, program: Program, built: Device, run: SampleRun) -> None:
    """vectors/LAYER/: the command, one sample's activation memory and the output memory the reference expects."""
    widths = {port.name: port.width for port in built.ports}

    def one(name: str, scheduled: LayerSchedule, layer_run: LayerRun) -> None:
        place = folder / "vectors" / name
        place.mkdir(parents=True)
        codes = scheduled.layer.input_quantization.to_int8(layer_run.tensor)
        windows = reference.windows(scheduled.layer, codes)
        formats.write(place, PER_LAYER, activation_words(scheduled, windows, program.config), widths[PER_LAYER])
        known = None if layer_run.mismatches else layer_run.rows  # those without a mismatch are the reference's
        expected = expected_words(scheduled, codes, program.config, known)
        formats.write(place, "output.expected", expected, widths["output"])
        limit = cycle_limit(scheduled, program.config)
        words = _words(program, scheduled)
        write_command(place, built.ports, words, scheduled.first, len(scheduled.blocks), limit, layer_run.cycles)

    (folder / "vectors").mkdir()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(one, layer_folders(program), program.layers, run.layers))


def write_whole(folder: Path, built: Device, whole: Whole) -> None:
    """network/: the memories of the whole network on chip, a sample's run, and what it wrote.

    And the descriptors of a run that writes the network's outputs alone.
    """
    place = folder / WHOLE
    place.mkdir()
    for port in built.ports:
        name = "output.expected" if port.lanes else port.name
        formats.write(place, name, whole.memories[port.name], port.width)
        if port.name == "descriptor":
            formats.write(place, "descriptor.outputs", outputs_only(whole.onchip), port.width)
    count, limit = whole.onchip.descriptors, on_chip_limit(whole.onchip)
    write_command(place, built.ports, whole.words, 0, count, limit, whole.run.cycles)


def _words(program: Program, scheduled: LayerSchedule) -> dict[str, int]:
    """Words of every memory, as one layer sees them."""
    activation = scheduled.layer.groups * scheduled.tiles * scheduled.steps * program.config.beats
    images = {name: len(memory) for name, memory in program.memories.items()}
    return images | {PER_LAYER: activation, "output": scheduled.output_words}


def _most_words(program: Program, built: Device, whole: Whole | None = None) -> dict[str, int]:
    """Words of every memory that do for each layer, and for the `whole` network."""
    each = [_words(program, scheduled) for scheduled in program.layers] + ([whole.words] if whole else [])
    return {port.name: max(words[port.name] for words in each) for port in built.ports}


def write_testbenches(
    folder: Path, program: Program, built: Device, run: SampleRun, whole: Whole | None = None
) -> None:
    """testbench/: one self-checking bench for all layers in SystemVerilog, VHDL and cocotb, and a Makefile.

    The `whole` network on chip is one more of them.
    """
    place = folder / "testbench"
    place.mkdir()
    layers = layer_folders(program)
    quickest = layers[min(range(len(layers)), key=lambda i: run.layers[i].cycles)]
    most = _most_words(program, built, whole)
    top = built.name
    (place / f"tb_{top}.sv").write_text(verilog_testbench(top, built.ports, most, [PER_LAYER]))
    (place / f"tb_{top}.vhd").write_text(vhdl_testbench(top, built.ports, most, [PER_LAYER]))
    given = {
        "top": top,
        "layers": [*layers, *([WHOLE] if whole else [])],
        "whole": WHOLE,
        "quickest": quickest,
        "verilog": [f"../verilog/{path.name}" for path in built.files],
        "vhdl": [f"../vhdl/{path.name}" for path in built.vhdl_files],
        "ports": built.ports,
        "per_layer": PER_LAYER,
        "address_bits": ADDRESS_BITS,
        "reset_edges": RESET_EDGES,
    }
    (place / "Makefile").write_text(TEMPLATES.get_template("Makefile.j2").render(given))
    (place / f"test_{top}.py").write_text(TEMPLATES.get_template("test_cocotb.py.j2").render(given))


def write_firmware(
    folder: Path, name: str, program: Program, built: Device, run: SampleRun, whole: Whole | None = None
) -> None:
    """firmware/NAME.h: what a driver needs to load the memories, start each layer and read what comes out.

    And to start the `whole` network on chip.
    """
    (folder / "firmware").mkdir()
    layers = []
    for place, scheduled, layer_run in zip(layer_folders(program), program.layers, run.layers, strict=True):
        layer, output = scheduled.layer, scheduled.layer.output_quantization
        layers.append({
            "name": _c_string(layer.name), "vectors": place, "first": scheduled.first,
            "count": len(scheduled.blocks), "groups": layer.groups, "positions": layer.positions,
            "reduction": layer.reduction, "channels": layer.channels, "planes": scheduled.planes,
            "activation_words": _words(program, scheduled)[PER_LAYER], "output_words": scheduled.output_words,
            "cycles": layer_run.cycles,
            "input_scale": _c_float(layer.input_quantization.scale),
            "input_zero": layer.input_quantization.zero_point,
            "output_scale": _c_float(np.float32(0) if output is None else output.scale),
            "output_zero": 0 if output is None else output.zero_point,
            "shapes": _c_comment(_shapes(layer)),
        })  # fmt: skip
    images = [port for port in built.reads if port.name != PER_LAYER]
    identifier = re.sub(r"\W", "_", name, flags=re.ASCII)
    text = TEMPLATES.get_template("firmware.h.j2").render(
        name=_c_comment(name), guard=f"BBS_{identifier.upper()}_H", top=built.name, config=program.config,
        layers=layers, images=images, memories=program.memories, beats=program.config.beats,
        ports={port.name: port for port in built.ports}, command_bits=COMMAND_BITS,
        descriptors=whole and whole.onchip.descriptors, inputs=whole and _inputs(whole.onchip),
        outputs=whole and _outputs(whole.onchip),
    )  # fmt: skip
    (folder / "firmware" / f"{identifier or 'network'}.h").write_text(text)


def _inputs(onchip: OnChip) -> list[dict[str, Any]]:
    return [
        {
            "tensor": _c_string(held.tensor), "shape": held.shape, "base": base,
            "plane": onchip.places[held.tensor].plane, "scale": _c_float(held.quantization.scale),
            "zero": held.quantization.zero_point,
        }
        for held, base in zip(onchip.chain.inputs, input_words(onchip), strict=True)
    ]  # fmt: skip


def _outputs(onchip: OnChip) -> list[dict[str, Any]]:
    chain, made = onchip.chain, []
    for tensor, number in chain.output_steps.items():
        held, step, where = chain.held.get(tensor), chain.steps[number], layout(onchip, number)
        scales = np.array([held.quantization.scale]) if held else accumulator_scales(cast(Step, step).layer)
        made.append({
            "tensor": _c_string(tensor), "shape": where.shape, "unroll": where.unroll, "windows": where.windows,
            "planes": where.planes, "zero": held.quantization.zero_point if held else 0,
            "cells": where.cells.reshape(-1, 3).tolist(), "scales": [_c_float(scale) for scale in scales],
        })  # fmt: skip
    return made


def write_registers(folder: Path, program: Program, built: Device, wrapper: Wrapper, whole: Whole | None) -> None:
    """firmware/axi/registers.h and .md: the accelerator behind AXI, its registers and a place for every memory."""
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
            layers=regions(built.ports, wrapper.axi, _most_words(program, built)),
            network=regions(built.ports, wrapper.axi, whole.words) if whole else [],
        )  # fmt: skip
        (place / name).write_text(text)


def _shapes(layer: ArrayLayer) -> str:
    shapes = " to ".join("x".join(map(str, shape)) for shape in (layer.input_shape, layer.output_shape))
    return f"{layer.op} {layer.name}: {shapes}"


def _c_string(text: str) -> str:
    """A string literal; what is not plain ASCII by its UTF-8 bytes in octal."""
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{"".join(plain)}"'


def _c_comment(text: str) -> str:
    """Text that neither ends a comment nor leaves its line."""
    return " ".join(text.replace("*/", "* /").replace("/*", "/ *").split())


def _c_float(value: np.float32) -> str:
    digits = f"{float(value):.9g}"
    return digits + ("f" if "." in digits or "e" in digits else ".0f")
