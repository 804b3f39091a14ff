"""What `bbs inspect` says of networks of several kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import flow
from flow.frontend.inspection import Inspection
from tests.helpers.nets import DIGITS, one_node_net, small


def inspect(
    folder: Path, nodes: list[onnx.NodeProto], shape: list[int | str], rank: int, **weights: tuple[int, ...]
) -> Inspection:
    """The network x -> nodes -> y with random weights of the shapes given."""
    generator = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(generator.standard_normal(size, dtype=np.float32), name)
        for name, size in weights.items()
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"d{axis}" for axis in range(rank)])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "net.onnx"))
    return flow.inspect(folder / "net.onnx")


def test_digits() -> None:
    found = flow.inspect(DIGITS)
    model = onnx.load(str(DIGITS))
    layers = [node for node in found.nodes if node.target == "array"]
    assert len(layers) == sum(node.op_type in ("Conv", "Gemm") for node in model.graph.node)
    assert all(node.macs > 0 and node.parameters > 0 for node in layers)
    assert found.array_share == 1.0 and {node.reason for node in layers} == {"8-bit in and out"}
    add = next(node for node in found.nodes if node.op == "Add")
    assert (add.target, add.shape, add.macs) == ("host", (64, 4, 4), 0)
    assert found.folded == {"BatchNormalization": 3}
    relus = [node for node in found.nodes if node.op == "Relu"]
    assert [node.target for node in relus].count("post-processing") == 2 and len(relus) == 3  # one is behind the Add
    assert len(found.nodes) + sum(found.folded.values()) == len(model.graph.node)


@pytest.mark.parametrize(
    ("nodes", "shape", "weights", "macs"),
    [
        (
            [helper.make_node("ReduceMean", ["x"], ["b"], axes=[0, 2, 3], keepdims=0),  # a bias that is no constant
             helper.make_node("ConvTranspose", ["x", "w", "b"], ["t"], strides=[2, 2]),
             helper.make_node("Conv", ["t", "v"], ["y"])],
            [1, 4, 5, 5], {"w": (4, 4, 2, 2), "v": (2, 4, 1, 1)}, 25 * 4 * 4 * 4,
        ),
        (
            [helper.make_node("ReduceMean", ["x"], ["b"], axes=[0, 2, 3], keepdims=0),
             helper.make_node("Conv", ["x", "w", "b"], ["t"]),
             helper.make_node("Conv", ["t", "v"], ["y"])],
            [1, 4, 5, 5], {"w": (4, 4, 2, 2), "v": (2, 4, 1, 1)}, 16 * 4 * 4 * 4,
        ),
        (
            [helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3]),  # the weights are computed
             helper.make_node("Mul", ["m", "k"], ["k_x"]),
             helper.make_node("Conv", ["x", "v"], ["t"]), helper.make_node("Conv", ["t", "k_x"], ["y"])],
            [1, 4, 5, 5], {"v": (4, 4, 1, 1), "k": (6, 4, 3, 3)}, 6 * 3 * 3 * 4 * 3 * 3,
        ),
        (
            [helper.make_node("Conv", ["x", "w"], ["c"]),
             helper.make_node("Transpose", ["c"], ["t"], perm=[0, 1, 3, 2]),
             helper.make_node("MatMul", ["c", "t"], ["y"])],
            [1, 2, 6, 6], {"w": (3, 2, 1, 1)}, 3 * 6 * 6 * 6,
        ),
        (
            [helper.make_node("LSTM", ["x", "w", "r"], ["h", "", ""], hidden_size=4, clip=9.0),
             helper.make_node("Squeeze", ["h", "axis"], ["s"]), helper.make_node("MatMul", ["s", "m"], ["y"])],
            [1, 1, 3], {"w": (1, 16, 3), "r": (1, 16, 4), "m": (4, 2)}, 16 * 3 + 16 * 4,
        ),
    ],
    ids=["transposed", "convolution", "weights", "attention", "recurrent"],
)  # fmt: skip
def test_macs_on_the_host(
    tmp_path: Path, nodes: list[onnx.NodeProto], shape: list[int | str], weights: dict[str, tuple[int, ...]], macs: int
) -> None:
    if any(node.op_type == "Squeeze" for node in nodes):
        axis = helper.make_node("Constant", [], ["axis"], value=numpy_helper.from_array(np.array([1]), "axis"))
        nodes = [axis, *nodes]
    found = inspect(tmp_path, nodes, shape, len(shape) - (nodes[-1].input[0] == "s"), **weights)
    assert sum(node.macs for node in found.nodes if node.target == "host") == macs
    array = [node for node in found.nodes if node.target == "array"]
    assert len(array) == 1
    assert found.array_share == pytest.approx(array[0].macs / (array[0].macs + macs))


def test_what_multiplies_uncounted_is_told(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["t"]),
             helper.make_node("Einsum", ["t", "t"], ["y"], equation="bij,bkj->bik")]  # fmt: skip
    found = inspect(tmp_path, nodes, [1, 4, 6], 3, w=(6, 5))
    assert found.uncounted == {"Einsum": 1} and found.array_share == 1
    nodes[0].output[0] = "y"
    assert inspect(tmp_path, nodes[:1], [1, 4, 6], 3, w=(6, 5)).uncounted == {}


def test_a_clamp_is_post_processing(tmp_path: Path) -> None:
    found = flow.inspect(small(tmp_path))
    taken = [node for node in found.nodes if node.target == "post-processing"]
    clamps = [node for node in taken if node.op in ("Relu", "Clip")]
    assert clamps and all(node.macs == node.parameters == 0 for node in taken)
    layers = {node.name for node in found.nodes if node.target == "array"}
    assert [(node.op, node.reason) for node in taken if node not in clamps] == [("Add", "the bias of 'MatMul_28'")]
    assert all(node.reason.removeprefix("the clamp of ").strip("'") in layers for node in clamps)


def test_refused_nodes_are_told(tmp_path: Path) -> None:
    model = one_node_net("NoSuchOperator")
    onnx.save(model, str(tmp_path / "net.onnx"))
    found = flow.inspect(tmp_path / "net.onnx")
    assert [one.name for one in found.nodes if one.op == "NoSuchOperator"] == [one.name for one in found.refused]
    assert all("no ONNX operator of opset 17" in one.reason for one in found.refused) and found.refused
    assert {one.target for one in found.nodes} <= {"refused", "open"}
    assert all(one.macs == one.parameters == 0 for one in found.nodes)
    assert len(found.nodes) == len(model.graph.node)


def test_a_name_that_reads_like_a_note(tmp_path: Path) -> None:
    """The reason belongs to the node, whatever words its name holds."""
    name = "a' stays on the host: it likes it there"
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "t"], ["m"], name),
        helper.make_node("MatMul", ["m", "w"], ["y"], "a"),
    ]
    found = {node.name: node for node in inspect(tmp_path, nodes, [1, 4, 6], 3, w=(4, 5)).nodes}
    assert found[name].reason == "its input is not quantized (no DequantizeLinear before it)"
    assert (found[name].target, found["a"].target) == ("host", "array")
