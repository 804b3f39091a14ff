"""Post-processing as sweeps over maps: each is one descriptor, which reads windows and writes octets of channels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product

import numpy as np
from numpy.typing import NDArray

from flow.hardware.fields import MEASURED, PRODUCT_OFFSET, WRITES, ZERO
from flow.hardware.maps.normalizer import measuring
from flow.network.model import INT8_MAX, INT8_MIN, OFFSET, Window
from flow.scheduling.onchip import post
from flow.scheduling.onchip.gains import Gains
from flow.scheduling.onchip.lines import Lines
from flow.scheduling.onchip.maps import POINT
from flow.scheduling.onchip.norms import Norm, PerChannel
from flow.scheduling.onchip.place import OCTET, Place, map_words, plane_words
from flow.scheduling.onchip.post import NOBODY, PostOp, Requantization
from flow.scheduling.onchip.walks import MapWalk, grid_walk, map_walk

UNSIGNED_MAX = 255
ALL = tuple(WRITES | channel for channel in range(OCTET))  # of an entry: every channel where it was


@dataclass(frozen=True)
class Entry:
    """How the eight channels of a result go into the octet `dy` rows below and `dx` columns right of its place."""

    channels: tuple[int, ...]
    dy: int = 0
    dx: int = 0


@dataclass(frozen=True)
class Normal:
    """What a sweep of the normalizer is: it measures positions, all octets `passes` times, or an octet `applies`."""

    norm: Norm
    passes: int
    applies: bool
    fraction: int = 0
    negative: bool = False


@dataclass(frozen=True)
class Sweep:
    """One descriptor of an operation.

    `over` is the walk over its windows, of `octets` words `plane` apart for each tap; `pad` the byte outside the map.
    `into` is the walk over its results, where they are kept. `results` int64 [n, 5] are (channel, column, position, dy,
    dx): which channels it computes, in which column of a result, with how many positions before the first, for which of
    the pixels that are repeated; for those from `corner` on, `size` of them, `apart` (rows, columns). Without `results`
    it is no part of the operation's output. With a `table`, that is filled before.
    """

    requantization: Requantization
    zero: int
    clamp: tuple[int, int]
    over: MapWalk
    into: MapWalk
    entries: tuple[Entry, ...]
    results: NDArray[np.int64]
    window: Window = POINT
    octets: int = 1
    plane: int = 0
    pitch: int = 0
    pad: int = 0
    maximum: bool = True
    factors: tuple[int, int] = (1, 1)
    minus: bool = False
    product: bool = False
    waits: bool = False
    corner: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    apart: tuple[int, int] = (1, 1)
    normal: Normal | None = None
    table: bytes = b""

    stride: int = OCTET

    @property
    def positions(self) -> int:
        return self.over.positions


@dataclass(frozen=True)
class Written:
    """What else is in the output memory, as of a `Sweep`; `stride`: words from one tile to the next."""

    results: NDArray[np.int64]
    corner: tuple[int, int]
    size: tuple[int, int]
    stride: int
    apart: tuple[int, int] = (1, 1)


def sweeps(op: PostOp, map_places: Mapping[str, Place], rows: int) -> Iterator[Sweep]:
    """One sweep over all words where these can be walked in a row, else one for each octet of the output and more.

    `rows` are those of the array.
    """
    target = map_places.get(op.output) or Place(0, plane_words(op.output_shape), op.output_shape)
    target = replace(target, shape=op.output_shape)
    yield from constants(op, map_places)
    sources = operand_places(op, map_places)
    made = _own(op, sources, map_places, target, rows)
    if op.constants:
        made = chain([replace(next(made), waits=True)], made)
    yield from made


def operand_places(op: PostOp, map_places: Mapping[str, Place]) -> list[Place]:
    """Where the operands are, in the shapes that the operation reads them in."""
    each = zip(op.operands, op.input_shapes, strict=True)
    return [replace(map_places[name], shape=shape) for name, shape in each]


def _own(
    op: PostOp, sources: list[Place], map_places: Mapping[str, Place], target: Place, rows: int
) -> Iterator[Sweep]:
    if op.kind in post.PAIRED:
        yield from _paired(op, sources, map_places, target)
    elif op.table:
        yield replace(_whole(op, sources[0], target, _finishing(op)), table=op.table)
    elif op.norm is not None:
        yield from _normalized(op, op.norm, sources[0], target, MEASURED * rows)
    elif op.kind == "scale":
        yield from _scale(op, sources[0], target)
    elif op.kind == "move":
        yield from _move(op, sources, target)
    elif op.kind == "join":
        yield from _join(op, sources, target)
    elif op.kind == "gather":
        yield from _gather(op, sources[0], target)
    elif op.lines is not None:
        yield from _lines(op, op.lines, sources[0], target)
    else:
        yield from _windows(op, sources[0], target)


def constants(op: PostOp, map_places: Mapping[str, Place]) -> Iterator[Sweep]:
    """The operands that are constant, out of tables.

    A map of the byte 8 alone is summed from its first pixel on, so that pixel p has the bytes 8 p to 8 p + 7; a table
    makes any bytes of these.
    """
    if not op.constants:
        return
    steps, ramp = (map_places[name] for name in op.ramps)
    count = steps.words - 1  # pixels; the plane has one word more
    nothing = np.zeros((0, 5), np.int64)
    whole = MapWalk(steps.base, count, (1, count), count, count)
    yield Sweep(
        _COPY.requantization, _COPY.zero, _COPY.clamp, replace(whole, size=(0, 0)), whole, (Entry(ALL),), nothing,
        pad=OCTET,
    )  # fmt: skip
    biases = np.arange(OCTET) - OCTET - OFFSET
    first = Requantization(biases, *(np.full(OCTET, each) for each in post.UNIT))
    yield Sweep(
        first, 0, _COPY.clamp, replace(whole, origin=(0, 1 - count)), replace(whole, word=ramp.base), (Entry(ALL),),
        nothing, Window((1, count), (1, 1), (0,) * 4, (1, 1)), pitch=count, maximum=False, waits=True,
    )  # fmt: skip
    waits = True
    for number, codes in op.constants:
        place = replace(map_places[op.operands[number]], shape=op.input_shapes[number])
        words = map_words(place, np.frombuffer(codes, np.int8))
        for begin in range(0, len(words), count):
            part = words[begin : begin + count]
            table = np.zeros((count, OCTET), np.uint8)
            table[: len(part)] = part
            walk = MapWalk(ramp.base, count, (1, count), len(part), len(part))
            yield Sweep(
                _COPY.requantization, _COPY.zero, _COPY.clamp, walk, replace(walk, word=place.base + begin),
                (Entry(ALL),), nothing, waits=waits, table=table.tobytes(),
            )  # fmt: skip
            waits = False


@dataclass(frozen=True)
class _Finish:
    requantization: Requantization
    zero: int
    clamp: tuple[int, int]


_COPY = _Finish(post.IDENTITY, 0, (INT8_MIN, INT8_MAX))


def _finishing(op: PostOp, operand: int = 0, taps: tuple[int, int] | None = None) -> _Finish:
    return _Finish(op.requantization(operand, taps), op.zero, op.clamp)


def _channels(shape: post.Shape, octet: int) -> tuple[int, ...]:
    """All channels of an octet of a map, those that the map does not have as zero."""
    there = shape[0] - octet * OCTET
    return tuple(WRITES | (channel if channel < there else ZERO) for channel in range(OCTET))


def _whole(op: PostOp, source: Place, target: Place, finish: _Finish) -> Sweep:
    """All pixels of all octets of one map after the other."""
    channel, (_, height, width) = np.arange(op.output_shape[0]), op.output_shape
    results = _results(channel, channel // OCTET * height * width)
    return Sweep(
        finish.requantization, finish.zero, finish.clamp, map_walk(source), map_walk(target), (Entry(ALL),), results,
        size=(height, width),
    )  # fmt: skip


def _paired(op: PostOp, sources: list[Place], map_places: Mapping[str, Place], target: Place) -> Iterator[Sweep]:
    """What goes through tables before, the smaller maps repeated where they are, then one sweep over both.

    Of more than two maps, first the larger of two, and so on.
    """
    each = [*sources]
    for name, (number, table) in op.tabled().items():
        yield _tabled(each[number], map_places[name], table)
        each[number] = map_places[name]
    waits = bool(op.tabled())
    for name, number in op.repeated().items():
        for sweep in _repeated(each[number], map_places[name]):
            yield replace(sweep, waits=waits)
            waits = False
        each[number] = map_places[name]
    if op.kind == "select":
        yield from _selected(op, each, map_places)
        each = [map_places[name] for name in op.parts]
    elif op.parts:
        larger = [map_places[name] for name in op.parts]
        for first, second, into in zip([each[0], *larger], each[1:], larger, strict=False):
            yield _larger(first, second, into)
        each = [larger[-1], each[-1]]
    whole = _whole(op, each[0], target, _finishing(op))
    yield replace(
        whole, octets=2, plane=each[1].base - each[0].base, maximum=op.kind in (*post.EXTREMA, "select"),
        factors=op.factors, minus=op.kind == "subtract", product=op.kind in ("product", "choice"),
        waits=bool(op.tabled() or op.repeated() or op.parts), table=post.INVERSE if op.kind == "smallest" else b"",
    )  # fmt: skip


def _larger(first: Place, second: Place, target: Place) -> Sweep:
    """The larger of the bytes of two maps, of which what is before this may have made one."""
    made = _copied(map_walk(first), map_walk(target), (Entry(ALL),))
    return replace(made, octets=2, plane=second.base - first.base, waits=True)


def _selected(op: PostOp, sources: Sequence[Place], map_places: Mapping[str, Place]) -> Iterator[Sweep]:
    """What is taken of each of two maps, byte 0 elsewhere: u m, and (255 - u) turned round times 1 - m, as both say.

    The second map is turned round already: (255 - u - 255) (m - 1).
    """
    numbers = replace(post.IDENTITY, bias=-PRODUCT_OFFSET)
    for name, place, factors in zip(op.parts, sources, ((0, 0), (UNSIGNED_MAX, 1)), strict=False):
        yield Sweep(
            numbers, INT8_MIN, _COPY.clamp, map_walk(place), map_walk(map_places[name]), (Entry(ALL),),
            np.zeros((0, 5), np.int64), octets=2, plane=sources[2].base - place.base, maximum=False, factors=factors,
            product=True, waits=name == op.parts[0],
        )  # fmt: skip


def _tabled(source: Place, target: Place, table: bytes) -> Sweep:
    """A map whose bytes go through a table."""
    return replace(_copied(map_walk(source), map_walk(target), (Entry(ALL),)), table=table)


def _scale(op: PostOp, source: Place, target: Place) -> Iterator[Sweep]:
    """For each octet a sweep over the channels that share a sign and the bits of their factor, and so on."""
    size = (op.output_shape[1], op.output_shape[2])
    for octet in range(target.octets):
        beyond = range(target.shape[0] - octet * OCTET, OCTET)
        for group in op.octet_gains(octet):
            channel = octet * OCTET + np.array(group.slots)
            yield Sweep(
                _of_slots(group), op.zero, op.clamp, _over(op, source, octet, (0, 0), size),
                _into(target, octet), (Entry(_slots([(slot, slot) for slot in group.slots], beyond)),),
                _results(channel, np.zeros_like(channel)), octets=2 if group.negative else 1, pitch=source.shape[2],
                maximum=False, factors=(0, group.factor) if group.negative else (group.factor, 0),
                minus=group.negative, size=size,
            )  # fmt: skip


def _of_slots(group: Gains | PerChannel) -> Requantization:
    """Bias, multiplier and shift of these channels of an octet; the others have none."""
    numbers = (np.zeros(OCTET, np.int64), np.zeros(OCTET, np.int64), np.ones(OCTET, np.int64))
    for each, values in zip(numbers, (group.bias, group.multiplier, group.shift), strict=True):
        each[list(group.slots)] = values
    return Requantization(*numbers)


def _normalized(op: PostOp, norm: Norm, source: Place, target: Place, most: int) -> Iterator[Sweep]:
    """Of `most` positions what they are normalized by, then their octets, and so on."""
    passes = norm.passes + -(-measuring(norm.softmax) // (source.octets * OCTET))
    first = True
    for corner, size in rectangles(op.output_shape[1], op.output_shape[2], most):
        over = _over(op, source, 0, corner, size)
        yield Sweep(
            _COPY.requantization, _COPY.zero, _COPY.clamp, over, over, (Entry(ALL),), np.zeros((0, 5), np.int64),
            octets=source.octets, plane=source.plane, waits=first, normal=Normal(norm, passes, False),
        )  # fmt: skip
        first = False
        for octet in range(target.octets):
            beyond = range(target.shape[0] - octet * OCTET, OCTET)
            for group in norm.octet(octet, float(op.output_quantization.scale)):
                channel = octet * OCTET + np.array(group.slots)
                yield Sweep(
                    _of_slots(group), op.zero, op.clamp, _over(op, source, octet, corner, size),
                    _into(target, octet, corner, size),
                    (Entry(_slots([(slot, slot) for slot in group.slots], beyond)),),
                    _results(channel, np.zeros_like(channel)), corner=corner, size=size,
                    normal=Normal(norm, 1, True, group.fraction, group.negative),
                )  # fmt: skip


def rectangles(height: int, width: int, most: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """A map's pixels in rectangles, (corner, size), of as many as `most` pixels."""
    rows, columns = max(1, most // width), min(width, most)
    for y, x in product(range(0, height, rows), range(0, width, columns)):
        yield (y, x), (min(rows, height - y), min(columns, width - x))


def _repeated(source: Place, target: Place) -> Iterator[Sweep]:
    """A map of size 1 along some axes, repeated along them: in one sweep where its pixels are evenly spaced or all one.

    Of one pixel the octets come first, so that the rows of a tile read several words instead of one.
    """
    channels, height, width = (int(size > 1) for size in source.shape)
    entry = (Entry(ALL if channels else (WRITES,) * OCTET),)
    _, rows, columns = target.shape
    one = not height and not width
    octets, pixels = (target.octets, source.plane * channels, target.plane), (rows * columns, int(not one), 1)
    outer, inner = (pixels, octets) if one else (octets, pixels)
    if one or ((height or rows == 1) and (width or columns == 1)):
        over = grid_walk(source.base, outer[:2], inner[:2])
        yield _copied(over, grid_walk(target.base, (outer[0], outer[2]), (inner[0], inner[2])), entry)
        return
    for octet in range(target.octets):
        over = MapWalk(
            source.word(octet * channels), source.shape[2], source.shape[1:], columns, rows * columns,
            step=(height, width),
        )  # fmt: skip
        yield _copied(over, _into(target, octet), entry)


def _copied(over: MapWalk, into: MapWalk, entries: tuple[Entry, ...]) -> Sweep:
    """A copy that is no part of an operation's output."""
    return Sweep(
        _COPY.requantization, _COPY.zero, _COPY.clamp, over, into, entries, np.zeros((0, 5), np.int64)
    )  # fmt: skip


def _into(target: Place, octet: int, corner: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None) -> MapWalk:
    """The walk over the pixels of one octet of a map, or over `size` of them from `corner` on."""
    _, height, width = target.shape
    rows, columns = size or (height, width)
    return MapWalk(target.word(octet), width, (height, width), columns, rows * columns, origin=corner)


def _windows(op: PostOp, source: Place, target: Place) -> Iterator[Sweep]:
    """Averages and maxima of windows."""
    maximum, shape = op.kind == "maximum", (source.shape[1], source.shape[2])
    if post.whole_map(op):  # an array row for each octet instead of each pixel
        down, across = _everything(op) if maximum else (post.spans(op, 0)[0], post.spans(op, 1)[0])
        finish = _finishing(op, taps=(down.inside * across.inside, down.divisor * across.divisor))
        origin = (-op.window.pads[0], -op.window.pads[1])
        over = MapWalk(
            source.base, source.shape[2], shape, source.octets, source.octets, step=(0, 0), origin=origin,
            step_word=source.plane,
        )  # fmt: skip
        channel = np.arange(op.output_shape[0])
        yield Sweep(
            finish.requantization, finish.zero, finish.clamp, over, map_walk(target), (Entry(ALL),),
            _results(channel, channel // OCTET), op.window, pitch=source.shape[2],
            maximum=maximum, size=(1, 1),
        )  # fmt: skip
        return
    regions = product(post.spans(op, 0), post.spans(op, 1)) if not maximum else [_everything(op)]
    for (down, across), octet in product(list(regions), range(target.octets)):
        corner, size = (down.first, across.first), (down.size, across.size)
        finish = _finishing(op, taps=(down.inside * across.inside, down.divisor * across.divisor))
        over = _over(op, source, octet, corner, size)
        yield Sweep(
            finish.requantization, finish.zero, finish.clamp, over, _into(target, octet, corner, size),
            (Entry(_channels(target.shape, octet)),), _of_octet(target, octet), op.window, pitch=source.shape[2],
            maximum=maximum, corner=corner, size=size,
        )  # fmt: skip


def _everything(op: PostOp) -> tuple[post.Span, post.Span]:
    return (post.Span(0, op.output_shape[1], 1, 1), post.Span(0, op.output_shape[2], 1, 1))


def _over(
    op: PostOp, source: Place, octet: int, corner: tuple[int, int], size: tuple[int, int], empty: bool = False
) -> MapWalk:
    """The walk over the windows of `size` results from `corner` on; `empty`: as if the map had no pixels."""
    strides, pads = (op.window.strides[0], op.window.strides[1]), op.window.pads
    origin = (corner[0] * strides[0] - pads[0], corner[1] * strides[1] - pads[1])
    shape = (0, 0) if empty else (source.shape[1], source.shape[2])
    return MapWalk(source.word(octet), source.shape[2], shape, size[1], size[0] * size[1], step=strides, origin=origin)


def _of_octet(target: Place, octet: int) -> NDArray[np.int64]:
    """The results of a sweep that computes all channels of one octet of the output."""
    return _of_octets(target, [octet], 0)


def _of_octets(target: Place, octets: Sequence[int], pixels: int) -> NDArray[np.int64]:
    """The results of a sweep that computes all channels of these octets of the output, `pixels` of each."""
    channel = np.concatenate([np.arange(each * OCTET, min((each + 1) * OCTET, target.shape[0])) for each in octets])
    place = {octet: number * pixels for number, octet in enumerate(octets)}
    return _results(channel, np.array([place[octet] for octet in (channel // OCTET).tolist()]))


def _results(channel: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.int64]:
    nothing = np.zeros_like(channel)
    return np.stack([channel, channel % OCTET, position, nothing, nothing], axis=1)


def _join(op: PostOp, sources: list[Place], target: Place) -> Iterator[Sweep]:
    """A sweep for the octets of each operand whose pixels are evenly spaced in the output, else one for each octet."""
    for number, (source, corner) in enumerate(zip(sources, op.corners, strict=True)):
        finish, (_, height, width) = _finishing(op, number), source.shape
        even, whole = height == 1 or width == target.shape[2], target.shape[0] // OCTET
        together = ([*range(whole)], [*range(whole, target.octets)]) if even else [[n] for n in range(target.octets)]
        for run in filter(None, together):
            over = grid_walk(source.word(run[0]), (len(run), source.plane), (height * width, 1))
            into, entry = _octets_into(target, run, corner, (height, width)), Entry(_channels(target.shape, run[-1]))
            yield Sweep(
                finish.requantization, finish.zero, finish.clamp, over, into, (entry,),
                _of_octets(target, run, height * width), pitch=width, corner=corner, size=(height, width),
            )  # fmt: skip


def _octets_into(target: Place, run: Sequence[int], corner: tuple[int, int], size: tuple[int, int]) -> MapWalk:
    """The walk over a rectangle of one octet of a map, or over an evenly spaced one of octets that are as far apart."""
    if len(run) == 1:
        return _into(target, run[0], corner, size)
    apart = (run[1] - run[0]) * target.plane
    return grid_walk(target.word(run[0], *corner), (len(run), apart), (size[0] * size[1], 1))


def _gather(op: PostOp, source: Place, target: Place) -> Iterator[Sweep]:
    """A sweep for each octet of the output, each octet and order that channels of it come from, and each run of it."""
    for octet in range(target.octets):
        beyond, groups = range(target.shape[0] - octet * OCTET, OCTET), dict[tuple[int, int], list[tuple[int, int]]]()
        for slot, (channel, number) in enumerate(op.channels[octet * OCTET : (octet + 1) * OCTET]):
            groups.setdefault((channel // OCTET, number), []).append((slot, channel % OCTET))
        for (source_octet, number), slots in groups.items():
            results, done = np.array([(octet * OCTET + slot, column, 0, 0, 0) for slot, column in slots]), 0
            for run in op.orders[number]:
                over = MapWalk(
                    source.word(source_octet) + run.first, run.stride, (run.rows, 1), run.columns, run.size,
                    step=(1, 0), step_word=run.step,
                )  # fmt: skip
                into = MapWalk(target.word(octet) + done, run.size, (1, run.size), run.size, run.size)
                yield Sweep(
                    _COPY.requantization, _COPY.zero, _COPY.clamp, over, into, (Entry(_slots(slots, beyond)),),
                    results, corner=(0, done), size=(1, run.size),
                )  # fmt: skip
                done += run.size


def _lines(op: PostOp, lines: Lines, source: Place, target: Place) -> Iterator[Sweep]:
    """A sweep for each octet and all lines that lie evenly and have the same factors."""
    finish, axis = _finishing(op), lines.axis
    _, height, width = op.output_shape

    def along(value: int, other: int) -> tuple[int, int]:
        return (value, other) if axis == 0 else (other, value)

    for octet, run in product(range(target.octets), list(lines.spaced())):
        size, corner = along(run.count, width if axis == 0 else height), along(run.place, 0)
        over = MapWalk(
            source.word(octet), source.shape[2], source.shape[1:], size[1], size[0] * size[1],
            step=along(run.step, 1), origin=along(run.first, 0),
        )  # fmt: skip
        apart = along(run.apart, 1)
        into = MapWalk(
            target.word(octet), width, (height, width), size[1], size[0] * size[1], step=apart, origin=corner
        )  # fmt: skip
        yield Sweep(
            finish.requantization, finish.zero, finish.clamp, over, into, (Entry(_channels(target.shape, octet)),),
            _of_octet(target, octet), octets=2 if run.factors[1] else 1, plane=source.shape[2] if axis == 0 else 1,
            pitch=source.shape[2], maximum=False, factors=run.factors, corner=corner, size=size, apart=apart,
        )  # fmt: skip


@dataclass(frozen=True)
class _Copies:
    """Octets of a copy's output whose channels come from octets of one operand in the same way.

    `entries` and `slots`, (channel in the octet, column, dy, dx), are those of each, `targets` and `sources` (number,
    distance) of the octets.
    """

    operand: int
    entries: tuple[Entry, ...]
    slots: tuple[tuple[int, int, int, int], ...]
    target: int
    source: int


def _move(op: PostOp, places: list[Place], target: Place) -> Iterator[Sweep]:
    """A sweep for octets of the output whose channels come in the same way from octets that are as far apart.

    That is if the pixels are evenly spaced, else there is one for each octet and each that channels of it come from.
    """
    size = (op.output_shape[1] // op.repeat[0], op.output_shape[2] // op.repeat[1])
    for run in _runs(op, places, target, size):
        first, operand = run[0], max(run[0].operand, 0)
        source, empty, finish = places[operand], first.operand == NOBODY, _finishing(op, operand)
        over = _over(op, source, 0 if empty else first.source, (0, 0), size, empty)
        into = replace(_into(target, first.target, size=size), step=op.repeat)
        if len(run) > 1:
            pixels, word = size[0] * size[1], over.word + over.origin[0] * over.pitch + over.origin[1]
            apart = (run[1].source - first.source) * source.plane
            over = grid_walk(word, (len(run), apart), (pixels, _spaced(op, source, size)))
            into = _octets_into(target, [each.target for each in run], (0, 0), size)
        results = [
            (each.target * OCTET + slot, column, number * size[0] * size[1], dy, dx)
            for number, each in enumerate(run)
            for slot, column, dy, dx in each.slots
        ]
        yield Sweep(
            finish.requantization, finish.zero, finish.clamp, over, into, first.entries, np.array(results), op.window,
            pitch=source.shape[2], size=size, pad=op.input_quantizations[operand].zero_point + OFFSET,
        )  # fmt: skip


def _spaced(op: PostOp, source: Place, size: tuple[int, int]) -> int:
    """The words from one pixel that a copy reads to the next; 0 if they are not evenly spaced, or some are padding."""
    (down, across), pads, (height, width) = op.window.strides, op.window.pads, source.shape[1:]
    last = ((size[0] - 1) * down - pads[0], (size[1] - 1) * across - pads[1])
    inside = max(pads[:2]) <= 0 and last[0] < height and last[1] < width
    if not inside or op.repeat != (1, 1):
        return 0
    if size[1] == 1:
        return down * width
    return across if size[0] == 1 or down * width == size[1] * across else 0


def _runs(op: PostOp, places: list[Place], target: Place, size: tuple[int, int]) -> Iterator[list[_Copies]]:
    """The copies of a move, those together that one sweep can do."""
    alike: dict[tuple[int, tuple[Entry, ...]], list[list[_Copies]]] = {}
    for octet in range(target.octets):
        beyond = range(target.shape[0] - octet * OCTET, OCTET)
        for (operand, source_octet), picked in _picked(op, octet).items():
            entries = tuple(Entry(_slots(slots, beyond), *place) for place, slots in picked.items())
            slots = tuple((slot, column, *place) for place, each in picked.items() for slot, column in each)
            copy = _Copies(operand, entries, slots, octet, source_octet)
            runs = alike.setdefault((operand, entries), [])
            even = operand != NOBODY and _spaced(op, places[operand], size)
            if runs and even and _goes_on(runs[-1], copy):
                runs[-1].append(copy)
            else:
                runs.append([copy])
    yield from (run for runs in alike.values() for run in runs)


def _goes_on(run: Sequence[_Copies], copy: _Copies) -> bool:
    """Whether a copy is as far from the last one of a run as those are from each other."""
    if len(run) == 1:
        return True
    steps = [(b.target - a.target, b.source - a.source) for a, b in ((run[0], run[1]), (run[-1], copy))]
    return steps[0] == steps[1]


def _picked(op: PostOp, octet: int) -> dict[tuple[int, int], dict[tuple[int, int], list[tuple[int, int]]]]:
    """Of an octet of the output, by (operand, octet) and (dy, dx): (channel in the octet, channel in the operand's)."""
    found: dict[tuple[int, int], dict[tuple[int, int], list[tuple[int, int]]]] = {}
    for phase, picks in enumerate(op.picks):
        for slot, (operand, channel) in enumerate(picks[octet * OCTET : (octet + 1) * OCTET]):
            by_place = found.setdefault((operand, channel // OCTET), {})
            by_place.setdefault(divmod(phase, op.repeat[1]), []).append((slot, channel % OCTET))
    return found


def _slots(slots: list[tuple[int, int]], beyond: Iterable[int]) -> tuple[int, ...]:
    """An entry's channels: these, and zeros in the places `beyond` the map's."""
    channels = [0] * OCTET
    for slot, column in slots:
        channels[slot] = WRITES | column
    for slot in beyond:
        channels[slot] = WRITES | ZERO
    return tuple(channels)
