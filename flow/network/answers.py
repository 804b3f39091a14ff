"""Distance between two networks' answers: class scores before the Softmax, or any other output."""

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
    """The first output of a network, float64 [samples, values]; `scores`: the values are class scores."""

    values: NDArray[np.float64]
    scores: bool


def answers(
    model: onnx.ModelProto, feeds: Arrays, scores: bool = False, outputs: NDArray[Any] | None = None
) -> Answers:
    """The network's answers; a Softmax at its end, quantized or not, is left out.

    A network that ends in a Softmax has class scores as answers; `scores` says that another network has, too.
    `outputs` is the network's first output, if it was computed already.
    """
    bare, softmax = _without_softmax(model)
    values = outputs if outputs is not None and not softmax else runtime.predict(bare, feeds)
    return Answers(values.reshape(len(values), -1).astype(np.float64), softmax or scores)


def divergence(wanted: Answers, got: Answers) -> float:
    """Mean Kullback-Leibler divergence from `wanted` to `got`, in nats, of class scores; of other answers, the mean
    squared error over the variance of `wanted`."""
    apart = wanted.values != got.values  # equal infinities (a mask) do not count as different
    if not wanted.scores or wanted.values.shape[1] < 2:
        noise = float(((wanted.values[apart] - got.values[apart]) ** 2).sum() / max(apart.size, 1))
        finite = wanted.values[np.isfinite(wanted.values)]
        return _bounded(noise / max(float(finite.var()) if finite.size else 0.0, 1e-30))
    p, q = _log_softmax(wanted.values), _log_softmax(got.values)
    distance = np.subtract(p, q, out=np.zeros_like(p), where=p > -np.inf)
    return _bounded(float((np.exp(p) * distance).sum(axis=1).mean()))


def _bounded(value: float) -> float:
    """FARTHEST in place of infinity, NaN and larger values, so that distances can be compared, printed and stored."""
    return min(value, FARTHEST) if value == value else FARTHEST


def agreement(wanted: Answers, got: Answers) -> float:
    """Share of samples with the same largest score."""
    return float((wanted.values.argmax(axis=1) == got.values.argmax(axis=1)).mean())


def _log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # NaN if all values are minus infinity
        shifted = values - values.max(axis=1, keepdims=True)
    logs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def _without_softmax(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """The model without the Softmax at its first output and the nodes behind it; whether there was one."""
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
    drop_unused_nodes(copy)  # other readers of the removed tensors
    return copy
