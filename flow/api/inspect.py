"""`inspect`: where every node of a network would run, and why."""

from __future__ import annotations

from typing import Any

from flow.api.requests import InspectRequest
from flow.api.source import read_source
from flow.frontend import checks
from flow.frontend.imported import import_uncalibrated
from flow.frontend.inspection import Inspection, inspection, refusal


def inspect(model: Any) -> Inspection:
    """Where every node of `model` (a path or an onnx.ModelProto) would run, and why.

    Refused nodes are listed with the reason; FlowError for any other fault of the network.
    """
    return run_inspect(InspectRequest.of(model=model))


def run_inspect(request: InspectRequest) -> Inspection:
    """`inspect` for a request: a float network is quantized in memory, from one made-up sample."""
    source = read_source(request.model)
    if reasons := checks.refusals(source.model):
        return refusal(source.model, reasons)
    return inspection(import_uncalibrated(source.checked().model, source.name))
