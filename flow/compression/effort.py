"""How long tuning tries: what it may spend on samples, windows and variants, by `--effort` 0 to 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flow.errors import FlowError


@dataclass(frozen=True)
class Effort:
    """What tuning may spend.

    windows             of a layer, from which its moments are estimated, at most
    multiplications     of these, for the second moments of one layer
    influence_samples   on which the influence of the layers is measured, at most
    influence_macs      of these, if each layer took a whole run
    varied              weights of the largest network that is also refined without one of the refinements
    """

    windows: int
    multiplications: float
    influence_samples: int
    influence_macs: float
    varied: int


EFFORTS: Final = (
    Effort(4096, 1e10, 16, 5e10, 0),
    Effort(16384, 4e10, 64, 2.5e11, 0),
    Effort(65536, 1e11, 256, 1e12, 3_000_000),
    Effort(1 << 20, 1e12, 256, 1e13, 30_000_000),
)
USUAL: Final = 1


def effort(level: int) -> Effort:
    """The effort of a level. FlowError if there is no such level."""
    if not 0 <= level < len(EFFORTS):
        raise FlowError(f"--effort is 0 to {len(EFFORTS) - 1}, but it is {level}; choose one of these")
    return EFFORTS[level]
