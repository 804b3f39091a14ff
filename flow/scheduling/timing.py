"""The time of a network on an array as a function of N of its channels, by the cycle model: what a budget limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.hardware.config import ArrayConfig
from flow.network.model import ArrayLayer
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.order import by_itself


@dataclass(frozen=True)
class LayerByLayer:
    """Cycles of one sample, one layer after the other; `dense` are those of all layers on dense PEs.

    `beside` are the cycles that depend on no N: none here.
    """

    config: ArrayConfig
    dense: int
    beside: int = 0

    stored = False

    def of(self, layer: ArrayLayer, columns_pruned: NDArray[np.int64]) -> int:
        return layer_cycles(by_itself(layer, columns_pruned, self.config), self.config)


def layer_by_layer(layers: Sequence[ArrayLayer], config: ArrayConfig) -> LayerByLayer:
    """The time of these layers on this array."""
    return LayerByLayer(config, dense_cycles(layers, config))


def dense_cycles(layers: Sequence[ArrayLayer], config: ArrayConfig) -> int:
    """Cycles of one sample on the array of dense PEs that `config` is compared with, layer by layer."""
    dense = LayerByLayer(config.dense(), 0)
    return sum(dense.of(layer, np.zeros(layer.channels, np.int64)) for layer in layers)
