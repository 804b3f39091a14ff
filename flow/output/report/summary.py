"""The report's summary: the figures of the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flow.compression.allocate import average_bits
from flow.compression.choice import Pruning
from flow.compression.compress import Compressed, Predicted
from flow.compression.encoding import BBS
from flow.hardware.synthesis import Estimate
from flow.judgement.accuracy import Accuracy
from flow.judgement.fidelity import Fidelity
from flow.output.report.layers import LayerReport


@dataclass(frozen=True)
class Budget:
    """What was asked of the pruning and what it reached.

    `measure` is "bits" per weight on average, or "speedup" over dense PEs or "cycles" of a sample, both by the cycle
    model. `asked` is None where as little as possible was asked (--max-drop), `reached` where it is not known: `bbs
    cosim` has no dense PEs.
    """

    measure: Literal["bits", "speedup", "cycles"]
    asked: float | None
    reached: float | None


@dataclass(frozen=True)
class PrunedNetwork:
    """How the network was pruned, and the bits per weight that remain, metadata counted.

    `budget` is None for the paper's rule; `predicted`, by the cycle model, is None for `bbs cosim`.
    """

    model: str
    preset: str
    columns: int | None
    sensitive: float | None
    method: str | None
    means: tuple[str, ...]
    rule: str
    bits_per_weight: float
    compression_ratio: float
    budget: Budget | None
    predicted: Predicted | None


@dataclass(frozen=True)
class CompressionSummary(PrunedNetwork):
    """The network compressed, without hardware."""

    accuracy: Accuracy
    fidelity: Fidelity


@dataclass(frozen=True)
class Area:
    """The estimated area: transistors of the logic, flip-flops, bits of the buffers; and all three in transistors."""

    logic: int
    flip_flops: int
    memory_bits: int
    transistors: int

    @classmethod
    def of(cls, estimate: Estimate) -> Area:
        return cls(estimate.logic, estimate.flip_flops, estimate.memory_bits, estimate.transistors)


@dataclass(frozen=True)
class Totals:
    """The layers together. Cycles are one sample's; elements and mismatches are over all simulated samples."""

    cycles: int
    cycles_dense: int | None
    speedup: float | None
    utilization: float
    elements: int
    elements_rtl: int
    tier1_mismatches: int
    tier2_mismatches: int
    tier2_max_lsb: int


@dataclass(frozen=True)
class Summary(Totals, PrunedNetwork):
    """The network on the accelerator. `rtl_share`: the share of its MACs in RTL; `verdict` is None if that is 0.

    `shipped_layers`: how many layers ran from the build's own descriptors.
    """

    array: str
    engine: str
    samples: int
    samples_source: str
    rtl_share: float
    shipped_layers: int
    verdict: Literal["pass", "fail"] | None
    accuracy: Accuracy
    fidelity: Fidelity | None
    area: Area | None


def pruned_network(chosen: Pruning, result: Compressed) -> PrunedNetwork:
    bits = average_bits(result.network.layers, result.allocation)
    return PrunedNetwork(
        model=result.network.name,
        preset=chosen.name,
        columns=chosen.columns,
        sensitive=chosen.sensitive,
        method=chosen.method,
        means=chosen.means,
        rule=rule(chosen),
        bits_per_weight=round(bits, 4),
        compression_ratio=round(BBS.weight_bits / bits, 4),
        budget=_budget(chosen, bits, result.predicted) if chosen.budgeted else None,
        predicted=result.predicted,
    )


def _budget(chosen: Pruning, bits: float, predicted: Predicted | None) -> Budget:
    if not chosen.timed:
        return Budget("bits", chosen.bits, round(bits, 4))
    if chosen.speedup is not None:
        return Budget("speedup", chosen.speedup, None if predicted is None else predicted.speedup)
    return Budget("cycles", chosen.cycles, None if predicted is None else predicted.cycles)


def amounts(budget: Budget) -> tuple[str, str]:
    """What was asked and what was reached, in words, for the user."""
    forms = {"bits": "{:.4g} bits per weight", "speedup": "{:.4g}x over dense PEs", "cycles": "{:,.0f} cycles a sample"}
    least = {"bits": "the fewest bits", "speedup": "the most", "cycles": "the fewest cycles"}
    asked, reached = (None if each is None else forms[budget.measure].format(each) for each in (
        budget.asked, budget.reached))  # fmt: skip
    return asked or least[budget.measure], reached or "not known"


def reached_line(budget: Budget, predicted: Predicted | None) -> str:
    """What was asked and what was reached beside each other, with the time on the array."""
    asked, reached = amounts(budget)
    line = f"Asked: {asked}; reached: {reached}."
    if predicted is None:
        return line
    cycles = f"{predicted.cycles:,} cycles a sample"
    how = f"at most {cycles} on chip" if predicted.on_chip else f"{cycles} layer by layer"
    return f"{line} By the cycle model {how}, array {predicted.array}: {predicted.speedup:.2f}x over dense PEs."


def rule(chosen: Pruning) -> str:
    """The rule of pruning in words, for the user."""
    if chosen.columns is not None and chosen.sensitive is not None:
        return f"{chosen.columns} bit columns pruned, {100 * chosen.sensitive:g} % sensitive channels, {chosen.method}"
    if chosen.speedup is not None:
        wanted = f"{chosen.speedup:g} times the speed of dense PEs"
    elif chosen.cycles is not None:
        wanted = f"{chosen.cycles:,} cycles a sample"
    elif chosen.bits is not None:
        wanted = f"{chosen.bits:g} bits per weight"
    else:
        wanted = f"a drop of {chosen.max_drop:g} points"
        wanted += ", with the fewest cycles" if chosen.timed else ""
    weights = "".join(f", output '{name}' weighs {weight:g}" for name, weight in chosen.output_weight.items())
    how = f"refined by {', '.join(chosen.means)}" if chosen.means else "not refined"
    return f"a budget of {wanted}, {how}{weights}"


def totals(layers: Sequence[LayerReport]) -> Totals:
    cycles = sum(layer.cycles for layer in layers)
    dense = [layer.cycles_dense for layer in layers if layer.cycles_dense is not None]
    return Totals(
        cycles=cycles,
        cycles_dense=sum(dense) if dense else None,
        speedup=round(sum(dense) / cycles, 4) if dense else None,
        utilization=round(sum(layer.cycles_ideal for layer in layers) / cycles, 4),
        elements=sum(layer.elements for layer in layers),
        elements_rtl=sum(layer.elements_rtl for layer in layers),
        tier1_mismatches=sum(layer.tier1_mismatches for layer in layers),
        tier2_mismatches=sum(layer.tier2_mismatches for layer in layers),
        tier2_max_lsb=max(layer.tier2_max_lsb for layer in layers),
    )
