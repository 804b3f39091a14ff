"""Why a verdict is "fail": every failing run gets a finding, and the finding names something."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.files import layer_folder
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit
from flow.hardware.fields import descriptor_slice
from flow.judgement import images
from flow.judgement.accuracy import Accuracy, OutputAccuracy
from flow.judgement.axi import judge
from flow.judgement.diagnosis import Finding, Judged, Ran, diagnose
from flow.judgement.localize import Location
from flow.judgement.onchip import OnChipVerdict, StepVerdict
from flow.judgement.verdict import LayerVerdict
from flow.network.model import Network
from flow.scheduling.blocks import Program
from flow.scheduling.schedule import schedule
from flow.simulation.axi import AxiRun
from flow.simulation.cosim import Rtl, run_layer
from flow.simulation.engines import ENGINES, Simulator
from flow.simulation.results import LayerRun, SampleRun, expected_rows
from tests.helpers.layers import random_codes, random_layer
from tests.helpers.networks import dense, quantized
from tests.helpers.tools import require_engine

CONFIG = ArrayConfig(2, 4, drain=2)
N = [0, 0, 4, 4, 4, 2, 6, 6]
ALLOCATION = {"layer": np.array(N, np.int64)}
SAME = Accuracy(1, "given", rtl=1.0, pruned_simulated=1.0)
GOOD = LayerVerdict("layer", 20000, 20000, 1, 0, 0, 0, 0, {0: 20000}, None, 1)


def program() -> Program:
    encoded, layer = random_layer(0, 70, 5, N)
    return schedule([encoded], [layer], CONFIG)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    require_engine("icarus")
    return ENGINES["icarus"].open(emit(CONFIG, tmp_path_factory.mktemp("diagnosis")))


@pytest.fixture(scope="module")
def network() -> Network:
    return quantized(dense())


def test_a_wrong_image_is_named_and_no_hardware_block_is(
    simulator: Simulator, network: Network, tmp_path: Path
) -> None:
    """Bits of a descriptor that send the RTL elsewhere, beyond its memories, or into an error."""
    made = program()
    for name, bit in (("weight_base", 31), ("tiles", 0)):
        at = descriptor_slice(name)[1] + bit
        memory = made.memories["descriptor"].copy()
        memory[1, at // 8] ^= 1 << at % 8
        spoilt = replace(made, memories={**made.memories, "descriptor": memory})
        (scheduled,) = spoilt.layers
        tensor = scheduled.layer.input_quantization.from_int8(random_codes(0, scheduled.layer))
        run = run_layer(Rtl(spoilt, simulator), scheduled, tensor)
        assert run.mismatches and run.shipped, name
        wrong = images.judge(spoilt, ALLOCATION)
        verdict = replace(GOOD, tier1b_mismatches=run.mismatches)
        ran = Ran(spoilt, simulator, [SampleRun((run,), {})])
        image, found = diagnose(network, ran, Judged(wrong, [verdict], SAME), tmp_path)
        assert image.cause == "memory images" and "memory/descriptor, word 1, " in image.text
        assert (found.tier, found.cause, found.layer) == ("1b", "design or memory", "layer")
        assert "None" not in found.text and not found.text.startswith(";"), found.text
        assert found.location is not None and found.location.hardware_block is None
        assert (tmp_path / f"{layer_folder('layer', 0)}.vcd").is_file()


def test_a_location_names_what_it_knows() -> None:
    unended = Location(None, "done not high by cycle 7, the limit", "the whole layer")
    assert str(unended) == "the whole layer does not end: done not high by cycle 7, the limit"
    never = replace(unended, mismatch=None, group=0, bit_column=2, sum_expected=5, waveform="x.vcd")
    assert "bit column 2, which is never added: sum unknown instead of 5" in str(never)
    assert "None" not in str(never)


def found(network: Network, **judged: Any) -> list[Finding]:
    parts: dict[str, Any] = {"images": [], "verdicts": [GOOD], "accuracy": SAME} | judged
    return diagnose(network, Ran(program(), None, []), Judged(**parts), Path("nowhere"))


AXI = AxiRun("Conv_1", "layer", 90, 7)
STEP = StepVerdict("Conv_1", "Conv", 10, 100, 0, 0, 0)
CHIP = OnChipVerdict("fail", None, 1, 20, 10, 0.5, 3, 64, 100, 0, 0, 0, 0, 0, (STEP,))


def test_what_passes_has_no_findings(network: Network) -> None:
    assert found(network) == []
    assert found(network, on_chip=replace(CHIP, verdict="pass")) == []
    assert found(network, accuracy=Accuracy(1, "given")) == []
    assert found(network, axi=judge([AXI], "icarus")) == []
    assert judge([], "icarus") is None


@pytest.mark.parametrize(
    ("judged", "tier", "layer", "words"),
    [
        ({"verdicts": [GOOD, replace(GOOD, name="b", tier2_mismatches=9, tier2_max_lsb=1)]}, "2", "b",
         "9 of 40,000 elements differ by 1 LSB from ONNX Runtime, more than 0.0001 of them; most are of layer 'b'"),
        ({"accuracy": replace(SAME, rtl=0.5)}, "3", None, "top-1 50.00 % of the RTL, 100.00 % of the pruned network"),
        ({"verdicts": [replace(GOOD, tier2_mismatches=1, tier2_max_lsb=1)], "accuracy": replace(SAME, rtl=0.5)}, "3",
         None, "layer 'layer' is the first that differs by 1 LSB"),
        ({"on_chip": replace(CHIP, failure="done not high")}, "1b", "net", "the network does not end: done not high"),
        ({"on_chip": replace(CHIP, steps=(STEP, replace(STEP, name="Add_2", tier1_mismatches=4)))}, "1b", "Add_2",
         "step 'Add_2': 4 of 100 elements differ from the integer reference"),
        ({"on_chip": replace(CHIP, outputs_only_mismatches=8)}, "1b", "net", "8 bytes differ in a run that writes the"),
        ({"on_chip": replace(CHIP, steps=(replace(STEP, tier2_mismatches=3, tier2_max_lsb=2),))}, "2", "Conv_1",
         "3 of 100 elements differ from ONNX Runtime, by at most 2 LSB"),
        ({"axi": judge([AXI, replace(AXI, kind="network", mismatches=2, first="word 3")], "icarus")}, "1b", "Conv_1",
         "network 'Conv_1' behind AXI: 2 of 7 words differ; word 3"),
        ({"axi": judge([replace(AXI, failure="no interrupt by cycle 9")], "icarus")}, "1b", "Conv_1",
         "layer 'Conv_1' behind AXI: no interrupt by cycle 9"),
    ],
    ids=["share", "answers", "answers since", "no end", "step", "outputs", "runtime", "word behind AXI", "behind AXI"],
)  # fmt: skip
def test_every_failure_is_explained(
    network: Network, judged: dict[str, Any], tier: str, layer: str | None, words: str
) -> None:
    (finding,) = found(network, **judged)
    assert (finding.tier, finding.layer) == (tier, layer or network.outputs[0])
    assert words in finding.text and finding.cause and "None" not in finding.text


def test_what_is_wrong_before_the_bus_is_no_finding_of_the_bus(network: Network) -> None:
    behind = judge([replace(AXI, failure="no interrupt by cycle 9")], "icarus")
    (finding,) = found(network, on_chip=replace(CHIP, failure="done not high"), axi=behind)
    assert "done not high" in finding.text
    chip = replace(CHIP, steps=(replace(STEP, tier2_mismatches=3, tier2_max_lsb=2),))
    assert [each.tier for each in found(network, on_chip=chip, axi=behind)] == ["2", "1b"]


def test_answers_are_told_by_their_metric(network: Network) -> None:
    values: dict[str, float | None] = {"rtl": 0.25, "pruned_simulated": 0.75}
    output = OutputAccuracy("masks", True, "pixel accuracy", values)
    (finding,) = found(network, accuracy=replace(SAME, rtl=0.5, outputs=(output,)))
    assert "output 'masks': pixel accuracy 25.00 % of the RTL, 75.00 %" in finding.text


def test_a_single_wrong_element_is_explained(network: Network) -> None:
    """Of the first layer that has one; what is 1 LSB away is within what float32 may round."""
    verdicts = [GOOD, replace(GOOD, name="b", tier1a_mismatches=1), replace(GOOD, name="c", tier1a_mismatches=9)]
    (finding,) = found(network, verdicts=verdicts)
    assert (finding.tier, finding.layer) == ("1a", "b")
    assert not found(network, verdicts=[replace(GOOD, tier2_mismatches=1, tier2_max_lsb=1)])
    with pytest.raises(AssertionError, match="nothing was simulated"):  # the fault is looked for in the RTL
        found(network, verdicts=[replace(GOOD, tier1b_mismatches=1)])


def test_an_output_far_from_onnx_runtime_is_explained(network: Network) -> None:
    """The element that is farthest away, by its place in the output of one sample."""
    layer = network.layers[1]
    codes = random_codes(0, layer)
    rows = expected_rows(layer, codes)
    rows[0, 3] += 9 if rows[0, 3] < 0 else -9
    run = LayerRun(layer, layer.input_quantization.from_int8(codes), rows, 1, 0, None)
    verdict = replace(GOOD, name=layer.name, tier2_mismatches=1, tier2_max_lsb=9)
    ran = Ran(program(), None, [SampleRun((run,), {})])
    (finding,) = diagnose(network, ran, Judged([], [verdict], SAME), Path("nowhere"))
    assert (finding.tier, finding.layer, finding.cause) == ("2", layer.name, "quantization")
    place = f"layer '{layer.name}', output element [3]"
    assert finding.text == f"{place}: 9 LSB from ONNX Runtime, 9 without its optimisations"


def test_wrong_images_explain_the_share_of_differences(network: Network) -> None:
    """What follows from a reason that is known is no reason of its own."""
    error = images.ImageError("weight", 3, "bit 0", "layer", "weight 5 instead of 4")
    many = replace(GOOD, tier2_mismatches=900, tier2_max_lsb=1)
    (finding,) = found(network, images=[error], verdicts=[many], accuracy=replace(SAME, rtl=0.5))
    assert finding.tier == "images" and "memory/weight, word 3, bit 0" in finding.text


def test_wrong_dense_elements_are_explained(network: Network) -> None:
    (scheduled,) = program().layers
    run = LayerRun(scheduled.layer, np.zeros(1), np.zeros(1), 1, 3, None, "done not high")
    ran = Ran(program(), None, [], {"layer": run})
    (finding,) = diagnose(network, ran, Judged([], [GOOD], SAME), Path("nowhere"))
    assert finding.cause == "dense PEs" and "layer 'layer' on dense PEs: 3 elements differ" in finding.text
