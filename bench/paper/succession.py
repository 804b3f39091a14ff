"""One network on what came after BitVert, and on BitVert and the pairs element beside them: cycles, bits, noise.

Cycles are those of 16 x 32 elements of BitVert and pairs, and of the others as `successors.py` makes them equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.paper import accelerators, pruned, successors, transitive
from bench.paper.accelerators import Int8, Work
from bench.paper.comparison import ARRAY
from bench.paper.memory import times, traffic
from bench.paper.workloads import Workload
from flow.compression.allocate import PRESETS, Allocation, allocate
from flow.compression.encoding import BBS
from flow.compression.prune import prune
from flow.network.model import ArrayLayer
from flow.scheduling.blocks import channel_blocks

PRESET = "moderate"  # of what is pruned here
PER_CYCLE = (1, 2, 4)  # bit columns of the pairs element
PART = 500_000  # weights of a layer that are pruned for Transitive Array or rounded; whole groups, all channels
FEWER = 4  # bits of Transitive Array's other weights


def _columns(per_cycle: int) -> str:
    return f"{per_cycle} column{'s' * (per_cycle > 1)} a cycle"


WHOLE = {
    "dense": "dense, bit by bit", "plain": "plain INT8", "bitvert": "BitVert, N = 0",
    **{f"pairs {each}": f"pairs, N = 0, {_columns(each)}" for each in PER_CYCLE},
    "transitive": "Transitive Array", "static": "Transitive Array, one tree a layer", "sparsecol": "SparseCol",
    "mcbp": "MCBP", "panacea": "Panacea", "ant": "ANT, 6 bits",
}  # fmt: skip
FEWER_BITS = {
    "bitvert pruned": f"BitVert, {PRESET}",
    **{f"pairs {each} pruned": f"pairs, {PRESET}, {_columns(each)}" for each in PER_CYCLE},
    "transitive columns": f"Transitive Array, {PRESET}, stored columns",
    "transitive values": f"Transitive Array, {PRESET}, decoded",
    "transitive 4": f"Transitive Array, {FEWER} bits",
    "bitmod 4": "BitMoD, 4 bits", "bitmod 3": "BitMoD, 3 bits",
}  # fmt: skip
NAMES = WHOLE | FEWER_BITS


@dataclass(frozen=True)
class Line:
    """A network on one machine: bits per weight, cycles computed, cycles with DRAM."""

    bits: float
    compute: int
    cycles: int


@dataclass(frozen=True)
class Succession:
    """Lines by machine (`NAMES`); additions of Transitive Array over bits of its rows; noise of weights.

    `noise`: by method bits per weight and the mean over layers of energy over error, dB. Panacea only where there are
    activations.
    """

    lines: Mapping[str, Line]
    density: Mapping[str, float]
    noise: Mapping[str, tuple[float, float]]

    def compute(self, name: str) -> float:
        """Speed-up over the dense array, DRAM left out."""
        return self.lines["dense"].compute / self.lines[name].compute

    def speedup(self, name: str) -> float:
        """DRAM counted."""
        return self.lines["dense"].cycles / self.lines[name].cycles


def study(workload: Workload) -> Succession:
    layers = workload.layers
    rule = PRESETS[PRESET]
    allocation = allocate(layers, rule.columns_pruned, rule.sensitive)
    works = _works(workload)
    reuse = {
        "transitive": [transitive.transitive(layer, ARRAY) for layer in layers],
        "static": [transitive.transitive(layer, ARRAY, shared=True) for layer in layers],
        "transitive 4": [transitive.transitive(layer, ARRAY, bits=FEWER) for layer in layers],
    } | _pruned(layers, allocation)
    works |= {name: [each.work for each in found] for name, found in reuse.items()} | _ours(layers, allocation)
    return Succession(
        {name: _line(name, workload, work, allocation) for name, work in works.items()},
        {name: _density(layers, found) for name, found in reuse.items()},
        _noise(layers),
    )


def _works(workload: Workload) -> dict[str, list[Work]]:
    """What takes whole weights, and BitMoD."""
    layers = workload.layers
    works = {
        "dense": [accelerators.stripes(layer, ARRAY) for layer in layers],
        "plain": [successors.whole(layer, ARRAY) for layer in layers],
        "ant": [accelerators.ant(layer) for layer in layers],
        "sparsecol": [accelerators.bitwave(layer, ARRAY) for layer in layers],
        "mcbp": [successors.mcbp(layer, ARRAY) for layer in layers],
    }
    for bits in successors.BITMOD_TERMS:
        works[f"bitmod {bits}"] = [successors.bitmod(layer, ARRAY, bits) for layer in layers]
    if workload.codes:
        works["panacea"] = [successors.panacea(layer, workload.codes[layer.name]) for layer in layers]
    return works


def _ours(layers: Sequence[ArrayLayer], allocation: Allocation) -> dict[str, list[Work]]:
    """BitVert and the pairs element, unpruned and pruned."""
    configs = {"bitvert": ARRAY} | {
        f"pairs {each}": replace(ARRAY, pe="pairs", columns_per_cycle=each) for each in PER_CYCLE
    }
    works = {}
    for name, config in configs.items():
        for suffix, pruned_by in (("", None), (" pruned", allocation)):
            works[name + suffix] = [
                Work(sum(block.tiles * block.steps * block.slices for block in channel_blocks(layer, n, config)))
                for layer in layers
                for n in [np.zeros(layer.channels, np.int64) if pruned_by is None else pruned_by[layer.name]]
            ]
    return works


def _pruned(layers: Sequence[ArrayLayer], allocation: Allocation) -> dict[str, list[transitive.Reuse]]:
    """Transitive Array on pruned weights: on their stored columns, and on the weights decoded."""
    columns: list[transitive.Reuse] = []
    values: list[transitive.Reuse] = []
    for layer in layers:
        part = replace(layer, weights=_part(layer.weights))
        encoded, after = prune(part.weights, allocation[layer.name], PRESETS[PRESET].method, layer.name)
        share = -(-layer.reduction // transitive.WIDTH) / -(-part.reduction // transitive.WIDTH)
        for made, found in (
            (columns, transitive.of_columns(part, encoded, ARRAY)),
            (values, transitive.transitive(replace(part, weights=after), ARRAY)),
        ):
            made.append(replace(found, work=Work(round(found.work.cycles * share))))
    return {"transitive columns": columns, "transitive values": values}


def _part(weights: Int8) -> Int8:
    """Of large weights every n-th group of 32."""
    every = -(-weights.size // PART)
    if every == 1:
        return weights
    groups = np.arange(weights.shape[1]) // BBS.group_size
    return np.ascontiguousarray(weights[:, groups % every == 0])


def _line(name: str, workload: Workload, work: Sequence[Work], allocation: Allocation) -> Line:
    layers = workload.layers
    weight_bits, activation_bits = _bits(name, workload, allocation)
    moved = traffic(layers, weight_bits, activation_bits)
    size = sum(layer.weights.size for layer in layers)
    bits = sum(weight_bits[layer.name] * layer.weights.size for layer in layers) / size
    return Line(bits, sum(layer.cycles for layer in work), times(work, moved))


def _bits(name: str, workload: Workload, allocation: Allocation) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Bits per weight and per activation of every layer, as they cross DRAM. SparseCol's format is not known: 8."""
    names = [layer.name for layer in workload.layers]
    eight = dict.fromkeys(names, float(BBS.weight_bits))
    if name.endswith("pruned") or name in ("transitive columns", "transitive values"):
        return pruned.stored_bits(workload.layers, allocation), eight
    if name == "panacea":
        both = {layer.name: successors.panacea_bits(layer, workload.codes[layer.name]) for layer in workload.layers}
        return {key: pair[0] for key, pair in both.items()}, {key: pair[1] for key, pair in both.items()}
    if name == "mcbp":
        return {layer.name: successors.mcbp_bits(layer) for layer in workload.layers}, eight
    if name == "ant":
        return (six := dict.fromkeys(names, float(accelerators.ANT_BITS))), six
    fewer = {"transitive 4": float(FEWER)} | {
        f"bitmod {bits}": successors.bitmod_bits(bits) for bits in successors.BITMOD_TERMS
    }
    return (dict.fromkeys(names, fewer[name]) if name in fewer else eight), eight


def _density(layers: Sequence[ArrayLayer], found: Sequence[transitive.Reuse]) -> float:
    """Mean over the layers, each by its products."""
    return float(np.average([each.density for each in found], weights=[layer.macs for layer in layers]))


def _noise(layers: Sequence[ArrayLayer]) -> dict[str, tuple[float, float]]:
    """BitMoD beside BBS of all channels, on some groups of every layer's INT8 weights."""
    found: dict[str, tuple[float, list[float]]] = {}
    for layer in layers:
        weights = _part(layer.weights)
        made = {f"BitMoD, {bits} bits": (successors.bitmod_bits(bits), successors.bitmod_weights(weights, bits))
                for bits in successors.BITMOD_TERMS}  # fmt: skip
        for n in (4, 5):
            for method, label in (("zero-point-shifting", "BBS"), ("optimal", "ours")):
                after = prune(weights, np.full(len(weights), n), method, layer.name)[1]
                bits = BBS.weight_bits - n + BBS.metadata_bits / BBS.group_size
                made[f"{label}, N = {n}"] = (bits, after.astype(np.float64))
        energy = float((weights.astype(np.float64) ** 2).sum())
        for method, (bits, stored) in made.items():
            error = max(float(((stored - weights) ** 2).sum()), 1e-9)
            found.setdefault(method, (bits, []))[1].append(10 * np.log10(energy / error))
    return {method: (bits, float(np.mean(values))) for method, (bits, values) in found.items()}
