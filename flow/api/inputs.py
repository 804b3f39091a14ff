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
from flow.compression.allocate import Allocation
from flow.compression.budget import least_bits
from flow.compression.choice import DATA_FREE, Pruning, pruning
from flow.compression.compress import Compressed, Predicted, encode
from flow.errors import FlowError
from flow.frontend.imported import Imported, import_calibrated
from flow.frontend.quantization.calibrate import AUTO
from flow.hardware.config import ArrayConfig
from flow.judgement.accuracy import Accuracy
from flow.judgement.fidelity import COARSE, Fidelity, scaled_otherwise
from flow.network import samples
from flow.network.answers import Answers, agreement, answers, divergence, shares
from flow.network.model import Network
from flow.network.samples import LABELS, Samples
from flow.network.task import tasks
from flow.onnxtools import runtime
from flow.progress import Stages
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.timing import OnChipTime, on_chip
from flow.scheduling.timing import LayerByLayer, layer_by_layer

MOST_LOST = 0.01  # of accuracy, by INT8 alone, that needs no note
STORED = 16  # samples kept in the build, for `bbs cosim --samples`


def read_network(request: NetworkOptions) -> Source:
    """The requested network; see `admitted`."""
    return admitted(read_source(request.model), request)


def admitted(source: Source, request: NetworkOptions) -> Source:
    """The requested network that was read, checked; its open axes have the requested sizes, or those of the samples."""
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
    config: ArrayConfig,
    evaluation_set: Samples,
    stage: Stages,
    notes: list[str],
) -> tuple[Pruning, Compressed]:
    """The pruning and the compressed network: by default within a budget, without samples by the paper's rule.

    As many channels share one N as the array of `config` has columns. Time is that of the whole network on chip if it
    has room for feature maps.
    """
    if chosen.budgeted and imported.calibration is None:
        if chosen.name != "default":
            raise FlowError("a budget (--bits, --speedup, --cycles, --max-drop) needs calibration samples, but there "
                            "are none; pass --calibration FILE.npz")  # fmt: skip
        chosen = pruning(DATA_FREE)
        notes.append(f"No calibration samples: pruned by the paper's rule, preset {DATA_FREE}.")
    chosen = _possible(imported.network, chosen, notes)
    time = _time(imported.network, config)
    compressed = _compressed(imported, chosen, time, evaluation_set, stage, notes)
    return chosen, replace(compressed, predicted=_predicted(imported.network, compressed.allocation, time))


def _time(network: Network, config: ArrayConfig) -> LayerByLayer | OnChipTime:
    if config.map_words:
        return on_chip(chain(network), network.layers, config)
    return layer_by_layer(network.layers, config)


def _predicted(network: Network, allocation: Allocation, time: LayerByLayer | OnChipTime) -> Predicted:
    config = time.config
    cycles = time.beside + sum(time.of(layer, allocation[layer.name]) for layer in network.layers)
    return Predicted(
        f"{config.rows}x{config.columns}", isinstance(time, OnChipTime), cycles, time.dense,
        round(time.dense / cycles, 4),
    )  # fmt: skip


def _compressed(
    imported: Imported,
    chosen: Pruning,
    time: LayerByLayer | OnChipTime,
    evaluation_set: Samples,
    stage: Stages,
    notes: list[str],
) -> Compressed:
    """The compressed network; `chosen` is possible."""
    layers, columns = len(imported.network.layers), time.config.columns
    if not chosen.budgeted or imported.calibration is None:
        with stage("prune and encode", layers) as advance:
            return encode(imported.network, chosen, columns, advance)
    if both := _overlap(imported.calibration, evaluation_set):
        count, source = evaluation_set.count, evaluation_set.source
        notes.append(f"{both} of the {count:,} samples of {source} are in {imported.calibration.source}, too.")
    acceptable = _acceptable(imported, chosen, evaluation_set) if chosen.max_drop is not None else None
    tries = len(tune.tries(imported.network, frozenset(chosen.means))) * (
        1 if acceptable is None else tune.BISECTIONS + 1
    )
    with stage("tune, prune and encode", layers * (tries + 2)) as advance:
        data = tune.calibration_data(imported.network, imported.source, imported.prepared, imported.calibration,
                                     chosen.output_weight)  # fmt: skip
        evidence = tune.Evidence(data, acceptable=acceptable, time=time)
        return encode(imported.network, chosen, columns, advance, evidence)


def _possible(network: Network, chosen: Pruning, notes: list[str]) -> Pruning:
    """The pruning with a default budget that the network allows. FlowError for the weight of an unknown output."""
    if unknown := next((name for name in chosen.output_weight if name not in network.outputs), None):
        raise FlowError(
            f"the weight of an output must name one of the network's, {', '.join(map(repr, network.outputs))}, but it "
            f"names '{unknown}'; change --output-weight"
        )
    if chosen.output_weight and not any(chosen.output_weight.get(name, 1) for name in network.outputs):
        raise FlowError("one output at least must count, but all weigh 0; change --output-weight")
    least = least_bits(network.layers) if network.layers else 0.0
    if chosen.name != "default" or chosen.bits is None or chosen.bits >= least:
        return chosen
    notes.append(
        f"The default of {chosen.bits:g} bits per weight is less than this network can be stored with: pruned to the "
        f"least, {least:.2f} bits."
    )
    return replace(chosen, bits=least)


def _acceptable(imported: Imported, chosen: Pruning, evaluation_set: Samples) -> Callable[[onnx.ModelProto], bool]:
    """The test whether a network loses at most `max_drop` points at every output that counts, against the user's.

    Points are those of the output's metric (of R2 hundredths). Where there are no labels, they are the share of samples
    of another class, or of class scores and values the error over the variance.
    """
    assert chosen.max_drop is not None
    allowed = chosen.max_drop / 100 + 1e-9
    outputs = runtime.predict_all(imported.source, evaluation_set.feeds)
    given = tasks(outputs, evaluation_set.every_label)
    if not given:
        raise FlowError(
            f"--max-drop needs evaluation samples with class labels y, but {evaluation_set.source} has none"
        )
    for name, task in given.items():
        if task.scores and len(np.unique(outputs[name].reshape(len(outputs[name]), -1).argmax(axis=1))) == 1:
            raise FlowError(
                f"--max-drop needs a network that tells the samples of {evaluation_set.source} apart, but it gives all "
                "the same class; give other samples, or --bits"
            )
    scores = [name for name, task in given.items() if task.scores]
    wanted = answers(imported.source, evaluation_set.feeds, scores, outputs)
    reached = {name: task.measure(outputs[name])[0] for name, task in given.items()}
    weights = shares(wanted, chosen.output_weight)
    counted = [name for name in wanted if (chosen.output_weight.get(name, 1.0) if name in given else weights[name])]

    def holds(model: onnx.ModelProto) -> bool:
        found = runtime.predict_all(model, evaluation_set.feeds)
        labelled = [name for name in counted if name in given]
        if any(given[name].measure(found[name])[0] < reached[name] - allowed for name in labelled):
            return False
        if len(labelled) == len(counted):
            return True
        got = answers(model, evaluation_set.feeds, scores, found)
        return all(_lost(wanted[name], got[name]) <= allowed for name in counted if name not in given)

    return holds


def _lost(wanted: Answers, got: Answers) -> float:
    """How much an output without labels lost: the share of other classes, or the error over the variance."""
    same = agreement(wanted, got)
    return divergence(wanted, got) if same is None else 1 - same


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


def note_scales(imported: Imported, evaluation_set: Samples, notes: list[str]) -> None:
    """A note, before all others, on calibration samples in another range than those evaluated."""
    if evaluation_set.made_up or imported.calibration is None:
        return
    if (scaled := scaled_otherwise(imported, evaluation_set)) is not None:
        notes.insert(0, f"Warning, {scaled}. INT8 is as fine as the range of the calibration samples.")


def note_int8(faithful: Fidelity, accuracy: Accuracy, notes: list[str]) -> None:
    """Notes on outputs that INT8 alone, before any pruning, makes worse than people expect."""
    decibels = {output.name: output.sqnr for output in faithful.outputs if output.sqnr is not None}
    lost = {}
    for output in accuracy.outputs:
        before, after = output.values.get("float"), output.values.get("int8")
        if before is not None and after is not None and before - after > MOST_LOST:
            points = f"{100 * (before - after):.1f} points of {output.metric}"
            lost[output.name] = points if output.classes else f"{before - after:.3f} of {output.metric}"
    for name in dict.fromkeys([*decibels, *lost]):
        parts = [f"keeps {decibels[name]:.1f} dB"] if decibels.get(name, COARSE) < COARSE else []
        parts += [f"loses {lost[name]}"] if name in lost else []
        if parts:
            notes.append(
                f"Warning: output '{name}' of the INT8 network {' and '.join(parts)} before any pruning; other "
                "calibration samples, or another --calibrate, may help."
            )


def note_labels(evaluation_set: Samples, accuracy: Accuracy, notes: list[str]) -> None:
    """Notes on labels that fit no output, or seem to count from 1."""
    labels, used = evaluation_set.every_label, {output.name for output in accuracy.outputs if output.metric}
    names = [name for name in labels if name != LABELS and name.removeprefix(f"{LABELS}_") not in used]
    own = {name.removeprefix(f"{LABELS}_") for name in labels}
    if LABELS in labels and not used - own:
        names.insert(0, LABELS)
    for name in names:
        notes.append(
            f"The labels {name} of {evaluation_set.source} are no classes or values of "
            f"{'an output' if name == LABELS else 'that output'}: no accuracy is given for them."
        )
    notes += [
        f"The labels of output '{output.name}' in {evaluation_set.source} seem to count from 1: classes count from 0."
        for output in accuracy.outputs
        if output.one_based
    ]
