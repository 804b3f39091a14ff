"""The order of work in a layer by itself: its channel blocks over all tiles, or over the tiles whose windows are held.

Block by block over all position tiles, every block fetches the windows of the layer again. Tiles whose windows fit the
activation buffer together can be computed by one block after the other while their windows are held there, and the
next ones are fetched; then it is the weights that are fetched again. A layer takes the order that moves fewer bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.network.model import ArrayLayer
from flow.network.reference import check_accumulator
from flow.scheduling.blocks import Block, LayerSchedule, check_width, layer_schedule
from flow.scheduling.traffic import operand_words, word_bytes

MOST_DESCRIPTORS: Final = 2**16 - 1  # of a network
HELD: Final = 0.75  # of the activation buffer
MOST_HOLDING: Final = 2**12  # descriptors of a layer that holds windows, for each group of its convolution


def by_itself(
    layer: ArrayLayer, columns_pruned: NDArray[np.int64] | None, config: ArrayConfig, first: int = 0
) -> LayerSchedule:
    """The order of work in a layer whose windows come from the activation memory; arguments as `layer_schedule`."""
    plain = layer_schedule(layer, columns_pruned, config, first)
    groups = [list(blocks) for _, blocks in groupby(plain.blocks, lambda block: block.group)]
    together = [_together(group, plain, config) for group in groups]
    if sum(_saved(group, plain, tiles, config) for group, tiles in zip(groups, together, strict=True) if tiles) <= 0:
        return plain
    orders = (
        _holding(group, plain, tiles) if tiles else group for group, tiles in zip(groups, together, strict=True)
    )  # fmt: skip
    return replace(plain, blocks=tuple(block for blocks in orders for block in blocks))


def _together(group: Sequence[Block], plain: LayerSchedule, config: ArrayConfig) -> int:
    """Position tiles whose windows are held together; 0 if none are.

    They are all, or as many as leave room for a part of the next ones; one if weights pass through their buffer for
    every tile.
    """
    depth, channels = config.activation_depth, len(_firsts(group))
    if channels == 1 or plain.steps > depth:
        return 0
    fitting = plain.tiles if plain.tiles * plain.steps <= depth else max(1, int(HELD * depth) // plain.steps)
    together = fitting if all(block.resident for block in group) else 1
    return together if channels * plain.tiles <= MOST_HOLDING * together else 0


def _firsts(group: Sequence[Block]) -> list[Block]:
    """The first block of all that have the same channels."""
    return [block for block in group if not block.first_tile]


def _saved(group: Sequence[Block], plain: LayerSchedule, together: int, config: ArrayConfig) -> int:
    """Bytes of windows that are fetched once, less those of operands that are fetched again."""
    channels, rounds, sizes = _firsts(group), -(-plain.tiles // together), word_bytes(config)
    windows = (len(channels) - 1) * plain.tiles * plain.steps * config.beats * sizes["activation"]
    again = 0
    for block in channels:
        times = rounds - (1 if block.resident else plain.tiles)
        again += times * sum(count * sizes[name] for name, count in operand_words(block, config).items())
    return windows - again


def _holding(group: Sequence[Block], plain: LayerSchedule, together: int) -> Iterator[Block]:
    """The blocks of a group of channels over some tiles after the other; the last has the next windows fetched."""
    channels = _firsts(group)
    last = len(channels) - 1
    for first in range(0, plain.tiles, together):
        tiles = min(together, plain.tiles - first)
        left = min(together, plain.tiles - first - tiles)
        for number, block in enumerate(channels):
            yield Block(  # not by `replace`, which takes twice as long: a budget of time makes many
                block.group, block.channels, block.columns, block.slices, block.steps, tiles, first, block.resident,
                hold=number < last, ahead=left if number == last else 0, given=number > 0 or first > 0,
            )  # fmt: skip


def layout(
    layers: Sequence[ArrayLayer], columns_pruned: Mapping[str, NDArray[np.int64]], config: ArrayConfig
) -> tuple[LayerSchedule, ...]:
    """The order of work: every layer's channel blocks and its place in the descriptor memory.

    `columns_pruned` is N of every channel, by layer name; other layers are not pruned. Windows are held if there are
    descriptor numbers for it. FlowError when a sum may overflow the accumulator or there are more blocks than
    descriptor numbers.
    """
    for layer in layers:
        check_accumulator(layer)
        check_width(layer, config)
    made = [by_itself(layer, columns_pruned.get(layer.name), config) for layer in layers]
    if sum(len(scheduled.blocks) for scheduled in made) > MOST_DESCRIPTORS:
        made = [layer_schedule(layer, columns_pruned.get(layer.name), config) for layer in layers]
    schedules, first = list[LayerSchedule](), 0
    for scheduled in made:
        schedules.append(replace(scheduled, first=first))
        first += len(scheduled.blocks)
        if first > MOST_DESCRIPTORS:
            raise FlowError(
                f"layer '{scheduled.layer.name}': the network needs more than 65,535 descriptors on a "
                f"{config.rows}x{config.columns} array; use a larger array or deeper buffers"
            )
    return tuple(schedules)
