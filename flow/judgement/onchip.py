"""The judgement on every layer and operation of a network that ran on chip, and on its outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.judgement.verdict import agree, judge_layer
from flow.network.model import Network
from flow.network.samples import Samples
from flow.onnxtools import edit, runtime
from flow.scheduling.onchip import post
from flow.scheduling.onchip.chain import ChainLayer, Left
from flow.scheduling.onchip.located import by_one_start
from flow.scheduling.onchip.maps import Held
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.program import OnChip
from flow.simulation.onchip import ChainRun, as_map, as_tensor, layer_input, layer_rows
from flow.simulation.results import LayerRun, expected_rows

ROUNDING = 1e-5  # of the largest value of an output


@dataclass(frozen=True)
class StepVerdict:
    """One step over all samples: the outputs compared, and those that differ from integer reference and ONNX Runtime.

    Tier 2 does not count `tier2_ties`: averages so near the middle of two codes that ONNX Runtime, which adds in
    float32, may round to either.
    """

    name: str
    kind: str
    cycles_ideal: int
    elements: int
    tier1_mismatches: int
    tier2_mismatches: int
    tier2_max_lsb: int
    tier2_ties: int = 0


@dataclass(frozen=True)
class SegmentReport:
    """What one start runs: `count` descriptors from `first` on, over these layers.

    `cycles` are the longest run's; `cycles_bus` those behind the bus, by its model, where only outputs are written.
    """

    first: int
    count: int
    layers: tuple[str, ...]
    steps: int
    cycles: int
    cycles_ideal: int
    cycles_bus: int | None = None


@dataclass(frozen=True)
class OutputVerdict:
    """One output of the network, beside that of the whole INT8 network in ONNX Runtime, over all samples.

    `mismatches` are more than float32 may round: `ROUNDING` of the largest value, of which a code is far more. `exact`:
    there may be none if no step differs. Not so where a layer returns sums, whose rounding may turn a code behind it.
    """

    name: str
    elements: int
    mismatches: int
    exact: bool = True


@dataclass(frozen=True)
class OnChipVerdict:
    """The whole network on chip, by one start for each of `segments`, over all samples.

    `failure` says why a run never ended; there are no `steps` then. `cycles` are the longest run's, `cycles_ideal`
    those of the bit columns alone, all segments together. `map_bytes` is the size of the feature map memory.
    `outputs_only_mismatches` counts the bytes of the output memory that differ after one more run, which writes the
    network's outputs alone. `whole`: one start runs all layers; `around` are the nodes that the host computes
    before the first segment and behind the last. `macs_share` of the multiply-accumulates of layers, 0 to 1, runs on
    chip; `alone` are layers that do not, one by one, and `left` nodes between layers.
    """

    verdict: Literal["pass", "fail"]
    failure: str | None
    samples: int
    cycles: int
    cycles_ideal: int
    utilization: float | None
    descriptors: int
    map_bytes: int
    elements: int
    tier1_mismatches: int
    tier2_mismatches: int
    tier2_ties: int
    tier2_max_lsb: int
    outputs_only_mismatches: int | None
    steps: tuple[StepVerdict, ...]
    whole: bool = True
    around: tuple[str, ...] = ()
    segments: tuple[SegmentReport, ...] = ()
    macs_share: float = 1.0
    alone: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()
    outputs: tuple[OutputVerdict, ...] = ()


def judge(network: Network, onchip: OnChip, runs: Sequence[ChainRun]) -> list[StepVerdict]:
    """The verdict on every step of the runs, by reference and ONNX Runtime on the inputs that the step had.

    Empty if a run never finished.
    """
    verdicts: list[StepVerdict] = []
    if any(run.failure is not None for run in runs):
        return verdicts
    for number, step in enumerate(onchip.chain.steps):
        step_verdict = (
            _judge_layer(network, step, number, runs)
            if isinstance(step, ChainLayer)
            else _judge_post(network, onchip, step, number, runs)
        )
        verdicts.append(replace(step_verdict, cycles_ideal=onchip.ideal_cycles[number]))
    return verdicts


def _judge_layer(network: Network, step: ChainLayer, number: int, runs: Sequence[ChainRun]) -> StepVerdict:
    layer, layer_runs = step.layer, []
    for run in runs:
        codes = layer_input(layer, run.maps[step.source.tensor])
        rows, want = layer_rows(layer, run.rows[number]), expected_rows(layer, codes)
        mismatches = int((rows != want).sum())
        tensor = layer.input_quantization.from_int8(codes)
        layer_runs.append(LayerRun(layer, tensor, rows, run.cycles, mismatches, None, simulated=rows.size))
    verdict = judge_layer(network, layer_runs)
    return StepVerdict(
        layer.name,
        layer.op,
        0,
        verdict.elements,
        verdict.tier1_mismatches,
        verdict.tier2_mismatches,
        verdict.tier2_max_lsb,
    )


def _judge_post(network: Network, onchip: OnChip, op: PostOp, number: int, runs: Sequence[ChainRun]) -> StepVerdict:
    held = onchip.chain.held
    judge = None if held[op.output].origin else runtime.session(_model(network, op, held))
    tier1, histogram, elements, ties = 0, Counter[int](), 0, 0
    for run in runs:
        operands = tuple(run.maps[name] for name in op.inputs)
        got = run.rows[number]
        want = post.run(op, operands)
        tier1 += int((got != want).sum())
        given = zip((held[name] for name in op.inputs), operands, strict=True)
        feeds = {each.name: as_tensor(each, codes) for each, codes in given}
        judged = want  # of a map that holds a tensor once more
        if judge is not None:
            judged = as_map(held[op.output], runtime.run(judge, feeds)[op.output]).reshape(want.shape)
        away = np.abs(got.astype(int) - judged.astype(int))
        tie = (away == 1) & post.near_tie(op, operands)
        ties += int(tie.sum())
        histogram.update(away[~tie].tolist())
        elements += got.size
    differing = elements - ties - histogram[0]
    return StepVerdict(op.name, op.kind, 0, elements, tier1, differing, max(histogram, default=0), ties)


def _model(network: Network, op: PostOp, held: Mapping[str, Held]) -> onnx.ModelProto:
    """A model of the nodes of the network that make up this operation."""

    def value(each: Held, axes: Sequence[int] | None) -> onnx.ValueInfoProto:
        kind = onnx.TensorProto.UINT8 if each.quantization.unsigned else onnx.TensorProto.INT8
        return onnx.helper.make_tensor_value_info(each.name, kind, None if axes is None else ["batch", *axes])

    inputs = {held[name].name: value(held[name], held[name].axes) for name in op.inputs}
    return edit.between(network.graph, [*inputs.values()], value(held[op.output], None))


def judge_outputs(network: Network, runs: Sequence[ChainRun], samples: Samples) -> list[OutputVerdict]:
    """The outputs of the runs beside those of the whole INT8 network; none if a run never finished."""
    if any(run.failure is not None for run in runs):
        return []
    judge, elements, mismatches = runtime.session(network.model), Counter[str](), Counter[str]()
    for number, run in enumerate(runs):
        wanted = runtime.run(judge, samples.one(number))
        for name in network.outputs:
            got, want = np.asarray(run.outputs[name]), np.asarray(wanted[name])
            elements[name] += want.size
            mismatches[name] += want.size - _same(got, want)
    exact = all(layer.output_quantization is not None for layer in network.layers)
    return [OutputVerdict(name, elements[name], mismatches[name], exact) for name in network.outputs]


def _same(got: NDArray[Any], want: NDArray[Any]) -> int:
    """The number of equal elements, but for rounding in float32."""
    if got.shape != want.shape:
        return 0
    if not np.issubdtype(want.dtype, np.floating):
        return int(np.count_nonzero(got == want))
    largest = float(np.abs(want[np.isfinite(want)]).max(initial=0))
    return int(np.count_nonzero(np.isclose(got, want, rtol=0, atol=ROUNDING * largest, equal_nan=True)))


def passes(verdicts: Sequence[StepVerdict], runs: Sequence[ChainRun], outputs: Sequence[OutputVerdict] = ()) -> bool:
    """Whether all runs finished, all steps `agree`, and the run that writes the outputs alone gave the same outputs.

    If no step differs from ONNX Runtime at all, the network's `outputs` must be those of ONNX Runtime, too.
    """
    exact = not any(verdict.tier2_mismatches or verdict.tier2_ties for verdict in verdicts)
    right = not exact or not any(output.mismatches for output in outputs if output.exact)
    return all(run.failure is None and not run.outputs_only for run in runs) and agree(verdicts) and right


def summary(
    onchip: OnChip, runs: Sequence[ChainRun], verdicts: Sequence[StepVerdict], outputs: Sequence[OutputVerdict] = ()
) -> OnChipVerdict:
    """The verdict on the whole network over all runs, for the report."""
    chain = onchip.chain
    ideal, cycles = sum(onchip.ideal_cycles), max((run.cycles for run in runs), default=0)
    on_chip = sum(layer.macs for segment in chain.segments for layer in segment.layers)
    all_macs = on_chip + sum(layer.macs for layer in chain.alone)
    return OnChipVerdict(
        verdict="pass" if passes(verdicts, runs, outputs) else "fail",
        failure=next((run.failure for run in runs if run.failure), None),
        samples=len(runs),
        cycles=cycles,
        cycles_ideal=ideal,
        utilization=round(ideal / cycles, 4) if cycles else None,
        descriptors=onchip.descriptors,
        map_bytes=8 * onchip.config.map_words,
        elements=sum(verdict.elements for verdict in verdicts),
        tier1_mismatches=sum(verdict.tier1_mismatches for verdict in verdicts),
        tier2_mismatches=sum(verdict.tier2_mismatches for verdict in verdicts),
        tier2_ties=sum(verdict.tier2_ties for verdict in verdicts),
        tier2_max_lsb=max((verdict.tier2_max_lsb for verdict in verdicts), default=0),
        outputs_only_mismatches=runs[0].outputs_only if runs else None,
        steps=tuple(verdicts),
        whole=chain.whole,
        around=chain.around,
        segments=tuple(_segments(onchip, runs)),
        macs_share=round(on_chip / max(all_macs, 1), 4),
        alone=tuple(layer.name for layer in chain.alone),
        left=tuple(each for each in chain.left if each.returns),
        outputs=tuple(outputs),
    )


def _segments(onchip: OnChip, runs: Sequence[ChainRun]) -> Iterator[SegmentReport]:
    for number, (segment, steps, (first, count)) in enumerate(
        zip(onchip.chain.segments, onchip.segment_steps, onchip.starts, strict=True)
    ):
        yield SegmentReport(
            first,
            count,
            tuple(layer.name for layer in segment.layers),
            len(steps),
            max((run.segment_cycles[number] for run in runs if run.segment_cycles), default=0),
            sum(onchip.ideal_cycles[step] for step in steps),
        )


def extent(found: OnChipVerdict) -> str:
    """How much of the network runs on chip, by how many starts, in words."""
    if found.whole:
        return by_one_start(found.around)
    starts = "1 segment" if len(found.segments) == 1 else f"{len(found.segments)} segments, one start each"
    return f"{100 * found.macs_share:.1f} % of the layers' MACs in {starts}, the host between them"
