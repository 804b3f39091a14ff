"""Seconds of every stage of `bbs compile`, and what the RTL's cycles say: speed-up and utilization per layer.

    python -m bench.compile MODEL.onnx [--preset P] [--array RxC] [--samples K] [--engine E]
                            [--calibration FILE] [--evaluate FILE] [--fresh]

`--fresh` builds the simulators anew, in a cache of its own; without it the second run shows what the cache saves.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import flow
from flow.cli.tables import print_report
from flow.progress import Advance, ignore


class Clock:
    """Progress that only records the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, total: int | None = None) -> Iterator[Advance]:
        start = time.perf_counter()
        yield ignore
        self.seconds[name] = time.perf_counter() - start


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--preset")
@click.option("--array")
@click.option("--samples", type=int)
@click.option("--engine")
@click.option("--calibration", type=click.Path(path_type=Path))
@click.option("--evaluate", type=click.Path(path_type=Path))
@click.option("--fresh", is_flag=True)
def main(model: Path, fresh: bool, **options: Any) -> None:
    """Compile once and print the report, then the seconds."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        if fresh:
            os.environ["BBS_CACHE"] = f"{folder}/cache"
        report = flow.compile(model, Path(folder) / "build", stage=clock, **options)
    print_report(report)
    summary = report.summary
    for name, seconds in clock.seconds.items():
        click.echo(f"{seconds:8.2f} s  {name}")
    simulated = clock.seconds["co-simulate"]
    click.echo(
        f"{simulated / summary.samples:8.2f} s  per simulated sample, "
        f"{summary.cycles * summary.samples / simulated:,.0f} cycles/s, {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
