"""NNCF on ONNX: post-training quantization to 8 bits as it comes, but with all 8 bits of the weights.

Its answer is a whole quantized network, with activations of its own.
"""

from __future__ import annotations

import nncf
import onnx

from bench.compression.peers.work import Task, work


def quantized(task: Task) -> onnx.ModelProto:
    samples = len(next(iter(task.feeds.values())))
    singles = [{name: array[n : n + 1] for name, array in task.feeds.items()} for n in range(samples)]
    result: onnx.ModelProto = nncf.quantize(
        task.model, nncf.Dataset(singles), subset_size=samples,
        advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.DISABLE),
    )  # fmt: skip
    return result


if __name__ == "__main__":
    work("nncf", {"ptq": quantized})
