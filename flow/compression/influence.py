"""The influence of layers: how far a change of one layer alone, or of those that share its weights, moves the answers.

A layer changes nothing that comes before it. Only what follows it is run, on the tensors in front of it that are still
needed: half of the work of whole runs, with half of the weights in a session.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from flow.compression.calibration import in_batches
from flow.errors import FlowError
from flow.frontend.int8 import rewrite
from flow.network.answers import distance, named, without_softmax
from flow.network.model import ArrayLayer, Network
from flow.network.run import run_each, run_steps
from flow.network.samples import Arrays
from flow.onnxtools import runtime
from flow.onnxtools.edit import between
from flow.onnxtools.graph import Graph

BATCH = 4  # samples a run: the runs are shared out among the processors, even where few samples are affordable


def influences(
    network: Network,
    changed: Mapping[str, Sequence[ArrayLayer]],
    feeds: Arrays,
    scores: Mapping[str, int],
    weights: Mapping[str, float],
    advance: Callable[[], None],
) -> dict[str, float]:
    """The distance that the layers of each entry of `changed`, in place of those of their names, put between answers.

    An entry has the name of the first of its layers. `scores` and `weights` of outputs as in `answers` and `distance`;
    `advance` is called for each of the layers.
    """
    bare, tensors = without_softmax(network.model)
    graph, whole = Graph.of(bare), runtime.session(bare)
    batches = in_batches(feeds, runtime.batch_size(whole, BATCH))
    parts = run_each(whole, batches)
    if not all(_one_each(array, batch) for part, batch in zip(parts, batches, strict=True) for array in part.values()):
        # as when the network itself is asked: what is no array of samples is computed for each alone
        batches = in_batches(feeds, runtime.batch_size(whole, 1))
        parts = run_each(whole, batches)
    reference = named(network.outputs, tensors, _joined(parts, batches), scores)
    del whole, parts
    found: dict[str, float] = {}
    for layer in run_steps(network.steps, batches, kept=network.inputs):
        if layer.name in changed:
            after = runtime.session(rewrite.with_layers(_suffix(graph, network, batches[0]), changed[layer.name]))
            got = named(network.outputs, tensors, _joined(run_each(after, batches), batches), scores)
            found[layer.name] = distance(reference, got, weights)
            for _ in changed[layer.name]:
                advance()
        own = runtime.session(rewrite.layer_model(network.graph, layer))
        for batch, outputs in zip(batches, run_each(own, batches), strict=True):
            batch.update(outputs)
    return found


def _suffix(graph: Graph, network: Network, known: Collection[str]) -> onnx.ModelProto:
    """The part of a network that computes its outputs from the `known` tensors, among them the network's inputs."""
    ends = list(graph.model.graph.output)
    made = {value.name for value in ends} - set(network.inputs)
    declared = network.types.declared
    return between(graph, [declared[name] for name in known if name in declared and name not in made], *ends)


def _one_each(array: Any, batch: Arrays) -> bool:
    """Whether an output has one value, or array of values, for each sample of the batch."""
    return isinstance(array, np.ndarray) and array.shape[:1] == next(iter(batch.values())).shape[:1]


def _joined(parts: Sequence[Arrays], batches: Sequence[Arrays]) -> Arrays:
    """The outputs of all batches; without those that are no tensors, or whose shape depends on the sample."""
    found = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        if all(map(_one_each, arrays, batches)):
            found[name] = np.concatenate(arrays)
        elif all(isinstance(array, np.ndarray) for array in arrays):
            with contextlib.suppress(FlowError):
                found[name] = runtime.joined(arrays, name)
    return found
