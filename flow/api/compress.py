"""`compress`: the pruned INT8 network alone, and the sweep over bit budgets behind its plot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from flow.api.inputs import (
    compress_network,
    divided,
    evaluation,
    import_network,
    note_int8,
    note_labels,
    note_scales,
    read_network,
    settled,
)
from flow.api.requests import CompressRequest
from flow.api.speed import Speed
from flow.compression.allocate import PRESETS
from flow.compression.budget import least_bits
from flow.compression.choice import Pruning, pruning
from flow.compression.compress import encode
from flow.compression.encoding import BBS
from flow.frontend.imported import Imported
from flow.hardware.config import ArrayConfig
from flow.judgement.accuracy import measure
from flow.judgement.fidelity import fidelity
from flow.network.samples import Samples
from flow.output.folder import check_file, write_output
from flow.output.report.plot import Point, check, curves
from flow.output.report.report import CompressionReport, compression_report, point
from flow.progress import Stages, silent

SWEEP = (3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0)  # budgets of a plot


def compress(model: Any, output: Any, *, stage: Stages = silent, **options: Any) -> CompressionReport:
    """The pruned INT8 (QDQ) network as the ONNX file `output`, and what pruning did to it. No hardware.

    `model` is a path or an onnx.ModelProto, `options` those of `CompressRequest`, as `bbs compress` has them. `stage`
    shows progress. FlowError when an input cannot be used.
    """
    return run_compress(CompressRequest.of(model=model, output=output, **options), stage)


def run_compress(request: CompressRequest, stage: Stages = silent) -> CompressionReport:
    """`compress` for a request. As many channels share one N (C_H) as the array has columns."""
    file = request.model if isinstance(request.model, Path) else None
    check_file(request.output, request.force, file)
    if request.plot is not None:
        check(request.plot, request.force)
    notes: list[str] = []
    with stage("import and quantize"):
        source = read_network(request)
        calibration, evaluate = divided(source, request, notes)
        imported = import_network(source, calibration, notes, request.calibrate)
        evaluation_set = evaluation(imported.network, source, evaluate, None, notes, request.metric)
        note_scales(imported, evaluation_set, notes)
        evaluation_set = settled(imported, evaluation_set, notes)
    with stage("compare INT8 with the network"):
        faithful = fidelity(imported, evaluation_set)
    config = ArrayConfig(*(request.array or ()))
    speed = Speed(imported.network, config, request.axi(config), request.memory)
    chosen, compressed = compress_network(imported, request.chosen, speed, evaluation_set, stage, notes)
    compressed = compressed.without_evidence()
    with stage("model the bus"):
        compressed = replace(compressed, predicted=speed.predicted(compressed.allocation))
    with stage("judge"):
        accuracy = measure(imported.float_model, compressed, evaluation_set)
        note_labels(evaluation_set, accuracy, notes)
        note_int8(faithful, accuracy, notes)
        result = compression_report(chosen, compressed, accuracy, faithful, notes)
    write_output(request.output, compressed.network.model, request.force)
    if request.plot is not None:
        try:
            series = _sweep(imported, speed, evaluation_set, request.chosen, stage)
            metric, values = (judged.metric, judged.values) if (judged := accuracy.labelled) else (None, {})
            curves(series, values.get("float", values.get("int8")), source.name, request.plot, metric or "top-1")
        except BaseException as error:
            error.add_note(f"the pruned network is in '{request.output}', without its plot")
            raise
    return result


def _sweep(
    imported: Imported, speed: Speed, evaluation_set: Samples, asked: Pruning, stage: Stages
) -> dict[str, list[Point]]:
    """The network compressed by the paper's presets, by one N for all, and, if calibrated, within budgets."""
    choices = {f"preset {name}": [pruning(name)] for name in PRESETS}
    choices["optimum, one N for all"] = [pruning(columns=n, sensitive=0.0) for n in range(BBS.max_columns_pruned + 1)]
    if imported.calibration is not None:
        least = least_bits(imported.network.layers)
        choices["budget"] = [
            pruning(bits=bits, effort=asked.effort, output_weight=asked.output_weight)
            for bits in SWEEP
            if bits >= least
        ]
    series: dict[str, list[Point]] = {}
    evidence = None  # of the first budget, for all
    with stage("sweep the bits", sum(map(len, choices.values()))) as advance:
        for name, chosen in choices.items():
            series[name] = []
            for choice in chosen:
                if choice.budgeted and evidence is not None:
                    compressed = encode(imported.network, choice, speed.config.columns, evidence=evidence)
                else:
                    _, compressed = compress_network(imported, choice, speed, evaluation_set, silent, [])
                    evidence = compressed.evidence or evidence
                accuracy = measure(imported.float_model, compressed, evaluation_set)
                series[name].append(point(compressed, accuracy))
                advance()
    return series
