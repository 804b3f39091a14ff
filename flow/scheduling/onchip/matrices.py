"""Matrix products of two maps as channel blocks: of each, two descriptors.

The first brings the right operand's octets, which become the weights of the second (flow/hardware/maps/operands.py). A
step has an octet of the reduction: its eight weights, and their complements against the byte of zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.hardware.fields import ADDRESS
from flow.hardware.maps.operands import BITS, pixels_together, step_beats
from flow.network.model import OFFSET, Window
from flow.scheduling.onchip.place import OCTET, Place
from flow.scheduling.onchip.post import Head, Matrices, PostOp
from flow.scheduling.onchip.sweeps import operand_places
from flow.scheduling.onchip.walks import MapWalk, taps

ACCUMULATOR_BITS = 32  # of which the sums use all
LARGEST = 160  # magnitude of a weight with the constant of its group, -32 to 31


@dataclass(frozen=True)
class MatrixBlock:
    """Some columns of the result of one head.

    `channels` are those of the result's map. `weights` is the walk over the windows that become weights, `weight_taps`
    the fields of its taps, `weight_octets` their number in a row; `first`: the channel of the first octet that array
    column 0 takes. `over` and `taps` say where the activations are, `into` where the results go.
    """

    head: Head
    channels: NDArray[np.int64]
    weights: MapWalk
    weight_taps: Mapping[str, int]
    weight_octets: int
    first: int
    over: MapWalk
    taps: Mapping[str, int]
    into: MapWalk
    steps: int
    tiles: int


def blocks(op: PostOp, map_places: Mapping[str, Place], config: ArrayConfig) -> Iterator[MatrixBlock]:
    """All blocks of the heads, one head after the other. FlowError if the weights of one do not fit their buffer."""
    matrices = op.matrices
    assert matrices is not None
    steps = -(-matrices.reduction // OCTET)
    if steps * config.slices(BITS) > config.weight_depth or -(-steps // 2) > config.metadata_depth:
        raise FlowError(
            f"'{op.name}' multiplies two maps over {matrices.reduction} values, and the weights of such a block take "
            f"{steps * config.slices(BITS):,} words of the weight buffer; make it deeper with --weight-buffer"
        )
    if (
        config.accumulator_bits < ACCUMULATOR_BITS
        and 2 * 255 * LARGEST * steps * OCTET >= 1 << config.accumulator_bits - 1
    ):
        raise FlowError(
            f"'{op.name}' multiplies two maps over {matrices.reduction} values, which may be more than "
            f"{config.accumulator_bits}-bit accumulators hold; build the array with 32 bits"
        )
    left, right = operand_places(op, map_places)
    target = map_places.get(op.output)
    for head in matrices.heads:
        rows = matrices.rows_of(head)
        for begin, count in _parts(matrices, config.columns):
            weights, weight_taps = _weights(matrices, head, right, begin, count, config)
            (channel, pixel), base = head.result, target.base if target else 0
            first = (head.right[0] + begin) % OCTET if matrices.across else 0
            yield MatrixBlock(
                head, channel + begin + np.arange(count), weights, weight_taps,
                weight_taps["taps_y"] * weight_taps["taps_x"], first,
                _pixels(left.word(head.left[0] // OCTET) + head.left[1], rows), _activations(op, left, steps),
                _pixels(base + pixel, rows), steps, -(-rows // config.rows),
            )  # fmt: skip


def _parts(matrices: Matrices, columns: int) -> Iterator[tuple[int, int]]:
    """First and number of the columns of each block: across pixels, whole octets, or some channels of one."""
    if not matrices.across:
        most = columns
    elif columns >= OCTET:
        most = columns // OCTET * OCTET
    else:
        for octet in range(0, matrices.columns, OCTET):
            there = min(OCTET, matrices.columns - octet)
            yield from ((octet + begin, min(columns, there - begin)) for begin in range(0, there, columns))
        return
    yield from ((begin, min(most, matrices.columns - begin)) for begin in range(0, matrices.columns, most))


def _pixels(word: int, count: int, together: int | None = None, octets: int = 1) -> MapWalk:
    """A walk over pixels, down a map of one column; beside it are `octets` - 1 more columns."""
    return MapWalk(word, 1, (count, octets), 1, count if together is None else together)


def _weights(
    matrices: Matrices, head: Head, right: Place, begin: int, count: int, config: ArrayConfig
) -> tuple[MapWalk, dict[str, int]]:
    """The walk over the right operand of `count` columns from `begin` on, and its taps."""
    rows, plane, beats = config.rows, right.plane, config.beats
    octets, across = -(-matrices.reduction // OCTET), step_beats(rows, config.columns, False)
    channel, pixel = head.right
    if not matrices.across:
        over = MapWalk(right.word(channel // OCTET) + pixel + begin, 0, (1, count), rows, rows)
        window, delta = Window((octets, across), (1, 1), (0,) * 4, (0, rows)), (rows, plane - (across - 1) * rows)
    else:
        together, parts = pixels_together(rows), -(-config.columns // OCTET)
        over = _pixels(right.word((channel + begin) // OCTET) + pixel, matrices.reduction, together, -(-count // OCTET))
        window = Window((octets * OCTET // together, parts), (1, 1), (0,) * 4, (together, 1))
        delta = (plane, together - (parts - 1) * plane)
    return over, _taps(window, delta, beats)


def _activations(op: PostOp, left: Place, steps: int) -> dict[str, int]:
    """The taps over the left operand: of each octet of the reduction that itself, and one that is in no map."""
    window = Window((steps, 2), (1, 1), (0,) * 4, (0, 1))
    return _taps(window, (0, left.plane), 2) | {"pad": OFFSET + op.input_quantizations[0].zero_point}


def _taps(window: Window, delta: tuple[int, int], beats: int) -> dict[str, int]:
    """The fields of taps of an octet, delta[0] words apart in a row; delta[1] from a row's last to the next one."""
    fields = taps(window, 1, 0, 0, beats)
    return fields | {"delta_x": delta[0] % (1 << ADDRESS), "delta_y": delta[1] % (1 << ADDRESS)}
