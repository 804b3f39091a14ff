"""Tensors as feature maps: shapes, layouts, and the exception for nodes that do not run on chip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.network.model import Quantization, Window
from flow.scheduling.onchip.post import Shape

POINT = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))


@dataclass(frozen=True, eq=False)
class View:
    """A tensor whose elements lie elsewhere than its axes say: `order` int64 [1, axes], the number of each of them.

    Elements of a map [channels, height, width] are counted in this order. `reason`: why no map holds the tensor, which
    is `tensor` if it has 8 bits.
    """

    order: NDArray[np.int64]
    reason: str
    tensor: str = ""


@dataclass(frozen=True)
class Held:
    """An 8-bit tensor of the network and the map that holds it.

    `axes` is the tensor's shape for one sample, axes in the map's order; with `rows`, the channels are the last axis.
    With a `view`, its elements lie in another order. `origin` is the tensor whose elements the map holds once more, if
    it does.
    """

    tensor: str
    shape: Shape
    quantization: Quantization
    axes: tuple[int, ...]
    rows: bool = False
    view: View | None = None
    origin: str = ""

    @property
    def name(self) -> str:
        """The tensor of the network that has these axes, if the map is its own."""
        return self.origin or self.tensor

    @property
    def flat(self) -> bool:
        return len(self.axes) == 1


class OffChipError(Exception):
    """Why a node cannot run on chip; `tensor` is one that it makes, if that is known.

    `view`: the tensor of 8 bits whose elements lie otherwise than the node wants.
    """

    def __init__(self, reason: str, tensor: str = "", view: str = "") -> None:
        super().__init__(reason)
        self.tensor = tensor
        self.view = view


def element_order(held: Held, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The numbers of the elements of a held tensor of this shape, batch included."""
    if held.view is not None:
        return held.view.order.reshape(shape)
    channels, height, width = held.shape
    order = np.arange(channels * height * width)
    return (order.reshape(channels, -1).T if held.rows else order).reshape(shape)


def as_map(shape: tuple[int, ...], rows: bool, name: str) -> Shape:
    """[channels, height, width] of one sample's shape; `rows`: the channels are the last axis.

    Of three spatial axes the planes of the first one are channels.
    """
    if rows:
        return (shape[-1], 1, int(np.prod(shape[:-1], dtype=np.int64)))
    if len(shape) == 2:
        return (shape[0], 1, shape[1])
    if len(shape) == 3:
        return (shape[0], shape[1], shape[2])
    if len(shape) == 4:
        return (shape[0] * shape[1], shape[2], shape[3])
    raise OffChipError(f"'{name}' has {len(shape) - 1} spatial axes, and maps have two, or three with planes")


def two_axes(window: Window) -> Window:
    """A window of one axis as one of maps of height 1."""
    if len(window.kernel) == 2:
        return window
    pads = (0, window.pads[0], 0, window.pads[1])
    return Window((1, *window.kernel), (1, *window.strides), pads, (1, *window.dilations))
