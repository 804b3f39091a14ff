"""Seconds of each pruning method on a million Gaussian weights, and their ratio to rounded averaging.

Run from the repository's root: python -m bench.prune_speed [N]
"""

from __future__ import annotations

import sys
import time

import numpy as np

from flow.encoding import BBS, decode
from flow.prune import METHODS

WEIGHTS = 1_000_000


def main(columns_pruned: int = 4) -> None:
    """Print one row per method: best of three runs, weights per second, ratio, squared error per weight."""
    draw = np.random.default_rng(1).normal(0, 32, (WEIGHTS // BBS.group_size, BBS.group_size))
    groups = np.clip(np.rint(draw), BBS.weight_min, BBS.weight_max).astype(np.int8)
    baseline = 0.0
    print(f"{groups.size} weights, N={columns_pruned}")
    for name, method in METHODS.items():
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            encoded = method(groups, columns_pruned, None)
            seconds.append(time.perf_counter() - start)
        best = min(seconds)
        baseline = baseline or best
        error = np.mean((decode(encoded).astype(np.int64) - groups) ** 2)
        speed = groups.size / best / 1e6
        print(f"{name:20} {best:7.3f} s {speed:8.2f} M/s {baseline / best:6.3f}x  error {error:.2f}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
