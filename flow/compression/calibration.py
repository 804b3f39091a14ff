"""Calibration: the inputs of an INT8 network's layers on the user's samples, layer after layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flow.compression.effort import EFFORTS, USUAL, Effort
from flow.frontend.int8 import rewrite
from flow.network import reference
from flow.network.model import ArrayLayer, Network
from flow.network.run import run_each, run_steps
from flow.network.samples import Arrays, Samples
from flow.onnxtools import runtime
from flow.programs import in_turns

if TYPE_CHECKING:
    pass

Double = NDArray[np.float64]
Single = NDArray[np.float32]
Decide = Callable[[ArrayLayer, list[NDArray[Any]]], ArrayLayer]

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
    """

    means: Double
    parts: tuple[Single, ...]

    def of(self, groups: NDArray[np.int64]) -> Moments:
        """Those of some groups."""
        if len(groups) == self.means.shape[1]:
            return self
        return Moments(self.means[:, groups], tuple(part[groups] for part in self.parts))

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
    size = runtime.batch_size(runtime.session(network.model), BATCH)
    batches = in_batches(feeds, size)
    for layer in run_steps(network.steps, batches):
        chosen = decide(layer, [tensors[layer.input] for tensors in batches])
        session = runtime.session(rewrite.with_layers(rewrite.layer_model(network.graph, layer), [chosen]))
        for tensors, outputs in zip(batches, run_each(session, batches, threads), strict=True):
            tensors.update(outputs)


def in_batches(feeds: Arrays, size: int) -> list[Arrays]:
    """The samples, so many at a time."""
    count = len(next(iter(feeds.values())))
    return [{name: array[begin : begin + size] for name, array in feeds.items()} for begin in range(0, count, size)]


def moments(
    layer: ArrayLayer, tensors: Sequence[NDArray[Any]], effort: Effort = EFFORTS[USUAL], threads: int | None = None
) -> Moments:
    """First and second moments of the layer's windows, or of a seeded random subset, as large as the effort allows.

    `tensors` are its inputs, one for each batch; batches are worked on in so many threads.
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

    def sums(number: int) -> tuple[Double, list[Single]]:
        x = _windows(layer, tensors[number], chosen[number])
        inputs = [x[:, :, begin:end] for begin, end in pairwise(bounds)]
        return x.sum(axis=1, dtype=np.float64), [np.matmul(each.transpose(0, 2, 1), each) for each in inputs]

    mean = np.zeros((layer.groups, layer.reduction))
    parts = [np.zeros((layer.groups, size, size)) for size in sizes]
    for first, second in in_turns(sums, range(len(tensors)), threads):
        mean += first
        for part, more in zip(parts, second, strict=True):
            part += more
    return Moments(mean[None] / sum(taken), tuple((part / sum(taken)).astype(np.float32) for part in parts))


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
