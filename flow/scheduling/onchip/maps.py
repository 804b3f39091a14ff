"""Tensors as feature maps: shapes, layouts, and the exception for nodes that do not run on chip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flow.network.model import Quantization, Window
from flow.scheduling.onchip.post import Shape

POINT = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))


@dataclass(frozen=True)
class Held:
    """An 8-bit tensor of the network and the map that holds it.

    `axes` is the tensor's shape for one sample, axes in the map's order; with `rows`, the channels are the last axis.
    """

    tensor: str
    shape: Shape
    quantization: Quantization
    axes: tuple[int, ...]
    rows: bool = False

    @property
    def flat(self) -> bool:
        return len(self.axes) == 1


class OffChipError(Exception):
    """Why a node cannot run on chip; `tensor` is one that it makes, if that is known."""

    def __init__(self, reason: str, tensor: str = "") -> None:
        super().__init__(reason)
        self.tensor = tensor


def as_map(shape: tuple[int, ...], rows: bool, name: str) -> Shape:
    """[channels, height, width] of one sample's shape; `rows`: the channels are the last axis."""
    if rows:
        return (shape[-1], 1, int(np.prod(shape[:-1], dtype=np.int64)))
    if len(shape) == 2:
        return (shape[0], 1, shape[1])
    if len(shape) == 3:
        return (shape[0], shape[1], shape[2])
    raise OffChipError(f"'{name}' has {len(shape) - 1} spatial axes, and maps have two")


def two_axes(window: Window) -> Window:
    """A window of one axis as one of maps of height 1."""
    if len(window.kernel) == 2:
        return window
    pads = (0, window.pads[0], 0, window.pads[1])
    return Window((1, *window.kernel), (1, *window.strides), pads, (1, *window.dilations))
