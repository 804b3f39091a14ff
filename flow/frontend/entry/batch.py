"""Networks that cannot take several samples at a time: their batch is fixed to one sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.frontend.entry.apart import computes_apart
from flow.frontend.entry.intake import one_sample
from flow.network.samples import random
from flow.onnxtools import runtime
from flow.onnxtools.draws import RANDOM
from flow.onnxtools.graph import graph_inputs, subgraphs

EQUAL = 0.05  # of an output's largest value: tolerance for a sample alone, whose 8-bit codes may be other neighbours


def fix_batch(model: onnx.ModelProto) -> str | None:
    """Fix an open batch to one sample if the network does not compute the samples of a batch one by one, in place.

    Attention, sums and recurrences over axis 0 mix what the flow takes for samples, and a constant shape may have room
    for one sample only. Where the operators do not tell, made-up samples do; an input whose batch is fixed to 1 tells
    without. Returns the reason, in words, if the file does not have it.
    """
    inputs = graph_inputs(model)
    sizes = [_size(value) for value in inputs]
    if all(sizes) or any(size > 1 for size in sizes):
        return None
    alone = any(sizes)
    why = None if alone or _draws(model.graph) or computes_apart(model) else _why_alone(model)
    if not alone and why is None:
        return None
    one_sample(model)
    return why


def _size(value: onnx.ValueInfoProto) -> int:
    """The batch of an input: 0 if it is open; an input without axes is as one of a batch of 1."""
    dims = value.type.tensor_type.shape.dim
    return max(dims[0].dim_value, 0) if dims else 1


def _draws(graph: onnx.GraphProto) -> bool:
    """Whether a graph draws random numbers: then no two runs are alike."""
    return any(node.op_type in RANDOM or any(map(_draws, subgraphs(node))) for node in graph.node)


def _why_alone(model: onnx.ModelProto) -> str | None:
    """What is wrong with two samples in a batch: what a sample gives must not change with the other one."""
    made = random(model, 4).feeds
    batches = [{name: array[list(pair)] for name, array in made.items()} for pair in ((0, 2), (0, 3), (1, 3))]
    try:
        session = runtime.session(model)
        alone = [runtime.run(session, {name: array[i : i + 1] for name, array in made.items()}) for i in (0, 3)]
    except FlowError:
        return None  # it does not run on made-up samples
    try:
        pairs = [runtime.run(session, batch) for batch in batches]
    except FlowError:
        return "it does not run with more"
    for name in pairs[0]:
        arrays = [each[name] for each in (*alone, *pairs)]
        if all(isinstance(each, np.ndarray) for each in arrays) and not _is_apart(arrays[:2], arrays[2:]):
            return f"in a batch, other samples change output '{name}'"
    return None


def _is_apart(alone: list[NDArray[Any]], pairs: list[NDArray[Any]]) -> bool:
    """Whether an output holds one part for each sample of a batch, along some axis, or does not depend on the samples.

    `alone`: of samples 0 and 3; `pairs`: of 0 and 2, of 0 and 3, of 1 and 3. What a sample gives beside others is equal
    to the bit; alone, other kernels may round otherwise.
    """
    if any(each.ndim != alone[0].ndim for each in pairs) or any(each.shape != pairs[0].shape for each in pairs):
        return False
    axes = [axis for axis, size in enumerate(pairs[0].shape) if size != alone[0].shape[axis]]
    if not axes:
        return all(_equal(each, alone[0], 0.0) for each in (alone[1], *pairs))
    if len(axes) > 1 or pairs[0].shape[axes[0]] != 2 * alone[0].shape[axes[0]]:
        return False
    (first, _), (before, behind), (_, beside) = (np.split(each, 2, axes[0]) for each in pairs)
    return (
        _equal(first, before, 0.0) and _equal(behind, beside, 0.0)
        and _equal(before, alone[0], EQUAL) and _equal(behind, alone[1], EQUAL)
    )  # fmt: skip


def _equal(got: NDArray[Any], wanted: NDArray[Any], tolerance: float) -> bool:
    """Whether two arrays are equal, real numbers up to a share of the largest one."""
    if got.shape != wanted.shape or wanted.dtype.kind not in "fc" or not tolerance:
        return bool(np.array_equal(got, wanted, equal_nan=wanted.dtype.kind in "fc"))
    largest = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-6))
    return bool(np.allclose(got, wanted, rtol=0, atol=tolerance * largest, equal_nan=True))
