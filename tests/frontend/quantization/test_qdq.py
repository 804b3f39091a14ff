"""Static quantization: what came is what is quantized, to as many decibels as eight bits allow, for every output."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.errors import FlowError
from flow.frontend import quantize
from flow.frontend.int8 import cut
from flow.frontend.preparation.prepare import prepare
from flow.frontend.quantization.plan import Plan
from flow.frontend.quantization.ranges import Range, measure
from flow.frontend.quantization.scales import Scale, channel_scales, scale_of, weight_codes, weight_scales
from flow.network import reference
from flow.network.model import by_weights
from flow.onnxtools import runtime
from flow.onnxtools.graph import Graph
from tests.helpers.heads import float_attention
from tests.helpers.nets import Builder
from tests.helpers.networks import Floats, feeds
from tests.helpers.tokens import Tokens, masked, mixer, vit

Nodes = list[onnx.NodeProto]
Constants = dict[str, NDArray[np.float32]]


def network(nodes: Nodes, constants: Constants, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    """A network over x [N, 4, 6, 6]."""
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 6, 6])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conv(number: int, data: str, output: str, bias: str = "") -> onnx.NodeProto:
    inputs = [data, f"w{number}", bias or f"b{number}"]
    return helper.make_node("Conv", inputs, [output], f"c{number}", pads=[1, 1, 1, 1])


def weights(count: int) -> Constants:
    rng = np.random.default_rng(3)
    found = {f"w{i}": np.asarray(rng.normal(0, 0.3, (4, 4, 3, 3)), np.float32) for i in range(1, count + 1)}
    return found | {f"b{i}": np.asarray(rng.normal(0, 0.5, 4), np.float32) for i in range(1, count + 1)}


def read_twice() -> onnx.ModelProto:
    """A convolution that a Relu reads, and that is an output, too."""
    nodes = [conv(1, "x", "a"), helper.make_node("Relu", ["a"], ["r"], "relu"), conv(2, "r", "y")]
    return network(nodes, weights(2), ("y", "a"))


def read_by_a_layer() -> onnx.ModelProto:
    """A convolution that another one reads, and that is an output, too."""
    return network([conv(1, "x", "a"), conv(2, "a", "y")], weights(2), ("y", "a"))


def clipped(low: float, high: float) -> onnx.ModelProto:
    limits = {"low": np.array(low, np.float32), "high": np.array(high, np.float32)}
    nodes = [conv(1, "x", "a"), helper.make_node("Clip", ["a", "low", "high"], ["y"], "clip")]
    return network(nodes, weights(1) | limits)


def read_in_a_body() -> onnx.ModelProto:
    """The body of an If reads the result of a Relu."""

    def branch(operator: str) -> onnx.GraphProto:
        node = helper.make_node(operator, ["r"], [f"{operator}_out"], f"{operator}_node")
        return helper.make_graph(
            [node], operator, [], [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)]
        )

    nodes = [
        conv(1, "x", "a"), helper.make_node("Relu", ["a"], ["r"], "relu"), conv(2, "r", "z"),
        helper.make_node("ReduceMax", ["x"], ["largest"], "largest", keepdims=0),
        helper.make_node("Greater", ["largest", "zero"], ["positive"], "positive"),
        helper.make_node("If", ["positive"], ["i"], "if", then_branch=branch("Identity"), else_branch=branch("Neg")),
        helper.make_node("Add", ["z", "i"], ["y"], "add"),
    ]  # fmt: skip
    return network(nodes, weights(2) | {"zero": np.zeros((), np.float32)})


def shared_bias(name: str) -> onnx.ModelProto:
    """Two convolutions share a bias, and another tensor has the name of a copy of it."""
    constants = weights(3)
    constants[name] = constants.pop("b3")
    nodes = [conv(1, "x", "a", "b1"), conv(2, "a", "c", "b1"), conv(3, "c", "y", name)]
    return network(nodes, constants)


def tied_weights() -> onnx.ModelProto:
    """An auto-encoder: the decoder multiplies with the encoder's matrix transposed."""
    rng = np.random.default_rng(0)
    constants = {
        "w": np.asarray(rng.normal(0, 0.2, (144, 12)), np.float32), "b": np.asarray(rng.normal(size=12), np.float32),
        "d": np.asarray(rng.normal(size=144), np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w", "b"], ["e"], "encode"), helper.make_node("Relu", ["e"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w", "d"], ["y"], "decode", transB=1),
    ]  # fmt: skip
    return network(nodes, constants)


def foreign_between() -> onnx.ModelProto:
    """An operator of another domain before a layer."""
    gelu = helper.make_node("QuickGelu", ["x"], ["a"], "gelu", domain="com.microsoft")
    model = network([gelu, conv(2, "a", "y")], weights(2))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


CASES: dict[str, tuple[Callable[[], onnx.ModelProto], int]] = {
    "read by an activation and as an output": (read_twice, 2),
    "read by a layer and as an output": (read_by_a_layer, 2),
    "Clip above zero": (lambda: clipped(0.5, 2.0), 1),
    "Clip below zero": (lambda: clipped(-1.5, -0.25), 1),
    "Clip of one side": (lambda: clipped(-0.5, 100.0), 1),
    "read in the body of an If": (read_in_a_body, 2),
    "a bias shared": (lambda: shared_bias("b12"), 3),
    "a bias shared, its copy's name taken": (lambda: shared_bias("b1_quantized"), 3),
    "tied weights": (tied_weights, 2),
    "an operator of another domain": (foreign_between, 1),
}


def decibels(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    real = wanted.astype(np.float64)
    return float(10 * np.log10(((real - real.mean()) ** 2).sum() / ((real - got) ** 2).sum()))


@pytest.mark.parametrize("unsigned", [False, True], ids=["int8", "uint8"])
@pytest.mark.parametrize("case", CASES)
def test_every_output_is_as_good_as_eight_bits_allow(case: str, unsigned: bool) -> None:
    make, layers = CASES[case]
    model = make()
    feeds = {"x": np.asarray(np.random.default_rng(1).normal(size=(24, 4, 6, 6)), np.float32)}
    made = quantize.quantize(model, feeds, unsigned).model
    wanted, got = runtime.run(model, feeds), runtime.run(made, feeds)
    for name in wanted:
        assert decibels(wanted[name], got[name]) > 30, name
    assert len(cut.partition(made, "net").layers) == layers


def test_a_layer_its_activation_and_one_quantizer_are_one_step() -> None:
    nodes = [conv(1, "x", "a"), helper.make_node("Relu", ["a"], ["r"], "relu"), conv(2, "r", "y")]
    feeds = {"x": np.asarray(np.random.default_rng(1).normal(size=(8, 4, 6, 6)), np.float32)}
    first, second = cut.partition(quantize.quantize(network(nodes, weights(2)), feeds).model, "net").layers
    assert first.output == second.input and first.clamp == (-128, 127)
    assert first.output_quantization is not None and first.output_quantization.zero_point == -128


@pytest.mark.parametrize(
    ("low", "high", "unsigned", "expected"),
    [
        (-1.0, 1.55, False, (0.01, -28)), (-1.0, 1.55, True, (0.01, 100)),
        (0.0, 2.55, False, (0.01, -128)), (0.5, 2.55, False, (0.01, -128)), (-2.55, -0.5, False, (0.01, 127)),
        (0.0, 0.0, False, (1.0, 0)), (0.0, 1e-40, False, (1.0, 0)),
    ],
)  # fmt: skip
def test_scales_hold_the_range_and_zero(low: float, high: float, unsigned: bool, expected: tuple[float, int]) -> None:
    found = scale_of(Range(np.float32(low), np.float32(high)), unsigned)
    assert found.scale == pytest.approx(expected[0]) and int(found.zero) == expected[1]
    assert isinstance(found, Scale)


def test_a_channel_that_is_all_bias_fits_32_bits() -> None:
    """Weights of 1e-9 beside a bias of 3: in units of 1e-9 / 127 x scale it would need 39 bits."""
    constants = weights(1)
    constants["w1"][2] = 1e-9
    constants["b1"][2] = 3.0
    model = network([conv(1, "x", "y")], constants)
    feeds = {"x": np.asarray(np.random.default_rng(1).normal(size=(24, 4, 6, 6)), np.float32)}
    made = quantize.quantize(model, feeds).model
    (layer,) = cut.partition(made, "net").layers
    reference.check_accumulator(layer)
    assert decibels(runtime.predict(model, feeds), runtime.predict(made, feeds)) > 30
    scales = channel_scales(np.array([127.0, 1e-9]), np.array([0.0, 3.0]), 0.01, 36)
    assert scales[0] == 1.0 and abs(3.0 / (float(scales[1]) * 0.01)) + 255 * 127 * 36 < 2**31


def test_activations_that_are_not_finite_are_refused() -> None:
    nodes = [conv(1, "x", "a"), helper.make_node("Mul", ["a", "huge"], ["b"], "mul"), conv(2, "b", "y")]
    model = network(nodes, weights(2) | {"huge": np.full(1, 3e38, np.float32)})
    feeds = {"x": np.asarray(np.random.default_rng(1).normal(size=(4, 4, 6, 6)), np.float32) * 100}
    with pytest.raises(FlowError, match="activations must be finite, but 'b' of network 'net' reaches -?inf"):
        quantize.quantize(model, feeds)


def test_ranges_are_those_of_all_samples() -> None:
    model = read_twice()
    feeds = {"x": np.asarray(np.random.default_rng(1).normal(size=(70, 4, 6, 6)), np.float32)}
    found = measure(model, ["x", "a", "r"], feeds)
    real = runtime.run(model, feeds)["a"]
    assert (found["a"].low, found["a"].high) == (real.min(), real.max())
    assert found["r"].low == 0 and found["r"].high == real.max()
    assert (found["x"].low, found["x"].high) == (feeds["x"].min(), feeds["x"].max())


def test_no_tensor_waits_for_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions keep to the file's order: a tensor whose range is taken at the end is kept to the end."""
    asked, made = runtime.session, list[onnx.ModelProto]()

    def seen(model: onnx.ModelProto) -> object:
        made.append(model)
        return asked(model)

    monkeypatch.setattr(runtime, "session", seen)
    names = ["a", "r"]
    measure(read_twice(), ["x", *names], {"x": np.ones((2, 4, 6, 6), np.float32)})
    nodes = list(made[0].graph.node)
    for name in names:
        place = next(number for number, node in enumerate(nodes) if name in node.output)
        behind = nodes[place + 1 : place + 3]
        assert [(node.op_type, *node.input) for node in behind] == [("ReduceMin", name), ("ReduceMax", name)]


@pytest.mark.parametrize("bits", [2, 3, 4, 7, 8])
@pytest.mark.parametrize("axis", [0, 1])
def test_weights_that_were_quantized_before_keep_their_codes(bits: int, axis: int) -> None:
    """Also if their channel does not have the largest code: weights of one scale, of a reduced range."""
    rng = np.random.default_rng(bits)
    codes = rng.integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1), (12, 40) if axis == 0 else (40, 12))
    values = (codes * np.float32(0.0123)).astype(np.float32)
    scales = weight_scales(values, axis, np.zeros(12), 0.05)
    assert np.array_equal(weight_codes(values, scales, axis), codes)
    np.testing.assert_allclose(scales, 0.0123, rtol=1e-6)


def test_other_weights_have_no_grid() -> None:
    """Neither real numbers nor a few weights, nor a scale that is too small for the bias."""
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, (5000, 9)).astype(np.float32)
    usual = channel_scales(np.abs(values).max(axis=1).astype(np.float64), np.zeros(5000), 0.05, 9)
    assert np.array_equal(weight_scales(values, 0, np.zeros(5000), 0.05), usual)
    few = np.array([[0.5, 1.0, 1.5]], np.float32)
    assert weight_scales(few, 0, np.zeros(1), 0.05)[0] == np.float32(1.5 / 127)
    even = np.full((1, 10), 1e-9, np.float32)
    assert weight_scales(even, 0, np.zeros(1), 0.05)[0] == np.float32(1e-9)
    assert weight_scales(even, 0, np.full(1, 1e3), 0.05)[0] > 1e-6


# -------------------------------------------------------------------------------- products of two activations
@pytest.mark.parametrize("unsigned", [False, True])
def test_products_of_two_activations_get_8_bits_if_they_are_wanted(unsigned: bool) -> None:
    """The Softmax between them, too, and the right operands zero in the middle of their codes; else neither."""
    prepared = prepare(float_attention())
    made = [quantize.from_float(prepared, feeds(prepared, 4), unsigned, products=each).model for each in (False, True)]
    for model, wanted in zip(made, (False, True), strict=True):
        graph = Graph.of(model)
        (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
        assert all(node.op_type == "QuantizeLinear" for node in graph.consumers[softmax.output[0]]) == wanted
        products = [node for node in model.graph.node if node.op_type == "MatMul" and is_product(graph, node)]
        assert len(products) == 2
        for node in products:
            zero = graph.constant(root(graph, node.input[1]).input[2])
            assert zero is not None
            assert (int(zero) == (128 if unsigned else 0)) or not wanted


def test_what_is_chosen_of_two_tensors_gets_8_bits_if_products_do() -> None:
    """And so does a condition, as a number; what is hidden by a large number has no place in 8 bits."""
    net = Floats(3)
    a, c = (net.conv("x", 3, 4, 1, relu=False) for _ in range(2))
    low = net.node("Where", net.node("Less", a, c), net.constant(np.float32(-1e9)), a)
    kept = net.node("Where", net.node("Less", c, a), c, net.constant(np.float32(0.5)))
    largest = net.node("Max", a, c)
    made = [net.conv(each, 4, 4, 1) for each in (net.node("Sigmoid", low), kept, largest)]
    prepared = prepare(net.model((3, 4, 4), *made))
    given = feeds(prepared, 8)
    for wanted in (False, True):
        graph = Graph.of(quantize.from_float(prepared, given, products=wanted).model)
        quantized = {node.input[0] for node in graph.model.graph.node if node.op_type == "QuantizeLinear"}
        conditions = [node.output[0] for node in graph.model.graph.node if node.op_type == "Cast"]
        assert [name in quantized for name in conditions] == ([False, True] if wanted else [])
        assert low not in quantized and (largest in quantized) == (kept in quantized)
        want, got = runtime.run(runtime.session(prepared), given), runtime.run(runtime.session(graph.model), given)
        assert all(decibels(want[name], got[name]) > 20 for name in want)


@pytest.mark.parametrize("kind", ["causal", "column", "input", "where causal", "where input"])
def test_what_a_mask_hides_has_the_lowest_code(kind: str) -> None:
    """Scores and their sum with the mask have one scale, whose lowest code is far below all scores that are kept."""
    prepared = prepare(masked(kind))
    given = feeds(prepared, 8)
    model = quantize.from_float(prepared, given, products=True).model
    graph = Graph.of(model)
    (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
    total = root(graph, softmax.input[0])
    (maker,) = (
        node
        for node in model.graph.node
        if node.op_type in ("Add", "Where") and node.output[0] == graph.producers[total.input[0]].input[0]
    )
    scores = root(
        graph, next(name for name in maker.input if "Mul" in name and name.endswith("DequantizeLinear_Output"))
    )
    scale, zero = (graph.constant(name) for name in total.input[1:])
    assert graph.constant(scores.input[1]) == scale and graph.constant(scores.input[2]) == zero
    kept = runtime.run(runtime.session(prepared), given)
    made = runtime.run(runtime.session(model), given)
    for name, want in kept.items():
        assert ((made[name] - want) ** 2).sum() < 0.05 * (want**2).sum()


def test_positions_get_8_bits_if_products_do() -> None:
    """And the mean of the tokens; a value for each channel stays as it is."""
    prepared = prepare(vit(Tokens((2, 2), 8, 4)))
    for wanted in (False, True):
        graph = Graph.of(quantize.from_float(prepared, feeds(prepared, 4), products=wanted).model)
        quantized = [
            name for name in graph.constants if name.endswith("_quantized") and graph.constants[name].dims == [1, 5, 8]
        ]
        assert len(quantized) == int(wanted)
    mixed = prepare(mixer(Tokens((2, 2), 8, 4)))
    for wanted in (False, True):
        graph = Graph.of(quantize.from_float(mixed, feeds(mixed, 4), products=wanted).model)
        (mean,) = (node for node in graph.model.graph.node if node.op_type == "ReduceMean")
        assert (graph.producers[mean.input[0]].op_type == "DequantizeLinear") == wanted


@pytest.mark.parametrize(("shape", "wanted"), [((16,), False), ((1, 1, 16), False), ((6, 1), True), ((6, 16), True)])
def test_what_is_added_to_tokens_gets_8_bits_unless_a_bias_holds_it(shape: tuple[int, ...], wanted: bool) -> None:
    net = Floats(5)
    first, added, second = (net.constant(net.rng.normal(size=s).astype(np.float32)) for s in ((24, 16), shape, (16, 8)))
    y = net.node("MatMul", net.node("Add", net.node("MatMul", "x", first), added), second)
    prepared = prepare(net.model((6, 24), y))
    constants = quantize.from_float(prepared, feeds(prepared, 4), products=True).model.graph.initializer
    codes = [each for each in constants if each.name.endswith("_quantized") and each.data_type == TensorProto.INT8]
    assert (list(shape) in [list(each.dims) for each in codes]) == wanted


def is_product(graph: Graph, node: onnx.NodeProto) -> bool:
    maker = graph.producer(node.input[1])
    return maker is not None and not (maker.op_type == "DequantizeLinear" and maker.input[0] in graph.constants)


def root(graph: Graph, name: str) -> onnx.NodeProto:
    """The DequantizeLinear that a tensor comes from, before nodes that move its elements."""
    node = graph.producers[name]
    while node.op_type != "DequantizeLinear":
        node = graph.producers[node.input[0]]
    return node


def test_symmetric_ranges_have_zero_point_zero() -> None:
    """For ranges of any ends, of which none is lost."""
    rng = np.random.default_rng(3)
    for low, high in [(-1, 1), (0, 1), (-1, 0), *rng.normal(0, 10, (50, 2)).tolist()]:
        given = Range(np.float32(min(low, high, 0)), np.float32(max(low, high, 0)))
        ranged = Plan(symmetric={"x"}).balanced({"x": given, "y": given})
        assert ranged["y"] == given and int(scale_of(ranged["x"], False).zero) == 0
        assert int(scale_of(ranged["x"], True).zero) == 128
        step = 1e-5 * float(ranged["x"].high - ranged["x"].low)
        assert ranged["x"].low <= given.low + step and ranged["x"].high >= given.high - step


def test_weights_that_two_layers_share_are_stored_once() -> None:
    """With scales that are large enough for the bias of each; where another node reads them, they are copied."""
    net = Floats()
    weights = [net.constant(net.rng.normal(0, 1, (8, 8)).astype(np.float32)) for _ in range(2)]
    small, large = (net.constant(np.full(8, value, np.float32)) for value in (1, 3e9))
    a = net.node("Gemm", net.node("Gemm", "x", weights[0], small, transB=1), weights[0], large, transB=1)
    b = net.node("MatMul", net.node("MatMul", a, weights[1]), weights[1])
    model = net.model((8,), b, net.node("ReduceMax", weights[1]))
    made = quantize.quantize(prepare(model), feeds(model, 4)).model
    codes = [tensor.name for tensor in made.graph.initializer if list(tensor.dims) == [8, 8] and tensor.data_type == 3]
    assert len(codes) == 2 and f"{weights[0]}_quantized" in codes and f"{weights[1]}_quantized" not in codes
    network = cut.partition(made, "net")
    assert [len(each) for each in by_weights(network.layers)] == [2, 2]
    first, second, *_ = network.layers
    assert np.array_equal(first.weight_scales, second.weight_scales)
    assert np.abs(second.bias.astype(np.int64)).max() + 255 * 127 * 8 < 2**31
    room = 3e9 / (2**31 * float(second.input_quantization.scale))
    assert (first.weight_scales >= room).all()


@pytest.mark.parametrize("octaves", [1, 2])
@pytest.mark.parametrize("squared", ["Pow", "Mul"])
def test_the_magnitudes_of_a_spectrum_keep_their_range(squared: str, octaves: int) -> None:
    """Squares of 8 bits have 16 steps below the square root of the largest: a quiet voice is lost in them.

    So it is where the parts of a spectrum come from several layers and are weighed, as in a constant-Q transform.
    """
    b = Builder(41)
    waves = np.exp(2j * np.pi * np.outer(np.arange(16), np.arange(32)) / 32)
    basis = np.stack([waves.real, waves.imag]).reshape(2, octaves, -1, 1, 32).astype(np.float32)
    found = [
        b.node("Conv", "x", b.constant(np.concatenate([*basis[:, octave]])), strides=[16]) for octave in range(octaves)
    ]
    ends, parts = (0, 16 // octaves, 32 // octaves), []
    for start, end in itertools.pairwise(ends):
        of = [
            b.node("Slice", each, *(b.constant(np.array([at], np.int64)) for at in (start, end, 1))) for each in found
        ]
        part = of[0] if octaves == 1 else b.node("Concat", *of, axis=1)
        weight = b.constant(np.linspace(1, 0.5, 16, dtype=np.float32)[:, None])
        parts.append(part if octaves == 1 else b.node("Mul", part, weight))
    powers = [
        b.node("Pow", part, b.constant(np.float32(2))) if squared == "Pow" else b.node("Mul", part, part)
        for part in parts
    ]
    magnitudes = b.node("Sqrt", b.node("Add", *powers))
    weights = b.constant(b.rng.normal(size=(8, 16, 3)).astype(np.float32))
    model = b.model({"x": ["N", 1, 256]}, b.node("Relu", b.node("Conv", magnitudes, weights)), rank=3)
    time = np.arange(256) / 16
    tones = [np.sin(2 * np.pi * time * (1 + b.rng.uniform(0, 6))) * 10.0**-level for level in b.rng.uniform(0, 1, 8)]
    x = np.stack(tones)[:, None].astype(np.float32)
    made = quantize.quantize(model, x).model
    layers = cut.partition(made, "net").layers
    assert len(layers) == 1 + octaves
    (want,), (got,) = runtime.run(model, {"x": x}).values(), runtime.run(made, {"x": x}).values()
    assert decibels(want, got) > 30
    assert all(layer.output_quantization is None for layer in layers[:octaves])
