"""Compiled loops of prune.py and refine.py, faster and with the same results to the bit; they need the extra `fast`.

Each releases Python's lock, so that threads share out the work.

One group's errors under all candidates are the sum of its weights' rows of the error table. Entries are 16-bit
and saturate at 65535 / group size, so that sums cannot overflow: a sum is a lower bound, and exact if the
best candidate has no saturated entry; otherwise the group is searched again with 32 bits.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from flow.network.model import INT8_MAX, INT8_MIN


@numba.njit(cache=True, nogil=True)
def search(
    groups: NDArray[np.int8], valid: NDArray[np.bool_], table: NDArray[np.uint16], exact: NDArray[np.int32], cap: int
) -> NDArray[Any]:
    """The first candidate with the smallest squared error, int32 [groups].

    `groups` int8 and `valid` bool [groups, size]; `table` uint16 and `exact` int32 [256, candidates], row =
    weight - INT8_MIN; entries of `table` that are `cap` are saturated.
    """
    count, size = groups.shape
    candidates = table.shape[1]
    choice = np.empty(count, np.int32)
    sums = np.empty(candidates, np.uint16)
    wide = np.empty(candidates, np.int32)
    for g in range(count):
        best = _cheapest(groups[g], valid[g], table, sums)
        saturated = False
        for i in range(size):
            if valid[g, i] and table[groups[g, i] - INT8_MIN, best] == cap:
                saturated = True
        choice[g] = _cheapest(groups[g], valid[g], exact, wide) if saturated else best
    return choice


@numba.njit(cache=True, nogil=True)
def _cheapest(group: NDArray[np.int8], valid: NDArray[np.bool_], table: NDArray[Any], sums: NDArray[Any]) -> int:
    """The first candidate of least error in the table, by `sums` [candidates], which is overwritten."""
    sums[:] = 0
    for i in range(len(group)):
        if valid[i]:
            row = table[group[i] - INT8_MIN]
            for c in range(len(sums)):
                sums[c] += row[c]
    best = 0
    for c in range(1, len(sums)):
        if sums[c] < sums[best]:
            best = c
    return best


@numba.njit(cache=True, nogil=True)
def nearest(
    groups: NDArray[np.int8],
    valid: NDArray[np.bool_],
    shift: NDArray[np.int32],
    constant: NDArray[np.int32],
    lowest: NDArray[np.int32],
    highest: NDArray[np.int32],
) -> NDArray[np.int8]:
    """S of every weight, int8 [groups, size], ties balanced: `prune._nearest`. `shift` to `highest`: int32 [groups]."""
    count, size = groups.shape
    kept = np.empty((count, size), np.int8)
    for g in range(count):
        k, d, low, high = shift[g], constant[g], lowest[g], highest[g]
        step = np.int32(1) << k
        half = step >> 1
        error = np.int32(0)
        for i in range(size):
            offset = np.int32(groups[g, i]) - d
            up = min(max((offset + half) >> k, low), high)
            kept[g, i] = up
            if valid[g, i]:
                error += (up << k) - offset
        down = (2 * error + step) // (2 * step)
        if step > 1 and down > 0:
            for i in range(size):
                offset = np.int32(groups[g, i]) - d
                up = (offset + half) >> k
                if valid[g, i] and (offset & (step - 1)) == half and low < up <= high:
                    if down > 0:
                        kept[g, i] -= 1
                    down -= 1
    return kept


@numba.njit(cache=True, nogil=True)
def average(
    groups: NDArray[np.int8], valid: NDArray[np.bool_], columns: int, most: int, largest: int
) -> tuple[NDArray[np.int8], NDArray[np.uint8], NDArray[np.int8]]:
    """Rounded averaging (`prune._average_chunk`): S int8 [groups, size], r uint8 and d int8 [groups].

    `most` is the largest r, `largest` the largest d.
    """
    count, size = groups.shape
    kept = np.empty((count, size), np.int8)
    redundant = np.empty(count, np.uint8)
    constant = np.empty(count, np.int8)
    room = (1 << (7 - columns)) - 1
    for g in range(count):
        low, high, members = np.int32(INT8_MAX), np.int32(INT8_MIN), np.int32(0)
        for i in range(size):
            if valid[g, i]:
                low = min(low, np.int32(groups[g, i]))
                high = max(high, np.int32(groups[g, i]))
                members += 1
        if members == 0:
            low, high = np.int32(0), np.int32(0)
        r = 0
        while r < most and low >= -(64 >> r) and high < (64 >> r):
            r += 1
        k = columns - r
        total, top = np.int32(0), np.int32(INT8_MIN)
        for i in range(size):
            weight = np.int32(groups[g, i]) if valid[g, i] else np.int32(0)
            total += weight & ((1 << k) - 1)
            kept[g, i] = weight >> k
            top = max(top, np.int32(weight >> k))
        members = max(members, np.int32(1))
        mean = total // members  # rounded half to even
        rest = 2 * (total - mean * members)
        if rest > members or (rest == members and mean % 2 == 1):
            mean += 1
        if mean > largest:
            if top < room:
                for i in range(size):
                    kept[g, i] += 1
                mean -= 1 << k
            mean = min(mean, np.int32(largest))
        redundant[g] = r
        constant[g] = mean
    return kept, redundant, constant


@numba.njit(cache=True, nogil=True)
def rough(wanted: NDArray[np.float32], levels: NDArray[np.float32], cost: NDArray[np.float32]) -> NDArray[np.float32]:
    """The error of every candidate without compensation, float32 [groups, channels, candidates]: `refine._rough`."""
    groups, channels, size = wanted.shape
    error = np.zeros((groups, channels, levels.shape[1]), np.float32)
    for g in range(groups):
        for c in range(channels):
            for i in range(size):
                for t in range(levels.shape[1]):
                    value = _round(wanted[g, c, i], levels[0, t], levels[1, t], levels[2, t], levels[3, t])
                    lost = (value - wanted[g, c, i]) * cost[g, i]
                    error[g, c, t] += lost * lost
    return error


@numba.njit(cache=True, nogil=True)
def in_order(
    wanted: NDArray[np.float32], tried: NDArray[np.float32], within: NDArray[np.float32], cost: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The best rounding with compensation and its losses, float32 [groups, channels, size]: `refine._best_in_order`."""
    groups, channels, size = wanted.shape
    values, losses = np.empty_like(wanted), np.empty_like(wanted)
    left, value, loss = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    for g in range(groups):
        for c in range(channels):
            least = np.float32(np.inf)
            for t in range(tried.shape[3]):
                left[:] = wanted[g, c]
                step, d = tried[0, g, c, t], tried[1, g, c, t]
                lowest, highest = tried[2, g, c, t], tried[3, g, c, t]
                total = np.float32(0)
                for i in range(size):
                    value[i] = _round(left[i], step, d, lowest, highest)
                    loss[i] = (left[i] - value[i]) * cost[g, i]
                    total += loss[i] * loss[i]
                    for j in range(i + 1, size):
                        left[j] -= loss[i] * within[g, i, j]
                if total < least or t == 0:
                    least = total
                    values[g, c] = value
                    losses[g, c] = loss
    return values, losses


@numba.njit(cache=True, nogil=True)
def _round(value: float, step: float, constant: float, lowest: float, highest: float) -> Any:
    """The nearest legal level, in float32."""
    level = np.floor((value - constant) / step + np.float32(0.5))
    return min(max(level, lowest), highest) * step + constant
