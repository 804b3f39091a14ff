"""The schedule of a layer: its channel blocks and the memory words they need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.compression.encoding import BBS
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.network.model import ArrayLayer

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Block:
    """One channel block: `channels` int [n] original indices, `columns` stored bit columns, `tiles` position tiles.

    A step takes `slices` cycles. `hold`: the windows stay in their buffer for the next block; `ahead`: so many tiles,
    which follow the block's, have their windows fetched with it for the next block; `given`: the block's own are there.
    """

    group: int
    channels: NDArray[np.int64]
    columns: int
    slices: int
    steps: int
    tiles: int
    first_tile: int
    resident: bool
    hold: bool = False
    ahead: int = 0
    given: bool = False

    @property
    def fetched(self) -> int:
        """Position tiles whose windows are fetched with the block."""
        return self.ahead if self.given else self.tiles


@dataclass(frozen=True)
class LayerSchedule:
    """A layer's channel blocks in order, its first descriptor, and the sizes of its job."""

    layer: ArrayLayer
    first: int  # descriptor number
    blocks: tuple[Block, ...]
    tiles: int
    steps: int
    planes: int

    @property
    def ideal_cycles(self) -> int:
        """Bit columns alone: tiles x steps x slices (bit by bit: stored columns), summed over the blocks."""
        return sum(block.tiles * block.steps * block.slices for block in self.blocks)

    @property
    def output_words(self) -> int:
        return self.tiles * self.planes * self.layer.channels


@dataclass(frozen=True)
class Program:
    """A scheduled network: memory images uint8 [words, bytes per word], and one schedule per layer."""

    config: ArrayConfig
    memories: dict[str, Bytes]
    layers: tuple[LayerSchedule, ...]


def channel_blocks(layer: ArrayLayer, columns_pruned: NDArray[np.int64], config: ArrayConfig) -> list[Block]:
    """Reorder the channels so that those of one N stand together, and cut them into blocks (paper fig. 10)."""
    tiles = -(-layer.positions // config.rows)
    steps = -(-layer.reduction // config.step)
    per_group = layer.channels // layer.groups
    blocks = []
    for group in range(layer.groups):
        members = np.arange(group * per_group, (group + 1) * per_group)
        pruned = columns_pruned[members]
        for n in np.unique(pruned):
            same = members[pruned == n]
            columns = BBS.weight_bits - int(n)
            slices = config.slices(columns)
            resident = steps * slices <= config.weight_depth and -(-steps // 2) <= config.metadata_depth
            for begin in range(0, len(same), config.columns):
                chosen = same[begin : begin + config.columns]
                if resident:
                    blocks.append(Block(group, chosen, columns, slices, steps, tiles, 0, True))
                else:  # weights larger than their buffer pass through it once per position tile
                    blocks += [Block(group, chosen, columns, slices, steps, 1, tile, False) for tile in range(tiles)]
    return blocks


def check_width(layer: ArrayLayer, config: ArrayConfig) -> None:
    """Prove from the weights that the array's own sums fit; at 32 bits they may wrap, the bias wraps them back."""
    weights = layer.weights.astype(np.int64)
    reach = 255 * np.maximum(np.maximum(weights, 0).sum(axis=1), -np.minimum(weights, 0).sum(axis=1)).max()
    if config.accumulator_bits < 32 and reach >= 2 ** (config.accumulator_bits - 1):
        raise FlowError(
            f"layer '{layer.name}': its sums reach {reach}, more than {config.accumulator_bits}-bit accumulators "
            "hold; build the array with 32 bits"
        )


def layer_schedule(
    layer: ArrayLayer, columns_pruned: NDArray[np.int64] | None, config: ArrayConfig, first: int = 0
) -> LayerSchedule:
    """The order of work in one layer; `first` is its first descriptor.

    `columns_pruned` is N of every channel; None, or an element that is not encoded: no channel is pruned.
    """
    n = columns_pruned if config.element.encoded else None
    if n is None:
        n = np.zeros(layer.channels, np.int64)
    blocks = channel_blocks(layer, n, config)
    tiles, steps = -(-layer.positions // config.rows), -(-layer.reduction // config.step)
    return LayerSchedule(layer, first, tuple(blocks), tiles, steps, 1 if layer.output_quantization else 4)
