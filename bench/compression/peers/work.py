"""What all workers share: a task from the command line, a network with rounded weights as its answer.

    PYTHON -m bench.compression.peers.PACKAGE TECHNIQUE BITS FLOAT.onnx SAMPLES.npz ROUNDED.onnx

The last line that it prints is {"seconds": of the processor}. Without arguments it prints the package's version. The
answer is the float network with other weights and biases, or a quantized network (QDQ). Runs in the package's
environment, of which NumPy and ONNX are used here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

BATCH = 40

Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Task:
    """A float network, BatchNorm folded, whose weights are to have `bits` bits; `feeds` [samples, ...] by input."""

    model: onnx.ModelProto
    bits: int
    feeds: Feeds

    @property
    def batches(self) -> list[Feeds]:
        """The samples, BATCH at a time; the last ones are left out if they are fewer."""
        count = len(next(iter(self.feeds.values())))
        size = min(BATCH, count)
        starts = range(0, count - size + 1, size)
        return [{name: array[start : start + size] for name, array in self.feeds.items()} for start in starts]


Technique = Callable[[Task], onnx.ModelProto]


def work(package: str, techniques: Mapping[str, Technique]) -> None:
    """Do the task of the command line by one of the package's techniques."""
    if not sys.argv[1:]:
        print(f"{package}-{version(package)}")
        return
    technique, bits, model, samples, rounded = sys.argv[1:]
    with np.load(samples) as arrays:
        task = Task(onnx.load(model), int(bits), dict(arrays))
    begin = time.process_time()
    result = techniques[technique](task)
    seconds = time.process_time() - begin
    onnx.save(result, rounded)
    print(json.dumps({"seconds": seconds}))


def constant_inputs(model: onnx.ModelProto) -> Iterable[tuple[onnx.NodeProto, onnx.TensorProto]]:
    """Every Conv, Gemm and MatMul with constant weights, and these."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants:
            yield node, constants[node.input[1]]
