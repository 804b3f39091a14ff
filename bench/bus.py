"""Cycles and beats behind AXI against those with memories at the ports, by width and latency of the bus.

    python -m bench.bus MODEL.onnx [--array RxC ...] [--bus BITS ...] [--latency CYCLES ...] [--bandwidth BYTES]
                        [--outstanding K] [--preset NAME | --bits B] [--calibration FILE]

The accelerator that a build emits runs in Verilator, with a memory that answers a read `--latency` cycles after its
address, gives `--bandwidth` bytes a cycle in each direction, at most a beat, and takes `--outstanding` bursts at once
(0: any number). On chip is one sample by one start, with its outputs written, traced with the results of every step,
too; layers is the sum over all layers, each by one start. Every result is compared.

`model` are the cycles that `flow/scheduling/bus` predicts, and "% off" how far they are from the cycles measured.
`ideal` are the cycles with memories at the ports, `bus` the beats of the busier direction, `bound` the larger of both,
and "% of ideal" and "% of bound" their ratios to the cycles measured. `reads` and `writes` are bursts.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from flow.api.inputs import compress_network, evaluation, import_network, read_network
from flow.api.options import NETWORK, argument
from flow.api.requests import DataOptions, PruningOptions
from flow.api.speed import Speed
from flow.cli.options import asked
from flow.errors import FlowError
from flow.files import cache_folder
from flow.hardware.axi.bus import WIDTHS, AxiConfig, regions, registers
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.emit import Wrapper, emit_wrapped
from flow.hardware.interface import Device, Memory
from flow.network import reference
from flow.progress import silent
from flow.scheduling.bus.bursts import SlowMemory
from flow.scheduling.bus.model import BusTime, bus_time
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.layout import activations, results
from flow.scheduling.onchip.program import OnChip, assemble, fitted, outputs_only
from flow.scheduling.schedule import schedule
from flow.scheduling.words import activation_words
from flow.simulation import engines
from flow.simulation.engines import verilator
from flow.simulation.engines.base import Command
from flow.simulation.onchip import by_reference, cycle_limit
from flow.simulation.results import expected_words

HARNESS = Path(__file__).with_name("bus.cpp")
DIGITS = Path(__file__).parents[1] / "models" / "digits_cnn.onnx"
MOST_CYCLES = 10_000_000


class _Counts(ctypes.Structure):
    _fields_ = [
        ("edges", ctypes.c_uint64), ("read_beats", ctypes.c_uint64 * 16), ("read_bursts", ctypes.c_uint64 * 16),
        ("write_beats", ctypes.c_uint64), ("write_bursts", ctypes.c_uint64),
    ]  # fmt: skip


@dataclass(frozen=True)
class Work:
    """A run: the memories but the output's, descriptors from `first` on; the output memory that must result."""

    memories: Mapping[str, Memory]
    first: int
    count: int
    want: Memory


@dataclass(frozen=True)
class Traffic:
    """What a run took: cycles from start to done; beats, bursts and cycles of waiting by memory."""

    cycles: int
    beats: Mapping[str, int]
    bursts: Mapping[str, int]
    stalls: Mapping[str, int]

    @property
    def busiest(self) -> int:
        """Beats of the busier direction."""
        read = sum(beats for name, beats in self.beats.items() if name != "output")
        return max(read, self.beats["output"])

    def plus(self, other: Traffic) -> Traffic:
        """Of one run after the other."""
        summed = [
            {name: mine[name] + theirs[name] for name in mine}
            for mine, theirs in (
                (self.beats, other.beats), (self.bursts, other.bursts), (self.stalls, other.stalls),
            )
        ]  # fmt: skip
        return Traffic(self.cycles + other.cycles, *summed)


class Bus:
    """An emitted wrapper in Verilator, with a memory."""

    def __init__(self, config: ArrayConfig, wrapper: Wrapper, cache: Path) -> None:
        self.config, self.axi = config, wrapper.axi
        source = HARNESS.read_text().replace("BEAT_BYTES", str(self.axi.beat))
        library, self._held = verilator.build(Device(wrapper.name, wrapper.files, (), ()), cache, source=source)
        self._run = ctypes.CDLL(str(library)).bbs_bus

    def run(self, work: Work, memory: SlowMemory) -> Traffic:
        """The traffic of a run; AssertionError if a byte of its output memory is wrong."""
        ports = memory_ports(self.config)
        layout = registers(ports)
        words = {name: len(memory) for name, memory in work.memories.items()} | {"output": len(work.want)}
        placed = {region.name: region for region in regions(ports, self.axi, words)}
        octets = np.zeros(max(region.end for region in placed.values()), np.uint8)
        for name, image in work.memories.items():
            region = placed[name]
            octets[region.offset : region.end].reshape(-1, region.stride)[:, : image.shape[1]] = image
        written = [(layout[f"{name}_base"].offset, region.offset) for name, region in placed.items()]
        written += [(layout["command"].offset, work.first | work.count << 16), (layout["control"].offset, 3)]
        names = ["status", "cycles", *(f"{port.name}_stalls" for port in ports)]
        values, counts = (ctypes.c_uint32 * len(names))(), _Counts()
        status = self._run(
            octets.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(octets.size), ctypes.c_uint64(memory.latency),
            ctypes.c_uint64(memory.bandwidth), ctypes.c_uint64(memory.outstanding),
            _words([word for pair in written for word in pair]),
            ctypes.c_uint64(len(written)), _words([layout[name].offset for name in names]),
            ctypes.c_uint64(len(names)), values, ctypes.c_uint64(MOST_CYCLES), ctypes.byref(counts),
        )  # fmt: skip
        assert not status and values[0] == 1 << layout["status"].field("done").low, (status, values[0])
        region = placed["output"]
        got = octets[region.offset : region.end].reshape(-1, region.stride)[:, : work.want.shape[1]]
        assert np.array_equal(got, work.want), "the results are wrong"
        reads = [port.name for port in ports if not port.lanes]
        return Traffic(
            values[1],
            {name: counts.read_beats[i] for i, name in enumerate(reads)} | {"output": counts.write_beats},
            {name: counts.read_bursts[i] for i, name in enumerate(reads)} | {"output": counts.write_bursts},
            {port.name: values[2 + i] for i, port in enumerate(ports)},
        )

    def predicted(self, work: Work, memory: SlowMemory) -> BusTime:
        """What the model says of a run."""
        return bus_time(work.memories, (work.first, work.count), self.config, self.axi, memory)


def _words(values: Sequence[int]) -> Any:
    return (ctypes.c_uint32 * len(values))(*values)


def whole_work(onchip: OnChip, device: Device, cache: Path, traced: bool = False) -> tuple[Work, int]:
    """One sample of a network on chip, its cycles with memories at the ports; `traced`: every result is written."""
    rng = np.random.default_rng(0)
    inputs = {held.tensor: rng.integers(-128, 128, held.shape).astype(np.int8) for held in onchip.chain.inputs}
    memories = {**onchip.memories, "activation": activations(onchip, inputs)}
    if not traced:
        memories["descriptor"] = outputs_only(onchip)
    engine, _ = engines.select("verilator")
    done = engine.open(device, cache).run(
        memories, Command(0, onchip.descriptors, cycle_limit(onchip)), {"output": onchip.output_words}
    )
    got, want = results(onchip, done.memories["output"]), by_reference(onchip, inputs)
    for number in onchip.chain.output_steps.values():
        assert np.array_equal(got[number], want[number]), f"step {number} is wrong"
    return Work(memories, 0, onchip.descriptors, done.memories["output"]), done.cycles


def layer_works(compressed: Any, config: ArrayConfig) -> list[tuple[Work, int]]:
    """Every layer by one start, on random codes, with its cycles with memories at the ports."""
    program = schedule(compressed.encoded, compressed.network.layers, config)
    rng, made = np.random.default_rng(0), []
    for scheduled in program.layers:
        codes = rng.integers(-128, 128, (1, *scheduled.layer.input_shape)).astype(np.int8)
        windows = reference.windows(scheduled.layer, codes)
        memories = program.memories | {"activation": activation_words(scheduled, windows, config)}
        work = Work(memories, scheduled.first, len(scheduled.blocks), expected_words(scheduled, codes, config))
        made.append((work, layer_cycles(scheduled, config)))
    return made


@dataclass(frozen=True, eq=False, kw_only=True)
class BusRequest(DataOptions, PruningOptions):
    """The options of this benchmark that are those of a build."""

    model: Path | onnx.ModelProto = argument(NETWORK, "MODEL.onnx", "The network.")


def _row(table: Table, head: Sequence[str], traffic: Traffic, model: int, ideal: int) -> None:
    bound = max(ideal, traffic.busiest)
    reads = sum(bursts for name, bursts in traffic.bursts.items() if name != "output")
    waits = ", ".join(f"{name} {count:,}" for name, count in traffic.stalls.items() if count)
    table.add_row(
        *head, f"{traffic.cycles:,}", f"{model:,}", f"{100 * (model / traffic.cycles - 1):+.2f}", f"{ideal:,}",
        f"{traffic.busiest:,}", f"{100 * ideal / traffic.cycles:.1f}",
        f"{100 * bound / traffic.cycles:.1f}", f"{reads:,}", f"{traffic.bursts['output']:,}", waits,
    )  # fmt: skip


@click.command()
@click.option("--array", "arrays", multiple=True, default=("4x4", "8x8"))
@click.option("--bus", "buses", type=int, multiple=True, default=(64, 128))
@click.option("--latency", "latencies", type=int, multiple=True, default=(0, 40, 100))
@click.option("--bandwidth", type=int, default=WIDTHS[-1] // 8)
@click.option("--outstanding", type=int, default=0)
@asked(BusRequest)
def main(
    request: BusRequest, arrays: Sequence[str], buses: Sequence[int], latencies: Sequence[int], bandwidth: int,
    outstanding: int,
) -> None:  # fmt: skip
    """Print the table."""
    source = read_network(request)
    imported = import_network(source, request.calibration, [])
    table = Table(box=None, pad_edge=False)
    for place, head in enumerate(("array", "run", "bus", "latency", "cycles", "model", "% off", "ideal", "bus",
                                  "% of ideal", "% of bound", "reads", "writes", "waits")):  # fmt: skip
        table.add_column(head, justify="left" if place in (0, 1, 13) else "right")
    for size in arrays:
        rows, columns = map(int, size.split("x"))
        config = ArrayConfig(rows, columns)
        linked = chain(imported.network)
        if not linked.whole:
            raise FlowError(
                f"network '{source.name}' does not run on chip by one start: bbs inspect --on-chip says why"
            )
        config = fitted(config, linked)
        samples = evaluation(imported.network, source, None, 1, []).first(1)
        _, compressed = compress_network(
            imported, request.chosen, Speed.by_default(imported.network, config), samples, silent, []
        )
        encoded = dict(zip((layer.name for layer in compressed.network.layers), compressed.encoded, strict=True))
        onchip = assemble(chain(compressed.network), encoded, config)
        layers = layer_works(compressed, config)
        for bits in buses:
            with tempfile.TemporaryDirectory() as folder:
                device, wrapper = emit_wrapped(config, AxiConfig(bits), Path(folder))
                cache = cache_folder(None)
                wholes = [
                    (name, *whole_work(onchip, device, cache, name == "traced")) for name in ("on chip", "traced")
                ]
                bus = Bus(config, wrapper, cache)
            for latency in latencies:
                memory, setting = SlowMemory(latency, bandwidth, outstanding), (str(bits), str(latency))
                for name, work, ideal in wholes:
                    predicted = bus.predicted(work, memory).cycles
                    _row(table, (size, name, *setting), bus.run(work, memory), predicted, ideal)
                summed = None
                for work, _ in layers:
                    one = bus.run(work, memory)
                    summed = one if summed is None else summed.plus(one)
                assert summed is not None
                predicted = sum(bus.predicted(work, memory).cycles for work, _ in layers)
                _row(table, (size, "layers", *setting), summed, predicted, sum(cycles for _, cycles in layers))
    Console(highlight=False, width=200).print(table)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (FlowError, click.ClickException) as error:
        raise SystemExit(f"error: {error}") from None
