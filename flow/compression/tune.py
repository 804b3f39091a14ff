"""Budgeted compression with calibration data: where a network can spare bits, and layers refined to spare them.

    survey   what every channel's loss of N columns does to its layer's output, and what that does to the network's
    spend    a budget over the blocks of channels (budget.py)
    refine   layer after layer, each on the inputs that the refined layers before it give (refine.py)

None of it is in the paper; the hardware and the encoding are the paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.compression.allocate import Allocation
from flow.compression.budget import RANKED_BY, least_bits, spend
from flow.compression.calibration import Double, affordable, calibrate, moments
from flow.compression.refine import error_curves, refine
from flow.errors import FlowError
from flow.frontend import rewrite
from flow.network.answers import Answers, answers, divergence
from flow.network.model import ArrayLayer, Network
from flow.network.samples import Samples

INFLUENCE_MACS = 1e12  # MACs that measuring the layers' influence may take
INFLUENCE_SAMPLES = (8, 256)
VARIED_WEIGHTS = 3_000_000  # networks of more weights are tried with all refinements only
BISECTIONS = 6  # a budget is found within (8 - 2) / 2^6, a tenth of a bit


@dataclass(frozen=True)
class CalibrationData:
    """What compression may learn from: samples, the source network's answers to them, the weights it wants.

    `targets` float64 [channels, reduction] by layer name, in units of the layer's weight scales.
    """

    samples: Samples
    wanted: Answers
    targets: dict[str, Double]


@dataclass(frozen=True)
class Survey:
    """Error at the network's output, float64 [channels, N = 0 to 6], by layer name."""

    curves: dict[str, Double]


@dataclass(frozen=True)
class Evidence:
    """What tells how far a network may be tuned.

    data        from calibration
    survey      of the network, where it was made before
    acceptable  whether a network's answers still do; needed where a drop in accuracy is allowed instead of a budget
    """

    data: CalibrationData
    survey: Survey | None = None
    acceptable: Callable[[onnx.ModelProto], bool] | None = None


@dataclass(frozen=True)
class Limits:
    """How freely a network is tuned: `block` channels share one N, `refinements` are of refine.REFINEMENTS."""

    block: int
    refinements: frozenset[str]


@dataclass(frozen=True)
class Tuned:
    """Layers as they are to be encoded, N per channel, and the divergence from the source network's answers."""

    layers: tuple[ArrayLayer, ...]
    allocation: Allocation
    divergence: float
    refinements: frozenset[str]


def calibration_data(
    network: Network, source: onnx.ModelProto, prepared: onnx.ModelProto | None, calibration: Samples
) -> CalibrationData:
    """`source` is the user's network, `prepared` its float form with BatchNorm folded (None: it was INT8)."""
    samples = affordable(network, calibration)
    wanted = answers(source, samples.feeds, scores=calibration.labels is not None)
    reals = rewrite.real_weights(prepared, network.layers) if prepared is not None else {}
    targets = {layer.name: reals.get(layer.name, layer.weights.astype(np.float64)) for layer in network.layers}
    return CalibrationData(samples, wanted, targets)


def survey(network: Network, data: CalibrationData, refinements: frozenset[str], advance: Callable[[], None]) -> Survey:
    """Every layer's error curves, weighted by what the layer's error does to the answers; `advance` per layer.

    The weight of a layer is the divergence its pruning alone (N = 4) causes, over the error at its output.
    """
    curves: dict[str, Double] = {}
    pruned: list[ArrayLayer] = []

    def look(layer: ArrayLayer, tensors: list[NDArray[Any]]) -> ArrayLayer:
        seen = moments(layer, tensors)
        targets = data.targets[layer.name]
        curves[layer.name] = error_curves(layer, targets, seen, refinements)
        pruned.append(refine(layer, targets, np.full(layer.channels, RANKED_BY), seen, refinements & {"bias"}).layer)
        return layer

    calibrate(network, data.samples.feeds, look)
    macs = max(sum(layer.macs for layer in network.layers) * len(pruned), 1)
    few = data.samples.first(int(np.clip(INFLUENCE_MACS / macs, *INFLUENCE_SAMPLES)))
    whole = answers(network.model, few.feeds, data.wanted.scores)
    caused: dict[str, float] = {}
    for layer in pruned:
        got = answers(rewrite.with_layers(network.model, [layer]), few.feeds, data.wanted.scores)
        caused[layer.name] = divergence(whole, got)
        advance()
    if not any(caused.values()):  # answers that never change say nothing: all layers count alike
        caused = dict.fromkeys(caused, 1.0)
    for name, curve in curves.items():
        error = float(curve[:, RANKED_BY].sum())
        curve *= caused[name] / error if error > 0 else 0.0
    return Survey(curves)


def tune(
    network: Network,
    data: CalibrationData,
    survey: Survey,
    bits: float,
    limits: Limits,
    advance: Callable[[], None] = lambda: None,
) -> Tuned:
    """The network within `bits` per weight. See `refined`."""
    allocation = spend(network.layers, survey.curves, bits, limits.block)
    return refined(network, data, allocation, limits.refinements, advance)


def refined(
    network: Network,
    data: CalibrationData,
    allocation: Allocation,
    refinements: frozenset[str],
    advance: Callable[[], None] = lambda: None,
) -> Tuned:
    """The network pruned by `allocation` (N of every channel), its weights refined on the calibration samples.

    Scale search and compensation help most networks and harm some: the best of `tries` on those samples is taken.
    `advance` is called after each layer of each try.
    """
    made = [_refined(network, data, allocation, chosen, advance) for chosen in tries(network, refinements)]
    return min(made, key=lambda tuned: tuned.divergence)


def tries(network: Network, refinements: frozenset[str]) -> list[frozenset[str]]:
    """What is tried: all that is wanted; unless it would take minutes, also without scale search, compensation."""
    small = sum(layer.weights.size for layer in network.layers) <= VARIED_WEIGHTS
    optional = [name for name in ("scales", "compensation") if name in refinements and small]
    return [refinements, *(refinements - {name} for name in optional)]


def _refined(
    network: Network,
    data: CalibrationData,
    allocation: Allocation,
    refinements: frozenset[str],
    advance: Callable[[], None],
) -> Tuned:
    layers: list[ArrayLayer] = []

    def decide(layer: ArrayLayer, tensors: list[NDArray[Any]]) -> ArrayLayer:
        seen = moments(layer, tensors)
        layers.append(refine(layer, data.targets[layer.name], allocation[layer.name], seen, refinements).layer)
        advance()
        return layers[-1]

    calibrate(network, data.samples.feeds, decide)
    got = answers(rewrite.with_layers(network.model, layers), data.samples.feeds, data.wanted.scores)
    return Tuned(tuple(layers), allocation, divergence(data.wanted, got), refinements)


def smallest(
    network: Network,
    data: CalibrationData,
    survey: Survey,
    limits: Limits,
    acceptable: Callable[[onnx.ModelProto], bool],
    advance: Callable[[], None] = lambda: None,
) -> Tuned:
    """The fewest bits at which the network is `acceptable`, by bisection to about a tenth of a bit.

    FlowError if it is not acceptable at 8 bits either.
    """

    def at(bits: float) -> Tuned | None:
        tuned = tune(network, data, survey, bits, limits, advance)
        return tuned if acceptable(rewrite.with_layers(network.model, tuned.layers)) else None

    low, high = least_bits(network.layers), 8.0
    best = at(high)
    if best is None:
        raise FlowError("the network loses more than --max-drop allows even at 8 bits per weight; allow more")
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        tuned = at(middle)
        if tuned is None:
            low = middle
        else:
            best, high = tuned, middle
    return best
