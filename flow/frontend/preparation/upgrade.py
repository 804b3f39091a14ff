"""Older operator sets and other float types: a network becomes one of opset 13 or later that computes in float32."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, version_converter

from flow.errors import FlowError, first_line
from flow.network import samples
from flow.onnxtools import external, runtime
from flow.onnxtools.edit import add_constant, replace_nodes, set_attributes, unused_name
from flow.onnxtools.graph import Graph, attribute, graph_inputs, is_standard, opset, subgraphs
from flow.onnxtools.shapes import ranks

BROADCASTING = 7  # older opsets broadcast one operand of a sum or product, by attributes
ARITHMETIC = ("Add", "Sub", "Mul", "Div")
ASYMMETRIC = 11  # older opsets know no other coordinates of an Upsample or a Resize
OPSET = 13  # per-channel DequantizeLinear came with it
ALIKE = 1e-4  # of an output's largest value: tolerance between a network and its upgrade
HIDDEN = "not.converted"  # domain of nodes that the converter must leave alone
WIDE = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
TYPED = ("to", "dtype")  # attributes that name an element type


def upgraded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with opset 13 or later; the model itself if it has that. FlowError if it cannot be converted.

    ONNX's converter does most of it. Operators for which it has no adapter only gained types; those whose meaning it
    changes are mended. A random sample shows that the result is the same network.
    """
    before = opset(model)
    if before >= OPSET:
        return model
    hidden = onnx.ModelProto()
    hidden.CopyFrom(external.externals_as_inputs(model))
    if before < BROADCASTING:
        _broadcast(hidden)
    for _ in range(len(model.graph.node)):
        try:
            converted = version_converter.convert_version(hidden, OPSET)
            break
        except Exception as error:
            without = re.search(r"No Adapter.* for (\w+)", str(error))
            if without is None or not _hide(hidden, without[1]):
                raise FlowError(
                    f"network '{model.graph.name}' of opset {before} cannot be converted to opset {OPSET}: "
                    f"{first_line(error)}; export it with a newer opset"
                ) from None
    for node in converted.graph.node:
        node.domain = "" if node.domain == HIDDEN else node.domain
        if before < ASYMMETRIC and node.op_type == "Resize":
            set_attributes(node, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    kept = [entry for entry in converted.opset_import if entry.domain != HIDDEN]
    del converted.opset_import[:]
    converted.opset_import.extend(kept)
    whole = external.with_externals(converted, model)
    _check_alike(model, whole)
    return whole


def _broadcast(model: onnx.ModelProto) -> None:
    """Sums and products of opset 6 as later ones, which broadcast by themselves: ONNX's converter asks for all sizes.

    Their second operand has the first one's last axes or, if it is a constant, those from `axis` on.
    """
    graph, known = Graph.of(model), ranks(model)
    for operator in ARITHMETIC:
        nodes = [node for node in model.graph.node if node.op_type == operator and is_standard(node)]
        places = {node.output[0]: attribute(node, "axis", None) for node in nodes}
        values = {name: graph.constant(graph.producers[name].input[1]) for name in places}
        if any(place is not None and (values[name] is None or graph.producers[name].input[0] not in known)
               for name, place in places.items()):  # fmt: skip
            continue  # the converter may know more
        for node in nodes:
            value, place = values[node.output[0]], places[node.output[0]]
            if value is not None and place is not None:
                rank = known[node.input[0]]
                behind = rank - place % rank - value.ndim
                shape = (*value.shape, *[1] * max(behind, 0))
                node.input[1] = add_constant(model, f"{node.output[0]}_operand", value.reshape(shape))
            set_attributes(node, without=("axis", "broadcast"))
        _hide(model, operator)


def _hide(model: onnx.ModelProto, operator: str) -> bool:
    """Move all nodes of an operator into a domain of their own; returns whether there are any."""
    nodes = [node for node in model.graph.node if node.op_type == operator and is_standard(node)]
    for node in nodes:
        node.domain = HIDDEN
    if nodes and not any(entry.domain == HIDDEN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(HIDDEN, 1))
    return bool(nodes)


def _check_alike(model: onnx.ModelProto, converted: onnx.ModelProto) -> None:
    """FlowError if the converted network computes something else on a random sample, or does not run where it did."""
    feeds = samples.random(model, 1).feeds
    try:
        wanted = runtime.run(model, feeds)
    except FlowError:
        return  # it needs particular values to run
    got = runtime.run(converted, feeds)
    for name, array in wanted.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            continue
        largest = float(np.abs(array[np.isfinite(array)]).max(initial=1e-6))
        if array.shape != got[name].shape or not np.allclose(array, got[name], 0, ALIKE * largest, equal_nan=True):
            raise FlowError(
                f"network '{model.graph.name}' of opset {opset(model)} becomes another one when it is converted to "
                f"opset {OPSET} (output '{name}' differs); export it with a newer opset"
            )


# -------------------------------------------------------------------------------- float types


def in_float32(source: onnx.ModelProto) -> onnx.ModelProto:
    """A network of float16, bfloat16 or float64 that computes in float32; its inputs and outputs keep their types.

    The network itself if it has no such types.
    """
    model = source
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    kinds = {value.type.tensor_type.elem_type for value in values}
    kinds |= {tensor.data_type for tensor in model.graph.initializer}
    kinds |= {entry.i for node in model.graph.node for entry in node.attribute if entry.name in TYPED}
    kinds |= {entry.t.data_type for node in model.graph.node for entry in node.attribute if entry.HasField("t")}
    if not kinds.intersection(WIDE):
        return source
    model = onnx.ModelProto()
    model.CopyFrom(source)
    _convert(model.graph)
    first, last = [], []
    for value in graph_inputs(model):
        if value.type.tensor_type.elem_type in WIDE:
            inner = unused_name(model, f"{value.name}_float32")
            for node in model.graph.node:
                node.input[:] = [inner if name == value.name else name for name in node.input]
            first.append(helper.make_node("Cast", [value.name], [inner], f"{inner}_cast", to=TensorProto.FLOAT))
    for value in model.graph.output:
        if (kind := value.type.tensor_type.elem_type) in WIDE:
            inner = unused_name(model, f"{value.name}_float32")
            for node in model.graph.node:
                node.input[:] = [inner if name == value.name else name for name in node.input]
                node.output[:] = [inner if name == value.name else name for name in node.output]
            last.append(helper.make_node("Cast", [inner], [value.name], f"{inner}_cast", to=kind))
    replace_nodes(model, [*first, *model.graph.node, *last])
    return model


def _convert(graph: onnx.GraphProto, inner: bool = False) -> None:
    """Make all constants, types and casts of a graph and its subgraphs float32."""
    for tensor in graph.initializer:
        _convert_tensor(tensor)
    for value in (*graph.value_info, *((*graph.input, *graph.output) if inner else ())):
        if value.type.tensor_type.elem_type in WIDE:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for entry in node.attribute:
            if entry.name in TYPED and entry.i in WIDE:
                entry.i = TensorProto.FLOAT
            for tensor in [*([entry.t] if entry.HasField("t") else []), *entry.tensors]:
                _convert_tensor(tensor)
        for branch in subgraphs(node):
            _convert(branch, inner=True)


def _convert_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in WIDE:
        values = external.values(tensor)
        tensor.CopyFrom(external.computed(values, _narrow, np.dtype(np.float32), tensor.name))


def _narrow(values: NDArray[Any]) -> NDArray[np.float32]:
    """Values as float32; finite ones stay finite."""
    if values.dtype != np.float64:
        return values.astype(np.float32)
    limit = np.finfo(np.float32)
    with np.errstate(over="ignore"):
        return np.where(np.isfinite(values), np.clip(values, limit.min, limit.max), values).astype(np.float32)
