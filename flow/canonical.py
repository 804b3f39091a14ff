"""The two normal forms: a float model ready for the quantizer, and an INT8 (QDQ) model ready to be cut."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow import external, host
from flow.errors import FlowError, first_line
from flow.graph import (
    Graph,
    attribute,
    graph_inputs,
    is_dequantize,
    is_standard,
    model_like,
    names,
    node_input,
    node_name,
    opset,
    reads,
    replace_nodes,
    sample_shapes,
    size,
)

ARRAY_OPERATORS = ("Conv", "Gemm", "MatMul")
# Operators that only move or select 8-bit codes, so that they may come before DequantizeLinear as well.
LAYOUT_OPERATORS = ("Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float model as the quantizer wants it: opset 13 or later, BatchNorm and constants folded.

    Standard ONNX operators only (ONNX Runtime's optimisations of level BASIC). FlowError when ONNX Runtime
    cannot process the model.
    """
    source, model = model, external.shell(model)
    if opset(model) < 13:  # per-channel DequantizeLinear came with opset 13
        model = onnx.version_converter.convert_version(model, 13)
    prepared: onnx.ModelProto | None = None
    if importlib.util.find_spec("sympy"):
        with contextlib.suppress(Exception):  # symbolic shape inference does not know every operator
            prepared = _pre_process(model, symbolic=True)
    try:
        prepared = prepared or _pre_process(model, symbolic=False)
        if any(tensor.data_type == TensorProto.FLOAT16 for tensor in prepared.graph.initializer):
            prepared = _pre_process(prepared, symbolic=False)  # folds casts to float32, which it inserted too late
    except Exception as error:
        raise FlowError(
            f"ONNX Runtime cannot prepare network '{model.graph.name}' for quantization: "
            f"{first_line(error)}; simplify the model"
        ) from None
    prepared = external.refilled(prepared, source)
    _plain_gemms(prepared)
    _fold_batch_norm(prepared)
    return prepared


def _pre_process(model: onnx.ModelProto, symbolic: bool) -> onnx.ModelProto:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "prepared.onnx"
        onnx.save(model, str(source))  # given a ModelProto, the tool would move its tensors to external data
        quant_pre_process(str(source), str(target), skip_symbolic_shape=not symbolic)
        return onnx.load(str(target))


def _plain_gemms(model: onnx.ModelProto) -> None:
    """alpha and beta of Gemm into its weights and bias, and one bias for each channel, where these are constant."""
    graph = Graph.of(model)
    for node in model.graph.node:
        gemm = node.op_type == "Gemm" and is_standard(node)
        matrix = graph.constants.get(node_input(node, 1)) if gemm else None
        name = node_input(node, 2)
        bias = graph.constant(name) if name else np.zeros(1, np.float32)
        if matrix is None or bias is None or external.is_external(matrix):  # not read whole
            continue
        channels = matrix.dims[0 if attribute(node, "transB", 0) else 1]
        alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
        if bias.size != 1 and (bias.size, *bias.shape[-1:]) != (channels, channels):  # one for each row
            continue
        if alpha != 1.0:
            weights = graph.constant(matrix.name)
            assert weights is not None
            node.input[1] = _added(model, f"{node.output[0]}_weights", (weights * alpha).astype(weights.dtype))
        if name and (beta != 1.0 or bias.shape != (channels,)):
            whole = np.broadcast_to((bias.reshape(-1) * beta).astype(bias.dtype), (channels,))
            node.input[2] = _added(model, f"{node.output[0]}_bias", whole)
        kept = [entry for entry in node.attribute if entry.name not in ("alpha", "beta")]
        del node.attribute[:]
        node.attribute.extend(kept)
    _drop_dead(model)


def _added(model: onnx.ModelProto, name: str, array: NDArray[Any]) -> str:
    """A constant more, by this name or one like it."""
    name = _unused(model, name)
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return name


def _unused(model: onnx.ModelProto, name: str) -> str:
    taken = set(names(model.graph))
    while name in taken:
        name += "_"
    return name


def _fold_batch_norm(model: onnx.ModelProto) -> None:
    """BatchNormalization after Gemm into its weights; ONNX Runtime does so after Conv and MatMul only."""
    graph = Graph.of(model)
    kept = []
    for node in model.graph.node:
        gemm = graph.producer(node.input[0]) if node.op_type == "BatchNormalization" else None
        if gemm is None or graph.only_consumer(gemm.output[0]) is None or not _fold_into(graph, gemm, node):
            kept.append(node)
    replace_nodes(model, kept)
    _drop_dead(model)


def _fold_into(graph: Graph, gemm: onnx.NodeProto, norm: onnx.NodeProto) -> bool:
    """Whether `gemm` now does what `norm` did as well."""
    plain = all(attribute(gemm, name, 1.0) == 1.0 for name in ("alpha", "beta"))
    names = [name for name in (*gemm.input[1:], *norm.input[1:]) if name]
    if gemm.op_type != "Gemm" or not plain or len(norm.output) > 1 or not all(n in graph.constants for n in names):
        return False
    weights, *biases, scale, shift, mean, variance = (np.asarray(graph.constant(name), np.float64) for name in names)
    gain = scale / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
    bias = sum(biases, np.zeros(gain.shape)).reshape(-1)
    kind = helper.tensor_dtype_to_np_dtype(graph.constants[names[0]].data_type)
    folded = {
        f"{norm.output[0]}_weights": weights * (gain[:, None] if attribute(gemm, "transB", 0) else gain),
        f"{norm.output[0]}_bias": (bias - mean) * gain + shift,
    }
    graph.model.graph.initializer.extend(numpy_helper.from_array(a.astype(kind), n) for n, a in folded.items())
    gemm.input[:] = [gemm.input[0], *folded]
    gemm.output[0] = norm.output[0]
    return True


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function in the form `cut` reads; running it twice changes nothing.

    Constant nodes become initializers, QuantizeLinear of a constant is folded, layout operators between
    DequantizeLinear and a layer work on the 8-bit tensor instead, every layer has weights and a name of
    its own, matrix products have the batch as axis 0, and nodes that no output needs are left out.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _constants_to_initializers(copy)
    _nodes_make_outputs(copy)
    _fold_constant_quantize(copy)
    _layout_before_dequantize(copy)
    _weights_of_their_own(copy)
    _batch_before_rows(copy)
    _drop_dead(copy)
    _unique_names(copy)
    return copy


def _unique_names(model: onnx.ModelProto) -> None:
    """Every node gets a name of its own: layers are known by it."""
    seen: set[str] = set()
    for node in model.graph.node:
        node.name = node_name(node) if node_name(node) not in seen else f"{node.name}_{node.output[0]}"
        seen.add(node.name)


def _constants_to_initializers(model: onnx.ModelProto) -> None:
    nodes = []
    for node in model.graph.node:
        tensor = attribute(node, "value", None) if node.op_type == "Constant" else None
        if tensor is None:
            nodes.append(node)
        else:
            entry = model.graph.initializer.add()
            entry.CopyFrom(tensor)
            entry.name = node.output[0]
    replace_nodes(model, nodes)


def _nodes_make_outputs(model: onnx.ModelProto) -> None:
    """An output that is a constant comes from an Identity: every output is made by some step."""
    outputs = {value.name for value in model.graph.output}
    for tensor in model.graph.initializer:
        if (name := tensor.name) in outputs:
            tensor.name = own = _unused(model, f"{name}_constant")
            for node in model.graph.node:  # what reads it still reads a constant
                node.input[:] = [own if entry == name else entry for entry in node.input]
            model.graph.node.insert(0, helper.make_node("Identity", [tensor.name], [name], f"{name}_identity"))


def _fold_constant_quantize(model: onnx.ModelProto) -> None:
    graph = Graph.of(model)
    nodes = []
    for node in model.graph.node:
        fixed = all(name in graph.constants for name in node.input if name)
        if node.op_type != "QuantizeLinear" or not fixed or node.output[0] in graph.outputs:
            nodes.append(node)
            continue
        tensors = [graph.constants[name] for name in node.input if name]
        kind = tensors[2].data_type if len(tensors) > 2 else TensorProto.UINT8
        output = helper.make_tensor_value_info(node.output[0], kind, None)
        body = helper.make_graph([node], "fold", [], [output], tensors)
        folded = host.run(model_like(model, body), {})[node.output[0]]
        model.graph.initializer.append(numpy_helper.from_array(folded, node.output[0]))
    replace_nodes(model, nodes)


def _layout_before_dequantize(model: onnx.ModelProto) -> None:
    """DequantizeLinear -> Flatten -> layer becomes Flatten -> DequantizeLinear -> layer, for that layer."""
    graph = Graph.of(model)
    nodes: list[onnx.NodeProto] = []
    moved: dict[str, str] = {}
    for node in model.graph.node:
        chain = _layout_chain(graph, node) if node.op_type in ARRAY_OPERATORS else []
        if chain:
            source = node.input[0]
            if source not in moved:
                nodes += _moved_chain(graph, chain)
                moved[source] = nodes[-1].output[0]
            node.input[0] = moved[source]
        nodes.append(node)
    replace_nodes(model, nodes)


def _layout_chain(graph: Graph, layer: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Layout operators before a layer, nearest the DequantizeLinear first; empty when none can move."""
    if not is_dequantize(graph.producer(node_input(layer, 1))):
        return []
    chain: list[onnx.NodeProto] = []
    node = graph.producer(layer.input[0])
    while node is not None and node.op_type in LAYOUT_OPERATORS and len(node.output) == 1:
        if node.op_type == "MaxPool" and opset(graph.model) < 12:  # 8-bit MaxPool came with opset 12
            return []
        chain.insert(0, node)
        node = graph.producer(node.input[0])
    per_tensor = node is not None and is_dequantize(node) and size(graph, node_input(node, 1)) == 1
    return chain if per_tensor else []


def _moved_chain(graph: Graph, chain: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    dequantize = graph.producers[chain[0].input[0]]
    current = dequantize.input[0]
    clones = []
    for node in chain:
        clone = onnx.NodeProto()
        clone.CopyFrom(node)
        clone.name = f"{node_name(node)}_8bit"
        clone.input[0] = current
        clone.output[0] = current = f"{node.output[0]}_8bit"
        clones.append(clone)
    last = onnx.NodeProto()
    last.CopyFrom(dequantize)
    last.name = f"{current}_dequantize"
    last.input[0] = current
    last.output[0] = f"{current}_dequantized"
    return [*clones, last]


def _weights_of_their_own(model: onnx.ModelProto) -> None:
    """Weights that several layers share are copied, so that each layer may be pruned by itself."""
    graph = Graph.of(model)
    used: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        dequantize = graph.producer(node_input(node, 1)) if node.op_type in ARRAY_OPERATORS else None
        if dequantize is not None and is_dequantize(dequantize) and dequantize.input[0] in graph.constants:
            weight = dequantize.input[0]
            if weight in used or any(user is not dequantize for user in graph.consumers[weight]):
                tensor = model.graph.initializer.add()
                tensor.CopyFrom(graph.constants[weight])
                tensor.name = f"{weight}_of_{node_name(node)}"
                own = onnx.NodeProto()
                own.CopyFrom(dequantize)
                own.name, own.input[0], own.output[0] = (
                    f"{tensor.name}_dequantize",
                    tensor.name,
                    f"{tensor.name}_real",
                )
                node.input[1] = own.output[0]
                nodes.append(own)
            used.add(weight)
        nodes.append(node)
    replace_nodes(model, nodes)


def _batch_before_rows(model: onnx.ModelProto) -> None:
    """Axis 0 of every product becomes the batch: of [rows, features] with many rows a sample, of [tokens, batch, ...].

    ONNX Runtime makes such a Gemm of MatMul and Add where the batch is fixed; attention often has tokens first.
    A product treats all rows alike, so any axes may stand for them. A Gemm becomes MatMul and Add.
    """
    graph = Graph.of(model)
    products = {n.output[0]: graph.producers[n.input[0]] for n in model.graph.node if _is_product(graph, n)}
    one = sample_shapes(model) if products else {}
    if all(one.get(dequantize.input[0], (1,))[:1] in ((), (1,)) for dequantize in products.values()):
        return
    batches = [dims[0] for value in graph_inputs(model) if (dims := value.type.tensor_type.shape.dim)]
    samples = 1 if any(dim.HasField("dim_value") for dim in batches) else 2
    more: dict[str, tuple[int, ...]] = {}
    with contextlib.suppress(FlowError):  # it takes one sample only: nothing is known of another batch
        more = sample_shapes(model, samples)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        name = node.output[0]
        dequantize = products.get(name)
        source = dequantize.input[0] if dequantize is not None else ""
        shape = one.get(source, ())
        whole = _of_any_batch(shape, more.get(source, ()), samples)
        if dequantize is None or not whole or shape[0] == 1:
            nodes.append(node)
            continue
        rows, real_rows, summed, plain = (
            _unused(model, f"{name}_{part}") for part in ("rows", "rows_real", "product", "without_bias")
        )
        reshaped = _reshape(model, dequantize.input[0], [-1, prod(shape[:-1]), shape[-1]], rows)
        real = onnx.NodeProto()
        real.CopyFrom(dequantize)
        real.name, real.input[0], real.output[0] = f"{name}_rows_dequantize", rows, real_rows
        weights, transposed = _matrix(model, graph, node)
        product = helper.make_node("MatMul", [real_rows, weights], [summed], node_name(node))
        bias = node_input(node, 2)
        matrix = graph.constants[graph.producers[node.input[1]].input[0]]
        channels = matrix.dims[0 if attribute(node, "transB", 0) else 1]
        whole[-1] = channels
        nodes += [reshaped, real, *transposed, product, _reshape(model, summed, whole, plain if bias else name)]
        if bias:  # behind the Reshape: ONNX Runtime fuses what follows at once, and takes names that are there already
            nodes.append(helper.make_node("Add", [plain, bias], [name], f"{name}_bias"))
    replace_nodes(model, nodes)


def _of_any_batch(one: tuple[int, ...], more: tuple[int, ...], samples: int) -> list[int]:
    """A shape of one sample and of so many as the shape for any batch, -1 for the axis that grows with it.

    Nothing where a shape is not known before there are data, or does not grow so.
    """
    shape = [axis if axis == other else -1 for axis, other in zip(one, more, strict=False)]
    grows = prod(more) == samples * prod(one) > 0 and shape.count(-1) == samples - 1
    return shape if len(one) == len(more) > 1 and grows and shape[-1] != -1 else []


def _is_product(graph: Graph, node: onnx.NodeProto) -> bool:
    """A MatMul or Gemm of an 8-bit tensor and a constant 8-bit matrix."""
    if node.op_type not in ("MatMul", "Gemm") or not is_standard(node) or attribute(node, "transA", 0):
        return False
    data, weights = graph.producer(node.input[0]), graph.producer(node.input[1])
    if not (data is not None and is_dequantize(data) and weights is not None and is_dequantize(weights)):
        return False
    plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
    matrix = graph.constants.get(weights.input[0])
    if matrix is None or (attribute(node, "transB", 0) and external.is_external(matrix)):  # none is copied whole
        return False
    return plain and len(matrix.dims) == 2 and size(graph, node_input(data, 1)) == 1


def _matrix(model: onnx.ModelProto, graph: Graph, node: onnx.NodeProto) -> tuple[str, list[onnx.NodeProto]]:
    """The weights of a product as [inputs, channels], and the nodes that make them."""
    if not attribute(node, "transB", 0):
        return node.input[1], []
    made = onnx.NodeProto()
    made.CopyFrom(graph.producers[node.input[1]])
    codes = graph.constant(made.input[0])
    assert codes is not None
    made.name, made.output[0] = f"{node.output[0]}_matrix_dequantize", _unused(model, f"{node.output[0]}_matrix_real")
    made.input[0] = _added(model, f"{node.output[0]}_matrix", codes.T)
    if size(graph, node_input(made, 1)) > 1:  # one scale for all needs no axis, which came with opset 13
        axis = attribute(made, "axis", 1) % 2
        kept = [entry for entry in made.attribute if entry.name != "axis"]
        del made.attribute[:]
        made.attribute.extend([*kept, helper.make_attribute("axis", 1 - axis)])
    return made.output[0], [made]


def _reshape(model: onnx.ModelProto, source: str, shape: list[int], target: str) -> onnx.NodeProto:
    wanted = _added(model, f"{target}_shape", np.array(shape, np.int64))
    return helper.make_node("Reshape", [source, wanted], [target], f"{target}_reshape")


def _drop_dead(model: onnx.ModelProto) -> None:
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(reads(node))
            kept.append(node)
    replace_nodes(model, reversed(kept))
    constants = model.graph.initializer
    for index in reversed(range(len(constants))):
        if constants[index].name not in needed:
            del constants[index]
