"""Networks as published: sizes of open axes, inputs without a batch axis, functions, maps, selecting inputs, loops."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.api.compress import compress
from flow.api.inspect import inspect
from flow.errors import FlowError
from flow.frontend import admit, quantize
from flow.frontend.entry import checks, intake, load
from flow.frontend.int8 import cut
from flow.network import reference
from flow.network.run import run_network
from flow.onnxtools import runtime
from flow.onnxtools.graph import graph_inputs
from flow.onnxtools.shapes import sample_shapes
from tests.helpers import decoders
from tests.helpers.nets import Builder, float_net, one_node_net, samples

Shapes = dict[str, tuple[int, ...]]


def admitted(model: onnx.ModelProto, shapes: Shapes | None = None, **arrays: Any) -> onnx.ModelProto:
    return admit.admit(load.from_memory(model), "net", shapes or {}, [arrays] if arrays else []).model


def sizes(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    return {v.name: [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim] for v in graph_inputs(model)}


def answer(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> Any:
    return next(iter(runtime.run(model, feeds).values()))


# -------------------------------------------------------------------------------- sizes


def picture_net(*shape: Any) -> onnx.ModelProto:
    b = Builder(3)
    weights = b.constant(b.rng.normal(size=(4, 3, 3, 3)).astype(np.float32))
    return b.model({"x": list(shape)}, b.node("Relu", b.node("Conv", "x", weights)), rank=4)


def test_open_axes_get_the_sizes_asked_for() -> None:
    model = picture_net("N", 3, "height", "width")
    assert sizes(admitted(model, {"x": (1, 3, 20, 24)})) == {"x": ["N", 3, 20, 24]}
    assert sizes(admitted(model, {"height": (20,), "width": (24,)})) == {"x": ["N", 3, 20, 24]}


def test_open_axes_get_the_sizes_of_the_samples() -> None:
    model = picture_net("N", 3, "height", "width")
    assert sizes(admitted(model, x=np.zeros((5, 3, 8, 9), np.float32))) == {"x": ["N", 3, 8, 9]}
    assert sizes(admitted(model, {"width": (12,)}, x=np.zeros((5, 3, 8, 9), np.float32))) == {"x": ["N", 3, 8, 12]}


@pytest.mark.parametrize("unknown", ["?", "-1", "None", ""])
def test_a_word_for_any_size_is_no_symbol(unknown: str) -> None:
    """As Paddle's exporter writes "?" for every open axis."""
    model = picture_net("N", 3, unknown, unknown)
    assert sizes(admitted(model, x=np.zeros((5, 3, 8, 9), np.float32))) == {"x": ["N", 3, 8, 9]}
    assert sizes(admitted(model, {"x": (1, 3, 8, 9)})) == {"x": ["N", 3, 8, 9]}
    with pytest.raises(FlowError, match=r"axis 2 of 'x' in 'net' is .*; give --shape x=1,3,N,N, or samples"):
        admitted(model)


def test_a_symbol_is_one_size() -> None:
    model = picture_net("N", 3, "size", "size")
    assert sizes(admitted(model, {"size": (8,)})) == {"x": ["N", 3, 8, 8]}
    assert sizes(admitted(model, x=np.zeros((5, 3, 8, 8), np.float32))) == {"x": ["N", 3, 8, 8]}
    assert sizes(admitted(model, {"size": (9,)}, x=np.zeros((5, 3, 8, 8), np.float32))) == {"x": ["N", 3, 9, 9]}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, r"axis 2 of 'x' .* is 'height'; give --shape x=1,3,N,N, or samples"),
        ({"height": (8,)}, "axis 3 of 'x'"),
        ({"x": (1, 3, 8)}, "'x' .* has 4 axes, but --shape gives 3"),
        ({"x": (1, 4, 8, 8)}, "axis 1 .* is fixed to 3, but --shape gives 4"),
        ({"height": (8,)}, "give --shape x=1,3,8,N, or samples"),
        ({"heigth": (8,)}, "'heigth' is no input and no open axis .* one of 'N', 'height', 'width', 'x'"),
    ],
)
def test_a_size_that_is_missing_or_does_not_fit_is_named(shapes: Shapes, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        admitted(picture_net("N", 3, "height", "width"), shapes)


def test_samples_that_do_not_fit_are_named() -> None:
    model = picture_net("N", 3, "height", "width")
    with pytest.raises(FlowError, match="must name every input, but 'x' is missing among 'image', 'y'; add an array"):
        admitted(model, image=np.zeros((5, 3, 8, 9), np.float32), y=np.zeros(5))
    with pytest.raises(FlowError, match=r"shape \['samples', 3, 'height', 'width'\], but they have \[5, 8, 9, 3\]"):
        admitted(model, x=np.zeros((5, 8, 9, 3), np.float32))


def test_sizes_that_the_network_does_not_accept_are_blamed() -> None:
    b = Builder(3)
    half = b.node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2])
    back = b.node("Concat", "x", b.node("Resize", half, "", b.constant(np.array([1, 1, 2, 2], np.float32))), axis=1)
    model = b.model({"x": ["N", 1, "height", "width"]}, back, 4)
    assert sizes(admitted(model, {"x": (1, 1, 8, 6)})) == {"x": ["N", 1, 8, 6]}
    with pytest.raises(
        FlowError, match=r"'net' does not run with 'x' \['N', 1, 8, 7\]: .*; give other sizes with --shape"
    ):
        admitted(model, {"x": (1, 1, 8, 7)})


def test_a_network_that_declares_its_sizes_stays_as_it_is() -> None:
    for model in (float_net(), float_net(1)):
        assert admitted(model) == load.from_memory(model)


def test_a_network_of_integer_operators_with_open_sizes_is_taken() -> None:
    b = Builder(10)
    scale, zero = b.constant(np.float32(0.05)), b.constant(np.uint8(128))
    weights = b.constant(b.rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8))
    pair = (b.constant(np.float32(0.01)), b.constant(np.int8(0)))
    x = b.node("QuantizeLinear", "x", scale, zero)
    y = b.node("QLinearConv", x, scale, zero, weights, *pair, b.constant(np.float32(0.5)), zero)
    model = b.model(
        {"x": ["N", 3, "height", "width"]}, b.node("DequantizeLinear", y, b.constant(np.float32(0.5)), zero), 4
    )
    taken = admitted(model, {"x": (1, 3, 8, 9)})
    onnx.checker.check_model(taken)
    assert [(node.op, node.target) for node in inspect(model, shape={"x": (1, 3, 8, 9)}).nodes] == [("Conv", "array")]


# -------------------------------------------------------------------------------- the batch


def stateful_net() -> onnx.ModelProto:
    """input [batch, 6], state [2, batch, 4], gain [] -> Tanh((input @ w + state[0]) * gain + state[1])."""
    b = Builder(4)
    weights = b.constant(b.rng.normal(size=(6, 4)).astype(np.float32))
    parts = [b.node("Gather", "state", b.constant(np.int64(i)), axis=0) for i in (0, 1)]
    y = b.node("Mul", b.node("Add", b.node("MatMul", "input", weights), parts[0]), "gain")
    y = b.node("Tanh", b.node("Add", y, parts[1]))
    return b.model({"input": ["batch", 6], "state": [2, "batch", 4], "gain": []}, y)


def test_inputs_without_a_batch_axis_get_one_in_front() -> None:
    model = stateful_net()
    taken = admitted(model)
    assert sizes(taken) == {"input": [1, 6], "state": [1, 2, 1, 4], "gain": [1]}
    rng = np.random.default_rng(1)
    feeds = {"input": rng.normal(size=(1, 6)), "state": rng.normal(size=(2, 1, 4)), "gain": np.array(0.7)}
    feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
    with pytest.raises(FlowError, match="'gain' of 'net' is a single number and has no shape"):
        admitted(model, {"gain": (1,)})
    framed = feeds | {name: feeds[name][None] for name in ("state", "gain")}
    assert np.array_equal(answer(model, feeds), answer(taken, framed))


def test_a_network_with_a_state_is_compressed(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    arrays = {"input": (9, 6), "state": (9, 2, 1, 4), "gain": (9,)}
    calibration = {name: rng.normal(size=shape).astype(np.float32) for name, shape in arrays.items()}
    report = compress(stateful_net(), tmp_path / "o.onnx", calibration=calibration)
    assert [layer.op for layer in report.layers] == ["MatMul"]
    assert min(output.sqnr or 0 for output in report.summary.fidelity.outputs) > 25


def batched_net(flatten: str) -> onnx.ModelProto:
    """[8, 3, 6, 6] -> Conv -> rows by `flatten` -> Gemm, or mixed over the batch."""
    b = Builder(5)
    weights = b.constant(b.rng.normal(size=(4, 3, 3, 3)).astype(np.float32))
    y = b.node("Conv", "x", weights)
    if flatten == "Flatten":
        y = b.node("Flatten", y)
    else:
        y = b.node("Reshape", y, b.constant(np.array([8, -1] if flatten == "open" else [8, 64])))
    y = b.node("MatMul", y, b.constant(b.rng.normal(size=(64, 5)).astype(np.float32)))
    if flatten == "mixed":
        y = b.node("Sub", y, b.node("ReduceMean", y, axes=[0]))
    return b.model({"x": [8, 3, 6, 6]}, y)


@pytest.mark.parametrize("flatten", ["Flatten", "open", "fixed"])
def test_a_fixed_batch_becomes_one(flatten: str) -> None:
    model = batched_net(flatten)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(model.graph.output[0].name, TensorProto.FLOAT, [8, 5]))
    taken = admitted(model)
    assert sizes(taken) == {"x": [1, 3, 6, 6]}
    assert [dim.dim_value for dim in taken.graph.output[0].type.tensor_type.shape.dim] == [0, 0]  # no longer declared
    x = samples(taken, 8)["x"]
    together = np.concatenate([answer(taken, {"x": x[i : i + 1]}) for i in range(8)])
    assert np.allclose(together, answer(model, {"x": x}), rtol=1e-5, atol=1e-5)


def test_a_batch_whose_samples_depend_on_each_other_is_one_sample(tmp_path: Path) -> None:
    model = batched_net("mixed")
    taken = admitted(model)
    assert sizes(taken) == {"x": [1, 8, 3, 6, 6]}
    x = samples(taken, 4)["x"]
    assert np.array_equal(answer(taken, {"x": x[:1]}), answer(model, {"x": x[0]}))
    report = compress(model, tmp_path / "o.onnx", calibration=x)
    assert [layer.op for layer in report.layers] == ["Conv", "MatMul"]
    assert min(output.sqnr or 0 for output in report.summary.fidelity.outputs) > 25


# -------------------------------------------------------------------------------- other forms


@pytest.mark.parametrize("shape", [(2**31, 4), (2, 2**62), (2, 2**40)])
def test_a_batch_that_no_memory_holds_is_refused(shape: tuple[int, int], tmp_path: Path) -> None:
    onnx.save(one_node_net(shape=shape), tmp_path / "net.onnx")
    with pytest.raises(FlowError, match="a tensor must take less than 1 GiB for one sample"):
        inspect(tmp_path / "net.onnx")


def test_a_batch_of_nothing_is_refused(tmp_path: Path) -> None:
    onnx.save(one_node_net("Clip", shape=(0, 4)), tmp_path / "net.onnx")
    with pytest.raises(FlowError, match=r"a batch must have samples, but that of input 'x' of '.*' is declared as 0"):
        inspect(tmp_path / "net.onnx")


def test_nodes_out_of_order_are_sorted() -> None:
    model = float_net()
    turned = onnx.ModelProto()
    turned.CopyFrom(model)
    nodes = list(turned.graph.node)[::-1]
    del turned.graph.node[:]
    turned.graph.node.extend(nodes)
    assert admitted(turned) == admitted(model)


def test_functions_are_inlined_and_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(name: str, inner: str, domain: str) -> onnx.FunctionProto:
        nodes = [
            helper.make_node(inner, ["a"], ["b"], "first", domain=domain),
            helper.make_node(inner, ["b"], ["c"], "second", domain=domain),
        ]
        return helper.make_function("own", name, ["a"], ["c"], nodes, [helper.make_opsetid("", 17), own])

    own = helper.make_opsetid("own", 1)
    for depth in (3, 40):
        model = one_node_net(f"f{depth - 1}")
        model.graph.node[0].domain = "own"
        model.opset_import.append(own)
        model.functions.append(doubled("f0", "Relu", ""))
        model.functions.extend(doubled(f"f{i}", f"f{i - 1}", "own") for i in range(1, depth))
        if depth == 3:
            assert [node.op_type for node in admitted(model).graph.node] == ["Relu"] * 8
            with monkeypatch.context() as patch:
                patch.setattr(intake, "MOST_NODES", 15)  # 8, and the calls: 1, 2 and 4
                admitted(model)
                patch.setattr(intake, "MOST_NODES", 14)
                with pytest.raises(FlowError, match="may have 14 nodes, but 'net' has 15"):
                    admitted(model)
        else:
            with pytest.raises(FlowError, match="may have 100,000 nodes, but 'net' has"):
                admitted(model)


def test_a_map_of_classes_is_the_tensor_it_is_made_of() -> None:
    b = Builder(6)
    y = b.node("Softmax", b.node("MatMul", "x", b.constant(b.rng.normal(size=(4, 3)).astype(np.float32))))
    zipped = b.node("ZipMap", y, domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
    model = b.model({"x": ["N", 4]}, zipped)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    model.graph.output[0].CopyFrom(helper.make_value_info(zipped, helper.make_sequence_type_proto(kind)))
    feeds = samples(model, 5)
    maps = answer(model, feeds)
    assert np.array_equal(answer(admitted(model), feeds), [[row[i] for i in range(3)] for row in maps])


def selecting_net() -> onnx.ModelProto:
    """x [batch, 'n'], rate [] -> If rate == 8: x @ [4, 3], else x @ [6, 3]: no size of x fits both branches."""
    rng = np.random.default_rng(7)
    branches = {}
    for branch, size in (("then_branch", 4), ("else_branch", 6)):
        weights = numpy_helper.from_array(rng.normal(size=(size, 3)).astype(np.float32), "w")
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
        branches[branch] = helper.make_graph([node], branch, [], [result], [weights])
    nodes = [
        helper.make_node("Equal", ["rate", "eight"], ["is_eight"]),
        helper.make_node("If", ["is_eight"], ["y"], "choice", **branches),
    ]
    values = [helper.make_tensor_value_info("x", 1, ["N", "n"]), helper.make_tensor_value_info("rate", 7, [])]
    result = helper.make_tensor_value_info("y", 1, ["N", 3])
    eight = numpy_helper.from_array(np.array(8), "eight")
    graph = helper.make_graph(nodes, "net", values, [result], [eight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(("rate", "size"), [(8, 4), (16, 6)])
def test_an_input_that_selects_a_branch_is_a_constant(rate: int, size: int, tmp_path: Path) -> None:
    x = np.random.default_rng(8).normal(size=(7, size)).astype(np.float32)
    arrays = {"x": x, "rate": np.full(7, rate)}
    found = inspect(selecting_net(), calibration=arrays)
    assert found.notes == (f"Input 'rate' is the constant {rate}, as in all samples.",)
    assert [(node.op, node.target, node.macs) for node in found.nodes] == [("MatMul", "array", 3 * size)]
    report = compress(selecting_net(), tmp_path / "o.onnx", calibration=arrays)
    assert f"Input 'rate' is the constant {rate}, as in all samples." in report.notes
    assert min(output.sqnr or 0 for output in report.summary.fidelity.outputs) > 30


def test_an_input_that_selects_and_has_no_samples_is_told() -> None:
    model = selecting_net()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    branch = next(entry.g for entry in model.graph.node[1].attribute if entry.name == "else_branch")
    branch.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 3), np.float32), "w"))
    found = inspect(model)
    assert found.macs == 0 and found.notes[0].startswith("Input 'rate' selects a branch of an If, which stays on the ")


def test_an_input_that_selects_differently_stays_an_input() -> None:
    arrays = {"x": np.zeros((2, 4), np.float32), "rate": np.array([8, 8])}
    other = {"x": np.zeros((2, 4), np.float32), "rate": np.array([8, 16])}
    model = load.from_memory(selecting_net())
    assert "rate" not in sizes(admit.admit(model, "net", {}, [arrays]).model)
    # ONNX Runtime sees both branches, and one does not fit
    with pytest.raises(FlowError, match="does not run with .*; 'rate' selects a branch of an If: pass --calibration"):
        admit.admit(model, "net", {}, [arrays, other])


def test_a_loop_that_does_not_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LONGEST", 0.5)

    def looping(limit: int | None) -> onnx.ModelProto:
        true = numpy_helper.from_array(np.array(True), "true")
        flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("c", "c2")]
        rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("v", "v2")]
        nodes = [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Relu", ["v"], ["v2"])]
        number = helper.make_tensor_value_info("i", TensorProto.INT64, [])
        body = helper.make_graph(nodes, "body", [number, flags[0], rows[0]], [flags[1], rows[1]])
        counts = [] if limit is None else [numpy_helper.from_array(np.array(limit), "count")]
        node = helper.make_node("Loop", ["count" if counts else "", "true", "x"], ["y"], "again", body=body)
        values = [helper.make_tensor_value_info(name, 1, ["N", 4]) for name in ("x", "y")]
        graph = helper.make_graph([node], "net", values[:1], values[1:], [true, *counts])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    assert admitted(looping(5)) == load.from_memory(looping(5))
    with pytest.raises(FlowError, match="a network must end, but loop 'again' of 'net' runs for more than"):
        admitted(looping(None))


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_dilation_with_auto_pad_is_taken(mode: str) -> None:
    """ONNX Runtime refuses it; ONNX defines it."""
    b = Builder(9)
    weights = b.constant(b.rng.normal(size=(2, 3, 3, 2)).astype(np.float32))
    y = b.node("Conv", "x", weights, auto_pad=mode, dilations=[2, 3], strides=[2, 1])
    taken = admitted(b.model({"x": ["N", 3, 9, 8]}, y, rank=4))
    x = samples(taken, 1)["x"]
    total = (4, 3)  # of rows: (5 - 1) * 2 + 2 * 2 + 1 - 9; of columns: (8 - 1) + 3 + 1 - 8
    begins = [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in total]
    padded = np.pad(x, [(0, 0), (0, 0), *((a, t - a) for a, t in zip(begins, total, strict=True))])
    w = numpy_helper.to_array(b.constants[0])
    expected = [
        [(w * padded[0, :, None, 2 * r : 2 * r + 5 : 2, c : c + 4 : 3].swapaxes(0, 1)).sum((1, 2, 3)) for c in range(8)]
        for r in range(5)
    ]
    assert np.allclose(answer(taken, {"x": x})[0], np.moveaxis(np.array(expected), -1, 0), rtol=1e-4, atol=1e-4)


# -------------------------------------------------------------------------------- operators of ONNX Runtime's own


def test_a_network_that_runs_on_one_sample_alone_gets_a_batch_of_one() -> None:
    """GroupQueryAttention takes several tokens behind a cache only so; with and without samples."""
    model, given = decoders.decoder(), decoders.feeds(3, 1)
    for shapes, arrays in (({}, given), ({"tokens": (1, 4), "mask": (1, 7), "past": (3,)}, {})):
        found = admit.admit(load.from_memory(model), "net", shapes, [arrays] if arrays else [])
        assert [note for note in found.notes if "The batch is 1 now: ONNX Runtime does not run" in note]
        assert {name: size[0] for name, size in sizes(found.model).items()} == dict.fromkeys(given, 1)
        assert len(runtime.predict(found.model, given)) == 3
    one = {name: array[:, :1] if name == "tokens" else array for name, array in given.items()}
    one["mask"] = one["mask"][:, :4]
    assert sizes(admitted(model, None, **one))["tokens"] == ["N", 1]  # one token of many samples: nothing changes


def test_an_operator_that_only_onnx_runtime_knows_in_the_standard_domain() -> None:
    """SimplifiedLayerNormalization is taken, also beside packed weights; what nobody knows is refused."""
    b = Builder(2)
    y = b.node("SimplifiedLayerNormalization", "x", b.constant(np.ones(16, np.float32)), axis=-1)
    codes = b.constant(b.rng.integers(0, 256, (5, 1, 8)).astype(np.uint8))
    z = b.node("MatMulNBits", y, codes, b.constant(np.ones(5, np.float32)), domain="com.microsoft", K=16, N=5, bits=4,
               block_size=16)  # fmt: skip
    model = b.model({"x": ["N", 16]}, z)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    want = runtime.predict(model, samples(model, 3))
    found = admitted(model)
    assert "MatMulNBits" not in {node.op_type for node in found.graph.node}
    assert np.allclose(runtime.predict(found, samples(model, 3)), want, rtol=1e-4, atol=1e-4)
    model.graph.node[0].op_type = "SimplifiedNothing"
    with pytest.raises(FlowError, match="No Op registered for SimplifiedNothing"):
        admitted(model)


def test_a_cache_may_be_empty() -> None:
    """Samples of a decoder at the beginning of its text have a past of no tokens."""
    b = Builder(1)
    y = b.node("MatMul", b.node("Concat", "past", "x", axis=1), b.constant(np.ones((4, 5), np.float32)))
    model = b.model({"past": ["N", "past", 4], "x": ["N", "length", 4]}, y, rank=3)
    given = {"past": np.zeros((3, 0, 4), np.float32), "x": np.ones((3, 2, 4), np.float32)}
    found = admitted(model, None, **given)
    dims = found.graph.input[0].type.tensor_type.shape.dim
    assert dims[1].HasField("dim_value") and [dim.dim_value for dim in dims][1:] == [0, 4]
    assert (runtime.predict(found, given) == 4).all()
    with pytest.raises(FlowError, match="axis 1 of 'past' in 'net' is 'past'; give --shape past=1,N,4"):
        admitted(model, {"length": (2,)})


# -------------------------------------------------------------------------------- what ONNX Runtime takes as it is


def sparse_net(places: list[Any], as_node: bool) -> onnx.ModelProto:
    """A MatMul whose matrix [8, 6] has four values that are not zero."""
    values = numpy_helper.from_array(np.array([1, -2, 3, 4], np.float32), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(places, np.int64), "at"), [8, 6])
    b = Builder(1)
    if as_node:
        b.nodes.append(helper.make_node("Constant", [], ["w"], "w", sparse_value=sparse))
    model = b.model({"x": ["N", 8]}, b.node("MatMul", "x", "w"))
    model.graph.sparse_initializer.extend([] if as_node else [sparse])
    return model


@pytest.mark.parametrize("as_node", [False, True], ids=["initializer", "node"])
@pytest.mark.parametrize("places", [[1, 8, 20, 47], [[0, 1], [1, 2], [3, 2], [7, 5]]], ids=["linear", "axes"])
def test_sparse_weights_are_dense_ones_of_a_layer(places: list[Any], as_node: bool) -> None:
    """As an initializer a partition without end; as a node no constant."""
    dense = np.zeros((8, 6), np.float32)
    dense[tuple(np.array([divmod(p, 6) if isinstance(p, int) else p for p in places]).T)] = [1, -2, 3, 4]
    x = np.random.default_rng(0).normal(size=(9, 8)).astype(np.float32)
    model = admitted(sparse_net(places, as_node))
    assert np.allclose(answer(model, {"x": x}), x @ dense, atol=1e-5)
    assert len(cut.partition(quantize.quantize(model, x).model, "net").layers) == 1


@pytest.mark.parametrize("places", [[1, 8, 20, 48], [[0, 1], [1, 2], [3, 2], [8, 5]], [1, 2]], ids=str)
def test_sparse_weights_that_do_not_fit_are_refused(places: list[Any]) -> None:
    with pytest.raises(FlowError, match="sparse constants must hold values and their indices, but 'w' does not"):
        admitted(sparse_net(places, False))


@pytest.mark.parametrize("field", ["type", "shape"])
def test_an_output_need_not_be_declared(field: str) -> None:
    model = picture_net("N", 3, 8, 8)
    value = model.graph.output[0]
    (value if field == "type" else value.type.tensor_type).ClearField(field)
    taken = admitted(model)
    assert len(taken.graph.output[0].type.tensor_type.shape.dim) == 4
    assert answer(taken, {"x": np.zeros((2, 3, 8, 8), np.float32)}).shape == (2, 4, 6, 6)


def test_of_constants_of_one_name_the_last_one_counts() -> None:
    model = picture_net("N", 3, 8, 8)
    first = model.graph.initializer[0]
    model.graph.initializer.insert(0, numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), first.name))
    x = np.ones((1, 3, 8, 8), np.float32)
    assert answer(admitted(model), {"x": x}).max() > 0


def test_declared_shapes_that_are_wrong_do_not_count() -> None:
    b = Builder(2)
    weights = b.constant(b.rng.normal(size=(4, 3, 3, 3)).astype(np.float32))
    y = b.node("Conv", "x", weights)
    model = b.model({"x": ["N", 3, 8, 8]}, b.node("Neg", y), rank=4)
    model.graph.value_info.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, ["N", 4, 99, 6]))
    x = b.rng.normal(size=(9, 3, 8, 8)).astype(np.float32)
    network = cut.partition(quantize.quantize(admitted(model), x).model, "net")
    (name,) = network.outputs
    assert run_network(network, {"x": x[:1]}, reference.run_layer)[name].shape == (1, 4, 6, 6)


@pytest.mark.parametrize("op", ["SplitToSequence", "Optional"])
def test_an_output_that_is_no_tensor_is_left_out(op: str) -> None:
    b = Builder(3)
    y = b.node("MatMul", "x", b.constant(b.rng.normal(size=(8, 6)).astype(np.float32)))
    model = b.model({"x": ["N", 8]}, y)
    other = b.node(op, y)
    model.graph.node.append(b.nodes[-1])
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    made = helper.make_sequence_type_proto if op == "SplitToSequence" else helper.make_optional_type_proto
    model.graph.output.append(helper.make_value_info(other, made(tensor)))
    found = admit.admit(load.from_memory(model), "net")
    assert [value.name for value in found.model.graph.output] == [y]
    assert found.notes == [f"Output '{other}' is no tensor, and left out."]
    del model.graph.output[0]
    kind = "sequence" if op == "SplitToSequence" else "optional"
    with pytest.raises(FlowError, match=f"an output must be a tensor, but '{other}' of 'net' is a {kind}"):
        admitted(model)


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.BFLOAT16])
def test_a_network_of_a_type_that_onnx_runtime_has_no_kernels_of(kind: int) -> None:
    model = picture_net("N", 3, 8, 8)
    wanted = answer(model, {"x": np.ones((2, 3, 8, 8), np.float32)})
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = kind
    found = admit.admit(load.from_memory(model), "net")
    assert sum("is computed in float32: ONNX Runtime lacks" in note for note in found.notes) == 1
    assert sum("NumPy has no bfloat16" in note for note in found.notes) == (kind == TensorProto.BFLOAT16)
    x = np.ones((2, 3, 8, 8), np.float64 if kind == TensorProto.DOUBLE else np.float32)
    assert np.abs(answer(found.model, {"x": x}) - wanted).max() < 0.05


@pytest.mark.parametrize("batch", ["N", 1])
def test_a_network_of_operators_that_onnx_runtime_has_no_more(batch: Any) -> None:
    """Sums and products of opset 6, which ONNX's converter takes if all sizes are known."""
    b = Builder(4)
    weights, factors, terms = (np.asarray(b.rng.normal(size=size), np.float32) for size in ((4, 3, 3, 3), 4, 6))
    y = b.node("Conv", "x", b.constant(weights))
    y = b.node("Mul", b.node("Add", y, b.node("Relu", y)), b.constant(factors), broadcast=1, axis=1)
    y = b.node("Sub", y, b.constant(terms), broadcast=1)
    model = b.model({"x": [batch, 3, 8, 8]}, y, rank=4, opset=6)
    found = admit.admit(load.from_memory(model), "net")
    assert "The network given is computed as one of opset 13: ONNX Runtime lacks older operators." in found.notes
    size = 2 if batch == "N" else 1
    x = b.rng.normal(size=(size, 3, 8, 8)).astype(np.float32)
    b = Builder(4)
    sums = answer(b.model({"x": ["N", 3, 8, 8]}, b.node("Conv", "x", b.constant(weights)), rank=4), {"x": x})
    wanted = (sums + np.maximum(sums, 0)) * factors[:, None, None] - terms
    assert np.allclose(answer(found.model, {"x": x}), wanted, atol=1e-5)


@pytest.mark.parametrize("onesided", [None, 0, 1])
def test_a_spectrum_has_the_size_that_onnx_runtime_gives_it(onesided: int | None) -> None:
    b = Builder(6)
    attributes = {} if onesided is None else {"onesided": onesided}
    window = b.constant(np.hanning(16).astype(np.float32))
    spectrum = b.node("STFT", "x", b.constant(np.array(8)), window, **attributes)
    model = b.model({"x": ["N", 64, 1]}, b.node("Mul", spectrum, spectrum), rank=4)
    taken = admitted(model)
    bins = 16 if onesided == 0 else 9
    assert sample_shapes(taken)[spectrum] == (1, 7, bins, 2)
    assert answer(taken, {"x": np.ones((2, 64, 1), np.float32)}).shape == (2, 7, bins, 2)


def test_what_onnx_runtime_laid_out_for_one_processor_is_told(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "laid_out.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(float_net().SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = admit.admit(load.read(tmp_path / "laid_out.onnx"), "net")
    if not any(node.domain == admit.BLOCKED for node in found.model.graph.node):
        pytest.skip("ONNX Runtime has no such operators on this processor")
    assert any("save it with ORT_ENABLE_EXTENDED" in note for note in found.notes)
