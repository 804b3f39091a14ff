"""How far two networks' answers are apart: on class scores before the Softmax, or on any other output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.network.samples import Arrays
from flow.onnxtools import runtime
from flow.onnxtools.edit import drop_unused_nodes, replace_nodes
from flow.onnxtools.graph import Graph

FARTHEST = 1e30
PASSED_THROUGH = ("QuantizeLinear", "DequantizeLinear", "Identity", "Softmax", "LogSoftmax")


@dataclass(frozen=True)
class Answers:
    """First outputs of a network: float64 [samples, values]; `scores`: they are class scores."""

    values: NDArray[np.float64]
    scores: bool


def answers(
    model: onnx.ModelProto, feeds: Arrays, scores: bool = False, outputs: NDArray[Any] | None = None
) -> Answers:
    """The network's answers; a Softmax at its end, quantized or not, is left out.

    Networks that end in a Softmax give class scores; `scores` says that others do, too. `outputs` are the network's
    first outputs, if they are known.
    """
    bare, softmax = _without_softmax(model)
    values = outputs if outputs is not None and not softmax else runtime.predict(bare, feeds)
    return Answers(values.reshape(len(values), -1).astype(np.float64), softmax or scores)


def divergence(wanted: Answers, got: Answers) -> float:
    """Mean Kullback-Leibler divergence from wanted to got, in nats; where they are no class scores, the squared
    error over the variance of what is wanted."""
    apart = wanted.values != got.values  # equal infinities (a mask) are not
    if not wanted.scores or wanted.values.shape[1] < 2:
        noise = float(((wanted.values[apart] - got.values[apart]) ** 2).sum() / max(apart.size, 1))
        finite = wanted.values[np.isfinite(wanted.values)]
        return _bounded(noise / max(float(finite.var()) if finite.size else 0.0, 1e-30))
    p, q = _log_softmax(wanted.values), _log_softmax(got.values)
    distance = np.subtract(p, q, out=np.zeros_like(p), where=p > -np.inf)
    return _bounded(float((np.exp(p) * distance).sum(axis=1).mean()))


def _bounded(value: float) -> float:
    """Infinitely far, or no number at all, is very far: it can be compared, printed and stored."""
    return min(value, FARTHEST) if value == value else FARTHEST


def agreement(wanted: Answers, got: Answers) -> float:
    """Share of samples with the same largest score."""
    return float((wanted.values.argmax(axis=1) == got.values.argmax(axis=1)).mean())


def _log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # of nothing but minus infinity: no number
        shifted = values - values.max(axis=1, keepdims=True)
    logs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def _without_softmax(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """The model with the Softmax of its first output, and what follows it, cut off; whether there was one."""
    graph = Graph.of(model)
    removed: list[onnx.NodeProto] = []
    name = model.graph.output[0].name
    while (node := graph.producer(name)) is not None and node.op_type in PASSED_THROUGH:
        removed.append(node)
        name = node.input[0]
        if node.op_type.endswith("Softmax"):
            return _ending(model, removed, name), True
    return model, False


def _ending(model: onnx.ModelProto, removed: Sequence[onnx.NodeProto], output: str) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    replace_nodes(copy, [node for node in copy.graph.node if node not in removed])
    del copy.graph.output[:]
    copy.graph.output.append(onnx.ValueInfoProto(name=output))
    drop_unused_nodes(copy)  # what else read the scores
    return copy
