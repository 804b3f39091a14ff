"""What is known of a host segment's tensors while it is read, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.network.model import Window
from flow.onnxtools.graph import Graph, quantized_constant
from flow.scheduling.onchip.lines import Lines
from flow.scheduling.onchip.maps import POINT, Held, View
from flow.scheduling.onchip.norms import Norm
from flow.scheduling.onchip.post import Matrices, PostOp, Shape

Picks = tuple[tuple[tuple[int, int], ...], ...]  # by phase of `repeat`, by channel: (operand, channel)


@dataclass(frozen=True)
class Chosen:
    """What one of two maps is chosen by: the real numbers, float32 [256], that their bytes stand for.

    With a `mask`, it is the first one's number where this table has 1 for the byte of the last one, else that of the
    second one, or if there is none, `otherwise`.
    """

    reals: tuple[NDArray[np.floating[Any]], ...]
    mask: bytes = b""
    otherwise: float = 0.0


@dataclass(frozen=True)
class Draft:
    """A float tensor until its QuantizeLinear makes it an operation.

    A plain "move" is the 8-bit operand itself; a "table" is a function of its operand, and of `eight_bit` alone, if it
    has one: the 8-bit tensor that it dequantizes. Without `picks` every channel is where it was. With a `view`, a
    "move" has the elements of its operand in another order, a "matmul" those of its heads, and any other those of the
    map that it would be. `forms` are the shapes in which the operation reads its operands and makes its result, where
    those are not of the maps.
    """

    kind: str
    operands: tuple[Held, ...]
    shape: Shape
    window: Window = POINT
    picks: Picks = ()
    repeat: tuple[int, int] = (1, 1)
    all_taps: bool = False
    gains: tuple[tuple[float, float], ...] = ()  # of a "scale": factor and summand of every channel
    activation: onnx.NodeProto | None = None
    eight_bit: str = ""
    norm: Norm | None = None
    lines: Lines | None = None
    matrices: Matrices | None = None  # of a "matmul", whose results are placed when they are quantized
    view: View | None = None
    corners: tuple[tuple[int, int], ...] = ()  # of a "join"
    constants: tuple[tuple[int, bytes], ...] = ()  # operands that are no maps: number, codes
    chosen: Chosen | None = None
    forms: tuple[Shape, ...] = ()

    @property
    def pointwise(self) -> bool:
        """Whether each element depends on the same element of the only operand alone."""
        return (
            self.kind in ("move", "table")
            and self.view is None
            and self.window == POINT
            and not self.picks
            and self.shape == self.operands[0].shape
        )

    @property
    def plain(self) -> bool:
        """Whether the draft is its only operand, unchanged."""
        return self.kind == "move" and self.pointwise and self.activation is None

    @property
    def rows(self) -> bool:
        return self.operands[0].rows


@dataclass(frozen=True)
class Reading:
    """State while a segment is read: its tensors' shapes, the maps so far, and float tensors not yet quantized.

    `tables` are 8-bit tensors that are functions of one map, by name, with the QuantizeLinear that makes them. They
    become maps where more than another such function reads them.
    """

    graph: Graph
    shapes: Mapping[str, tuple[int, ...]]
    held: dict[str, Held]
    drafts: dict[str, Draft] = field(default_factory=dict)
    tables: dict[str, onnx.NodeProto] = field(default_factory=dict)
    operations: list[PostOp] = field(default_factory=list)

    def shape(self, name: str) -> tuple[int, ...]:
        if name in self.shapes:
            return self.shapes[name]
        value = constant_of(self.graph, name)
        return () if value is None else value.shape

    def whole(self, held: Held) -> Held:
        """The tensor that a map was made for, in place of another one that it holds, too."""
        return self.held[held.tensor]

    def regular(self, name: str, draft: Draft) -> bool:
        """Whether the tensor's axes are those of its map: channels and pixels, or rows of channels.

        Rows may be along all axes but the last, also along axis 0.
        """
        shape = self.shape(name)
        if shape[:1] != (1,) and draft.rows:
            return is_regular(shape, draft.shape, True)
        return shape[:1] == (1,) and is_regular(shape[1:], draft.shape, draft.rows)


def is_regular(axes: tuple[int, ...], shape: Shape, rows: bool) -> bool:
    """Whether these axes of one sample are those of a map of this shape; `rows`: the channels are the last axis."""
    channels, height, width = shape
    if rows:
        return height == 1 and axes[-1:] == (channels,) and int(np.prod(axes[:-1], dtype=np.int64)) == width
    return axes in (shape, (channels, *([width] if height == 1 else [-1])), (channels,) if height == width == 1 else ())


def has_planes(axes: tuple[int, ...], shape: Shape) -> bool:
    """Whether these axes of one sample are channels and three of pixels, the planes of the first one channels here."""
    return len(axes) == 4 and (axes[0] * axes[1], *axes[2:]) == shape


def constant_of(graph: Graph, name: str) -> NDArray[Any] | None:
    """The values of a constant, also of one that is quantized to 8 bits."""
    kept = quantized_constant(graph, name)
    if kept is None:
        return graph.constant(name)
    if kept.scale is None or kept.zero is None or kept.scale.size != 1:
        return None
    real: NDArray[Any] = (kept.codes.astype(np.float64) - kept.zero) * kept.scale
    return real
