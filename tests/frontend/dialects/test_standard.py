"""Quantized networks of any maker come in by every command, and are compared with their own operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

import flow
from flow.api.source import read_source
from flow.errors import FlowError
from flow.frontend.dialects.standard import standard_quantization
from flow.frontend.imported import import_uncalibrated
from flow.frontend.int8.cut import partition
from flow.frontend.quantize import quantize
from flow.onnxtools import runtime
from tests.helpers.nets import conv_net, float_net, one_node_net, residual_net, samples
from tests.helpers.qonnx import DOMAIN, qonnx_net


class Reader:
    """Calibration samples, one by one, as ONNX Runtime's quantizer asks for them."""

    def __init__(self, feeds: dict[str, NDArray[Any]]) -> None:
        count = len(next(iter(feeds.values())))
        self.left: Iterator[Any] = iter([{n: a[i : i + 1] for n, a in feeds.items()} for i in range(count)])

    def get_next(self) -> Any:
        return next(self.left, None)


def quantized_by_onnx_runtime(folder: Path, unsigned: bool = False, **given: Any) -> onnx.ModelProto:
    """`float_net`, in the QOperator form."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model = float_net()
    onnx.save(model, str(folder / "float.onnx"))
    kinds = {"weight_type": QuantType.QUInt8 if unsigned else QuantType.QInt8, "activation_type": QuantType.QInt8}
    if unsigned:
        kinds["activation_type"] = QuantType.QUInt8
    quantize_static(
        folder / "float.onnx",
        folder / "integer.onnx",
        Reader(samples(model, 20)),
        quant_format=QuantFormat.QOperator,
        **kinds,
        **given,
    )
    return onnx.load(str(folder / "integer.onnx"))


@pytest.mark.parametrize("per_channel", [False, True])
def test_networks_in_qoperator_form_are_exact(tmp_path: Path, per_channel: bool) -> None:
    model = quantized_by_onnx_runtime(tmp_path, per_channel=per_channel)
    assert {"QLinearConv", "QLinearAdd", "QGemm"} <= {node.op_type for node in model.graph.node}
    standard, notes = standard_quantization(model)
    listed = "1 QGemm, 1 QLinearAdd, 2 QLinearConv, 1 QLinearGlobalAveragePool"
    assert notes == [f"Quantization in standard form instead of {listed}."]
    quantized = quantize(standard)
    network = partition(quantized.model, "net")
    assert not quantized.notes and not network.reasons
    assert [layer.op for layer in network.layers] == ["Conv", "Conv", "Gemm"]
    feeds = samples(model, 50)
    wanted, got = (next(iter(runtime.run(each, feeds).values())) for each in (model, network.model))
    step = np.diff(np.unique(wanted)).min()
    assert np.abs(got - wanted).max() < 1.01 * step and (got != wanted).mean() < 0.01


def test_files_that_onnx_runtime_optimised(tmp_path: Path) -> None:
    """It moves the channels of convolutions to the last axis."""
    import onnxruntime as ort

    quantized_by_onnx_runtime(tmp_path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(tmp_path / "integer.onnx"), options, providers=["CPUExecutionProvider"])
    source = read_source(tmp_path / "optimised.onnx").admitted()
    network = import_uncalibrated(source.model, "net").network
    assert len(network.layers) == 3
    feeds = samples(source.model, 20)
    assert source.given is not None
    wanted, got = (next(iter(runtime.run(each, feeds).values())) for each in (source.given, network.model))
    assert (np.abs(got - wanted) < 1e-6).mean() > 0.99


def test_weights_that_are_not_symmetric_are_told(tmp_path: Path) -> None:
    model = quantized_by_onnx_runtime(tmp_path, unsigned=True)
    standard, notes = standard_quantization(model)
    assert notes[-1].startswith("The weights of 3 layers were dequantized and quantized again to INT8, one scale for")
    assert len(partition(quantize(standard).model, "net").layers) == 3


def test_every_command_takes_them(tmp_path: Path) -> None:
    """Tier 0 compares with the network as it came, whose outputs its own integer operators compute."""
    onnx.save(quantized_by_onnx_runtime(tmp_path), str(tmp_path / "net.onnx"))
    found = flow.inspect(tmp_path / "net.onnx")
    assert not found.refused and found.array_share == 1
    report = flow.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", pruning=flow.pruning("conservative"))
    assert report.notes[0].startswith("Quantization in standard form instead of 1 QGemm")
    source = read_source(tmp_path / "net.onnx").admitted()
    assert source.given is not None and {node.op_type for node in source.given.graph.node} >= {"QLinearConv"}
    assert len(report.summary.fidelity.outputs) == 1 and (report.summary.fidelity.outputs[0].equal or 0) > 0.99


def test_networks_that_onnx_runtime_does_not_know(tmp_path: Path) -> None:
    onnx.save(qonnx_net(4), str(tmp_path / "net.onnx"))
    report = flow.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", pruning=flow.pruning("conservative"))
    assert report.summary.fidelity.outputs[0].equal is not None and report.summary.fidelity.outputs[0].equal > 0.9
    assert "Quantization in standard form instead of 5 Quant." in report.notes


@pytest.mark.parametrize("make", [conv_net, residual_net, float_net, one_node_net])
def test_other_networks_are_left_alone(make: Any) -> None:
    model = make()
    before = model.SerializeToString()
    standard, notes = standard_quantization(model)
    assert standard is model and not notes and model.SerializeToString() == before


def test_the_model_given_is_not_changed() -> None:
    model = qonnx_net(4)
    before = model.SerializeToString()
    assert standard_quantization(model)[0] is not model and model.SerializeToString() == before


def test_an_undeclared_operator_set_is_no_obstacle() -> None:
    model = qonnx_net(4)
    del model.opset_import[1:]
    standard, _ = standard_quantization(model)
    assert len(import_uncalibrated(standard, "net").network.layers) == 2


def test_a_function_of_the_models_own_is_no_quantizer() -> None:
    model = one_node_net("Quant")
    model.graph.node[0].domain = DOMAIN
    body = [helper.make_node("Relu", ["x"], ["y"])]
    sets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function(DOMAIN, "Quant", ["x"], ["y"], body, sets))
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    standard, notes = standard_quantization(model)
    assert standard is model and not notes


def test_old_operator_sets_are_converted(tmp_path: Path) -> None:
    """Scales for each channel need opset 13."""
    model = quantized_by_onnx_runtime(tmp_path, per_channel=True)
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", 11), helper.make_opsetid("com.microsoft", 1)])
    standard, _ = standard_quantization(model)
    assert {entry.domain: entry.version for entry in standard.opset_import}[""] == 13
    feeds = samples(model, 20)
    wanted, got = (next(iter(runtime.run(each, feeds).values())) for each in (model, standard))
    assert (np.abs(got - wanted) < 1e-6).mean() > 0.99


def test_what_is_not_valid_is_refused_by_the_checker(tmp_path: Path) -> None:
    model = quantized_by_onnx_runtime(tmp_path)
    next(node for node in model.graph.node if node.op_type == "QLinearConv").input[3] = "nowhere"
    assert standard_quantization(model)[0] is model
    onnx.save(model, str(tmp_path / "net.onnx"))
    with pytest.raises(FlowError, match="is not valid ONNX"):
        flow.inspect(tmp_path / "net.onnx")


def test_constants_in_other_files_are_no_obstacle_and_those_that_cannot_be_read_are() -> None:
    """The first are read when they are needed; the second are refused later, by the checker."""
    outside, damaged = qonnx_net(4), qonnx_net(4)
    stored = onnx.TensorProto(name="apart", data_type=onnx.TensorProto.FLOAT, dims=[4])
    stored.data_location = onnx.TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="nowhere.bin")
    outside.graph.initializer.append(stored)
    assert standard_quantization(outside)[0] is not outside
    short = onnx.TensorProto(name="short", data_type=onnx.TensorProto.FLOAT, dims=[2], raw_data=b"abc")
    damaged.graph.initializer.append(short)
    assert standard_quantization(damaged)[0] is damaged
