"""How fast the RTL simulates: cycles and MACs a second by engine and array size, and what a whole input would take.

    python -m bench.simulation MODEL.onnx [--array RxC ...] [--engine E ...] [--processes P] [--preset NAME]
                               [--calibration FILE] [--cluster]

The network is quantized and pruned once; each array then runs tiles of its longest layer, in one process and in P of
them. `minutes` is one input whole, in P processes. Ratios are to the first line. Array sizes default to 8x8, 16x32 and
32x32 in Verilator; the other engines run on 4x4. With --cluster the P processes are workers of a Dask scheduler on this
machine, as those of `--scheduler` are.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from flow.api.inputs import import_network
from flow.api.source import read_source
from flow.compression.choice import pruning
from flow.compression.compress import encode
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit
from flow.network import samples
from flow.scheduling.pieces import PIECE, PIECE_SLOW, plan
from flow.scheduling.schedule import schedule
from flow.simulation import engines
from flow.simulation.cosim import speed
from flow.simulation.workers.job import DesignSources
from flow.simulation.workers.open import workers

ARRAYS = ("8x8", "16x32", "32x32")
SLOW = "4x4"


@contextmanager
def scheduler(workers: int) -> Iterator[str]:
    """The address of a new Dask scheduler with this number of workers, each of one thread."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        yield cluster.scheduler_address


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--array", "arrays", multiple=True, default=ARRAYS)
@click.option("--engine", "names", multiple=True, default=("verilator", "icarus", "myhdl"))
@click.option("--processes", type=int, default=os.cpu_count() or 1)
@click.option("--preset", default="moderate")
@click.option("--calibration", type=click.Path(path_type=Path))
@click.option("--cluster", is_flag=True)
def main(
    model: Path, arrays: tuple[str, ...], names: tuple[str, ...], processes: int, cluster: bool, **data: Any
) -> None:
    """Print the table."""
    preset, calibration = data["preset"], data["calibration"]
    imported = import_network(read_source(model).admitted(), calibration, [])
    source = calibration or samples.beside(model, "calibration")
    table = Table(box=None, pad_edge=False)
    heads = ("engine", "array", "cycles/s", f"in {processes}", "million MACs/s", "ratio", "cycles", "minutes")
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < 2 else "right")
    jobs = [(name, size) for name in names for size in (arrays if engines.ENGINES[name].fast else (SLOW,))]
    first = 0.0
    for name, size in jobs:
        engine, _ = engines.select(name)
        rows, columns = map(int, size.split("x"))
        config = ArrayConfig(rows, columns)
        compressed = encode(imported.network, pruning(preset), config.columns)
        program = schedule(compressed.encoded, compressed.network.layers, config)
        work = plan(program, PIECE if engine.fast else PIECE_SLOW)
        with (
            tempfile.TemporaryDirectory() as folder,
            scheduler(processes) if cluster else nullcontext() as address,
            workers(address, None if address else processes) as job_pool,
        ):
            device = emit(config, Path(folder))
            engines.open_all(engine, [device], lambda: None)
            simulator = job_pool.simulator(DesignSources.of(name, config, device))
            alone = speed(work, simulator)
            with ThreadPoolExecutor(processes) as pool:
                together = sum(pool.map(speed, [work] * processes, [simulator] * processes))
        macs = sum(layer.macs for layer in imported.network.layers) / work.cycles * together
        first = first or macs
        table.add_row(
            name, size, f"{alone:,.0f}", f"{together:,.0f}", f"{macs / 1e6:.3f}", f"{macs / first:.3f}",
            f"{work.cycles:,}", f"{work.cycles / together / 60:,.1f}",
        )  # fmt: skip
    Console(highlight=False, width=120).print(table)
    click.echo(f"{model.name}, {preset}, {sum(layer.macs for layer in imported.network.layers):,} MACs, {source}")


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (FlowError, click.ClickException) as error:
        raise SystemExit(f"error: {error}") from None
