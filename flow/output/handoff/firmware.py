"""firmware/bbs.h and NAME.h: C headers with which a driver loads, starts and reads the accelerator."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import numpy as np

from flow.hardware.axi.bus import IDENTITY, PAGE, VERSION, constants, image_bytes, register_map
from flow.hardware.fields import ERRORS
from flow.network.model import ArrayLayer
from flow.network.reference import accumulator_scales
from flow.output.handoff.whole import PER_LAYER, TEMPLATES, Handoff, Whole, layer_folders, layer_words
from flow.scheduling.onchip.chain import ChainLayer
from flow.scheduling.onchip.layout import input_words, layout
from flow.scheduling.onchip.program import OnChip

SHARED = "bbs"  # the header of all builds


def write_firmware(folder: Path, handoff: Handoff) -> None:
    """firmware/bbs.h, the same in all builds, and NAME.h, this build's data: a program may have those of several.

    NAME.h has all a driver needs to load the memories, start each layer and read its outputs. If the whole network runs
    on chip, also what is needed to start it.
    """
    program, wrapper, whole = handoff.program, handoff.wrapper, handoff.whole
    (folder / "firmware").mkdir()
    shared = TEMPLATES.get_template(f"{SHARED}.h.j2").render(
        registers=list(register_map().values()), errors=ERRORS, identity=IDENTITY, version=VERSION, page=PAGE
    )
    (folder / "firmware" / f"{SHARED}.h").write_text(shared)
    layers = []
    for place, scheduled, layer_run in zip(layer_folders(program), program.layers, handoff.run.layers, strict=True):
        layer, output = scheduled.layer, scheduled.layer.output_quantization
        layers.append({
            "name": _c_string(layer.name), "vectors": place, "first": scheduled.first,
            "count": len(scheduled.blocks), "groups": layer.groups, "positions": layer.positions,
            "reduction": layer.reduction, "channels": layer.channels, "planes": scheduled.planes,
            "activation_words": layer_words(program, scheduled)[PER_LAYER], "output_words": scheduled.output_words,
            "cycles": layer_run.cycles,
            "input_scale": _c_float(layer.input_quantization.scale),
            "input_zero": layer.input_quantization.zero_point,
            "output_scale": _c_float(np.float32(0) if output is None else output.scale),
            "output_zero": 0 if output is None else output.zero_point,
            "shapes": _c_comment(_shapes(layer)),
        })  # fmt: skip
    memories: list[dict[str, Any]] = [
        {"name": port.name, "bytes": port.bytes, "width": port.width, "stride": wrapper.axi.stride(port)}
        for port in handoff.device.ports
    ]
    images = [
        {**memory, "words": len(program.memories[memory["name"]])}
        for port, memory in zip(handoff.device.ports, memories, strict=True)
        if not port.lanes and port.name != PER_LAYER
    ]
    name = identifier(program.config.prefix or handoff.name)
    text = TEMPLATES.get_template("firmware.h.j2").render(
        name=_c_comment(handoff.name), c=name, upper=name.upper(), top=handoff.device.name, config=program.config,
        build=constants(program.config, wrapper.axi)["build"], version=VERSION, layers=layers, memories=memories,
        images=images, bytes={memory["name"]: memory["bytes"] for memory in memories}, image_bytes=image_bytes,
        layer_regions=handoff.layer_regions, network_regions=handoff.network_regions,
        descriptors=whole and whole.onchip.descriptors, inputs=whole and _inputs(whole.onchip),
        outputs=whole and _outputs(whole.onchip), segments=whole and _segments(whole),
    )  # fmt: skip
    (folder / "firmware" / f"{name}.h").write_text(text)


def identifier(name: str) -> str:
    """A name as C identifiers begin with it; none of bbs.h begins so."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return plain if re.match(rf"(?!{SHARED})[a-z]", plain, re.IGNORECASE) else f"net_{plain}"


def _inputs(onchip: OnChip) -> list[dict[str, Any]]:
    inputs = [
        (held, placed[held.tensor].plane)
        for segment, placed in zip(onchip.chain.segments, onchip.places, strict=True)
        for held in segment.inputs
    ]
    return [
        {
            "tensor": _c_string(held.tensor), "shape": held.shape, "base": base, "plane": plane,
            "scale": _c_float(held.quantization.scale), "zero": held.quantization.zero_point,
        }
        for (held, plane), base in zip(inputs, input_words(onchip), strict=True)
    ]  # fmt: skip


def _segments(whole: Whole) -> list[dict[str, Any]]:
    """The command of each segment, and which inputs and outputs are its own: the first, and how many."""
    onchip, result, inputs, outputs = whole.onchip, list[dict[str, Any]](), 0, 0
    steps = onchip.chain.output_steps
    for number, (segment, (first, count)) in enumerate(zip(onchip.chain.segments, onchip.starts, strict=True), 1):
        made = sum(name in steps for name in segment.outputs)
        before = [f"host/{name}" for name, _ in whole.off_chip() if name.startswith(f"before_{number}_")]
        before += [f"layer {step.name} by itself" for step in segment.before if isinstance(step, ArrayLayer)]
        result.append({
            "first": first, "count": count, "inputs": inputs, "input_count": len(segment.inputs), "outputs": outputs,
            "output_count": made, "before": _c_comment(", ".join(before) or "nothing"),
        })  # fmt: skip
        inputs += len(segment.inputs)
        outputs += made
    return result


def _outputs(onchip: OnChip) -> list[dict[str, Any]]:
    chain, outputs = onchip.chain, []
    for tensor, number in chain.output_steps.items():
        held, step, where = chain.held.get(tensor), chain.steps[number], layout(onchip, number)
        scales = np.array([held.quantization.scale]) if held else accumulator_scales(cast(ChainLayer, step).layer)
        outputs.append({
            "tensor": _c_string(tensor), "shape": where.shape, "unroll": where.unroll, "windows": where.windows,
            "planes": where.planes, "zero": held.quantization.zero_point if held else 0,
            "cells": where.cells.reshape(-1, 3).tolist(), "scales": [_c_float(scale) for scale in scales],
        })  # fmt: skip
    return outputs


def _shapes(layer: ArrayLayer) -> str:
    shapes = " to ".join("x".join(map(str, shape)) for shape in (layer.input_shape, layer.output_shape))
    return f"{layer.op} {layer.name}: {shapes}"


def _c_string(text: str) -> str:
    """A C string literal; other characters than plain ASCII as octal escapes of their UTF-8 bytes."""
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{"".join(plain)}"'


def _c_comment(text: str) -> str:
    """Text that neither ends a comment nor leaves its line."""
    return " ".join(text.replace("*/", "* /").replace("/*", "/ *").split())


def _c_float(value: np.float32) -> str:
    digits = f"{float(value):.9g}"
    return digits + ("f" if "." in digits or "e" in digits else ".0f")
