"""`inspect`: where every node of a network would run, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flow.api.inputs import admitted
from flow.api.requests import InspectRequest
from flow.api.source import read_source
from flow.api.speed import Speed
from flow.compression.budget import unpruned
from flow.errors import FlowError
from flow.frontend.entry import checks
from flow.frontend.imported import import_calibrated, import_uncalibrated
from flow.frontend.inspection import Inspection, OnChipInspection, inspection, refusal
from flow.frontend.quantization.ranges import MINMAX
from flow.network import samples
from flow.network.model import Network
from flow.onnxtools import external
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.located import located
from flow.scheduling.onchip.program import fitted

FEW = 2  # samples: ranges do not matter here, but a network may need real values to run


def inspect(model: Any, **options: Any) -> Inspection:
    """Where every node of `model` (a path or an onnx.ModelProto) would run, and why.

    `options` are those of `InspectRequest`, as `bbs inspect` has them. Refused nodes are listed with the reason;
    FlowError for any other fault of the network.
    """
    return run_inspect(InspectRequest.of(model=model, **options))


def run_inspect(request: InspectRequest) -> Inspection:
    """`inspect` for a request: a float network is quantized from a few samples, or from one made-up one.

    Its weights are never held in memory: they stay in their file, and what is made of them goes to a temporary one.
    """
    with external.made_in_files():
        return _inspected(request)


def _inspected(request: InspectRequest) -> Inspection:
    source = read_source(request.model, lean=True)
    if reasons := checks.refusals(source.model):
        return refusal(source.model, reasons)
    source = admitted(replace(source, preprocess=request.preprocess), request)
    calibration = source.samples(request.calibration, "calibration")
    if calibration is None:
        imported = import_uncalibrated(source.model, source.name, request.on_chip)
    else:
        few = samples.load(calibration, source.model, "calibration").first(FEW)
        imported = import_calibrated(source.model, source.name, few, source.place, MINMAX, request.on_chip)
    network = imported.network
    on_chip = _on_chip(network, request) if request.on_chip else None
    return replace(inspection(imported), notes=source.notes, on_chip=on_chip)


def _on_chip(network: Network, request: InspectRequest) -> OnChipInspection:
    """Where the nodes run with feature maps on chip; the cycles of all segments, also behind the bus."""
    linked, config = chain(network), request.config
    try:
        found = located(network, linked, config)
    except FlowError as error:
        return OnChipInspection({}, (), False, (), 0, f"{config.rows}x{config.columns}", 0, 0, refused=str(error))
    if not linked.segments:
        return found
    try:
        speed = Speed(network, fitted(config, linked), request.axi(config), request.memory)
        runs = speed.behind(unpruned(network.layers)).segments
    except FlowError as error:
        return replace(found, refused=str(error))
    return replace(found, bus=speed.axi.data_bits, cycles_bus=sum(run.cycles for run in runs))
