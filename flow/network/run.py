"""A whole network, step by step: array layers by a function, host segments by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from flow.network.model import ArrayLayer, Network
from flow.network.reference import run_layer
from flow.onnxtools import runtime

RunLayer = Callable[[ArrayLayer, NDArray[Any]], NDArray[Any]]


def run_network(
    network: Network,
    feeds: Mapping[str, NDArray[Any]],
    run_layer: RunLayer = run_layer,
    sessions: runtime.Sessions | None = None,
) -> dict[str, NDArray[Any]]:
    """Every tensor between steps, by name, the network's inputs and outputs among them.

    `run_layer` computes the array layers (the reference, or the accelerator); host segments run in ONNX
    Runtime, in `sessions` when the caller wants them kept for the next call.
    """
    kept = sessions or runtime.Sessions()
    tensors: dict[str, NDArray[Any]] = dict(feeds)
    for step in network.steps:
        if isinstance(step, ArrayLayer):
            tensors[step.output] = run_layer(step, tensors[step.input])
        else:
            tensors.update(runtime.run(kept.get(step.model), tensors))
    return tensors
