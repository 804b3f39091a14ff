"""An accelerator that computes segments by the integer reference, from its memories to the words it writes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flow.hardware.fields import descriptor_slice
from flow.hardware.interface import Memory
from flow.network.model import as_int8, as_uint8
from flow.scheduling.onchip.layout import input_words, layout
from flow.scheduling.onchip.program import OnChip
from flow.simulation.engines.base import Command, Result
from flow.simulation.onchip import by_reference


class Reference:
    """A Simulator of one program: a command must be the start of a segment, and takes as many cycles as descriptors."""

    def __init__(self, onchip: OnChip) -> None:
        self.onchip = onchip
        self.commands: list[tuple[int, int]] = []

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        self.commands.append((command.first, command.count))
        onchip, number = self.onchip, self.onchip.starts.index((command.first, command.count))
        output = np.zeros((writes["output"], onchip.config.rows), np.uint8)
        _, mirror = descriptor_slice("mirror")
        for step, result in by_reference(onchip, self._loaded(memories["activation"], number), number).items():
            if not memories["descriptor"][onchip.ends[step] - 1, mirror // 8] >> mirror % 8 & 1:
                continue
            where = layout(onchip, step)
            (down, across), (_, height, width) = where.unroll, where.shape
            y, x = np.arange(height)[:, None], np.arange(width)
            word, stride, position = np.moveaxis(where.cells[:, y % down, x % across], -1, 0)
            tile, row = np.divmod(position + y // down * where.windows + x // across, onchip.config.rows)
            if where.planes == 1:
                output[word + tile * stride, row] = as_uint8(result.astype(np.int8))
                continue
            octets = np.ascontiguousarray(result.astype(np.int32))[..., None].view(np.uint8)
            for plane in range(where.planes):
                output[word + tile * stride + plane * stride // where.planes, row] = octets[..., plane]
        return Result(command.count, {"output": output})

    def _loaded(self, activation: Memory, number: int) -> dict[str, NDArray[np.int8]]:
        """The maps that a segment loads, by tensor, as its descriptors read them."""
        onchip, segments = self.onchip, self.onchip.chain.segments
        firsts = input_words(onchip)[sum(len(segment.inputs) for segment in segments[:number]) :]
        maps = {}
        for held, first in zip(segments[number].inputs, firsts, strict=False):
            place, (channels, height, width) = onchip.places[number][held.tensor], held.shape
            beats = activation[first:][:: onchip.config.beats].reshape(-1, 8)[: place.words]
            planes = beats.reshape(place.octets, place.plane, 8).transpose(0, 2, 1).reshape(-1, place.plane)
            maps[held.tensor] = as_int8(np.ascontiguousarray(planes[:channels, : height * width])).reshape(held.shape)
        return maps
