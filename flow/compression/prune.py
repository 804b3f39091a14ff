"""Binary pruning of int8 groups: three ways to choose r and d (BBS paper, section III-B).

All three return `EncodedGroups`: always encodable (r <= min(3, N), d in -32..31) and always legal INT8.
The methods take int8 [groups, 32] and, optionally, bool [groups, 32] that is False at padding. Padding counts
in no error, mean or tie; what is stored there does not matter, because the hardware feeds activation zero.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.compression.encoding import BBS, EncodedGroups, EncodedLayer, EncodedPart, check_columns_pruned, decode_layer
from flow.errors import FlowError
from flow.programs import in_parallel

Int8 = NDArray[np.int8]
Bool = NDArray[np.bool_]
Int = NDArray[np.int64]
Method = Callable[[Int8, int, "Bool | None"], EncodedGroups]

CHUNK = 4096  # groups searched at a time in NumPy: bounds the error matrix to CHUNK x 256 float32
KERNEL_FROM = 16384  # groups from which loading the compiled kernels pays


@dataclass(frozen=True)
class Candidates:
    """Every (r, d) of one N, in order of preference, and the squared error of every weight value under each.

    Shapes: r, d, lowest, highest int64 [candidates]; lowest..highest are the S whose value is legal INT8.
    `errors` float32 [256, candidates], row = weight - BBS.weight_min. Sums over a group stay below 2**24: exact.
    """

    columns_pruned: int
    r: Int
    d: Int
    lowest: Int
    highest: Int
    errors: NDArray[np.float32]


@cache
def candidates(columns_pruned: int, drop_contained: bool = True) -> Candidates:
    """The candidates in order of preference: smallest r, then smallest |d|, then positive d.

    With `drop_contained`, candidates whose levels an earlier one has, too, are left out: they are never chosen.
    """
    order = [
        (r, d)
        for r in range(BBS.max_redundant(columns_pruned) + 1)
        for d in sorted(range(BBS.constant_min, BBS.constant_max + 1), key=lambda d: (abs(d), d < 0))
    ]
    if columns_pruned == 0:
        order = [(0, 0)]
    r, d = np.array(order, np.int64).T
    lowest, highest = _legal_kept(columns_pruned, r, d)
    if drop_contained:
        keep = _not_contained(columns_pruned - r, d, lowest, highest)
        r, d, lowest, highest = r[keep], d[keep], lowest[keep], highest[keep]
    weights = np.arange(BBS.weight_min, BBS.weight_max + 1)[:, None]
    step = np.int64(1) << (columns_pruned - r)
    kept = np.clip((weights - d + step // 2) // step, lowest, highest)
    errors = (kept * step + d - weights) ** 2
    return Candidates(columns_pruned, r, d, lowest, highest, errors.astype(np.float32))


def _legal_kept(columns_pruned: int, r: Int, d: Int) -> tuple[Int, Int]:
    """Smallest and largest S for which (S << (N - r)) + d is a legal INT8 value."""
    smallest, largest = BBS.kept_range(columns_pruned)
    step = np.int64(1) << (columns_pruned - r)
    lowest = np.maximum(smallest, -((d - BBS.weight_min) // step))
    return lowest, np.minimum(largest, (BBS.weight_max - d) // step)


def _not_contained(shift: Int, d: Int, lowest: Int, highest: Int) -> Bool:
    """Bool [candidates]: False where an earlier candidate has all of the candidate's levels."""
    has_level = np.zeros((d.size, 1 << BBS.weight_bits), np.int64)
    for row, k, constant, low, high in zip(has_level, shift, d, lowest, highest, strict=True):
        row[(np.arange(low, high + 1) << k) + constant - BBS.weight_min] = 1
    shared = has_level @ has_level.T
    contained = shared == has_level.sum(axis=1)[:, None]  # [candidate, container]
    return np.asarray(~np.tril(contained, -1).any(axis=1))


def _histogram(groups: Int8, valid: Bool) -> NDArray[np.float32]:
    """How often each weight value occurs in each group, float32 [groups, 256]."""
    values = 1 << BBS.weight_bits
    cells = groups.astype(np.int64) - BBS.weight_min + values * np.arange(groups.shape[0])[:, None]
    counts = np.bincount(cells[valid], minlength=values * groups.shape[0])
    return counts.reshape(-1, values).astype(np.float32)


def _nearest(groups: Int8, valid: Bool, candidates: Candidates, choice: Int) -> EncodedGroups:
    """Encode each group under its chosen candidate: nearest legal levels, ties balanced.

    A weight exactly between two legal levels goes up or down so that the group's error sum comes as near to
    zero as it can: with all ties rounded up the sum is s, and each tie rounded down subtracts one step.
    """
    columns_pruned, r, d = candidates.columns_pruned, candidates.r[choice], candidates.d[choice]
    shift = (columns_pruned - r)[:, None].astype(np.int32)
    step = np.int32(1) << shift
    constant = d[:, None].astype(np.int32)
    offset = groups - constant
    up = (offset + (step >> 1)) >> shift
    lowest = candidates.lowest[choice].astype(np.int32)[:, None]
    highest = candidates.highest[choice].astype(np.int32)[:, None]
    kept = np.clip(up, lowest, highest)
    tie = ((offset & (step - 1)) == (step >> 1)) & (step > 1) & (up > lowest) & (up <= highest) & valid
    error_sum = np.where(valid, (kept << shift) - offset, 0).sum(axis=1, keepdims=True)
    down = (2 * error_sum + step) // (2 * step)  # a negative count rounds none down
    kept -= tie & (np.cumsum(tie, axis=1) <= down)
    return EncodedGroups(columns_pruned, kept.astype(np.int8), r.astype(np.uint8), d.astype(np.int8))


def _redundant(low: NDArray[np.int32], high: NDArray[np.int32], columns_pruned: int) -> NDArray[np.int32]:
    """Redundant sign columns r of groups whose values span low..high, at most min(3, N)."""
    r = np.zeros(np.broadcast_shapes(low.shape, high.shape), np.int32)
    for bits in range(1, BBS.max_redundant(columns_pruned) + 1):
        half = 1 << (BBS.weight_bits - 1 - bits)
        r += (low >= -half) & (high < half)
    return r


def _span(groups: Int8, valid: Bool) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Smallest and largest weight of each group, int32 [groups]; 0 and 0 if it is only padding."""
    low = np.where(valid, groups, BBS.weight_max).min(axis=1).astype(np.int32)
    high = np.where(valid, groups, BBS.weight_min).max(axis=1).astype(np.int32)
    empty = low > high
    return np.where(empty, 0, low), np.where(empty, 0, high)


def _in_chunks(
    method: Callable[[Int8, Bool, int], EncodedGroups], groups: Int8, columns_pruned: int, valid: Bool | None
) -> EncodedGroups:
    """Apply a method to all groups, `CHUNK` at a time, in several threads: NumPy and kernels release Python's lock."""
    usable = _everything(groups, valid)
    starts = range(0, groups.shape[0], CHUNK)

    def one(start: int) -> EncodedGroups:
        return method(groups[start : start + CHUNK], usable[start : start + CHUNK], columns_pruned)

    return _joined(columns_pruned, in_parallel(one, starts))


def _joined(columns_pruned: int, parts: list[EncodedGroups]) -> EncodedGroups:
    if not parts:
        empty = np.empty(0, np.int8)
        return EncodedGroups(columns_pruned, empty.reshape(0, BBS.group_size), empty.view(np.uint8), empty)
    return EncodedGroups(
        columns_pruned,
        np.concatenate([part.kept for part in parts]),
        np.concatenate([part.redundant for part in parts]),
        np.concatenate([part.constant for part in parts]),
    )


def compiled(groups: int) -> Any:
    """The compiled kernels; None without the extra `fast`, or for fewer than `KERNEL_FROM` groups."""
    if groups < KERNEL_FROM or importlib.util.find_spec("numba") is None:
        return None
    return importlib.import_module("flow.compression.kernels")


def _everything(groups: Int8, valid: Bool | None) -> Bool:
    return np.ones(groups.shape, np.bool_) if valid is None else np.ascontiguousarray(valid)


def _average_chunk(groups: Int8, valid: Bool, columns_pruned: int) -> EncodedGroups:
    r = _redundant(*_span(groups, valid), columns_pruned)
    shift = (columns_pruned - r)[:, None]
    low_bits = np.where(valid, groups & ((1 << shift) - 1), 0)
    mean = low_bits.sum(axis=1) / np.maximum(valid.sum(axis=1), 1)
    constant = np.rint(mean).astype(np.int32)
    kept = np.where(valid, groups.astype(np.int32) >> shift, 0)
    # A mean above 31: S + 1 and d - 64 are the same value, if no weight has the largest S already.
    carry = (constant > BBS.constant_max) & (kept.max(axis=1) < BBS.kept_range(columns_pruned)[1])
    kept += carry[:, None]
    constant = np.minimum(constant - (carry << (columns_pruned - r)), BBS.constant_max)
    return EncodedGroups(columns_pruned, kept.astype(np.int8), r.astype(np.uint8), constant.astype(np.int8))


def _average_compiled(kernels: Any, groups: Int8, valid: Bool, columns_pruned: int) -> EncodedGroups:
    most = BBS.max_redundant(columns_pruned)
    return EncodedGroups(columns_pruned, *kernels.average(groups, valid, columns_pruned, most, BBS.constant_max))


def rounded_averaging(groups: Int8, columns_pruned: int, valid: Bool | None = None) -> EncodedGroups:
    """Drop redundant sign columns, keep the top bits, replace the low ones by their rounded mean.

    Paper section III-B, figure 4. The mean is rounded half to even. At N = 6 without redundant column it may
    exceed 31, the largest constant the metadata holds: S + 1 and d - 64 then give the same values. Where a
    weight of 64 or more leaves no room for S + 1, d is 31, the nearest to the mean.
    Raises FlowError for N outside 0..6.
    """
    check_columns_pruned(columns_pruned)
    if kernels := compiled(len(groups)):
        return _in_chunks(partial(_average_compiled, kernels), groups, columns_pruned, valid)
    return _in_chunks(_average_chunk, groups, columns_pruned, valid)


def _shift_chunk(groups: Int8, valid: Bool, columns_pruned: int) -> EncodedGroups:
    grid = candidates(columns_pruned, drop_contained=False)
    errors = _histogram(groups, valid) @ grid.errors
    low, high = _span(groups, valid)
    d, where = np.unique(grid.d.astype(np.int32), return_inverse=True)
    shifted_low = np.clip(low[:, None] - d, BBS.weight_min, BBS.weight_max)
    shifted_high = np.clip(high[:, None] - d, BBS.weight_min, BBS.weight_max)
    r = _redundant(shifted_low, shifted_high, columns_pruned)[:, where]
    errors[r != grid.r] = np.inf
    return _nearest(groups, valid, grid, errors.argmin(axis=1))


def zero_point_shifting(groups: Int8, columns_pruned: int, valid: Bool | None = None) -> EncodedGroups:
    """Try every constant; for each, drop the shifted group's redundant sign columns and round the rest.

    Paper algorithm 1, figure 5: the paper's c is -d here. Shifted values saturate at 8 bits, r is the number of
    redundant columns in the shifted group, at most 3, and the rounded value is the nearest level that decodes to
    legal INT8.
    Raises FlowError for N outside 0..6.
    """
    check_columns_pruned(columns_pruned)
    return _in_chunks(_shift_chunk, groups, columns_pruned, valid)


def _optimal_chunk(groups: Int8, valid: Bool, columns_pruned: int) -> EncodedGroups:
    grid = candidates(columns_pruned)
    errors = _histogram(groups, valid) @ grid.errors
    return _nearest(groups, valid, grid, errors.argmin(axis=1))


def _optimal_compiled(kernels: Any, groups: Int8, valid: Bool, columns_pruned: int) -> EncodedGroups:
    grid = candidates(columns_pruned)
    cap = np.iinfo(np.uint16).max // groups.shape[1]
    exact = grid.errors.astype(np.int32)
    choice = kernels.search(groups, valid, np.minimum(exact, cap).astype(np.uint16), exact, cap)
    shift, constant, lowest, highest = (
        array[choice].astype(np.int32) for array in (columns_pruned - grid.r, grid.d, grid.lowest, grid.highest)
    )
    kept = kernels.nearest(groups, valid, shift, constant, lowest, highest)
    return EncodedGroups(columns_pruned, kept, (columns_pruned - shift).astype(np.uint8), constant.astype(np.int8))


def optimal(groups: Int8, columns_pruned: int, valid: Bool | None = None) -> EncodedGroups:
    """The smallest squared error any (r, d) of the format can give; among equals smallest r, then |d|.

    Not in the paper; both of its methods choose from the same (r, d), so this is never worse than either.
    Raises FlowError for N outside 0..6.
    """
    check_columns_pruned(columns_pruned)
    if kernels := compiled(len(groups)):
        return _in_chunks(partial(_optimal_compiled, kernels), groups, columns_pruned, valid)
    return _in_chunks(_optimal_chunk, groups, columns_pruned, valid)


METHODS: dict[str, Method] = {
    "rounded-averaging": rounded_averaging,
    "zero-point-shifting": zero_point_shifting,
    "optimal": optimal,
}


def to_groups(weights: Int8) -> tuple[Int8, Bool]:
    """Weights int8 [channels, reduction] as groups int8 [groups, 32] and validity bool [groups, 32].

    Each channel's last group is padded with zeros; validity is False there.
    """
    assert weights.dtype == np.int8, weights.dtype
    channels, reduction = weights.shape
    padded = -(-reduction // BBS.group_size) * BBS.group_size
    groups = np.zeros((channels, padded), np.int8)
    groups[:, :reduction] = weights
    valid = np.broadcast_to(np.arange(padded) < reduction, groups.shape)
    return groups.reshape(-1, BBS.group_size), valid.reshape(-1, BBS.group_size)


def prune(
    weights: Int8, columns_pruned: NDArray[np.integer], method: str = "optimal", name: str = ""
) -> tuple[EncodedLayer, Int8]:
    """Prune a layer: weights int8 [channels, reduction], N per channel int [channels].

    Returns the encoded layer and its decoded weights int8 [channels, reduction]. Raises FlowError for an
    unknown method, an N outside 0..6, or not exactly one N per channel; `name` is the layer in the
    message.
    """
    place = f"layer {name!r}" if name else "the layer"
    if method not in METHODS:
        raise FlowError(f"unknown pruning method {method!r} for {place}; choose one of {', '.join(METHODS)}")
    wanted = np.asarray(columns_pruned)
    if wanted.shape != (weights.shape[0],):
        raise FlowError(
            f"every channel needs its pruned bit columns: {place} has {weights.shape[0]} channels, "
            f"got shape {wanted.shape}; pass one number per channel"
        )
    in_use = np.unique(wanted).tolist()
    for count in in_use:
        check_columns_pruned(count, place)
    wanted = wanted.astype(np.int64)
    parts = [_part(weights, np.flatnonzero(wanted == n), int(n), METHODS[method]) for n in in_use]
    layer = EncodedLayer(int(weights.shape[1]), wanted, tuple(parts))
    return layer, decode_layer(layer)


def _part(weights: Int8, channels: Int, columns_pruned: int, method: Method) -> EncodedPart:
    groups, valid = to_groups(weights[channels])
    return EncodedPart(channels, method(groups, columns_pruned, valid))
