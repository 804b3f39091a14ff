"""What labels say of outputs, and the metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.network.samples import Samples
from flow.network.task import doubtful, score_axes, task, tasks, tasks_of, top1

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
    assert task("map", MAP, labels + 2) is None  # class 4 of 0 to 2
    one_hot = np.eye(3)[labels].transpose(0, 3, 1, 2)
    spread = task("map", MAP, one_hot)
    assert spread is not None and spread.measure(MAP) == found.measure(MAP)
    last = np.moveaxis(MAP, 1, 3)[:, :, :, :]  # as TensorFlow and taggers of tokens have them
    tags = task("map", last[:, 0], np.where(labels[:, 0] == 0, -100, labels[:, 0]))
    assert tags is not None and tags.last and tags.measure(last[:, 0]) == (1, 1)  # negative labels do not count
    turned = task("map", last, labels)
    assert turned is not None and turned.measure(last) == found.measure(MAP)
    many = np.eye(300)[None, [[255, 7]]].transpose(0, 3, 1, 2)
    wide = task("map", many, np.array([[[255, 8]]]))
    assert wide is not None and wide.measure(many)[0] == 0.5  # 255 is a class of 300
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


def given(labels: NDArray[Any], outputs: NDArray[Any], metric: Any = None, **others: Any) -> Samples:
    feeds = others.pop("feeds", {"x": np.zeros((len(outputs), 1), np.float32)})
    return Samples(feeds, labels, "here", named=others, metric=metric)


# -------------------------------------------------------------------------------- metrics asked for
ROWS = np.array([[3, 2, 1, 0, -1, -2], [0, 5, 1, 2, 3, 4], [1, 1, 1, 1, 1, 1], [0, 1, 2, 3, 4, 5.0]])
NEXT = np.array([[[2, 1, 1], [1, 2, 1], [1, 1, 2]], [[0, 0, 4], [1, 1, 2], [0, 0, 4]]]) / 4  # of 3 tokens
LOGS = np.log(np.maximum(NEXT, 1e-300))
BOXES = np.array([[1.0, 2.0], [3.0, 0.0], [2.0, 1.0]])


@pytest.mark.parametrize(
    ("asked", "outputs", "labels", "shown", "value"),
    [
        ("top1", SCORES, np.array([1, 0, 0]), "top-1", 2 / 3),
        ("top5", ROWS, np.array([5, 0, 4, 0]), "top-5", 1 / 4),  # ranks 6, 6, 5 (the last of equal ones), 6
        ("miou", MAP, np.array([[[1, 1], [2, 2]], [[1, 0], [2, 2]]]), "mean IoU", (0 + 3 / 4 + 1) / 3),
        ("pixel_accuracy", MAP, np.array([[[1, 1], [2, 2]], [[1, 0], [2, 2]]]), "pixel accuracy", 7 / 8),
        ("mse", BOXES, np.zeros((3, 2)), "mean squared error", (1 + 4 + 9 + 4 + 1) / 6),
        ("mse", BOXES, np.zeros((3, 2), np.int64), "mean squared error", 19 / 6),
        ("r2", BOXES[:, :1], np.array([1, 3, 5]), "R2", 1 - 9 / 8),
        ("cosine", BOXES, np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 2.0]]), "cosine similarity",
         (1 / 5**0.5 + 1 + 4 / 5) / 3),
        ("auc", np.array([[0.1], [0.4], [0.35], [0.8]]), np.array([0, 0, 1, 1]), "AUC", 0.75),
        ("auc", np.array([0.5, 0.5, 0.2, 0.9]), np.array([0, 1, 0, 1]), "AUC", 3.5 / 4),  # a tie counts half
        ("auc", np.array([[2.0, 1], [1, 4], [3, 3.5], [5, 5]]), np.array([0, 1, 0, 1]), "AUC", 3 / 4),
        ("auc", np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 1]), "AUC", (5 / 6 + 3 / 4 + 1) / 3),
        ("spearman", np.array([[10.0], [20], [20], [5]]), np.array([1.0, 2, 3, 4]), "Spearman", -0.3162277660168379),
        ("spearman", np.array([1.0, 4, 9]), np.array([0.1, 0.2, 0.9]), "Spearman", 1),
        ("wer", np.array([[1, 2, 3, -1], [4, 5, -1, -1]]), np.array([[1, 3, -1], [5, 5, 6]]), "word error rate", 3 / 5),
        ("wer", np.array(["the cat sat", "on"], object), np.array(["a cat sat down", "on"]), "word error rate", 2 / 5),
        ("ctc_wer", np.eye(4)[[[0, 1, 1, 0, 1, 2]]], np.array([[1, 2, 3]]), "word error rate (CTC)", 2 / 3),
        ("ctc_wer_last", np.eye(3)[[[0, 0, 2, 0, 1]]], np.array([[0, 0, 1, -1]]),
         "word error rate (CTC, blank last)", 0),
        ("perplexity", LOGS, np.array([[0, 1, -1], [2, -100, 2]]), "perplexity", 4**0.25),
        ("perplexity", LOGS + 800, np.array([[0, 1, -1], [2, 0, 2]]), "perplexity", 16**0.2),
        ("perplexity", NEXT, np.array([[0.0, 1, 0], [-1, -1, -1]]), "perplexity", (0.5 * 0.5 * 0.25) ** (-1 / 3)),
        ("perplexity", LOGS[:, 0], np.array([0, 2]), "perplexity", 2**0.5),  # of the last token alone
    ],
)  # fmt: skip
def test_a_metric_asked_for(asked: str, outputs: NDArray[Any], labels: NDArray[Any], shown: str, value: float) -> None:
    """Values by hand, as scikit-learn and SciPy have them."""
    (found,) = tasks_of({"out": outputs}, given(labels, outputs, asked)).values()
    assert found.metric == shown and found.measure(outputs)[0] == pytest.approx(value, abs=1e-12)
    assert found.lower == (shown in ("mean squared error", "perplexity") or "error rate" in shown)


def test_a_reconstruction_is_judged_by_its_error() -> None:
    x = np.zeros((4, 1, 2, 2), np.float32)
    outputs, labels = x + np.array([0.1, 0.5, 0.3, 0.9], np.float32)[:, None, None, None], np.array([0, 1, 1, 0])
    for asked in ("auc", None):  # a picture has no classes: there is no doubt
        (found,) = tasks_of({"out": outputs}, given(labels, outputs, asked, feeds={"x": x})).values()
        assert found.metric == "AUC of the reconstruction error" and found.measure(outputs)[0] == 0.5
        assert found.first(2).measure(outputs[:2])[0] == 1
    flat = {"x": x.reshape(4, 4)}
    outputs = outputs.reshape(4, 4)
    assert tasks_of({"out": outputs}, given(labels, outputs, feeds=flat)) == {}  # or 0 and 1 of four classes
    assert doubtful(outputs, labels, flat) and not doubtful(outputs, labels + 1, flat)
    for asked, shown in (("auc", "AUC of the reconstruction error"), ("top1", "top-1")):
        assert tasks_of({"out": outputs}, given(labels, outputs, asked, feeds=flat))["out"].metric == shown


def test_a_metric_of_one_output_leaves_the_others_theirs() -> None:
    outputs = {"box": np.ones((3, 4)) * 0.5, "cls": np.eye(3)}
    classes, boxes = np.arange(3), np.random.default_rng(0).normal(size=(3, 4))
    one = tasks_of(outputs, given(classes, classes, "auc", y_box=boxes))
    assert {name: found.metric for name, found in one.items()} == {"box": "R2", "cls": "AUC"}
    two = tasks_of(outputs, given(classes, classes, "mse", y_box=boxes))
    assert {name: found.metric for name, found in two.items()} == {"box": "mean squared error", "cls": "top-1"}


@pytest.mark.parametrize(
    ("asked", "outputs", "labels"),
    [
        ("top5", SCORES, np.array([1, 0, 0])), ("miou", SCORES, np.array([1, 0, 0])),
        ("top1", BOXES, np.array([0.5, 1.5, 1])), ("mse", BOXES, np.zeros((3, 3))),
        ("auc", BOXES, np.array([0, 1, 7])), ("wer", BOXES, np.zeros((3, 2))),
        ("ctc_wer", BOXES, np.zeros((3, 2), int)), ("perplexity", BOXES, np.zeros((3, 2), int)),
        ("perplexity", BOXES, np.array([0, 1, 2])), ("perplexity", BOXES, np.array([0, 1, 0.5])),
        ("spearman", BOXES, np.array(["a", "b", "c"])),
    ],
)  # fmt: skip
def test_a_metric_that_does_not_fit(asked: str, outputs: NDArray[Any], labels: NDArray[Any]) -> None:
    with pytest.raises(FlowError, match=rf"--metric {asked} compares .*'out' \[3, \d\] float64.*labels of here y \["):
        tasks_of({"out": outputs}, given(labels, outputs, asked))


def test_a_metric_needs_labels() -> None:
    with pytest.raises(FlowError, match="--metric top1 needs labels y, but there are none in here"):
        tasks_of({"out": SCORES}, replace(given(np.arange(3), SCORES, "top1"), labels=None))


def test_how_much_is_lost() -> None:
    """Squared errors count against the variance of the labels, as in R2."""
    labels = np.array([[0.0], [2.0]])
    (mse,) = tasks_of({"out": labels}, given(labels, labels, "mse")).values()
    (r2,) = tasks_of({"out": labels}, given(labels, labels, "r2")).values()
    pair = [each.lost(each.measure(labels)[0], each.measure(labels + 0.5)[0]) for each in (mse, r2)]
    assert pair == [0.25, 0.25]


def test_of_perplexity_a_share_is_lost() -> None:
    (found,) = tasks_of({"out": LOGS}, given(np.full((2, 3), 2), LOGS, "perplexity")).values()
    assert found.lost(40.0, 42.0) == 0.05 and found.lost(4.0, 3.0) == -0.25
    assert found.first(1).measure(LOGS[:1])[0] == pytest.approx((1 / 32) ** (-1 / 3))


def test_where_the_classes_of_an_output_are() -> None:
    for outputs, labels, asked, axis in (
        (SCORES, np.array([1, 0, 0]), None, 1), (MAP, np.zeros((2, 2, 2), int), None, 1),
        (np.moveaxis(MAP, 1, -1), np.array([[[1, 0], [2, 2]]] * 2), None, -1),
        (LOGS, np.zeros((2, 3), int), "perplexity", -1), (BOXES, np.zeros((3, 2)), "mse", None),
    ):  # fmt: skip
        found = tasks_of({"out": outputs}, given(labels, outputs, asked))
        assert score_axes(found) == ({} if axis is None else {"out": axis})


def test_text_of_whole_numbers_is_class_numbers() -> None:
    scores = np.eye(4, dtype=np.float32)[[0, 3, 2, 1]]
    found = task("scores", scores, np.array(["0", "3", " 2", "0"]))
    assert found is not None and (found.metric, found.measure(scores)[0]) == ("top-1", 0.75)
    assert task("scores", scores, np.array(["0", "three", "2", "0"])) is None
    chosen = task("label", np.array([0, 3, 2, 1]), np.array(["0", "3", "2", "0"]))
    assert chosen is not None and chosen.measure(np.array([0, 3, 2, 1]))[0] == 0.75
    words = np.array(["01", "3"])
    own = task("label", words, np.array(["1", "3"]))
    assert own is not None and own.measure(words)[0] == 0.5  # text is compared as text
