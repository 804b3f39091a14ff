"""Thin layers on chip: first layers of few channels, grouped and depthwise ones, by the cycle model.

    python -m bench.kinds.thin [--array 16x32]

"util." are the bit columns' own cycles over all cycles of the layer. Thin layers are stored with zeros where a window
holds what a channel does not read; "products" are those of the layer itself over those that the array could compute
meanwhile with eight bit columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.kinds.drawing import Drawing
from bench.kinds.measured import imported
from flow.api.options import SIZE
from flow.compression.prune import prune
from flow.hardware.config import MAX_COLUMNS, ArrayConfig
from flow.scheduling.blocks import layer_schedule
from flow.scheduling.onchip import timing
from flow.scheduling.onchip.chain import ChainLayer
from flow.scheduling.onchip.program import result_shape
from flow.scheduling.onchip.unroll import parts


@dataclass(frozen=True)
class Thin:
    """A convolution of a square map: its channels, groups, kernel, stride, and the size of its input."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    size: int
    groups: int = 1

    @property
    def kind(self) -> str:
        if self.groups == 1:
            return "first"
        return "depthwise" if self.groups == self.inputs else f"{self.groups} groups"


@dataclass(frozen=True)
class Use:
    """Cycles of a layer on chip, those of its bit columns, and its products over what the array could compute."""

    cycles: int
    ideal: int
    products: float

    @property
    def utilization(self) -> float:
        return self.ideal / self.cycles


def layers() -> Iterator[Thin]:
    for inputs, kernel, stride, size in (
        (1, 3, 1, 28), (1, 5, 1, 28), (1, 5, 2, 48), (3, 3, 1, 32), (3, 3, 2, 48), (3, 3, 2, 96), (3, 7, 2, 64),
        (3, 8, 8, 64),
    ):  # fmt: skip
        yield from (Thin(inputs, outputs, kernel, stride, size) for outputs in (16, 32, 64))
    for channels, groups, size in ((32, 2, 16), (32, 8, 16), (64, 4, 16), (64, 16, 8), (128, 32, 16)):
        yield Thin(channels, channels, 3, 1, size, groups)
    for channels, kernel, stride, size in (
        (16, 3, 1, 32), (32, 3, 1, 16), (64, 3, 1, 8), (128, 3, 1, 8), (128, 3, 1, 4), (32, 3, 2, 16), (64, 3, 2, 16),
        (32, 5, 1, 16), (64, 5, 2, 16), (64, 7, 1, 14),
    ):  # fmt: skip
        yield Thin(channels, channels, kernel, stride, size, channels)


def use(thin: Thin, config: ArrayConfig) -> Use:
    """The layer between two others of 8 bits."""
    net = Drawing(1)
    made = net.conv("x", thin.inputs, thin.outputs, thin.kernel, thin.stride, group=thin.groups)
    given = imported("thin", net.model((thin.inputs, thin.size, thin.size), net.conv(made, thin.outputs, 8, 1)))
    step = next(step for step in given.chain.steps if isinstance(step, ChainLayer))
    layer, unpruned = step.layer, np.zeros(thin.outputs, np.int64)
    cycles = timing.on_chip(given.chain, given.network.layers, config).of(layer, unpruned)
    made_of = parts(step, prune(layer.weights, unpruned)[0], result_shape(given.chain, step), config)
    ideal = sum(layer_schedule(part.layer, part.columns_pruned, config).ideal_cycles for part in made_of)
    each = config.rows * config.columns * config.step / config.slices(MAX_COLUMNS)
    return Use(cycles, ideal, layer.macs / (cycles * each))


@click.command(help=(__doc__ or "").split("\n\n")[0])
@click.option("--array", default="16x32")
def main(array: str) -> None:
    """Print the table."""
    config, table = ArrayConfig(*SIZE.parse(array)), Table(box=None, pad_edge=False)
    for head in ("layer", "channels", "kernel", "stride", "map", "cycles", "util.", "products"):
        table.add_column(head, justify="left" if head == "layer" else "right")
    for thin in layers():
        found = use(thin, config)
        table.add_row(
            thin.kind, f"{thin.inputs} to {thin.outputs}", str(thin.kernel), str(thin.stride), str(thin.size),
            f"{found.cycles:,}", f"{found.utilization:.2f}", f"{found.products:.2f}",
        )  # fmt: skip
    Console(width=120, highlight=False).print(table)


if __name__ == "__main__":
    main()
