"""Where the matrices of a matrix product lie in the maps, head by head, whatever operators have moved them there."""

from __future__ import annotations

from collections.abc import Sequence
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
    lines = [(first[0], reduction, shapes[0][0]) for first, _ in starts]
    lines += [(second[0], columns if across else reduction, shapes[1][0]) for _, second in starts]
    for channel, count, channels in lines:
        if channel % SUBGROUP or (count % SUBGROUP and channel + count != channels):
            return f"takes channels {channel} to {channel + count - 1} of {channels}, which are not whole octets"
    heads = tuple(Head(first, second, (0, 0)) for first, second in starts)
    return Matrices(rows, reduction, columns, across, heads)


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
