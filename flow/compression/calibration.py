"""Calibration: the inputs of an INT8 network's layers on the user's samples, layer after layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.compression.effort import EFFORTS, USUAL, Effort
from flow.frontend.int8 import rewrite
from flow.network import reference
from flow.network.model import ArrayLayer, Network
from flow.network.run import run_each, run_steps
from flow.network.samples import Arrays, Samples
from flow.onnxtools import runtime
from flow.programs import in_turns

Double = NDArray[np.float64]
Single = NDArray[np.float32]
Sums = tuple[Double, list[Single]]
Tensors = list[NDArray[Any]]
Decide = Callable[[ArrayLayer, Tensors], ArrayLayer]
DecideBeside = Callable[[ArrayLayer, Tensors, Tensors], ArrayLayer]

CALIBRATION_MACS = 4e11  # MACs one run over the samples may spend
CALIBRATION_SAMPLES = (16, 256)
BATCH = 16  # samples a run, beside others
FEWEST_WINDOWS = 4096  # from which moments are estimated, if there are that many
WIDEST = 2048  # inputs of a dot product with all their correlations: longer reductions are split into parts


@dataclass(frozen=True)
class Moments:
    """Moments of windows minus zero point: E[x] [layers, groups, reduction], E[x x^T] as `parts` of the reduction.

    Each part is float32 [groups, size, size] for consecutive inputs; a reduction of up to 2,048 has one part. Of one
    layer, or of several that share their weights: see `together`.

    `drift`: where the same windows of another network are known, the moments of their difference y - x to these:
    E[y - x], and E[(y - x) x^T] as parts.
    """

    means: Double
    parts: tuple[Single, ...]
    drift: Moments | None = None

    def of(self, groups: NDArray[np.int64]) -> Moments:
        """Those of some groups."""
        if len(groups) == self.means.shape[1]:
            return self
        drift = self.drift.of(groups) if self.drift else None
        return Moments(self.means[:, groups], tuple(part[groups] for part in self.parts), drift)

    def error(self, difference: Double, centred: bool, width: int = WIDEST) -> Double:
        """E[(e x)^2] [groups, channels] of weight differences e [groups, channels, reduction].

        `centred`: the bias corrects their mean. Inputs more than `width` apart count as uncorrelated: an estimate, and
        quicker.
        """
        total, begin = np.zeros(difference.shape[:2]), 0
        for part in self.parts:
            for first in range(0, part.shape[-1], width):
                last = min(first + width, part.shape[-1])
                e = difference[:, :, begin + first : begin + last]
                narrow = e.astype(np.float32)
                spread = np.matmul(narrow, part[:, first:last, first:last])
                total += (spread * narrow).sum(axis=2, dtype=np.float64)
                if centred:
                    for mean in self.means[:, :, begin + first : begin + last]:
                        total -= np.matmul(e, mean[:, :, None])[:, :, 0] ** 2
            begin += part.shape[-1]
        return np.maximum(total, 0)


def affordable(network: Network, samples: Samples) -> Samples:
    """The first samples, as many as one run of `calibrate` may use."""
    macs = max(sum(layer.macs for layer in network.layers), 1)
    fewest, most = CALIBRATION_SAMPLES
    return samples.first(int(np.clip(CALIBRATION_MACS / macs, fewest, most)))


def calibrate(network: Network, feeds: Arrays, decide: Decide, threads: int | None = None) -> None:
    """Run the network once over all samples; `decide` may replace a layer, and later layers see its outputs.

    `decide` gets the layer and its 8-bit input tensors, one for each batch. Batches run in so many threads.
    """
    batches = _batches(network, feeds)
    for layer in run_steps(network.steps, batches):
        chosen = decide(layer, [tensors[layer.input] for tensors in batches])
        _run(rewrite.with_layers(rewrite.layer_model(network.graph, layer), [chosen]), batches, threads)


def calibrate_beside(
    network: Network,
    targets: Mapping[str, Double],
    feeds: Arrays,
    decide: DecideBeside,
    threads: int | None = None,
) -> None:
    """As `calibrate`; beside it runs the network with the weights `targets`, and `decide` gets the inputs there, too.

    `targets` float64 [channels, reduction] by layer name, in units of the layer's weight scales.
    """
    batches = _batches(network, feeds)
    plain = [dict(tensors) for tensors in batches]
    for layer, _ in zip(run_steps(network.steps, batches), run_steps(network.steps, plain), strict=True):
        chosen = decide(layer, [tensors[layer.input] for tensors in batches], [each[layer.input] for each in plain])
        model = rewrite.layer_model(network.graph, layer)
        _run(rewrite.with_real_weights(model, layer, targets[layer.name]), plain, threads)
        _run(rewrite.with_layers(model, [chosen]), batches, threads)


def _batches(network: Network, feeds: Arrays) -> list[Arrays]:
    return in_batches(feeds, runtime.batch_size(runtime.session(network.model), BATCH))


def _run(layer: onnx.ModelProto, batches: list[Arrays], threads: int | None) -> None:
    """Add the outputs of the model of a layer to the batches."""
    for tensors, outputs in zip(batches, run_each(runtime.session(layer), batches, threads), strict=True):
        tensors.update(outputs)


def in_batches(feeds: Arrays, size: int) -> list[Arrays]:
    """The samples, so many at a time."""
    count = len(next(iter(feeds.values())))
    return [{name: array[begin : begin + size] for name, array in feeds.items()} for begin in range(0, count, size)]


def moments(
    layer: ArrayLayer,
    tensors: Sequence[NDArray[Any]],
    effort: Effort = EFFORTS[USUAL],
    threads: int | None = None,
    beside: Sequence[NDArray[Any]] | None = None,
) -> Moments:
    """First and second moments of the layer's windows, or of a seeded random subset, as large as the effort allows.

    `tensors` are its inputs, one for each batch, `beside` those in another network, for the drift; batches are worked
    on in so many threads.
    """
    generator = np.random.default_rng(0)
    bounds = [*range(0, layer.reduction, WIDEST), layer.reduction]
    sizes = np.diff(bounds)
    counts = [len(tensor) * layer.positions for tensor in tensors]
    affordable = int(effort.multiplications / (layer.groups * int((sizes**2).sum())))
    wanted = min(sum(counts), effort.windows, max(FEWEST_WINDOWS, affordable))
    taken = [-(-wanted * count // sum(counts)) for count in counts]
    chosen = [
        np.sort(generator.choice(count, share, replace=False)) if share < count else None
        for count, share in zip(counts, taken, strict=True)
    ]

    def sums(number: int) -> list[Sums]:
        x = _windows(layer, tensors[number], chosen[number])
        if beside is None:
            return [_sums(x, x, bounds)]
        return [_sums(x, x, bounds), _sums(_windows(layer, beside[number], chosen[number]) - x, x, bounds)]

    kinds = 1 if beside is None else 2  # the windows themselves, and their drift
    mean = [np.zeros((layer.groups, layer.reduction)) for _ in range(kinds)]
    parts = [[np.zeros((layer.groups, size, size)) for size in sizes] for _ in range(kinds)]
    for found in in_turns(sums, range(len(tensors)), threads):
        for (first, second), sum_, products in zip(found, mean, parts, strict=True):
            sum_ += first
            for part, more in zip(products, second, strict=True):
                part += more
    seen, *drift = (
        Moments(sum_[None] / sum(taken), tuple((part / sum(taken)).astype(np.float32) for part in products))
        for sum_, products in zip(mean, parts, strict=True)
    )
    return replace(seen, drift=drift[0]) if drift else seen


def _sums(y: Single, x: Single, bounds: list[int]) -> Sums:
    """Sums over the windows of y, and of y x^T between inputs of one part; y and x [groups, windows, reduction]."""
    inputs = [(y[:, :, begin:end], x[:, :, begin:end]) for begin, end in pairwise(bounds)]
    return y.sum(axis=1, dtype=np.float64), [np.matmul(a.transpose(0, 2, 1), b) for a, b in inputs]


def together(known: Moments, first: ArrayLayer, layer: ArrayLayer, seen: Moments) -> Moments:
    """The moments `known` of layers that share their weights, and those of a further one.

    Errors by them are the sum of the layers' errors over all their windows, in units of the `first` one's windows and
    input scale.
    """
    units = [each.positions * float(each.input_quantization.scale) ** 2 for each in (first, layer)]
    weight = units[1] / units[0]
    parts = tuple(part + np.float32(weight) * more for part, more in zip(known.parts, seen.parts, strict=True))
    return Moments(np.concatenate([known.means, np.sqrt(weight) * seen.means]), parts)


def _windows(layer: ArrayLayer, tensor: NDArray[Any], chosen: NDArray[np.int64] | None) -> Single:
    """The chosen windows, or all, minus zero point, float32 [groups, windows, reduction]."""
    x = reference.windows(layer, layer.input_quantization.to_int8(tensor), chosen).astype(np.float32)
    x -= np.float32(layer.input_quantization.zero_point)
    return x
