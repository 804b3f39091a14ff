"""Which channels are pruned, and by how many bit columns (BBS paper, algorithm 2).

The channels with the largest weight scales of the whole network are the sensitive ones. The array takes
`channels_parallel` channels at a time, all with one N, so that each layer's number of sensitive channels is
rounded up to whole blocks of that many; those keep all 8 bit columns. A block holds channels of one conv group only:
with two N in a group that fits one block, the array would need two blocks, and more time than without pruning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.compression.encoding import BBS, check_columns_pruned
from flow.errors import FlowError
from flow.network.model import ArrayLayer, by_weights

CHANNELS_PARALLEL = 32  # C_H of the paper

Allocation = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Preset:
    """A point of the paper's evaluation: share of sensitive channels (0..1), N of the others, method."""

    sensitive: float
    columns_pruned: int
    method: str


PRESETS: dict[str, Preset] = {
    "conservative": Preset(0.10, 2, "rounded-averaging"),
    "moderate": Preset(0.20, 4, "zero-point-shifting"),
}


def preset(name: str) -> Preset:
    """The preset of that name; FlowError, with the known names, if there is none."""
    if name not in PRESETS:
        raise FlowError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def allocate(
    layers: Sequence[ArrayLayer],
    columns_pruned: int,
    sensitive: float,
    channels_parallel: int = CHANNELS_PARALLEL,
) -> Allocation:
    """N of every channel, by layer name: int64 [channels], 0 for sensitive channels.

    Paper algorithm 2. `sensitive` is beta, 0..1: the share of all the given layers' channels, ranked together
    by weight scale (equal scales: earlier layer, earlier channel first; the number is rounded). A layer with
    sensitive channels keeps all 8 bit columns of its most sensitive ones, their number rounded up to a multiple
    of `channels_parallel`, at most all of its channels. The channels of one conv group that the array takes together
    have one N: a grouped layer may keep more. Layers that share their weights count as one.
    Raises FlowError for N outside 0..6, beta outside 0..1, or channels_parallel below 1.
    """
    check_columns_pruned(columns_pruned)
    if not 0 <= sensitive <= 1:
        raise FlowError(f"beta, the sensitive share, must be 0..1, got {sensitive:g}; write 20 % as 0.2")
    if channels_parallel < 1:
        raise FlowError(f"channels processed in parallel must be 1 or more, got {channels_parallel}; use 32")
    shared, found = by_weights(layers), Allocation()
    for sharing, count in zip(shared, _sensitive_counts([first for first, *_ in shared], sensitive), strict=True):
        whole = -(-count // channels_parallel) * channels_parallel
        columns = _layer_columns(sharing[0], whole, channels_parallel, columns_pruned)
        found |= {layer.name: columns for layer in sharing}
    return found


def _sensitive_counts(layers: Sequence[ArrayLayer], sensitive: float) -> list[int]:
    """The number of each layer's channels that are among the network's most sensitive."""
    if not layers:
        return []
    scales = np.concatenate([layer.weight_scales for layer in layers])
    owner = np.repeat(np.arange(len(layers)), [layer.channels for layer in layers])
    chosen = np.argsort(-scales, kind="stable")[: round(sensitive * scales.size)]
    return [int(count) for count in np.bincount(owner[chosen], minlength=len(layers))]


def _layer_columns(layer: ArrayLayer, count: int, channels_parallel: int, columns_pruned: int) -> NDArray[np.int64]:
    """N of every channel: whole blocks of the array stay unpruned, until they hold `count` channels or more.

    Blocks are those that the array takes together: at most `channels_parallel` channels of one conv group, in the order
    of their scales. A block is as sensitive as its most sensitive channel.
    """
    size = layer.channels // layer.groups
    blocks = []
    for first in range(0, layer.channels, size):
        ranked = first + np.argsort(-layer.weight_scales[first : first + size], kind="stable")
        blocks += [ranked[begin : begin + channels_parallel] for begin in range(0, size, channels_parallel)]
    columns = np.full(layer.channels, columns_pruned, np.int64)
    unpruned = 0
    for number in np.argsort([-layer.weight_scales[block[0]] for block in blocks], kind="stable"):
        if unpruned >= count:
            break
        columns[blocks[number]] = 0
        unpruned += len(blocks[number])
    return columns


def average_bits(layers: Sequence[ArrayLayer], allocation: Mapping[str, NDArray[np.int64]]) -> float:
    """Bits per weight over the given layers: 8-N for each weight, a metadata byte for each pruned group.

    Weights that layers share are stored once.
    A channel whose reduction is no multiple of 32 pays a whole metadata byte for its last group, but not for
    that group's padding. Where every group is full this is the mean of `bits_per_weight`.
    """
    bits = sum(int(channel_bits(first, allocation[first.name]).sum()) for first, *_ in by_weights(layers))
    return bits / max(stored_weights(layers), 1)


def stored_weights(layers: Iterable[ArrayLayer]) -> int:
    """The weights of these layers; those that layers share count once."""
    return sum(first.weights.size for first, *_ in by_weights(layers))


def channel_bits(layer: ArrayLayer, columns_pruned: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stored bits of one channel of the layer for each given N, int64, metadata counted."""
    groups = -(-layer.reduction // BBS.group_size)
    metadata = np.where(columns_pruned > 0, groups * BBS.metadata_bits, 0)
    return (BBS.weight_bits - columns_pruned) * layer.reduction + metadata
