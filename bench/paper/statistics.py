"""What the weights alone say: sparsity (figure 3), divergence after pruning (figure 6), stalls (figures 14, 15)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.compression.baselines import bit_flip
from bench.paper import accelerators
from bench.paper.accelerators import POPCOUNT, Work
from bench.paper.pruned import preset
from bench.paper.workloads import Workload
from flow.compression.encoding import BBS
from flow.compression.prune import METHODS, prune
from flow.hardware.config import ArrayConfig
from flow.hardware.fields import SUBGROUP

COLUMNS = (2, 4, 8, 16, 32)
BINS = (1, 8)  # INT8 values that one bin of a distribution holds
FLIPPED = 200_000  # weights of a layer that bit-flip is tried on; the methods are compared on the same ones


@dataclass(frozen=True)
class Sparsity:
    """Shares, 0..1: weights that are zero, zero bits, and the more frequent bit of each 8 of one significance."""

    values: float
    twos_complement: float
    sign_magnitude: float
    bidirectional: float


def sparsity(workload: Workload) -> Sparsity:
    """Figure 3, over the weights of all layers. Vectors of 8 run along a channel's weights; the rest is left out."""
    zeros = ones = magnitude = rarer = count = grouped = 0
    for layer in workload.layers:
        weights = layer.weights
        count += weights.size
        zeros += int((weights == 0).sum())
        ones += int(POPCOUNT[weights.view(np.uint8)].sum(dtype=np.int64))
        absolute = np.minimum(np.abs(weights.astype(np.int16)), 127).astype(np.uint8)
        magnitude += int(POPCOUNT[absolute].sum(dtype=np.int64)) + int((weights < 0).sum())
        whole = weights.shape[1] // SUBGROUP * SUBGROUP
        vectors = weights[:, :whole].reshape(-1, SUBGROUP).view(np.uint8)
        grouped += vectors.size
        for bit in range(BBS.weight_bits):
            set_ = ((vectors >> bit) & 1).sum(axis=1, dtype=np.uint8)
            rarer += int(np.minimum(set_, SUBGROUP - set_).sum(dtype=np.int64))
    bits = BBS.weight_bits * count
    return Sparsity(zeros / count, 1 - ones / bits, 1 - magnitude / bits, 1 - rarer / (BBS.weight_bits * grouped))


def divergences(workload: Workload) -> dict[int, dict[int, dict[str, float]]]:
    """Figure 6: KL divergence of the weights' distribution before and after N = 2 and 4 columns are pruned, in nats.

    By N, bin width and method. Distributions over bins of the INT8 values, all layers together, half a count added
    to each value so that none is missing. Layers of many weights give every n-th channel.
    """
    return {columns: _divergences(workload, columns) for columns in (2, 4)}


def _divergences(workload: Workload, columns: int) -> dict[int, dict[str, float]]:
    before = np.zeros(256)
    after = {name: np.zeros(256) for name in ("bit-flip", *METHODS)}
    for layer in workload.layers:
        weights = layer.weights[:: -(-layer.weights.size // FLIPPED)]
        before += _histogram(weights)
        flipped = bit_flip(weights.astype(np.float64), BBS.weight_bits - columns + BBS.metadata_bits / BBS.group_size)
        after["bit-flip"] += _histogram(flipped[0].astype(np.int8))
        for name in METHODS:
            after[name] += _histogram(prune(weights, np.full(len(weights), columns), name, layer.name)[1])
    return {width: {name: _kl(before, q, width) for name, q in after.items()} for width in BINS}


def _histogram(weights: NDArray[np.int8]) -> NDArray[np.float64]:
    """How often every value -128 to 127 occurs, plus a half."""
    return np.bincount(weights.reshape(-1).astype(np.int64) + 128, minlength=256).astype(np.float64) + 0.5


def _kl(before: NDArray[np.float64], after: NDArray[np.float64], width: int) -> float:
    p, q = (counts.reshape(-1, width).sum(axis=1) / counts.sum() for counts in (before, after))
    return float((p * np.log(p / q)).sum())


Sweep = Mapping[str, Mapping[int, Work]]


def columns_sweep(workload: Workload) -> Sweep:
    """Figures 14 and 15: work of the whole network with 2 to 32 columns of PEs, by accelerator. DRAM left out."""
    rule = preset("moderate", workload.layers).allocation
    made: dict[str, dict[int, Work]] = {}
    for layer in workload.layers:
        encoded, _ = prune(layer.weights, rule[layer.name], "zero-point-shifting", layer.name)
        for count in COLUMNS:
            config = ArrayConfig(columns=count)
            works = {
                "stripes": accelerators.stripes(layer, config),
                "pragmatic": accelerators.pragmatic(layer, config),
                "bitlet": accelerators.bitlet(layer, config),
                "bitwave": accelerators.bitwave(layer, config, workload.bitwave),
                "moderate": accelerators.bitvert_split(layer, encoded, config),
            }
            for name, work in works.items():
                total = made.setdefault(name, {}).get(count, Work(0))
                made[name][count] = total + work
    return made
