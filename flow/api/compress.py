"""`compress`: the pruned INT8 network alone, and the sweep over bit budgets behind its plot."""

from __future__ import annotations

from pathlib import Path

from flow.api.inputs import compress_network, evaluation, import_network, note_labels
from flow.compression.allocate import PRESETS
from flow.compression.budget import least_bits
from flow.compression.choice import Pruning, pruning
from flow.compression.encoding import BBS
from flow.files import write_model
from flow.frontend import load
from flow.frontend.imported import Imported
from flow.hardware.config import ArrayConfig
from flow.judgement.accuracy import measure
from flow.network.samples import Samples
from flow.output.folder import check_file
from flow.output.report.plot import Point, check, curves
from flow.output.report.report import Report, compression_report, point
from flow.progress import Stages, silent

SWEEP = (3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0)  # budgets of a plot


def compress(
    model: str | Path,
    output: str | Path,
    *,
    chosen: Pruning | None = None,
    calibration: str | Path | None = None,
    evaluate: str | Path | None = None,
    array: tuple[int, int] | None = None,
    plot: str | Path | None = None,
    force: bool = False,
    stage: Stages = silent,
) -> Report:
    """The pruned INT8 (QDQ) network as the ONNX file `output`, and what pruning did to it. No hardware.

    `plot` is a file for curves of accuracy and errors over bits per weight.
    The columns of `array` are the channels that share one N (C_H). FlowError as `compile`.
    """
    model, output, chosen = Path(model), Path(output), chosen or pruning()
    check_file(output, force, model)
    if plot is not None:
        check(Path(plot))
    notes: list[str] = []
    with stage("import and quantize"):
        taken = import_network(load.load(model), model, calibration, notes)
        given = evaluation(taken.network, model, evaluate, None, notes)
    channels = ArrayConfig(*(array or ())).columns
    chosen, compressed = compress_network(taken, chosen, channels, given, stage, notes)
    with stage("judge"):
        accuracy = measure(taken.float_model, compressed, given)
        note_labels(given, accuracy, notes)
        result = compression_report(chosen, compressed, accuracy, notes)
    write_model(output, compressed.network.model)
    if plot is not None:
        series = _sweep(taken, channels, given, stage)
        curves(series, accuracy.int8 if accuracy.float is None else accuracy.float, model.stem, Path(plot))
    return result


def _sweep(taken: Imported, channels: int, given: Samples, stage: Stages) -> dict[str, list[Point]]:
    """The network compressed by the paper's presets, by one N for all, and within budgets if there are samples."""
    choices = {f"preset {name}": [pruning(name)] for name in PRESETS}
    choices["optimum, one N for all"] = [pruning(columns=n, sensitive=0.0) for n in range(BBS.max_columns_pruned + 1)]
    if taken.calibration is not None:
        least = least_bits(taken.network.layers)
        choices["budget"] = [pruning(bits=bits) for bits in SWEEP if bits >= least]
    series: dict[str, list[Point]] = {}
    with stage("sweep the bits", sum(map(len, choices.values()))) as advance:
        for name, chosen in choices.items():
            series[name] = []
            for choice in chosen:
                _, made = compress_network(taken, choice, channels, given, silent, [])
                reached = measure(taken.float_model, made, given)
                series[name].append(point(made, reached))
                advance()
    return series
