"""Compression: which channels are pruned, how, and the pruned INT8 network that comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx

from flow.compression import tune
from flow.compression.allocate import CHANNELS_PARALLEL, Allocation, allocate
from flow.compression.choice import Pruning
from flow.compression.encoding import EncodedLayer
from flow.compression.prune import prune
from flow.errors import FlowError
from flow.frontend.cut import partition_again
from flow.network.model import Network

Acceptable = Callable[[onnx.ModelProto], bool]


@dataclass(frozen=True)
class Compressed:
    """A network before (`original`) and after pruning, and its layers as stored."""

    original: Network
    network: Network
    allocation: Allocation  # N per channel, by layer
    encoded: tuple[EncodedLayer, ...]


def encode(
    network: Network,
    chosen: Pruning,
    channels_parallel: int = CHANNELS_PARALLEL,
    advance: Callable[[], None] = lambda: None,
    known: tune.Data | None = None,
    acceptable: Acceptable | None = None,
    found: tune.Survey | None = None,
) -> Compressed:
    """Allocate, refine, prune and encode every array layer; `advance` is called after each.

    A budget needs `known`, what calibration tells, and surveys the network if it was not (`found`); `max_drop` needs
    `acceptable`, which says of a network whether its answers still do. FlowError when no layer can run on the array,
    or a value of `chosen` is out of range.
    """
    if not network.layers:
        reasons = " ".join(network.notes) or "it has no Conv, Gemm or MatMul."
        raise FlowError(
            f"network '{network.name}' has no layer for the array: {reasons} "
            "Check it with 'bbs inspect', and export its weights as constants"
        )
    layers, allocation, method = network.layers, {}, "optimal"
    if chosen.budgeted:
        assert known is not None
        tuned = _tuned(network, chosen, chosen.block or channels_parallel, known, acceptable, found, advance)
        layers, allocation = tuned.layers, tuned.allocation
    else:
        assert chosen.columns is not None and chosen.sensitive is not None and chosen.method is not None
        allocation, method = allocate(layers, chosen.columns, chosen.sensitive, channels_parallel), chosen.method
    encoded, pruned = [], []
    for layer in layers:
        stored, weights = prune(layer.weights, allocation[layer.name], method, layer.name)
        assert not chosen.budgeted or (weights == layer.weights).all()  # refined weights lie on the grid
        encoded.append(stored)
        pruned.append(replace(layer, weights=weights))
        advance()
    return Compressed(network, partition_again(network, pruned), allocation, tuple(encoded))


def _tuned(
    network: Network,
    chosen: Pruning,
    block: int,
    known: tune.Data,
    acceptable: Acceptable | None,
    found: tune.Survey | None,
    advance: Callable[[], None],
) -> tune.Tuned:
    means = frozenset(chosen.means)
    found = found or tune.survey(network, known, means, advance)
    if chosen.bits is not None:
        return tune.tune(network, known, found, chosen.bits, block, means, advance)
    assert acceptable is not None
    return tune.smallest(network, known, found, block, means, acceptable, advance)
