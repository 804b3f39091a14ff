"""Activation ranges of a float network on the calibration samples, by four methods.

min-max covers every value; the others leave out values that are rare, so that the steps between codes are finer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from flow.network.samples import Arrays
from flow.onnxtools import runtime
from flow.onnxtools.edit import Editor
from flow.programs import in_turns

MINMAX = "minmax"
METHODS = (MINMAX, "percentile", "entropy", "mse")
BINS = 2048
LEVELS = 256  # codes of a range
PERCENTILE = 0.9999  # share of the values, zeros aside, that lie above the lower and below the upper end
SHRINKS = np.linspace(1.0, 0.04, 49)  # shares of the full range that are tried
COUNTED = 64  # samples in a histogram, at most
BATCH = 8  # samples in a run, beside others

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Range:
    """The least and the largest value of a tensor."""

    low: np.float32
    high: np.float32

    @staticmethod
    def of(array: NDArray[np.float32]) -> Range:
        return Range(np.float32(array.min()), np.float32(array.max()))

    def joined(self, other: Range) -> Range:
        """The range of both; NaN stays NaN."""
        return Range(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


def measure(model: onnx.ModelProto, tensors: Iterable[str], feeds: Arrays) -> dict[str, Range]:
    """The range of each of these float tensors over all samples; tensors that are always empty are left out.

    ONNX Runtime computes minima and maxima as part of the network, so that no tensor has to be kept in memory.
    """
    ranges = {name: Range.of(array) for name, array in feeds.items() if name in set(tensors) and array.size}
    outputs = _reduced(model, wanted := [name for name in tensors if name not in feeds])
    session = runtime.session(outputs)
    names = [entry.name for entry in session.get_outputs()]
    step = runtime.batch_size(session, BATCH)

    def run(start: int) -> runtime.Tensors:
        return runtime.run(session, {name: array[start : start + step] for name, array in feeds.items()})

    for found in in_turns(run, range(0, len(next(iter(feeds.values()))), step)):
        for tensor, low, high in zip(wanted, names[::2], names[1::2], strict=True):
            part = Range(np.float32(found[low]), np.float32(found[high]))
            if part.low > part.high:  # an empty tensor: the neutral elements of minimum and maximum
                continue
            ranges[tensor] = ranges[tensor].joined(part) if tensor in ranges else part
    return ranges


def _reduced(model: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    """The network with the least and the largest value of each tensor as its only outputs.

    They are computed as soon as the tensor is: no tensor is kept for longer than the network needs it.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    editor = Editor(copy)
    ends: dict[str, list[onnx.NodeProto]] = {}
    for tensor in tensors:
        for operator in ("ReduceMin", "ReduceMax"):
            name = editor.name(f"{tensor}_{operator}")
            ends.setdefault(tensor, []).append(helper.make_node(operator, [tensor], [name], name, keepdims=0))
            copy.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []))
    del copy.graph.node[:]
    for node in model.graph.node:
        copy.graph.node.append(node)
        for name in node.output:
            copy.graph.node.extend(ends.pop(name, ()))
    for rest in ends.values():  # of constants
        copy.graph.node.extend(rest)
    return copy


# -------------------------------------------------------------------------------- histograms


def histograms(model: onnx.ModelProto, ranges: Mapping[str, Range], feeds: Arrays) -> dict[str, Counts]:
    """How many values of each tensor lie in each of `BINS` equal parts of its range, zeros aside; int64 [BINS].

    One sample at a time, and `COUNTED` at most, spread over all.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ranges if name not in feeds)
    session = runtime.session(copy)
    counts = {name: np.zeros(BINS, np.int64) for name in ranges}

    def count(number: int) -> dict[str, Counts]:
        one = {name: array[number : number + 1] for name, array in feeds.items()}
        values = one | runtime.run(session, one)
        found = {}
        for name, whole in ranges.items():
            if whole.high > whole.low:
                there = values[name][values[name] != 0].astype(np.float64)  # float32 has no ends of so many narrow bins
                found[name] = np.histogram(there, BINS, (float(whole.low), float(whole.high)))[0]
        return found

    for counted in in_turns(count, spread(len(next(iter(feeds.values()))), COUNTED)):
        for name, more in counted.items():
            counts[name] += more
    return counts


def spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers 0 to count - 1, at equal distances."""
    return [int(number) for number in np.unique(np.linspace(0, count - 1, min(count, most)).round())]


def narrowed(method: str, found: Range, counts: Counts) -> Range:
    """The range by one of `METHODS`, from the full range of a tensor and its histogram."""
    low, high = float(found.low), float(found.high)
    if method == MINMAX or not counts.any() or not np.isfinite([low, high]).all():
        return found
    ends = low + (high - low) / BINS * np.arange(BINS + 1)
    if method == "percentile":
        share = np.cumsum(counts) / counts.sum()
        first, last = np.searchsorted(share, 1 - PERCENTILE), np.searchsorted(share, PERCENTILE)
        return Range(np.float32(ends[first]), np.float32(ends[min(int(last) + 1, BINS)]))
    loss = _squared_error if method == "mse" else _divergence
    centres = (ends[1:] + ends[:-1]) / 2
    tried = [(low * a, high * b) for s in SHRINKS for a, b in ((s, s), (1, s), (s, 1)) if low < 0 < high or a == b]
    best = min(tried, key=lambda pair: loss(counts, centres, min(pair[0], 0.0), max(pair[1], 0.0)))
    return Range(np.float32(best[0]), np.float32(best[1]))


def _squared_error(counts: Counts, centres: NDArray[np.float64], low: float, high: float) -> float:
    """The squared error of 8-bit codes over a range: of values beyond it, and of rounding to the steps within."""
    beyond = np.maximum(low - centres, 0) + np.maximum(centres - high, 0)
    step = (high - low) / (LEVELS - 1)
    return float(counts @ np.where(beyond > 0, (beyond + step / 2) ** 2, step**2 / 12))


def _divergence(counts: Counts, centres: NDArray[np.float64], low: float, high: float) -> float:
    """The Kullback-Leibler divergence of the values from what 8-bit codes over a range make of them.

    Values beyond the range count as its ends; what falls to one code is spread over its non-empty bins (Migacz, "8-bit
    inference with TensorRT", GTC 2017).
    """
    inside = (centres >= low) & (centres <= high)
    if np.count_nonzero(inside) < 2:
        return np.inf
    first, last = np.flatnonzero(inside)[[0, -1]]
    kept = counts[first : last + 1].astype(np.float64)
    clipped = kept.copy()
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last + 1 :].sum()
    code = np.minimum((centres[first : last + 1] - low) / (high - low) * LEVELS, LEVELS - 1).astype(np.int64)
    filled = kept > 0
    sums, bins = np.bincount(code, kept, LEVELS), np.bincount(code, filled, LEVELS)
    coded = np.where(filled, (sums / np.maximum(bins, 1))[code], 0)
    p, q = clipped / clipped.sum(), coded / max(coded.sum(), 1)
    there = p > 0
    return float((p[there] * np.log(p[there] / np.maximum(q[there], 1e-9))).sum())
