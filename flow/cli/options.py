"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from flow.compression.allocate import PRESETS
from flow.compression.choice import pruning
from flow.compression.encoding import BBS
from flow.compression.prune import METHODS
from flow.compression.refine import REFINEMENTS
from flow.errors import FlowError
from flow.simulation.engines import ENGINES

Command = Callable[..., None]


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """ROWSxCOLUMNS, such as 16x32."""
    if value is None:
        return None
    parts = value.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise FlowError(f"an array size is ROWSxCOLUMNS, but it is '{value}'; give --array 16x32, for example")
    return int(parts[0]), int(parts[1])


def pruning_options(command: Command) -> Command:
    """The options of pruning; the command gets what they say as one argument, `chosen`."""
    options = [
        click.option("--bits", type=float, metavar="B", help="Budget: bits per weight on average; default: 5."),
        click.option("--max-drop", type=float, metavar="POINTS", help="Fewest bits that lose no more top-1 than this."),
        click.option("--block", type=int, metavar="C", help="Channels that share one N; default: the array's columns."),
        click.option("--no-bias-correction", "no_bias", is_flag=True, help="Budget: leave the biases."),
        click.option("--no-compensation", is_flag=True, help="Budget: round every weight by itself."),
        click.option("--no-scale-search", "no_scales", is_flag=True, help="Budget: leave the weight scales."),
        click.option("--preset", metavar="NAME", help=f"The paper's rule: one of {', '.join(PRESETS)}."),
        click.option("--columns", type=int, help=f"Bit columns to prune, 0 to {BBS.max_columns_pruned}."),
        click.option("--sensitive", type=float, metavar="BETA", help="Share of channels left whole, 0 to 1."),
        click.option("--method", metavar="NAME", help=f"One of {', '.join(METHODS)}."),
    ]

    @wraps(command)
    def chosen(
        bits: float | None, max_drop: float | None, block: int | None, no_bias: bool, no_compensation: bool,
        no_scales: bool, preset: str | None, columns: int | None, sensitive: float | None, method: str | None,
        **others: Any,
    ) -> None:  # fmt: skip
        off = {"bias": no_bias, "compensation": no_compensation, "scales": no_scales}
        means = tuple(name for name in REFINEMENTS if not off[name])
        command(chosen=pruning(preset, columns, sensitive, method, bits, max_drop, block, means), **others)

    return _with(chosen, options)


def data_options(command: Command) -> Command:
    options = [
        click.option(
            "--calibration", type=click.Path(path_type=Path), metavar="FILE.npz",
            help="Samples x to quantize and tune with; default: MODEL_calibration.npz.",
        ),
        click.option(
            "--evaluate", type=click.Path(path_type=Path), metavar="FILE.npz",
            help="Samples x and labels y to evaluate and simulate; default: MODEL_test.npz.",
        ),
    ]  # fmt: skip
    return _with(command, options)


def _with(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def engine_option(command: Command) -> Command:
    names = ", ".join(ENGINES)
    return click.option("--engine", metavar="NAME", help=f"One of {names}; default: verilator, else myhdl.")(command)


as_json = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, nothing else.")
force = click.option("--force", is_flag=True, help="Replace an earlier output.")
model = click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
array = click.option(
    "--array",
    metavar="ROWSxCOLUMNS",
    callback=_size,
    help="Size of the array; default 16x32, 4x4 for the slow engines. As many channels as columns share one N.",
)
weight_buffer = click.option(
    "--weight-buffer", type=int, metavar="WORDS", help="Words of the weight buffer, a power of two; default 1024."
)
resume = click.option(
    "--resume", is_flag=True, help="Keep an earlier build of the same request if it is whole, else go on with it."
)


def simulation_options(command: Command) -> Command:
    options = [
        click.option("--samples", "count", type=int, metavar="K", help="How many samples to simulate."),
        click.option(
            "--coverage", type=float, default=1.0, metavar="SHARE",
            help="Least share of each layer to simulate in RTL, 0 to 1, a sample of its tiles; default 1.",
        ),
        click.option(
            "--scheduler", metavar="tcp://HOST:PORT",
            help="Dask scheduler whose workers simulate; default: this machine.",
        ),
        click.option("--processes", type=int, metavar="P", help="Processes here; default: the processors."),
    ]  # fmt: skip
    return _with(command, options)
