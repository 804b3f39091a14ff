"""What the labels say of the outputs: which output they belong to, and the metric that compares the two.

| labels | output | metric |
|---|---|---|
| class numbers [N] or [N, 1], or one-hot | scores [N, classes] | top-1 |
| 0 and 1, [N] or [N, 1] | probabilities [N, 1] | accuracy: is the probability above a half? |
| whole numbers or text of the output's shape | labels | accuracy: are they equal? |
| class numbers [N, ...], or one-hot | scores [N, classes, ...], [N, ..., classes] | pixel accuracy; mean IoU |
| class numbers [N, ...] | labels [N, ...] | pixel accuracy; mean IoU |
| real values of the output's shape | real values | R2; mean squared error |
| 0 and 1, [N] or [N, 1] | a map [N, ...] of the input's shape | AUC of the reconstruction error |

Class numbers may be text, unless the output is text. From 1 to the number of classes they become numbers from 0. A
metric that is asked for (metrics.py) takes the place of the one found. Where 0 and 1 may be classes as well as normal
and abnormal samples of an auto-encoder, none is found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.network import metrics
from flow.network.metrics import CLASSES, LOWER, METRICS, TEXT, Rule, as_text, worse
from flow.network.samples import LABELS, Arrays, Samples, label_key
from flow.network.usercode import UserFunction

VOID = 255  # the label of pixels that do not count, where there are no 256 classes
SECOND = {"pixel accuracy": "mean IoU", "mean IoU": "pixel accuracy", "R2": "mean squared error",
          "mean squared error": "R2"}  # fmt: skip
PIXELS, VALUES = ("pixel accuracy", "mean IoU"), ("R2", "mean squared error")


@dataclass(frozen=True)
class Task:
    """Labels, in the form that the metric needs, and the output that they belong to.

    `binary`: the output is the probability of class 1; `scores`: it has a score for each class along axis 1, `last`: or
    along its last axis. Labels below 0 do not count among pixels. `shifted`: the labels counted classes from 1. `rule`
    computes a metric that is no share of right classes, R2 or squared error; `inputs` [samples, ...] are what an
    auto-encoder's output is compared with.
    """

    output: str
    metric: str
    labels: NDArray[Any]
    scores: bool = False
    last: bool = False
    binary: bool = False
    shifted: bool = False
    rule: Rule | None = None
    inputs: NDArray[Any] | None = None

    @property
    def axis(self) -> int | None:
        """The axis of the output along which there is a score for each class; None without."""
        return 1 if self.scores else -1 if self.last else None

    @property
    def second(self) -> str | None:
        """The other figure that goes with the metric."""
        return None if self.rule is not None else SECOND.get(self.metric)

    @property
    def classes(self) -> bool:
        """Whether the metric is a share of right classes."""
        return self.metric in CLASSES

    @property
    def lower(self) -> bool:
        """Whether lower values of the metric are better."""
        return self.metric in LOWER

    def first(self, count: int) -> Task:
        inputs = None if self.inputs is None else self.inputs[:count]
        return replace(self, labels=self.labels[:count], inputs=inputs)

    def measure(self, outputs: NDArray[Any]) -> tuple[float, float | None]:
        """The metric over all samples, and its second figure. Class shares are 0 to 1; NaN where it has no value."""
        if self.rule is not None:
            got = outputs if self.inputs is None else _errors(outputs, self.inputs)
            return self.rule(got, self.labels), None
        if self.metric in VALUES:
            real, got = self.labels.astype(np.float64), outputs.reshape(self.labels.shape).astype(np.float64)
            error, spread = float(((got - real) ** 2).sum()), float(((real - real.mean(axis=0)) ** 2).sum())
            pair = 1 - error / max(spread, 1e-300), error / max(real.size, 1)
            return pair if self.metric == "R2" else pair[::-1]
        found = self._classes(outputs)
        if self.metric not in PIXELS:
            return float((found == self.labels).mean()), None
        known = self.labels >= 0
        right = float((found == self.labels)[known].mean()) if known.any() else 0.0
        overlap = _mean_iou(found[known], self.labels[known])
        return (right, overlap) if self.metric == "pixel accuracy" else (overlap, right)

    def lost(self, before: float, after: float) -> float:
        """How much worse `after` is, in the metric's unit; squared errors in that of R2, perplexity as a share."""
        if self.metric == "mean squared error":
            return (after - before) / max(float(self.labels.astype(np.float64).var(axis=0).mean()), 1e-300)
        return worse(self.metric, before, after, self.lower)

    def _classes(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The classes that the network chooses, in the shape of the labels."""
        if self.binary:
            return (outputs.reshape(self.labels.shape) > 0.5).astype(np.int64)
        if self.last:
            return np.asarray(outputs.argmax(axis=-1)).reshape(self.labels.shape)
        if not self.scores:
            return outputs.reshape(self.labels.shape)
        if self.metric == "top-1":
            return np.asarray(outputs.reshape(len(outputs), -1).argmax(axis=1))
        return np.asarray(outputs.argmax(axis=1)).reshape(self.labels.shape)


def tasks_of(outputs: Mapping[str, NDArray[Any]], samples: Samples) -> dict[str, Task]:
    """The task of every output [samples, ...] that has one; labels: `y` for the first output it fits, `y_NAME`.

    `samples` have labels and inputs, and the metric that is asked for. FlowError if that fits no output; of the others
    that have labels of their own, the metric is found as without it.
    """
    asked, labels = samples.metric, samples.every_label
    if asked is None or isinstance(asked, UserFunction):
        return tasks(outputs, labels, samples.feeds)
    if not labels:
        raise FlowError(
            f"--metric {asked} needs labels y, but there are none in {samples.source}; add them, or leave it out"
        )
    found = _assigned(outputs, labels, partial(asked_task, asked, feeds=samples.feeds))
    if not found:
        shapes = [f"'{name}' {list(array.shape)} {array.dtype}" for name, array in outputs.items()]
        given = [f"{name} {list(array.shape)} {array.dtype}" for name, array in labels.items()]
        raise FlowError(
            f"--metric {asked} compares {NEEDS[asked]}, but the outputs are {', '.join(shapes)} and the labels of "
            f"{samples.source} {', '.join(given)}; give other labels, or another metric"
        )
    used = LABELS if any(label_key(labels, name) == LABELS for name in found) else ""
    others = tasks(outputs, {name: array for name, array in labels.items() if name != used}, samples.feeds)
    return {name: found.get(name) or others[name] for name in outputs if name in found or name in others}


def score_axes(found: Mapping[str, Task]) -> dict[str, int]:
    """The axis of the classes, by output, of those that have scores."""
    return {name: each.axis for name, each in found.items() if each.axis is not None}


def tasks(
    outputs: Mapping[str, NDArray[Any]], labels: Mapping[str, NDArray[Any]], feeds: Arrays | None = None
) -> dict[str, Task]:
    """The tasks that labels and outputs tell by themselves. `feeds`: the inputs, that tell auto-encoders."""
    return _assigned(outputs, labels, partial(task, feeds=feeds))


def _assigned(
    outputs: Mapping[str, NDArray[Any]],
    labels: Mapping[str, NDArray[Any]],
    fit: Callable[[str, NDArray[Any], NDArray[Any]], Task | None],
) -> dict[str, Task]:
    """The tasks of outputs with their own labels, `y_NAME`, and of the first other one that the labels `y` fit."""
    found: dict[str, Task] = {}
    general = False
    for name, array in outputs.items():
        key = label_key(labels, name)
        if key not in labels or (key == LABELS and general):
            continue
        if (made := fit(name, array, labels[key])) is not None:
            found[name] = made
            general = general or key == LABELS
    return found


def task(name: str, outputs: NDArray[Any], labels: NDArray[Any], feeds: Arrays | None = None) -> Task | None:
    """The task of one output with these labels; None if they do not fit, or may be two."""
    if outputs.ndim < 1 or not labels.ndim or len(outputs) != len(labels) or not labels.size:
        return None
    if outputs.dtype.kind in TEXT:
        return _label_task(name, outputs, labels)
    if labels.dtype.kind in TEXT:
        labels = _numbers(labels)
    if outputs.dtype.kind != "f":
        return _label_task(name, outputs, labels)
    if labels.dtype.kind not in "biuf" or doubtful(outputs, labels, feeds or {}):
        return None
    return (
        _score_task(name, outputs, labels)
        or _value_task(name, outputs, labels)
        or _reconstruction_task(name, outputs, labels, feeds or {})
    )


def doubtful(outputs: NDArray[Any], labels: NDArray[Any], feeds: Arrays) -> bool:
    """Whether 0 and 1 may be two of the classes, as well as normal and abnormal samples of an auto-encoder."""
    flat = outputs.ndim > 1 and max(outputs.shape[1:]) * len(outputs) == outputs.size > 2 * len(outputs)
    return flat and _zeros_and_ones(outputs, labels) is not None and _reconstructed(outputs, feeds) is not None


def class_count(found: Task, outputs: NDArray[Any]) -> int:
    """Classes of the output with these values."""
    if found.metric in PIXELS:
        return int(outputs.shape[-1 if found.last else 1])
    return outputs.size // len(outputs)


def top1(outputs: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """Share of samples whose largest score is their label; None where the outputs are no class scores."""
    found = task("", outputs, labels)
    return found.measure(outputs)[0] if found is not None and found.metric == "top-1" else None


# -------------------------------------------------------------------------------- metrics asked for

NEEDS = {  # by the name of a metric: what it compares
    "top1": "class numbers with a score for each class, a probability or a label",
    "top5": "class numbers with scores of more than 5 classes",
    "miou": "class numbers for each pixel with maps of scores or classes",
    "pixel_accuracy": "class numbers for each pixel with maps of scores or classes",
    "mse": "numbers with an output of their shape", "r2": "numbers with an output of their shape",
    "cosine": "vectors with an output of their shape", "spearman": "numbers with an output of their shape",
    "auc": "0 and 1 for each sample with a score, with scores of two classes or with a reconstruction of the input, or "
           "class numbers with scores",
    "wer": "token numbers [samples, length] or text with an output of the same kind",
    "ctc_wer": "token numbers [samples, length] with scores [samples, steps, classes]",
    "ctc_wer_last": "token numbers [samples, length] with scores [samples, steps, classes]",
    "perplexity": "numbers of the next tokens [samples, length] with logits [samples, length, vocabulary]",
}  # fmt: skip


def asked_task(asked: str, name: str, outputs: NDArray[Any], labels: NDArray[Any], *, feeds: Arrays) -> Task | None:
    """The task of one output with these labels and the metric `asked`, of METRICS; None if they do not fit."""
    if outputs.ndim < 1 or not labels.ndim or len(outputs) != len(labels) or not labels.size:
        return None
    found = task(name, outputs, labels)
    if asked in ("top1", "top5"):
        if found is None or found.metric not in ("top-1", "accuracy"):
            return None
        if asked == "top1":
            return replace(found, metric="top-1") if found.scores else found
        fits = found.scores and outputs.size > metrics.TOP * len(outputs)
        return replace(found, metric="top-5", rule=_top) if fits else None
    if asked in ("miou", "pixel_accuracy"):
        return replace(found, metric=METRICS[asked]) if found is not None and found.metric in PIXELS else None
    if asked == "auc":
        return _auc_task(name, outputs, labels, found, feeds)
    if "wer" in asked:
        return _words_task(asked, name, outputs, labels)
    if asked == "perplexity":
        return _perplexity_task(name, outputs, labels)
    numbers = outputs.dtype.kind in "biuf" and labels.dtype.kind in "biuf" and np.isfinite(labels).all()
    if not numbers or _squeezed(outputs.shape) != _squeezed(labels.shape):
        return None
    rules: dict[str, Rule] = {"cosine": metrics.cosine, "spearman": metrics.spearman}
    return Task(name, METRICS[asked], labels, rule=rules.get(asked))


def _top(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    return metrics.top(outputs.reshape(len(outputs), -1), labels)


def _auc_task(name: str, outputs: NDArray[Any], labels: NDArray[Any], found: Task | None, feeds: Arrays) -> Task | None:
    if outputs.dtype.kind != "f":
        return None
    whole = _zeros_and_ones(outputs, labels)
    if whole is not None and outputs.size == len(outputs):
        return Task(name, METRICS["auc"], whole, rule=_auc_of_values)
    if (reconstruction := _reconstruction_task(name, outputs, labels, feeds)) is not None:
        return reconstruction
    if found is None or not found.scores or found.metric != "top-1":
        return None
    return replace(found, metric=METRICS["auc"], rule=_auc_of_classes)


def _zeros_and_ones(outputs: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64] | None:
    """The labels [samples], if they are 0 or 1 for each sample."""
    whole = whole_numbers(labels) if labels.dtype.kind in "biuf" else None
    if whole is None or whole.size != len(outputs) or whole.min() < 0 or whole.max() > 1:
        return None
    return whole.reshape(-1)


def _reconstruction_task(name: str, outputs: NDArray[Any], labels: NDArray[Any], feeds: Arrays) -> Task | None:
    """The output stands for the input, and the labels say which samples are abnormal: large errors should be theirs."""
    whole, inputs = _zeros_and_ones(outputs, labels), _reconstructed(outputs, feeds)
    if whole is None or inputs is None or outputs.size <= 2 * len(outputs):
        return None
    return Task(name, metrics.RECONSTRUCTION, whole, rule=_auc_of_values, inputs=inputs)


def _auc_of_values(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    return metrics.auc(outputs.reshape(-1), labels)


def _auc_of_classes(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    return metrics.auc_of_classes(outputs.reshape(len(outputs), -1), labels)


def _words_task(asked: str, name: str, outputs: NDArray[Any], labels: NDArray[Any]) -> Task | None:
    texts = labels.dtype.kind in TEXT
    whole = labels if texts else whole_numbers(labels) if labels.ndim == 2 else None
    if asked == "wer":
        same = outputs.dtype.kind in (TEXT if texts else "iu") and (texts or outputs.ndim == 2)
        rule: Rule = _word_errors
    else:
        same = not texts and outputs.dtype.kind == "f" and outputs.ndim == 3
        rule = _word_errors_last if asked == "ctc_wer_last" else _word_errors_first
    return Task(name, METRICS[asked], whole, rule=rule) if same and whole is not None else None


def _perplexity_task(name: str, outputs: NDArray[Any], labels: NDArray[Any]) -> Task | None:
    whole = whole_numbers(labels) if labels.dtype.kind in "biuf" else None
    if whole is None or outputs.dtype.kind != "f" or outputs.ndim < 2 or outputs.shape[-1] < 2:
        return None
    if _squeezed(outputs.shape[:-1]) != _squeezed(whole.shape) or whole.max() >= outputs.shape[-1] or whole.max() < 0:
        return None
    shares = outputs.min() >= 0 and np.allclose(outputs.sum(axis=-1, dtype=np.float64), 1, atol=1e-3)
    rule = partial(metrics.perplexity, probabilities=bool(shares))
    return Task(name, METRICS["perplexity"], whole, last=True, rule=rule)


def _word_errors(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    return metrics.word_error_rate(metrics.tokens(outputs), metrics.tokens(labels))


def _word_errors_first(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    return metrics.word_error_rate(metrics.greedy(outputs, 0), metrics.tokens(labels))


def _word_errors_last(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    return metrics.word_error_rate(metrics.greedy(outputs, outputs.shape[2] - 1), metrics.tokens(labels))


def _reconstructed(outputs: NDArray[Any], feeds: Arrays) -> NDArray[Any] | None:
    """The input [samples, ...] of the output's shape: the output of an auto-encoder stands for it."""
    shape = _squeezed(outputs.shape)
    alike = [array for array in feeds.values() if array.dtype.kind == "f" and _squeezed(array.shape) == shape]
    return alike[0] if len(alike) == 1 else None


def _errors(outputs: NDArray[Any], inputs: NDArray[Any]) -> NDArray[np.float64]:
    """The mean squared error of every sample of a reconstruction, float64 [samples]."""
    apart = outputs.reshape(len(outputs), -1).astype(np.float64) - inputs.reshape(len(inputs), -1)
    error: NDArray[np.float64] = (apart**2).mean(axis=1)
    return error


# -------------------------------------------------------------------------------- what fits


def _label_task(name: str, outputs: NDArray[Any], labels: NDArray[Any]) -> Task | None:
    """The output holds labels itself: whole numbers or text."""
    texts = outputs.dtype.kind in TEXT
    if texts != (labels.dtype.kind in TEXT) or _squeezed(outputs.shape) != _squeezed(labels.shape):
        return None
    fitting = as_text(labels) if texts else whole_numbers(labels)
    if fitting is None:
        return None
    if texts or len(_squeezed(labels.shape)) <= 2:
        return Task(name, "accuracy", fitting)
    return Task(name, "pixel accuracy", fitting if outputs.max() >= VOID else np.where(fitting == VOID, -1, fitting))


def _score_task(name: str, outputs: NDArray[Any], labels: NDArray[Any]) -> Task | None:
    """The output holds a score for each class."""
    classes = outputs.size // len(outputs)
    alone = outputs.ndim > 1 and max(outputs.shape[1:]) == classes
    if alone and classes > 1 and labels.size == outputs.size and _one_hot(labels.reshape(len(labels), -1)):
        return Task(name, "top-1", labels.reshape(len(labels), -1).argmax(axis=1), scores=True)
    maps = outputs.ndim > 2 and outputs.shape[1] > 1 and not alone
    if maps and labels.shape == outputs.shape and _one_hot(labels):
        return Task(name, "pixel accuracy", labels.argmax(axis=1), scores=True)
    whole = whole_numbers(labels)
    if whole is None:
        return None
    if whole.min() < 0:  # which only positions of a map may have, that do not count
        return _map_task(name, outputs, whole)
    if labels.size == len(labels) and alone and classes > 1:
        numbers, from_one = _from_zero(whole.reshape(-1), classes)
        return None if numbers.max() >= classes else Task(name, "top-1", numbers, scores=True, shifted=from_one)
    if labels.size == outputs.size == len(labels) and outputs.min() >= 0 and outputs.max() <= 1:
        numbers, from_one = _from_zero(whole, 2)
        return None if numbers.max() > 1 else Task(name, "accuracy", numbers, binary=True, shifted=from_one)
    return _map_task(name, outputs, whole)


def _map_task(name: str, outputs: NDArray[Any], whole: NDArray[np.int64]) -> Task | None:
    """The output holds a score for each class at each position: classes along axis 1, or else along the last axis."""
    if outputs.ndim < 3:
        return None
    shapes = {1: (len(outputs), *outputs.shape[2:]), outputs.ndim - 1: outputs.shape[:-1]}
    fits = [axis for axis, shape in shapes.items() if _squeezed(shape) == _squeezed(whole.shape)]
    axis = fits[0] if fits else 1
    classes = outputs.shape[axis]
    if not fits or classes < 2 or outputs.size == len(outputs) * classes:
        return None
    if classes <= VOID:
        whole = np.where(whole == VOID, -1, whole)
    numbers, from_one = _from_zero(np.maximum(whole, -1), classes)
    if numbers.max() >= classes:
        return None
    return Task(name, "pixel accuracy", numbers, scores=axis == 1, last=axis != 1, shifted=from_one)


def _from_zero(whole: NDArray[np.int64], classes: int) -> tuple[NDArray[np.int64], bool]:
    """Class numbers from 0, and whether they were from 1 to the number of classes; negative ones do not count."""
    real = whole[whole >= 0]
    if not real.size or real.min() != 1 or real.max() != classes:
        return whole, False
    return np.where(whole >= 0, whole - 1, whole), True


def _value_task(name: str, outputs: NDArray[Any], labels: NDArray[Any]) -> Task | None:
    """The output holds real values."""
    if labels.dtype.kind != "f" or _squeezed(outputs.shape) != _squeezed(labels.shape) or not np.isfinite(labels).all():
        return None
    return Task(name, "R2", labels)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without axes of one element, the samples' axis excepted."""
    return shape[:1] + tuple(size for size in shape[1:] if size != 1)


def _numbers(labels: NDArray[Any]) -> NDArray[Any]:
    """Text of whole numbers as these numbers, int64; other text as it is."""
    texts = as_text(labels)
    whole = all(re.fullmatch(r"\s*[+-]?\d{1,18}\s*", text, re.ASCII) for text in texts.flat)
    return texts.astype(np.int64) if whole else labels


def whole_numbers(labels: NDArray[Any]) -> NDArray[np.int64] | None:
    """Labels as integers, also of text; None if they are not whole numbers."""
    labels = _numbers(labels) if labels.dtype.kind in TEXT else labels
    if labels.dtype.kind in "biu":
        return labels.astype(np.int64)
    if labels.dtype.kind != "f" or not np.isfinite(labels).all() or not (labels == np.rint(labels)).all():
        return None
    return labels.astype(np.int64)


def _one_hot(labels: NDArray[Any]) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all())


def _mean_iou(found: NDArray[Any], labels: NDArray[Any]) -> float:
    """Intersection over union, the mean over the classes that occur."""
    shares = [
        float(((found == each) & (labels == each)).sum() / ((found == each) | (labels == each)).sum())
        for each in np.union1d(found, labels)
    ]
    return float(np.mean(shares)) if shares else 0.0
