"""A whole network on chip, step by step: cycles from the RTL, utilization, and what the layer-by-layer array takes.

    python -m bench.on_chip MODEL.onnx [--array RxC] [--preset NAME | --bits B] [--calibration FILE] [--samples K]

The cycles of a step are those of a run up to its last descriptor less those of a run up to the step before, so
loading, waiting and draining count. `outside` are the cycles of the layer alone with windows from the host, by the
cycle model: for a depthwise convolution the paper's mapping, one channel at a time. `--samples K` runs K samples whole
and gives seconds and cycles a second.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from flow.api.inputs import compress_network, evaluation, import_network, read_network
from flow.api.options import NETWORK, WHOLE, argument, option
from flow.api.requests import ArrayOption, DataOptions, PruningOptions
from flow.api.speed import Speed
from flow.cli.options import asked
from flow.compression.compress import Compressed
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit
from flow.judgement.onchip import judge, passes
from flow.progress import silent
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.onchip.chain import ChainLayer, chain
from flow.scheduling.onchip.program import OnChip, assemble, fitted
from flow.scheduling.schedule import schedule
from flow.simulation import engines
from flow.simulation.engines.base import Command, Simulator
from flow.simulation.onchip import ChainRun, cosimulate, cycle_limit


def step_cycles(onchip: OnChip, simulator: Simulator, run: ChainRun) -> list[int]:
    """Cycles to load the inputs, and of every step: what each adds to the cycles of a run that ends with it."""
    memories = {**onchip.memories, "activation": run.memories["activation"]}
    until = [
        simulator.run(memories, Command(0, end, cycle_limit(onchip)), {"output": onchip.output_words}).cycles
        for end in (onchip.firsts[0], *onchip.ends)
    ]
    return [int(cycles) for cycles in np.diff([0, *until])]


def table(onchip: OnChip, compressed: Compressed, cycles: Sequence[int]) -> Table:
    config = onchip.config
    outside = schedule(compressed.encoded, compressed.network.layers, replace(config, map_words=0))
    alone = {scheduled.layer.name: layer_cycles(scheduled, config) for scheduled in outside.layers}
    result = Table(box=None, pad_edge=False)
    for head in ("step", "what", "inputs", "cycles", "bit columns", "util. %", "MACs/cycle", "outside"):
        result.add_column(head, justify="left" if head in ("step", "what") else "right")
    result.add_row("load the input", "", "", f"{cycles[0]:,}", "", "", "", "")
    for step, spent, ideal in zip(onchip.chain.steps, cycles[1:], onchip.ideal_cycles, strict=True):
        if isinstance(step, ChainLayer):
            layer = step.layer
            what = f"{layer.op}{f' in {layer.groups} groups' if layer.groups > 1 else ''}"
            result.add_row(
                layer.name, what, str(step.source.shape[0]), f"{spent:,}", f"{ideal:,}", f"{100 * ideal / spent:.1f}",
                f"{layer.macs / spent:,.1f}", f"{alone[layer.name]:,}",
            )  # fmt: skip
        else:
            result.add_row(step.name, step.kind, str(step.input_shapes[0][0]), f"{spent:,}", "", "", "", "")
    return result


@dataclass(frozen=True, eq=False, kw_only=True)
class OnChipRequest(ArrayOption, DataOptions, PruningOptions):
    """The options of this benchmark."""

    model: Path | onnx.ModelProto = argument(NETWORK, "MODEL.onnx", "The network.")
    samples: int = option(WHOLE, 1, "Samples to run; default 1.", metavar="K")
    processes: int = option(WHOLE, 1, "Samples to run at the same time; default 1.", metavar="P")


@click.command()
@asked(OnChipRequest)
def main(request: OnChipRequest) -> None:
    """Print the table."""
    rows, columns = request.array or (16, 32)
    count = request.samples
    source = read_network(request)
    imported = import_network(source, request.calibration, [])
    evaluation_set = evaluation(imported.network, source, request.evaluate, count, []).first(count)
    config = ArrayConfig(rows, columns)
    linked = chain(imported.network)
    if not linked.segments:
        raise FlowError(f"no layer of network '{source.name}' runs on chip: bbs inspect --on-chip says why")
    config = fitted(config, linked)
    speed = Speed.by_default(imported.network, config)
    _, compressed = compress_network(imported, request.chosen, speed, evaluation_set, silent, [])
    network = compressed.network
    linked = chain(network)
    encoded = dict(zip((layer.name for layer in network.layers), compressed.encoded, strict=True))
    onchip = assemble(linked, encoded, config)
    engine, _ = engines.select("verilator")
    with tempfile.TemporaryDirectory() as folder:
        (simulator,) = engines.open_all(engine, [emit(config, Path(folder))], lambda: None)
        begin = time.perf_counter()
        runs = cosimulate(network, onchip, simulator, evaluation_set, request.processes)
        seconds = time.perf_counter() - begin
        Console(highlight=False, width=150).print(table(onchip, compressed, step_cycles(onchip, simulator, runs[0])))
    verdicts = judge(network, onchip, runs)
    cycles, slower = runs[0].cycles, sum(run.cycles for run in speed.behind(compressed.allocation).segments)
    click.echo(
        f"{source.name}, {rows}x{columns}, {8 * config.map_words / 1024:,.1f} KiB of maps: {cycles:,} cycles "
        f"({slower:,} behind a bus of {speed.axi.data_bits} bits), "
        f"{100 * sum(onchip.ideal_cycles) / cycles:.1f} % utilization, {'pass' if passes(verdicts, runs) else 'fail'}; "
        f"{count} samples in {seconds:.1f} s, {count * cycles / seconds:,.0f} cycles a second."
    )


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (FlowError, click.ClickException) as error:
        raise SystemExit(f"error: {error}") from None
