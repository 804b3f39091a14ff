"""The address of each map in the memory of the feature maps: first fit, each map kept until its last reader."""

from __future__ import annotations

from collections.abc import Mapping
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


def _segment_places(chain: Chain, segment: Segment) -> dict[str, Place]:
    shapes, last = _lifetimes(chain, segment)
    result: dict[str, Place] = {}
    live: dict[str, Place] = {}
    for held in segment.inputs:
        _put(held.tensor, shapes, live, result)
    for number, step in enumerate(segment.steps):
        if isinstance(step, PostOp):
            for name, shape in step.scratch().items():
                _put(name, {name: shape}, live, result)
        if step.output in shapes:
            _put(step.output, shapes, live, result)
        live = {name: place for name, place in live.items() if last.get(name, -1) > number}
    return result


def words(made: Mapping[str, Place]) -> int:
    """Words of memory that these places need."""
    return max(place.base + place.words for place in made.values())


def _lifetimes(chain: Chain, segment: Segment) -> tuple[dict[str, Shape], dict[str, int]]:
    """The shape of every map that a segment reads, and the number of its last step that does."""
    last: dict[str, int] = {}
    for number, step in enumerate(segment.steps):
        for name in step.inputs:
            last[name] = number
    shapes = {name: chain.held[name].shape for name in last}
    return shapes, last


def _put(name: str, shapes: Mapping[str, Shape], live: dict[str, Place], result: dict[str, Place]) -> None:
    """Put a map into the lowest gap that is large enough."""
    place = Place(0, plane_words(shapes[name]), shapes[name])
    for other in sorted(live.values(), key=lambda other: other.base):
        if place.base + place.words <= other.base:
            break
        place = Place(max(place.base, other.base + other.words), place.plane, place.shape)
    live[name] = result[name] = place
