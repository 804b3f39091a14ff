"""Quantization: samples are checked, float networks become INT8, INT8 networks keep their numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from flow.api.compress import compress
from flow.errors import FlowError
from flow.frontend import admit, quantize
from flow.frontend.entry import checks
from flow.frontend.int8 import cut
from flow.frontend.int8.canonical import canonical
from flow.frontend.operators import ARRAY_OPERATORS
from flow.frontend.preparation.prepare import prepare
from flow.frontend.quantization import plan as plans
from flow.frontend.quantization.calibrate import AUTO
from flow.frontend.quantization.plan import plan
from flow.network import reference
from flow.network.run import run_network
from flow.network.samples import load_arrays
from flow.onnxtools import runtime
from flow.onnxtools.graph import Graph, opset
from flow.onnxtools.shapes import element_types
from tests.helpers.nets import Builder, conv_net, float_net, residual_net, samples


@pytest.mark.parametrize("unsigned", [False, True], ids=["int8", "uint8"])
@pytest.mark.parametrize("batch", ["N", 1])
def test_a_float_network_runs_on_the_array(batch: Any, unsigned: bool) -> None:
    model = float_net(batch)
    feeds = samples(model, 40)
    result = quantize.quantize(model, feeds, unsigned)
    quantized, notes = result.model, result.notes
    network = cut.partition(quantized, "net")
    assert [layer.op for layer in network.layers] == ["Conv", "Conv", "Gemm"]
    assert all(layer.input_quantization.unsigned == unsigned for layer in network.layers)
    assert "40 samples" in notes[0]
    expected, got = runtime.predict(model, feeds), runtime.predict(quantized, feeds)
    assert np.square(got - expected).mean() < 0.01 * np.square(expected).mean()


def test_quantizing_twice_gives_the_same_bytes() -> None:
    model = float_net()
    feeds = samples(model, 8)
    first, second = (quantize.quantize(model, feeds).model.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def attention_net(masked: bool) -> onnx.ModelProto:
    """One head of attention over six tokens, with a mask of the largest floats, a residual and LayerNorm; float."""
    b = Builder(5)

    def real(*shape: int) -> str:
        return b.constant(np.asarray(b.rng.normal(0, 0.3, shape), np.float32))

    query, key, value = (b.node("Add", b.node("MatMul", "x", real(16, 16)), real(16)) for _ in range(3))
    scores = b.node("MatMul", query, b.node("Transpose", key, perm=[0, 2, 1]))
    if masked:
        mask = np.where(np.arange(6) < 4, 0, np.finfo(np.float32).min).astype(np.float32)
        scores = b.node("Add", scores, b.constant(mask))
    mixed = b.node("MatMul", b.node("Softmax", scores, axis=-1), value)
    y = b.node("Add", "x", b.node("MatMul", mixed, real(16, 16)))
    y = b.node("LayerNormalization", y, real(16), real(16), axis=-1)
    return b.model({"x": ["N", 6, 16]}, b.node("MatMul", y, real(16, 4)))


@pytest.mark.parametrize("masked", [False, True])
def test_attention_stays_in_float(masked: bool) -> None:
    """A mask of -3e38 would take all of the 8 bits; products with constant weights run on the array."""
    model = attention_net(masked)
    feeds = samples(model, 64)
    quantized = quantize.quantize(model, feeds).model
    assert len(cut.partition(quantized, "net").layers) == 5
    expected, got = runtime.predict(model, feeds), runtime.predict(quantized, feeds)
    assert np.square(got - expected).mean() < 0.01 * np.square(expected).mean()
    scales = [
        float(numpy_helper.to_array(tensor)) for tensor in quantized.graph.initializer
        if tensor.name.endswith("_scale") and not tensor.dims
    ]  # fmt: skip
    assert scales and max(scales) < 100
    readers = {name for node in quantized.graph.node if node.op_type == "QuantizeLinear" for name in node.input[:1]}
    for node in quantized.graph.node:
        if node.op_type in ("Softmax",):
            assert not readers & set(node.output)


@pytest.mark.parametrize("masked", [False, True])
def test_products_for_the_chip_have_eight_bits_behind_a_mask_too(masked: bool) -> None:
    """Products of two activations and the Softmax between: scores and their sum with a mask share a range."""
    model = attention_net(masked)
    feeds = samples(model, 64)
    quantized = quantize.from_float(prepare(model), feeds, products=True).model
    expected, got = runtime.predict(model, feeds), runtime.predict(quantized, feeds)
    assert np.square(got - expected).mean() < 0.01 * np.square(expected).mean()
    readers = {name for node in quantized.graph.node if node.op_type == "QuantizeLinear" for name in node.input[:1]}
    eight = {node.op_type for node in quantized.graph.node if readers & set(node.output)}
    assert {"MatMul", "Softmax"} <= eight


def test_what_lies_between_layers_keeps_eight_bits() -> None:
    """A residual Add and a pool between convolutions are in 8 bits; of attention only products with constants are."""
    prepared = prepare(float_net())
    planned = plan(Graph.of(prepared), element_types(prepared))
    assert [node.op_type for node in planned.nodes] == [node.op_type for node in prepared.graph.node]
    masked = prepare(attention_net(True))
    planned = plan(Graph.of(masked), element_types(masked))
    assert [node.op_type for node in planned.nodes].count("MatMul") == 5
    assert not {"Softmax", "LayerNormalization"} & {node.op_type for node in planned.nodes}


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("biased", [True, False])
def test_prepare_folds_batch_normalization_into_gemm(transposed: int, biased: bool) -> None:
    b = Builder(8)
    weights = np.asarray(b.rng.normal(size=(5, 8) if transposed else (8, 5)), np.float32)
    means, positive = np.asarray(b.rng.normal(size=5), np.float32), np.asarray(b.rng.uniform(0.5, 2, 5), np.float32)
    inputs = [b.constant(weights)] + [b.constant(means)] * biased
    y = b.node("Gemm", "x", *inputs, transB=transposed)
    constants = [b.constant(array) for array in (positive, means, -means, positive)]
    model = b.model({"x": ["N", 8]}, b.node("Relu", b.node("BatchNormalization", y, *constants)))
    prepared, feeds = prepare(model), samples(model, 9)
    assert {node.op_type for node in prepared.graph.node} == {"Gemm", "Relu"}
    assert np.allclose(runtime.predict(prepared, feeds), runtime.predict(model, feeds), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize(
    ("shape", "factors"),
    [
        ((), {}), ((1,), {}), ((1, 1), {}), ((1, 5), {}), ((5,), {"beta": 0.5}), (None, {"alpha": -1.5}),
        ((1,), {"beta": 2.0, "alpha": 0.5}),
    ],
    ids=["scalar", "one", "one by one", "row", "beta", "alpha", "both"],
)  # fmt: skip
def test_every_constant_gemm_runs_on_the_array(
    shape: tuple[int, ...] | None, factors: dict[str, float], transposed: int
) -> None:
    b = Builder(8)
    inputs = [b.constant(np.asarray(b.rng.normal(size=(5, 8) if transposed else (8, 5)), np.float32))]
    if shape is not None:
        inputs.append(b.constant(np.asarray(b.rng.normal(size=shape), np.float32)))
    model = b.model({"x": ["N", 8]}, b.node("Gemm", "x", *inputs, transB=transposed, **factors))
    feeds = samples(model, 9)
    assert np.allclose(runtime.predict(prepare(model), feeds), runtime.predict(model, feeds), rtol=1e-5, atol=1e-5)
    made = quantize.quantize(model, feeds).model
    assert [layer.op for layer in cut.partition(made, "net").layers] == ["Gemm"]
    expected, got = runtime.predict(model, feeds), runtime.predict(made, feeds)
    assert np.square(got - expected).mean() < 0.01 * np.square(expected).mean()


def test_what_becomes_of_a_gemm_takes_no_name_that_is_taken() -> None:
    b = Builder(8)
    weights, bias = (np.asarray(b.rng.normal(size=size), np.float32) for size in ((8, 5), (1, 5)))
    model = b.model({"x": ["N", 8]}, b.node("Gemm", "x", "t0_weights", "t0_bias", alpha=0.5))
    model.graph.initializer.extend([
        numpy_helper.from_array(weights, "t0_weights"), numpy_helper.from_array(bias, "t0_bias"),
    ])  # fmt: skip
    prepared, feeds = prepare(model), samples(model, 9)
    assert len({tensor.name for tensor in prepared.graph.initializer}) == len(prepared.graph.initializer)
    assert np.allclose(runtime.predict(prepared, feeds), runtime.predict(model, feeds), rtol=1e-5, atol=1e-5)


def test_a_gemm_bias_for_each_row_is_left_as_it_is() -> None:
    b = Builder(8)
    weights, rows = (b.constant(np.asarray(b.rng.normal(size=size), np.float32)) for size in ((8, 5), (5, 1)))
    x = b.node("Reshape", "x", b.constant(np.array([5, 8])))
    model = b.model({"x": [1, 40]}, b.node("Gemm", x, weights, rows, beta=0.5))
    feeds = samples(model, 1)
    assert np.allclose(runtime.predict(prepare(model), feeds), runtime.predict(model, feeds), rtol=1e-5, atol=1e-5)


def test_a_network_of_16_bit_floats_runs_on_the_array() -> None:
    model = float_net()
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    feeds = {name: array.astype(np.float16) for name, array in samples(model, 20).items()}
    made = quantize.quantize(model, feeds).model
    assert [layer.op for layer in cut.partition(made, "net").layers] == ["Conv", "Conv", "Gemm"]
    expected, got = runtime.predict(model, feeds).astype(float), runtime.predict(made, feeds).astype(float)
    assert np.square(got - expected).mean() < 0.01 * np.square(expected).mean()


def test_weights_that_are_no_numbers_are_refused() -> None:
    model = float_net()
    tensor = next(t for t in model.graph.initializer if t.name == model.graph.node[0].input[1])
    array = numpy_helper.to_array(tensor).copy()
    array[0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    with pytest.raises(FlowError, match="weights must be finite.*NaN or infinity"):
        quantize.quantize(model, samples(model, 4))


def test_prepare_leaves_no_batch_normalization_and_standard_operators_only() -> None:
    prepared = prepare(float_net())
    assert "BatchNormalization" not in {node.op_type for node in prepared.graph.node}
    assert {node.domain for node in prepared.graph.node} <= {"", "ai.onnx"}


def test_an_int8_network_is_left_as_it_is() -> None:
    model = conv_net()
    assert checks.is_quantized(model)
    assert not checks.is_quantized(float_net())
    result = quantize.quantize(model)
    quantized, notes = result.model, result.notes
    assert notes == []
    assert quantized == canonical(model)


@pytest.mark.parametrize(("before", "after"), [(10, 13), (12, 12)])
def test_an_int8_network_is_converted_if_its_opset_is_too_old(before: int, after: int) -> None:
    b = Builder(3)
    codes = b.constant(b.rng.integers(-127, 128, (8, 5)).astype(np.int8))
    weights = b.node("DequantizeLinear", codes, b.constant(np.float32(0.01)), b.constant(np.int8(0)))
    y = b.node("MatMul", b.quantized("x", 0.05, 3), weights)
    model = b.model({"x": ["N", 8]}, y, opset=before)
    made, feeds = quantize.quantize(model).model, samples(model, 9)
    assert opset(made) == after and len(cut.partition(made, "net").layers) == 1
    assert np.array_equal(runtime.predict(made, feeds), runtime.predict(model, feeds))


def test_a_float_bias_of_an_int8_layer_is_quantized_and_noted() -> None:
    model = residual_net()
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    bias = np.linspace(-1, 1, 6, dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(bias, "float_bias"))
    conv.input[2] = "float_bias"
    result = quantize.quantize(model)
    quantized, notes = result.model, result.notes
    layers = (f"Conv '{conv.name}'", "MatMul 'MatMul_28'")
    assert notes == [f"The bias of {layer} was quantized to int32." for layer in layers]
    layer = cut.partition(quantized, "net").layers[0]
    scales = reference.accumulator_scales(layer)
    assert np.abs(layer.bias * scales - bias).max() <= scales.max() / 2 * 1.001


def test_a_float_network_needs_samples() -> None:
    with pytest.raises(FlowError, match="needs calibration samples"):
        quantize.quantize(float_net())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"image": np.zeros((2, 3, 8, 8), np.float32), "y": np.zeros(2)},
            r"'x' is missing among \['image', 'y'\]",
        ),
        (np.zeros((2, 8, 8, 3), np.float32), r"shape \['samples', 3, 8, 8\], but they have \[2, 8, 8, 3\]"),
        (np.zeros((3, 8, 8), np.float32), r"but they have \[3, 8, 8\]"),
        (np.zeros((2, 3, 8, 8)), "must be float32, but they are float64"),
        (np.zeros((0, 3, 8, 8), np.float32), "at least one sample"),
        (np.full((2, 3, 8, 8), np.nan, np.float32), "must be finite, but 384 values"),
        (np.full((2, 3, 8, 8), np.inf, np.float32), "must be finite"),
    ],
)
def test_samples_that_do_not_fit_are_refused(given: Any, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        quantize.quantize(float_net(), given)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("mlperf_resnet8_cifar10", "resnet8_cifar10"),
        ("mlperf_resnet8_cifar10_bn", "resnet8_cifar10"),
        ("mlperf_dscnn_kws_bn", "dscnn_kws"),
        ("resnet20_cifar10", "resnet20_cifar10"),
    ],
)
def test_real_float_networks_run_on_the_array(name: str, data: str) -> None:
    folder = os.environ.get("BBS_DATA")
    if not folder:
        pytest.skip("BBS_DATA does not name the folder of real networks")
    model = admit.load(Path(folder) / "models" / f"{name}.onnx")
    quantized = quantize.quantize(model, load_arrays(Path(folder) / "datasets" / f"{data}_calib.npz")).model
    network = cut.partition(quantized, name)
    assert len(network.layers) == sum(node.op_type in ARRAY_OPERATORS for node in model.graph.node)
    x = np.load(Path(folder) / "datasets" / f"{data}_test.npz")["x"][:32]
    ours = run_network(network, {network.inputs[0]: x})[network.outputs[0]]
    assert np.array_equal(ours.argmax(1), runtime.predict(quantized, x).argmax(1))


def test_nothing_is_written_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for model in (float_net(), attention_net(True)):
        quantize.quantize(model, samples(model, 4))
    assert not list(tmp_path.iterdir())


def test_an_int8_network_of_16_bit_floats_runs_on_the_array(tmp_path: Path) -> None:
    model = residual_net()
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    model.opset_import[0].version, model.ir_version = 19, 9  # float16 scales came with opset 19
    x = samples(model, 5)["x"].astype(np.float16)
    report = compress(model, tmp_path / "o.onnx", calibration=x)
    assert [layer.op for layer in report.layers] == ["Conv", "Conv", "Gemm", "MatMul"]
    assert min(output.sqnr or 0 for output in report.summary.fidelity.outputs) > 30


def test_only_what_is_chosen_automatically_is_equalized(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[onnx.ModelProto] = []

    def equalized(model: onnx.ModelProto, _: object) -> tuple[onnx.ModelProto, int]:
        called.append(model)
        return model, 0

    monkeypatch.setattr(quantize, "equalized", equalized)
    model = prepare(float_net())
    for method, count in (("minmax", 0), (AUTO, 1)):
        quantize.from_float(model, samples(model, 4), method=method)
        assert len(called) == count


def test_what_a_sum_adds_to_maps() -> None:
    """A map of constants, not one number, or one for each channel."""
    b = Builder(3)
    names = {shape: b.constant(np.ones(shape, np.float32)) for shape in ((), (4, 1, 1), (5, 5), (1, 4, 5, 5))}
    sums = {shape: b.node("Add", "x", name) for shape, name in names.items()}
    graph = Graph.of(b.model({"x": ["N", 4, 5, 5]}, b.node("Sum", *sums.values()), rank=4))
    found = {s for s, y in sums.items() if [*plans._added_maps(graph, graph.producers[y], {y: 4})] == [names[s]]}
    assert found == {(5, 5), (1, 4, 5, 5)}


@pytest.mark.parametrize(("axes", "wanted"), [([1], True), ([-2], True), ([2], False), ([1, 2], False)])
def test_means_over_all_tokens(axes: list[int], wanted: bool) -> None:
    """Of any opset: the axes are an input from 18 on."""
    b = Builder(3)
    told, given = b.node("ReduceMean", "x", axes=axes), b.node("ReduceMean", "x", b.constant(np.array(axes)))
    graph = Graph.of(b.model({"x": ["N", 5, 4]}, b.node("Add", told, given), rank=3, opset=18))
    functions = plans._Functions(graph, {"x": 3})
    assert [functions._over_tokens(graph.producers[name]) for name in (told, given)] == [wanted, wanted]
