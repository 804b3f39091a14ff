"""Class labels as people have them: numbers from 1, names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.network.labels import from_text, from_zero, one_based
from flow.network.samples import Samples
from flow.network.task import task

MAP = np.zeros((2, 3, 2, 2))  # scores of 3 classes


def given(labels: NDArray[Any], outputs: NDArray[Any], **others: NDArray[Any]) -> Samples:
    return Samples({"x": np.zeros((len(outputs), 1), np.float32)}, labels, "here", named=others)


def test_labels_that_count_from_one() -> None:
    scores = np.eye(4)
    assert one_based(task("", scores, np.arange(1, 5)), scores, np.arange(1, 5))  # class 4 of 0 to 3
    assert not one_based(task("", scores, np.arange(4)), scores, np.arange(4))
    few = np.array([1, 2, 3])
    assert one_based(task("", scores[:3], few), scores[:3], few)  # all in range, all wrong


def test_labels_from_one_to_the_number_of_classes_become_labels_from_zero() -> None:
    scores, masks = np.eye(4), np.array([[[1, 2], [3, 255]], [[1, 1], [2, 3]]], np.uint8)
    for outputs, labels, wanted in (
        (scores, np.arange(1, 5), np.arange(4)),
        (scores, np.arange(1.0, 5.0)[:, None], np.arange(4)[:, None]),
        (MAP, masks, np.where(masks == 255, 255, masks.astype(int) - 1)),
        (np.array([[0.9], [0.2]]), np.array([2, 1]), np.array([1, 0])),
    ):
        found, changed = from_zero({"out": outputs}, given(labels, outputs))
        assert changed == {"y": "out"} and found.labels is not None and found.labels.tolist() == wanted.tolist()
        own, changed = from_zero(
            {"out": outputs}, replace(given(labels, outputs), labels=None, named={"y_out": labels})
        )
        assert changed == {"y_out": "out"} and own.named["y_out"].tolist() == wanted.tolist()
    kept = np.array([1, 2, 3, 1])  # may be classes 1 to 3 of 0 to 3
    found, changed = from_zero({"out": scores}, given(kept, scores))
    assert not changed and found.labels is kept


@pytest.mark.parametrize("names", [["cat", "owl", "ant"], [b"cat", b"owl", b"ant"]])
def test_names_are_classes_in_alphabetical_order(names: list[Any]) -> None:
    """As many names as an output has scores, or two beside a probability; other text stays."""
    scores = np.zeros((4, 3))
    text = np.array([names[1], names[0], names[2], names[0]])
    for labels in (text, text[:, None]):
        found, named = from_text({"box": np.zeros((4, 7)), "cls": scores}, given(labels, scores))
        assert named == {"y": ("cls", ["ant", "cat", "owl"])}
        assert found.labels is not None and found.labels.reshape(-1).tolist() == [2, 1, 0, 1]
    own, named = from_text({"cls": scores}, replace(given(text, scores), labels=None, named={"y_cls": text}))
    assert named == {"y_cls": ("cls", ["ant", "cat", "owl"])} and own.named["y_cls"].tolist() == [2, 1, 0, 1]
    two = np.array([names[0], names[1], names[0], names[0]])
    found, named = from_text({"p": np.full((4, 1), 0.5)}, given(two, scores))
    assert named and found.labels is not None and found.labels.tolist() == [0, 1, 0, 0]
    for outputs, labels in (({"cls": scores}, two), ({"label": text, "cls": scores}, text), ({"cls": MAP}, text)):
        kept, named = from_text(outputs, given(labels, scores))
        assert not named and kept.labels is labels
