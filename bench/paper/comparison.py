"""One network on every accelerator: bits stored, cycles, energy. Figures 12 and 13 and the model sizes come from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.paper import accelerators, pruned
from bench.paper.energy import Energy, energy
from bench.paper.memory import times, traffic
from bench.paper.workloads import Workload
from flow.compression.allocate import PRESETS, Allocation
from flow.compression.encoding import BBS
from flow.hardware.config import ArrayConfig
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.order import layout

ARRAY = ArrayConfig()  # 16 x 32 PEs
OURS = {f"ours, {name}'s noise": name for name in PRESETS}
SCHEMES = ("sparten", "ant", "stripes", "pragmatic", "bitlet", "bitwave", *PRESETS, *OURS)


@dataclass(frozen=True)
class Outcome:
    """A network on one accelerator, one input: bits per weight, cycles computed, cycles with DRAM, energy.

    `all_cycles` counts what fills and drains the array too, as the RTL takes it (Stripes and BitVert only).
    """

    bits: float
    compute: int
    cycles: int
    energy: Energy
    all_cycles: int | None = None

    @property
    def edp(self) -> float:
        """Energy-delay product, pJ x cycles."""
        return self.energy.total * self.cycles


def outcome(scheme: str, workload: Workload, allocation: Allocation | None = None) -> Outcome:
    """The network on the accelerator `scheme`; with an `allocation` (N of every channel) on BitVert."""
    layers = workload.layers
    name = "bitvert" if allocation is not None else scheme
    work = accelerators.network(name, workload, ARRAY, allocation)
    stored, activations = _bits(name, workload, allocation)
    moved = traffic(layers, stored, activations)
    size = sum(layer.weights.size for layer in layers)
    return Outcome(
        bits=sum(stored[layer.name] * layer.weights.size for layer in layers) / size,
        compute=sum(layer.cycles for layer in work),
        cycles=times(work, moved),
        energy=energy(name, layers, list(zip(work, moved, strict=True)), stored, activations, ARRAY),
        all_cycles=_all_cycles(name, workload, allocation),
    )


def _bits(
    name: str, workload: Workload, allocation: Allocation | None
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Bits per weight and per activation of every layer, as they cross DRAM."""
    names = [layer.name for layer in workload.layers]
    whole = dict.fromkeys(names, float(BBS.weight_bits))
    if allocation is not None:
        return pruned.stored_bits(workload.layers, allocation), whole
    if name == "ant":
        return (six := dict.fromkeys(names, float(accelerators.ANT_BITS))), six
    if name == "bitwave":  # the columns kept, and which they are: a byte for 32 weights
        return dict.fromkeys(names, BBS.weight_bits - workload.bitwave + BBS.metadata_bits / BBS.group_size), whole
    if name == "sparten":  # a bit mask and the bytes that are not zero
        weights = {layer.name: 1 + 8 * float((layer.weights != 0).mean()) for layer in workload.layers}
        return weights, {key: 1 + 8 * (1 - share) for key, share in workload.zeros.items()}
    return whole, whole


def _all_cycles(name: str, workload: Workload, allocation: Allocation | None) -> int | None:
    if name not in ("stripes", "bitvert"):
        return None
    config = ARRAY if name == "bitvert" else ARRAY.dense()
    return sum(layer_cycles(scheduled, config) for scheduled in layout(workload.layers, allocation or {}, config))


@dataclass(frozen=True)
class Comparison:
    """One network on all accelerators."""

    name: str
    stand_in: bool
    parameters: int
    macs: int
    outcomes: dict[str, Outcome]
    variants: dict[str, int]  # cycles with DRAM of other readings of an accelerator

    def speedup(self, scheme: str) -> float:
        """Over Stripes, DRAM counted."""
        return self.outcomes["stripes"].cycles / self.outcomes[scheme].cycles


def compare(workload: Workload) -> Comparison:
    """All schemes; the presets prune by the paper's rule."""
    layers = workload.layers
    presets = {name: pruned.preset(name, layers) for name in PRESETS}
    chosen = {name: made.allocation for name, made in presets.items()}
    chosen |= {name: pruned.ours(layers, presets[base].noise, ARRAY).allocation for name, base in OURS.items()}
    outcomes = {scheme: outcome(scheme, workload, chosen.get(scheme)) for scheme in SCHEMES}
    moved = traffic(layers, *_bits("stripes", workload, None))
    variants = {
        "pragmatic, sign counted": [accelerators.pragmatic(layer, ARRAY, sign=True) for layer in layers],
        "bitlet, window 32": [accelerators.bitlet(layer, ARRAY, 32) for layer in layers],
    }
    return Comparison(
        workload.name,
        workload.stand_in,
        workload.parameters,
        workload.macs,
        outcomes,
        {name: times(work, moved) for name, work in variants.items()},
    )


def geomean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))
