"""The network as the flow sees it: array layers and host segments, in execution order.

`frontend.cut.partition` turns an INT8 (QDQ) ONNX model into a `Network`. An `ArrayLayer` runs on the
accelerator, a `HostSegment` runs in ONNX Runtime. Tensors between steps keep the names they have in the
ONNX model.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.onnxtools.graph import Graph
from flow.onnxtools.shapes import Types

INT8_MIN, INT8_MAX = -128, 127
OFFSET = 128  # a uint8 tensor, and a byte on the array, is the int8 code plus this


def as_int8(tensor: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Bytes u as int8 codes u - OFFSET."""
    return (tensor ^ np.uint8(OFFSET)).view(np.int8)


def as_uint8(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Int8 codes q as bytes q + OFFSET."""
    return codes.view(np.uint8) ^ np.uint8(OFFSET)


@dataclass(frozen=True)
class Quantization:
    """An 8-bit per-tensor quantization: real = scale * (q - zero_point).

    `zero_point` is in the int8 domain: uint8 tensors are shifted by `OFFSET` at import, and `unsigned` says so,
    because the ONNX tensor itself stays uint8.
    """

    scale: np.float32
    zero_point: int
    unsigned: bool

    def to_int8(self, tensor: NDArray[np.uint8] | NDArray[np.int8]) -> NDArray[np.int8]:
        """The ONNX tensor (uint8 or int8) as int8 codes."""
        return as_int8(tensor.view(np.uint8)) if self.unsigned else tensor.view(np.int8)

    def from_int8(self, codes: NDArray[np.int8]) -> NDArray[np.uint8] | NDArray[np.int8]:
        """Int8 codes as the ONNX tensor's own type."""
        return as_uint8(codes) if self.unsigned else codes


@dataclass(frozen=True)
class Window:
    """The geometry of a convolution over `len(kernel)` spatial axes; `None` on a layer means a matrix product.

    `pads` is ONNX's order: the beginnings of all axes, then the ends. `auto_pad` is resolved at import.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]


@dataclass(frozen=True)
class ArrayLayer:
    """One layer for the array: Conv, Gemm or MatMul with constant weights, with the ReLU/Clip that follows.

    Shapes: `weights` int8 [channels, reduction], the reduction in the order kernel row, kernel column,
    input channel (of the channel's own group); `weight_scales` float32 [channels]; `bias` int32 [channels],
    in units of input scale x weight scale. The channels of group g begin at row g*channels/groups.
    """

    name: str
    op: str  # "Conv", "Gemm" or "MatMul"
    input: str  # 8-bit ONNX tensor
    output: str  # 8-bit ONNX tensor, or a float tensor when output_quantization is None
    weight_tensor: str  # name of the int8 initializer in the ONNX model, which other layers may have, too
    weights: NDArray[np.int8]
    weight_scales: NDArray[np.float32]
    bias: NDArray[np.int32]
    input_quantization: Quantization
    output_quantization: Quantization | None  # None: raw accumulators, scaled on the host
    clamp: tuple[int, int]  # int8 domain, both ends included: ReLU/Clip and saturation in one
    input_shape: tuple[int, ...]  # one sample, batch axis 0 left out
    output_shape: tuple[int, ...]
    window: Window | None = None
    groups: int = 1

    @property
    def channels(self) -> int:
        return int(self.weights.shape[0])

    @property
    def reduction(self) -> int:
        """Weights of one output channel."""
        return int(self.weights.shape[1])

    @property
    def positions(self) -> int:
        """Windows of one sample (for a matrix product: rows of one sample)."""
        return int(np.prod(self.output_shape, dtype=np.int64)) // self.channels

    @property
    def macs(self) -> int:
        return self.positions * self.channels * self.reduction


def by_weights(layers: Iterable[ArrayLayer]) -> tuple[tuple[ArrayLayer, ...], ...]:
    """The layers that have one set of weights, as the steps of a recurrent layer have, together; by the first of each.

    They have the same weights and weight scales, and biases of their own.
    """
    found: dict[str, list[ArrayLayer]] = {}
    for layer in layers:
        found.setdefault(layer.weight_tensor, []).append(layer)
    return tuple(map(tuple, found.values()))


@dataclass(frozen=True)
class HostSegment:
    """Nodes that ONNX Runtime runs between array layers; `model` is a complete ONNX model of its own."""

    name: str
    model: onnx.ModelProto = field(repr=False)
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """An INT8 network cut into steps, in an order in which every step's inputs are ready."""

    name: str
    graph: Graph = field(repr=False)  # look-ups over `model`
    types: Types = field(repr=False)  # element types and shapes of its tensors
    steps: tuple[ArrayLayer | HostSegment, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reasons: Mapping[str, str]  # why a Conv, Gemm or MatMul stays on the host, by node name

    @property
    def model(self) -> onnx.ModelProto:
        """The whole INT8 QDQ network in canonical form."""
        return self.graph.model

    @property
    def notes(self) -> tuple[str, ...]:
        """The reasons for the user, one sentence each."""
        return self.notes_of(self.reasons)

    def notes_of(self, names: Container[str]) -> tuple[str, ...]:
        """Those of the nodes with these names."""
        return tuple(
            f"{node.op_type} '{node.name}' stays on the host: {self.reasons[node.name]}."
            for node in self.model.graph.node
            if node.name in self.reasons and node.name in names
        )

    @property
    def layers(self) -> tuple[ArrayLayer, ...]:
        return tuple(step for step in self.steps if isinstance(step, ArrayLayer))
