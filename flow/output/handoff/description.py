"""One description of a build: its accelerator, memories, layers and network, as headers and drivers have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from flow.hardware.axi.bus import MemoryRegion, constants, image_bytes
from flow.network.model import ArrayLayer
from flow.network.reference import accumulator_scales
from flow.output.handoff.whole import PER_LAYER, Handoff, Whole, layer_folders, layer_words
from flow.scheduling.blocks import LayerSchedule
from flow.scheduling.onchip.chain import ChainLayer
from flow.scheduling.onchip.layout import input_words, layout
from flow.scheduling.onchip.program import OnChip


def describe(handoff: Handoff) -> dict[str, Any]:
    """What a driver needs of a build, of types that JSON has; `network` is None unless the whole network runs on chip.

    Offsets, strides and sizes are in bytes; `words` counts memory words. `shape` is that of a map [channels, height,
    width], `axes` that of the tensor in it; with `rows` the tensor's last axis is the map's channels.
    """
    program, wrapper, whole = handoff.program, handoff.wrapper, handoff.whole
    memories: list[dict[str, Any]] = [
        {"name": port.name, "bytes": port.bytes, "width": port.width, "stride": wrapper.axi.stride(port)}
        for port in handoff.device.ports
    ]
    words = {name: len(memory) for name, memory in program.memories.items()}
    layers = [
        _layer(handoff, scheduled) | {"vectors": place, "cycles": layer_run.cycles}
        for place, scheduled, layer_run in zip(layer_folders(program), program.layers, handoff.run.layers, strict=True)
    ]
    return {
        "name": handoff.name,
        "top": wrapper.name,
        "build": constants(program.config, wrapper.axi)["build"],
        "rows": program.config.rows,
        "step": program.config.step,
        "address_bits": wrapper.axi.address_bits,
        "memories": memories,
        "images": [
            {**memory, "words": words[memory["name"]]}
            for port, memory in zip(handoff.device.ports, memories, strict=True)
            if not port.lanes and port.name != PER_LAYER
        ],
        "map": _map(handoff.layer_regions),
        "layers": layers,
        "network": whole and {
            "descriptors": whole.onchip.descriptors,
            "map": _map(handoff.network_regions),
            "inputs": _inputs(whole.onchip),
            "outputs": _outputs(whole.onchip),
            "segments": _segments(whole),
        },
    }  # fmt: skip


def _map(placed: Sequence[MemoryRegion]) -> dict[str, Any]:
    regions = [
        {"name": each.name, "offset": each.offset, "words": each.words, "stride": each.stride} for each in placed
    ]
    return {"image_bytes": image_bytes(placed), "bytes": placed[-1].end, "regions": regions}


def _layer(handoff: Handoff, scheduled: LayerSchedule) -> dict[str, Any]:
    layer, output, window = scheduled.layer, scheduled.layer.output_quantization, scheduled.layer.window
    return {
        "name": layer.name, "op": layer.op, "input_shape": list(layer.input_shape),
        "output_shape": list(layer.output_shape), "window": window and {
            "kernel": list(window.kernel), "strides": list(window.strides), "pads": list(window.pads),
            "dilations": list(window.dilations),
        },
        "first": scheduled.first, "count": len(scheduled.blocks), "groups": layer.groups,
        "positions": layer.positions, "reduction": layer.reduction, "channels": layer.channels,
        "planes": scheduled.planes, "activation_words": layer_words(handoff.program, scheduled)[PER_LAYER],
        "output_words": scheduled.output_words,
        "input_scale": float(layer.input_quantization.scale), "input_zero": layer.input_quantization.zero_point,
        "output_scale": 0.0 if output is None else float(output.scale),
        "output_zero": 0 if output is None else output.zero_point,
    }  # fmt: skip


def _inputs(onchip: OnChip) -> list[dict[str, Any]]:
    inputs = [
        (held, placed[held.tensor].plane)
        for segment, placed in zip(onchip.chain.segments, onchip.places, strict=True)
        for held in segment.inputs
    ]
    return [
        {
            "tensor": held.tensor, "shape": list(held.shape), "axes": list(held.axes), "rows": held.rows,
            "base": base, "plane": plane, "scale": float(held.quantization.scale),
            "zero": held.quantization.zero_point,
        }
        for (held, plane), base in zip(inputs, input_words(onchip), strict=True)
    ]  # fmt: skip


def _segments(whole: Whole) -> list[dict[str, Any]]:
    """The command of each segment, what comes before it, and which inputs and outputs are its own.

    `inputs` and `outputs` are the numbers of the first ones.
    """
    onchip, result, inputs, outputs = whole.onchip, list[dict[str, Any]](), 0, 0
    steps = onchip.chain.output_steps
    for number, (segment, (first, count)) in enumerate(zip(onchip.chain.segments, onchip.starts, strict=True), 1):
        made = sum(name in steps for name in segment.outputs)
        before = [f"host/{name}" for name, _ in whole.off_chip() if name.startswith(f"before_{number}_")]
        before += [f"layer {step.name} by itself" for step in segment.before if isinstance(step, ArrayLayer)]
        result.append({
            "first": first, "count": count, "inputs": inputs, "input_count": len(segment.inputs), "outputs": outputs,
            "output_count": made, "before": before,
        })  # fmt: skip
        inputs += len(segment.inputs)
        outputs += made
    return result


def _outputs(onchip: OnChip) -> list[dict[str, Any]]:
    chain, outputs = onchip.chain, []
    for tensor, number in chain.output_steps.items():
        held, step, where = chain.held.get(tensor), chain.steps[number], layout(onchip, number)
        if held:
            scales, axes, rows = np.array([held.quantization.scale]), held.axes, held.rows
        else:
            layer = cast(ChainLayer, step).layer
            scales, axes, rows = accumulator_scales(layer), layer.output_shape, layer.window is None
        outputs.append({
            "tensor": tensor, "shape": list(where.shape), "axes": list(axes), "rows": rows,
            "unroll": list(where.unroll), "windows": where.windows, "planes": where.planes,
            "zero": held.quantization.zero_point if held else 0,
            "cells": where.cells.reshape(-1, 3).tolist(), "scales": [float(scale) for scale in scales],
        })  # fmt: skip
    return outputs
