"""Import: what is refused and why, what becomes an array layer, how the rest is cut into host segments."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.errors import FlowError
from flow.frontend import admit, quantize
from flow.frontend.int8 import cut, rewrite
from flow.frontend.int8.canonical import canonical, tidy
from flow.frontend.operators import ARRAY_OPERATORS
from flow.network import reference
from flow.network.model import HostSegment, Quantization
from flow.network.run import run_network
from flow.onnxtools import runtime
from flow.onnxtools.graph import Graph
from tests.helpers.nets import Builder, conv_net, one_node_net, residual_net, samples


def write(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_load_returns_a_valid_model(tmp_path: Path) -> None:
    model = residual_net()
    assert admit.load(write(tmp_path, model)) == model


def test_load_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="none.onnx' does not exist"):
        admit.load(tmp_path / "none.onnx")


@pytest.mark.parametrize("content", [b"", b"not a network at all", None], ids=["empty", "text", "truncated"])
def test_load_refuses_what_is_not_onnx(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "net.onnx"
    whole = residual_net().SerializeToString()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(FlowError, match="net.onnx.*(not an ONNX file|no ONNX graph)"):
        admit.load(path)


def test_load_refuses_missing_external_data(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(residual_net(), str(path), save_as_external_data=True, location="net.data", size_threshold=0)
    (tmp_path / "net.data").unlink()
    with pytest.raises(FlowError, match="external data 'net.data' of tensor .* of .*net.onnx' cannot be read"):
        admit.load(path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (one_node_net(opset=5), "opset 6 or later is needed, but .* has opset 5"),
        (one_node_net("NoSuchOperator"), "NoSuchOperator"),
        (one_node_net(shape=("N", "width")), "axis 1 of 'x' .* is 'width'"),
    ],
    ids=["opset", "operator", "dynamic"],
)
def test_load_names_the_rule(tmp_path: Path, model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(FlowError, match=message) as caught:
        admit.load(write(tmp_path, model))
    assert "\n" not in str(caught.value)


def test_load_quotes_onnx_runtime_for_a_foreign_operator(tmp_path: Path) -> None:
    model = one_node_net()
    model.graph.node[0].domain = "some.where"
    model.opset_import.append(helper.make_opsetid("some.where", 1))
    with pytest.raises(FlowError, match="ONNX Runtime cannot run .*some.where"):
        admit.load(write(tmp_path, model))


def test_cut_reads_a_layer() -> None:
    model = conv_net(strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2])
    network = cut.partition(model, "net")
    (layer,) = network.layers
    codes = numpy_helper.to_array(next(t for t in network.model.graph.initializer if t.name == layer.weight_tensor))
    assert layer.weights.shape == (8, 3 * 2 * 4)
    assert layer.weights[5, (2 * 2 + 1) * 4 + 3] == codes[5, 3, 2, 1]
    assert layer.input_quantization == Quantization(np.float32(0.05), 3, False)
    assert layer.output_quantization == Quantization(np.float32(0.1), -20, False)
    assert layer.clamp == (-20, 127)
    assert layer.input_shape == (4, 9, 8)
    assert layer.output_shape == (8, 5, 7)
    assert layer.window is not None
    assert layer.window.pads == (1, 0, 2, 1)
    assert layer.positions == 35
    assert network.notes == ()


def test_cut_turns_clip_into_codes() -> None:
    (layer,) = cut.partition(conv_net(activation="Clip"), "net").layers
    assert layer.clamp == (-25, 0)


def test_cut_shifts_uint8_tensors() -> None:
    (layer,) = cut.partition(conv_net(unsigned=True), "net").layers
    assert layer.input_quantization == Quantization(np.float32(0.05), 3, True)
    assert layer.clamp == (-20, 127)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_cut_resolves_auto_pad_as_onnx_runtime_does(mode: str) -> None:
    model = conv_net(auto_pad=mode, strides=[2, 1])
    network = cut.partition(model, "net")
    feeds = samples(model)
    ours = run_network(network, feeds)[network.outputs[0]]
    theirs = runtime.predict(model, feeds)
    assert np.abs(ours - theirs).max() <= 0.1 * 1.001


def test_every_matmul_like_node_of_the_residual_net_is_a_layer() -> None:
    network = cut.partition(residual_net(), "net")
    assert [layer.op for layer in network.layers] == ["Conv", "Conv", "Gemm", "MatMul"]
    assert network.layers[1].groups == 6
    assert network.layers[3].output_quantization is None
    assert network.layers[3].clamp == (-128, 127)


def test_segments_are_complete_models_and_keep_tensors_8_bits_wide() -> None:
    network = cut.partition(residual_net(), "net")
    ready = set(network.inputs)
    for step in network.steps:
        if isinstance(step, HostSegment):
            onnx.checker.check_model(step.model, full_check=True)
            assert set(step.inputs) <= ready
            ready.update(step.outputs)
            assert "Conv" not in step.operators
        else:
            assert step.input in ready
            ready.add(step.output)
    assert set(network.outputs) <= ready
    between = [s.model.graph.input for s in network.steps if isinstance(s, HostSegment)][1:-1]
    assert all(v.type.tensor_type.elem_type == TensorProto.INT8 for values in between for v in values)


def test_a_branch_before_the_relu_makes_the_layer_raw() -> None:
    model = conv_net()
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    model.graph.output.append(helper.make_tensor_value_info(conv.output[0], TensorProto.FLOAT, None))
    network = cut.partition(model, "net")
    (layer,) = network.layers
    assert layer.output == conv.output[0]
    assert layer.output_quantization is None
    assert "Relu" in network.steps[-1].operators  # type: ignore[union-attr]


def test_asymmetric_weights_stay_on_the_host_with_the_reason() -> None:
    model = conv_net()
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(node for node in model.graph.node if node.output[0] == conv.input[1])
    zero = next(tensor for tensor in model.graph.initializer if tensor.name == weight.input[2])
    zero.CopyFrom(numpy_helper.from_array(np.full(8, 3, np.int8), zero.name))
    network = cut.partition(model, "net")
    assert network.layers == ()
    assert network.notes == (
        "Conv 'Conv_4' stays on the host: its weights are not symmetric (a zero point other than 0).",
    )


def test_weight_scales_that_are_no_numbers_stay_on_the_host() -> None:
    model = conv_net()
    scales = next(
        t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and list(t.dims) not in ([], [1])
    )
    values = numpy_helper.to_array(scales).copy()
    values[0] = np.inf
    scales.CopyFrom(numpy_helper.from_array(values, scales.name))
    network = cut.partition(model, "net")
    assert not network.layers
    assert any("weight scales are not finite" in note for note in network.notes)


def reading_twice(way: str) -> onnx.ModelProto:
    """Two layers read one tensor of codes: by one DequantizeLinear, by two alike, by two of other scales, ..."""
    b = Builder()
    x = b.quantized("x", 0.05, 0)
    w, _ = b.weights((4, 4), 1, 0.05)
    codes, scale, zero = next(node for node in b.nodes if node.output[0] == w).input
    if way == "other scales":
        scale = b.constant(np.full(4, 0.01, np.float32))
    if way == "turned":  # one scale for all: no axis tells
        w = b.node("DequantizeLinear", codes, b.constant(np.float32(0.01)), b.constant(np.int8(0)))
    alone = way in ("alike", "other scales")
    other = b.node("DequantizeLinear", codes, scale, zero, axis=1) if alone else w
    y = b.quantized(b.node("MatMul", x, w), 0.05, 0)
    y = b.quantized(b.node("Gemm", y, other, transB=int(way == "turned")), 0.05, 0)
    model = b.model({"x": ["N", 4]}, y)
    if way in ("another node", "an output"):
        model.graph.node.append(helper.make_node("ReduceMax", [w], ["largest"], keepdims=0))
        further = "largest" if way == "another node" else w
        model.graph.output.append(helper.make_tensor_value_info(further, TensorProto.FLOAT, None))
    return model


@pytest.mark.parametrize("way", ["one", "alike", "other scales", "turned", "another node", "an output"])
def test_layers_that_read_weights_alike_share_them(way: str) -> None:
    """What else reads them has a copy, which pruning does not change."""
    model = reading_twice(way)
    network = cut.partition(model, "net")
    first, second = network.layers
    assert (first.weight_tensor == second.weight_tensor) == (way not in ("other scales", "turned"))
    assert (first.weights is second.weights) == (first.weight_tensor == second.weight_tensor)
    feeds = {"x": np.random.default_rng(3).normal(0, 3, (5, 4)).astype(np.float32)}
    zeros = cut.partition_again(network, [replace(layer, weights=0 * layer.weights) for layer in network.layers])
    assert not any(layer.weights.any() for layer in zeros.layers)
    given, same, pruned = (runtime.run(each, feeds) for each in (model, network.model, zeros.model))
    assert given.keys() == same.keys() and all(np.array_equal(given[name], same[name]) for name in given)
    changed = [name for name in given if not np.array_equal(given[name], pruned[name])]
    assert changed == [model.graph.output[0].name]


def test_a_node_without_outputs_is_refused_in_a_line() -> None:
    model = reading_twice("alike")
    model.graph.node.append(helper.make_node("Relu", ["x"], []))
    with pytest.raises(FlowError, match="Output 0 is out of bounds"):
        cut.partition(model, "net")


def test_layers_that_share_weights_are_given_the_same() -> None:
    network = cut.partition(reading_twice("one"), "net")
    first, second = network.layers
    other = replace(second, weights=-second.weights), replace(second, weight_scales=2 * second.weight_scales)
    for layer in other:
        with pytest.raises(FlowError, match="'MatMul_4' and 'Gemm_7' share their weights, but got different ones"):
            cut.partition_again(network, [first, layer])


@pytest.mark.parametrize(
    ("steps", "layout", "why"),
    [
        (3, 0, "it is unrolled in float networks only, where its weights are float32 and in memory"),
        ("T", 1, "its number of steps is not fixed"),
        (130, 1, "it has 130 steps, and at most 128 are unrolled"),
    ],
)
def test_a_recurrent_node_stays_on_the_host_with_the_reason(steps: int | str, layout: int, why: str) -> None:
    b = Builder()
    weights = [b.constant(np.ones(shape, np.float32)) for shape in ((1, 12, 5), (1, 12, 3))]
    made = b.node("GRU", "x", *weights, hidden_size=3, layout=layout)
    network = cut.partition(b.model({"x": [1, steps, 5] if layout else [steps, 1, 5]}, made), "net")
    assert list(network.reasons.values()) == [why]


def test_canonical_form_is_a_fixed_point() -> None:
    once = canonical(residual_net())
    assert canonical(once) == once


def rows_net(op: str, shape: list[Any], order: list[int], transposed: int = 0) -> onnx.ModelProto:
    """A product whose rows are no batch, with its bias, between quantized tensors: tokens first, or one sample's."""
    b = Builder(8)
    if op == "MatMul":
        x = b.quantized(b.node("Transpose", "x", perm=order), 0.05, 3)
        weight, bias = b.weights((6, 5), 1, 0.05)
        y = b.node("Add", b.node("MatMul", x, weight), bias)
    else:
        x = b.quantized(b.node("Reshape", "x", b.constant(np.array(order))), 0.05, 3)
        weight, bias = b.weights((5, 6) if transposed else (6, 5), 1 - transposed, 0.05)
        y = b.node("Gemm", x, weight, bias, transB=transposed)
    return b.model({"x": shape}, b.quantized(y, 0.1, -20), rank=len(order))


@pytest.mark.parametrize(
    ("model", "rows", "batches"),
    [
        (rows_net("Gemm", [1, 4, 6], [4, 6]), 4, (1,)),
        (rows_net("Gemm", [1, 4, 6], [4, 6], transposed=1), 4, (1,)),
        (rows_net("MatMul", ["N", 4, 6], [1, 0, 2]), 4, (1, 3)),
        (rows_net("MatMul", ["N", 4, 3, 6], [1, 2, 0, 3]), 12, (1, 2)),
    ],
    ids=["rows", "transposed", "tokens first", "four axes"],
)
def test_rows_of_a_product_need_not_be_the_batch(model: onnx.ModelProto, rows: int, batches: tuple[int, ...]) -> None:
    """The array takes it; the network is the same function for every batch, and its layers the reference's."""
    form = canonical(model)
    network = cut.partition(model, "net")
    assert canonical(form).SerializeToString() == form.SerializeToString()
    (layer,) = network.layers
    assert (layer.op, layer.positions, layer.channels) == ("MatMul", rows, 5)
    for batch in batches:
        feeds = samples(model, batch)
        (want,), (got,) = (list(runtime.run(each, feeds).values()) for each in (model, network.model))
        assert got.shape == want.shape and np.allclose(got, want, rtol=0, atol=1e-6)
        if batch == 1:
            (name,) = network.outputs
            assert np.abs(run_network(network, feeds, reference.run_layer)[name] - want).max() <= 0.1001


def chosen_rows() -> onnx.ModelProto:
    """Those rows of a sample whose sum is above zero, and a product of them."""
    b = Builder(8)
    x = b.node("Reshape", "x", b.constant(np.array([4, 6])))
    sums = b.node("ReduceSum", x, b.constant(np.array([1])), keepdims=0)
    x = b.quantized(b.node("Compress", x, b.node("LessOrEqual", sums, b.constant(np.float32(0))), axis=0), 0.05, 3)
    return b.model({"x": ["N", 4, 6]}, b.node("MatMul", x, b.weights((6, 5), 1, 0.05)[0]))


def rows_beside() -> onnx.ModelProto:
    """The batch, and three rows more."""
    b = Builder(8)
    x = b.quantized(b.node("Concat", "x", b.constant(np.ones((3, 6), np.float32)), axis=0), 0.05, 3)
    return b.model({"x": ["N", 6]}, b.node("MatMul", x, b.weights((6, 5), 1, 0.05)[0]))


def gemm_of_its_own() -> onnx.ModelProto:
    """An operator that is called Gemm, too, but gives the negative."""
    b = Builder(8)
    x = b.quantized(b.node("Reshape", "x", b.constant(np.array([4, 6]))), 0.05, 3)
    model = b.model({"x": [1, 4, 6]}, b.node("Gemm", x, b.weights((6, 5), 1, 0.05)[0], domain="own"))
    inside = [helper.make_node("MatMul", ["a", "b"], ["t"]), helper.make_node("Neg", ["t"], ["c"])]
    made = helper.make_function("own", "Gemm", ["a", "b"], ["c"], inside, [helper.make_opsetid("", 17)])
    model.functions.append(made)
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


@pytest.mark.parametrize(("model", "batch"), [(chosen_rows(), 1), (rows_beside(), 2), (gemm_of_its_own(), 1)],
                         ids=["rows by the data", "rows beside the batch", "another Gemm"])  # fmt: skip
def test_what_only_looks_like_rows_of_a_product_stays_as_it_is(model: onnx.ModelProto, batch: int) -> None:
    feeds = samples(model, batch)
    (want,), (got,) = (list(runtime.run(each, feeds).values()) for each in (model, cut.partition(model, "net").model))
    assert want.shape == got.shape and np.array_equal(want, got)


def test_rows_of_a_product_before_axes_of_weights() -> None:
    """Opset 12 has no axis at DequantizeLinear, and one scale needs none."""
    b = Builder(8)
    x = b.quantized(b.node("Reshape", "x", b.constant(np.array([4, 6]))), 0.05, 3)
    codes = b.constant(b.rng.integers(-127, 128, (5, 6)).astype(np.int8))
    weight = b.node("DequantizeLinear", codes, b.constant(np.float32(0.01)), b.constant(np.int8(0)))
    model = b.model({"x": [1, 4, 6]}, b.node("Gemm", x, weight, transB=1), opset=12)
    network, feeds = cut.partition(model, "net"), samples(model, 1)
    (want,), (got,) = (list(runtime.run(each, feeds).values()) for each in (model, network.model))
    assert len(network.layers) == 1 and np.allclose(want, got, rtol=0, atol=1e-6)


def test_quantized_weights_behind_a_float_input_that_is_flattened() -> None:
    b = Builder(8)
    weight, _ = b.weights((5, 6), 0, 0.05)
    model = b.model({"x": ["N", 2, 3]}, b.node("Gemm", b.node("Flatten", "x"), weight, transB=1))
    network, feeds = cut.partition(model, "net"), samples(model, 2)
    assert not network.layers
    assert np.array_equal(runtime.predict(network.model, feeds), runtime.predict(model, feeds))


def test_a_constant_output_stays_a_constant_for_its_readers() -> None:
    model, plain = residual_net(), cut.partition(residual_net(), "net")
    weights = plain.layers[0].weight_tensor
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == weights)
    model.graph.output.append(helper.make_tensor_value_info(weights, tensor.data_type, tensor.dims))
    network = cut.partition(model, "net")
    assert len(network.layers) == len(plain.layers)
    pruned = rewrite.with_layers(network.model, [replace(network.layers[0], weights=network.layers[0].weights * 0)])
    assert np.array_equal(runtime.run(pruned, samples(residual_net(), 1))[weights], numpy_helper.to_array(tensor))


def test_sequences_that_cannot_be_of_zeros() -> None:
    """What an operator gives of zeros is looked at only where it can be."""
    b = Builder(8)
    x = b.quantized("x", 0.05, 3)
    y = b.node("MatMul", x, b.weights((6, 5), 1, 0.05)[0])
    size = b.node("Cast", b.node("ReduceMax", "x", keepdims=0), to=TensorProto.INT64)
    parts = b.node("SplitToSequence", y, size, axis=1)
    model = b.model({"x": ["N", 6]}, b.node("SequenceAt", parts, b.constant(np.int64(1))))
    network, feeds = cut.partition(model, "net"), {"x": np.full((1, 6), 2, np.float32)}
    (name,) = network.outputs
    got = run_network(network, feeds, reference.run_layer)[name]
    assert len(network.layers) == 1 and np.allclose(got, runtime.run(model, feeds)[name])


def test_constants_may_be_inputs_as_well(tmp_path: Path) -> None:
    """As up to IR version 3 they had to be."""
    model = residual_net()
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    model.ir_version = 3
    network = cut.partition(admit.load(write(tmp_path, model)), "net")
    assert network.inputs == ("x",) and len(network.layers) == len(cut.partition(residual_net(), "net").layers)


def test_an_output_may_be_a_constant() -> None:
    b = Builder(1)
    x = b.quantized("x", 0.05, 3)
    weight, bias = b.weights((8, 4), 0, 0.05)
    y = b.quantized(b.node("Gemm", x, weight, bias, transB=1), 0.1, 0)
    model = b.model({"x": ["N", 4]}, y)
    anchors = np.arange(6, dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(anchors, "anchors"))
    model.graph.output.append(helper.make_tensor_value_info("anchors", TensorProto.FLOAT, [6]))
    network = cut.partition(model, "net")
    made = run_network(network, {"x": np.ones((1, 4), np.float32)}, reference.run_layer)
    assert np.array_equal(made["anchors"], anchors) and set(network.outputs) <= set(made)


def test_quantization_operators_of_another_domain() -> None:
    model = residual_net()
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    network = cut.partition(model, "net")
    assert len(network.layers) == len(cut.partition(residual_net(), "net").layers) > 0


def test_with_layers_is_the_inverse_of_cut() -> None:
    """Weights, scales and biases, of one layer or all; where nothing changed the model is the same to the byte."""
    network = cut.partition(residual_net(), "net")
    rng = np.random.default_rng(3)
    changed = [
        replace(
            layer,
            weights=rng.integers(-128, 128, layer.weights.shape).astype(np.int8),
            weight_scales=np.asarray(rng.uniform(0.001, 0.01, layer.channels), np.float32),
            bias=np.asarray(rng.integers(-900, 900, layer.channels), np.int32),
        )
        for layer in network.layers
    ]
    model = rewrite.with_layers(network.model, changed)
    onnx.checker.check_model(model)
    for layer, wanted in zip(cut.partition(model, "net").layers, changed, strict=True):
        assert np.array_equal(layer.weights, wanted.weights)
        assert np.array_equal(layer.weight_scales, wanted.weight_scales)
        assert np.array_equal(layer.bias, wanted.bias)
    assert rewrite.with_layers(network.model, network.layers) == network.model


@pytest.mark.parametrize("unsigned", [False, True])
def test_with_layers_gives_a_layer_the_bias_it_lacks(unsigned: bool) -> None:
    b = Builder(4, unsigned)
    weight, _ = b.weights((5, 4, 1, 1), 0, 0.05)
    y = b.quantized(b.node("Conv", b.quantized("x", 0.05, 3), weight), 0.1, -20)
    network = cut.partition(b.model({"x": ["N", 4, 3, 3]}, y, rank=4), "net")
    bias = np.arange(5, dtype=np.int32)
    model = rewrite.with_layers(network.model, [replace(network.layers[0], bias=bias)])
    assert np.array_equal(cut.partition(model, "net").layers[0].bias, bias)


def test_with_layers_refuses_a_wrong_shape() -> None:
    layer = cut.partition(residual_net(), "net").layers[0]
    with pytest.raises(FlowError, match="int8 \\[1, 2\\] for int8 \\[6, 27\\]"):
        rewrite.with_layers(residual_net(), [replace(layer, weights=np.zeros((1, 2), np.int8))])


@pytest.mark.parametrize("name", ["mlperf_resnet8_cifar10_int8qdq", "mlperf_dscnn_kws_int8qdq"])
def test_real_int8_networks_run_as_in_onnx_runtime(name: str) -> None:
    folder = os.environ.get("BBS_DATA")
    if not folder:
        pytest.skip("BBS_DATA does not name the folder of real networks")
    model = admit.load(Path(folder) / "models" / f"{name}.onnx")
    network = cut.partition(model, name)
    assert len(network.layers) == sum(node.op_type in ARRAY_OPERATORS for node in model.graph.node)
    data = "resnet8_cifar10" if "resnet8" in name else "dscnn_kws"
    x = np.load(Path(folder) / "datasets" / f"{data}_test.npz")["x"][:64]
    ours = run_network(network, {network.inputs[0]: x})[network.outputs[0]]
    assert np.array_equal(ours.argmax(1), runtime.predict(model, x).argmax(1))


@pytest.mark.parametrize("between", ["Clip", "Reshape", "Transpose"])
def test_codes_computed_from_constants_are_weights(between: str) -> None:
    """Brevitas clips its int8 constants before DequantizeLinear; others reshape or transpose them."""
    model = residual_net()
    expected = cut.partition(model, "net").layers
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    conv = next(node for node in graph.node if node.op_type == "Conv")
    dequantize = next(node for node in graph.node if conv.input[1] in node.output)
    name, codes = dequantize.input[0], numpy_helper.to_array(constants[dequantize.input[0]])
    extra: dict[str, Any] = {}
    if between == "Clip":
        inputs: dict[str, Any] = {"low": np.int8(-127), "high": np.int8(127)}
    elif between == "Reshape":
        inputs = {"shape": np.array(codes.shape, np.int64)}
        constants[name].CopyFrom(numpy_helper.from_array(codes.reshape(-1), name))
    else:
        inputs, extra = {}, {"perm": [1, 0, 2, 3]}
        constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(codes.transpose(1, 0, 2, 3)), name))
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), key) for key, value in inputs.items())
    graph.node.insert(0, helper.make_node(between, [name, *inputs], ["codes"], "between", **extra))
    dequantize.input[0] = "codes"
    layers = cut.partition(model, "net").layers
    assert [layer.name for layer in layers] == [layer.name for layer in expected]
    assert all(np.array_equal(a.weights, b.weights) for a, b in zip(layers, expected, strict=True))


def test_a_segment_copies_what_has_a_constant_scale() -> None:
    b = Builder(1)
    codes = b.node("Cast", "x", to=TensorProto.INT8)
    own = b.node("DequantizeLinear", codes, b.constant(np.float32(0.5)))
    computed = b.node("DequantizeLinear", codes, b.node("ReduceMax", "x", keepdims=0))
    graph = Graph.of(b.model({"x": ["N", 4]}, b.node("Add", own, computed)))
    assert [cut.is_copied(graph, graph.producers[name]) for name in (own, computed, codes)] == [True, False, False]


def test_nodes_of_one_name_get_their_own() -> None:
    b = Builder(1)
    first = b.node("Relu", "x")
    second = b.node("Neg", first)
    for node in b.nodes:
        node.name = "twice"
    model = b.model({"x": ["N", 4]}, second)
    tidy(model)
    assert [node.name for node in model.graph.node] == ["twice", f"twice_{second}"]


def test_a_sequence_is_read_behind_a_layer() -> None:
    """It was between two host segments, whose inputs had to be tensors."""
    b = Builder(9)
    weights = b.constant(b.rng.normal(size=(3, 3)).astype(np.float32))
    parts = b.node("SplitToSequence", "x", b.constant(np.array(3)), axis=1)
    first, second = (b.node("SequenceAt", parts, b.constant(np.array(place))) for place in (0, 1))
    hidden = b.node("MatMul", first, weights)
    every = b.node("SequenceInsert", parts, b.node("Mul", b.node("Relu", hidden), second))
    model = b.model({"x": ["N", 6]}, b.node("ConcatFromSequence", every, axis=1))
    x = b.rng.normal(size=(20, 6)).astype(np.float32)
    quantized = quantize.quantize(model, x).model
    network = cut.partition(quantized, "net")
    assert len(network.layers) == 1 and len(network.steps) == 3
    (name,) = network.outputs
    got = run_network(network, {"x": x[:1]}, reference.run_layer)[name]
    assert np.abs(got - runtime.predict(quantized, {"x": x[:1]})).max() < 0.1
