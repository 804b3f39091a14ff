"""Results of co-simulation: runs of layers and samples, mismatches, tensors from output words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.hardware.config import ArrayConfig
from flow.network import reference
from flow.network.model import OFFSET, ArrayLayer
from flow.scheduling.blocks import Bytes, LayerSchedule
from flow.scheduling.words import pack_outputs


@dataclass(frozen=True)
class Mismatch:
    """An element where RTL and reference differ. `block` and `tile` number channel blocks and position tiles."""

    layer: str
    block: int
    tile: int
    row: int
    column: int
    channel: int
    position: int
    expected: int
    got: int

    def __str__(self) -> str:
        return (
            f"layer '{self.layer}', channel block {self.block} (array column {self.column}), position tile {self.tile} "
            f"(row {self.row}), channel {self.channel}, position {self.position}: RTL {self.got}, "
            f"reference {self.expected}"
        )


@dataclass(frozen=True)
class LayerRun:
    """One layer of one sample: its input, its output rows, and the first element that differs from the reference.

    The RTL computed `simulated` of the outputs, the reference the others. `cycles` of a layer in pieces are the cycle
    model's for the whole layer, plus the cycles that the pieces took beyond the model's count for them. `mismatches`
    counts array rows without a window, too. `shipped`: the layer ran from the program's own descriptors.
    """

    layer: ArrayLayer
    tensor: NDArray[Any]  # 8-bit ONNX input tensor, batch of one
    rows: NDArray[Any]  # int8 codes or int32 sums [positions, channels]
    cycles: int
    mismatches: int  # tier 1b
    first_mismatch: Mismatch | None
    failure: str | None = None  # the RTL never finished, or wrote beyond its memory; rows are 0 then
    simulated: int = 0
    pieces: int = 0
    shipped: bool = False


@dataclass(frozen=True)
class SampleRun:
    """One sample through the network: the runs of its layers, and the network's outputs by name."""

    layers: tuple[LayerRun, ...]
    outputs: dict[str, NDArray[Any]]


def expected_rows(layer: ArrayLayer, codes: NDArray[np.int8]) -> NDArray[Any]:
    """The outputs that the RTL must give: int8 codes, or int32 sums of a raw layer, [positions, channels]."""
    return _finished(layer, reference.accumulate(layer, codes))


def expected_words(
    scheduled: LayerSchedule, codes: NDArray[np.int8], config: ArrayConfig, rows: NDArray[Any] | None = None
) -> Bytes:
    """The whole output memory after a layer; `rows` are the `expected_rows`, if the caller has them already."""
    rows = expected_rows(scheduled.layer, codes) if rows is None else rows
    return pack_outputs(scheduled, with_idle(scheduled, rows, config), config)


def with_idle(scheduled: LayerSchedule, rows: NDArray[Any], config: ArrayConfig) -> NDArray[Any]:
    """The outputs of all array rows, [tiles * rows, channels], of `expected_rows`.

    Array rows without a window read zeros from activation memory.
    """
    layer = scheduled.layer
    zeros = reference.folded_bias(layer) - OFFSET * layer.weights.sum(axis=1, dtype=np.int64)
    every = np.empty((scheduled.tiles * config.rows, layer.channels), rows.dtype)
    every[: layer.positions] = rows
    every[layer.positions :] = _finished(layer, (zeros & 0xFFFFFFFF).astype(np.uint32).view(np.int32))
    return every


def _finished(layer: ArrayLayer, acc: NDArray[np.int32]) -> NDArray[Any]:
    output = layer.output_quantization
    if output is None:
        return acc
    return reference.requantize(acc, *reference.multipliers(layer), output.zero_point, layer.clamp)


def output_tensor(layer: ArrayLayer, rows: NDArray[Any]) -> NDArray[Any]:
    """RTL rows as the layer's ONNX output tensor."""
    output = layer.output_quantization
    if output is None:
        return reference.to_output(layer, rows.astype(np.float32) * reference.accumulator_scales(layer))
    return output.from_int8(reference.to_output(layer, rows))


def locate(scheduled: LayerSchedule, config: ArrayConfig, got: NDArray[Any], want: NDArray[Any]) -> Mismatch | None:
    """The first element where RTL and reference differ."""
    if np.array_equal(got, want):
        return None
    position, channel = (int(i) for i in np.argwhere(got != want)[0])
    tile, row = divmod(position, config.rows)
    number, block = next(
        (i, b)
        for i, b in enumerate(scheduled.blocks)
        if channel in b.channels and b.first_tile <= tile < b.first_tile + b.tiles
    )
    column = int(np.flatnonzero(block.channels == channel)[0])
    expected, actual = int(want[position, channel]), int(got[position, channel])
    return Mismatch(scheduled.layer.name, number, tile, row, column, channel, position, expected, actual)
