"""Activation ranges of a float network on the calibration samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from flow.network.samples import Arrays
from flow.onnxtools import runtime
from flow.onnxtools.edit import unused_name


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
    step = runtime.batch_size(session)
    for start in range(0, len(next(iter(feeds.values()))), step):
        found = runtime.run(session, {name: array[start : start + step] for name, array in feeds.items()})
        for tensor, low, high in zip(wanted, names[::2], names[1::2], strict=True):
            part = Range(np.float32(found[low]), np.float32(found[high]))
            if part.low > part.high:  # an empty tensor: the neutral elements of minimum and maximum
                continue
            ranges[tensor] = ranges[tensor].joined(part) if tensor in ranges else part
    return ranges


def _reduced(model: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    """The network with the least and the largest value of each tensor as its only outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    for tensor in tensors:
        for operator in ("ReduceMin", "ReduceMax"):
            name = unused_name(copy, f"{tensor}_{operator}")
            copy.graph.node.append(helper.make_node(operator, [tensor], [name], name, keepdims=0))
            copy.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []))
    return copy
