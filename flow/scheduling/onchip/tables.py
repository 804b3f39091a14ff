"""Element-wise functions of one 8-bit tensor as tables of 256 bytes, made by ONNX Runtime.

A subgraph is such a function if all its nodes are element-wise and all it reads beside the tensor are constants of one
value. Its table is what ONNX Runtime, which judges the hardware, answers for every code; so no rounding can differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.network.model import Quantization, as_int8, as_uint8
from flow.onnxtools import edit, runtime
from flow.onnxtools.graph import Graph
from flow.scheduling.onchip.maps import Held, OffChipError

CODES = 256


def table_of(graph: Graph, held: Held, output: str, quantization: Quantization) -> bytes:
    """What the tensor `output` is for each byte u = code + 128 of the map `held`: byte u of the table, code + 128, too.

    Every code is at two places at least. `OffChipError` if the answer depends on the place.
    """
    found = np.full(CODES, -1, np.int64)
    for given, made in _answers(model_of(graph, held, _value(output, quantization, None)), held, output):
        found[given] = as_uint8(quantization.to_int8(made))
    return found.astype(np.uint8).tobytes()


def values_of(
    graph: Graph, held: Held, output: str, kind: int = onnx.TensorProto.FLOAT
) -> tuple[NDArray[np.float64], int]:
    """What the tensor `output` is for each byte of the map `held`, float64 [256], and how many nodes make it."""
    model = model_of(graph, held, onnx.helper.make_tensor_value_info(output, kind, None))
    found = np.zeros(CODES)
    for given, made in _answers(model, held, output):
        found[given] = made
    return found, len(model.graph.node)


def model_of(graph: Graph, held: Held, output: onnx.ValueInfoProto) -> onnx.ModelProto:
    """The nodes that make `output` of the 8-bit tensor of a map."""
    return edit.between(graph, [_value(held.name, held.quantization, [1, *held.axes])], output)


def _answers(model: onnx.ModelProto, held: Held, output: str) -> Iterator[tuple[NDArray[np.uint8], NDArray[Any]]]:
    """ONNX Runtime's answers for bytes of the map, all of them and each at two places at least: (bytes, answers)."""
    session, count = runtime.session(model), int(np.prod(held.axes, dtype=np.int64))
    known: dict[int, Any] = {}
    for first in range(0, CODES, count):
        for places in (np.arange(first, first + count), np.arange(first + count - 1, first - 1, -1)):
            given = (places % CODES).astype(np.uint8)
            codes = held.quantization.from_int8(as_int8(given).reshape(1, *held.axes))
            made = runtime.run(session, {held.name: codes})[output].reshape(-1)
            if any(known.setdefault(byte, value) != value for byte, value in zip(given.tolist(), made, strict=True)):
                raise OffChipError(f"'{output}' is not the same function of '{held.name}' at every place")
            yield given, made
    assert len(known) == CODES


def _value(name: str, quantization: Quantization, shape: list[int] | None) -> onnx.ValueInfoProto:
    kind = onnx.TensorProto.UINT8 if quantization.unsigned else onnx.TensorProto.INT8
    return onnx.helper.make_tensor_value_info(name, kind, shape)
