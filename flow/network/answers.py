"""Distance between two networks' answers: class scores before the Softmax, or any other output."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.network.samples import Arrays
from flow.onnxtools import runtime
from flow.onnxtools.edit import drop_unused_nodes
from flow.onnxtools.graph import Graph, opset

FARTHEST = 1e30
PART = 1 << 22  # scores that are computed with at once
PASSED_THROUGH = ("QuantizeLinear", "DequantizeLinear", "Identity", "Softmax", "LogSoftmax")


@dataclass(frozen=True)
class Answers:
    """One output of a network, float64 [samples, values]; `scores`: the values are class scores.

    `whole`: they are whole numbers or text, such as labels. `shape` [samples, ...] is the output's, with the classes
    along `axis`; without it, all values of a sample are classes.
    """

    values: NDArray[np.float64]
    scores: bool
    whole: bool = False
    shape: tuple[int, ...] = ()
    axis: int = 1

    @classmethod
    def of(cls, outputs: NDArray[Any], scores: bool, axis: int = 1) -> Answers:
        """The answers in an output [samples, ...]; equal texts have equal numbers."""
        numbers = outputs if outputs.dtype.kind in "biuf" else _numbers(outputs)
        values = numbers.reshape(len(numbers), -1).astype(np.float64)
        shape, axis = numbers.shape, axis % max(numbers.ndim, 1)
        spread = axis > 0 and shape[axis] < values.shape[1] and max(shape[1:]) < values.shape[1]
        return cls(values, scores, numbers.dtype.kind != "f", shape if spread else (), axis if spread else 1)

    @property
    def chosen(self) -> NDArray[Any] | None:
        """The classes of largest score, or the values where they are labels; None where there are no classes."""
        if self.whole:
            return self.values
        shape = self.shape or self.values.shape
        return self.values.reshape(shape).argmax(axis=self.axis) if self.scores and shape[self.axis] > 1 else None


def answers(
    model: onnx.ModelProto, feeds: Arrays, scores: Mapping[str, int] | None = None, outputs: Arrays | None = None
) -> dict[str, Answers]:
    """The network's answers by output; a Softmax at an output, quantized or not, is left out.

    An output that ends in a Softmax has class scores as answers; `scores` has others that have, too, with the axis of
    the classes. `outputs` are the network's outputs, if they were computed already. An output that is no tensor, or
    whose shape depends on the sample, is left out; FlowError if none remains.
    """
    bare, tensors = without_softmax(model)
    found = outputs if outputs is not None and bare is model else runtime.predict_all(bare, feeds)
    if not found:
        runtime.predict(bare, feeds)  # raises what is wrong with the first
    return named([value.name for value in model.graph.output], tensors, found, scores or {})


def named(
    outputs: Sequence[str], tensors: Sequence[tuple[str, int]], found: Arrays, scores: Mapping[str, int]
) -> dict[str, Answers]:
    """The answers by output of the network; `tensors` are those of `without_softmax`, `found` their values."""
    return {
        name: Answers.of(
            found[tensor], tensor != name or name in scores, scores.get(name, 1) if tensor == name else axis
        )
        for name, (tensor, axis) in zip(outputs, tensors, strict=True)
        if tensor in found
    }


def class_scores(model: onnx.ModelProto, feeds: Arrays) -> Answers:
    """The first output of a classifier, before its Softmax if it has one."""
    first = model.graph.output[0].name
    return answers(model, feeds, {first: 1})[first]


def shares(found: Mapping[str, Answers], given: Mapping[str, float]) -> dict[str, float]:
    """The weight of every output in the distance between answers: as given, or else 1.

    Outputs of whole numbers follow from others, and have no weight beside these unless it is given.
    """
    real = any(not each.whole for each in found.values())
    return {name: given.get(name, 0.0 if each.whole and real else 1.0) for name, each in found.items()}


def distance(wanted: Mapping[str, Answers], got: Mapping[str, Answers], given: Mapping[str, float]) -> float:
    """The weighted sum of the outputs' divergences, whatever their order. `given`: weights by output, else 1."""
    weights = shares(wanted, given)
    return _bounded(
        math.fsum(weight * divergence(wanted[name], got[name]) for name, weight in weights.items() if name in got)
    )


def divergence(wanted: Answers, got: Answers) -> float:
    """Mean Kullback-Leibler divergence from `wanted` to `got`, in nats, of class scores, over samples and positions;
    of other answers, the mean squared error over the variance of `wanted`."""
    if not wanted.scores or wanted.values.shape[1] < 2:
        apart = wanted.values != got.values  # equal infinities (a mask) do not count as different
        noise = float(((wanted.values[apart] - got.values[apart]) ** 2).sum() / max(apart.size, 1))
        return _bounded(noise / max(_signal(wanted.values), 1e-30))
    shape, axis = wanted.shape or wanted.values.shape, wanted.axis
    total, step = 0.0, max(PART // max(wanted.values.shape[1], 1), 1)
    for start in range(0, len(wanted.values), step):
        rows = slice(start, start + step)
        p, q = (_log_softmax(each.values[rows].reshape(-1, *shape[1:]), axis) for each in (wanted, got))
        distance = np.subtract(p, q, out=np.zeros_like(p), where=p > -np.inf)
        total += float((np.exp(p) * distance).sum())
    return _bounded(total * shape[axis] / max(wanted.values.size, 1))


def _signal(values: NDArray[np.float64]) -> float:
    """The variance of the finite values; of a constant its square, as it has no variance to compare with."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0
    variance, square = float(finite.var()), float((finite**2).mean())
    return square if variance < 1e-12 * square else variance


def _bounded(value: float) -> float:
    """FARTHEST in place of infinity, NaN and larger values, so that distances can be compared, printed and stored."""
    return min(value, FARTHEST) if value == value else FARTHEST


def agreement(wanted: Answers, got: Answers) -> float | None:
    """Share of samples (or positions of a map) with the same class or label; None where there are no classes."""
    first, second = wanted.chosen, got.chosen
    return None if first is None or second is None else float((first == second).mean())


def _log_softmax(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # NaN if all values are minus infinity
        shifted = values - values.max(axis=axis, keepdims=True)
    logs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return logs


def _numbers(texts: NDArray[Any]) -> NDArray[np.int64]:
    """A number for every text, which depends on the text alone."""
    words, places = np.unique(texts.astype(str), return_inverse=True)
    codes = np.array([zlib.crc32(word.encode()) for word in words.tolist()], np.int64)
    return codes[places].reshape(texts.shape)


def without_softmax(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[tuple[str, int]]]:
    """The model without the Softmax at its outputs and what is behind it; each output's new tensor and class axis."""
    graph = Graph.of(model)
    tensors = [_before_softmax(graph, value.name, -1 if opset(model) >= 13 else 1) for value in model.graph.output]
    if all(tensor == value.name for (tensor, _), value in zip(tensors, model.graph.output, strict=True)):
        return model, tensors
    return _ending(model, [tensor for tensor, _ in tensors]), tensors


def _before_softmax(graph: Graph, output: str, usual: int) -> tuple[str, int]:
    """The input and axis of the Softmax that an output ends in; the output itself, and axis 1, without one.

    `usual` is the axis of a Softmax that names none.
    """
    name = output
    while (node := graph.producer(name)) is not None and node.op_type in PASSED_THROUGH:
        name = node.input[0]
        if node.op_type.endswith("Softmax"):
            return name, next((entry.i for entry in node.attribute if entry.name == "axis"), usual)
    return output, 1


def _ending(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name: value for value in model.graph.output}
    del copy.graph.output[:]
    copy.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in dict.fromkeys(tensors))
    drop_unused_nodes(copy)  # the Softmax, and other readers of its results
    return copy
