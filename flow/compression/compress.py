"""Compression: allocation, pruning and encoding of every layer; the pruned INT8 network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from flow.compression import tune
from flow.compression.allocate import CHANNELS_PARALLEL, Allocation, allocate
from flow.compression.budget import Bits, Cost, bits_limit, time_limit, total
from flow.compression.choice import BITS, CYCLES, ENERGY, Pruning
from flow.compression.encoding import EncodedLayer
from flow.compression.prune import prune
from flow.errors import FlowError
from flow.frontend.int8.cut import partition_again
from flow.network.model import Network


@dataclass(frozen=True)
class Predicted:
    """Cycles of one sample on an array ("ROWSxCOLUMNS") and on dense PEs, by the cycle model.

    `on_chip`: of the whole network by one start, of which it is an upper bound; otherwise layer by layer.
    `cycles_int8` are those of the network before pruning on the same array. `*_bus` are those behind a bus of
    `bus_bits`, by its model. `energy` and `energy_int8`: microjoules, None where there is no model of them.
    """

    array: str
    on_chip: bool
    cycles: int
    cycles_bus: int
    cycles_int8: int
    cycles_int8_bus: int
    bus_bits: int
    cycles_dense: int
    speedup: float
    energy: float | None
    energy_int8: float | None


@dataclass(frozen=True)
class Tried:
    """Another pruning of the network that was measured: on the way to the one chosen, or beside it.

    `option` of `bbs compile` gives it, or none; `kept` is False where it lost more than was allowed. `cycles` of a
    sample by the cycle model, `cycles_bus` behind the bus, by its model; `energy` in microjoules, None where it has no
    model; `value` of the metric and `divergence` from the network given on the evaluation samples.
    """

    option: str | None
    kept: bool | None
    bits: float
    cycles: int
    cycles_bus: int
    energy: float | None
    value: float | None
    divergence: float


@dataclass(frozen=True)
class Compressed:
    """A network before (`original`) and after pruning, its layers as stored, and its time if the array is known.

    `tried`: other prunings of it that were measured. `evidence`: of a budget, by which others can be reached, too.
    """

    original: Network
    network: Network
    allocation: Allocation  # N per channel, by layer
    encoded: tuple[EncodedLayer, ...]
    predicted: Predicted | None = None
    tried: tuple[Tried, ...] = ()
    evidence: tune.Evidence | None = field(default=None, repr=False)

    def without_evidence(self) -> Compressed:
        """The same without its evidence, which is large, where no other budget is asked for."""
        return replace(self, evidence=None)


def encode(
    network: Network,
    chosen: Pruning,
    channels_parallel: int = CHANNELS_PARALLEL,
    advance: Callable[[], None] = lambda: None,
    evidence: tune.Evidence | None = None,
) -> Compressed:
    """Allocate, refine, prune and encode every array layer; `advance` is called after each.

    A budget needs `evidence` from calibration; without a survey in it, the network is surveyed, and the result has
    both. FlowError when no layer can run on the array, or a value of `chosen` is out of range.
    """
    if not network.layers:
        reasons = " ".join(network.notes) or "it has no product with constant weights, such as Conv, Gemm or MatMul."
        remedy = ", and export its weights as constants" if network.notes else ", which tells what it has"
        raise FlowError(
            f"network '{network.name}' has no layer for the array: {reasons} Check it with 'bbs inspect'{remedy}"
        )
    layers, allocation, method = network.layers, {}, "optimal"
    if chosen.budgeted:
        assert evidence is not None
        limits = tune.Limits(chosen.block or channels_parallel, frozenset(chosen.means))
        tuned, survey = _tuned(network, chosen, limits, evidence, advance)
        evidence = replace(evidence, survey=survey)
        layers, allocation = tuned.layers, tuned.allocation
    else:
        assert chosen.columns is not None and chosen.sensitive is not None and chosen.method is not None
        allocation, method = allocate(layers, chosen.columns, chosen.sensitive, channels_parallel), chosen.method
    encoded, pruned = [], []
    made: dict[str, tuple[EncodedLayer, NDArray[np.int8]]] = {}  # by the tensor of the weights
    for layer in layers:
        if layer.weight_tensor not in made:
            made[layer.weight_tensor] = prune(layer.weights, allocation[layer.name], method, layer.name)
        stored, weights = made[layer.weight_tensor]
        assert not chosen.budgeted or (weights == layer.weights).all()  # refined weights lie on the grid
        encoded.append(stored)
        pruned.append(replace(layer, weights=weights))
        advance()
    return Compressed(network, partition_again(network, pruned), allocation, tuple(encoded), evidence=evidence)


def _tuned(
    network: Network,
    chosen: Pruning,
    limits: tune.Limits,
    evidence: tune.Evidence,
    advance: Callable[[], None],
) -> tuple[tune.Tuned, tune.Survey]:
    """The network within the budget, or of the least cost that is acceptable.

    Energy is searched for by bits and by cycles, too: where accuracy does not follow the curves, one of these may end
    at less of it.
    """
    data, acceptable, time = evidence.data, evidence.acceptable, evidence.time
    costs: dict[str, Cost | None] = {BITS: Bits(), CYCLES: time, ENERGY: evidence.energy}
    cost, limit = costs[chosen.limited], None
    assert cost is not None
    limits = replace(limits, cost=cost)
    if chosen.cycles is not None or chosen.speedup is not None:
        assert time is not None
        limit = float(time_limit(network.layers, time, limits.block, chosen.cycles, chosen.speedup))
    elif chosen.bits is not None:
        limit = bits_limit(network.layers, chosen.bits)
    survey = evidence.survey or tune.survey(network, data, limits.refinements, advance)
    if limit is not None:
        return tune.within(network, data, survey, limit, limits, advance), survey
    assert acceptable is not None
    searched = [cost] if chosen.limited != ENERGY else [each for each in costs.values() if each is not None]
    found = [tune.smallest(network, data, survey, replace(limits, cost=each), acceptable, advance) for each in searched]
    return min(found, key=lambda tuned: total(network.layers, cost, tuned.allocation)), survey
