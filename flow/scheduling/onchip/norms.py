"""Normalizations of the channels of a position, Softmax and LayerNormalization, in the integers of the hardware.

Both end in t = (a * q) / 2^s of every channel, which a requantizer makes a code, and q is found once for a position:

    Softmax  a = e[max u - u],  e[d] = 2^32 exp(-d s_x),                  q = floor(2^60 / sum of e)
    layer    a = n v - c,       v = u - z, W = 4^f (n sum v^2 - c^2) + E,  q = floor(2^59 / floor(sqrt(4^x W)))

n channels; c is the sum of v, or 0 where the mean is not taken out; E is 4^f n^2 epsilon / s_x^2; x makes W as large as
64 bits permit. t has as many bits behind the point as `PerChannel.fraction` says, and is LARGEST at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cached_property, lru_cache
from math import ceil, isqrt, log2

import numpy as np
from numpy.typing import NDArray

from flow.hardware.fields import EXPONENTIAL_BITS, MOST_NORMALIZED, QUOTIENT_BITS, SUBGROUP
from flow.network import reference
from flow.scheduling.onchip.gains import in_groups

FRACTION = 30  # bits of a Softmax's t behind the point, and up to MORE where its codes are small
MORE = 10
SLACK = 0.1  # so that a scale of 1/255 needs no other number of bits than 1/256
DIGITS = 40  # decimal ones of the exponentials, before they are rounded
RADICAND = 64  # bits of W
MOST_FRACTION = 26  # so that t is shifted right, whatever is normalized: docs/numbers.md
BIAS_BITS = 30
LARGEST = (1 << 31) - 1  # of t
FINE = 2.0**-18  # codes: so much more bits may improve a result before channels are separated

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Norm:
    """A normalization over `channels`: of codes with this scale `step`, less the byte `zero` of real zero.

    "softmax", or "layernorm": then with `epsilon`, the mean taken out if `centred`, and for each channel (factor,
    summand) in `gains`. ONNX Runtime rounds a code's value `roundings` times.
    """

    kind: str
    channels: int
    step: float
    zero: int = 0
    epsilon: float = 0.0
    centred: bool = True
    gains: tuple[tuple[float, float], ...] = ()
    roundings: int = 1

    @property
    def softmax(self) -> bool:
        return self.kind == "softmax"

    @property
    def passes(self) -> int:
        """How often the hardware reads a position's channels to sum them: before, for the largest of them."""
        return 2 if self.softmax else 1

    @property
    def constants(self) -> tuple[int, ...]:
        """The words that the hardware is given before: the exponentials, or E."""
        return exponentials(self.step) if self.softmax else (self._offset,)

    @cached_property
    def doublings(self) -> int:
        """f: as many as 64 bits have room for."""
        if self.softmax:
            return 0
        largest = self.channels**2 * (255**2 + Fraction(self.epsilon) / Fraction(self.step) ** 2)
        return max(0, min(31, (RADICAND - 1 - int(largest).bit_length()) // 2))

    @property
    def _offset(self) -> int:
        real = Fraction(self.channels * 2**self.doublings) ** 2 * Fraction(self.epsilon) / Fraction(self.step) ** 2
        return min(int(real + Fraction(1, 2)), (1 << RADICAND - 1) - 1)

    @property
    def fraction(self) -> int:
        """Bits of t behind the point, at most: |t| is at most the root of `channels`."""
        return FRACTION if self.softmax else min(MOST_FRACTION, 29 - ceil(log2(self.channels) / 2))

    def shift(self, fraction: int) -> int:
        """One less than how far a * q is shifted right for as many bits behind the point; x makes it less."""
        if self.softmax:
            return EXPONENTIAL_BITS + QUOTIENT_BITS - fraction - 1
        return 31 + QUOTIENT_BITS - self.doublings - fraction - 1

    def octet(self, octet: int, scale: float) -> list[PerChannel]:
        """The numbers for the channels of one octet whose output has this scale, in groups."""
        there = min(SUBGROUP, self.channels - octet * SUBGROUP)
        if self.softmax:
            more = int(np.clip(np.floor(SLACK - log2(256 * scale)), 0, MORE))  # what is too large saturates
            return [_group(np.arange(there), False, FRACTION + more, np.full(there, 1 / scale), np.zeros(there))]
        pairs = np.array(self.gains[octet * SUBGROUP :][:there], np.float64) / scale
        return _grouped(pairs[:, 0], pairs[:, 1], self.fraction)


@dataclass(frozen=True)
class PerChannel:
    """Channels of one octet whose t has the same sign and bits behind the point: `slots`, the requantizer's numbers."""

    slots: tuple[int, ...]
    negative: bool
    fraction: int
    bias: Ints
    multiplier: Ints
    shift: Ints


def _grouped(gain: NDArray[np.float64], summand: NDArray[np.float64], most: int) -> list[PerChannel]:
    """g and h of y = g t + h, in codes: as many bits behind the point as bias and multiplier permit."""
    size = np.maximum(np.abs(gain), np.maximum(np.abs(summand) * 2.0**-BIAS_BITS, 2.0**-40))
    ratio = np.maximum(np.abs(summand) / size, 2.0**-40)
    bits = np.floor(np.minimum(BIAS_BITS - np.log2(ratio), 33 + np.log2(size)))
    bits = np.clip(bits, 0, most).astype(int)
    return [
        _group(slots, negative, fraction, size[slots], summand[slots])
        for negative, fraction, slots in in_groups(gain < 0, size, bits, FINE)
    ]


def _group(
    slots: NDArray[np.intp], negative: bool, fraction: int, gain: NDArray[np.float64], summand: NDArray[np.float64]
) -> PerChannel:
    multiplier, shift = reference.fixed_point((gain * 2.0**-fraction).astype(np.float32))
    bias = np.rint(summand * 2.0**fraction / gain).astype(np.int64)
    return PerChannel(tuple(slots.tolist()), negative, fraction, bias, multiplier, shift)


@lru_cache(maxsize=64)
def exponentials(step: float) -> tuple[int, ...]:
    """e[d] of d = 0 to 255: the same on every machine, whatever its exp."""
    with localcontext() as context:
        context.prec = DIGITS
        one = Decimal(1 << EXPONENTIAL_BITS)
        return tuple(int(((-Decimal(step) * d).exp() * one).to_integral_value()) for d in range(256))


def normalized(norm: Norm, octets: Ints) -> tuple[Ints, Ints]:
    """Of bytes u [channels, positions]: a [channels, positions]; (q, x) [2, positions]."""
    if norm.softmax:
        table = np.array(exponentials(norm.step), np.int64)
        each = table[octets.max(axis=0) - octets]
        quotients = [(1 << EXPONENTIAL_BITS + QUOTIENT_BITS) // total for total in each.sum(axis=0).tolist()]
        return each, np.array([quotients, [0] * len(quotients)], np.int64)
    v, n = octets - norm.zero, norm.channels
    centre = v.sum(axis=0) if norm.centred else np.zeros(v.shape[1], np.int64)
    found = [_root(norm, n * q - c * c) for q, c in zip((v * v).sum(axis=0).tolist(), centre.tolist(), strict=True)]
    return n * v - centre, np.array(found, np.int64).T.reshape(2, -1)


def _root(norm: Norm, variance: int) -> tuple[int, int]:
    """q and x, of n^2 times the variance in codes."""
    radicand = (variance << 2 * norm.doublings) + norm.constants[0]
    if radicand == 0:  # then all a are 0
        return 0, 0
    raised = (RADICAND - radicand.bit_length()) // 2
    return (1 << 31 + QUOTIENT_BITS) // isqrt(radicand << 2 * raised), raised


def finished(norm: Norm, a: Ints, found: Ints, fraction: int, negative: bool) -> Ints:
    """t of a [channels, positions] and (q, x): what leaves the hardware for the requantizer."""
    shift = np.clip(norm.shift(fraction) - found[1], 0, 63)
    t = np.minimum(((a * found[0] >> shift) + 1) >> 1, LARGEST)
    signed: Ints = -t if negative else t
    return signed


def checked(norm: Norm) -> str:
    """Why the hardware cannot do it; empty if it can."""
    if norm.channels > MOST_NORMALIZED:
        return f"it goes over {norm.channels:,} channels, and the hardware takes {MOST_NORMALIZED:,}"
    if not norm.softmax and norm.epsilon <= 0:
        return "its epsilon is not more than 0"
    return ""


def exact(norm: Norm, octets: Ints) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of bytes u [channels, positions], the real results, and their sizes times how often float32 rounds them.

    A term of a Softmax is as wrong as its exponent, which is a difference of two values.
    """
    x = (octets - norm.zero) * norm.step
    if norm.softmax:
        largest = x.max(axis=0)
        raw = np.exp(x - largest)
        shares = raw / raw.sum(axis=0)
        wrong = norm.roundings * (np.abs(x) + np.abs(largest)) + np.abs(x - largest)
        return shares, shares * (wrong + (shares * wrong).sum(axis=0) + len(x) + 8)
    gain, summand = np.array(norm.gains, np.float64).T[:, :, None]
    mean = x.mean(axis=0) if norm.centred else np.zeros(x.shape[1])
    root = np.sqrt(((x - mean) ** 2).mean(axis=0) + norm.epsilon)
    real = gain * (x - mean) / root
    terms = np.abs(gain) * (np.abs(x) + (np.abs(x).mean(axis=0) if norm.centred else 0)) / root
    return real + summand, (terms + np.abs(summand)) * (len(x) + 8)
