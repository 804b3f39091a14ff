"""A network's units: where the host's nodes are parted, in which order, and what cannot be parted."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.int8 import cut
from flow.network.model import HostSegment, Network
from flow.network.run import run_network
from flow.onnxtools import runtime
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.units import together, units
from tests.helpers.networks import KINDS, Floats, attention, feeds, quantized


def int8(nodes: list[onnx.NodeProto], outputs: list[str]) -> Network:
    """A network of these nodes between 8-bit tensors of eight channels, all with scale 1/16 and zero point 0."""
    rng = np.random.default_rng(1)
    constants = [
        numpy_helper.from_array(np.array(0.0625, np.float32), "s"), numpy_helper.from_array(np.array(0, np.int8), "z"),
        numpy_helper.from_array(rng.integers(-9, 9, (8, 8, 1, 1)).astype(np.int8), "w"),
    ]  # fmt: skip
    types = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8, 4, 4]) for name in ("x", *outputs)]
    graph = helper.make_graph(nodes, "net", types[:1], types[1:], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return cut.partition(onnx.shape_inference.infer_shapes(made), "net")


def quantize(x: str, y: str) -> onnx.NodeProto:
    return helper.make_node("QuantizeLinear", [x, "s", "z"], [y], f"q_{y}")


def dequantize(x: str, y: str) -> onnx.NodeProto:
    return helper.make_node("DequantizeLinear", [x, "s", "z"], [y], f"d_{y}")


def conv(x: str, y: str) -> list[onnx.NodeProto]:
    """A layer from the 8-bit tensor x to the 8-bit tensor y."""
    weights = dequantize("w", f"{y}_w")
    layer = helper.make_node("Conv", [f"{y}_x", f"{y}_w"], [f"{y}_y"], f"conv_{y}")
    return [dequantize(x, f"{y}_x"), weights, layer, quantize(f"{y}_y", y)]


def test_units_are_all_of_the_network_in_order() -> None:
    for make in (*KINDS.values(), attention):
        network = quantized(make())
        ready = {*network.inputs, *network.graph.constants}
        for unit in units(network):
            assert ready.issuperset(unit.inputs)
            ready.update(unit.outputs)
        assert ready.issuperset(network.outputs)
        for number, step in enumerate(network.steps):
            if isinstance(step, HostSegment):
                whole = together(network, "other", [unit for unit in units(network) if unit.step == number])
                assert whole.name == step.name and whole.model.graph == step.model.graph


def test_nodes_are_parted_at_tensors_of_8_bits_alone() -> None:
    net = Floats(2)
    a = net.node("Sqrt", net.node("Abs", net.node("MaxPool", net.conv("x", 3, 8, 3), kernel_shape=[2, 2])))
    network = quantized(net.model((3, 4, 4), net.conv(net.node("Softmax", a, axis=1), 8, 4, 1)))
    (step,) = {unit.step for unit in units(network) if "Softmax_5" in unit.names}
    parts = [unit.names for unit in units(network) if unit.step == step]
    assert [name for names in parts for name in names if "Quantize" not in name] == ["MaxPool_2", "Abs_3", "Sqrt_4",
                                                                                     "Softmax_5"]  # fmt: skip
    assert all(names[-1].endswith("QuantizeLinear") for names in parts)
    linked = chain(network)
    on_chip = {name for segment in linked.segments for unit in segment.units for name in unit.names}
    assert "MaxPool_2" in on_chip and "Softmax_5" not in on_chip


def test_nodes_that_wait_for_each_other_stay_together() -> None:
    """A float tensor goes past an 8-bit one: parted, each of the two units would wait for the other."""
    middle = [
        dequantize("b", "bf"),
        helper.make_node("Abs", ["bf"], ["t"], "abs"),
        quantize("t", "t8"), dequantize("t8", "tf"),
        helper.make_node("MaxPool", ["tf"], ["u"], "pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        quantize("u", "u8"), dequantize("u8", "uf"),
        helper.make_node("Mul", ["t", "uf"], ["v"], "mul"),
        quantize("v", "v8"),
    ]  # fmt: skip
    network = int8([quantize("x", "a"), *conv("a", "b"), *middle, *conv("v8", "c"), dequantize("c", "y")], ["y"])
    (unit,) = [unit for unit in units(network) if "mul" in unit.names]
    assert {"abs", "pool", "mul", "q_u8"} <= set(unit.names)
    linked = chain(network)
    assert len(linked.segments) == 2 and [each.nodes for each in linked.left] == [unit.names]


def test_a_float_tensor_is_made_where_it_is_read() -> None:
    """Behind a layer that does not need it: its node waits, in the unit of its first reader."""
    late = [
        dequantize("b", "bf"), helper.make_node("Abs", ["bf"], ["t"], "abs"), *conv("b", "c"), dequantize("c", "cf"),
        helper.make_node("Mul", ["t", "cf"], ["v"], "mul"), quantize("v", "v8"),
    ]  # fmt: skip
    network = int8([quantize("x", "a"), *conv("a", "b"), *late, *conv("v8", "d"), dequantize("d", "y")], ["y"])
    assert [unit.names for unit in units(network) if "mul" in unit.names] == [("abs", "mul", "q_v8")]


def test_an_output_in_the_middle_is_dequantized_again_by_those_that_read_it() -> None:
    """The network's output y is read on, too; nothing leaves the chip for it."""
    middle = [dequantize("b", "y"), helper.make_node("MaxPool", ["y"], ["u"], "pool", kernel_shape=[3, 3],
                                                     pads=[1, 1, 1, 1]), quantize("u", "u8")]  # fmt: skip
    nodes = [quantize("x", "a"), *conv("a", "b"), *middle, *conv("u8", "c"), dequantize("c", "z_out")]
    network = int8(nodes, ["y", "z_out"])
    linked = chain(network)
    assert linked.whole and [step.output for step in linked.segments[0].steps] == ["b", "u8", "c"]
    assert linked.outputs == ("b", "c") and not any(each.returns for each in linked.left)
    x = {"x": np.random.default_rng(2).normal(0, 1, (1, 8, 4, 4)).astype(np.float32)}
    wanted = runtime.run(network.model, x)
    assert all(np.array_equal(run_network(network, x)[name], wanted[name]) for name in ("y", "z_out"))
    assert feeds(network.model, 1)["x"].shape == (1, 8, 4, 4)
