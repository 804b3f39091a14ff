"""Tier 3: the answers of the float, INT8 and pruned network and of the RTL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.compression.compress import Compressed
from flow.errors import FlowError
from flow.network.answers import Answers, agreement, answers, distance, divergence
from flow.network.labels import shifted
from flow.network.metrics import CLASSES, OwnMetric, call
from flow.network.samples import MADE_UP, Arrays, Samples
from flow.network.task import Task, score_axes, tasks_of
from flow.network.usercode import UserFunction
from flow.onnxtools import runtime
from flow.programs import in_parallel
from flow.simulation.results import SampleRun

Share = float | None
SIMULATED = ("pruned_simulated", "rtl")  # forms of which only some samples were run


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


def sqnr_of(wanted: NDArray[np.float64], got: NDArray[np.float64]) -> float:
    """Signal-to-noise ratio in dB, infinite when equal. The signal's mean is removed, but not that of a constant."""
    apart = wanted != got
    noise = float(((wanted[apart] - got[apart]) ** 2).sum())
    finite = wanted[np.isfinite(wanted)]
    signal = float(((finite - finite.mean()) ** 2).sum()) if finite.size else 0.0
    if finite.size and signal < 1e-12 * float((finite**2).sum()):
        signal = float((finite**2).sum())
    return decibels(signal, noise)


def decibels(signal: float, noise: float) -> float:
    """Signal-to-noise ratio in dB: infinite without noise, -3,000 at least, which noise that is NaN has, too."""
    if noise == 0:
        return float("inf")
    ratio = 10 * float(np.log10(max(signal, 1e-300)) - np.log10(noise))
    return max(ratio, -3000.0) if ratio == ratio else -3000.0


@dataclass(frozen=True)
class OutputAccuracy:
    """One output, in each form of the network: `float`, `int8`, `pruned`, `pruned_simulated`, `rtl`.

    `values` are those of `metric`, if the output has labels: "top-1", "accuracy" and "pixel accuracy" 0 to 1, "R2", or
    the metric that was asked for; None where it has no value. `lower`: lower ones are better. `second_values` are those
    of `second`, "mean IoU" of pixels and "mean squared error" of real values. The others are
    against the float network (INT8 where that is missing): `sqnr` in dB with the mean removed, None if equal;
    `divergence` (KL in nats if `scores`, else the error over the variance); `agreement`, the share of equal classes or
    labels. `one_based`: the labels seem to count classes from 1, not from 0. `by_pruning` has `sqnr`, `divergence` and
    `agreement` of the pruned network against the INT8 network: what pruning alone did. `deviation` is the standard
    deviation of the original network's output about its one mean, the signal of `sqnr`; `error` the root mean square of
    what each form differs by, in the output's own unit. Both are empty or None for whole numbers and text.
    """

    name: str
    scores: bool
    metric: str | None = None
    values: dict[str, Share] = field(default_factory=dict)
    second: str | None = None
    second_values: dict[str, Share] = field(default_factory=dict)
    sqnr: dict[str, Share] = field(default_factory=dict)
    divergence: dict[str, Share] = field(default_factory=dict)
    agreement: dict[str, Share] = field(default_factory=dict)
    one_based: bool = False
    lower: bool = False
    by_pruning: dict[str, Share] = field(default_factory=dict)
    deviation: float | None = None
    error: dict[str, Share] = field(default_factory=dict)

    @property
    def classes(self) -> bool:
        """Whether the metric is a share of right classes."""
        return self.metric in CLASSES


@dataclass(frozen=True)
class OwnAccuracy:
    """What the user's function `metric`, FILE.py:NAME, says of each form of the network; `lower`: less is better.

    None where it fails on the simulated samples alone, which are few.
    """

    metric: str
    lower: bool
    values: dict[str, Share]


@dataclass(frozen=True)
class Accuracy:
    """Tier 3: every output of each form of the network.

    `float`, `int8` and so on: the share of right classes (0..1) at the first output that has class labels, None without
    labels or float network. `divergence` is the sum over all outputs; `output_sqnr` (dB, mean not removed, None if
    equal) and `agreement` are those of the network's first output. They compare with the float network, INT8 where
    that is missing. `pruned_simulated` and `rtl` are over the simulated samples only, the others over all of the
    evaluation set. `own` is what the user's own metric says, if there is one.
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
    outputs: tuple[OutputAccuracy, ...] = ()
    own: OwnAccuracy | None = None

    @property
    def made_up(self) -> bool:
        """Whether the samples are made up, so that the figures say nothing of real ones."""
        return self.source == MADE_UP

    @property
    def classified(self) -> OutputAccuracy | None:
        """The first output that has class labels."""
        return next((output for output in self.outputs if output.classes), None)

    @property
    def labelled(self) -> OutputAccuracy | None:
        """The first output that has class labels, or else labels of any kind."""
        return self.classified or next((output for output in self.outputs if output.metric is not None), None)

    @property
    def same_in_rtl(self) -> bool:
        """Whether the RTL has the same share of right classes as the pruned network, at every output."""
        pairs = [(self.rtl, self.pruned_simulated)]
        pairs += [
            (each.values.get("rtl"), each.values.get("pruned_simulated")) for each in self.outputs if each.classes
        ]
        return all(rtl == pruned for rtl, pruned in pairs)


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
    made = in_parallel(lambda model: runtime.predict_all(model, evaluation.feeds), models.values())
    outputs = dict(zip(models, made, strict=True))
    base, expected = next(iter(outputs.items()))
    if not expected:
        runtime.predict(models[base], evaluation.feeds)  # raises what is wrong with the first output
    forms = {name: {n: array for n, array in found.items() if n in expected} for name, found in outputs.items()}
    if simulated is not None:
        forms["pruned_simulated"] = {name: array[: simulated.count] for name, array in forms["pruned"].items()}
        forms["rtl"] = {name: runtime.joined([run.outputs[name] for run in runs], name) for name in forms["pruned"]}
    given = tasks_of(expected, evaluation)
    scores = score_axes(given)
    known = {
        form: answers(model, evaluation.feeds, scores, outputs[form] if len(outputs[form]) == len(expected) else None)
        for form, model in models.items()
    }
    from_one = shifted(expected, given, evaluation.every_label)
    every = tuple(
        replace(_output(name, forms, given.get(name), known), one_based=name in from_one) for name in known[base]
    )
    first = next((each for each in every if each.classes), None)
    apart = {form: distance(known[base], found, {}) for form, found in list(known.items())[1:]}
    main = next(iter(expected))
    return Accuracy(
        evaluation.count, evaluation.source, **(first.values if first else {}),
        output_sqnr={
            form: json_number(sqnr(found[main], expected[main][: len(found[main])]))
            for form, found in list(forms.items())[1:] if main in found and expected[main].dtype.kind in "biuf"
        },
        divergence={**apart}, agreement=every[0].agreement, outputs=every,
        own=own_accuracy(forms, evaluation, simulated.count if simulated else 0),
    )  # fmt: skip


def own_accuracy(forms: Mapping[str, Arrays], evaluation: Samples, simulated: int = 0) -> OwnAccuracy | None:
    """The user's metric of the outputs of each form, if the samples have one. FlowError if it fails."""
    if not isinstance(evaluation.metric, UserFunction):
        return None
    values: dict[str, Share] = {}
    lower = False
    for form, outputs in forms.items():
        if form not in SIMULATED:
            found = evaluate_own(evaluation.metric, outputs, evaluation)
            values[form], lower = found.value, found.lower
            continue
        values[form] = None
        with suppress(FlowError):
            values[form] = evaluate_own(evaluation.metric, outputs, evaluation.first(simulated)).value
    return OwnAccuracy(str(evaluation.metric), lower, values)


def evaluate_own(function: UserFunction, outputs: Arrays, samples: Samples) -> OwnMetric:
    """The user's metric of outputs of these samples. FlowError if it fails, or there are no labels."""
    if not samples.every_label:
        raise FlowError(
            f"--metric {function} needs labels y, but there are none in {samples.source}; add them, or leave it out"
        )
    return call(function, outputs, samples.every_label if samples.named else samples.labels)


def _output(
    name: str,
    forms: Mapping[str, Arrays],
    given: Task | None,
    known: Mapping[str, Mapping[str, Answers]],
) -> OutputAccuracy:
    """The figures of one output; `forms`: the outputs of each form, the first of which is compared with."""
    found = {form: outputs[name] for form, outputs in forms.items() if name in outputs}
    base, expected = next(iter(found.items()))
    measured = {}
    if given is not None:
        measured = {form: given.first(len(array)).measure(array) for form, array in found.items()}
    decibel = {
        form: json_number(sqnr_of(expected[: len(array)].astype(np.float64), array.astype(np.float64)))
        for form, array in found.items() if form != base and expected.dtype.kind == "f"
    }  # fmt: skip
    sizes = {}
    if expected.dtype.kind == "f":
        sizes = {form: _spread(array.astype(np.float64) - expected[: len(array)], 0.0) for form, array in found.items()}
    wanted = known[base][name]
    others = {form: each[name] for form, each in known.items() if form != base and name in each}
    same = {form: agreement(wanted, got) for form, got in others.items()}
    pruned = _by_pruning(found, {form: each[name] for form, each in known.items() if name in each})
    return OutputAccuracy(
        name,
        wanted.scores,
        None if given is None else given.metric,
        {form: json_number(value) for form, (value, _) in measured.items()},
        None if given is None else given.second,
        {form: second for form, (_, second) in measured.items() if second is not None},
        decibel,
        {form: divergence(wanted, got) for form, got in others.items()},
        {form: share for form, share in same.items() if share is not None},
        lower=given is not None and given.lower,
        by_pruning=pruned,
        deviation=_spread(expected.astype(np.float64)) if expected.dtype.kind == "f" else None,
        error={form: size for form, size in sizes.items() if form != base},
    )


def _by_pruning(outputs: Arrays, known: Mapping[str, Answers]) -> dict[str, Share]:
    """How far the pruned network's output is from the INT8 network's: empty where one of them has none."""
    if not {"int8", "pruned"} <= known.keys() or not {"int8", "pruned"} <= outputs.keys():
        return {}
    before, after = outputs["int8"], outputs["pruned"]
    parts: dict[str, Share] = {"divergence": divergence(known["int8"], known["pruned"])}
    if before.dtype.kind == "f":
        parts["sqnr"] = json_number(sqnr_of(before.astype(np.float64), after.astype(np.float64)))
    if (same := agreement(known["int8"], known["pruned"])) is not None:
        parts["agreement"] = same
    return parts


def _spread(values: NDArray[np.float64], about: float | None = None) -> Share:
    """Root mean square of the finite values about their mean, or about a value; None without any."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    return json_number(float(np.sqrt(((finite - (finite.mean() if about is None else about)) ** 2).mean())))
