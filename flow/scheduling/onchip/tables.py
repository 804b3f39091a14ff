"""Element-wise functions of one 8-bit tensor as tables of 256 bytes, made by ONNX Runtime.

A subgraph is such a function if all its nodes are element-wise and all it reads beside the tensor are constants of one
value. Its table is what ONNX Runtime, which judges the hardware, answers for every code; so no rounding can differ.
"""

from __future__ import annotations

import numpy as np
import onnx

from flow.network.model import Quantization, as_int8, as_uint8
from flow.onnxtools import edit, runtime
from flow.onnxtools.graph import Graph
from flow.scheduling.onchip.maps import Held, OffChipError

CODES = 256


def table_of(graph: Graph, held: Held, output: str, quantization: Quantization) -> bytes:
    """What the tensor `output` is for each byte u = code + 128 of the map `held`: byte u of the table, code + 128, too.

    Every code is at two places at least. `OffChipError` if the answer depends on the place.
    """
    model = edit.between(
        graph, [_value(held.tensor, held.quantization, [1, *held.axes])], _value(output, quantization, None)
    )
    session, count = runtime.session(model), int(np.prod(held.axes, dtype=np.int64))
    found = np.full(CODES, -1, np.int64)
    for first in range(0, CODES, count):
        for places in (np.arange(first, first + count), np.arange(first + count - 1, first - 1, -1)):
            given = (places % CODES).astype(np.uint8)
            codes = held.quantization.from_int8(as_int8(given).reshape(1, *held.axes))
            made = as_uint8(quantization.to_int8(runtime.run(session, {held.tensor: codes})[output])).reshape(-1)
            known = found[given]
            found[given] = np.where(known < 0, made, known)
            if (found[given] != made).any():
                raise OffChipError(f"'{output}' is not the same function of '{held.tensor}' at every place")
    assert (found >= 0).all()
    return found.astype(np.uint8).tobytes()


def _value(name: str, quantization: Quantization, shape: list[int] | None) -> onnx.ValueInfoProto:
    kind = onnx.TensorProto.UINT8 if quantization.unsigned else onnx.TensorProto.INT8
    return onnx.helper.make_tensor_value_info(name, kind, shape)
