"""Class labels as people have them, made into numbers from 0: names as text, numbers from 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.network.metrics import TEXT, as_text
from flow.network.samples import LABELS, Samples, label_key
from flow.network.task import Task, class_count, task, tasks, whole_numbers


def from_text(
    outputs: Mapping[str, NDArray[Any]], samples: Samples
) -> tuple[Samples, dict[str, tuple[str, list[str]]]]:
    """The samples with numbers in place of class names, and by labels the output and its classes' names, in order.

    Names are as many as an output [samples, classes] has scores: they are its classes in alphabetical order, as
    scikit-learn, Keras and torchvision number them. Text that an output of text may be compared with stays.
    """
    labels, named = samples.every_label, dict[str, tuple[str, list[str]]]()
    known = {label_key(labels, name) for name in tasks(outputs, labels)}
    for name, scores in outputs.items():
        key = label_key(labels, name)
        if key not in labels or key in known or labels[key].dtype.kind not in TEXT:
            continue
        names, numbers = np.unique(as_text(labels[key]), return_inverse=True)
        found = task(name, scores, numbers.reshape(labels[key].shape))
        if (
            found is not None
            and found.metric in ("top-1", "accuracy")
            and len(names) == max(class_count(found, scores), 2)
        ):
            labels[key], named[key] = numbers.reshape(labels[key].shape), (name, names.tolist())
            known.add(key)
    return samples.with_labels(labels), named


def from_zero(outputs: Mapping[str, NDArray[Any]], samples: Samples) -> tuple[Samples, dict[str, str]]:
    """The samples with labels that count classes from 0, and the outputs, by labels, of which they counted from 1.

    They did without doubt if they go from 1 to the number of classes. `outputs` [samples, ...] tell that number.
    """
    labels, changed = samples.every_label, {}
    for name, found in tasks(outputs, labels).items():
        if not found.shifted:
            continue
        key = label_key(labels, name)
        whole, classes = whole_numbers(labels[key]), class_count(found, outputs[name])
        assert whole is not None
        labels[key] = np.where((whole >= 1) & (whole <= max(classes, 2)), whole - 1, whole)
        changed[key] = name
    return samples.with_labels(labels), changed


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
    """Whether class labels seem to count from 1: one less fits, and fits better than chance and than they do.

    Where they go to the number of classes there is no doubt, and `given` has them from 0.
    """
    if given is not None and given.shifted:
        return True
    whole = whole_numbers(labels)
    if whole is None or not whole.size or whole.min() != 1:
        return False
    fit = task("", outputs, whole - 1)
    if fit is None or not fit.scores:
        return False
    reached = fit.measure(outputs)[0]
    return reached > max(1 / class_count(fit, outputs), 0.0 if given is None else given.measure(outputs)[0])
