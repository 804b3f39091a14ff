"""Other budgets beside the one chosen: the front of accuracy against bits and cycles, each point measured."""

from __future__ import annotations

from dataclasses import replace

from flow.api.speed import Speed
from flow.api.yardstick import Yardstick
from flow.compression import tune
from flow.compression.allocate import average_bits
from flow.compression.budget import least_bits
from flow.compression.choice import Pruning
from flow.compression.compress import Compressed, Tried, encode
from flow.compression.effort import effort
from flow.errors import FlowError
from flow.frontend.imported import Imported
from flow.network.samples import Samples
from flow.progress import Stages

BUDGETS = (3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0)  # bits per weight that are measured


def with_front(
    imported: Imported,
    chosen: Pruning,
    compressed: Compressed,
    speed: Speed,
    evaluation_set: Samples,
    stage: Stages,
) -> Compressed:
    """The compressed network, with what it would be within each of `BUDGETS`, refined as `chosen` is.

    FlowError without calibration samples, which a budget needs.
    """
    network, calibration = imported.network, imported.calibration
    if calibration is None or not chosen.budgeted:
        why = "there are none" if calibration is None else "the paper's rule has no budget"
        raise FlowError(f"--front measures other budgets, which need calibration samples, but {why}; leave it out")
    evidence = compressed.evidence
    assert evidence is not None  # of the budget chosen
    budgets = [bits for bits in BUDGETS if bits >= least_bits(network.layers) and bits != chosen.bits]
    tries = len(tune.tries(network, frozenset(chosen.means), effort(chosen.effort)))
    found = []
    with stage("measure other budgets", len(network.layers) * len(budgets) * (tries + 1)) as advance:
        yardstick = Yardstick.of(imported, evaluation_set)
        for bits in budgets:
            other = Pruning("budget", bits=bits, block=chosen.block, means=chosen.means,
                            effort=chosen.effort, output_weight=chosen.output_weight)  # fmt: skip
            made = encode(network, other, speed.config.columns, advance, evidence)
            reached = round(average_bits(network.layers, made.allocation), 4)
            answers = yardstick.measure(made.network.model)
            found.append(Tried(f"--bits {bits:g}", None, reached, *speed.spent(made.allocation), *answers))
    return replace(compressed, tried=(*compressed.tried, *found))
