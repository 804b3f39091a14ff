"""Scales and zero points of 8-bit tensors, scales and codes of weights: docs/numbers.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.frontend.quantization.ranges import Range

PART = 2**22  # bytes of weights that are quantized at a time
LARGEST_SUM = 2**31 - 1
GRID_WEIGHTS = 8  # channels of fewer weights other than zero are not searched for a grid: any few numbers have one
GRID_DIVISORS = 64  # the smallest weight other than zero is a code of 1 to 64
GRID_TOLERANCE = 1e-3  # steps: far more than the rounding of float32, far less than that to a code
GRID_TRIED = 32  # weights of a channel that are tried first


@dataclass(frozen=True)
class Scale:
    """Scale and zero point of a tensor: real = scale * (q - zero)."""

    scale: np.float32
    zero: np.int8 | np.uint8


def scale_of(found: Range, unsigned: bool) -> Scale:
    """Scale and zero point for 256 codes over a range, which is widened to contain zero so that zero is exact."""
    kind = np.uint8 if unsigned else np.int8
    limits = np.iinfo(kind)
    low, high = min(float(found.low), 0.0), max(float(found.high), 0.0)
    scale = (high - low) / 255
    if scale < np.finfo(np.float32).tiny:
        return Scale(np.float32(1), kind(0))
    zero = np.rint(limits.min - low / scale)
    return Scale(np.float32(scale), kind(np.clip(zero, limits.min, limits.max)))


def channel_scales(
    largest: NDArray[np.float64], bias: NDArray[np.float64], step: float, reduction: int
) -> NDArray[np.float32]:
    """Scales of int8 weights -127 to 127, float32 [channels], from the largest magnitude of each channel.

    Where a bias, or the sum it is added to, would exceed 32 bits in units of step x scale, the scale is enlarged until
    it fits: in such a channel the bias dominates, and the weights are small. `step` is the scale of the input.
    """
    scales = largest / 127
    scales[scales < np.finfo(np.float32).tiny] = 1.0
    return np.maximum(scales, _least_scales(bias, step, reduction)).astype(np.float32)


def _least_scales(bias: NDArray[np.float64], step: float, reduction: int) -> NDArray[np.float64]:
    room = LARGEST_SUM - 255 * 127 * reduction - 1
    return np.abs(bias) / (step * room) * (1 + 2**-20) if room > 0 else np.zeros_like(bias)


def weight_scales(
    values: NDArray[np.float32], axis: int, bias: NDArray[np.float64], step: float
) -> NDArray[np.float32]:
    """Scales of int8 weights, float32 [channels]: of their grid if they have one, else `channel_scales`.

    Weights that were quantized before, to 8 bits or fewer, are multiples of a scale: with it, they are exact.
    """
    largest = largest_magnitudes(values, axis)
    reduction = values.size // max(len(largest), 1)
    grid, least = _grids(values, axis), _least_scales(bias, step, reduction)
    usual = channel_scales(largest, bias, step, reduction)
    return np.where((grid > 0) & (grid >= least), grid.astype(np.float32), usual)


def _grids(values: NDArray[np.float32], axis: int) -> NDArray[np.float64]:
    """The step all weights of a channel are multiples of, up to 127; float64 [channels], 0 where there is none."""
    channels = np.moveaxis(values, axis, 0)
    count = max(1, PART // 8 // max(values.nbytes // max(len(channels), 1), 1))
    parts = [channels[start : start + count] for start in range(0, len(channels), count)]
    found = [_grid_steps(np.abs(part.reshape(len(part), -1)).astype(np.float64)) for part in parts]
    return np.concatenate(found) if found else np.zeros(0)


def _grid_steps(magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """As `_grids`, of magnitudes [channels, weights]."""
    found = np.zeros(len(magnitudes))
    smallest = np.where(magnitudes > 0, magnitudes, np.inf).min(axis=1, initial=np.inf)
    searched = (np.count_nonzero(magnitudes, axis=1) >= GRID_WEIGHTS) & np.isfinite(magnitudes).all(axis=1)
    for divisor in range(1, GRID_DIVISORS + 1):
        index = np.flatnonzero(searched & (found == 0))
        for tried in (GRID_TRIED, magnitudes.shape[1]):
            steps = magnitudes[index, :tried] / smallest[index, None] * divisor
            even = (np.abs(steps - np.rint(steps)) <= GRID_TOLERANCE).all(axis=1)
            index = index[even & (steps.max(axis=1, initial=0) < 127.5)]
        largest = magnitudes[index].max(axis=1, initial=0)
        found[index] = largest / np.rint(largest / smallest[index] * divisor)
    return found


def _parts(values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Weights split along the first axis, into parts of about `PART` bytes at most."""
    return np.array_split(values, max(1, min(len(values), -(-values.nbytes // PART))))


def largest_magnitudes(values: NDArray[np.float32], axis: int) -> NDArray[np.float64]:
    """The largest magnitude of each channel, float64 [channels]."""
    rest = tuple(i for i in range(values.ndim) if i != axis)
    found = [np.abs(part).max(axis=rest, initial=0) for part in _parts(values)]
    largest: NDArray[np.float32] = np.concatenate(found) if axis == 0 else np.max(found, axis=0)
    return largest.astype(np.float64)


def weight_codes(values: NDArray[np.float32], scales: NDArray[np.float32], axis: int) -> NDArray[np.int8]:
    """Weights rounded to int8 codes -127 to 127, with one scale for each index of `axis`."""
    shape = [1] * values.ndim
    shape[axis] = -1
    scale, codes, begin = scales.reshape(shape), np.empty(values.shape, np.int8), 0
    for part in _parts(values):
        own = scale[begin : begin + len(part)] if axis == 0 else scale
        codes[begin : begin + len(part)] = np.clip(np.rint(part / own), -127, 127)
        begin += len(part)
    return codes
