"""What the labels say of the outputs: which output they belong to, and the metric that compares the two.

| labels | output | metric |
|---|---|---|
| class numbers [N] or [N, 1], or one-hot | scores [N, classes] | top-1 |
| 0 and 1, [N] or [N, 1] | probabilities [N, 1] | accuracy: is the probability above a half? |
| whole numbers or text of the output's shape | labels | accuracy: are they equal? |
| class numbers [N, ...] | scores [N, classes, ...], or labels [N, ...] | pixel accuracy; mean IoU |
| real values of the output's shape | real values | R2; mean squared error |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flow.network.samples import LABELS

Metric = Literal["top-1", "accuracy", "pixel accuracy", "R2"]
VOID = 255  # the label of pixels that do not count, where there are no 256 classes


@dataclass(frozen=True)
class Task:
    """Labels, in the form that the metric needs, and the output that they belong to.

    `binary`: the output is the probability of class 1; `scores`: it has a score for each class along axis 1.
    """

    output: str
    metric: Metric
    labels: NDArray[Any]
    scores: bool = False
    binary: bool = False

    @property
    def second(self) -> str | None:
        """The other figure that goes with the metric."""
        return {"pixel accuracy": "mean IoU", "R2": "mean squared error"}.get(self.metric)

    @property
    def classes(self) -> bool:
        """Whether the metric is a share of right classes."""
        return self.metric != "R2"

    def first(self, count: int) -> Task:
        return Task(self.output, self.metric, self.labels[:count], self.scores, self.binary)

    def measure(self, outputs: NDArray[Any]) -> tuple[float, float | None]:
        """The metric over all samples, and its second figure. Class shares are 0 to 1."""
        if self.metric == "R2":
            real, got = self.labels.astype(np.float64), outputs.reshape(self.labels.shape).astype(np.float64)
            error, spread = float(((got - real) ** 2).sum()), float(((real - real.mean(axis=0)) ** 2).sum())
            return 1 - error / max(spread, 1e-300), error / max(real.size, 1)
        found = self._classes(outputs)
        known = np.ones(found.shape, bool) if self.metric != "pixel accuracy" else self.labels != VOID
        right = float((found == self.labels)[known].mean()) if known.any() else 0.0
        return right, _mean_iou(found[known], self.labels[known]) if self.metric == "pixel accuracy" else None

    def _classes(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The classes that the network chooses, in the shape of the labels."""
        if self.binary:
            return (outputs.reshape(self.labels.shape) > 0.5).astype(np.int64)
        if not self.scores:
            return outputs.reshape(self.labels.shape)
        if self.metric == "top-1":
            return np.asarray(outputs.reshape(len(outputs), -1).argmax(axis=1))
        return np.asarray(outputs.argmax(axis=1)).reshape(self.labels.shape)


def tasks(outputs: Mapping[str, NDArray[Any]], labels: Mapping[str, NDArray[Any]]) -> dict[str, Task]:
    """The task of every output [samples, ...] that has one; `labels`: `y` for the first output it fits, `y_NAME`."""
    found: dict[str, Task] = {}
    for name, array in outputs.items():
        if (own := labels.get(f"{LABELS}_{name}")) is not None and (fit := task(name, array, own)) is not None:
            found[name] = fit
    if (general := labels.get(LABELS)) is not None:
        fits = (task(name, array, general) for name, array in outputs.items() if f"{LABELS}_{name}" not in labels)
        if (first := next((fit for fit in fits if fit is not None), None)) is not None:
            found[first.output] = first
    return {name: found[name] for name in outputs if name in found}


def task(name: str, outputs: NDArray[Any], labels: NDArray[Any]) -> Task | None:
    """The task of one output with these labels; None if they do not fit."""
    if outputs.ndim < 1 or not labels.ndim or len(outputs) != len(labels) or not labels.size:
        return None
    if outputs.dtype.kind != "f":
        return _label_task(name, outputs, labels)
    if labels.dtype.kind not in "biuf":
        return None
    return _score_task(name, outputs, labels) or _value_task(name, outputs, labels)


def top1(outputs: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """Share of samples whose largest score is their label; None where the outputs are no class scores."""
    found = task("", outputs, labels)
    return found.measure(outputs)[0] if found is not None and found.metric == "top-1" else None


def shifted(
    outputs: Mapping[str, NDArray[Any]], found: Mapping[str, Task], labels: Mapping[str, NDArray[Any]]
) -> set[str]:
    """The outputs whose class labels seem to count from 1; `found` are the tasks with the labels as they are."""
    doubtful = set()
    for name, array in outputs.items():
        own = labels.get(f"{LABELS}_{name}")
        if own is None and (name in found or not found):
            own = labels.get(LABELS)
        if own is not None and one_based(found.get(name), array, own):
            doubtful.add(name)
    return doubtful


def one_based(given: Task | None, outputs: NDArray[Any], labels: NDArray[Any]) -> bool:
    """Whether class labels seem to count from 1: one less fits, and fits better than chance and than they do."""
    whole = _whole(labels)
    if whole is None or not whole.size or whole.min() != 1:
        return False
    fit = task("", outputs, whole - 1)
    if fit is None or not fit.scores:
        return False
    reached = fit.measure(outputs)[0]
    classes = outputs.shape[1] if fit.metric == "pixel accuracy" else outputs.size // len(outputs)
    return reached > max(1 / classes, 0.0 if given is None else given.measure(outputs)[0])


def _label_task(name: str, outputs: NDArray[Any], labels: NDArray[Any]) -> Task | None:
    """The output holds labels itself: whole numbers or text."""
    texts = outputs.dtype.kind in "OSU"
    if texts != (labels.dtype.kind in "OSU") or _squeezed(outputs.shape) != _squeezed(labels.shape):
        return None
    fitting = labels.astype(str) if texts else _whole(labels)
    if fitting is None:
        return None
    spread = len(_squeezed(labels.shape)) > 2 and not texts
    return Task(name, "pixel accuracy" if spread else "accuracy", fitting)


def _score_task(name: str, outputs: NDArray[Any], labels: NDArray[Any]) -> Task | None:
    """The output holds a score for each class."""
    classes = outputs.size // len(outputs)
    alone = outputs.ndim > 1 and max(outputs.shape[1:]) == classes
    if alone and classes > 1 and labels.size == outputs.size and _one_hot(labels.reshape(len(labels), -1)):
        return Task(name, "top-1", labels.reshape(len(labels), -1).argmax(axis=1), scores=True)
    whole = _whole(labels)
    if whole is None or whole.min() < 0:
        return None
    if labels.size == len(labels) and alone and classes > 1 and whole.max() < classes:
        return Task(name, "top-1", whole.reshape(-1), scores=True)
    if labels.size == outputs.size == len(labels) and whole.max() <= 1 and outputs.min() >= 0 and outputs.max() <= 1:
        return Task(name, "accuracy", whole, binary=True)
    maps = outputs.ndim > 2 and outputs.shape[1] > 1 and not alone
    if not maps or _squeezed((len(labels), *labels.shape[1:])) != _squeezed((len(outputs), *outputs.shape[2:])):
        return None
    if outputs.shape[1] <= VOID:
        whole = np.where(whole == VOID, -1, whole)
    if whole.max() >= outputs.shape[1]:
        return None
    return Task(name, "pixel accuracy", np.where(whole < 0, VOID, whole), scores=True)


def _value_task(name: str, outputs: NDArray[Any], labels: NDArray[Any]) -> Task | None:
    """The output holds real values."""
    if labels.dtype.kind != "f" or _squeezed(outputs.shape) != _squeezed(labels.shape) or not np.isfinite(labels).all():
        return None
    return Task(name, "R2", labels)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without axes of one element, the samples' axis excepted."""
    return shape[:1] + tuple(size for size in shape[1:] if size != 1)


def _whole(labels: NDArray[Any]) -> NDArray[np.int64] | None:
    """Labels as integers; None if they are not whole numbers."""
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
