"""Layers as the array reads them from the maps: whole octets of channels, unrolled pixels.

A layer whose input channels fill their octets keeps its pruned and encoded weights. All others are rewritten, with zero
weights where a window holds values that a channel does not read, and stored unpruned in eight bit columns, which hold
any INT8 weight: a first layer of three channels, a Gemm behind a flattened map, grouped and depthwise convolutions,
convolutions of three axes.

In a depthwise convolution eight channels share an octet. One channel at a time, as in the paper, would use one
column; here eight channels and several neighbouring pixels of each are computed at once: `unroll` pixels of the output
are columns of their own, whose weights are shifted within a window that holds them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from flow.compression.encoding import EncodedLayer
from flow.compression.prune import prune
from flow.hardware.config import ArrayConfig
from flow.network.model import ArrayLayer, Window
from flow.scheduling.onchip.chain import ChainLayer
from flow.scheduling.onchip.maps import POINT, two_axes
from flow.scheduling.onchip.place import OCTET
from flow.scheduling.onchip.planes import over_planes, with_planes_as_channels
from flow.scheduling.onchip.post import Shape

UNROLLS = (1, 2, 4)


@dataclass(frozen=True)
class LayerPart:
    """Some channels of a layer, as a layer of their own over `octets` octets of the input from `first_octet` on.

    `layer` has one channel for every output channel and unrolled pixel: `channel`, `dy`, `dx` int [layer.channels]
    say which. `grid` is (rows, columns) of windows; `window` says where they are.
    """

    layer: ArrayLayer
    encoded: EncodedLayer
    columns_pruned: NDArray[np.int64]
    first_octet: int
    octets: int
    window: Window
    grid: tuple[int, int]
    unroll: tuple[int, int]
    channel: NDArray[np.int64]
    dy: NDArray[np.int64]
    dx: NDArray[np.int64]

    @property
    def positions(self) -> int:
        return self.grid[0] * self.grid[1]


def parts(step: ChainLayer, encoded: EncodedLayer, output: Shape, config: ArrayConfig) -> Iterator[LayerPart]:
    """The layer of `step`, whose output is a map of shape `output`, in parts that the array can compute."""
    stored = as_stored(step)
    if over_planes(step.layer):
        step = replace(step, layer=with_planes_as_channels(step.layer))
    layer = step.layer
    kernel, window = _kernel(step)
    per_group = kernel.shape[3]
    if stored:
        zeros = np.zeros(layer.channels, np.int64)
        yield LayerPart(
            _positions(layer, layer.weights, output[1] * output[2]), encoded, encoded.columns_pruned, 0,
            per_group // OCTET, window, output[1:], (1, 1), np.arange(layer.channels), zeros, zeros,
        )  # fmt: skip
        return
    together = next(n for n in range(1, layer.groups + 1) if n * per_group % OCTET == 0 or n == layer.groups)
    outputs = layer.channels // layer.groups
    unroll = _unroll(kernel, window, together * outputs, together * per_group, output, config)
    for begin in range(0, layer.groups, together):
        groups = range(begin, min(begin + together, layer.groups))
        yield _part(layer, kernel, window, groups, unroll, output)


def as_stored(step: ChainLayer) -> bool:
    """Whether a layer runs on chip with its pruned and encoded weights, not rewritten."""
    if over_planes(step.layer):
        return False
    kernel, _ = _kernel(step)
    whole = step.layer.groups == 1 and kernel.shape[3] % OCTET == 0
    return whole and not (step.source.flat and kernel.shape[1:3] != (1, 1))


def _kernel(step: ChainLayer) -> tuple[NDArray[np.int8], Window]:
    """Weights int8 [channels, kernel rows, kernel columns, input channels of a group], and their window on the map."""
    layer, (channels, height, width) = step.layer, step.source.shape
    if layer.window is not None:
        window = two_axes(layer.window)
        return layer.weights.reshape(layer.channels, *window.kernel, -1), window
    if layer.reduction == channels:
        return layer.weights.reshape(layer.channels, 1, 1, channels), POINT
    flat = layer.weights.reshape(layer.channels, channels, height, width)  # behind a flattened map
    return np.moveaxis(flat, 1, -1), Window((height, width), (1, 1), (0, 0, 0, 0), (1, 1))


def _positions(layer: ArrayLayer, weights: NDArray[np.int8], positions: int) -> ArrayLayer:
    """The layer as a product of `positions` windows with these weights."""
    return replace(
        layer, op="Gemm", weights=weights, window=None, groups=1, input_shape=(positions, weights.shape[1]),
        output_shape=(positions, len(weights)),
    )  # fmt: skip


def _unroll(
    kernel: NDArray[np.int8], window: Window, channels: int, inputs: int, output: Shape, config: ArrayConfig
) -> tuple[int, int]:
    """Neighbouring pixels of the output, (rows, columns), computed at once: the choice with the fewest steps."""
    if channels > config.columns or max(window.dilations) > 1:
        return (1, 1)

    def steps(unroll: tuple[int, int]) -> int:
        grid = [-(-size // by) for size, by in zip(output[1:], unroll, strict=True)]
        taps = [
            taps + (by - 1) * stride for taps, by, stride in zip(kernel.shape[1:3], unroll, window.strides, strict=True)
        ]
        octets = -(-inputs // OCTET)
        return int(-(-grid[0] * grid[1] // config.rows) * -(-taps[0] * taps[1] * octets * OCTET // config.step))

    fitting = [(y, x) for y, x in product(UNROLLS, UNROLLS) if channels * y * x <= config.columns]
    return min(fitting, key=lambda unroll: (steps(unroll), unroll))


def _part(
    layer: ArrayLayer, kernel: NDArray[np.int8], window: Window, groups: range, unroll: tuple[int, int], output: Shape
) -> LayerPart:
    """These groups of a layer over the octets they read."""
    per_group, outputs = kernel.shape[3], layer.channels // layer.groups
    first_octet = groups.start * per_group // OCTET
    octets = -(-groups.stop * per_group // OCTET) - first_octet
    taps = [taps + (by - 1) * step for taps, by, step in zip(kernel.shape[1:3], unroll, window.strides, strict=True)]
    members = np.arange(groups.start * outputs, groups.stop * outputs)
    dy, dx, channel = (each.reshape(-1) for each in np.meshgrid(*map(np.arange, unroll), members, indexing="ij"))
    spread = np.zeros((len(channel), taps[0], taps[1], octets * OCTET), np.int8)
    for number, (y, x, c) in enumerate(zip(dy, dx, channel, strict=True)):
        begin = c // outputs * per_group - first_octet * OCTET
        top, left = y * window.strides[0], x * window.strides[1]
        rows, columns = slice(top, top + kernel.shape[1]), slice(left, left + kernel.shape[2])
        spread[number, rows, columns, begin : begin + per_group] = kernel[c]
    zeros = np.zeros(len(channel), np.int64)
    weights = spread.reshape(len(channel), -1)
    encoded, _ = prune(weights, zeros)
    grid = (-(-output[1] // unroll[0]), -(-output[2] // unroll[1]))
    gemm = _positions(layer, weights, grid[0] * grid[1])
    gemm = replace(gemm, weight_scales=layer.weight_scales[channel], bias=layer.bias[channel])
    strides = (window.strides[0] * unroll[0], window.strides[1] * unroll[1])
    wider = Window((taps[0], taps[1]), strides, window.pads, window.dilations)
    return LayerPart(gemm, encoded, zeros, first_octet, octets, wider, grid, unroll, channel, dy, dx)
