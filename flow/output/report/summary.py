"""The report's summary: the figures of the whole network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from flow.compression.allocate import average_bits
from flow.compression.choice import BITS, CYCLES, ENERGY, Pruning
from flow.compression.compress import Compressed, Predicted
from flow.compression.effort import USUAL
from flow.compression.encoding import BBS
from flow.hardware.blocks import DEVICES, Resources, Shortage, shortages, whole
from flow.hardware.synthesis import Estimate
from flow.judgement.accuracy import Accuracy, OutputAccuracy
from flow.judgement.fidelity import Fidelity
from flow.output.report.layers import LayerReport
from flow.scheduling.behind import GAIN, Bus


@dataclass(frozen=True)
class Budget:
    """What was asked of the pruning and what it reached.

    `measure` is "bits" per weight on average, "speedup" over dense PEs or "cycles" of a sample by the cycle model, or
    "energy", microjoules of a sample by the model of energy. `asked` is None where as little as possible was asked
    (--max-drop), `reached` where it is not known: `bbs cosim` has no dense PEs.
    """

    measure: Literal["bits", "speedup", "cycles", "energy"]
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
class FpgaUse:
    """Lookup tables (Artix-7: of 6 inputs, else of 4), flip-flops, block memories, multipliers."""

    luts: int
    flip_flops: int
    memories: float
    multipliers: int

    @classmethod
    def of(cls, takes: Resources) -> FpgaUse:
        return cls(round(takes.luts), round(takes.flip_flops), takes.memories, round(takes.multipliers))


@dataclass(frozen=True)
class FpgaBlock:
    """What one block takes, and its share of the lookup tables, 0 to 1."""

    block: str
    takes: FpgaUse
    share: float


@dataclass(frozen=True)
class FpgaArea:
    """What the accelerator behind AXI takes of the FPGAs of one family."""

    family: str
    takes: FpgaUse
    blocks: tuple[FpgaBlock, ...]

    @classmethod
    def of(cls, family: str, blocks: Mapping[str, Resources]) -> FpgaArea:
        total = whole(blocks)
        each = (FpgaBlock(name, FpgaUse.of(one), round(one.luts / total.luts, 4)) for name, one in blocks.items())
        return cls(family, FpgaUse.of(total), tuple(each))


@dataclass(frozen=True)
class DeviceFit:
    """Whether an FPGA has as much, by these counts alone, and if not, what it has too little of."""

    device: str
    family: str
    fits: bool
    short: tuple[Shortage, ...]


@dataclass(frozen=True)
class Area:
    """The estimated area: transistors of the logic, flip-flops, bits of the buffers; and all three in transistors.

    `fpgas`: of the same with its wrapper, behind AXI.
    """

    logic: int
    flip_flops: int
    memory_bits: int
    transistors: int
    fpgas: tuple[FpgaArea, ...]
    devices: tuple[DeviceFit, ...]

    @classmethod
    def of(cls, estimate: Estimate, fpgas: Mapping[str, Mapping[str, Resources]]) -> Area:
        fits = []
        for name, device in DEVICES.items():
            if device.family in fpgas:
                short = shortages(whole(fpgas[device.family]), device)
                fits.append(DeviceFit(name, device.family, not short, short))
        return cls(
            estimate.logic,
            estimate.flip_flops,
            estimate.memory_bits,
            estimate.transistors,
            tuple(FpgaArea.of(family, blocks) for family, blocks in fpgas.items()),
            tuple(fits),
        )


@dataclass(frozen=True)
class Rate:
    """A number of cycles at a clock: milliseconds of a sample, inferences a second one after the other."""

    milliseconds: float
    inferences_per_second: float

    @classmethod
    def of(cls, cycles: int, megahertz: float) -> Rate:
        return cls(cycles / (1000 * megahertz), 1e6 * megahertz / cycles)


@dataclass(frozen=True)
class BusReport:
    """The network behind the AXI bus that is built, by the model of `scheduling/bus`, for one sample.

    `bits` of the bus; `latency` in cycles and `bandwidth` in bytes a cycle: of the memory. `cycles` are those of all
    layers, one after the other, `cost` how much more these are than with ideal memories (0.1: a tenth). `on_chip`: the
    same of all segments, None if none ran. `whole_cycles` are those of the network as it runs: of the segments and of
    layers in none, or else of all layers. `needed_bits` is the narrowest bus of which twice the width saves less than
    `GAIN` of them, and `needed_cycles` how many they are then.
    """

    bits: int
    latency: int
    bandwidth: int
    cycles: int
    cost: float
    on_chip: int | None
    on_chip_cost: float | None
    whole_cycles: int
    needed_bits: int
    needed_cycles: int

    @classmethod
    def of(cls, bus: Bus, layers: int, on_chip: int | None) -> BusReport:
        """`layers` and `on_chip` (None: did not run) are the cycles with ideal memories."""
        built, needed = bus.built, bus.needed
        summed, there = (sum(run.cycles for run in runs) for runs in (built.layers, built.segments))
        return cls(
            built.axi.data_bits, built.memory.latency, built.memory.bandwidth, summed, round(summed / layers - 1, 4),
            there if on_chip else None, round(there / on_chip - 1, 4) if on_chip else None, built.whole,
            needed.axi.data_bits, needed.whole,
        )  # fmt: skip


@dataclass(frozen=True)
class Clock:
    """What the accelerator takes at a clock that the user names: the layers one after the other, or network on chip.

    Behind the bus, by its model; the host's part is not counted. Whether the hardware reaches that clock is not known
    here.
    """

    megahertz: float
    layers: Rate
    on_chip: Rate | None


@dataclass(frozen=True)
class FrontPoint:
    """A form of the network, measured on the evaluation samples.

    `cycles` of a sample by the cycle model, `cycles_bus` behind the bus, by its model; `energy` in microjoules, None
    where it has no model.

    `kind`: "int8", before pruning; "chosen", the network of this report; "tried", on the way to it (`kept` is False
    where it lost more than --max-drop allows); "budget", another that --front measured, which `option` gives.
    """

    kind: Literal["int8", "chosen", "tried", "budget"]
    option: str | None
    kept: bool | None
    bits_per_weight: float
    cycles: int
    cycles_bus: int
    energy: float | None
    value: float | None
    divergence: float
    best: bool


@dataclass(frozen=True)
class Front:
    """Networks of the same array beside each other. `value` is that of `metric`, at `output` unless it is the user's.

    Without labels, `metric` is None and only the divergence from the network given is known. `best` are the points that
    no other equals or beats in answers, cycles behind the bus, bits and energy at once.
    """

    metric: str | None
    output: str | None
    lower: bool
    samples: int
    source: str
    points: tuple[FrontPoint, ...]


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
    front: Front | None
    clock: Clock | None = None


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
    if chosen.limited == BITS:
        return Budget("bits", chosen.bits, round(bits, 4))
    if chosen.limited == ENERGY:
        return Budget("energy", None, None if predicted is None else predicted.energy)
    if chosen.speedup is not None:
        return Budget("speedup", chosen.speedup, None if predicted is None else predicted.speedup)
    return Budget("cycles", chosen.cycles, None if predicted is None else predicted.cycles)


def front(result: Compressed, accuracy: Accuracy) -> Front | None:
    """The networks that were measured, by bits and cycles; None where no time is known (`bbs cosim`)."""
    predicted = result.predicted
    if predicted is None:
        return None
    judged = accuracy.own or accuracy.labelled
    metric, lower, values = (judged.metric, judged.lower, judged.values) if judged else (None, False, {})
    bits = round(average_bits(result.network.layers, result.allocation), 4)
    points = [
        FrontPoint("int8", None, None, float(BBS.weight_bits), predicted.cycles_int8, predicted.cycles_int8_bus,
                   predicted.energy_int8, values.get("int8"), accuracy.divergence.get("int8", 0.0) or 0.0, False),
        FrontPoint("chosen", None, None, bits, predicted.cycles, predicted.cycles_bus, predicted.energy,
                   values.get("pruned"), accuracy.divergence.get("pruned") or 0.0, False),
    ]  # fmt: skip
    points += [
        FrontPoint("tried" if each.option is None else "budget", each.option, each.kept, each.bits, each.cycles,
                   each.cycles_bus, each.energy, each.value, each.divergence, False)
        for each in result.tried
        if each.option is not None or (each.bits, each.cycles) != (bits, predicted.cycles)
    ]  # fmt: skip
    best = unbeaten([_costs(each, metric is not None, lower) for each in points])
    found = sorted((replace(each, best=right) for each, right in zip(points, best, strict=True)),
                   key=lambda each: (each.cycles_bus, each.bits_per_weight))  # fmt: skip
    output = judged.name if isinstance(judged, OutputAccuracy) else None
    return Front(metric, output, lower, accuracy.samples, accuracy.source, tuple(found))


def _costs(point: FrontPoint, scored: bool, lower: bool) -> tuple[float, ...]:
    """Answers, cycles behind the bus, bits, and energy if it is known, of each of which less is better."""
    worst = float("inf")
    value = worst if point.value is None else point.value if lower else -point.value
    return value if scored else point.divergence, point.cycles_bus, point.bits_per_weight, point.energy or 0.0


def unbeaten(costs: Sequence[tuple[float, ...]]) -> list[bool]:
    """For each, whether no other costs as little in all and less in one."""
    return [not any(all(a <= b for a, b in zip(o, own, strict=True)) and o != own for o in costs) for own in costs]


def clocked(summary: Summary, megahertz: float | None, bus: BusReport) -> Summary:
    """The summary with the time at a clock, behind the bus."""
    if megahertz is None:
        return summary
    chip = None if bus.on_chip is None else Rate.of(bus.on_chip, megahertz)
    return replace(summary, clock=Clock(megahertz, Rate.of(bus.cycles, megahertz), chip))


def bus_lines(bus: BusReport) -> tuple[str, str]:
    """What the bus costs, and which one the network needs, in words, for the user."""
    where = f"a bus of {bus.bits} bits, memory of {bus.latency} cycles and {bus.bandwidth} bytes a cycle"
    parts = [f"{bus.cycles:,} cycles layer by layer (+{100 * bus.cost:.1f} %)"]
    if bus.on_chip is not None and bus.on_chip_cost is not None:
        parts.append(f"{bus.on_chip:,} on chip (+{100 * bus.on_chip_cost:.1f} %)")
    needs = f"The narrowest bus of which twice the width saves less than {100 * GAIN:.0f} %"
    told = "is this one" if bus.needed_bits == bus.bits else f"has {bus.needed_bits} bits: {bus.needed_cycles:,} cycles"
    return f"Behind AXI, {where}: {', '.join(parts)}.", f"{needs} {told}."


def clock_line(clock: Clock) -> str:
    """The time at the clock in words, for the user."""
    found = {"layer by layer": clock.layers, "the whole network on chip": clock.on_chip}
    parts = [
        f"{rate.inferences_per_second:,.0f} inferences a second, {rate.milliseconds:.3g} ms each, {how}"
        for how, rate in found.items() if rate is not None
    ]  # fmt: skip
    return f"At {clock.megahertz:g} MHz: {'; '.join(parts)} (behind the bus, without the host)."


def amounts(budget: Budget) -> tuple[str, str]:
    """What was asked and what was reached, in words, for the user."""
    forms = {"bits": "{:.4g} bits per weight", "speedup": "{:.4g}x over dense PEs", "cycles": "{:,.0f} cycles a sample",
             "energy": "{:,.4g} microjoules a sample"}  # fmt: skip
    least = {"bits": "the fewest bits", "speedup": "the most", "cycles": "the fewest cycles",
             "energy": "the least energy"}  # fmt: skip
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
    how += f" ({predicted.cycles_bus:,} behind a bus of {predicted.bus_bits} bits)"
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
        wanted += {BITS: "", CYCLES: ", with the fewest cycles", ENERGY: ", with the least energy"}[chosen.objective]
    weights = "".join(f", output '{name}' weighs {weight:g}" for name, weight in chosen.output_weight.items())
    how = f"refined by {', '.join(chosen.means)}" if chosen.means else "not refined"
    tried = f", effort {chosen.effort}" if chosen.effort != USUAL else ""
    return f"a budget of {wanted}, {how}{tried}{weights}"


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
