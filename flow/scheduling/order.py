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
from flow.scheduling.traffic import memory_traffic

MOST_DESCRIPTORS: Final = 2**16 - 1  # of a network
HELD: Final = 0.75  # of the activation buffer
MOST_HOLDING: Final = 2**12  # descriptors of a layer that holds windows, for each group of its convolution


def by_itself(
    layer: ArrayLayer, columns_pruned: NDArray[np.int64] | None, config: ArrayConfig, first: int = 0
) -> LayerSchedule:
    """The order of work in a layer whose windows come from the activation memory; arguments as `layer_schedule`."""
    plain = layer_schedule(layer, columns_pruned, config, first)
    held = replace(plain, blocks=tuple(_holding(plain, config)))
    if sum(memory_traffic(held, config).values()) < sum(memory_traffic(plain, config).values()):
        return held
    return plain


def _holding(plain: LayerSchedule, config: ArrayConfig) -> Iterator[Block]:
    """The blocks of a layer in the order that holds windows, where the buffer takes those of a tile.

    The last block of some tiles has the windows of the next ones fetched, for which the buffer keeps room.
    """
    for _, blocks in groupby(plain.blocks, lambda block: block.group):
        group = list(blocks)
        channels = [block for block in group if not block.first_tile]
        together = _together(plain, config) if all(block.resident for block in channels) else 1
        fits = plain.steps <= config.activation_depth
        if len(channels) == 1 or not fits or len(channels) * plain.tiles > MOST_HOLDING * together:
            yield from group
            continue
        for first in range(0, plain.tiles, together):
            tiles, last = min(together, plain.tiles - first), len(channels) - 1
            for number, block in enumerate(channels):
                ahead = 0 if number < last else min(together, plain.tiles - first - tiles)
                yield replace(
                    block, tiles=tiles, first_tile=first, hold=number < last, ahead=ahead, given=number > 0 or first > 0
                )


def _together(plain: LayerSchedule, config: ArrayConfig) -> int:
    """Position tiles whose windows are held together: all, or as many as leave room for a part of the next ones."""
    if plain.tiles * plain.steps <= config.activation_depth:
        return plain.tiles
    return max(1, int(HELD * config.activation_depth) // plain.steps)


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
