"""Random pruned layers for the accelerator, with the memories of a run and what must come out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow import reference
from flow.cosim import expected_words
from flow.encoding import EncodedLayer
from flow.hardware.config import ArrayConfig
from flow.network import ArrayLayer, Quantization, Window
from flow.prune import prune
from flow.schedule import Bytes, LayerSchedule, Program, activation_words, schedule

Int8 = NDArray[np.int8]


def random_weights(rng: np.random.Generator, channels: int, reduction: int) -> Int8:
    return rng.integers(-128, 128, (channels, reduction)).astype(np.int8)


def layer_of(
    weights: Int8,
    positions: int,
    rng: np.random.Generator,
    raw: bool = False,
    window: Window | None = None,
    groups: int = 1,
    input_shape: tuple[int, ...] | None = None,
    output_shape: tuple[int, ...] | None = None,
) -> ArrayLayer:
    """A layer whose results use all of int8 and saturate at both ends of its clamp; shapes as for Gemm if not given."""
    channels, reduction = weights.shape
    spread = 74.0 * 74.0 * np.sqrt(reduction)  # standard deviation of the sum of random products
    output = Quantization(np.float32(spread * 2e-4 / 60), int(rng.integers(-20, 20)), False)
    return ArrayLayer(
        name="layer",
        op="Conv" if window else "Gemm",
        input="x",
        output="y",
        weight_tensor="w",
        weights=weights,
        weight_scales=np.asarray(rng.uniform(0.005, 0.02, channels), np.float32),
        bias=np.asarray(rng.integers(-3000, 3000, channels), np.int32),
        input_quantization=Quantization(np.float32(0.02), int(rng.integers(-128, 128)), False),
        output_quantization=None if raw else output,
        clamp=(-100, 110),
        input_shape=input_shape or (positions, reduction),
        output_shape=output_shape or (positions, channels),
        window=window,
        groups=groups,
    )


def random_layer(
    seed: int, reduction: int, positions: int, columns_pruned: Sequence[int], raw: bool = False
) -> tuple[EncodedLayer, ArrayLayer]:
    """A Gemm with one output channel for each entry of `columns_pruned`, pruned so."""
    rng = np.random.default_rng(seed)
    weights = random_weights(rng, len(columns_pruned), reduction)
    encoded, pruned = prune(weights, np.array(columns_pruned), "optimal")
    return encoded, layer_of(pruned, positions, rng, raw)


@dataclass(frozen=True)
class Job:
    """One layer of a program: its place, the memories of a run, and the output memory that must result."""

    scheduled: LayerSchedule
    memories: dict[str, Bytes]
    want: Bytes


def job(program: Program, number: int, codes: Int8) -> Job:
    """`codes` int8 [1, *input_shape] through layer `number` of the program, by the reference."""
    scheduled = program.layers[number]
    layer, config = scheduled.layer, program.config
    activations = activation_words(scheduled, reference.windows(layer, codes), config)
    return Job(scheduled, program.memories | {"activation": activations}, expected_words(scheduled, codes, config))


def single(encoded: EncodedLayer, layer: ArrayLayer, config: ArrayConfig, codes: Int8) -> Job:
    """The job of a program of one layer."""
    return job(schedule([encoded], [layer], config), 0, codes)


def random_codes(seed: int, layer: ArrayLayer) -> Int8:
    return np.random.default_rng(seed).integers(-128, 128, (1, *layer.input_shape)).astype(np.int8)
