"""Tier 0: what came is what is simulated, or it is said where not, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import flow
from flow.frontend.imported import Imported, import_calibrated
from flow.judgement import fidelity as judge
from flow.judgement.fidelity import Fidelity, explained, fidelity, poorest, unaccounted
from flow.network.samples import Samples, random
from flow.onnxtools.graph import Graph
from tests.helpers.nets import Builder, conv_net, float_net, samples, small
from tests.helpers.tools import Run, quick_engine


def drawn(model: onnx.ModelProto, count: int = 16, seed: int = 5) -> Samples:
    return Samples(dict(samples(model, count, seed)), None, "drawn")


@pytest.fixture(scope="module")
def imported() -> Imported:
    model = float_net()
    return import_calibrated(model, "net", drawn(model, 40), "net")


def tampered(imported: Imported, name: str, change: NDArray[np.float32] | float) -> Imported:
    """The INT8 network with a constant multiplied."""
    model = onnx.ModelProto()
    model.CopyFrom(imported.network.model)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(tensor) * change).astype(np.float32), name))
    return replace(imported, network=replace(imported.network, graph=Graph.of(model)))


def test_the_int8_network_is_the_one_that_came(imported: Imported) -> None:
    found = fidelity(imported, drawn(imported.source))
    assert found.faithful and not explained(found) and found.begins is None
    assert all(output.sqnr is not None and output.sqnr > 20 for output in found.outputs)
    assert list(poorest(found.outputs)) == [value.name for value in imported.source.graph.output]


def test_an_int8_network_is_itself() -> None:
    model = conv_net()
    found = fidelity(import_calibrated(model, "net", None, "net"), drawn(model))
    assert found.faithful and all(output.equal == 1 and output.sqnr is None for output in found.outputs)


def test_a_wrong_scale_is_located(imported: Imported) -> None:
    """The scale of the first layer's output, a tenth of what it should be: it saturates, and so says the finding."""
    quantizers = [n for n in imported.network.model.graph.node if n.op_type == "QuantizeLinear"]
    first = next(node for node in quantizers if node.input[0] not in imported.network.inputs)
    found = fidelity(tampered(imported, first.input[1], 0.02), drawn(imported.source))
    assert not found.faithful
    maker = Graph.of(imported.prepared or imported.source).producers[first.input[0]]
    assert found.begins == maker.name
    assert found.cause is not None and "lie outside" in found.cause
    (finding,) = explained(found)
    assert finding.tier == "0" and finding.layer == maker.name and "dB of the network's" in finding.text


def differences() -> onnx.ModelProto:
    """y is a small difference of the two columns of `h`."""
    b = Builder(3)
    h = b.node("MatMul", "x", b.constant(np.array([[1, 1], [0, 0.05]], np.float32)))
    return b.model({"x": ["N", 2]}, b.node("MatMul", h, b.constant(np.array([[1], [-1]], np.float32))))


@pytest.mark.parametrize("macs", [2e10, 100], ids=["found", "too large to try"])
def test_the_tensor_that_costs_a_coarse_output_most_is_named(monkeypatch: pytest.MonkeyPatch, macs: float) -> None:
    """Whose own values have enough bits: only what follows needs more of them."""
    monkeypatch.setattr(judge, "TRIED_MACS", macs)
    model = differences()
    found = fidelity(import_calibrated(model, "net", drawn(model, 40), "net"), drawn(model))
    (output,) = found.outputs
    assert found.faithful and output.coarse and output.sqnr is not None and output.sqnr > 10
    assert found.begins is None and found.cause is not None
    told = "range: the 8 bits of tensor 't0' cost most: of the worst output 2"
    assert found.cause.startswith(told if macs > 100 else "8 bits are too few")


def test_an_input_whose_values_share_few_codes_is_named() -> None:
    b = Builder(3)
    model = b.model({"x": ["N", 2]}, b.node("MatMul", "x", b.constant(np.array([[1], [-1]], np.float32))))
    far = Samples({"x": np.float32(10) + np.float32(0.05) * drawn(model, 40).feeds["x"]}, None, "far")
    found = fidelity(import_calibrated(model, "net", far, "net"), far)
    assert found.begins == "x" and found.cause is not None and found.cause.startswith("range: a few values reach 9.")


def test_calibration_of_another_scale_is_said(imported: Imported) -> None:
    model = imported.source
    wide = Samples({name: 255 * array for name, array in samples(model, 40).items()}, None, "wide")
    found = fidelity(import_calibrated(model, "net", wide, "net"), drawn(model))
    assert not found.faithful and found.cause is not None
    assert found.cause.startswith("calibration: its samples reach from ") and "scale them alike" in found.cause


def test_made_up_samples_are_not_judged_on(imported: Imported) -> None:
    found = fidelity(imported, random(imported.source, 4))
    assert found.source == "drawn"


def test_a_product_that_vanishes_is_found(imported: Imported) -> None:
    assert unaccounted(imported.source, imported.network.model) == ()
    model = onnx.ModelProto()
    model.CopyFrom(imported.network.model)
    lost = next(node for node in model.graph.node if node.op_type == "Conv")
    lost.name, lost.op_type = "something_else", "Identity"
    lost.output[0] = "another"
    assert unaccounted(imported.source, model) == (imported.network.layers[0].name,)
    assert not Fidelity(1, "drawn", (), unaccounted(imported.source, model)).faithful


def test_constant_unread_and_equal_products_are_accounted_for() -> None:
    """Import may fold or drop them: constants are multiplied at import, twins once."""
    constants = [numpy_helper.from_array(np.eye(4, dtype=np.float32) * k, f"w{k}") for k in (1, 2)]
    nodes = [
        helper.make_node("MatMul", ["w1", "w2"], ["folded"], "folded"),
        helper.make_node("MatMul", ["x", "folded"], ["a"], "first"),
        helper.make_node("MatMul", ["x", "folded"], ["b"], "twin"),
        helper.make_node("MatMul", ["x", "w1"], ["dead"], "unread"),
        helper.make_node("Add", ["a", "b"], ["y"], "add"),
    ]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 4]) for name in "xy")
    source = helper.make_model(
        helper.make_graph(nodes, "net", [x], [y], constants), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    imported = import_calibrated(source, "net", drawn(source), "net")
    assert unaccounted(source, imported.network.model) == ()
    assert fidelity(imported, drawn(source)).faithful


def test_a_network_that_was_changed_fails_the_verdict(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(tmp_path)
    monkeypatch.setattr("flow.judgement.fidelity.unaccounted", lambda source, network: ("conv",))
    options = ("--array", "2x2", "--engine", quick_engine(), "--samples", 1, "--preset", "moderate")
    status, out, _ = run("compile", model, "-o", tmp_path / "out", *options)
    assert status == 1 and "Verdict: fail" in out
    assert "Tier 0, cause: import. the product 'conv' of the network has vanished at import" in out
    report = flow.cosim(tmp_path / "out", engine=quick_engine(), samples=1)
    assert report.passed and report.summary.fidelity is None
