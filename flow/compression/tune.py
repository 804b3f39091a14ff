"""Budgeted compression with calibration data: sensitivity of the layers, budget of bits or cycles, refinement.

    survey   the effect of N pruned columns in a channel on its layer's output, and of that on the network's output
    spend    share out a budget of bits or cycles among the blocks of channels (budget.py)
    refine   layer after layer, each on the inputs that the refined layers before it produce (refine.py)

None of it is in the paper; the hardware and the encoding are the paper's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from flow.compression.allocate import Allocation, stored_weights
from flow.compression.budget import RANKED_BY, Bits, Cost, Time, bits_limit, least, most, spend
from flow.compression.calibration import (
    Double,
    Moments,
    affordable,
    calibrate,
    calibrate_beside,
    moments,
    together,
)
from flow.compression.effort import EFFORTS, USUAL, Effort
from flow.compression.influence import influences
from flow.compression.refine import error_curves, refine, with_weights_of
from flow.errors import FlowError
from flow.frontend.int8 import rewrite
from flow.network.answers import Answers, answers, distance
from flow.network.model import ArrayLayer, Network, by_weights
from flow.network.samples import Samples
from flow.network.task import score_axes, tasks
from flow.onnxtools import runtime
from flow.programs import in_parallel

FEWEST_SAMPLES = 8  # that the layers' influence is measured on
BISECTIONS = 6  # a budget is found within 1 / 2^6 of its range: of bits, (8 - 2) / 2^6, a tenth of a bit


@dataclass(frozen=True)
class CalibrationData:
    """The data of budgeted compression: samples, the source network's answers to them by output, the target weights.

    `weights`: of outputs, in the distance between two networks' answers; the others weigh 1. `targets` float64
    [channels, reduction] by layer name, in units of the layer's weight scales. `effort`: how much of the data is used.
    """

    samples: Samples
    wanted: dict[str, Answers]
    targets: dict[str, Double]
    weights: Mapping[str, float] = field(default_factory=dict)
    effort: Effort = EFFORTS[USUAL]

    @property
    def scores(self) -> dict[str, int]:
        """The outputs that hold class scores, and the axis of the classes."""
        return {name: each.axis for name, each in self.wanted.items() if each.scores}


@dataclass(frozen=True)
class Survey:
    """Error at the network's output, float64 [channels, N = 0 to 6], by layer name.

    Of layers that share their weights the first has the curves, and `shared` has the moments of their inputs together,
    in the INT8 network.
    """

    curves: dict[str, Double]
    shared: dict[str, Moments] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """The data by which a network is tuned.

    data        from calibration
    survey      of the network, if it was computed before
    acceptable  whether a network, tuned to these N, is accurate enough; needed for a permitted drop in accuracy
                instead of a budget
    time        of the layers on the array; needed for a budget of cycles instead of bits
    energy      of the layers on the array; needed where that is to be little
    """

    data: CalibrationData
    survey: Survey | None = None
    acceptable: Callable[[onnx.ModelProto, Allocation], bool] | None = None
    time: Time | None = None
    energy: Cost | None = None


@dataclass(frozen=True)
class Limits:
    """Restrictions of tuning: `block` channels share one N, `refinements` are of refine.REFINEMENTS.

    `cost` is what is to be limited.
    """

    block: int
    refinements: frozenset[str]
    cost: Cost = field(default_factory=Bits)


@dataclass(frozen=True)
class Tuned:
    """Layers as they are to be encoded, N per channel, and the distance from the source network's answers."""

    layers: tuple[ArrayLayer, ...]
    allocation: Allocation
    divergence: float
    refinements: frozenset[str]


def calibration_data(
    network: Network,
    source: onnx.ModelProto,
    prepared: onnx.ModelProto | None,
    calibration: Samples,
    weights: Mapping[str, float] | None = None,
    effort: Effort = EFFORTS[USUAL],
) -> CalibrationData:
    """The data of the calibration samples and both networks; `weights` of outputs and `effort`: see `CalibrationData`.

    `source` is the user's network, `prepared` its float form with BatchNorm folded (None if it is INT8).
    """
    samples = affordable(network, calibration)
    outputs = runtime.predict_all(source, samples.feeds)
    wanted = answers(source, samples.feeds, score_axes(tasks(outputs, samples.every_label)), outputs)
    shared = by_weights(network.layers)
    reals = rewrite.real_weights(prepared, [first for first, *_ in shared]) if prepared is not None else {}
    targets: dict[str, Double] = {}
    for sharing in shared:
        first = sharing[0]
        target = reals.get(first.name, first.weights.astype(np.float64))
        targets |= {layer.name: target for layer in sharing}
    return CalibrationData(samples, wanted, targets, weights or {}, effort)


def survey(network: Network, data: CalibrationData, refinements: frozenset[str], advance: Callable[[], None]) -> Survey:
    """Every layer's error curves, weighted by the effect of the layer's error on the answers; `advance` per layer.

    The weight of a layer is the divergence of all outputs that its pruning alone (N = 4) causes, over the error at its
    output. Layers that share their weights are pruned together.
    """
    curves: dict[str, Double] = {}
    shared: dict[str, Moments] = {}
    pruned: dict[str, list[ArrayLayer]] = {}
    effort = data.effort
    threads = _threads(network, refinements, effort)
    sharing = {layer.name: each for each in by_weights(network.layers) for layer in each}

    def measure(layer: ArrayLayer, tensors: list[NDArray[Any]]) -> ArrayLayer:
        first, targets = sharing[layer.name][0], data.targets[layer.name]
        seen = moments(layer, tensors, effort, threads)
        if len(sharing[layer.name]) > 1:
            known = shared.get(first.name)
            shared[first.name] = seen if known is None else together(known, first, layer, seen)
        if layer is first:
            ranking = np.full(layer.channels, RANKED_BY)
            pruned[layer.name] = [refine(layer, targets, ranking, seen, refinements & {"bias"}).layer]
        else:
            like = pruned[first.name][0]
            pruned[first.name].append(with_weights_of(like, layer, targets, seen, refinements))
        if layer is sharing[layer.name][-1]:
            curves[first.name] = error_curves(first, targets, shared.get(first.name, seen), refinements)
        return layer

    with _one_thread_each():
        calibrate(network, data.samples.feeds, measure, threads)
    macs = max(sum(layer.macs for layer in network.layers) * len(pruned), 1)
    subset = data.samples.first(int(np.clip(effort.influence_macs / macs, FEWEST_SAMPLES, effort.influence_samples)))
    caused = influences(network, pruned, subset.feeds, data.scores, data.weights, advance)
    if not any(caused.values()):  # no layer changes the answers: all get the same weight
        caused = dict.fromkeys(caused, 1.0)
    for name, curve in curves.items():
        error = float(curve[:, RANKED_BY].sum())
        curve *= caused[name] / error if error > 0 else 0.0
    return Survey(curves, shared)


def tune(
    network: Network,
    data: CalibrationData,
    survey: Survey,
    bits: float,
    limits: Limits,
    advance: Callable[[], None] = lambda: None,
) -> Tuned:
    """The network within `bits` per weight. See `refined`."""
    return within(network, data, survey, bits_limit(network.layers, bits), replace(limits, cost=Bits()), advance)


def within(
    network: Network,
    data: CalibrationData,
    survey: Survey,
    limit: float,
    limits: Limits,
    advance: Callable[[], None] = lambda: None,
) -> Tuned:
    """The network that costs at most `limit`, which can be reached. See `refined`."""
    allocation = spend(network.layers, survey.curves, limit, limits.block, limits.cost)
    return refined(network, data, survey, allocation, limits.refinements, advance)


def refined(
    network: Network,
    data: CalibrationData,
    survey: Survey,
    allocation: Allocation,
    refinements: frozenset[str],
    advance: Callable[[], None] = lambda: None,
) -> Tuned:
    """The network pruned by `allocation` (N of every channel), its weights refined on the calibration samples.

    Scale search and compensation help nearly all networks: of `tries`, the best on those samples is returned.
    `advance` is called after each layer of each try.
    """

    walk = partial(_refined, network, data, survey, allocation, advance)
    with _one_thread_each():
        return min(in_parallel(walk, tries(network, refinements, data.effort)), key=lambda tuned: tuned.divergence)


def _threads(network: Network, refinements: frozenset[str], effort: Effort) -> int:
    """Threads of one walk through a network, of as many walks beside each other as there are tries.

    Each holds the windows of a batch: where tries share the processors, one thread for a walk keeps memory small.
    """
    return max((os.cpu_count() or 1) // len(tries(network, refinements, effort)), 1)


def _one_thread_each() -> threadpool_limits:
    """Matrix products within take one thread each: threads of their own would wait, busily, for those of our own."""
    return threadpool_limits(1, user_api="blas")


def tries(network: Network, refinements: frozenset[str], effort: Effort) -> list[frozenset[str]]:
    """Refinements to try: all; if the effort allows it, also all but scale search, and all but compensation."""
    small = stored_weights(network.layers) <= effort.varied
    optional = [name for name in ("scales", "compensation") if name in refinements and small]
    return [refinements, *(refinements - {name} for name in optional)]


def _refined(
    network: Network,
    data: CalibrationData,
    survey: Survey,
    allocation: Allocation,
    advance: Callable[[], None],
    refinements: frozenset[str],
) -> Tuned:
    layers: list[ArrayLayer] = []
    decided: dict[str, ArrayLayer] = {}  # by the tensor of their weights
    threads = _threads(network, refinements, data.effort)

    def decide(layer: ArrayLayer, tensors: list[NDArray[Any]], plain: list[NDArray[Any]]) -> ArrayLayer:
        seen, targets = moments(layer, tensors, data.effort, threads, plain), data.targets[layer.name]
        if (like := decided.get(layer.weight_tensor)) is not None:
            layers.append(with_weights_of(like, layer, targets, seen, refinements))
        else:
            all_seen = survey.shared.get(layer.name)
            layers.append(refine(layer, targets, allocation[layer.name], seen, refinements, all_seen).layer)
            decided[layer.weight_tensor] = layers[-1]
        advance()
        return layers[-1]

    calibrate_beside(network, data.targets, data.samples.feeds, decide, threads)
    got = answers(rewrite.with_layers(network.model, layers), data.samples.feeds, data.scores)
    return Tuned(tuple(layers), allocation, distance(data.wanted, got, data.weights), refinements)


def smallest(
    network: Network,
    data: CalibrationData,
    survey: Survey,
    limits: Limits,
    acceptable: Callable[[onnx.ModelProto, Allocation], bool],
    advance: Callable[[], None] = lambda: None,
) -> Tuned:
    """The least cost at which the network is `acceptable`, by bisection: of bits, to about a tenth of a bit per weight.

    FlowError if it is not acceptable at 8 bits either.
    """

    def at(limit: float) -> Tuned | None:
        tuned = within(network, data, survey, limit, limits, advance)
        model = rewrite.with_layers(network.model, tuned.layers)
        return tuned if acceptable(model, tuned.allocation) else None

    low, high = float(least(network.layers, limits.block, limits.cost)), float(most(network.layers, limits.cost))
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
