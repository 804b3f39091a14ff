"""The report on one layer: the effect of pruning, and the run in RTL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flow.compression.allocate import average_bits
from flow.compression.compress import Compressed
from flow.compression.encoding import BBS
from flow.hardware.config import ArrayConfig
from flow.judgement.accuracy import decibels, json_number
from flow.judgement.verdict import LayerVerdict
from flow.network.model import ArrayLayer
from flow.scheduling.blocks import LayerSchedule
from flow.scheduling.cycles import Breakdown, breakdown, layer_cycles
from flow.scheduling.traffic import memory_traffic
from flow.simulation.results import LayerRun

TOGETHER = 2**22  # weights compared at a time

CyclesSource = Literal["rtl", "pieces", "model"]


@dataclass(frozen=True)
class LayerCompression:
    """The effect of pruning on one layer. `weights_of`: the earlier layer that has the same weights, or None.

    `columns_pruned`: N -> channels; `sensitive_channels`: those of N = 0. The weights are compared as real numbers
    with those of the INT8 network: `weight_sqnr` in dB, None if unchanged; `weight_mse`, mean squared error in steps of
    the INT8 weights; `weight_kl`, divergence of their distributions in nats (paper figure 6).
    """

    name: str
    op: str
    target: Literal["array"]
    macs: int
    parameters: int
    weights_of: str | None
    columns_pruned: dict[int, int]
    bits_per_weight: float
    sensitive_channels: int
    weight_sqnr: float | None
    weight_mse: float
    weight_kl: float


@dataclass(frozen=True)
class LayerReport(LayerCompression):
    """One layer, and how it ran in RTL: cycles and traffic of one sample, elements and mismatches of all samples.

    `rtl_share` is the share of the layer's MACs that went through RTL, in `pieces` runs; the integer reference computed
    the rest. `shipped`: it ran from the build's own descriptors, not a word of them changed. `cycles_source`: "rtl", or
    "pieces" (the cycle model's count, plus what the pieces took beyond it), or "model". The parts of `cycle_breakdown`
    add up to `cycles`; cycles that the RTL took beyond the model count as stall. `memory_traffic`: bytes by memory
    port. `cycles_dense`, `memory_traffic_dense` and `speedup` are those of dense PEs, `cycles_dense_source` is "model"
    if these were not simulated; all are None without dense PEs. `tier2_histogram`: difference in LSB -> elements.
    `cycles_bus`: behind the bus, by its model.
    """

    elements: int
    elements_rtl: int
    rtl_share: float
    pieces: int
    shipped: bool
    cycles: int
    cycles_source: CyclesSource
    cycles_dense: int | None
    cycles_dense_source: Literal["rtl", "model"] | None
    cycles_model: int
    cycles_ideal: int
    cycle_breakdown: Breakdown
    memory_traffic: dict[str, int]
    memory_traffic_dense: dict[str, int] | None
    speedup: float | None
    utilization: float
    tier1_mismatches: int
    tier1a_mismatches: int
    tier1b_mismatches: int
    tier1b_mismatches_dense: int
    tier2_mismatches: int
    tier2_max_lsb: int
    tier2_histogram: dict[int, int]
    first_mismatch: str | None
    cycles_bus: int


def layer_compression(compressed: Compressed, number: int) -> LayerCompression:
    before, after = compressed.original.layers[number], compressed.network.layers[number]
    first = next(layer for layer in compressed.original.layers if layer.weight_tensor == before.weight_tensor)
    n = compressed.allocation[before.name]
    values, counts = np.unique(n, return_counts=True)
    change = weight_change(before, after)
    return LayerCompression(
        name=before.name,
        op=before.op,
        target="array",
        macs=before.macs,
        parameters=before.weights.size,
        weights_of=None if first is before else first.name,
        columns_pruned={int(value): int(count) for value, count in zip(values, counts, strict=True)},
        bits_per_weight=round(average_bits([before], compressed.allocation), 4),
        sensitive_channels=int((n == 0).sum()),
        weight_sqnr=change.sqnr,
        weight_mse=round(change.mse, 6),
        weight_kl=round(change.divergence, 6),
    )


@dataclass(frozen=True)
class WeightChange:
    """The effect of pruning on a layer's weights.

    `sqnr` in dB, None if they are equal; `mse` in steps of the INT8 weights; `before` and `after`: how many weights
    are at, or nearest to, each INT8 value, int64 [256], from -128 up.
    """

    sqnr: float | None
    mse: float
    before: NDArray[np.int64]
    after: NDArray[np.int64]

    @property
    def divergence(self) -> float:
        """Kullback-Leibler divergence of the two distributions over the 256 INT8 values, in nats.

        Half a weight is added to every value, so that values that pruning never produces do not make it infinite.
        """
        before, after = ((counts + 0.5) / (counts.sum() + 128) for counts in (self.before, self.after))
        return float((before * np.log(before / after)).sum())


def weight_change(before: ArrayLayer, after: ArrayLayer) -> WeightChange:
    """Compares a layer's weights before and after pruning, some channels at a time."""
    counts = np.zeros((2, 256), np.int64)
    signal = noise = error = 0.0
    some = max(1, TOGETHER // before.reduction)
    for first in range(0, before.channels, some):
        part = slice(first, first + some)
        old, scale = before.weights[part], before.weight_scales[part].astype(np.float64)[:, None]
        pruned = after.weights[part] * after.weight_scales[part].astype(np.float64)[:, None]
        real = old * scale
        signal, noise = signal + float((real**2).sum()), noise + float(((pruned - real) ** 2).sum())
        steps = np.divide(pruned, scale, out=np.zeros_like(pruned), where=scale > 0)
        error += float(((steps - old) ** 2).sum())
        for values, counted in zip((old, np.clip(np.rint(steps), BBS.weight_min, BBS.weight_max)), counts, strict=True):
            counted += np.bincount(values.astype(np.int64).reshape(-1) - BBS.weight_min, minlength=256)
    return WeightChange(json_number(decibels(signal, noise)), error / before.weights.size, counts[0], counts[1])


def layer_report(
    pruned: LayerCompression,
    scheduled: LayerSchedule,
    config: ArrayConfig,
    verdict: LayerVerdict,
    dense: tuple[LayerRun | None, LayerSchedule | None],
    cycles_bus: int,
) -> LayerReport:
    """The report on one layer; `dense` is one sample's run on dense PEs, if it was simulated, and its schedule."""
    dense_run, dense_scheduled = dense
    dense_model = layer_cycles(dense_scheduled, config.dense()) if dense_scheduled else None
    cycles_dense = dense_run.cycles if dense_run else dense_model
    parts = breakdown(scheduled, config)
    beyond = verdict.cycles - parts.cycles  # a stream that waited for room in its buffer
    return LayerReport(
        **vars(pruned),
        elements=verdict.elements,
        elements_rtl=verdict.elements_rtl,
        rtl_share=round(verdict.elements_rtl / verdict.elements, 6),
        pieces=verdict.pieces,
        shipped=verdict.shipped,
        cycles=verdict.cycles,
        cycles_source=_source(verdict),
        cycles_dense=cycles_dense,
        cycles_dense_source=None if cycles_dense is None else "rtl" if dense_run else "model",
        cycles_model=parts.cycles,
        cycles_ideal=scheduled.ideal_cycles,
        cycle_breakdown=replace(parts, stall=parts.stall + beyond),
        memory_traffic=memory_traffic(scheduled, config),
        memory_traffic_dense=memory_traffic(dense_scheduled, config.dense()) if dense_scheduled else None,
        speedup=None if cycles_dense is None else round(cycles_dense / verdict.cycles, 4),
        utilization=round(scheduled.ideal_cycles / verdict.cycles, 4),
        tier1_mismatches=verdict.tier1_mismatches,
        tier1a_mismatches=verdict.tier1a_mismatches,
        tier1b_mismatches=verdict.tier1b_mismatches,
        tier1b_mismatches_dense=dense_run.mismatches if dense_run else 0,
        tier2_mismatches=verdict.tier2_mismatches,
        tier2_max_lsb=verdict.tier2_max_lsb,
        tier2_histogram=dict(sorted(verdict.tier2_histogram.items())),
        first_mismatch=verdict.first_mismatch,
        cycles_bus=cycles_bus,
    )


def _source(verdict: LayerVerdict) -> CyclesSource:
    """Where a layer's cycles are from."""
    if not verdict.elements_rtl:
        return "model"
    return "rtl" if verdict.pieces == 1 and verdict.elements_rtl == verdict.elements else "pieces"
