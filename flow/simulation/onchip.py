"""Co-simulation of a whole network on chip, by one start of the accelerator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.hardware.interface import Memory
from flow.network.model import ArrayLayer, HostSegment, Network
from flow.network.run import run_steps
from flow.network.samples import Samples
from flow.programs import Threads
from flow.progress import Advance, ignore
from flow.scheduling.onchip import post
from flow.scheduling.onchip.chain import ChainLayer
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


def cycle_limit(onchip: OnChip) -> int:
    """Cycles after which a run has certainly hung."""
    work = sum(onchip.ideal_cycles) + onchip.output_words + sum(len(memory) for memory in onchip.memories.values())
    return 10_000 + 16 * work


def _command(onchip: OnChip) -> Command:
    return Command(0, onchip.descriptors, cycle_limit(onchip))


def cosimulate(
    network: Network, onchip: OnChip, simulator: Simulator, samples: Samples, parallel: int, advance: Advance = ignore
) -> list[ChainRun]:
    """Runs all samples, each by one start; `advance` is called after each.

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
    """Runs one sample (batch of one): the host segments before and after, everything else on chip by one start."""
    chain = onchip.chain
    tensors: dict[str, Tensor] = dict(feeds)
    ready = _prepared(onchip, tensors)
    maps, memories = dict(ready.maps), dict(ready.memories)
    try:
        done = simulator.run(onchip.memories | memories, _command(onchip), {"output": onchip.output_words})
    except DeviceError as error:
        return ChainRun(0, {}, maps, {}, memories, str(error))
    rows = results(onchip, done.memories["output"])
    for number, got in rows.items():
        step = chain.steps[number]
        if isinstance(step, ChainLayer) and step.layer.output_quantization is None:
            tensors[step.layer.output] = output_tensor(step.layer, layer_rows(step.layer, got))
        else:
            maps[step.output] = got.astype(np.int8, copy=False)
    for name, held in chain.held.items():
        if name not in tensors and held.tensor in maps:
            tensors[name] = as_tensor(held, maps[held.tensor])
    _run_segments(chain.after, tensors)
    outputs = {name: tensors[name] for name in network.outputs}
    return ChainRun(done.cycles, rows, maps, outputs, memories | done.memories)


def prepared(onchip: OnChip, feeds: Mapping[str, Tensor]) -> ChainRun:
    """One sample (batch of one) in the activation memory, and nothing simulated."""
    return _prepared(onchip, dict(feeds))


def _prepared(onchip: OnChip, tensors: dict[str, Tensor]) -> ChainRun:
    """`prepared`; the host segments before the chain add their outputs to `tensors`."""
    chain = onchip.chain
    _run_segments(chain.before, tensors)
    maps = {held.tensor: as_map(held, tensors[held.tensor]) for held in chain.inputs}
    return ChainRun(0, {}, maps, {}, {"activation": activations(onchip, maps)})


def _run_segments(segments: Sequence[HostSegment], tensors: dict[str, Tensor]) -> None:
    """Runs host segments, which add their outputs to `tensors`."""
    for layer in run_steps(segments, [tensors], kept=None):
        raise AssertionError(f"layer '{layer.name}' runs on chip")


def _strays(onchip: OnChip, simulator: Simulator, memories: Mapping[str, Memory]) -> int:
    """The number of bytes of the output memory that are wrong after a run that writes the network's outputs alone."""
    read = {**onchip.memories, "descriptor": outputs_only(onchip), "activation": memories["activation"]}
    expected, output_steps = np.zeros_like(memories["output"]), set(onchip.chain.output_steps.values())
    for region in onchip.regions:
        if region.step in output_steps:
            place = slice(region.base, region.base + region.words)
            expected[place] = memories["output"][place]
    try:
        done = simulator.run(read, _command(onchip), {"output": onchip.output_words})
    except DeviceError:
        return expected.size
    return int((done.memories["output"] != expected).sum())


def as_map(held: Held, tensor: Tensor) -> NDArray[np.int8]:
    """The 8-bit tensor of one sample as codes [channels, height, width]."""
    codes = held.quantization.to_int8(tensor)
    if held.rows:
        codes = codes.reshape(-1, held.shape[0]).T
    return np.ascontiguousarray(codes).reshape(held.shape)


def as_tensor(held: Held, codes: NDArray[np.int8]) -> Tensor:
    """A feature map as the 8-bit tensor of one sample."""
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


def by_reference(onchip: OnChip, inputs: Mapping[str, NDArray[np.int8]]) -> dict[int, Tensor]:
    """The result of every step by the integer reference alone, [channels, height, width]."""
    maps, by_step = dict(inputs), dict[int, Tensor]()
    for number, step in enumerate(onchip.chain.steps):
        if isinstance(step, ChainLayer):
            rows = expected_rows(step.layer, layer_input(step.layer, maps[step.source.tensor]))
            by_step[number] = np.ascontiguousarray(rows.T).reshape(result_shape(onchip.chain, step))
        else:
            by_step[number] = post.run(step, tuple(maps[name] for name in step.inputs))
        maps[step.output] = by_step[number]
    return by_step
