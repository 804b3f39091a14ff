"""Co-simulation of a whole network on chip: one start of the accelerator for each segment, the host between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.hardware.interface import Memory
from flow.network.model import ArrayLayer, Network
from flow.network.reference import run_layer
from flow.network.run import run_steps
from flow.network.samples import Samples
from flow.programs import Threads
from flow.progress import Advance, ignore
from flow.scheduling.onchip import post
from flow.scheduling.onchip.chain import Chain, ChainLayer, OffChip, Step
from flow.scheduling.onchip.layout import activations, results
from flow.scheduling.onchip.maps import Held
from flow.scheduling.onchip.program import OnChip, outputs_only, result_shape
from flow.simulation.cosim import run_all
from flow.simulation.engines.base import Command, DeviceError, Simulator
from flow.simulation.results import expected_rows, output_tensor

Tensor = NDArray[Any]


@dataclass(frozen=True)
class ChainRun:
    """One sample's run: edges from start to done, the result of each step by number, the network's outputs by name.

    `cycles` are those of all segments together, `segment_cycles` those of each.
    `maps` holds the feature maps as int8 codes [channels, height, width] by tensor, including the inputs; `memories`
    holds the activation memory of the run and the output memory that it wrote. A run of 0 cycles was only `prepared`:
    nothing was simulated, and it has neither rows nor outputs. `failure` says why a run never
    finished; such a run has no rows and no outputs. `outputs_only` counts the bytes of the output memory that are wrong
    after one more run, which writes the network's outputs alone; None if there was no such run.
    """

    cycles: int
    rows: Mapping[int, Tensor]
    maps: Mapping[str, NDArray[np.int8]]
    outputs: Mapping[str, Tensor]
    memories: Mapping[str, Memory]
    failure: str | None = None
    outputs_only: int | None = None
    segment_cycles: tuple[int, ...] = ()


def cycle_limit(onchip: OnChip) -> int:
    """Cycles after which a run has certainly hung."""
    work = sum(onchip.ideal_cycles) + onchip.output_words + sum(len(memory) for memory in onchip.memories.values())
    return 10_000 + 16 * work


def commands(onchip: OnChip) -> list[Command]:
    """The start of each segment."""
    return [Command(first, count, cycle_limit(onchip)) for first, count in onchip.starts]


def cosimulate(
    network: Network, onchip: OnChip, simulator: Simulator, samples: Samples, parallel: int, advance: Advance = ignore
) -> list[ChainRun]:
    """Runs all samples, each by one start for each segment; `advance` is called after each.

    The first sample runs once more, writing the network's outputs alone.
    """

    def one(number: int) -> ChainRun:
        done = run(network, onchip, simulator, samples.one(number))
        if number == 0 and not done.failure:
            done = replace(done, outputs_only=_strays(onchip, simulator, done.memories))
        advance()
        return done

    with Threads(parallel) as pool:
        return run_all((pool,), one, range(samples.count))


def run(network: Network, onchip: OnChip, simulator: Simulator, feeds: Mapping[str, Tensor]) -> ChainRun:
    """Runs one sample (batch of one): each segment by one start, what is off chip before each and at the end."""
    done = _Run(onchip, dict(feeds))
    output, cycles = np.zeros(0, np.uint8), list[int]()
    for number, command in enumerate(commands(onchip)):
        memories: dict[str, Memory] = {"activation": done.load(number)}
        try:
            result = simulator.run(onchip.memories | memories, command, {"output": onchip.output_words})
        except DeviceError as error:
            segment = f"segment {number + 1} of {len(onchip.starts)}: " if len(onchip.starts) > 1 else ""
            return ChainRun(0, {}, done.maps, {}, memories, f"{segment}{error}")
        written = result.memories["output"]
        output = written | output if number else written  # every step has words of its own; those of others are 0
        cycles.append(result.cycles)
        done.take(results(onchip, written, onchip.segment_steps[number]))
    done.off_chip(onchip.chain.after)
    outputs = {name: done.tensors[name] for name in network.outputs}
    memories["output"] = output
    return ChainRun(sum(cycles), done.rows, done.maps, outputs, memories, segment_cycles=tuple(cycles))


def prepared(onchip: OnChip, feeds: Mapping[str, Tensor]) -> ChainRun:
    """One sample (batch of one) in the activation memory, and nothing simulated.

    What later segments load comes from the integer reference.
    """
    done = _Run(onchip, dict(feeds))
    for number in range(len(onchip.starts)):
        activation = done.load(number)
        if number + 1 < len(onchip.starts):
            done.take(by_reference(onchip, done.maps, number))
    loaded = {held.tensor: done.maps[held.tensor] for held in onchip.chain.inputs}
    return ChainRun(0, {}, loaded, {}, {"activation": activation})


class _Run:
    """One sample on its way: `tensors` of the network, maps and results of steps, as they come."""

    def __init__(self, onchip: OnChip, tensors: dict[str, Tensor]) -> None:
        self.onchip = onchip
        self.tensors = tensors
        self.maps: dict[str, NDArray[np.int8]] = {}
        self.rows: dict[int, Tensor] = {}

    def load(self, number: int) -> Memory:
        """Run what is before this segment; returns the activation memory with the segment's inputs."""
        segment = self.onchip.chain.segments[number]
        self.off_chip(segment.before)
        for held in segment.inputs:
            if held.tensor not in self.maps:
                self.maps[held.tensor] = as_map(held, self.tensors[held.tensor])
        return activations(self.onchip, self.maps)

    def take(self, rows: Mapping[int, Tensor]) -> None:
        """Enter the results of steps."""
        chain = self.onchip.chain
        self.rows |= rows
        for number, got in rows.items():
            step = chain.steps[number]
            if isinstance(step, ChainLayer) and step.layer.output_quantization is None:
                self.tensors[step.layer.output] = output_tensor(step.layer, layer_rows(step.layer, got))
            else:
                self.maps[step.output] = got.astype(np.int8, copy=False)
        for name, held in chain.held.items():
            if name not in self.tensors and held.tensor in self.maps:
                self.tensors[name] = as_tensor(held, self.maps[held.tensor])

    def off_chip(self, steps: OffChip) -> None:
        """Run host segments, and by the integer reference layers that are in no segment."""
        for layer in run_steps(steps, [self.tensors], kept=None):
            self.tensors[layer.output] = run_layer(layer, self.tensors[layer.input])


def _strays(onchip: OnChip, simulator: Simulator, memories: Mapping[str, Memory]) -> int:
    """The number of bytes of the output memory that are wrong after a run that writes the network's outputs alone."""
    read = {**onchip.memories, "descriptor": outputs_only(onchip), "activation": memories["activation"]}
    expected = onchip.written(memories["output"], set(onchip.chain.output_steps.values()))
    got = np.zeros_like(expected)
    try:
        for command in commands(onchip):
            got |= simulator.run(read, command, {"output": onchip.output_words}).memories["output"]
    except DeviceError:
        return expected.size
    return int((got != expected).sum())


def as_map(held: Held, tensor: Tensor) -> NDArray[np.int8]:
    """The 8-bit tensor of one sample as codes [channels, height, width]."""
    codes = held.quantization.to_int8(tensor)
    if held.view is not None:
        placed = np.empty(held.view.order.size, np.int8)
        placed[held.view.order.reshape(-1)] = codes.reshape(-1)
        return placed.reshape(held.shape)
    if held.rows:
        codes = codes.reshape(-1, held.shape[0]).T
    return np.ascontiguousarray(codes).reshape(held.shape)


def as_tensor(held: Held, codes: NDArray[np.int8]) -> Tensor:
    """A feature map as the 8-bit tensor of one sample."""
    if held.view is not None:
        return held.quantization.from_int8(codes.reshape(-1)[held.view.order])
    if held.rows:
        codes = np.ascontiguousarray(codes.reshape(held.shape[0], -1).T)
    return held.quantization.from_int8(codes).reshape(1, *held.axes)


def layer_input(layer: ArrayLayer, codes: NDArray[np.int8]) -> NDArray[np.int8]:
    """A feature map as the layer's input codes int8 [1, *input_shape]."""
    if layer.window is None and layer.positions > 1:
        codes = codes.reshape(codes.shape[0], -1).T
    return np.ascontiguousarray(codes).reshape(1, *layer.input_shape)


def layer_rows(layer: ArrayLayer, got: Tensor) -> Tensor:
    """A result [channels, height, width] as rows [positions, channels]."""
    return np.ascontiguousarray(got.reshape(layer.channels, -1).T)


def by_reference(
    onchip: OnChip, inputs: Mapping[str, NDArray[np.int8]], segment: int | None = None
) -> dict[int, Tensor]:
    """The result of every step by the integer reference alone, [channels, height, width]; or those of one segment.

    `inputs` are the maps that are loaded.
    """
    maps, by_step, chain = dict(inputs), dict[int, Tensor](), onchip.chain
    numbers = range(len(chain.steps)) if segment is None else onchip.segment_steps[segment]
    for number, step in zip(numbers, chain.steps[numbers.start : numbers.stop], strict=True):
        maps[step.output] = by_step[number] = step_result(chain, step, maps)
    return by_step


def step_result(chain: Chain, step: Step, maps: Mapping[str, NDArray[np.int8]]) -> Tensor:
    """The result of a step by the integer reference, [channels, height, width]; its inputs are among the maps."""
    if isinstance(step, ChainLayer):
        rows = expected_rows(step.layer, layer_input(step.layer, maps[step.source.tensor]))
        return np.ascontiguousarray(rows.T).reshape(result_shape(chain, step))
    return post.run(step, tuple(maps[name] for name in step.inputs))
