"""The user's inputs, and the defaults of those left out: network, samples, pruning."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx

from flow.api.requests import DataOptions, NetworkOptions
from flow.api.source import Source, read_source
from flow.api.speed import Speed
from flow.api.yardstick import Yardstick
from flow.compression import tune
from flow.compression.allocate import Allocation, average_bits
from flow.compression.budget import least_bits
from flow.compression.choice import DATA_FREE, ENERGY, OBJECTIVES, Pruning, pruning
from flow.compression.compress import Compressed, Tried, encode
from flow.compression.effort import effort
from flow.errors import FlowError
from flow.frontend.imported import Imported, import_calibrated
from flow.frontend.quantization.calibrate import AUTO
from flow.hardware.config import ArrayConfig
from flow.judgement.accuracy import Accuracy, evaluate_own
from flow.judgement.fidelity import COARSE, Fidelity, scaled_otherwise
from flow.network import samples
from flow.network.answers import Answers, agreement, answers, divergence, shares
from flow.network.labels import from_text, from_zero
from flow.network.metrics import RELATIVE, TEXT, Metric, shown, worse
from flow.network.model import Network
from flow.network.samples import LABELS, Samples
from flow.network.task import doubtful, score_axes, tasks_of
from flow.network.usercode import UserFunction
from flow.onnxtools import runtime
from flow.progress import Stages
from flow.scheduling.energy import energy_on
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.program import fitted

MOST_LOST = 0.01  # of accuracy, by INT8 alone, that needs no note
FEW = 32  # samples whose outputs tell what the labels are
HELD_OUT, DIVISIBLE = 4, 32  # one in so many calibration samples evaluates; of fewer, all are needed for the ranges
STORED = 16  # samples kept in the build, for `bbs cosim --samples`


def read_network(request: NetworkOptions) -> Source:
    """The requested network; see `admitted`."""
    return admitted(replace(read_source(request.model), preprocess=request.preprocess), request)


def admitted(source: Source, request: NetworkOptions) -> Source:
    """The requested network that was read, checked; its open axes have the requested sizes, or those of the samples."""
    evaluate = request.evaluate if isinstance(request, DataOptions) else None
    known = [source.samples(request.calibration, "calibration"), source.samples(evaluate, "test")]
    return source.admitted(request.shape or {}, known)


def divided(
    source: Source, request: DataOptions, notes: list[str]
) -> tuple[samples.Source | None, samples.Source | None]:
    """The samples to calibrate and to evaluate with, as requested, or found beside the network.

    Without any to evaluate with, a quarter of at least `DIVISIBLE` calibration samples is held out for it, evenly
    spaced; more, but at most half, if more are to be simulated; none if that is not enough.
    """
    calibration, evaluate = source.samples(request.calibration, "calibration"), source.samples(request.evaluate, "test")
    if calibration is None or evaluate is not None:
        return calibration, evaluate
    arrays = samples.arrays(calibration)
    counts = {len(array) if array.ndim else 0 for array in arrays.values()}
    count, wanted = max(counts, default=0), getattr(request, "samples", None) or 0
    held = max(count // HELD_OUT, wanted)
    if len(counts) > 1 or count < DIVISIBLE or held > count // 2:
        return calibration, None
    place = samples.place(calibration, "calibration")
    chosen = (np.arange(1, held + 1) * count) // held - 1
    parts = [{name: array[chosen] for name, array in arrays.items()},
             {name: np.delete(array, chosen, axis=0) for name, array in arrays.items()}]  # fmt: skip
    notes.append(f"No evaluation samples given: {held:,} of the {count:,} samples of {place} are held out for that.")
    return samples.Prepared(parts[1], place), samples.Prepared(parts[0], f"{place}, held out")


def import_network(
    source: Source, calibration: samples.Source | None, notes: list[str], method: str = AUTO, products: bool = False
) -> Imported:
    """The imported network, quantized if it is float, with its calibration samples; `method` finds the ranges.

    With `products`, matrix products of two activations are quantized, too.
    """
    calibration_source = source.samples(calibration, "calibration")
    calibrated = (
        samples.load(calibration_source, source.model, "calibration") if calibration_source is not None else None
    )
    if calibrated is not None:
        calibrated = _without_doubt(source.model, calibrated)
    imported = import_calibrated(source.model, source.name, calibrated, source.place, method, products)
    notes += [*source.notes, *imported.notes]
    return replace(imported, given=source.given)


def _without_doubt(model: onnx.ModelProto, calibrated: Samples) -> Samples:
    """Calibration samples without labels that may not be classes: they would tell that an output has class scores."""
    labels = calibrated.every_label
    outputs = runtime.predict_all(model, calibrated.first(1).feeds) if labels else {}
    for name, array in outputs.items():
        key = samples.label_key(labels, name)
        alike = np.resize(array, (calibrated.count, *array.shape[1:]))
        if key in labels and doubtful(alike, labels[key], calibrated.feeds):
            del labels[key]
    return calibrated.with_labels(labels)


def _note_objective(imported: Imported, data: tune.CalibrationData, notes: list[str]) -> None:
    """A note on outputs whose error is measured otherwise because of labels among the calibration samples."""
    if not data.samples.every_label:
        return
    alone = answers(imported.source, data.samples.first(1).feeds)
    for name in data.scores:
        if not alone[name].scores:
            notes.append(f"The labels of {data.samples.source} say that output '{name}' holds class scores: the budget "
                         "counts its error as divergence (KL), not as squared error.")  # fmt: skip


def compress_network(
    imported: Imported,
    chosen: Pruning,
    speed: Speed,
    evaluation_set: Samples,
    stage: Stages,
    notes: list[str],
) -> tuple[Pruning, Compressed]:
    """The pruning and the compressed network: by default within a budget, without samples by the paper's rule.

    As many channels share one N as the array of `speed` has columns.
    """
    if chosen.budgeted and imported.calibration is None:
        if chosen.name != "default":
            raise FlowError("a budget (--bits, --speedup, --cycles, --max-drop) needs calibration samples, but there "
                            "are none; pass --calibration FILE.npz")  # fmt: skip
        chosen = pruning(DATA_FREE)
        notes.append(f"No calibration samples: pruned by the paper's rule, preset {DATA_FREE}.")
    chosen = _possible(imported.network, chosen, notes)
    return chosen, _compressed(imported, chosen, speed, evaluation_set, stage, notes)


MOST_LEFT = 8  # notes on what leaves the chip


def with_maps(network: Network, config: ArrayConfig, notes: list[str]) -> ArrayConfig:
    """The array with room for the network's feature maps; notes say what leaves the chip between layers, and why.

    Of a product that runs on chip no note says that it stays on the host. If no layer runs on chip, it is the array as
    it was.
    """
    linked = chain(network)
    left = [each for each in linked.left if each.returns]
    if not linked.segments:
        reasons = "; ".join(dict.fromkeys(each.reason for each in left)) or "it has no layer for the array"
        notes.append(f"Nothing of the network runs on chip: {reasons}. It runs layer by layer.")
        return config
    there = {name for segment in linked.segments for unit in segment.units for name in unit.names}
    taken = network.notes_of(there)
    notes[:] = [note for note in notes if note not in taken]
    for each in left[:MOST_LEFT]:
        behind = each.segment == len(linked.segments)
        where = f"behind segment {each.segment}" if behind else f"before segment {each.segment + 1}"
        notes.append(f"Leaves the chip {where}: {each.reason}.")
    if len(left) > MOST_LEFT:
        notes.append(f"{len(left) - MOST_LEFT:,} more leave the chip; report.json lists them.")
    return fitted(config, linked)


def _compressed(
    imported: Imported,
    chosen: Pruning,
    speed: Speed,
    evaluation_set: Samples,
    stage: Stages,
    notes: list[str],
) -> Compressed:
    """The compressed network; `chosen` is possible."""
    layers, columns = len(imported.network.layers), speed.config.columns
    if not chosen.budgeted or imported.calibration is None:
        with stage("prune and encode", layers) as advance:
            return encode(imported.network, chosen, columns, advance)
    if both := _overlap(imported.calibration, evaluation_set):
        count, source = evaluation_set.count, evaluation_set.source
        notes.append(f"{both} of the {count:,} samples of {source} are in {imported.calibration.source}, too.")
    tried: list[Tried] = []
    acceptable = None
    if chosen.max_drop is not None:
        acceptable = _watched(imported, _acceptable(imported, chosen, evaluation_set), speed, evaluation_set, tried)
    searches = len(OBJECTIVES) if chosen.objective == ENERGY else 1
    tried_for = effort(chosen.effort)
    tries = len(tune.tries(imported.network, frozenset(chosen.means), tried_for)) * (
        1 if acceptable is None else searches * (tune.BISECTIONS + 1)
    )
    with stage("tune, prune and encode", layers * (tries + 2)) as advance:
        data = tune.calibration_data(imported.network, imported.source, imported.prepared, imported.calibration,
                                     chosen.output_weight, tried_for)  # fmt: skip
        _note_objective(imported, data, notes)
        energy = energy_on(speed.config) if chosen.objective == ENERGY else None
        evidence = tune.Evidence(data, acceptable=acceptable, time=speed.time, energy=energy)
        return replace(encode(imported.network, chosen, columns, advance, evidence), tried=tuple(tried))


def _watched(
    imported: Imported,
    holds: Callable[[onnx.ModelProto], bool],
    speed: Speed,
    evaluation_set: Samples,
    tried: list[Tried],
) -> Callable[[onnx.ModelProto, Allocation], bool]:
    """`holds`, which keeps in `tried` what each network that it is asked of reached."""
    yardstick = Yardstick.of(imported, evaluation_set)

    def watched(model: onnx.ModelProto, allocation: Allocation) -> bool:
        kept = holds(model)
        bits = round(average_bits(imported.network.layers, allocation), 4)
        tried.append(Tried(None, kept, bits, *speed.spent(allocation), *yardstick.measure(model)))
        return kept

    return watched


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

    Points are hundredths of the output's metric; of the squared error, of R2; percent of the perplexity. Where there
    are no labels, they are the share of samples of another class, or of class scores and values the error over the
    variance. The user's own metric, which is of the whole network, takes the place of the outputs': points are percent
    of its value.
    """
    assert chosen.max_drop is not None
    allowed = chosen.max_drop / 100 + 1e-9
    outputs = runtime.predict_all(imported.source, evaluation_set.feeds)
    if isinstance(evaluation_set.metric, UserFunction):
        return _own_acceptable(evaluation_set.metric, outputs, evaluation_set, allowed)
    given = tasks_of(outputs, evaluation_set)
    if not given:
        raise FlowError(
            f"--max-drop needs evaluation samples with labels y, but {evaluation_set.source} has none"
            + (" that fit an output" if evaluation_set.every_label else "")
        )
    for name, task in given.items():
        found = None if task.axis is None else Answers.of(outputs[name], True, task.axis).chosen
        if found is not None and len(np.unique(found)) == 1:
            raise FlowError(
                f"--max-drop needs a network that tells the samples of {evaluation_set.source} apart, but it gives all "
                "the same class; give other samples, or --bits"
            )
    scores = score_axes(given)
    wanted = answers(imported.source, evaluation_set.feeds, scores, outputs)
    reached = {name: task.measure(outputs[name])[0] for name, task in given.items()}
    weights = shares(wanted, chosen.output_weight)
    counted = [name for name in wanted if (chosen.output_weight.get(name, 1.0) if name in given else weights[name])]

    def holds(model: onnx.ModelProto) -> bool:
        found = runtime.predict_all(model, evaluation_set.feeds)
        labelled = [name for name in counted if name in given]
        if not all(given[n].lost(reached[n], given[n].measure(found[n])[0]) <= allowed for n in labelled):
            return False
        if len(labelled) == len(counted):
            return True
        got = answers(model, evaluation_set.feeds, scores, found)
        return all(_lost(wanted[name], got[name]) <= allowed for name in counted if name not in given)

    return holds


def _own_acceptable(
    function: UserFunction, outputs: samples.Arrays, evaluation_set: Samples, allowed: float
) -> Callable[[onnx.ModelProto], bool]:
    """The test by the user's own metric."""
    before = evaluate_own(function, outputs, evaluation_set)

    def holds(model: onnx.ModelProto) -> bool:
        after = evaluate_own(function, runtime.predict_all(model, evaluation_set.feeds), evaluation_set)
        return worse(None, before.value, after.value, before.lower) <= allowed * abs(before.value)

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
    network: Network,
    source: Source,
    evaluate: samples.Source | None,
    count: int | None,
    notes: list[str],
    asked: Metric | None = None,
) -> Samples:
    """The samples to evaluate and simulate, with the metric asked for; without any, random ones, at least `count`.

    FlowError when a metric is asked for, and there are no samples.
    """
    evaluation_source = source.samples(evaluate, "test")
    if evaluation_source is not None:
        return replace(samples.load(evaluation_source, network.model, "evaluation"), metric=asked)
    if asked is not None:
        raise FlowError(f"--metric {asked} needs evaluation samples with labels y, but there are none; "
                        "add --evaluate FILE.npz")  # fmt: skip
    notes.append(
        "No evaluation samples given: made-up inputs are used. No accuracy is known, and what is compared on them says "
        "little of real ones."
    )
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
        same = output.agreement.get("int8", 1.0) or 0.0
        if output.metric is None and not accuracy.made_up and 1 - same > MOST_LOST:
            lost[output.name] = f"{100 * (1 - same):.1f} points of equal {'classes' if output.scores else 'values'}"
        if before is None or after is None or output.metric == "mean squared error":  # which has no unit
            continue
        if (lost_of := worse(output.metric, before, after, output.lower)) > MOST_LOST:
            unit = "points" if output.classes else "%" if output.metric in RELATIVE else ""
            points = f"{100 * lost_of:.1f} {unit}" if unit else f"{lost_of:.3f}"
            lost[output.name] = f"{points} of {output.metric}"
    if (own := accuracy.own) is not None:
        before, after = own.values.get("float"), own.values.get("int8")
        lost_of = 0.0 if before is None or after is None else worse(None, before, after, own.lower)
        if before is not None and lost_of > MOST_LOST * abs(before):
            notes.append(
                f"Warning: the INT8 network loses {lost_of:.3g} of {own.metric} ({shown(None, before)}) before any "
                "pruning; other calibration samples, or another --calibrate, may help."
            )
    for name in dict.fromkeys([*decibels, *lost]):
        parts = [f"keeps {decibels[name]:.1f} dB"] if decibels.get(name, COARSE) < COARSE else []
        parts += [f"loses {lost[name]}"] if name in lost else []
        if parts:
            begins = f"it begins at '{faithful.begins}', " if faithful.begins else ""
            said = faithful.cause is None or any(faithful.cause in note for note in notes)
            cause = "" if said else f"; {begins}{faithful.cause}"
            notes.append(
                f"Warning: output '{name}' of the INT8 network {' and '.join(parts)} before any pruning{cause}; other "
                "calibration samples, or another --calibrate, may help."
            )


def note_labels(evaluation_set: Samples, accuracy: Accuracy, notes: list[str]) -> None:
    """Notes on labels that fit no output, may be of two kinds, or count from 1."""
    labels, used = evaluation_set.every_label, {output.name for output in accuracy.outputs if output.metric}
    names = [name for name in labels if name != LABELS and name.removeprefix(f"{LABELS}_") not in used]
    own = {name.removeprefix(f"{LABELS}_") for name in labels}
    if LABELS in labels and not used - own:
        names.insert(0, LABELS)
    for name in names if accuracy.own is None else ():
        of = "an output" if name == LABELS else "that output"
        why = f"are no classes or values of {of}"
        if name == LABELS and used:
            why = f"fit no output but {', '.join(map(repr, sorted(used)))}, which has labels of its own"
        elif labels[name].dtype.kind in TEXT:
            why = f"are text, but {'no output' if name == LABELS else of} gives text; give class numbers: they {why}"
        notes.append(f"The labels {name} of {evaluation_set.source} {why}: no accuracy is given for them.")
    notes += [
        f"The array {name} of {evaluation_set.source} is not used: labels are named y, or y_NAME after an output: "
        f"{', '.join(repr(output.name) for output in accuracy.outputs)}."
        for name in evaluation_set.others
    ]
    notes += [
        f"The labels of output '{output.name}' in {evaluation_set.source} seem to count from 1: classes count from 0."
        for output in accuracy.outputs
        if output.one_based
    ]


def settled(imported: Imported, evaluation_set: Samples, notes: list[str]) -> Samples:
    """The evaluation set, its labels counting from 0; notes on labels that counted from 1, or may be of two kinds.

    FlowError if the metric that is asked for does not fit, has no value, or fails.
    """
    model, asked = imported.float_model, evaluation_set.metric
    if not evaluation_set.every_label:
        return evaluation_set
    few = runtime.predict_all(imported.network.model if model is None else model, evaluation_set.first(FEW).feeds)
    alike = {name: np.resize(array, (evaluation_set.count, *array.shape[1:])) for name, array in few.items()}
    evaluation_set, named = from_text(alike, evaluation_set)
    for key, (name, names) in named.items():
        notes.append(f"The labels {key} of {evaluation_set.source} are text: the {len(names)} names in alphabetical "
                     f"order ({_listed(names)}) are taken for the classes 0 to {len(names) - 1} of output '{name}'; if "
                     "its order is another one, give numbers.")  # fmt: skip
    evaluation_set, changed = from_zero(alike, evaluation_set)
    for key, name in changed.items():
        notes.append(f"The labels {key} of {evaluation_set.source} count the classes of output '{name}' from 1: 1 was "
                     "subtracted.")  # fmt: skip
    if asked is None:
        for name, array in alike.items():
            labels = evaluation_set.every_label
            key = samples.label_key(labels, name)
            if key in labels and doubtful(array, labels[key], evaluation_set.feeds):
                notes.append(f"The labels {key} of {evaluation_set.source} may be two of the classes of output "
                             f"'{name}', or tell abnormal samples of an auto-encoder: --metric top1 or auc says "
                             "which.")  # fmt: skip
        return evaluation_set
    outputs = runtime.predict_all(imported.network.model if model is None else model, evaluation_set.feeds)
    check_metric(outputs, evaluation_set)
    return evaluation_set


def _listed(names: list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return ", ".join(quoted if len(names) <= 4 else [*quoted[:2], "...", quoted[-1]])


def check_metric(outputs: samples.Arrays, evaluation_set: Samples) -> None:
    """FlowError if the metric that is asked for does not fit the outputs and labels, has no value, or fails."""
    asked = evaluation_set.metric
    if isinstance(asked, UserFunction):
        evaluate_own(asked, outputs, evaluation_set)
        return
    for name, task in tasks_of(outputs, evaluation_set).items():
        if not np.isfinite(task.measure(outputs[name])[0]):
            raise FlowError(
                f"--metric {asked} has no value at output '{name}' on {evaluation_set.source}: its labels or its "
                "outputs are all of one kind; give other samples, or another metric"
            )
