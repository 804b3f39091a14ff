"""A network on chip executed from its memory images, on maps that are drawn at random: does each step give its result?

A second way from the words of the images to every map (flow/judgement/chip.py). The inputs of a step are drawn anew
before it, in the whole range of a byte, so that no wrong number hides behind the data of a few samples. A step must
give what it is defined to give, write nothing but its maps, and read nothing that may not be written yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.judgement.chip import NO_WEIGHTS, CannotRunError, Chip
from flow.judgement.images import NETWORK, ImageError
from flow.network.model import as_int8, as_uint8
from flow.scheduling.onchip.chain import Step
from flow.scheduling.onchip.layout import activations, results
from flow.scheduling.onchip.place import OCTET, Place
from flow.scheduling.onchip.post import PostOp, Shape
from flow.scheduling.onchip.program import OnChip
from flow.simulation.onchip import step_result

Codes = NDArray[np.int8]


def judge(onchip: OnChip, seed: int = 0) -> list[ImageError]:
    """What is wrong in the images of a network on chip: the first error of each step that has one.

    The other judgement on the images, `images.judge_on_chip`, has found nothing.
    """
    errors, chip = list[ImageError](), Chip(onchip.config, onchip.memories, onchip.output_words)
    for number in range(len(onchip.chain.segments)):
        errors += _Segment(onchip, number, chip, np.random.default_rng([seed, number])).errors()
    return errors


@dataclass(frozen=True)
class _Segment:
    """The segment `number` of a network on chip, and what draws its maps."""

    onchip: OnChip
    number: int
    chip: Chip
    generator: np.random.Generator

    @property
    def places(self) -> Mapping[str, Place]:
        return self.onchip.places[self.number]

    def errors(self) -> Iterator[ImageError]:
        """What is wrong in what loads the inputs, and in the steps."""
        onchip, segment, weights = self.onchip, self.onchip.chain.segments[self.number], _weights(self.onchip)
        loaded = {held.tensor: _codes(held.shape, self.generator) for held in segment.inputs}
        self.chip.memories["activation"] = activations(onchip, loaded)
        self.chip.unsettled[:] = False
        for first, (name, codes) in enumerate(loaded.items(), onchip.starts[self.number][0]):
            yield from self.ran(name, range(first, first + 1), {name}, weights) or self.unlike(name, name, codes)
        for number, step in zip(onchip.segment_steps[self.number], segment.steps, strict=True):
            name, scratch = (step.name, step.scratch()) if isinstance(step, PostOp) else (step.layer.name, {})
            descriptors = range(onchip.firsts[number], onchip.ends[number])
            maps = {tensor: self.drawn(step, tensor) for tensor in step.inputs}
            wrong = self.ran(name, descriptors, {step.output, *scratch}, weights)
            if wrong:
                yield from wrong
                continue
            want = step_result(onchip.chain, step, maps)
            yield from self.unlike_output(name, number, want)
            if step.output in self.places:
                yield from self.unlike(name, step.output, want)

    def drawn(self, step: Step, tensor: str) -> Codes:
        """Codes of an input of a step, which are now in its map."""
        place = self.places[tensor]
        codes = _codes(place.shape, self.generator)
        if (
            isinstance(step, PostOp)
            and step.kind in ("choice", "select")
            and (step.operands[-1], step.tables[-1]) == (tensor, b"")
        ):
            codes = as_int8(as_uint8(codes) % 2)  # it says where
        planes, bits = self.planes(tensor), as_uint8(codes).reshape(len(codes), -1)
        for channel, values in enumerate(bits):
            planes[channel // OCTET, : values.size, channel % OCTET] = values
        return codes

    def planes(self, tensor: str) -> NDArray[np.uint8]:
        """A map's words [octets, words, 8], to read and to write."""
        place = self.places[tensor]
        return self.chip.maps[place.base : place.base + place.words].reshape(place.octets, place.plane, OCTET)

    def ran(self, name: str, descriptors: range, written: set[str], weights: Mapping[int, Codes]) -> list[ImageError]:
        """Why descriptors cannot run, or that they write what is not in these maps, in which anything was before."""
        self.chip.writer[:] = -1
        for planes in (self.planes(tensor) for tensor in written if tensor in self.places):
            planes[:] = self.generator.integers(0, 256, planes.shape)
        for number in descriptors:
            try:
                self.chip.run(number, weights.get(number, NO_WEIGHTS))
            except CannotRunError as error:
                return [ImageError("descriptor", number, "the word", name, str(error), NETWORK)]
        free = self.chip.writer >= 0
        for place in (self.places[tensor] for tensor in written if tensor in self.places):
            free[place.base : place.base + place.words] = False
        for word in np.flatnonzero(free)[:1].tolist():
            text = f"word {word} of the maps is written, which is not the result's"
            return [ImageError("descriptor", int(self.chip.writer[word]), "the word", name, text, NETWORK)]
        return []

    def unlike(self, name: str, tensor: str, want: Codes) -> Iterator[ImageError]:
        """The first wrong byte of a map."""
        got = self.planes(tensor).transpose(0, 2, 1).reshape(-1, self.places[tensor].plane)
        flat = as_uint8(want).reshape(len(want), -1)
        wrong = np.argwhere(got[: len(flat), : flat.shape[1]] != flat)
        for channel, pixel in wrong[:1].tolist():
            word = self.places[tensor].base + channel // OCTET * self.places[tensor].plane + pixel
            what = f"of channel {channel}, pixel {pixel} of its map, the first of {len(wrong)} of {flat.size},"
            text = f"the byte {what} is {got[channel, pixel]} instead of {flat[channel, pixel]}"
            yield ImageError("descriptor", int(self.chip.writer[word]), "the word", name, text, NETWORK)

    def unlike_output(self, name: str, number: int, want: NDArray[np.integer]) -> Iterator[ImageError]:
        """The first wrong result of a step in the output memory."""
        got = results(self.onchip, self.chip.output, [number])[number]
        wrong = np.argwhere(got != want)
        for place in map(tuple, wrong[:1].tolist()):
            what = (
                f"of channel {place[0]}, row {place[1]}, column {place[2]}, the first of {len(wrong)} of {want.size},"
            )
            text = f"the output {what} is {got[place]} instead of {want[place]}"
            yield ImageError("descriptor", self.onchip.firsts[number], "the word", name, text, NETWORK)


def _codes(shape: Shape, generator: np.random.Generator) -> Codes:
    """Any codes; a quarter of them are the least and the largest one, which tables and clamps single out."""
    codes, extremes = generator.integers(-128, 128, shape), generator.choice([-128, 127], shape)
    return np.where(generator.random(shape) < 0.25, extremes, codes).astype(np.int8)


def _weights(onchip: OnChip) -> dict[int, Codes]:
    """The weights of layers by descriptor, int8 [channels, reduction] each."""
    found, number = dict[int, Codes](), 0
    for region in onchip.regions:
        if region.part is not None and region.scheduled is not None:
            number = max(number, onchip.firsts[region.step])
            count = len(region.scheduled.blocks)
            found |= dict.fromkeys(range(number, number + count), region.part.layer.weights)
            number += count
    return found
