"""Bytes between DRAM and the accelerator, and how long they take (paper, section V-A).

A weight buffer and an activation buffer of 256 KB each. A layer's input is fetched once if it or the layer's
weights fit their buffer; otherwise either the weights are fetched again for each buffer of input, or the input
again for each buffer of weights, whichever is less. A layer whose input and output fit the activation buffer
together leaves its output there for the next. Loading goes on while the array computes, so that a layer takes the
longer of the two. Products of two activations (attention) are left out for all accelerators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.paper.accelerators import Work
from flow.network.model import ArrayLayer

BUFFER = 256 * 1024  # bytes, each of the two
BYTES_PER_CYCLE = 16  # DDR3, 12.8 GB/s, at 800 MHz


@dataclass(frozen=True)
class Traffic:
    """Bytes of one layer over DRAM."""

    weights: float
    inputs: float
    outputs: float

    @property
    def total(self) -> float:
        return self.weights + self.inputs + self.outputs

    @property
    def cycles(self) -> int:
        return -int(-self.total // BYTES_PER_CYCLE)


def traffic(
    layers: Sequence[ArrayLayer], weight_bits: Mapping[str, float], activation_bits: Mapping[str, float]
) -> list[Traffic]:
    """Every layer's bytes; bits stored per weight and per input activation by layer name.

    A layer's output has the bits of the next layer's input (the last layer's: of its own).
    """
    made, on_chip = [], False
    names = [layer.name for layer in layers]
    for layer, following in zip(layers, [*names[1:], names[-1]], strict=True):
        weights = layer.weights.size * weight_bits[layer.name] / 8
        inputs = float(np.prod(layer.input_shape)) * activation_bits[layer.name] / 8
        outputs = float(np.prod(layer.output_shape)) * activation_bits[following] / 8
        if weights > BUFFER and inputs > BUFFER:
            again = -(-inputs // BUFFER) * weights, -(-weights // BUFFER) * inputs
            fetched = (again[0], inputs) if again[0] + inputs < again[1] + weights else (weights, again[1])
        else:
            fetched = weights, 0.0 if on_chip else inputs
        on_chip = inputs + outputs <= BUFFER
        made.append(Traffic(*fetched, 0.0 if on_chip and layer is not layers[-1] else outputs))
    return made


def times(work: Sequence[Work], moved: Sequence[Traffic]) -> int:
    """Cycles of the network: of every layer the longer of computing and moving."""
    return sum(max(layer.cycles, bytes_.cycles) for layer, bytes_ in zip(work, moved, strict=True))
