"""Seconds and memory that `bbs compress` takes within the default budget, and what it reaches.

    python -m bench.compress MODEL.onnx ...

Each network has its samples beside it, as NAME_calibration.npz and NAME_test.npz. Memory is the largest resident set of
the process; processor seconds are of all its threads.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.large import CALLED


def measured(model: Path) -> list[str]:
    """The row of a network: seconds, processor seconds, MB, bits per weight and divergence from the network given."""
    with tempfile.TemporaryDirectory() as scratch:
        command = ["compress", str(model), "-o", f"{scratch}/pruned.onnx", "--json"]
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", CALLED, *command], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"error: {model}: {done.stderr}")
    busy, memory = done.stderr.split()[-2:]
    summary = json.loads(done.stdout)["summary"]
    apart = summary["accuracy"]["divergence"]["pruned"]
    figures = f"{seconds:.1f}", f"{float(busy):.1f}", f"{int(memory) / 1024:.0f}"
    return [model.stem, *figures, f"{summary['bits_per_weight']:.2f}", f"{apart:.2g}"]


@click.command(help=__doc__)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def main(models: tuple[Path, ...]) -> None:
    table = Table(box=None, pad_edge=False)
    for head in ("network", "seconds", "processor seconds", "MB", "bits", "KL"):
        table.add_column(head, justify="left" if head == "network" else "right")
    for model in models:
        table.add_row(*measured(model))
    Console(highlight=False, width=120).print(table)


if __name__ == "__main__":
    main()
