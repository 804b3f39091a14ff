"""`inspect`: where every node of a network would run, and why."""

from __future__ import annotations

from pathlib import Path

from flow.frontend import checks, cut, load, quantize
from flow.frontend.inspection import Inspection, inspection, refusal
from flow.frontend.prepare import prepare
from flow.network import samples


def inspect(model: str | Path) -> Inspection:
    """Where every node would run, and why; the network is quantized in memory from one made-up sample.

    Nodes that are refused are told as such; FlowError for all else that is wrong with the network.
    """
    source = load.read(model)
    if reasons := checks.refusals(source):
        return refusal(source, reasons)
    checks.check(source, str(model))
    ready = source if checks.is_quantized(source) else prepare(source)
    quantized = quantize.quantize(source, samples.random(ready, 1).feeds)
    return inspection(source, cut.partition(quantized.model, Path(model).stem))
