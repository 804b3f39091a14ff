"""Where the matrices of a matrix product lie in the maps, head by head, whatever operators have moved them there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow.hardware.fields import SUBGROUP
from flow.scheduling.onchip.post import Head, Matrices, Shape

MOST = 1024  # values of the reduction, whose weights a buffer of the usual depth holds
Order = NDArray[np.int64]  # the numbers of elements, those of a map counted in the order channel, row, column


def matrices_of(left: Order, right: Order, shapes: Sequence[Shape]) -> Matrices | str:
    """The heads of a product of left [heads, rows, reduction] and right [heads, reduction, columns] out of two maps.

    A string says why the array cannot compute it: the end of a sentence about the product.
    """
    if not left.size or not right.size:
        return "is empty"
    pixels = [height * width for _, height, width in shapes]
    firsts = [_first(each, pixels[0], False) for each in left]
    for across in (False, True):
        seconds = [_first(each, pixels[1], not across) for each in right]
        if None not in seconds:
            break
    starts = [(first, second) for first, second in zip(firsts, seconds, strict=True) if first and second]
    if len(starts) < len(left):
        return "reads maps whose channels and pixels are not its rows and columns"
    _, rows, reduction = left.shape
    columns = right.shape[2]
    if reduction > MOST:
        return f"sums over {reduction:,} values, more than {MOST:,}"
    for channel, count, channels in _uneven(starts, reduction, columns if across else reduction, across, shapes):
        return f"takes channels {channel} to {channel + count - 1} of {channels}, which are not whole octets"
    heads = tuple(Head(first, second, (0, 0)) for first, second in starts)
    return Matrices(rows, reduction, columns, across, heads)


def _uneven(
    starts: Sequence[tuple[tuple[int, int], tuple[int, int]]], left: int, right: int, across: bool,
    shapes: Sequence[Shape],
) -> Iterator[tuple[int, int, int]]:  # fmt: skip
    """Of `left` and `right` channels, those that begin inside an octet, or end there before their map does.

    Columns across may end anywhere: nothing is made of those behind them.
    """
    for channel, count, channels, ends in (
        *((first[0], left, shapes[0][0], True) for first, _ in starts),
        *((second[0], right, shapes[1][0], not across) for _, second in starts),
    ):
        if channel % SUBGROUP or (ends and count % SUBGROUP and channel + count != channels):
            yield channel, count, channels


def heads_of(order: Order, pixels: int, turned: bool) -> list[tuple[int, int]] | None:
    """The first channel and pixel of each head of an operand [heads, rows, columns], whose columns are channels.

    `turned`: its rows are. None if one is no matrix of channels and pixels.
    """
    found = [_first(each, pixels, turned) for each in order]
    return [first for first in found if first is not None] if None not in found else None


def placed_results(matrices: Matrices, order: Order) -> Matrices | None:
    """The product with its results where a map of rows has them, whose element [pixel, channel] is number `order`.

    The results [heads, rows, columns] are counted in this order. None if those of a head do not lie together.
    """
    pixels, channels = order.shape
    inverse = np.full(len(matrices.heads) * matrices.rows * matrices.columns, -1)
    inverse[order.reshape(-1)] = np.arange(order.size)
    if order.size != inverse.size:
        return None
    pixel, channel = np.divmod(inverse, channels)
    number = (channel * pixels + pixel).reshape(-1, matrices.rows, matrices.columns)
    found = [_first(each, pixels, False) for each in number]
    heads = [replace(head, result=first) for head, first in zip(matrices.heads, found, strict=True) if first]
    return replace(matrices, heads=tuple(heads)) if len(heads) == len(matrices.heads) else None


def _first(matrix: Order, pixels: int, turned: bool) -> tuple[int, int] | None:
    """The channel and pixel that a matrix begins at, whose rows are pixels in a row, and its columns channels.

    `turned`: its rows are channels. None if it is none such.
    """
    matrix = matrix.T if turned else matrix
    rows, columns = matrix.shape
    channel, pixel = divmod(int(matrix[0, 0]), pixels)
    expected = int(matrix[0, 0]) + np.arange(columns) * pixels + np.arange(rows)[:, None]
    return (channel, pixel) if pixel + rows <= pixels and np.array_equal(expected, matrix) else None
