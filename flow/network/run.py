"""Runs a whole network step by step: array layers by the caller, host segments by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from flow.network.model import ArrayLayer, HostSegment, Network
from flow.network.reference import run_layer
from flow.onnxtools import runtime
from flow.onnxtools.runtime import Tensors
from flow.programs import in_parallel

if TYPE_CHECKING:
    import onnxruntime as ort

RunLayer = Callable[[ArrayLayer, NDArray[Any]], NDArray[Any]]


def run_steps(
    steps: Sequence[ArrayLayer | HostSegment],
    batches: Sequence[Tensors],
    kept: Collection[str] | None = (),
    sessions: runtime.Sessions | None = None,
) -> Iterator[ArrayLayer]:
    """Run steps in order over `batches`, dicts of tensors by name, to which the steps' outputs are added.

    Host segments run in ONNX Runtime, in `sessions` when the caller keeps these for the next call, and otherwise in one
    that is gone, with its memory, after the step. Every array layer is yielded once its input is in all batches; the
    caller must add its output to them before the next layer. A tensor is dropped after the last step that reads it,
    unless its name is in `kept` (None: all are kept).
    """
    last = {name: number for number, step in enumerate(steps) for name in _inputs(step)}
    for number, step in enumerate(steps):
        if isinstance(step, ArrayLayer):
            yield step
        else:
            active = sessions.get(step.model) if sessions else runtime.session(step.model)
            for tensors, outputs in zip(batches, run_each(active, batches), strict=True):
                tensors.update(outputs)
        if kept is None:
            continue
        for tensors in batches:
            for name in [name for name in tensors if last.get(name, -1) <= number and name not in kept]:
                del tensors[name]


def run_each(
    active: ort.InferenceSession, batches: Sequence[Mapping[str, NDArray[Any]]], threads: int | None = None
) -> list[Tensors]:
    """A session's outputs for every batch, in so many threads; they do not keep the session's memory."""
    return in_parallel(lambda tensors: runtime.own(runtime.run(active, tensors)), batches, threads)


def _inputs(step: ArrayLayer | HostSegment) -> tuple[str, ...]:
    return (step.input,) if isinstance(step, ArrayLayer) else step.inputs


def run_network(
    network: Network,
    feeds: Mapping[str, NDArray[Any]],
    run_layer: RunLayer = run_layer,
    sessions: runtime.Sessions | None = None,
    kept: Collection[str] | None = None,
) -> Tensors:
    """Run the network; returns the tensors between steps, its inputs and outputs included: those in `kept`, or all.

    `run_layer` computes the array layers (the reference, or the accelerator); see `run_steps` for the rest.
    """
    tensors = dict(feeds)
    for layer in run_steps(network.steps, [tensors], kept, sessions):
        tensors[layer.output] = run_layer(layer, tensors[layer.input])
    return tensors
