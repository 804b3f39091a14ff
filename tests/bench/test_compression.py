"""The methods that BBS is compared with."""

from __future__ import annotations

import numpy as np

from bench.compression.baselines import clipped_reach, gptq, ptq, ptq_clipped, round_to


def test_gptq_compensates_what_rounding_loses() -> None:
    """On inputs that are correlated its outputs are nearer than those of rounding to nearest, on the same grid."""
    rng = np.random.default_rng(0)
    rows, inputs = rng.normal(size=(6, 24)), rng.normal(size=(500, 24)) @ rng.normal(size=(24, 24))
    second = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    found, bits = gptq(rows, 3.5, second)
    assert bits == ptq_clipped(rows, 3.5)[1] == 3
    assert np.allclose(round_to(found, 3, clipped_reach(rows, 3)), found)
    errors = [(((made - rows) @ inputs.T) ** 2).sum() for made in (found, ptq_clipped(rows, 3)[0], ptq(rows, 3)[0])]
    assert errors[0] < 0.7 * errors[1] and errors[1] < errors[2]
    alone, _ = gptq(rows, 3, np.eye(24, dtype=np.float32))
    assert np.allclose(alone, ptq_clipped(rows, 3)[0])
