"""Why a verdict is "fail": for each failing tier the first layer that fails it, and the likely cause.

memory images           a word of an image is not what the network asks for
RTL                     a hardware block does not do what its MyHDL source says, or the RTL hangs
design or memory        every block within the top does what its source says, and the layer's images are wrong
RTL, design or memory   the same without a waveform, so that the blocks cannot be judged
the network on chip     by one start, a step is wrong, or the run does not end
behind AXI              the same, started by the registers, with all memories on the bus
dense PEs               the array to compare with is wrong
ONNX Runtime's CPU path plain integers, or ONNX Runtime without any optimisation, agree with the RTL
quantization            ONNX Runtime's float32 arithmetic rounds another way, with and without optimisation
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from flow.files import layer_folder
from flow.frontend.int8 import rewrite
from flow.judgement.accuracy import Accuracy
from flow.judgement.axi import AxiVerdict
from flow.judgement.images import ImageError, firsts
from flow.judgement.localize import Location, find
from flow.judgement.onchip import OnChipVerdict
from flow.judgement.verdict import TIER2_LSB, TIER2_SHARE, LayerVerdict, far, integer_sums, lsb_differences, near
from flow.network import reference
from flow.network.model import Network
from flow.onnxtools import runtime
from flow.scheduling.blocks import Program
from flow.simulation.axi import AxiRun
from flow.simulation.engines.base import Simulator
from flow.simulation.results import LayerRun, SampleRun

CPU_PATH = "ONNX Runtime's CPU path"
IMAGES = "images"


@dataclass(frozen=True)
class Ran:
    """What was simulated: the program, the design in this process (None: nothing ran), all runs, those on dense PEs."""

    program: Program
    simulator: Simulator | None
    runs: Sequence[SampleRun]
    dense: Mapping[str, LayerRun] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """What was judged: errors in the images, layers, answers, the whole network on chip, the runs behind AXI."""

    images: Sequence[ImageError]
    verdicts: Sequence[LayerVerdict]
    accuracy: Accuracy
    on_chip: OnChipVerdict | None = None
    axi: AxiVerdict | None = None


@dataclass(frozen=True)
class Finding:
    """One reason for a failing verdict: `tier`, or `IMAGES`. `location` is known for tier 1b only.

    `layer` is the layer or, of a whole network, its name, step or output.
    """

    tier: str
    layer: str
    cause: str
    text: str
    location: Location | None = None


def diagnose(network: Network, ran: Ran, judged: Judged, waveforms: Path) -> list[Finding]:
    """The findings behind a failing verdict: images, the first layer that fails each tier, answers, and other runs.

    Waveforms go to the folder `waveforms`. Empty if everything passes.
    """
    findings = image_findings(judged.images)
    for tier, wrong in (("1a", _fails_1a), ("1b", _fails_1b), ("2", _fails_2)):
        number = next((i for i, verdict in enumerate(judged.verdicts) if wrong(verdict)), None)
        if number is None:
            continue
        verdict, each = judged.verdicts[number], [sample.layers[number] for sample in ran.runs]
        if tier == "1a":
            findings.append(_explain_1a(verdict, each))
        elif tier == "1b":
            damaged = any(error.layer == verdict.name for error in judged.images)
            findings.append(_explain_1b(ran, number, waveforms, damaged))
        else:
            findings.append(_explain_2(network, verdict, each))
    if not findings and not near(judged.verdicts):
        findings.append(_explain_share(judged.verdicts))
    if not judged.accuracy.same_in_rtl and not findings:
        findings.append(_explain_answers(network, judged))
    findings += [_explain_dense(run) for run in list(ran.dense.values()) if run.mismatches][:1]
    if judged.on_chip is not None and judged.on_chip.verdict == "fail":
        findings.append(_explain_on_chip(network, judged.on_chip))
    if judged.axi is not None and all(finding.tier != "1b" for finding in findings):
        findings += [_explain_axi(run) for run in judged.axi.runs if not run.right]
    return findings


def image_findings(errors: Sequence[ImageError]) -> list[Finding]:
    """For each layer and memory, the first word that is not what the network asks for."""
    return [Finding(IMAGES, error.layer, "memory images", str(error)) for error in firsts(errors)]


def _fails_1a(verdict: LayerVerdict) -> bool:
    return verdict.tier1a_mismatches > 0


def _fails_1b(verdict: LayerVerdict) -> bool:
    return verdict.tier1b_mismatches > 0


def _fails_2(verdict: LayerVerdict) -> bool:
    return far(verdict) and verdict.tier1b_mismatches == 0


def _explain_1a(verdict: LayerVerdict, runs: Sequence[LayerRun]) -> Finding:
    """Plain 64-bit integers decide between reference and ONNX Runtime."""
    for run in runs:
        layer, codes = run.layer, run.layer.input_quantization.to_int8(run.tensor)
        got, want = reference.accumulate(layer, codes), integer_sums(layer, codes)
        if np.array_equal(got, want):
            continue
        position, channel = (int(i) for i in np.argwhere(got != want)[0])
        windows = reference.windows(layer, codes).astype(np.int64)
        group = channel // (layer.channels // layer.groups)
        exact = int(windows[group, position] @ layer.weights[channel].astype(np.int64))
        exact += int(reference.folded_bias(layer)[channel])
        cause = CPU_PATH if exact == got[position, channel] else "integer reference"
        text = (
            f"layer '{layer.name}', channel {channel}, position {position}: reference {got[position, channel]}, "
            f"ONNX Runtime {want[position, channel]}, exactly {exact}"
        )
        return Finding("1a", layer.name, cause, text)
    return Finding("1a", verdict.name, CPU_PATH, f"layer '{verdict.name}': ONNX Runtime gives another result each time")


def _explain_1b(ran: Ran, number: int, waveforms: Path, damaged: bool) -> Finding:
    """`damaged`: the layer's images are wrong, so that the top, which is never replayed, need not be."""
    assert ran.simulator is not None, "nothing was simulated, and yet something differs"
    program, run = ran.program, next(run for run in (s.layers[number] for s in ran.runs) if run.mismatches)
    file = waveforms / f"{layer_folder(run.layer.name, number)}.vcd"
    location = find(program, program.layers[number], run, ran.simulator, file)
    if damaged and location.module == program.config.name:
        location = replace(location, module=None, hardware_block=None)
    if location.waveform is None:
        cause = "design or memory" if damaged else "RTL, design or memory"
    else:
        cause = "RTL" if location.hardware_block or location.uninitialized else "design or memory"
    return Finding("1b", run.layer.name, cause, str(location), location)


def _explain_2(network: Network, verdict: LayerVerdict, runs: Sequence[LayerRun]) -> Finding:
    """Whether the difference remains when ONNX Runtime runs without any optimisation."""
    layer = runs[0].layer
    model = rewrite.layer_model(network.graph, layer)
    judge, plain = runtime.session(model), runtime.session(model, optimise=False)
    for run in runs:
        differences = lsb_differences(layer, run, runtime.run(judge, {layer.input: run.tensor})[layer.output])
        if differences.max() <= TIER2_LSB:
            continue
        without = lsb_differences(layer, run, runtime.run(plain, {layer.input: run.tensor})[layer.output])
        index = tuple(int(i) for i in np.argwhere(differences == differences.max())[0])
        cause = CPU_PATH if without[index] <= TIER2_LSB else "quantization"
        text = (
            f"layer '{layer.name}', output element {list(index[1:])}: {differences[index]} LSB from ONNX Runtime, "
            f"{without[index]} without its optimisations"
        )
        return Finding("2", layer.name, cause, text)
    return Finding("2", verdict.name, CPU_PATH, f"layer '{verdict.name}': ONNX Runtime gives another result each time")


def _explain_share(verdicts: Sequence[LayerVerdict]) -> Finding:
    """Too many differences of 1 LSB, in all layers together."""
    worst = max(verdicts, key=lambda verdict: verdict.tier2_mismatches)
    elements, differing = (sum(getattr(v, name) for v in verdicts) for name in ("elements", "tier2_mismatches"))
    text = (
        f"{differing:,} of {elements:,} elements differ by 1 LSB from ONNX Runtime, more than {TIER2_SHARE:g} of them; "
        f"most are of layer '{worst.name}': {worst.tier2_mismatches:,} of {worst.elements:,}"
    )
    return Finding("2", worst.name, "quantization", text)


def _explain_answers(network: Network, judged: Judged) -> Finding:
    """Layers that agree, and answers that do not."""
    accuracy, name, metric = judged.accuracy, network.outputs[0], "top-1"
    pair: tuple[float | None, float | None] = (accuracy.rtl, accuracy.pruned_simulated)
    for each in accuracy.outputs:
        found = each.values.get("rtl"), each.values.get("pruned_simulated")
        if each.classes and found[0] != found[1]:
            name, metric, pair = each.name, each.metric or metric, found
            break
    rtl, pruned = (f"{100 * share:.2f} %" if share is not None else "none" for share in pair)
    apart = [verdict.name for verdict in judged.verdicts if verdict.tier2_mismatches]
    since = f"layer '{apart[0]}' is the first that differs by 1 LSB" if apart else "no layer differs"
    text = f"output '{name}': {metric} {rtl} of the RTL, {pruned} of the pruned network in ONNX Runtime; {since}"
    return Finding("3", name, "quantization" if apart else "host segments", text)


def _explain_dense(run: LayerRun) -> Finding:
    what = run.failure or str(run.first_mismatch)
    text = f"layer '{run.layer.name}' on dense PEs: {run.mismatches:,} elements differ from the reference; {what}"
    return Finding("1b", run.layer.name, "dense PEs", text)


def _explain_axi(run: AxiRun) -> Finding:
    """Why the run did not end, or its first wrong word."""
    what = run.failure or f"{run.mismatches:,} of {run.words:,} words differ; {run.first}"
    part = "" if run.segment is None else f", segment {run.segment},"
    return Finding("1b", run.name, "behind AXI", f"{run.kind} '{run.name}'{part} behind AXI: {what}")


def _explain_on_chip(network: Network, found: OnChipVerdict) -> Finding:
    """The first step that is wrong, or why the run did not end."""
    cause, how = "the network on chip", "by one start" if found.whole else "on chip"
    if found.failure:
        return Finding("1b", network.name, cause, f"{how}, the network does not end: {found.failure}")
    for step in found.steps:
        if step.tier1_mismatches:
            text = f"{step.tier1_mismatches:,} of {step.elements:,} elements differ from the integer reference"
            return Finding("1b", step.name, cause, f"{how}, step '{step.name}': {text}")
    if found.outputs_only_mismatches:
        text = f"{found.outputs_only_mismatches:,} bytes differ in a run that writes the outputs only"
        return Finding("1b", network.name, cause, f"{how}, network '{network.name}': {text}")
    exact = not found.tier2_mismatches and not found.tier2_ties
    for output in found.outputs if exact else ():
        if output.mismatches and output.exact:
            text = (
                f"{output.mismatches:,} of {output.elements:,} elements differ from the whole network in ONNX Runtime"
            )
            return Finding("2", output.name, cause, f"{how}, output '{output.name}', though no step differs: {text}")
    worst = max(found.steps, key=lambda step: (step.tier2_max_lsb, step.tier2_mismatches))
    text = f"{worst.tier2_mismatches:,} of {worst.elements:,} elements differ from ONNX Runtime, by at most "
    return Finding("2", worst.name, cause, f"{how}, step '{worst.name}': {text}{worst.tier2_max_lsb} LSB")
