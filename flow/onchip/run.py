"""A whole network through the RTL by one start, and the judgement on every layer and operation of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow import host, importer
from flow.cosim import LayerRun, expected_rows, output_tensor, run_all
from flow.engines.base import DeviceError, Memory, Simulator
from flow.network import ArrayLayer, Network, Quantization
from flow.onchip import post
from flow.onchip.chain import Held, Step
from flow.onchip.layout import activations, results
from flow.onchip.post import PostOp
from flow.onchip.program import OnChip, outputs_only, result_shape
from flow.progress import Advance, ignore
from flow.samples import Samples
from flow.verdict import agree, judge_layer

Tensor = NDArray[Any]


@dataclass(frozen=True)
class ChainRun:
    """One sample: edges from start to done, what every step gave (by number), and the network's outputs by name.

    `maps` holds int8 codes [channels, height, width] by tensor, the inputs among them; `memories` the activation
    memory of the run, and the output memory it wrote. `failure`: it never finished, and there is nothing else.
    `outputs_only`: bytes that were not as they are here where nothing but the network's outputs was to be written;
    None where that was not tried.
    """

    cycles: int
    rows: Mapping[int, Tensor]
    maps: Mapping[str, NDArray[np.int8]]
    outputs: Mapping[str, Tensor]
    memories: Mapping[str, Memory]
    failure: str | None = None
    outputs_only: int | None = None


@dataclass(frozen=True)
class StepVerdict:
    """One step over all samples: outputs compared; those that differ from the integer reference, from ONNX Runtime.

    `tier2_ties` are not among the latter: averages so near the middle of two codes that float32, in which ONNX
    Runtime adds, may take either.
    """

    name: str
    kind: str
    cycles_ideal: int
    elements: int
    tier1_mismatches: int
    tier2_mismatches: int
    tier2_max_lsb: int
    tier2_ties: int = 0


def cycle_limit(onchip: OnChip) -> int:
    """When a run has certainly hung."""
    work = sum(onchip.ideal_cycles) + onchip.output_words + sum(len(memory) for memory in onchip.memories.values())
    return 10_000 + 16 * work


def cosimulate(
    network: Network, onchip: OnChip, simulator: Simulator, samples: Samples, parallel: int, advance: Advance = ignore
) -> list[ChainRun]:
    """All samples, each by one start, the first once more for its outputs alone; `advance` is told of each."""

    def one(number: int) -> ChainRun:
        done = run(network, onchip, simulator, samples.one(number))
        if number == 0 and not done.failure:
            done = replace(done, outputs_only=_strays(onchip, simulator, done.memories))
        advance()
        return done

    with ThreadPoolExecutor(parallel) as pool:
        return run_all((pool,), one, range(samples.count))


def run(network: Network, onchip: OnChip, simulator: Simulator, feeds: Mapping[str, Tensor]) -> ChainRun:
    """One sample (batch of one) through the network: the host's segments at either end, all else by one start."""
    chain = onchip.chain
    tensors: dict[str, Tensor] = dict(feeds)
    for segment in chain.before:
        tensors.update(host.run(segment.model, tensors))
    maps = {held.tensor: as_map(held, tensors[held.tensor]) for held in chain.inputs}
    memories = {"activation": activations(onchip, maps)}
    try:
        done = simulator.run(
            onchip.memories | memories, 0, onchip.descriptors, {"output": onchip.output_words}, cycle_limit(onchip)
        )
    except DeviceError as error:
        return ChainRun(0, {}, maps, {}, memories, str(error))
    rows = results(onchip, done.memories["output"])
    for number, got in rows.items():
        step = chain.steps[number]
        if isinstance(step, Step) and step.layer.output_quantization is None:
            tensors[step.layer.output] = output_tensor(step.layer, layer_rows(step.layer, got))
        else:
            maps[step.output] = got.astype(np.int8, copy=False)
    for name, held in chain.held.items():
        if name not in tensors and held.tensor in maps:
            tensors[name] = as_tensor(held, maps[held.tensor])
    for segment in chain.after:
        tensors.update(host.run(segment.model, tensors))
    outputs = {name: tensors[name] for name in network.outputs}
    return ChainRun(done.cycles, rows, maps, outputs, memories | done.memories)


def _strays(onchip: OnChip, simulator: Simulator, memories: Mapping[str, Memory]) -> int:
    """Bytes of the output memory that are wrong after a run that writes the network's outputs alone."""
    given = {**onchip.memories, "descriptor": outputs_only(onchip), "activation": memories["activation"]}
    want, wanted = np.zeros_like(memories["output"]), set(onchip.chain.output_steps.values())
    for region in onchip.regions:
        if region.step in wanted:
            place = slice(region.base, region.base + region.words)
            want[place] = memories["output"][place]
    try:
        done = simulator.run(given, 0, onchip.descriptors, {"output": onchip.output_words}, cycle_limit(onchip))
    except DeviceError:
        return want.size
    return int((done.memories["output"] != want).sum())


def as_map(held: Held, tensor: Tensor) -> NDArray[np.int8]:
    """The 8-bit tensor of one sample as codes [channels, height, width]."""
    codes = held.quantization.to_int8(tensor)
    if held.rows:
        codes = codes.reshape(-1, held.shape[0]).T
    return np.ascontiguousarray(codes).reshape(held.shape)


def as_tensor(held: Held, codes: NDArray[np.int8]) -> Tensor:
    """A map as the 8-bit tensor of one sample."""
    if held.rows:
        codes = np.ascontiguousarray(codes.reshape(held.shape[0], -1).T)
    return held.quantization.from_int8(codes).reshape(1, *held.axes)


def layer_input(layer: ArrayLayer, codes: NDArray[np.int8]) -> NDArray[np.int8]:
    """A map as the layer's input codes int8 [1, *input_shape]."""
    if layer.window is None and layer.positions > 1:
        codes = codes.reshape(codes.shape[0], -1).T
    return np.ascontiguousarray(codes).reshape(1, *layer.input_shape)


def layer_rows(layer: ArrayLayer, got: Tensor) -> Tensor:
    """A result [channels, height, width] as rows [positions, channels]."""
    return np.ascontiguousarray(got.reshape(layer.channels, -1).T)


def judge(network: Network, onchip: OnChip, runs: Sequence[ChainRun]) -> list[StepVerdict]:
    """Every step of the runs on the inputs it had: equal to the reference, close to ONNX Runtime.

    Nothing where a run never finished.
    """
    found: list[StepVerdict] = []
    if any(run.failure is not None for run in runs):
        return found
    for number, step in enumerate(onchip.chain.steps):
        judged = (
            _judge_layer(network, step, number, runs)
            if isinstance(step, Step)
            else _judge_post(network, step, number, runs)
        )
        found.append(replace(judged, cycles_ideal=onchip.ideal_cycles[number]))
    return found


def _judge_layer(network: Network, step: Step, number: int, runs: Sequence[ChainRun]) -> StepVerdict:
    layer, made = step.layer, []
    for run in runs:
        codes = layer_input(layer, run.maps[step.source.tensor])
        rows, want = layer_rows(layer, run.rows[number]), expected_rows(layer, codes)
        mismatches = int((rows != want).sum())
        tensor = layer.input_quantization.from_int8(codes)
        made.append(LayerRun(layer, tensor, rows, run.cycles, mismatches, None, simulated=rows.size))
    found = judge_layer(network, made)
    return StepVerdict(
        layer.name, layer.op, 0, found.elements, found.tier1_mismatches, found.tier2_mismatches, found.tier2_max_lsb
    )


def _judge_post(network: Network, op: PostOp, number: int, runs: Sequence[ChainRun]) -> StepVerdict:
    judge = host.session(_model(network, op))
    tier1, histogram, elements, ties = 0, Counter[int](), 0, 0
    for run in runs:
        operands = tuple(run.maps[name] for name in op.inputs)
        got = run.rows[number]
        tier1 += int((got != post.run(op, operands)).sum())
        feeds = {
            name: quantization.from_int8(codes)[None]
            for name, quantization, codes in zip(op.inputs, op.input_quantizations, operands, strict=True)
        }
        judged = op.output_quantization.to_int8(host.run(judge, feeds)[op.output])
        away = np.abs(got.astype(int) - judged.reshape(got.shape).astype(int))
        tie = (away == 1) & post.near_tie(op, operands)
        ties += int(tie.sum())
        histogram.update(away[~tie].tolist())
        elements += got.size
    differing = elements - ties - histogram[0]
    return StepVerdict(op.name, op.kind, 0, elements, tier1, differing, max(histogram, default=0), ties)


def _model(network: Network, op: PostOp) -> onnx.ModelProto:
    """The nodes of the network that are this operation."""

    def value(name: str, quantization: Quantization, shape: Sequence[int] | None) -> onnx.ValueInfoProto:
        kind = onnx.TensorProto.UINT8 if quantization.unsigned else onnx.TensorProto.INT8
        return onnx.helper.make_tensor_value_info(name, kind, None if shape is None else ["batch", *shape])

    inputs = [
        value(name, quantization, shape)
        for name, quantization, shape in zip(op.inputs, op.input_quantizations, op.input_shapes, strict=True)
    ]
    return importer.between(network.model, inputs, value(op.output, op.output_quantization, None))


def passes(verdicts: Sequence[StepVerdict], runs: Sequence[ChainRun]) -> bool:
    """All runs have ended, all steps agree as layers by themselves have to, and outputs alone are as they were."""
    return all(run.failure is None and not run.outputs_only for run in runs) and agree(verdicts)


def summary(onchip: OnChip, runs: Sequence[ChainRun], verdicts: Sequence[StepVerdict]) -> dict[str, Any]:
    """What a report says of the runs, in terms of JSON."""
    ideal, cycles = sum(onchip.ideal_cycles), max((run.cycles for run in runs), default=0)
    return {
        "verdict": "pass" if passes(verdicts, runs) else "fail",
        "failure": next((run.failure for run in runs if run.failure), None),
        "samples": len(runs),
        "cycles": cycles,
        "cycles_ideal": ideal,
        "utilization": round(ideal / cycles, 4) if cycles else None,
        "descriptors": onchip.descriptors,
        "map_bytes": 8 * onchip.config.map_words,
        "elements": sum(verdict.elements for verdict in verdicts),
        "tier1_mismatches": sum(verdict.tier1_mismatches for verdict in verdicts),
        "tier2_mismatches": sum(verdict.tier2_mismatches for verdict in verdicts),
        "tier2_ties": sum(verdict.tier2_ties for verdict in verdicts),
        "tier2_max_lsb": max((verdict.tier2_max_lsb for verdict in verdicts), default=0),
        "outputs_only_mismatches": runs[0].outputs_only if runs else None,
        "steps": [asdict(verdict) for verdict in verdicts],
    }


def by_reference(onchip: OnChip, inputs: Mapping[str, NDArray[np.int8]]) -> dict[int, Tensor]:
    """What every step gives by the integer reference alone, [channels, height, width]."""
    maps, made = dict(inputs), dict[int, Tensor]()
    for number, step in enumerate(onchip.chain.steps):
        if isinstance(step, Step):
            rows = expected_rows(step.layer, layer_input(step.layer, maps[step.source.tensor]))
            made[number] = np.ascontiguousarray(rows.T).reshape(result_shape(onchip.chain, step))
        else:
            made[number] = post.run(step, tuple(maps[name] for name in step.inputs))
        maps[step.output] = made[number]
    return made
