"""The user's inputs, and the defaults of those left out: network, samples, pruning."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx

from flow.api.requests import DataOptions, NetworkOptions
from flow.api.source import Source, read_source
from flow.compression import tune
from flow.compression.choice import DATA_FREE, Pruning, pruning
from flow.compression.compress import Compressed, encode
from flow.errors import FlowError
from flow.frontend.imported import Imported, import_calibrated
from flow.frontend.quantization.calibrate import AUTO
from flow.judgement.accuracy import Accuracy, top1
from flow.network import samples
from flow.network.model import Network
from flow.network.samples import Samples
from flow.onnxtools import runtime
from flow.progress import Stages

STORED = 16  # samples kept in the build, for `bbs cosim --samples`


def read_network(request: NetworkOptions) -> Source:
    """The requested network, checked; its open axes have the requested sizes, or those of the samples."""
    source = read_source(request.model)
    evaluate = request.evaluate if isinstance(request, DataOptions) else None
    known = [source.samples(request.calibration, "calibration"), source.samples(evaluate, "test")]
    return source.admitted(request.shape or {}, known)


def import_network(
    source: Source, calibration: samples.Source | None, notes: list[str], method: str = AUTO
) -> Imported:
    """The imported network, quantized if it is float, with its calibration samples; `method` finds the ranges."""
    calibration_source = source.samples(calibration, "calibration")
    calibrated = (
        samples.load(calibration_source, source.model, "calibration") if calibration_source is not None else None
    )
    imported = import_calibrated(source.model, source.name, calibrated, source.place, method)
    notes += [*source.notes, *imported.notes]
    return replace(imported, given=source.given)


def compress_network(
    imported: Imported,
    chosen: Pruning,
    channels_parallel: int,
    evaluation_set: Samples,
    stage: Stages,
    notes: list[str],
) -> tuple[Pruning, Compressed]:
    """The pruning and the compressed network: by default within a budget, without samples by the paper's rule."""
    if chosen.budgeted and imported.calibration is None:
        if chosen.name != "default":
            raise FlowError("a budget (--bits, --max-drop) needs calibration samples, but there are none; "
                            "pass --calibration FILE.npz")  # fmt: skip
        chosen = pruning(DATA_FREE)
        notes.append(f"No calibration samples: pruned by the paper's rule, preset {DATA_FREE}.")
    layers = len(imported.network.layers)
    if not chosen.budgeted or imported.calibration is None:
        with stage("prune and encode", layers) as advance:
            return chosen, encode(imported.network, chosen, channels_parallel, advance)
    if both := _overlap(imported.calibration, evaluation_set):
        count, source = evaluation_set.count, evaluation_set.source
        notes.append(f"{both} of the {count:,} samples of {source} are in {imported.calibration.source}, too.")
    acceptable = _acceptable(imported, chosen.max_drop, evaluation_set) if chosen.max_drop is not None else None
    tries = len(tune.tries(imported.network, frozenset(chosen.means))) * (
        1 if acceptable is None else tune.BISECTIONS + 1
    )
    with stage("tune, prune and encode", layers * (tries + 2)) as advance:
        data = tune.calibration_data(imported.network, imported.source, imported.prepared, imported.calibration)
        evidence = tune.Evidence(data, acceptable=acceptable)
        return chosen, encode(imported.network, chosen, channels_parallel, advance, evidence)


def _acceptable(imported: Imported, max_drop: float, evaluation_set: Samples) -> Callable[[onnx.ModelProto], bool]:
    """The test whether a network's top-1 is at most `max_drop` points below the user's network's."""
    answers = runtime.predict(imported.source, evaluation_set.feeds)
    source_top1 = None if evaluation_set.labels is None else top1(answers, evaluation_set.labels)
    if evaluation_set.labels is None or source_top1 is None:
        raise FlowError(
            f"--max-drop needs evaluation samples with class labels y, but {evaluation_set.source} has none"
        )
    if len(np.unique(answers.reshape(len(answers), -1).argmax(axis=1))) == 1:
        raise FlowError(
            f"--max-drop needs a network that tells the samples of {evaluation_set.source} apart, but it gives all the "
            "same class; give other samples, or --bits"
        )
    labels = evaluation_set.labels

    def holds(model: onnx.ModelProto) -> bool:
        reached = top1(runtime.predict(model, evaluation_set.feeds), labels)
        return reached is not None and reached >= source_top1 - max_drop / 100 - 1e-9

    return holds


def _overlap(calibration: Samples, evaluation_set: Samples) -> int:
    """How many evaluation samples are calibration samples, too."""
    seen = {_digest(calibration, number) for number in range(calibration.count)}
    return sum(_digest(evaluation_set, number) in seen for number in range(evaluation_set.count))


def _digest(data: Samples, number: int) -> bytes:
    return hashlib.sha256(b"".join(array.tobytes() for array in data.one(number).values())).digest()


def evaluation(
    network: Network, source: Source, evaluate: samples.Source | None, count: int | None, notes: list[str]
) -> Samples:
    """The samples to evaluate and simulate; without any, random ones, at least `count`."""
    evaluation_source = source.samples(evaluate, "test")
    if evaluation_source is not None:
        return samples.load(evaluation_source, network.model, "evaluation")
    notes.append("No evaluation samples given: random inputs are used, and no accuracy is known.")
    return samples.random(network.model, max(count or 0, STORED))


def note_labels(evaluation_set: Samples, accuracy: Accuracy, notes: list[str]) -> None:
    if evaluation_set.labels is not None and accuracy.pruned is None:
        notes.append(
            f"The labels y of {evaluation_set.source} are no class numbers of the first output: no accuracy is given."
        )
