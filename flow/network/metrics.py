"""Metrics that the user asks for by name: what each is called, and how it is computed of answers and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.network.usercode import UserFunction

Metric = str | UserFunction  # a name of METRICS, or a function of the user's
METRICS = {  # the name it is asked by, the name it is shown by
    "top1": "top-1", "top5": "top-5", "miou": "mean IoU", "pixel_accuracy": "pixel accuracy",
    "mse": "mean squared error", "r2": "R2", "cosine": "cosine similarity", "auc": "AUC", "spearman": "Spearman",
    "wer": "word error rate", "ctc_wer": "word error rate (CTC)", "ctc_wer_last": "word error rate (CTC, blank last)",
    "perplexity": "perplexity",
}  # fmt: skip
RECONSTRUCTION = "AUC of the reconstruction error"
CLASSES = ("top-1", "top-5", "accuracy", "pixel accuracy", "mean IoU")  # shares of right classes
LOWER = (  # lower values are better
    "mean squared error", "perplexity", *(shown for shown in METRICS.values() if shown.startswith("word error rate")),
)  # fmt: skip
RELATIVE = ("perplexity",)  # a loss is a share of the value
TOP = 5
TEXT = "OSU"  # kinds of dtype
PART = 1 << 22  # values that are computed with at once


def metric(text: str) -> Metric:
    """The metric of this name, or the user's function FILE.py:NAME. FlowError for any other text."""
    if text in METRICS:
        return text
    if ":" not in text:
        raise FlowError(
            f"a metric is one of {', '.join(METRICS)}, or FILE.py:FUNCTION, but it is '{text}'; change --metric"
        )
    return UserFunction.of(text, "--metric")


def shown(name: str | None, value: float | None) -> str:
    """A metric's value as it is printed: shares in percent."""
    if value is None:
        return "none"
    if name in CLASSES or (name or "").startswith("word error rate"):
        return f"{100 * value:.2f} %"
    return f"{value:.4g}" if name not in (*METRICS.values(), RECONSTRUCTION) or name in LOWER else f"{value:.4f}"


# -------------------------------------------------------------------------------- numbers


def top(scores: NDArray[Any], labels: NDArray[Any], count: int = TOP) -> float:
    """Share of samples [samples, classes] whose label is among the `count` largest scores; the first of equal ones."""
    best = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :count]
    return float((best == labels.reshape(-1, 1)).any(axis=1).mean())


def cosine(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Cosine of the angle between answer and label, over all values of a sample; the mean over the samples.

    It is 0 where one of them is zero.
    """
    first, second = (array.reshape(len(array), -1).astype(np.float64) for array in (got, wanted))
    sizes = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / np.where(sizes > 0, sizes, 1)).mean())


def ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """The ranks of values [count], from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: NDArray[np.float64] = (last - (counts - 1) / 2)[places.reshape(-1)]
    return means


def spearman(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Correlation of the ranks of [samples, values], the mean over the values; NaN where one side is constant."""
    found = []
    for first, second in zip(got.reshape(len(got), -1).T, wanted.reshape(len(wanted), -1).T, strict=True):
        pair = [ranks(values) - (len(values) + 1) / 2 for values in (first, second)]
        spread = float(np.sqrt((pair[0] ** 2).sum() * (pair[1] ** 2).sum()))
        found.append(float((pair[0] * pair[1]).sum()) / spread if spread > 0 else float("nan"))
    return float(np.mean(found))


def auc(scores: NDArray[Any], positive: NDArray[Any]) -> float:
    """Area under the ROC curve of scores [samples]: how often a positive sample has the larger score of two.

    Equal scores count half. NaN without samples of both kinds.
    """
    positive = positive.astype(bool)
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return float("nan")
    return (float(ranks(scores)[positive].sum()) - ones * (ones + 1) / 2) / (ones * zeros)


def auc_of_classes(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """The AUC of [samples, classes]: of two classes that of class 1; of more, each against the rest, the mean.

    Classes without a sample are left out.
    """
    real = scores.astype(np.float64)
    if real.shape[1] == 2:
        return auc(real[:, 1] - real[:, 0], labels == 1)
    return float(np.mean([auc(real[:, each], labels == each) for each in np.unique(labels)]))


def edits(wanted: Sequence[Any], got: Sequence[Any]) -> int:
    """The Levenshtein distance of two sequences: the fewest tokens inserted, left out and replaced."""
    row = list(range(len(got) + 1))
    for number, token in enumerate(wanted, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(got, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (token != other))
    return row[-1]


def word_error_rate(got: Sequence[Sequence[Any]], wanted: Sequence[Sequence[Any]]) -> float:
    """Edits over all tokens of the labels, of all samples together; NaN if the labels are empty."""
    tokens = sum(map(len, wanted))
    return sum(map(edits, wanted, got)) / tokens if tokens else float("nan")


def as_text(array: NDArray[Any]) -> NDArray[np.str_]:
    """An array of text, of whatever kind, as str."""
    decoded: NDArray[np.str_] = (
        np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array.astype(str)
    )
    return decoded


def tokens(array: NDArray[Any]) -> list[list[Any]]:
    """The tokens of every sample: numbers [samples, length] without negative ones (padding), or the words of texts."""
    if array.dtype.kind in TEXT:
        return [" ".join(map(str, each)).split() for each in as_text(array).reshape(len(array), -1).tolist()]
    return [[int(token) for token in each if token >= 0] for each in array.reshape(len(array), -1).tolist()]


def greedy(scores: NDArray[Any], blank: int) -> list[list[int]]:
    """Greedy CTC decoding of [samples, steps, classes]: the best class of every step, once in a row, without blanks."""
    found = []
    for each in scores.argmax(axis=2):
        starts = np.concatenate([[True], each[1:] != each[:-1]])
        found.append([int(token) for token in each[starts] if token != blank])
    return found


def perplexity(outputs: NDArray[Any], labels: NDArray[Any], probabilities: bool = False) -> float:
    """The exponential of the mean cross-entropy, in nats, of tokens [...] under outputs [..., vocabulary].

    Outputs are logits or logarithms of probabilities, or the `probabilities`. Labels below 0 do not count; NaN without
    others.
    """
    real, tokens = outputs.reshape(-1, outputs.shape[-1]), labels.reshape(-1)
    counted = np.flatnonzero(tokens >= 0)
    if not counted.size:
        return float("nan")
    total = 0.0
    for part in np.array_split(counted, -(-counted.size * real.shape[1] // PART)):
        logs = real[part].astype(np.float64)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            logs = np.log(np.maximum(logs, 0)) if probabilities else logs
            logs -= logs.max(axis=1, keepdims=True)
            total += float((np.log(np.exp(logs).sum(axis=1)) - logs[np.arange(len(part)), tokens[part]]).sum())
    with np.errstate(over="ignore"):
        return float(np.exp(total / counted.size))


def worse(name: str | None, before: float, after: float, lower: bool) -> float:
    """How much worse a value of a metric is, in the metric's unit; a share of what it was for those of RELATIVE."""
    lost = after - before if lower else before - after
    return lost / abs(before) if name in RELATIVE and before else lost


# -------------------------------------------------------------------------------- the user's own


@dataclass(frozen=True)
class OwnMetric:
    """What the user's function says of a form of the network: a number, and whether lower ones are better."""

    value: float
    lower: bool


def call(function: UserFunction, outputs: dict[str, NDArray[Any]], labels: Any) -> OwnMetric:
    """The user's metric of outputs by name [samples, ...] and labels.

    FlowError if it fails, or returns neither a number nor (number, "lower" or "higher").
    """
    found = function({name: array.copy() for name, array in outputs.items()}, labels)
    value, better = found if isinstance(found, tuple) and len(found) == 2 else (found, "higher")
    number = _number(value)
    if not np.isfinite(number) or better not in ("lower", "higher"):
        raise FlowError(
            f"a metric returns a number, or a number and 'lower' or 'higher', but '{function.name}' of "
            f"'{function.file}' returns {_described(found)}; mend it"
        )
    return OwnMetric(number, better == "lower")


def _number(value: Any) -> float:
    """A single number, also in an array or tensor of one element; NaN for anything else."""
    try:
        return float(value.item() if hasattr(value, "item") else "" if isinstance(value, (str, bytes)) else value)
    except Exception:  # of any object's own conversion
        return float("nan")


def _described(value: Any) -> str:
    words = " ".join(repr(value).split())
    return f"{words[:80]} ({type(value).__name__})"


Rule = Callable[[NDArray[Any], NDArray[Any]], float]  # of outputs and labels [samples, ...] each
