"""Figure 17 and table VI where no language model is at hand: one block of Llama-3-8B, its weights drawn.

Shapes as published (Meta, 2024): width 4096, 1024 for keys and values, 14,336 within. Of each matrix some output
channels are taken: every method works channel by channel. Errors are over the float weights, outputs those of
Gaussian inputs.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.compression.baselines import mxint, ptq_clipped
from flow.compression.prune import prune

Rows = NDArray[np.float64]

MATRICES = {
    "q": (4096, 4096), "k": (1024, 4096), "v": (1024, 4096), "o": (4096, 4096),
    "gate": (14336, 4096), "up": (14336, 4096), "down": (4096, 14336),
}  # fmt: skip
CHANNELS = 32  # of each matrix
INPUTS = 64

# Olive (Guo et al., ISCA 2023), our reading: 4-bit integers -7..7; of a pair with an outlier the other weight, the
# victim, becomes zero, and its code makes room for a 4-bit float of the outlier.
OUTLIERS = np.array([12, 16, 24, 32, 48, 64, 96])
NORMAL = 7
STEPS = np.linspace(0.25, 1.0, 31)


@dataclass(frozen=True)
class Fidelity:
    """Noise of the weights in dB, and the mean cosine similarity of the outputs to the float ones."""

    method: str
    bits: float
    sqnr: float
    cosine: float


def block() -> list[Fidelity]:
    """Every method on the same channels of all matrices."""
    found: dict[str, tuple[float, list[float], list[float]]] = {}
    for name, (channels, reduction) in MATRICES.items():
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        rows = generator.standard_normal((min(channels, CHANNELS), reduction))
        inputs = generator.standard_normal((reduction, INPUTS))
        wanted = rows @ inputs
        for method, (bits, made) in _methods(rows).items():
            got = made @ inputs
            noise = 10 * np.log10((rows**2).sum() / ((made - rows) ** 2).sum())
            cosine = (wanted * got).sum() / np.sqrt((wanted**2).sum() * (got**2).sum())
            entry = found.setdefault(method, (bits, [], []))
            entry[1].append(noise)
            entry[2].append(cosine)
    return [
        Fidelity(method, bits, float(np.mean(noise)), float(np.mean(cosine)))
        for method, (bits, noise, cosine) in found.items()
    ]


def _methods(rows: Rows) -> dict[str, tuple[float, Rows]]:
    scales = np.abs(rows).max(axis=1, keepdims=True) / 127
    codes = np.rint(rows / scales).astype(np.int8)

    def pruned(columns: int, method: str) -> tuple[float, Rows]:
        return 8.25 - columns, prune(codes, np.full(len(codes), columns), method)[1] * scales

    return {
        "INT8": (8.0, codes * scales),
        "BBS conservative": pruned(2, "rounded-averaging"),
        "ours, N 2": pruned(2, "optimal"),
        "BBS moderate": pruned(4, "zero-point-shifting"),
        "ours, N 4": pruned(4, "optimal"),
        "Olive": (4.0, olive(rows)),
        "ptq clipped": (4.0, ptq_clipped(rows, 4)[0]),
        "mxint": (4.25, mxint(rows, 4.25)[0]),
    }


def olive(rows: Rows) -> Rows:
    """Outlier-victim pairs with the step, per channel, of the least squared error. An even number of columns."""
    pairs = rows.reshape(len(rows), -1, 2)
    best, least = np.zeros_like(pairs), np.full(len(rows), np.inf)
    for share in STEPS:
        step = share * np.abs(pairs).max(axis=(1, 2), keepdims=True) / NORMAL
        made = _paired(pairs / step) * step
        error = ((made - pairs) ** 2).sum(axis=(1, 2))
        best[error < least] = made[error < least]
        least = np.minimum(error, least)
    return best.reshape(rows.shape)


def _paired(pairs: Rows) -> Rows:
    """Pairs [channels, pairs, 2] in steps, each as Olive stores it."""
    size = np.abs(pairs)
    normal = np.clip(np.rint(pairs), -NORMAL, NORMAL)
    nearest = OUTLIERS[np.abs(size[..., None] - OUTLIERS).argmin(axis=-1)]
    larger = np.arange(2) == size.argmax(axis=-1)[..., None]
    has_outlier = (size > NORMAL + 0.5).any(axis=-1, keepdims=True)
    made: Rows = np.where(has_outlier, np.where(larger, np.sign(pairs) * nearest, 0), normal)
    return made
