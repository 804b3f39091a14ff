"""Why a verdict is "fail": for each failing tier the first layer that fails it, and the likely cause.

memory images           a word of an image is not what the network asks for
RTL                     a hardware block does not do what its MyHDL source says, or the RTL hangs
design or memory        every block does what its source says, and yet the sums or results are wrong
ONNX Runtime's CPU path plain integers, or ONNX Runtime without any optimisation, agree with the RTL
quantization            ONNX Runtime's float32 arithmetic rounds another way, with and without optimisation
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flow.files import layer_folder
from flow.frontend import rewrite
from flow.judgement.images import ImageError, firsts
from flow.judgement.localize import Location, find
from flow.judgement.verdict import TIER2_LSB, LayerVerdict, integer_sums, lsb_differences
from flow.network import reference
from flow.network.model import Network
from flow.onnxtools import runtime
from flow.scheduling.blocks import Program
from flow.simulation.engines.base import Simulator
from flow.simulation.results import LayerRun, SampleRun

CPU_PATH = "ONNX Runtime's CPU path"
IMAGES = "images"


@dataclass(frozen=True)
class Finding:
    """One reason for a failing verdict: `tier`, or `IMAGES`. `location` is known for tier 1b only."""

    tier: str
    layer: str
    cause: str
    text: str
    location: Location | None = None


def diagnose(
    network: Network,
    program: Program,
    simulator: Simulator | None,
    runs: Sequence[SampleRun],
    verdicts: Sequence[LayerVerdict],
    waveforms: Path,
) -> list[Finding]:
    """The findings behind a failing verdict: for each tier, the first layer that fails it.

    Waveforms go to the folder `waveforms`. `simulator` runs in this process; None if nothing was simulated.
    """
    findings = []
    for tier, wrong in (("1a", _fails_1a), ("1b", _fails_1b), ("2", _fails_2)):
        number = next((i for i, verdict in enumerate(verdicts) if wrong(verdict)), None)
        if number is None:
            continue
        each = [sample.layers[number] for sample in runs]
        if tier == "1a":
            findings.append(_explain_1a(verdicts[number], each))
        elif tier == "1b":
            assert simulator is not None, "nothing was simulated, and yet something differs"
            findings.append(_explain_1b(program, simulator, number, each, waveforms))
        else:
            findings.append(_explain_2(network, verdicts[number], each))
    return findings


def image_findings(errors: Sequence[ImageError]) -> list[Finding]:
    """For each layer and memory, the first word that is not what the network asks for."""
    return [Finding(IMAGES, error.layer, "memory images", str(error)) for error in firsts(errors)]


def _fails_1a(verdict: LayerVerdict) -> bool:
    return verdict.tier1a_mismatches > 0


def _fails_1b(verdict: LayerVerdict) -> bool:
    return verdict.tier1b_mismatches > 0


def _fails_2(verdict: LayerVerdict) -> bool:
    return verdict.tier2_max_lsb > TIER2_LSB and verdict.tier1b_mismatches == 0


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


def _explain_1b(
    program: Program, simulator: Simulator, number: int, runs: Sequence[LayerRun], waveforms: Path
) -> Finding:
    run = next(run for run in runs if run.mismatches)
    file = waveforms / f"{layer_folder(run.layer.name, number)}.vcd"
    location = find(program, program.layers[number], run, simulator, file)
    right = location.waveform is not None and location.hardware_block is None
    return Finding("1b", run.layer.name, "design or memory" if right else "RTL", str(location), location)


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
