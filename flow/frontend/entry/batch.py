"""Networks that cannot take several samples at a time: their batch is fixed to one sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.frontend.entry.fold import RANDOM
from flow.frontend.entry.intake import EQUAL, forget_shapes
from flow.network.samples import random
from flow.onnxtools import runtime
from flow.onnxtools.graph import graph_inputs, subgraphs


def fix_batch(model: onnx.ModelProto) -> str | None:
    """Fix an open batch to one sample if the network does not compute the samples of a batch one by one, in place.

    Attention, sums and recurrences over axis 0 mix what the flow takes for samples, and a constant shape may have room
    for one sample only. Made-up samples tell; an input whose batch is fixed to 1 tells without. Returns the reason, in
    words, if the file does not have it.
    """
    inputs = graph_inputs(model)
    sizes = [_size(value) for value in inputs]
    if all(sizes) or any(size > 1 for size in sizes):
        return None
    alone = any(sizes)
    why = None if alone or _draws(model.graph) else _why_alone(model)
    if not alone and why is None:
        return None
    for value in inputs:
        for dim in value.type.tensor_type.shape.dim[:1]:
            dim.dim_value = 1
    forget_shapes(model)
    return why


def _size(value: onnx.ValueInfoProto) -> int:
    """The batch of an input: 0 if it is open; an input without axes is as one of a batch of 1."""
    dims = value.type.tensor_type.shape.dim
    return max(dims[0].dim_value, 0) if dims else 1


def _draws(graph: onnx.GraphProto) -> bool:
    """Whether a graph draws random numbers: then no two runs are alike."""
    return any(node.op_type in RANDOM or any(map(_draws, subgraphs(node))) for node in graph.node)


def _why_alone(model: onnx.ModelProto) -> str | None:
    made = random(model, 2)
    try:
        session = runtime.session(model)
        alone = [runtime.run(session, made.one(number)) for number in range(2)]
    except FlowError:
        return None  # it does not run on made-up samples
    try:
        both = runtime.run(session, made.feeds)
    except FlowError:
        return "it does not run with more"
    for name, together in both.items():
        apart = [each[name] for each in alone]
        if all(isinstance(each, np.ndarray) for each in (together, *apart)) and not _alike(together, apart):
            return f"in a batch, other samples change output '{name}'"
    return None


def _alike(together: NDArray[Any], apart: list[NDArray[Any]]) -> bool:
    """Whether an output of two samples is what each gives alone, along some axis, or does not depend on the samples."""
    first, second = apart
    if first.ndim != together.ndim or first.ndim != second.ndim:
        return False
    axes = [axis for axis in range(together.ndim) if together.shape[axis] != first.shape[axis]]
    if not axes:
        return _equal(together, first) and _equal(together, second)
    if len(axes) > 1 or any(first.shape[a] != second.shape[a] for a in range(first.ndim) if a != axes[0]):
        return False
    return _equal(together, np.concatenate(apart, axes[0]))


def _equal(got: NDArray[Any], wanted: NDArray[Any]) -> bool:
    if got.shape != wanted.shape:
        return False
    if wanted.dtype.kind not in "fc":
        return bool(np.array_equal(got, wanted))
    finite = np.abs(wanted[np.isfinite(wanted)])
    return bool(np.allclose(got, wanted, rtol=0, atol=EQUAL * float(finite.max(initial=1e-6)), equal_nan=True))
