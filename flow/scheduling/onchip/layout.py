"""Layout of a network's inputs in the activation memory, and of every step's results in the output memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.network.model import as_int8
from flow.scheduling.blocks import Bytes
from flow.scheduling.onchip.chain import ChainLayer
from flow.scheduling.onchip.place import OCTET, Place, map_words
from flow.scheduling.onchip.post import PostOp, Shape
from flow.scheduling.onchip.program import OnChip, OutputRegion, result_shape


def input_words(onchip: OnChip) -> list[int]:
    """The first word of each input in the activation memory."""
    config = onchip.config
    sizes = [-(-place.words // config.rows) * config.beats for _, place in _inputs(onchip)]
    return [sum(sizes[:number]) for number in range(len(sizes))]


def _inputs(onchip: OnChip) -> Iterator[tuple[str, Place]]:
    """Every segment's inputs, and their places."""
    for segment, placed in zip(onchip.chain.segments, onchip.places, strict=True):
        for held in segment.inputs:
            yield held.tensor, placed[held.tensor]


def activations(onchip: OnChip, inputs: Mapping[str, NDArray[np.int8]]) -> Bytes:
    """The activation memory with the inputs' codes int8 [channels, height, width], by tensor.

    Zeros are in the place of inputs of later segments, which are not there yet.
    """
    config, images = onchip.config, []
    for tensor, place in _inputs(onchip):
        codes = inputs.get(tensor)
        image = np.zeros((place.words, OCTET), np.uint8) if codes is None else map_words(place, codes)
        tiles = -(-len(image) // config.rows)
        padded = np.zeros((tiles * config.rows, OCTET), np.uint8)
        padded[: len(image)] = image
        beats = np.zeros((tiles, config.beats, config.rows * OCTET), np.uint8)
        beats[:, 0] = padded.reshape(tiles, -1)
        images.append(beats.reshape(-1, config.rows * OCTET))
    return np.concatenate(images)


@dataclass(frozen=True)
class Layout:
    """Where the results of a step, a map of `shape`, lie in the output memory: `planes` bytes each, lowest first.

    The array computes `unroll` (down, across) pixels of a channel at once, in `windows` windows to a row of pixels.
    `cells` is int64 [channels, down, across, 3]: (word, stride, position) of channel c at pixel (y, x) are those of
    [c, y % down, x % across]. With R array rows and p = position + y // down * windows + x // across, byte i of the
    result is byte p % R of word + p // R * stride + i * stride / planes.
    """

    shape: Shape
    unroll: tuple[int, int]
    windows: int
    planes: int
    cells: NDArray[np.int64]


def layout(onchip: OnChip, number: int) -> Layout:
    """Where the results of a step lie in the output memory."""
    step = onchip.chain.steps[number]
    regions = [region for region in onchip.regions if region.step == number]
    if isinstance(step, ChainLayer):
        return _layer_layout(result_shape(onchip.chain, step), regions)
    return _post_layout(step, regions)


def _post_layout(op: PostOp, regions: list[OutputRegion]) -> Layout:
    """Sweeps over all pixels have one cell for each channel; if some see a part of the pixels, each pixel has one."""
    channels, height, width = op.output_shape
    whole = (height // op.repeat[0], width // op.repeat[1])
    partial = any(region.sweep is not None and region.sweep.size != whole for region in regions)
    unroll = (height, width) if partial else op.repeat
    cells = np.zeros((channels, *unroll, 3), np.int64)
    for region in regions:
        sweep = region.sweep
        assert sweep is not None
        channel, column, position, dy, dx = (values[:, None, None] for values in sweep.results.T)
        (top, left), (rows, columns) = (sweep.corner, sweep.size) if partial else ((0, 0), (1, 1))
        y, x = np.arange(rows)[:, None], np.arange(columns)
        down, across = top + y * sweep.apart[0] + dy, left + x * sweep.apart[1] + dx
        cells[channel, down, across, 0] = region.base + column
        cells[channel, down, across, 1] = sweep.stride
        cells[channel, down, across, 2] = position + y * columns + x
    return Layout(op.output_shape, unroll, whole[1], 1, cells)


def _layer_layout(shape: Shape, regions: list[OutputRegion]) -> Layout:
    first = regions[0]
    assert first.part is not None and first.scheduled is not None
    cells = np.zeros((shape[0], *first.part.unroll, 3), np.int64)
    planes = first.scheduled.planes
    for region in regions:
        part = region.part
        assert part is not None
        columns = len(part.channel)
        cells[part.channel, part.dy, part.dx, 0] = region.base + np.arange(columns)
        cells[part.channel, part.dy, part.dx, 1] = planes * columns
    return Layout(shape, first.part.unroll, first.part.grid[1], planes, cells)


def results(
    onchip: OnChip, memory: Bytes, steps: Iterable[int] | None = None
) -> dict[int, NDArray[np.int8] | NDArray[np.int32]]:
    """The results of all steps, or of these: codes int8, or sums int32 of a raw layer, [channels, height, width]."""
    steps = range(len(onchip.chain.steps)) if steps is None else steps
    return {number: _read(layout(onchip, number), memory, onchip.config.rows) for number in steps}


def _read(where: Layout, memory: Bytes, rows: int) -> NDArray[np.int8] | NDArray[np.int32]:
    (down, across), (_, height, width) = where.unroll, where.shape
    y, x = np.arange(height)[:, None], np.arange(width)
    word, stride, position = np.moveaxis(where.cells[:, y % down, x % across], -1, 0)
    tile, row = np.divmod(position + y // down * where.windows + x // across, rows)
    word = word + tile * stride
    if where.planes == 1:
        return as_int8(memory[word, row])
    octets = [memory[word + plane * stride // where.planes, row] for plane in range(where.planes)]
    sums: NDArray[np.int32] = np.ascontiguousarray(np.stack(octets, axis=-1)).view(np.int32)[..., 0]
    return sums
