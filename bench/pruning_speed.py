"""Seconds and memory to prune Gaussian weights, per method and N.

    python -m bench.pruning_speed [--weights 1000000]

First one layer with as many weights as --weights says: complete `prune` calls (grouping, search, encoding and
decoding), best of three, and the peak that NumPy and Python allocate beyond the weights (tracemalloc). Then the search
alone for 25.5 million weights, as many as ResNet-50 has: compiled, in NumPy, and, on a thousandth of them and scaled
up, the paper's Algorithm 1 as it is written, one constant after another.
"""

from __future__ import annotations

import time
import tracemalloc

import click
import numpy as np
from numpy.typing import NDArray

from flow.compression import prune as pruning
from flow.compression.encoding import BBS
from flow.compression.prune import METHODS, prune

RESNET_50 = 25_500_000 // 32  # groups
SHARE = 1000  # algorithm 1 as written searches one in SHARE groups
COLUMNS_PRUNED = (2, 4, 6)
REPEATS = 3


def seconds(weights: NDArray[np.int8], columns_pruned: NDArray[np.int64], method: str) -> float:
    """The best of REPEATS runs."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        prune(weights, columns_pruned, method)
        times.append(time.perf_counter() - start)
    return min(times)


def peak_megabytes(weights: NDArray[np.int8], columns_pruned: NDArray[np.int64], method: str) -> float:
    """Peak memory of one run; apart from `seconds`, since tracing takes time."""
    tracemalloc.start()
    prune(weights, columns_pruned, method)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def mean_error(weights: NDArray[np.int8], columns_pruned: NDArray[np.int64], method: str) -> float:
    """Squared error per weight."""
    distance = prune(weights, columns_pruned, method)[1].astype(np.int64) - weights
    return float(np.mean(distance**2))


def algorithm_1(groups: NDArray[np.int8], columns: int) -> NDArray[np.int64]:
    """The paper's Algorithm 1 (zero-point shifting), line by line over the constants; the pruned groups.

    Shift by the constant, saturate, count redundant sign columns, round the low columns away, keep the best.
    """
    best = np.zeros(groups.shape, np.int64)
    least = np.full(len(groups), np.inf)
    for constant in range(-32, 32):
        shifted = np.clip(groups.astype(np.int64) + constant, -128, 127)
        redundant = np.zeros(len(groups), np.int64)
        for count in range(1, min(columns, 3) + 1):
            reach = 1 << (7 - count)
            redundant += ((shifted >= -reach) & (shifted < reach)).all(axis=1)
        step = (1 << (columns - redundant))[:, None]
        top = (1 << (7 - redundant))[:, None] - step
        rounded = np.minimum((shifted + step // 2) // step * step, top) - constant
        error = ((rounded - groups) ** 2).sum(axis=1)
        better = error < least
        best[better], least[better] = rounded[better], error[better]
    return best


def searches(groups: NDArray[np.int8], columns: int) -> dict[str, float]:
    """Seconds of every way to search, without grouping and decoding."""
    times = {}
    usual = pruning.KERNEL_FROM
    for name, least in (("compiled", 0), ("NumPy", len(groups) + 1)):
        pruning.KERNEL_FROM = least
        for method in ("optimal", "rounded-averaging"):
            METHODS[method](groups[:100_000], columns, None)  # loads and compiles
            start = time.perf_counter()
            METHODS[method](groups, columns, None)
            times[f"{method}, {name}"] = time.perf_counter() - start
    pruning.KERNEL_FROM = usual
    start = time.perf_counter()
    algorithm_1(groups[: len(groups) // SHARE], columns)
    times["algorithm 1 as written, scaled up"] = (time.perf_counter() - start) * SHARE
    return times


@click.command()
@click.option("--weights", "count", default=1_000_000, help="Weights of the layer.")
def main(count: int) -> None:
    """Print one row per N and method."""
    channels = round(count**0.5)
    draw = np.random.default_rng(1).normal(0, 32, (channels, channels))
    weights = np.clip(np.rint(draw), BBS.weight_min, BBS.weight_max).astype(np.int8)
    print(f"{weights.size} weights, {channels} channels, best of {REPEATS}")
    print(f"{'N':>1}  {'method':20} {'seconds':>8} {'M weights/s':>12} {'peak MB':>8} {'error':>8}")
    for columns_pruned in COLUMNS_PRUNED:
        allocation = np.full(channels, columns_pruned)
        for method in METHODS:
            error = mean_error(weights, allocation, method)  # first: builds the candidates, once per process
            elapsed = seconds(weights, allocation, method)
            peak = peak_megabytes(weights, allocation, method)
            speed = weights.size / elapsed / 1e6
            print(f"{columns_pruned}  {method:20} {elapsed:8.3f} {speed:12.1f} {peak:8.1f} {error:8.2f}")
    many = np.clip(np.rint(np.random.default_rng(2).normal(0, 32, (RESNET_50, 32))), -128, 127).astype(np.int8)
    print(f"search alone, {many.size} weights")
    for columns_pruned in COLUMNS_PRUNED:
        for name, elapsed in searches(many, columns_pruned).items():
            print(f"{columns_pruned}  {name:36} {elapsed:8.3f}")


if __name__ == "__main__":
    main()
