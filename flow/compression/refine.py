"""Refinement without retraining: weights, scales and biases of a pruned layer, fitted to its inputs.

Three refinements, each of which can be left out:

    scales        of twelve weight scales per channel, the one with the least error at the layer's output
    compensation  weights are rounded one after another, and later weights compensate the rounding errors of
                  earlier ones, as far as the inputs correlate (GPTQ, Frantar et al. 2023; OBQ); here to the
                  levels of a group's (r, d): the most promising few are evaluated over the whole group, and the
                  best is chosen. What the layers before have done to the inputs is compensated, too: the weights
                  that are approximated are those that bring the inputs as they are now nearest to the output for
                  the inputs of the network as it was (as GPTAQ, Li et al. 2025, arXiv 2504.02692)
    bias          the mean of the remaining error at the output is added to the bias

All weights stay on the grid of the encoding: the result can be encoded exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow.compression.calibration import Double, Moments
from flow.compression.encoding import BBS
from flow.compression.prune import candidates, compiled, prune
from flow.network.model import ArrayLayer
from flow.programs import in_parallel

REFINEMENTS: Final = ("bias", "compensation", "scales")
SCALES: Final = np.linspace(0.85, 1.8, 12)
TRIED = 16  # (r, d) that are evaluated over a whole group
ROUGH = 512  # inputs of a dot product with all their correlations, where scales are compared
DAMPING = 0.01  # of the mean second moment, added to the diagonal: inputs that are always zero do no harm
DRIFTING = 0.1  # the same, where the drift of the inputs is compensated: few samples tell it, with much noise
CHUNK = 64  # channels worked on at a time

Float = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Refined:
    """A layer with refined weights, scales and biases, and the error that remains at its output."""

    layer: ArrayLayer
    error: Double  # [channels], mean square, in the output's real units


def refine(
    layer: ArrayLayer,
    targets: Double,
    columns_pruned: NDArray[np.int64],
    seen: Moments,
    refinements: frozenset[str],
    together: Moments | None = None,
) -> Refined:
    """The layer pruned by `columns_pruned` [channels], refined by `refinements` (of REFINEMENTS).

    `targets` float64 [channels, reduction]: the weights to approximate, in units of the layer's own scales, from the
    float network if there is one. `seen`: the moments of the layer's inputs, `together`: those of all layers that share
    its weights, which have no drift.
    """
    own, together = targets, together or seen
    centred = "bias" in refinements
    weights = np.zeros_like(layer.weights)
    factors = np.ones(layer.channels)
    error = np.zeros(layer.channels)
    compensated = "compensation" in refinements
    inverse = [_inverse_factors(part) for part in together.parts] if compensated else []
    if compensated and together.drift:
        targets = targets + _shift(targets, together, together.drift, centred)

    def fit(n: int, groups: Indices, chosen: Indices) -> None:
        those = together.of(groups)
        best, rows, left = _scaled(targets[chosen], n, those, centred, "scales" in refinements)
        if compensated:
            wanted = targets[chosen] / best[:, :, None]
            other = _compensated(wanted, n, [factor[groups] for factor in inverse])
            other_left = those.error(other - wanted, centred) * best**2
            better = other_left < left
            rows[better], left[better] = other[better], other_left[better]
        weights[chosen], factors[chosen], error[chosen] = rows.astype(np.int8), best, left

    in_parallel(lambda alike: fit(*alike), _alike(columns_pruned, layer.groups))
    scales = (layer.weight_scales * factors).astype(np.float32)
    unit = float(layer.input_quantization.scale) * layer.weight_scales.astype(np.float64)
    like = replace(layer, weights=weights, weight_scales=scales)
    return Refined(with_weights_of(like, layer, own, seen, refinements), error * unit**2)


def with_weights_of(
    like: ArrayLayer, layer: ArrayLayer, targets: Double, seen: Moments, refinements: frozenset[str]
) -> ArrayLayer:
    """The layer with the refined weights and scales of one that shares its weights, and with its own bias for them.

    `targets`, `seen` and `refinements` as in `refine`.
    """
    weights, scales = like.weights, like.weight_scales
    bias = _bias(layer, targets, weights, scales, seen, "bias" in refinements)
    return replace(layer, weights=weights, weight_scales=scales, bias=bias)


def _alike(columns_pruned: NDArray[np.int64], groups: int) -> Iterator[tuple[int, Indices, Indices]]:
    """Channels with one N, of groups that have equally many: N, the groups, the channels [groups, channels]."""
    by_group = columns_pruned.reshape(groups, -1)
    for n in np.unique(columns_pruned):
        counts = (by_group == n).sum(axis=1)
        for count in np.unique(counts[counts > 0]):
            some = np.flatnonzero(counts == count)
            group, member = np.nonzero(by_group[some] == n)
            yield int(n), some, (some[group] * by_group.shape[1] + member).reshape(len(some), -1)


def error_curves(layer: ArrayLayer, targets: Double, seen: Moments, refinements: frozenset[str]) -> Double:
    """Mean square error at the output when a channel loses N columns, real units, [channels, N = 0 to 6].

    Of weights rounded to nearest: compensation and scale search lower all errors, by similar factors.
    """
    centred = "bias" in refinements
    unit = float(layer.input_quantization.scale) * layer.weight_scales.astype(np.float64)
    curves = np.zeros((layer.channels, BBS.max_columns_pruned + 1))
    by_group = targets.reshape(layer.groups, -1, layer.reduction)
    for n in range(BBS.max_columns_pruned + 1):
        curves[:, n] = seen.error(_nearest(by_group, n) - by_group, centred).reshape(-1)
    return curves * (unit**2)[:, None]


def _nearest(targets: Double, n: int) -> Double:
    """The optimal pruning of the rounded targets [..., reduction], ties balanced."""
    codes = np.clip(np.rint(targets), BBS.weight_min, BBS.weight_max).astype(np.int8)
    rows = codes.reshape(-1, codes.shape[-1])
    return prune(rows, np.full(len(rows), n), "optimal")[1].astype(np.float64).reshape(targets.shape)


def _shift(targets: Double, seen: Moments, drift: Moments, centred: bool) -> Double:
    """What weights [channels, reduction] lack on the drifted inputs x, where y was meant: W E[(y - x) x^T] E[x x^T]^-1.

    `centred`: the bias corrects the mean.
    """
    by_group, shift, begin = targets.reshape(seen.means.shape[1], -1, targets.shape[1]), np.zeros_like(targets), 0
    by_part = shift.reshape(by_group.shape)
    for part, apart in zip(seen.parts, drift.parts, strict=True):
        here, size = slice(begin, begin + part.shape[-1]), part.shape[-1]
        second, cross = part.astype(np.float64), apart.astype(np.float64)
        damping = np.maximum(DRIFTING * np.trace(second, axis1=1, axis2=2) / size, 1e-6)
        if centred:
            mean = seen.means[0, :, None, here]
            second -= mean.transpose(0, 2, 1) @ mean
            cross -= drift.means[0, :, here, None] @ mean
        second += np.eye(size) * damping[:, None, None]
        lacked = np.matmul(by_group[:, :, here], cross)
        by_part[:, :, here] = np.linalg.solve(second, lacked.transpose(0, 2, 1)).transpose(0, 2, 1)
        begin += size
    return shift


def _scaled(targets: Double, n: int, seen: Moments, centred: bool, search: bool) -> tuple[Double, Double, Double]:
    """Scale factor [groups, channels], pruned weights [groups, channels, reduction] in its units, and their error."""
    factors = np.ones(targets.shape[:2])
    rows = _nearest(targets, n)
    estimate = seen.error(rows - targets, centred, ROUGH)
    for factor in SCALES if search else ():
        wanted = targets / factor
        tried = _nearest(wanted, n)
        left = seen.error(tried - wanted, centred, ROUGH) * factor**2
        better = left < estimate
        rows[better], estimate[better], factors[better] = tried[better], left[better], factor
    return factors, rows, seen.error(rows - targets / factors[:, :, None], centred) * factors**2


def _inverse_factors(second: Float) -> Float:
    """Upper triangular U with U^T U the inverse of the damped second moments, of each group: [groups, size, size]."""
    size = second.shape[-1]
    damping = np.maximum(DAMPING * np.trace(second, axis1=1, axis2=2, dtype=np.float64) / size, 1e-6)
    damped = second.astype(np.float64) + np.eye(size) * damping[:, None, None]
    return np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1).astype(np.float32)


def _compensated(targets: Double, n: int, inverse: list[Float]) -> Double:
    """Weights on the grid, [groups, channels, reduction], rounded in order with compensation."""
    rows, begin = np.empty(targets.shape), 0
    groups, channels = targets.shape[:2]
    step, kernels = max(CHUNK // channels, 1), compiled(targets.size // BBS.group_size)
    for factor in inverse:
        end = begin + factor.shape[-1]
        for first, start in product(range(0, groups, step), range(0, channels, CHUNK)):
            here = slice(first, first + step), slice(start, start + CHUNK), slice(begin, end)
            rows[here] = _in_order(targets[here].astype(np.float32), n, factor[here[0]], kernels)
        begin = end
    return rows


def _in_order(wanted: Float, n: int, factor: Float, kernels: Any) -> Float:
    """Round `wanted` [groups, channels, size] in order, later weights compensating earlier ones; it is overwritten.

    `factor` of `_inverse_factors`; `kernels`: the compiled loops, or None.
    """
    grid = candidates(n)
    step = np.exp2(n - grid.r).astype(np.float32)
    levels = np.stack([step, grid.d, grid.lowest, grid.highest]).astype(np.float32)
    rows = np.empty_like(wanted)
    for begin in range(0, wanted.shape[2], BBS.group_size):
        end = min(begin + BBS.group_size, wanted.shape[2])
        here, within = wanted[:, :, begin:end], factor[:, begin:end, begin:end]
        cost = (1 / np.diagonal(within, axis1=1, axis2=2)).astype(np.float32)  # [groups, end - begin]
        tried = levels[:, _promising(here, levels, cost, kernels)]  # [4, groups, channels, tried]
        best_in_order = kernels.in_order if kernels else _best_in_order
        rows[:, :, begin:end], losses = best_in_order(here, tried, within, cost)
        wanted[:, :, end:] -= losses @ factor[:, begin:end, end:]
    return rows


def _best_in_order(wanted: Float, tried: Float, within: Float, cost: Float) -> tuple[Float, Float]:
    """Of the candidates `tried` [4, groups, channels, tried], the rounding of least loss, and the loss of each input.

    `wanted` [groups, channels, size]: weights of one (r, d) a channel; `within` [groups, size, size] and `cost`
    [groups, size] as in `_in_order`. Sums run over the inputs in order.
    """
    left = np.repeat(wanted[:, :, None], tried.shape[3], axis=2)
    values, losses, total = np.empty_like(left), np.empty_like(left), np.zeros(left.shape[:3], np.float32)
    for i in range(wanted.shape[2]):
        values[..., i] = _round(left[..., i], tried)
        losses[..., i] = (left[..., i] - values[..., i]) * cost[:, None, None, i]
        total += losses[..., i] * losses[..., i]
        left[..., i + 1 :] -= losses[..., i, None] * within[:, None, None, i, i + 1 :]
    best = total.argmin(axis=2)[:, :, None, None]
    return np.take_along_axis(values, best, axis=2)[:, :, 0], np.take_along_axis(losses, best, axis=2)[:, :, 0]


def _round(values: Float, levels: Float) -> Float:
    step, constant, lowest, highest = levels
    rounded: Float = np.clip(np.floor((values - constant) / step + np.float32(0.5)), lowest, highest) * step + constant
    return rounded


def _promising(wanted: Float, levels: Float, cost: Float, kernels: Any) -> Indices:
    """The TRIED candidates of least error without compensation, int [groups, channels, tried]."""
    count = levels.shape[1]
    if count <= TRIED:
        return np.broadcast_to(np.arange(count), (*wanted.shape[:2], count))
    error = (kernels.rough if kernels else _rough)(wanted, levels, cost)
    return np.argpartition(error, TRIED, axis=2)[:, :, :TRIED]


def _rough(wanted: Float, levels: Float, cost: Float) -> Float:
    """The error of every candidate of `levels` [4, candidates], [groups, channels, candidates], inputs in order."""
    error = np.zeros((*wanted.shape[:2], levels.shape[1]), np.float32)
    for i in range(wanted.shape[2]):
        here = wanted[:, :, i, None]
        lost = (_round(here, levels) - here) * cost[:, None, i, None]
        error += lost * lost
    return error


def _bias(
    layer: ArrayLayer, targets: Double, weights: NDArray[np.int8], scales: Float, seen: Moments, corrected: bool
) -> NDArray[np.int32]:
    """The bias in units of the new scales; if `corrected`, plus the mean error of the weights at the output."""
    old, new = layer.weight_scales.astype(np.float64), scales.astype(np.float64)
    lost = targets * old[:, None] - weights * new[:, None]
    each = layer.channels // layer.groups
    shift = np.zeros(layer.channels)
    if corrected:
        shift += (lost * np.repeat(seen.means[0], each, axis=0)).sum(axis=1)
        if seen.drift:
            shift += (targets * old[:, None] * np.repeat(seen.drift.means[0], each, axis=0)).sum(axis=1)
    codes = np.rint((layer.bias * old + shift) / new)
    return np.clip(codes, -(2**31), 2**31 - 1).astype(np.int32)
