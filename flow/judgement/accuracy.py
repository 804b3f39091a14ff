"""Tier 3: the answers of the float, INT8 and pruned network and of the RTL."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.compression.compress import Compressed
from flow.network.answers import agreement, answers, divergence
from flow.network.samples import Samples
from flow.onnxtools import runtime
from flow.simulation.results import SampleRun

Share = float | None


def top1(outputs: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """Share of samples whose largest output is their label; None when the outputs are no class scores."""
    if outputs.ndim < 2 or labels.ndim != 1 or len(outputs) != len(labels):
        return None
    flat = outputs.reshape(len(outputs), -1)
    if not np.issubdtype(labels.dtype, np.integer) or labels.max(initial=0) >= flat.shape[1]:
        return None
    return float((flat.argmax(axis=1) == labels).mean())


def json_number(decibel: float) -> float | None:
    """JSON has no infinity: None stands for "equal"."""
    return float(decibel) if np.isfinite(decibel) else None


def sqnr(outputs: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Signal to quantization noise of the network's outputs, dB; infinite when equal.

    Infinite outputs, such as those of a mask, do not count as signal, nor as noise where they are equal.
    """
    apart = outputs != wanted
    noise = float(((outputs[apart].astype(np.float64) - wanted[apart]) ** 2).sum())
    signal = float((wanted[np.isfinite(wanted)].astype(np.float64) ** 2).sum())
    return decibels(signal, noise)


def decibels(signal: float, noise: float) -> float:
    """Signal-to-noise ratio in dB: infinite without noise, -3,000 at least, which noise that is NaN has, too."""
    if noise == 0:
        return float("inf")
    ratio = 10 * float(np.log10(max(signal, 1e-300)) - np.log10(noise))
    return max(ratio, -3000.0) if ratio == ratio else -3000.0


@dataclass(frozen=True)
class Accuracy:
    """Tier 3: top-1 (0..1) of each form of the network, None without labels or float network.

    The other figures compare the network's first output with the float network's (INT8's where that is
    missing): `output_sqnr` in dB, None if equal; `divergence`, the Kullback-Leibler divergence of class scores
    before any Softmax, in nats (of other outputs the error over the variance); `agreement`, the share of samples
    with the same largest score. `pruned_simulated` and `rtl` are over the simulated samples only, the others
    over all of the evaluation set.
    """

    samples: int
    source: str
    float: Share = None
    int8: Share = None
    pruned: Share = None
    pruned_simulated: Share = None
    rtl: Share = None
    output_sqnr: dict[str, Share] = field(default_factory=dict)
    divergence: dict[str, Share] = field(default_factory=dict)
    agreement: dict[str, Share] = field(default_factory=dict)


def measure(
    float_model: onnx.ModelProto | None,
    compressed: Compressed,
    evaluation: Samples,
    simulated: Samples | None = None,
    runs: Sequence[SampleRun] = (),
) -> Accuracy:
    """Tier 3. `float_model` is the user's network where it is float.

    `evaluation` is the evaluation set, `simulated` the part of it that the RTL ran.
    """
    models = {"int8": compressed.original.model, "pruned": compressed.network.model}
    if float_model is not None:
        models = {"float": float_model, **models}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        outputs = dict(
            zip(models, pool.map(lambda model: runtime.predict(model, evaluation.feeds), models.values()), strict=True)
        )
    expected = next(iter(outputs.values()))
    shares: dict[str, float | None] = {}
    distances = {name: json_number(sqnr(answer, expected)) for name, answer in list(outputs.items())[1:]}
    if evaluation.labels is not None:
        shares = {name: top1(answer, evaluation.labels) for name, answer in outputs.items()}
    if simulated is not None:
        count, name = simulated.count, compressed.network.outputs[0]
        rtl = runtime.joined([run.outputs[name] for run in runs], name)
        distances["rtl"] = json_number(sqnr(rtl, expected[:count]))
        distances["pruned_simulated"] = json_number(sqnr(outputs["pruned"][:count], expected[:count]))
        if simulated.labels is not None:
            shares["rtl"] = top1(rtl, simulated.labels)
            shares["pruned_simulated"] = top1(outputs["pruned"][:count], simulated.labels)
    first, *others = models.items()
    scores = evaluation.labels is not None
    before = answers(first[1], evaluation.feeds, scores, outputs[first[0]])
    after = {name: answers(model, evaluation.feeds, scores, outputs[name]) for name, model in others}
    return Accuracy(
        evaluation.count, evaluation.source, **shares, output_sqnr=distances,
        divergence={name: divergence(before, got) for name, got in after.items()},
        agreement={name: agreement(before, got) for name, got in after.items()} if before.scores else {},
    )  # fmt: skip
