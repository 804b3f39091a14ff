"""ONNX Runtime's own static quantization: weights per channel, rounded to the nearest; ranges of activations as set.

Its answer is a whole quantized network, with activations of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from bench.compression.peers.work import Feeds, Task, work


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """The batches, one after the other."""

    def __init__(self, batches: list[Feeds]) -> None:
        self.left: Iterator[Feeds] = iter(batches)

    def get_next(self) -> Feeds | None:
        return next(self.left, None)


def static(task: Task, method: CalibrationMethod) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "quantized.onnx"
        quantize_static(
            task.model, result, Reader(task.batches), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QInt8, weight_type={8: QuantType.QInt8, 4: QuantType.QInt4}[task.bits],
            calibrate_method=method,
        )  # fmt: skip
        return onnx.load(result)


TECHNIQUES = {
    "minmax": lambda task: static(task, CalibrationMethod.MinMax),
    "percentile": lambda task: static(task, CalibrationMethod.Percentile),
}

if __name__ == "__main__":
    work("onnxruntime", TECHNIQUES)
