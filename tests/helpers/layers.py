"""Random pruned layers for the accelerator, with the memories of a run and what must come out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.compression.encoding import EncodedLayer
from flow.compression.prune import prune
from flow.hardware.config import ArrayConfig
from flow.hardware.core.guard import first_error
from flow.hardware.interface import Memory
from flow.network import reference
from flow.network.model import ArrayLayer, Quantization, Window
from flow.scheduling.blocks import Bytes, LayerSchedule, Program
from flow.scheduling.schedule import schedule
from flow.scheduling.words import activation_words, pack_fields, unpack_fields
from flow.simulation.results import expected_words

Int8 = NDArray[np.int8]
TINY: dict[str, Any] = {"weight_depth": 16, "metadata_depth": 4, "activation_depth": 8}


NUMBERS = count()  # each layer has weights of its own


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
        weight_tensor=f"weights_{next(NUMBERS)}",
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


def random_job(seed: int, config: ArrayConfig, small: bool = False) -> Job:
    """A layer of any reduction, positions, channels, N and groups; a `small` one takes a few hundred cycles at most."""
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 2] if small else [1, 1, 2, 5]))
    channels = groups * int(rng.integers(1, 4 if small else 12))
    reduction = int(rng.choice([1, 3, 9, 16, 17] if small else [1, 3, 9, 16, 17, 32, 64, 100]))
    positions = int(rng.choice([1, 2, 5] if small else [1, 2, 5, 16, 33]))
    weights = random_weights(rng, channels, reduction)
    encoded, pruned = prune(weights, rng.choice([0, 2, 4, 6], channels), "optimal")
    layer = layer_of(
        pruned, positions, rng, raw=bool(rng.integers(4) == 0), groups=groups,
        input_shape=(positions, groups * reduction),
    )  # fmt: skip
    if groups > 1:
        layer = _as_convolution(layer, positions, groups, reduction)
    return single(encoded, layer, config, random_codes(seed, layer))


def _as_convolution(layer: ArrayLayer, positions: int, groups: int, reduction: int) -> ArrayLayer:
    """Groups exist in convolutions only: 1x1 over a line of positions."""
    window = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
    return replace(
        layer, op="Conv", window=window, groups=groups,
        input_shape=(groups * reduction, 1, positions), output_shape=(layer.channels, 1, positions),
    )  # fmt: skip


# What may be wrong with a descriptor: the error, and the fields that make it, of an array with TINY buffers.
WRONG: list[tuple[str, dict[str, int]]] = [
    ("tiles", {"tiles": 0}), ("tiles", {"tiles": 2, "resident": 0}), ("steps", {"steps": 0}),
    ("columns", {"columns": 0}), ("columns", {"columns": 1}), ("columns", {"columns": 9}),
    ("channels", {"channels": 0}), ("channels", {"channels": 4}),
    ("weight_count", {"weight_count": 1}), ("weight_count", {"weight_count": 2**32 - 1, "resident": 0, "tiles": 1}),
    ("metadata_count", {"metadata_count": 0}), ("metadata_count", {"metadata_count": 2**31}),
    ("activation_count", {"activation_count": 1}), ("activation_count", {"activation_count": 2**32 - 1}),
    ("activation_count", {
        "tiles": 2**24 - 1, "resident": 1, "steps": 1, "columns": 8, "weight_count": 8, "metadata_count": 1,
        "activation_count": 2**24 - 1,
    }),
    ("parameter_count", {"parameter_count": 0}), ("parameter_count", {"parameter_count": 9}),
    ("buffer", {"resident": 1, "steps": 3, "columns": 8, "weight_count": 24}),
    ("buffer", {"resident": 1, "steps": 9, "metadata_count": 5}),
    ("hold", {
        "hold": 1, "tiles": 1, "steps": 9, "columns": 2, "resident": 0, "weight_count": 18, "metadata_count": 5,
    }),
]  # fmt: skip


def broken(work: Job, number: int, config: ArrayConfig, **changes: int) -> tuple[Job, str]:
    """The job with fields of one descriptor changed, and the first error that its run meets.

    The count of activations fits the fields that are changed, unless it is one of them: then it is not the next one's.
    """
    memories = {name: memory.copy() for name, memory in work.memories.items()}
    every = [unpack_fields(word, config.descriptor) for word in memories["descriptor"]]
    fields, given = every[number], number > 0 and (every[number - 1]["hold"] or every[number - 1]["ahead"])
    fields |= ({"ahead": 0} if "activation_count" in changes else {}) | changes
    if "activation_count" not in changes and not fields["ahead"]:
        windows = fields["tiles"] * fields["steps"] * config.beats
        fields["activation_count"] = 0 if given else windows % 2 ** dict(config.descriptor)["activation_count"]
    memories["descriptor"][number] = pack_fields(fields, config.descriptor, config.descriptor_bits, "layer")
    errors = (first_error(one, config, before) for one, before in zip(every, [None, *every], strict=False))
    return Job(work.scheduled, memories, work.want), next((error for error in errors if error != "none"), "none")


def spread(memory: Memory, stride: int) -> bytes:
    """The bytes of a memory as the bus sees them: words `stride` bytes apart, zeros in between."""
    words = np.zeros((len(memory), stride), np.uint8)
    words[:, : memory.shape[1]] = memory
    return words.tobytes()


def gathered(octets: bytes, stride: int, size: int) -> Memory:
    """The memory in such bytes, words of `size` bytes."""
    return np.ascontiguousarray(np.frombuffer(octets, np.uint8).reshape(-1, stride)[:, :size])
