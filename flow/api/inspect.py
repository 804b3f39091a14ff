"""`inspect`: where every node of a network would run, and why."""

from __future__ import annotations

from pathlib import Path

from flow.frontend import checks, load
from flow.frontend.imported import import_uncalibrated
from flow.frontend.inspection import Inspection, inspection, refusal


def inspect(model: str | Path) -> Inspection:
    """Where every node would run, and why; the network is quantized in memory from one made-up sample.

    Nodes that are refused are told as such; FlowError for all else that is wrong with the network.
    """
    source = load.read(model)
    if reasons := checks.refusals(source):
        return refusal(source, reasons)
    checks.check(source, str(model))
    return inspection(import_uncalibrated(source, Path(model)))
