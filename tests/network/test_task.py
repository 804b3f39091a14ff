"""What labels say of outputs, and the metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.network.task import one_based, task, tasks, top1

SCORES = np.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6]])
MAP = np.zeros((2, 3, 2, 2), np.float32)
MAP[:, 1, 0], MAP[:, 2, 1] = 1, 1  # class 1 above, class 2 below


@pytest.mark.parametrize(
    "labels",
    [np.array([1, 0, 0]), np.array([[1], [0], [0]]), np.array([1.0, 0.0, 0.0]), np.array([[0, 1], [1, 0], [1, 0]])],
    ids=["numbers", "a column", "floats", "one-hot"],
)
def test_class_numbers(labels: NDArray[Any]) -> None:
    assert top1(SCORES, labels) == pytest.approx(2 / 3)
    assert top1(SCORES[:, :, None, None], labels) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        (SCORES, np.array([1, 0, 2])),  # a label that is no class
        (SCORES, np.array([1, 0])),
        (SCORES, np.array([1, 0.5, 0])),
        (SCORES, np.array(["a", "b", "c"])),
        (np.zeros((3, 4, 5)), np.array([1, 0, 2])),  # no axis of classes alone
        (SCORES[:, :1] * 9, np.array([1, 0, 0])),  # one value has no largest
    ],
)
def test_labels_that_fit_no_metric(outputs: NDArray[Any], labels: NDArray[Any]) -> None:
    assert task("y", outputs, labels) is None


def test_an_output_of_labels_is_compared_with_them() -> None:
    """Classifiers of scikit-learn give the label first."""
    found = task("label", np.array([3, 1, 2, 2]), np.array([3, 1, 2, 0]))
    assert found is not None and found.metric == "accuracy" and not found.scores
    assert found.measure(np.array([3, 1, 2, 2]))[0] == 0.75
    words = np.array(["cat", "dog"], object)
    text = task("label", words, np.array(["cat", "cat"]))
    assert text is not None and text.measure(words)[0] == 0.5
    assert task("label", np.array([3, 1]), np.array(["cat", "dog"])) is None


def test_a_probability_is_above_a_half() -> None:
    outputs = np.array([[0.9], [0.2], [0.6]])
    found = task("p", outputs, np.array([1, 0, 0]))
    assert found is not None and found.metric == "accuracy" and found.measure(outputs)[0] == pytest.approx(2 / 3)


def test_maps_have_pixel_accuracy_and_mean_iou() -> None:
    labels = np.array([[[1, 1], [2, 2]], [[1, 0], [2, 2]]])
    found = task("map", MAP, labels)
    assert found is not None and found.metric == "pixel accuracy" and found.second == "mean IoU"
    right, iou = found.measure(MAP)
    assert right == 7 / 8 and iou == pytest.approx((0 + 3 / 4 + 1) / 3)
    void = np.where(labels == 0, 255, labels)  # does not count
    without = task("map", MAP, void.astype(np.uint8))
    assert without is not None and without.measure(MAP) == (1.0, 1.0)
    assert task("map", MAP, labels + 1) is None  # class 3 of 0 to 2
    whole = MAP.argmax(axis=1)
    same = task("map", whole, labels)
    assert same is not None and same.measure(whole) == found.measure(MAP)


def test_real_values_have_r2_and_squared_error() -> None:
    labels = np.array([[1.5, 2.0], [3.0, 4.0], [5.0, 6.5]])
    found = task("box", labels, labels)
    assert found is not None and found.metric == "R2" and not found.classes
    assert found.measure(labels) == (1, 0)
    r2, mse = found.measure(labels + 0.1)
    spread = ((labels - labels.mean(axis=0)) ** 2).sum()
    assert mse == pytest.approx(0.01) and r2 == pytest.approx(1 - 0.06 / spread)


def test_labels_go_to_the_first_output_they_fit_or_to_the_one_they_name() -> None:
    outputs = {"box": np.ones((3, 4)) * 0.5, "cls": np.zeros((3, 10))}
    classes, boxes = np.array([9, 4, 0]), np.random.default_rng(0).normal(size=(3, 4))
    assert {name: found.metric for name, found in tasks(outputs, {"y": classes}).items()} == {"cls": "top-1"}
    both = tasks(outputs, {"y": classes, "y_box": boxes})
    assert {name: found.metric for name, found in both.items()} == {"box": "R2", "cls": "top-1"}
    named = tasks(outputs, {"y_cls": classes, "y": boxes})
    assert {name: found.metric for name, found in named.items()} == {"box": "R2", "cls": "top-1"}


def test_labels_that_count_from_one() -> None:
    scores = np.eye(4)
    assert one_based(task("", scores, np.arange(1, 5)), scores, np.arange(1, 5))  # class 4 of 0 to 3
    assert not one_based(task("", scores, np.arange(4)), scores, np.arange(4))
    few = np.array([1, 2, 3])
    assert one_based(task("", scores[:3], few), scores[:3], few)  # all in range, all wrong
