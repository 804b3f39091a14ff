"""A network as one chain of layers and post-processing on chip, or the reason why it cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flow.errors import FlowError
from flow.frontend.operators import ARRAY_OPERATORS, ELEMENTWISE
from flow.network.model import ArrayLayer, HostSegment, Network, Quantization
from flow.scheduling.onchip.maps import Held, OffChipError, as_map
from flow.scheduling.onchip.moves import MOVES
from flow.scheduling.onchip.nodes import POOLING, SHAPING, post_operations
from flow.scheduling.onchip.post import PostOp

TAKEN = {
    *SHAPING, *POOLING, *MOVES, "QuantizeLinear", "DequantizeLinear", "Relu", "Clip", "Add", *ELEMENTWISE,
}  # fmt: skip


@dataclass(frozen=True)
class ChainLayer:
    """A layer and the map it reads."""

    layer: ArrayLayer
    source: Held

    @property
    def output(self) -> str:
        return self.layer.output


@dataclass(frozen=True)
class Chain:
    """What runs on chip, in order: `inputs` are loaded, `outputs` (tensors) leave it.

    `before` and `after` are the host segments at either end; `held` is the map of every 8-bit tensor of the
    network, by the tensor's name (several tensors can share one map).
    """

    inputs: tuple[Held, ...]
    steps: tuple[ChainLayer | PostOp, ...]
    outputs: tuple[str, ...]
    before: tuple[HostSegment, ...]
    after: tuple[HostSegment, ...]
    held: Mapping[str, Held]

    @property
    def tables(self) -> bool:
        """Whether the hardware needs tables."""
        return any(isinstance(step, PostOp) and step.table for step in self.steps)

    @property
    def output_steps(self) -> dict[str, int]:
        """By output, the number of the step that produces it; outputs that no step produces are left out."""
        makers = {step.output: number for number, step in enumerate(self.steps)}
        tensors = {name: self.held[name].tensor if name in self.held else name for name in self.outputs}
        return {name: makers[tensor] for name, tensor in tensors.items() if tensor in makers}


def chain(network: Network) -> Chain:
    """The network as a chain. FlowError naming the first node that cannot run on chip."""
    numbers = [i for i, step in enumerate(network.steps) if isinstance(step, ArrayLayer)]
    if not numbers:
        raise FlowError(f"network '{network.name}' has no layer for the array, so nothing can run on chip; "
                        "leave out --on-chip")  # fmt: skip
    first, last = numbers[0], numbers[-1]
    held: dict[str, Held] = {}
    inputs: list[Held] = []
    steps: list[ChainLayer | PostOp] = []
    middle = network.steps[first : last + 1]
    produced = {name for step in middle for name in ([step.output] if isinstance(step, ArrayLayer) else step.outputs)}
    for step in middle:
        try:
            for name in (step.input,) if isinstance(step, ArrayLayer) else step.inputs:
                if name not in held and name not in produced:
                    held[name] = _input(network, name)
                    inputs.append(held[name])
            if isinstance(step, ArrayLayer):
                steps.append(ChainLayer(step, _source(step, held)))
                if step.output_quantization is not None:
                    held[step.output] = _held(step.output, step.output_shape, step, step.output_quantization)
            else:
                steps += post_operations(step, held)
        except OffChipError as reason:
            operators = {kind for step in middle if isinstance(step, HostSegment) for kind in step.operators}
            never = operators - TAKEN - set(ARRAY_OPERATORS)  # array operators run on chip; this node does not
            said = f" (never on chip: {', '.join(sorted(never))})" if never else ""
            raise FlowError(
                f"network '{network.name}' does not run on chip as a whole: {reason}{said}; leave out --on-chip, then "
                "the host does that"
            ) from None
    after = network.steps[last + 1 :]
    wanted = {name for step in after if isinstance(step, HostSegment) for name in step.inputs} | set(network.outputs)
    available = {step.output for step in steps} | set(held)
    outputs = tuple(dict.fromkeys(name for name in sorted(wanted) if name in available))
    return Chain(
        tuple(inputs), tuple(steps), outputs,
        tuple(step for step in network.steps[:first] if isinstance(step, HostSegment)),
        tuple(step for step in after if isinstance(step, HostSegment)), held,
    )  # fmt: skip


def _held(name: str, shape: tuple[int, ...], layer: ArrayLayer, quantization: Quantization) -> Held:
    """The map of a tensor of this shape that the layer reads or writes."""
    product = layer.window is None
    if product and len(shape) > 2:
        raise OffChipError(
            f"layer '{layer.name}' multiplies a tensor of {len(shape)} axes, and maps have rows of channels"
        )
    return Held(name, as_map(shape, product, layer.name), quantization, shape, product and len(shape) == 2)


def _input(network: Network, name: str) -> Held:
    """The map of an 8-bit tensor that the host supplies."""
    readers = [step for step in network.layers if step.input == name]
    if not readers:
        raise OffChipError(f"'{name}' comes from the host and is read by no layer of the array")
    layer = readers[0]
    return _held(name, layer.input_shape, layer, layer.input_quantization)


def _source(layer: ArrayLayer, held: Mapping[str, Held]) -> Held:
    if layer.input not in held:
        raise OffChipError(f"the input of layer '{layer.name}' is not quantized to 8 bits")
    source = held[layer.input]
    if layer.window is not None and len(layer.window.kernel) > 2:
        raise OffChipError(f"layer '{layer.name}' has {len(layer.window.kernel)} spatial axes, and maps have two")
    if layer.window is None and layer.positions > 1 and source.shape[:1] != (layer.reduction,):
        raise OffChipError(f"layer '{layer.name}' reads its rows along another axis than the channels")
    if layer.window is None and layer.positions == 1 and int(np.prod(source.shape)) != layer.reduction:
        raise OffChipError(f"layer '{layer.name}' reads another shape than was written")
    return source
