"""Random numbers that are the same in every run, so that what two networks compute of them can be compared."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from flow.onnxtools.edit import add_constant, replace_nodes
from flow.onnxtools.graph import attribute, is_standard, node_name, opset

RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
FIXED = ("Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
OLDEST = 11  # opset of the nodes made here
OTHER_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
PERIOD = 4093  # of the numbers within a sample; a prime, so that rows of maps differ


def random_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of a network, not of its subgraphs, whose random numbers `drawn_once` fixes."""
    found = [node for node in model.graph.node if node.op_type in FIXED and is_standard(node)]
    version = opset(model) if found else 0
    mixed = version < 15 and any(tensor.data_type in OTHER_FLOATS for tensor in model.graph.initializer)
    return [] if version < OLDEST or mixed else found


def drawn_once(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with other random numbers: drawn for each node by its name, alike in every run and for each sample.

    Axis 0 is that of the samples. A network without random numbers is returned as it is.
    """
    chosen = random_nodes(model)
    if not chosen:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = {node.output[0] for node in chosen}
    nodes: list[onnx.NodeProto] = []
    for node in copy.graph.node:
        nodes += _fixed(copy, node) if node.output and node.output[0] in names else [node]
    replace_nodes(copy, nodes)
    return copy


def _fixed(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Nodes that make the output of a node of random numbers."""
    generator = np.random.default_rng(zlib.crc32(node_name(node).encode()))
    stem = f"{node.output[0]}_drawn"
    if node.op_type in ("RandomNormal", "RandomUniform"):
        kind = helper.tensor_dtype_to_np_dtype(attribute(node, "dtype", TensorProto.FLOAT))
        values = _numbers(node, generator, tuple(attribute(node, "shape", []))).astype(kind)
        return [helper.make_node("Identity", [add_constant(model, stem, values)], node.output, node.name)]
    table = add_constant(model, stem, _numbers(node, generator, (PERIOD,)))

    def whole(name: str, value: int | list[int]) -> str:
        return add_constant(model, f"{stem}_{name}", np.array(value, np.int64))

    def made(op: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{stem}_{len(nodes)}"], f"{stem}_{len(nodes)}", **attributes))
        return str(nodes[-1].output[0])

    nodes: list[onnx.NodeProto] = []
    shape = made("Shape", node.input[0])
    one = made("Slice", shape, whole("one", [1]), whole("end", [2**31]))  # the shape of one sample
    places = made("Range", whole("zero", 0), made("ReduceProd", one, keepdims=0), whole("step", 1))
    row = made("Gather", table, made("Mod", places, whole("period", PERIOD)))
    drawn = made("Expand", made("Reshape", row, one), shape)
    if node.op_type == "Bernoulli":
        limit = made("Cast", node.input[0], to=TensorProto.FLOAT)
        drawn = made("Less", drawn, limit)
    kind = attribute(node, "dtype", 0 if opset(model) >= 15 else TensorProto.FLOAT)  # CastLike came with opset 15
    last = helper.make_node("Cast", [drawn], node.output, node.name, to=kind)
    if not kind:
        last = helper.make_node("CastLike", [drawn, node.input[0]], node.output, node.name)
    return [*nodes, last]


def _numbers(node: onnx.NodeProto, generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Numbers of the node's distribution, float32."""
    if "Normal" in node.op_type:
        drawn = generator.normal(attribute(node, "mean", 0.0), attribute(node, "scale", 1.0), shape)
    elif "Uniform" in node.op_type:
        drawn = generator.uniform(attribute(node, "low", 0.0), attribute(node, "high", 1.0), shape)
    else:
        drawn = generator.random(shape)
    return np.asarray(drawn, np.float32)
