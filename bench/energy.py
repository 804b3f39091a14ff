"""Energy of the processing elements, measured at gate level with the operands of real layers, beside the paper's.

    python -m bench.energy [--network MODEL.onnx] [--element NAME ...] [--outputs K] [--liberty FILE] [--wire FF]
                           [--clock MHZ] [--pruned 0,2,4] [--output FILE.json]

Every element is mapped by Yosys to a library (Debian's qflow-tech-osu018: 180 nm, 1.8 V), its gates are simulated in
Icarus Verilog, and `bench.gates` adds up what their transitions take. Without a network: the digits that ship.

The operands are activations of the network's calibration samples and its weights pruned by N bit columns, alike for
all elements ("the same data"; N = 0 are the INT8 weights). Of every layer K outputs are computed one after the other,
as one element of a 16x32 array computes them: windows of consecutive tiles, its channel in lockstep with those of its
block, sums draining past it. Every sum is compared with the exact one. Layers count by their products.

    pJ/cycle      of one element at work; "clock" is the share of the clock's net and the flip-flops' clock pins
    pJ/MAC        for one product of the unpruned layer, all cycles of the element counted

Not in it: what a row or a column of elements shares (operand registers, schedulers, tables), wires between cells
(unless --wire adds femtofarads for every input pin), glitches, the output's load, buffers and DRAM
(`bench.paper.energy` has a stated model of these). Absolute values are those of a 180 nm library; compare ratios.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench import gates
from bench.operands import BITVERT, DENSE, DRIVEN, Cycle, Drive, Driven, Step, Tile, stream
from bench.paper.published import PE_POWER
from bench.paper.workloads import Source, source
from flow.compression.calibration import calibrate
from flow.compression.prune import prune
from flow.errors import FlowError
from flow.frontend import quantize
from flow.frontend.admit import load as load_network
from flow.frontend.int8 import cut
from flow.hardware.config import ArrayConfig
from flow.network import reference, samples
from flow.network.model import ArrayLayer, as_uint8

DIGITS = Path(__file__).parents[1] / "models" / "digits_cnn.onnx"
ARRAY = ArrayConfig()
PRUNED = (0, 2, 4)  # bit columns
OUTPUTS, IN_ROW = 12, 3  # of every layer, and how many of them one after the other of one channel
SAMPLES = 16  # of the calibration samples
DRAINED = 5  # cycles until the first sum is in the result register
PICO = 1e12
PAPER = {"stripes_8": "stripes"}  # the paper's names of the elements


@dataclass(frozen=True)
class Operands:
    """A layer with its activations, uint8 [groups, windows, reduction]."""

    layer: ArrayLayer
    windows: NDArray[np.uint8]


def operands(given: Source) -> list[Operands]:
    """The network's layers with what they see of its calibration samples. FlowError if there are none."""
    if given.model is None or given.calibration is None:
        raise FlowError(f"{given.name} has no calibration samples beside it; put NAME_calibration.npz there")
    model = load_network(given.model)
    seen = samples.load(given.calibration, model, "calibration").first(SAMPLES)
    found: list[Operands] = []

    def look(layer: ArrayLayer, tensors: list[NDArray[Any]]) -> ArrayLayer:
        codes = np.concatenate([layer.input_quantization.to_int8(tensor) for tensor in tensors])
        found.append(Operands(layer, as_uint8(reference.windows(layer, codes))))
        return layer

    calibrate(cut.partition(quantize.quantize(model, seen.feeds).model, given.name), seen.feeds, look)
    if not found:
        raise FlowError(f"network '{given.model}' has no layer for the array; see 'bbs inspect'")
    return found


@dataclass(frozen=True)
class Work:
    """What an element computes of a layer: tiles, their exact sums, and products of the unpruned layer."""

    tiles: list[Tile]
    sums: list[int]
    products: int


def work(driven: Driven, given: Operands, columns_pruned: int, outputs: int) -> Work:
    """`outputs` sums of the layer with so many bit columns pruned: runs of `IN_ROW` of one channel, as the array has
    them, spread over the channels and windows."""
    layer = given.layer
    encoded, weights = prune(layer.weights, np.full(layer.channels, columns_pruned), name=layer.name)
    limited = np.clip(weights.astype(np.int64), -driven.largest, driven.largest)
    in_group, runs = layer.channels // layer.groups, -(-outputs // IN_ROW)
    made = Work([], [], outputs * layer.reduction)
    for number in range(outputs):
        run, place = divmod(number, IN_ROW)
        channel = run * layer.channels // runs
        group, within = divmod(channel, in_group)
        first = within - within % ARRAY.columns  # of the block that the channel is in
        block = range(group * in_group + first, group * in_group + min(first + ARRAY.columns, in_group))
        rows = given.windows[group]
        x = rows[(run * len(rows) // runs + place * ARRAY.rows) % len(rows)].astype(np.int64)
        steps = _encoded(driven, encoded, channel) if driven.encoded else _plain(driven, limited, channel, block)
        padded = np.pad(x, (0, len(steps) * driven.step - len(x))).tolist()
        cycles = [
            cycle
            for begin, step in zip(range(0, len(padded), driven.step), steps, strict=True)
            for cycle in step.cycles(driven, padded[begin : begin + driven.step])
        ]
        neighbours = [channel + ARRAY.lanes * hop for hop in range(1, ARRAY.drain + 1)]
        behind = [int(limited[each] @ x) if each in block else 0 for each in neighbours]
        made.tiles.append(Tile(cycles, behind))
        made.sums.append(int(limited[channel] @ x))
    return made


@dataclass(frozen=True)
class Lockstep:
    """A step's weights, and the cycles that the slowest element of the block needs for its own."""

    weights: Any
    cycles_needed: int

    def cycles(self, driven: Driven, x: list[int]) -> list[Cycle]:
        own = driven.drive(self.weights, x)
        return own + [own[-1] | {"valid": 0}] * (self.cycles_needed - len(own))


def _encoded(driven: Driven, encoded: Any, channel: int) -> list[Lockstep]:
    (part,) = encoded.parts
    first, count = channel * encoded.groups_per_channel, -(-encoded.reduction // driven.step)
    return [Lockstep(Step.of(part.groups, first + number // 2, number % 2), 0) for number in range(count)]


def _plain(driven: Driven, weights: NDArray[np.int64], channel: int, block: range) -> list[Lockstep]:
    padded = np.pad(weights, [(0, 0), (0, -weights.shape[1] % driven.step)])
    steps = padded.reshape(len(weights), -1, driven.step).tolist()
    return [
        Lockstep(own, max(_cycles(driven.drive, tuple(steps[other][number])) for other in block))
        for number, own in enumerate(steps[channel])
    ]


@lru_cache(2**16)
def _cycles(drive: Drive, weights: tuple[int, ...]) -> int:
    """The cycles that an element needs for a step of these weights."""
    return len(drive(weights, [0] * len(weights)))


@dataclass(frozen=True)
class Measured:
    """An element on the data of a network, N bit columns pruned: joules of one cycle, cycles for one product."""

    element: str
    columns_pruned: int
    cycle: gates.Energy
    cycles_per_mac: float

    @property
    def per_mac(self) -> float:
        return self.cycle.total * self.cycles_per_mac


@dataclass(frozen=True)
class Options:
    """`wire` in farads for every input pin, `period` of the clock in seconds, `outputs` of every layer."""

    outputs: int = OUTPUTS
    wire: float = 0.0
    period: float = 1e-8


def measure(
    driven: Driven, given: Sequence[Operands], cells: gates.Library, options: Options, pruned: Sequence[int] = PRUNED
) -> list[Measured]:
    """One element at every N, over all layers by their products. FlowError if a program is missing."""
    inputs = {name: width for name, width in driven.element.ports.items() if name not in ("clk", "result")}
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        design = gates.netlist(driven.element.verilog(folder / "rtl"), driven.element.name, cells, folder, options.wire)
        for n in pruned:
            spent, needed, products = gates.NOTHING, 0.0, 0
            for each in given:
                job = work(driven, each, n, options.outputs)
                cycles = [{"enable": 1, **cycle} for cycle in stream(driven, job.tiles)]
                busy = len(cycles) - 3 - ARRAY.drain
                counted = range(len(job.tiles[0].cycles) + DRAINED, busy)
                activity = gates.simulate(design, inputs, cycles, counted)
                assert activity.results == job.sums, f"{driven.element.name}: {activity.results} for {job.sums}"
                per_mac, macs = sum(len(tile.cycles) for tile in job.tiles) / job.products, each.layer.macs
                energy = gates.energy(design, activity, options.period)
                spent += energy * (per_mac * macs / activity.cycles)
                needed, products = needed + per_mac * macs, products + macs
            found.append(Measured(driven.element.name, n, spent * (1 / needed), needed / products))
    return found


def idle_share(layers: Sequence[ArrayLayer], config: ArrayConfig = ARRAY) -> float:
    """Share of the elements' cycles in rows without a window and columns without a channel, N the same everywhere."""
    whole = busy = 0
    for layer in layers:
        channels = layer.channels // layer.groups
        tiles, blocks = -(-layer.positions // config.rows), -(-channels // config.columns)
        whole += layer.groups * tiles * config.rows * blocks * config.columns * layer.reduction
        busy += layer.macs
    return 1 - busy / whole


def gating_gain(idle: float, cycle: gates.Energy) -> float:
    """Share of the array's energy that it saves not to clock such elements, which otherwise take the clock's alone."""
    return idle * cycle.clock / (idle * cycle.clock + (1 - idle) * cycle.total)


def ratios(found: Mapping[tuple[str, int], Measured], each: Measured) -> tuple[str, str]:
    """Energy of a cycle over the dense element's with the same N, measured and, of table V, published; else empty."""
    dense, paper = found.get((DENSE.element.name, each.columns_pruned)), PAPER.get(each.element, each.element)
    own = f"{each.cycle.total / dense.cycle.total:.2f}" if dense else ""
    return own, f"{PE_POWER[paper] / PE_POWER['stripes']:.2f}" if paper in PE_POWER else ""


def table(found: Mapping[tuple[str, int], Measured]) -> Table:
    shown = Table(box=None, pad_edge=False)
    for head in ("element", "N", "pJ/cycle", "clock", "cycles/MAC", "pJ/MAC", "cycle / dense", "paper"):
        shown.add_column(head, justify="left" if head == "element" else "right", no_wrap=True)
    for each in found.values():
        shown.add_row(
            each.element, str(each.columns_pruned), f"{each.cycle.total * PICO:.1f}",
            f"{each.cycle.clock / each.cycle.total:.0%}", f"{each.cycles_per_mac:.3f}", f"{each.per_mac * PICO:.1f}",
            *ratios(found, each),
        )  # fmt: skip
    return shown


@click.command(help=__doc__)
@click.option("--network", type=click.Path(path_type=Path), default=DIGITS)
@click.option("--element", "names", multiple=True, help="of the elements, by default all")
@click.option("--outputs", type=click.IntRange(2), default=OUTPUTS, help="of every layer")
@click.option("--liberty", type=click.Path(path_type=Path), help="a library of your own, its Verilog beside it")
@click.option("--wire", type=float, default=0.0, help="femtofarads for every input pin on a net")
@click.option("--clock", type=float, default=100.0, help="MHz: how long a cycle leaks")
@click.option("--pruned", default=",".join(map(str, PRUNED)), help="bit columns, N")
@click.option("--output", type=click.Path(path_type=Path), help="the figures as JSON")
def main(names: tuple[str, ...], **options: Any) -> None:
    known = {each.element.name: each for each in DRIVEN}
    try:
        if unknown := next((name for name in names if name not in known), None):
            raise FlowError(f"there is no element '{unknown}'; choose of {', '.join(known)}")
        cells, given = gates.library(options["liberty"]), operands(source(options["network"]))
        chosen = Options(options["outputs"], options["wire"] * 1e-15, 1e-6 / options["clock"])
        pruned = [int(n) for n in options["pruned"].split(",")]
        found: dict[tuple[str, int], Measured] = {}
        for name in names or known:
            for each in measure(known[name], given, cells, chosen, pruned):
                found[name, each.columns_pruned] = each
            print(f"{name} is measured", file=sys.stderr)
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    Console(width=150).print(table(found))
    layers = [each.layer for each in given]
    idle = idle_share(layers)
    print(f"Without a window or a channel: {idle:.1%} of the elements' cycles on a {ARRAY.rows}x{ARRAY.columns} array.")
    for n in pruned if BITVERT.element.name in (names or known) else ():
        gain = gating_gain(idle, found[BITVERT.element.name, n].cycle)
        print(f"Not clocking these saves {gain:.1%} of the BitVert array's energy at N = {n}.")
    if options["output"] is not None:
        rows = [asdict(each) | {"per_mac": each.per_mac} for each in found.values()]
        options["output"].write_text(json.dumps({"unit": "J", "elements": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
