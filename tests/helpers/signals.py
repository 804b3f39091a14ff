"""How far two signals are apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def decibels(wanted: NDArray[Any], got: NDArray[Any]) -> float:
    """Signal-to-noise ratio in dB, the signal's mean removed."""
    real = wanted.astype(np.float64)
    noise = float(((real - got) ** 2).sum())
    return float("inf") if noise == 0 else float(10 * np.log10(((real - real.mean()) ** 2).sum() / noise))
