"""A factor and a summand for each channel (BatchNormalization, scales) in the numbers of post-processing.

y = g * (u - z) + h in codes of the output is M * 2^-S * (F * u + bias), with F = 2^k alike for the channels of a
descriptor: k is as large as the bias, which has F * h / g in it, permits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.hardware.fields import FACTOR_BITS, MINUS_OFFSET
from flow.network import reference

MOST_BITS = FACTOR_BITS - 1
BIAS_BITS = 29
FINE = 2.0**-17  # codes: so much an even larger k may improve a result before channels are separated


@dataclass(frozen=True)
class Gains:
    """Channels of one octet that share a sign and k: `slots` in the octet, and their numbers of the requantizer."""

    slots: tuple[int, ...]
    negative: bool
    factor: int
    bias: NDArray[np.int64]
    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]


def grouped(gain: NDArray[np.float64], summand: NDArray[np.float64], zero: int) -> list[Gains]:
    """Gains of the channels of an octet: g and h of each, float64 [channels]; `zero`: the byte of real zero."""
    least = np.abs(summand) * 2.0**-BIAS_BITS  # where h alone counts
    size = np.maximum(np.abs(gain), least)
    ratio = np.divide(np.abs(summand), size, out=np.zeros_like(size), where=size > 0) + 256
    bits = np.clip(np.floor(BIAS_BITS - np.log2(ratio)), 0, MOST_BITS).astype(int)
    groups = []
    for negative in (False, True):
        alike = np.flatnonzero((gain < 0) == negative)
        if not len(alike):
            continue
        fewest = int(bits[alike].min())
        together = bool((size[alike] * 2.0 ** -(fewest + 1) <= FINE).all())
        for k in [fewest] if together else sorted(set(bits[alike].tolist())):
            slots = alike if together else alike[bits[alike] == k]
            groups.append(_group(slots, negative, k, np.where(gain < 0, -size, size), summand, zero))
    return groups


def _group(
    slots: NDArray[np.intp], negative: bool, k: int, gain: NDArray[np.float64], summand: NDArray[np.float64], zero: int
) -> Gains:
    g, h, factor = np.abs(gain[slots]), summand[slots], 1 << k
    multiplier, shift = reference.fixed_point((g / factor).astype(np.float32))
    exact = np.divide(h * factor, g, out=np.zeros_like(h), where=g > 0)
    bias = np.rint(exact).astype(np.int64) + (factor * zero - MINUS_OFFSET if negative else -factor * zero)
    return Gains(tuple(slots.tolist()), negative, factor, bias, multiplier, shift)
