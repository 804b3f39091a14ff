"""Seconds and memory to prune one layer of a million Gaussian weights, per method and N.

Run from the repository's root: python -m bench.prune_speed
Seconds are the best of three whole `prune` calls: grouping, search, encoding and decoding. Memory is the peak
that NumPy and Python allocate in one more call (tracemalloc), beyond the weights themselves.
"""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
from numpy.typing import NDArray

from flow.encoding import BBS
from flow.prune import METHODS, prune

CHANNELS, REDUCTION = 1000, 1000
COLUMNS_PRUNED = (2, 4, 6)
REPEATS = 3


def seconds(weights: NDArray[np.int8], wanted: NDArray[np.int64], method: str) -> float:
    """The best of REPEATS runs."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        prune(weights, wanted, method)
        taken.append(time.perf_counter() - start)
    return min(taken)


def peak_megabytes(weights: NDArray[np.int8], wanted: NDArray[np.int64], method: str) -> float:
    """Peak memory of one run; apart from `seconds`, since tracing takes time."""
    tracemalloc.start()
    prune(weights, wanted, method)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def mean_error(weights: NDArray[np.int8], wanted: NDArray[np.int64], method: str) -> float:
    """Squared error per weight."""
    distance = prune(weights, wanted, method)[1].astype(np.int64) - weights
    return float(np.mean(distance**2))


def main() -> None:
    """Print one row per N and method."""
    draw = np.random.default_rng(1).normal(0, 32, (CHANNELS, REDUCTION))
    weights = np.clip(np.rint(draw), BBS.weight_min, BBS.weight_max).astype(np.int8)
    print(f"{weights.size} weights, {CHANNELS} channels, best of {REPEATS}")
    print(f"{'N':>1}  {'method':20} {'seconds':>8} {'M weights/s':>12} {'peak MB':>8} {'error':>8}")
    for columns_pruned in COLUMNS_PRUNED:
        wanted = np.full(CHANNELS, columns_pruned)
        for method in METHODS:
            error = mean_error(weights, wanted, method)  # first: builds the candidates, once per process
            taken = seconds(weights, wanted, method)
            peak = peak_megabytes(weights, wanted, method)
            speed = weights.size / taken / 1e6
            print(f"{columns_pruned}  {method:20} {taken:8.3f} {speed:12.1f} {peak:8.1f} {error:8.2f}")


if __name__ == "__main__":
    main()
