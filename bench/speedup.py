"""Accuracy against speed on an array: budgets of time beside budgets of bits and the paper's presets.

    python -m bench.speedup [MODEL.onnx ...] [--data FOLDER] [--array 16x32] [--speedups 2,3,3.8,4.5] [--bits 5,4.25]
                            [--samples K]

Without networks: the digits that ship, and those of `--data` (or $BBS_DATA), a folder with models/*.onnx and
datasets/NAME_calib.npz, NAME_test.npz. Every network needs calibration and test samples with labels.

Cycles are those of one sample, layer by layer, by the cycle model, "bus" those behind the bus that fits the array, by
its model; "x" is the speed over dense PEs with ideal memories. "goal" marks a
budget of time that is at least 3.8 times as fast as dense PEs and loses at most 0.5 points of the network given;
"se" is one standard error of the top-1, "lost" the points that it is below the network given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.compression.comparison import Comparison
from bench.paper.workloads import Source, source
from flow.api.options import SIZE
from flow.api.speed import Speed
from flow.compression.allocate import PRESETS, average_bits
from flow.compression.choice import Pruning, pruning
from flow.compression.compress import encode
from flow.compression.tune import Evidence
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig

DIGITS = Path(__file__).parents[1] / "models" / "digits_cnn.onnx"
FAST, LOST = 3.8, 0.5  # the goal: times dense PEs, points of top-1


@dataclass(frozen=True)
class Row:
    """A network pruned in one way; top-1, its standard error and `same` in percent."""

    method: str
    cycles: int
    bus: int
    speedup: float
    bits: float
    top1: float
    error: float
    lost: float
    same: float
    divergence: float

    @property
    def reaches(self) -> bool:
        """Whether the goal is reached."""
        return self.speedup >= FAST and self.lost <= LOST


def rows(given: Source, config: ArrayConfig, choices: Sequence[tuple[str, Pruning]], count: int | None) -> list[Row]:
    """The network compressed by each of these ways; those that it cannot be compressed by are left out."""
    if given.model is None or given.calibration is None or given.test is None:
        raise FlowError(f"{given.name} has no calibration or test samples beside it; give --data")
    compared = Comparison(given.model, given.calibration, given.test, count)
    network = compared.network
    speed = Speed.by_default(network, config)
    evidence = Evidence(compared.calibration_data, compared.survey, time=speed.time)
    whole, made = compared.judge("given", 32, compared.source).reached, list[Row]()
    for name, chosen in choices:
        try:
            result = encode(network, chosen, config.columns, evidence=evidence if chosen.budgeted else None)
        except FlowError as reason:
            click.echo(f"{given.name}, {name}: {reason}", err=True)
            continue
        cycles, slower = speed.cycles(result.allocation), speed.cycles_bus(result.allocation)
        bits = average_bits(network.layers, result.allocation)
        got = compared.judge(name, bits, result.network.model)
        made.append(
            Row(
                name, cycles, slower, speed.time.dense / cycles, bits, got.reached, got.error, whole - got.reached,
                got.same, got.kl,
            )
        )  # fmt: skip
    return made


def table(name: str, config: ArrayConfig, found: Sequence[Row]) -> Table:
    shown = Table(box=None, pad_edge=False, title=f"{name}, {config.rows}x{config.columns}")
    for head in ("method", "cycles", "bus", "x", "bits", "top-1 %", "se", "lost", "same %", "KL", "goal"):
        shown.add_column(head, justify="left" if head == "method" else "right", no_wrap=True)
    for row in found:
        shown.add_row(
            row.method, f"{row.cycles:,}", f"{row.bus:,}", f"{row.speedup:.2f}", f"{row.bits:.2f}", f"{row.top1:.2f}",
            f"{row.error:.2f}", f"{row.lost:+.2f}", f"{row.same:.2f}", f"{row.divergence:.4f}",
            "yes" if row.reaches else "",
        )  # fmt: skip
    return shown


def choices(speedups: str, bits: str) -> list[tuple[str, Pruning]]:
    """The paper's presets, budgets of bits and budgets of time."""
    made = [(f"--preset {name}", pruning(name)) for name in reversed(PRESETS)]
    made += [(f"--bits {each:g}", pruning(bits=each)) for each in map(float, bits.split(","))]
    return made + [(f"--speedup {each:g}", pruning(speedup=each)) for each in map(float, speedups.split(","))]


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path))
@click.option("--data", envvar="BBS_DATA", type=click.Path(path_type=Path))
@click.option("--array", default="16x32")
@click.option("--speedups", default="2,3,3.8,4.5")
@click.option("--bits", default="5,4.25")
@click.option("--samples", "count", type=int)
def main(models: tuple[Path, ...], data: Path | None, array: str, speedups: str, bits: str, count: int | None) -> None:
    """Compare on every network and print a table of each."""
    folder = None if data is None else data / "datasets"
    found = models or (DIGITS, *(() if data is None else sorted((data / "models").glob("*.onnx"))))
    for model in found:
        config = ArrayConfig(*SIZE.parse(array))
        given = source(model, folder)
        Console(width=120).print(table(given.name, config, rows(given, config, choices(speedups, bits), count)))


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (FlowError, click.ClickException) as error:
        raise SystemExit(f"error: {error}") from None
