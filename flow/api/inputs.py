"""What the user gives, and what is done where an option is left open: network, samples, how to compress."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import onnx

from flow.api.source import Source
from flow.compression import tune
from flow.compression.choice import DATA_FREE, Pruning, pruning
from flow.compression.compress import Compressed, encode
from flow.errors import FlowError
from flow.frontend.imported import Imported, import_calibrated
from flow.judgement.accuracy import Accuracy, top1
from flow.network import samples
from flow.network.model import Network
from flow.network.samples import Samples
from flow.onnxtools import runtime
from flow.progress import Stages

STORED = 16  # samples kept in the build, for `bbs cosim --samples`


def import_network(source: Source, calibration: samples.Source | None, notes: list[str]) -> Imported:
    """Quantizes the network if it is float."""
    found = source.samples(calibration, "calibration")
    calibrated = samples.load(found, source.model, "calibration") if found is not None else None
    imported = import_calibrated(source.model, source.name, calibrated, source.place)
    notes += imported.notes
    return imported


def compress_network(
    taken: Imported, chosen: Pruning, channels_parallel: int, given: Samples, stage: Stages, notes: list[str]
) -> tuple[Pruning, Compressed]:
    """The compressed network, and how it was done: by default within a budget, without samples by the paper's rule."""
    if chosen.budgeted and taken.calibration is None:
        if chosen.name != "default":
            raise FlowError("a budget (--bits, --max-drop) needs calibration samples, but there are none; "
                            "pass --calibration FILE.npz")  # fmt: skip
        chosen = pruning(DATA_FREE)
        notes.append(f"No calibration samples: pruned by the paper's rule, preset {DATA_FREE}.")
    layers = len(taken.network.layers)
    if not chosen.budgeted or taken.calibration is None:
        with stage("prune and encode", layers) as advance:
            return chosen, encode(taken.network, chosen, channels_parallel, advance)
    if both := _overlap(taken.calibration, given):
        notes.append(f"{both} of the {given.count:,} samples of {given.source} are in {taken.calibration.source}, too.")
    acceptable = _acceptable(taken, chosen.max_drop, given) if chosen.max_drop is not None else None
    tries = len(tune.tries(taken.network, frozenset(chosen.means))) * (1 if acceptable is None else tune.BISECTIONS + 1)
    with stage("tune, prune and encode", layers * (tries + 2)) as advance:
        data = tune.calibration_data(taken.network, taken.source, taken.prepared, taken.calibration)
        evidence = tune.Evidence(data, acceptable=acceptable)
        return chosen, encode(taken.network, chosen, channels_parallel, advance, evidence)


def _acceptable(taken: Imported, max_drop: float, given: Samples) -> Callable[[onnx.ModelProto], bool]:
    """Whether a network's top-1 is at most `max_drop` points below the user's network's."""
    answers = runtime.predict(taken.source, given.feeds)
    wanted = None if given.labels is None else top1(answers, given.labels)
    if given.labels is None or wanted is None:
        raise FlowError(f"--max-drop needs evaluation samples with class labels y, but {given.source} has none")
    if len(np.unique(answers.reshape(len(answers), -1).argmax(axis=1))) == 1:
        raise FlowError(
            f"--max-drop needs a network that tells the samples of {given.source} apart, but it gives all the "
            "same class; give other samples, or --bits"
        )
    labels = given.labels

    def holds(model: onnx.ModelProto) -> bool:
        reached = top1(runtime.predict(model, given.feeds), labels)
        return reached is not None and reached >= wanted - max_drop / 100 - 1e-9

    return holds


def _overlap(calibration: Samples, given: Samples) -> int:
    """How many of the given samples were calibrated with."""
    seen = {_digest(calibration, number) for number in range(calibration.count)}
    return sum(_digest(given, number) in seen for number in range(given.count))


def _digest(given: Samples, number: int) -> bytes:
    return hashlib.sha256(b"".join(array.tobytes() for array in given.one(number).values())).digest()


def evaluation(
    network: Network, source: Source, evaluate: samples.Source | None, count: int | None, notes: list[str]
) -> Samples:
    """The samples to evaluate and simulate; random ones, at least `count`, where there are none."""
    found = source.samples(evaluate, "test")
    if found is not None:
        return samples.load(found, network.model, "evaluation")
    notes.append("No evaluation samples given: random inputs are used, and no accuracy is known.")
    return samples.random(network.model, max(count or 0, STORED))


def note_labels(given: Samples, accuracy: Accuracy, notes: list[str]) -> None:
    if given.labels is not None and accuracy.pruned is None:
        notes.append(f"The labels y of {given.source} are no class numbers of the first output: no accuracy is given.")
