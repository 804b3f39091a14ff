"""ConvTranspose as convolutions of its phases.

With stride s, output position o takes the taps k for which o + pad - k * dilation is a multiple of s. All positions of
one phase, o mod s, take the same taps, at consecutive inputs: they are a convolution of stride 1, with the kernel
backwards. The phases are then interleaved. No product with the zeros of a spread input is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.frontend.preparation.products.maker import Maker
from flow.onnxtools.graph import attribute, is_standard, node_input

Phase = tuple[int, ...]


@dataclass(frozen=True)
class Taps:
    """The taps of one phase along one axis: kernel positions, for consecutive inputs from `first` on."""

    first: int
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a ConvTranspose."""

    size: int
    kernel: int
    stride: int
    dilation: int
    pad: int  # at its beginning
    result: int

    @property
    def steps(self) -> int:
        """Positions of each phase; the last ones may lie beyond the result."""
        return -(-self.result // self.stride)

    @property
    def spread(self) -> int:
        """Inputs from one tap of a phase to the next."""
        return self.dilation // int(np.gcd(self.stride, self.dilation))

    def taps(self, phase: int) -> Taps | None:
        """The taps of a phase; None for a phase of the padding alone."""
        found = [
            ((phase + self.pad - k * self.dilation) // self.stride, k)
            for k in reversed(range(self.kernel))
            if (phase + self.pad - k * self.dilation) % self.stride == 0
        ]
        if not found or self.size + sum(min(pad, 0) for pad in self.pads(found[0][0], len(found))) < 1:
            return None
        return Taps(found[0][0], tuple(k for _, k in found))

    def pads(self, first: int, count: int) -> tuple[int, int]:
        """Padding of the convolution of a phase; negative where inputs are left out."""
        last = self.steps - 1 + first + (count - 1) * self.spread
        return -first, last - (self.size - 1)


def conv_transpose(maker: Maker, node: onnx.NodeProto) -> bool:
    """A ConvTranspose with constant weights, with what is linear behind it and its activation."""
    if node.op_type != "ConvTranspose" or not is_standard(node):
        return False
    weights, shape = maker.values(node.input[1]), maker.shape(node.input[0])
    bias = maker.values(node_input(node, 2)) if node_input(node, 2) else np.zeros(1, np.float32)
    if weights is None or bias is None or shape is None or node.input[0] in maker.graph.constants:
        return False
    axes = _axes(node, shape[2:], weights.shape[2:])
    groups = attribute(node, "group", 1)
    if axes is None:
        return False
    kernels = weights.reshape(groups, -1, *weights.shape[1:]).swapaxes(1, 2).astype(np.float64)
    kernels = kernels.reshape(-1, *kernels.shape[2:])  # [channels, input channels of the group, ...]
    offsets = np.broadcast_to(bias.reshape(-1), (len(kernels),)).astype(np.float64)
    kernels, offsets, last = _linear(maker, node, kernels, offsets)
    maker_of = _Phases(maker, node.input[0], axes, groups, kernels.astype(np.float32), offsets.astype(np.float32))
    blocks = maker_of.blocks()
    if blocks is None:
        return False
    after = maker.graph.only_consumer(last.output[0])
    if after is not None and after.op_type in ("Relu", "Clip") and after.input[0] == last.output[0]:
        bounds = [name for name in after.input[1:] if name]
        if all(name in maker.graph.constants for name in bounds):
            maker_of.activation, last = after, after
            maker.gone.add(after.output[0])
    if last is not node:
        maker.gone.add(last.output[0])
    maker_of.write(blocks, last.output[0])
    return True


def _axes(node: onnx.NodeProto, sizes: Sequence[int | None], kernel: Sequence[int]) -> list[Axis] | None:
    """The spatial axes; None where a size is unknown or a pad negative."""
    count = len(kernel)
    strides, dilations = (list(attribute(node, name, [1] * count)) for name in ("strides", "dilations"))
    pads = list(attribute(node, "pads", [0] * 2 * count))
    more, mode = list(attribute(node, "output_padding", [0] * count)), attribute(node, "auto_pad", b"NOTSET").decode()
    wanted = attribute(node, "output_shape", None)
    axes = []
    for index, size in enumerate(sizes):
        if size is None:
            return None
        reach = strides[index] * (size - 1) + more[index] + (kernel[index] - 1) * dilations[index] + 1
        begin, end = pads[index], pads[index + count]
        if wanted or mode in ("SAME_UPPER", "SAME_LOWER"):
            result = list(wanted)[index - count] if wanted else min(size * strides[index], reach)
            total = max(reach - result, 0)  # beyond its reach, the result is the bias alone
            begin = total // 2 if mode == "SAME_UPPER" else total - total // 2
        elif mode == "VALID":
            result = reach
            begin = 0
        else:
            result = reach - begin - end
        if result < 1 or begin < 0:
            return None
        axes.append(Axis(size, kernel[index], strides[index], dilations[index], begin, result))
    return axes if 1 <= len(axes) <= 3 else None


def _linear(
    maker: Maker, node: onnx.NodeProto, kernels: NDArray[np.float64], offsets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], onnx.NodeProto]:
    """Fold a BatchNormalization or an Add of a constant behind the node; returns kernels, offsets and the last node."""
    last = node
    while (after := maker.graph.only_consumer(last.output[0])) is not None:
        wide = (-1, *[1] * (kernels.ndim - 1))
        if after.op_type == "BatchNormalization" and len([name for name in after.output if name]) == 1:
            values = [maker.values(name) for name in after.input[1:]]
            if any(value is None for value in values) or attribute(after, "training_mode", 0):
                break
            scale, shift, mean, variance = (np.asarray(value, np.float64) for value in values)
            gain = scale / np.sqrt(variance + attribute(after, "epsilon", 1e-5))
            kernels, offsets = kernels * gain.reshape(wide), (offsets - mean) * gain + shift
        elif after.op_type == "Add":
            value = maker.values(after.input[1 if after.input[0] == last.output[0] else 0])
            alone = [1, len(kernels), *[1] * (kernels.ndim - 2)]
            if value is None or value.ndim > len(alone):
                break
            shape = [1] * (len(alone) - value.ndim) + list(value.shape)
            if shape not in (alone, [1] * len(alone)):
                break
            offsets = offsets + value.reshape(-1)
        else:
            break
        if last is not node:
            maker.gone.add(last.output[0])
        last = after
    return kernels, offsets, last


class _Phases:
    """The convolutions of all phases, and what interleaves them."""

    def __init__(
        self, maker: Maker, data: str, axes: Sequence[Axis], groups: int,
        kernels: NDArray[np.float32], offsets: NDArray[np.float32],
    ) -> None:  # fmt: skip
        self._maker, self._data, self._axes, self._groups = maker, data, axes, groups
        self._kernels, self._offsets = kernels, offsets
        self.activation: onnx.NodeProto | None = None

    def blocks(self) -> dict[tuple[tuple[int, int], ...], list[Phase]] | None:
        """Phases that read the same inputs, by the first input and the number of taps along each axis.

        Phases that no input reaches are among the first others, with weights of zero; None if all are such.
        """
        blocks: dict[tuple[tuple[int, int], ...], list[Phase]] = {}
        alone: list[Phase] = []
        for phase in product(*(range(axis.stride) for axis in self._axes)):
            taps = self._taps(phase)
            reached = [tap for tap in taps if tap is not None]
            if len(reached) < len(taps):
                alone.append(phase)
                continue
            blocks.setdefault(tuple((tap.first, len(tap.positions)) for tap in reached), []).append(phase)
        if not blocks:
            return None
        first = next(iter(blocks))
        blocks[first] = sorted([*blocks[first], *alone])
        return blocks

    def _taps(self, phase: Phase) -> list[Taps | None]:
        return [axis.taps(index) for axis, index in zip(self._axes, phase, strict=True)]

    def write(self, blocks: dict[tuple[tuple[int, int], ...], list[Phase]], output: str) -> None:
        maker, whole = self._maker, len(blocks) == 1 and self._groups == 1
        made: dict[Phase, str] = {}
        joined = ""
        for block, phases in blocks.items():
            data, pads = self._inputs(block)
            for together in [phases] if self._groups == 1 else [[phase] for phase in phases]:
                part = "" if len(blocks) == 1 and len(together) == len(phases) else self._part(together[0])
                joined = self._conv(data, pads, block, together, part)
                if not whole:
                    sizes = [len(self._kernels)] * len(together)
                    made.update(zip(together, maker.split(joined, f"split{self._part(together[0])}", 1, sizes),
                                    strict=True))  # fmt: skip
        if len(made) > 1:
            joined = maker.node("Concat", [made[phase] for phase in sorted(made)], "phases", axis=1)
        joined = self._interleaved(joined)
        maker.rename(self._cropped(joined), output)

    def _part(self, phase: Phase) -> str:
        return "phase_" + "_".join(str(index) for index in phase)

    def _inputs(self, block: tuple[tuple[int, int], ...]) -> tuple[str, list[int]]:
        """The input of a block's convolution, and its pads: inputs that no position reads are left out."""
        pads = [axis.pads(first, count) for axis, (first, count) in zip(self._axes, block, strict=True)]
        data = self._data
        cut = [(index, -min(begin, 0), axis.size + min(end, 0))
               for index, (axis, (begin, end)) in enumerate(zip(self._axes, pads, strict=True))
               if begin < 0 or end < 0]  # fmt: skip
        if cut:
            starts, ends = ([entry[column] for entry in cut] for column in (1, 2))
            data = self._slice(data, starts, ends, [entry[0] + 2 for entry in cut], "inputs")
        return data, [max(begin, 0) for begin, _ in pads] + [max(end, 0) for _, end in pads]

    def _slice(self, data: str, starts: list[int], ends: list[int], axes: list[int], part: str) -> str:
        maker = self._maker
        bounds = [
            maker.constant(f"{part}_{name}", np.array(values, np.int64))
            for name, values in (("starts", starts), ("ends", ends), ("axes", axes))
        ]
        return maker.node("Slice", [data, *bounds], part)

    def _conv(
        self, data: str, pads: list[int], block: tuple[tuple[int, int], ...], phases: list[Phase], part: str
    ) -> str:
        maker, counts = self._maker, [count for _, count in block]
        kernels = np.zeros((len(phases), *self._kernels.shape[:2], *counts), np.float32)
        for number, phase in enumerate(phases):
            taps = self._taps(phase)
            if all(tap is not None for tap in taps):
                chosen = self._kernels
                for index, tap in enumerate(taps):
                    chosen = chosen.take(tap.positions if tap is not None else (), axis=index + 2)
                kernels[number] = chosen
        inputs = [data, maker.constant(f"{part or 'phases'}_weights", kernels.reshape(-1, *kernels.shape[2:]))]
        if self._offsets.any():
            inputs.append(maker.constant(f"{part or 'phases'}_bias", np.tile(self._offsets, len(phases))))
        made = maker.node(
            "Conv", inputs, part, pads=pads, group=self._groups, kernel_shape=counts,
            dilations=[axis.spread for axis in self._axes],
        )  # fmt: skip
        if self.activation is not None:
            kind = self.activation.op_type
            made = maker.node(kind, [made, *self.activation.input[1:]], f"{part or 'phases'}_{kind}")
        return made

    def _interleaved(self, joined: str) -> str:
        maker, strides = self._maker, [axis.stride for axis in self._axes]
        if prod(strides) == 1:
            return joined
        if len(strides) == 2 and len(set(strides)) == 1:
            return maker.node("DepthToSpace", [joined], "interleaved", blocksize=strides[0])
        count, channels = len(strides), len(self._kernels)
        steps = [axis.steps for axis in self._axes]
        spread = maker.reshape(joined, [0, *strides, channels, *steps], "spread")
        order = [0, count + 1, *(place for i in range(count) for place in (count + 2 + i, 1 + i))]
        turned = maker.transpose(spread, order, "turned")
        sizes = [step * stride for step, stride in zip(steps, strides, strict=True)]
        return maker.reshape(turned, [0, channels, *sizes], "interleaved")

    def _cropped(self, joined: str) -> str:
        beyond = [index for index, axis in enumerate(self._axes) if axis.steps * axis.stride != axis.result]
        if not beyond:
            return joined
        ends = [self._axes[index].result for index in beyond]
        return self._slice(joined, [0] * len(beyond), ends, [index + 2 for index in beyond], "cropped")
