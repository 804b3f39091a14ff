"""The address of each map in the memory of the feature maps, each kept until its last reader.

Dynamic storage allocation, whose optimum is NP-hard: first the maps of the most words for the most steps, each at the
lowest address where nothing lies that is alive meanwhile. Fewer words than `least_words`, those of the maps alive at
once, are impossible. Until that is reached, the map that ends last is put first in the order, at most `TRIES` times,
and the best of all is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.hardware.fields import ADDRESS, SUBGROUP
from flow.network.model import as_uint8
from flow.scheduling.blocks import Bytes
from flow.scheduling.onchip.chain import Chain, Segment
from flow.scheduling.onchip.post import PostOp, Shape

OCTET = SUBGROUP
TRIES = 40
MOST_PLACED = 20_000  # maps of all tries

Span = tuple[int, int, int]  # of a map: its words, the step that makes it, its last reader


@dataclass(frozen=True)
class Place:
    """The place of one map: `base` is its first word, `plane` the number of words of an octet plane."""

    base: int
    plane: int
    shape: Shape

    @property
    def octets(self) -> int:
        return -(-self.shape[0] // OCTET)

    @property
    def words(self) -> int:
        return self.octets * self.plane

    def word(self, octet: int, y: int = 0, x: int = 0) -> int:
        return self.base + octet * self.plane + y * self.shape[2] + x


def plane_words(shape: Shape) -> int:
    """Words of an octet plane: an odd number, so that the same pixel of several planes lies in several banks."""
    return (shape[1] * shape[2]) | 1


def map_words(place: Place, codes: NDArray[np.int8]) -> Bytes:
    """A map's words uint8 [words, 8]: bytes u = code + OFFSET; channels beyond the last are 0."""
    channels, height, width = place.shape
    padded = np.zeros((place.octets * OCTET, place.plane), np.uint8)
    padded[:channels, : height * width] = as_uint8(codes.reshape(channels, -1))
    return np.ascontiguousarray(padded.reshape(place.octets, OCTET, place.plane).transpose(0, 2, 1)).reshape(-1, OCTET)


def places(chain: Chain) -> tuple[dict[str, Place], ...]:
    """The place of every map of each segment, by tensor; segments follow each other in the same memory.

    FlowError when they need more words than an address can reach.
    """
    result = tuple(_segment_places(chain, segment) for segment in chain.segments)
    if (needed := max(map(words, result), default=0)) > 1 << ADDRESS:
        raise FlowError(
            f"the feature maps of the network need {needed:,} words of 8 bytes, more than the "
            f"{1 << ADDRESS:,} that can be numbered; leave out --on-chip"
        )
    return result


@dataclass(frozen=True)
class _Life:
    """A map of a segment, from the number of the step that makes it (-1: loaded) to that of its last reader."""

    name: str
    shape: Shape
    born: int
    last: int

    @property
    def words(self) -> int:
        return map_size(self.shape)


def map_size(shape: Shape) -> int:
    """Words of a map of this shape."""
    return -(-shape[0] // OCTET) * plane_words(shape)


def _segment_places(chain: Chain, segment: Segment) -> dict[str, Place]:
    lives = _lives(chain, segment)
    best = _best([(life.words, life.born, life.last) for life in lives])
    return {life.name: Place(base, plane_words(life.shape), life.shape) for life, base in zip(lives, best, strict=True)}


def least_words(chain: Chain) -> int:
    """Words that the maps alive at once need, at the step that needs most of all segments."""
    return max((_most([(life.words, life.born, life.last) for life in _lives(chain, segment)])
                for segment in chain.segments), default=0)  # fmt: skip


def _most(lives: Sequence[Span]) -> int:
    """Of maps (words, born, last), the words of those alive at once."""
    change = np.zeros(max(last for _, _, last in lives) + 3, np.int64)
    for size, born, last in lives:
        change[born + 1] += size
        change[last + 2] -= size
    return int(change.cumsum().max())


def _best(lives: Sequence[Span]) -> list[int]:
    """The first words of maps (words, born, last)."""
    area = [size * (last - born + 1) for size, born, last in lives]
    order = sorted(range(len(lives)), key=lambda number: (-area[number], lives[number][1]))
    least, best, needed = _most(lives), list[int](), 0
    for _ in range(min(TRIES, 1 + MOST_PLACED // len(lives))):
        found = _first_fit(lives, order)
        ends = [base + lives[number][0] for number, base in enumerate(found)]
        if not best or max(ends) < needed:
            best, needed = found, max(ends)
        if needed == least:
            break
        highest = ends.index(max(ends))
        order.remove(highest)
        order.insert(0, highest)
    return best


def _first_fit(lives: Sequence[Span], order: Sequence[int]) -> list[int]:
    """The first words of maps (words, born, last), one put after the other in this order."""
    placed, bases = np.zeros((len(lives), 4), np.int64), [0] * len(lives)  # first word, end, born, last
    for count, number in enumerate(order):
        size, born, last = lives[number]
        before = placed[:count]
        alive = before[(before[:, 2] <= last) & (before[:, 3] >= born)]
        base = 0
        for begin, end in sorted(alive[:, :2].tolist()):
            if base + size <= begin:
                break
            base = max(base, end)
        bases[number] = base
        placed[count] = base, base + size, born, last
    return bases


def words(made: Mapping[str, Place]) -> int:
    """Words of memory that these places need."""
    return max(place.base + place.words for place in made.values())


def _lives(chain: Chain, segment: Segment) -> list[_Life]:
    """Every map that a segment reads, and those that an operation needs meanwhile, in order."""
    last: dict[str, int] = {}
    for number, step in enumerate(segment.steps):
        last.update(dict.fromkeys(step.inputs, number))
    lives = [_Life(held.tensor, chain.held[held.tensor].shape, -1, last[held.tensor]) for held in segment.inputs]
    for number, step in enumerate(segment.steps):
        if isinstance(step, PostOp):
            lives += [_Life(name, shape, number, number) for name, shape in step.scratch().items()]
        if step.output in last:
            lives.append(_Life(step.output, chain.held[step.output].shape, number, last[step.output]))
    return lives
