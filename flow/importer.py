"""ONNX in, `Network` out: what an imported model must satisfy, and how it is cut into array and host.

`load` reads and checks a file, `prepare` folds what a float model carries from training, `cut` finds the
layers for the array in an INT8 (QDQ) model, `with_weights` puts pruned weights back.
"""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow import host
from flow.errors import FlowError
from flow.network import INT8_MAX, INT8_MIN, ArrayLayer, HostSegment, Network, Quantization, Window

OLDEST_OPSET = 11
ARRAY_OPERATORS = ("Conv", "Gemm", "MatMul")
# Operators that only move or select 8-bit codes, so that they may come before DequantizeLinear as well.
LAYOUT_OPERATORS = ("Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
BIAS_SCALE_TOLERANCE = 1e-5


# -------------------------------------------------------------------------------- load


def load(path: str | Path) -> onnx.ModelProto:
    """Read an ONNX file, with its external data, and check that the flow and ONNX Runtime can run it.

    FlowError: no such file, not ONNX, external data missing, invalid, too old, operators ONNX Runtime
    does not have, inputs that are not tensors, or sizes other than the batch (axis 0) left open.
    """
    file = Path(path)
    if not file.is_file():
        raise FlowError(f"the network must be an ONNX file, but there is no file '{file}'; check the path")
    try:
        model = onnx.load(str(file), format="protobuf")
    except DecodeError:
        raise FlowError(
            f"'{file}' is not an ONNX file or is truncated ({file.stat().st_size} bytes); export it again"
        ) from None
    except (OSError, onnx.checker.ValidationError) as error:
        raise FlowError(
            f"the external data of '{file}' cannot be read: {first_line(error)}; put it next to the file"
        ) from None
    check(model, str(file))
    return model


def check(model: onnx.ModelProto, place: str) -> None:
    """Refuse with FlowError what cannot work; `place` is the file named in the message."""
    if not model.graph.node or not model.opset_import:
        raise FlowError(f"'{place}' holds no ONNX graph ({len(model.graph.node)} nodes); export it again")
    version = opset(model)
    if version < OLDEST_OPSET:
        raise FlowError(
            f"opset {OLDEST_OPSET} or later is needed, but '{place}' has opset {version}; "
            "convert it with onnx.version_converter"
        )
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise FlowError(f"'{place}' is not valid ONNX: {first_line(error)}; export it again") from None
    _check_inputs(model, place)
    try:
        host.session(model)
    except Exception as error:
        raise FlowError(
            f"ONNX Runtime cannot run '{place}': {first_line(error)}; replace the operator and export again"
        ) from None


def _check_inputs(model: onnx.ModelProto, place: str) -> None:
    for value in graph_inputs(model):
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise FlowError(
                f"inputs must be tensors of known rank, but '{value.name}' of '{place}' is not; export again"
            )
        dims = value.type.tensor_type.shape.dim
        for axis, dim in enumerate(dims):
            size = dim.dim_value if dim.HasField("dim_value") else None
            if axis > 0 and not size:
                raise FlowError(
                    f"only the batch (axis 0) of an input may be open, but axis {axis} of '{value.name}' in "
                    f"'{place}' is '{dim.dim_param or '?'}'; export with a fixed size"
                )
            if axis == 0 and size is not None and size != 1:
                raise FlowError(
                    f"the batch must be 1 or open, but '{value.name}' of '{place}' has batch {size}; export again"
                )


def first_line(error: BaseException) -> str:
    """What a library says first, for a message of one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def opset(model: onnx.ModelProto) -> int:
    """The version of the standard ONNX operator set."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs a user feeds: graph inputs that are not initializers."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the model is already INT8 in QDQ form: some layer's data comes from a DequantizeLinear."""
    graph = _Graph.of(model)
    return any(
        node.op_type in ARRAY_OPERATORS and _is_dequantize(graph.producer(node.input[1]))
        for node in model.graph.node
        if len(node.input) > 1
    )


# -------------------------------------------------------------------------------- prepare


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float model as the quantizer wants it: opset 13 or later, BatchNorm and constants folded.

    Standard ONNX operators only (ONNX Runtime's optimisations of level BASIC). FlowError when ONNX Runtime
    cannot process the model.
    """
    if opset(model) < 13:  # per-channel DequantizeLinear came with opset 13
        model = onnx.version_converter.convert_version(model, 13)
    if importlib.util.find_spec("sympy"):
        with contextlib.suppress(Exception):  # symbolic shape inference does not know every operator
            return _pre_process(model, symbolic=True)
    try:
        return _pre_process(model, symbolic=False)
    except Exception as error:
        raise FlowError(
            f"ONNX Runtime cannot prepare network '{model.graph.name}' for quantization: "
            f"{first_line(error)}; simplify the model"
        ) from None


def _pre_process(model: onnx.ModelProto, symbolic: bool) -> onnx.ModelProto:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "prepared.onnx"
        onnx.save(model, str(source))  # given a ModelProto, the tool would move its tensors to external data
        quant_pre_process(str(source), str(target), skip_symbolic_shape=not symbolic)
        return onnx.load(str(target))


# -------------------------------------------------------------------------------- the graph


@dataclass(frozen=True)
class _Graph:
    """Look-ups over one model: who makes a tensor, who uses it, which are constant."""

    model: onnx.ModelProto
    producers: dict[str, onnx.NodeProto]
    consumers: dict[str, list[onnx.NodeProto]]
    constants: dict[str, onnx.TensorProto]
    outputs: frozenset[str]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    @staticmethod
    def of(model: onnx.ModelProto) -> _Graph:
        consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in dict.fromkeys(_reads(node)):
                consumers.setdefault(name, []).append(node)
        return _Graph(
            model=model,
            producers={name: node for node in model.graph.node for name in node.output if name},
            consumers=consumers,
            constants={tensor.name: tensor for tensor in model.graph.initializer},
            outputs=frozenset(value.name for value in model.graph.output),
        )

    def producer(self, name: str) -> onnx.NodeProto | None:
        return self.producers.get(name)

    def constant(self, name: str) -> NDArray[Any] | None:
        if name not in self.constants:
            return None
        if name not in self.arrays:
            self.arrays[name] = numpy_helper.to_array(self.constants[name])
        return self.arrays[name]

    def only_consumer(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads a tensor nobody else can see."""
        users = self.consumers.get(name, [])
        return users[0] if len(users) == 1 and name not in self.outputs else None


def _reads(node: onnx.NodeProto) -> list[str]:
    """Names a node reads, those its subgraphs (If, Loop, Scan) take from outside included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
            inner = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            for child in graph.node:
                names += [name for name in _reads(child) if name not in inner]
                inner |= set(child.output)
            names += [value.name for value in graph.output if value.name not in inner]
    return names


def _is_dequantize(node: onnx.NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def _input(node: onnx.NodeProto, index: int) -> str:
    return node.input[index] if len(node.input) > index else ""


# -------------------------------------------------------------------------------- canonical form


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function in the form `cut` reads; running it twice changes nothing.

    Constant nodes become initializers, QuantizeLinear of a constant is folded, layout operators between
    DequantizeLinear and a layer work on the 8-bit tensor instead, every layer has weights and a name of
    its own, and nodes that no output needs are left out.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _constants_to_initializers(copy)
    _fold_constant_quantize(copy)
    _layout_before_dequantize(copy)
    _weights_of_their_own(copy)
    _drop_dead(copy)
    _unique_names(copy)
    return copy


def _unique_names(model: onnx.ModelProto) -> None:
    """Every node gets a name of its own: layers are known by it."""
    seen: set[str] = set()
    for node in model.graph.node:
        node.name = _name(node) if _name(node) not in seen else f"{node.name}_{node.output[0]}"
        seen.add(node.name)


def _replace_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _constants_to_initializers(model: onnx.ModelProto) -> None:
    nodes = []
    for node in model.graph.node:
        tensor = _attribute(node, "value", None) if node.op_type == "Constant" else None
        if tensor is None:
            nodes.append(node)
        else:
            entry = model.graph.initializer.add()
            entry.CopyFrom(tensor)
            entry.name = node.output[0]
    _replace_nodes(model, nodes)


def _fold_constant_quantize(model: onnx.ModelProto) -> None:
    graph = _Graph.of(model)
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
        folded = host.run(_model_like(model, body), {})[node.output[0]]
        model.graph.initializer.append(numpy_helper.from_array(folded, node.output[0]))
    _replace_nodes(model, nodes)


def _layout_before_dequantize(model: onnx.ModelProto) -> None:
    """DequantizeLinear -> Flatten -> layer becomes Flatten -> DequantizeLinear -> layer, for that layer."""
    graph = _Graph.of(model)
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
    _replace_nodes(model, nodes)


def _layout_chain(graph: _Graph, layer: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Layout operators before a layer, nearest the DequantizeLinear first; empty when none can move."""
    if not _is_dequantize(graph.producer(_input(layer, 1))):
        return []
    chain: list[onnx.NodeProto] = []
    node = graph.producer(layer.input[0])
    while node is not None and node.op_type in LAYOUT_OPERATORS and len(node.output) == 1:
        if node.op_type == "MaxPool" and opset(graph.model) < 12:  # 8-bit MaxPool came with opset 12
            return []
        chain.insert(0, node)
        node = graph.producer(node.input[0])
    per_tensor = node is not None and _is_dequantize(node) and _size(graph, _input(node, 1)) == 1
    return chain if per_tensor else []


def _size(graph: _Graph, name: str) -> int:
    array = graph.constant(name)
    return 0 if array is None else array.size


def _moved_chain(graph: _Graph, chain: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    dequantize = graph.producers[chain[0].input[0]]
    current = dequantize.input[0]
    clones = []
    for node in chain:
        clone = onnx.NodeProto()
        clone.CopyFrom(node)
        clone.name = f"{_name(node)}_8bit"
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
    graph = _Graph.of(model)
    used: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        dequantize = graph.producer(_input(node, 1)) if node.op_type in ARRAY_OPERATORS else None
        if dequantize is not None and _is_dequantize(dequantize) and dequantize.input[0] in graph.constants:
            weight = dequantize.input[0]
            if weight in used or any(user is not dequantize for user in graph.consumers[weight]):
                tensor = model.graph.initializer.add()
                tensor.CopyFrom(graph.constants[weight])
                tensor.name = f"{weight}_of_{_name(node)}"
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
    _replace_nodes(model, nodes)


def _drop_dead(model: onnx.ModelProto) -> None:
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(_reads(node))
            kept.append(node)
    _replace_nodes(model, reversed(kept))
    initializers = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    del model.graph.initializer[:]
    model.graph.initializer.extend(initializers)


def _model_like(model: onnx.ModelProto, graph: onnx.GraphProto) -> onnx.ModelProto:
    """A model around `graph` with the versions, operator sets and functions of `model`."""
    made = helper.make_model(graph, opset_imports=model.opset_import, functions=model.functions)
    made.ir_version = model.ir_version
    return made


# -------------------------------------------------------------------------------- shapes


@dataclass(frozen=True)
class _Types:
    """Element type and shape of tensors: as declared (open batch), and of one sample (batch 1)."""

    declared: dict[str, onnx.ValueInfoProto]
    shapes: dict[str, tuple[int, ...]]


def _infer(model: onnx.ModelProto, wanted: Iterable[str]) -> _Types:
    declared = _value_infos(onnx.shape_inference.infer_shapes(model, data_prop=True))
    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]
    for value in graph_inputs(single):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    shapes: dict[str, tuple[int, ...]] = {}
    for name, info in _value_infos(onnx.shape_inference.infer_shapes(single, data_prop=True)).items():
        dims = info.type.tensor_type.shape.dim if info.type.tensor_type.HasField("shape") else None
        if dims is not None and all(dim.HasField("dim_value") for dim in dims):
            shapes[name] = tuple(dim.dim_value for dim in dims)
    missing = [name for name in wanted if name not in shapes or name not in declared]
    if missing:
        _measure(single, missing, declared, shapes)
    return _Types(declared, shapes)


def _value_infos(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    values = [*model.graph.value_info, *model.graph.output, *model.graph.input]
    return {value.name: value for value in values if value.type.tensor_type.elem_type}


def _measure(
    single: onnx.ModelProto,
    missing: list[str],
    declared: dict[str, onnx.ValueInfoProto],
    shapes: dict[str, tuple[int, ...]],
) -> None:
    """What shape inference does not know is taken from a run on one sample of zeros."""
    already = {value.name for value in single.graph.output}
    del single.graph.output[:]
    single.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(missing))
    feeds = {}
    for value in graph_inputs(single):
        tensor = value.type.tensor_type
        kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        feeds[value.name] = np.zeros([dim.dim_value for dim in tensor.shape.dim], kind)
    for name, array in host.run(single, feeds).items():
        shapes[name] = array.shape
        if name not in declared or name in already:
            element = int(helper.np_dtype_to_tensor_dtype(array.dtype))
            declared[name] = helper.make_tensor_value_info(name, element, None)


# -------------------------------------------------------------------------------- array layers


class _OnHost(Exception):  # noqa: N818 - a decision, not an error
    """Why a Conv, Gemm or MatMul cannot run on the array."""


@dataclass(frozen=True)
class _Weights:
    tensor: str
    codes: NDArray[np.int8]  # [channels, reduction]
    scales: NDArray[np.float32]  # [channels]


def _array_layer(graph: _Graph, types: _Types, node: onnx.NodeProto) -> tuple[ArrayLayer, list[onnx.NodeProto]]:
    """The layer `node` makes and the nodes it takes over; `_OnHost` with the reason when it cannot."""
    data, input_quantization = _layer_input(graph, types, node)
    weights = _layer_weights(graph, node)
    channels = len(weights.codes)
    bias = _layer_bias(graph, node, input_quantization.scale * weights.scales)
    output, quantization, clamp, covered = _layer_output(graph, node)
    window = _window(graph, types, node, data) if node.op_type == "Conv" else None
    for name in (data, node.output[0]):
        shape = types.shapes.get(name, ())
        if len(shape) < 2 or shape[0] != 1:
            raise _OnHost(f"tensor '{name}' has shape {list(shape)} for one sample: axis 0 must be the batch")
    assert len(bias) == channels
    layer = ArrayLayer(
        name=_name(node), op=node.op_type, input=data, output=output, weight_tensor=weights.tensor,
        weights=weights.codes, weight_scales=weights.scales, bias=bias, input_quantization=input_quantization,
        output_quantization=quantization, clamp=clamp, input_shape=types.shapes[data][1:],
        output_shape=types.shapes[node.output[0]][1:], window=window,
        groups=_attribute(node, "group", 1) if window else 1,
    )  # fmt: skip
    return layer, covered


def _layer_input(graph: _Graph, types: _Types, node: onnx.NodeProto) -> tuple[str, Quantization]:
    dequantize = graph.producer(node.input[0])
    if dequantize is None or not _is_dequantize(dequantize):
        raise _OnHost("its input is not quantized (no DequantizeLinear before it)")
    name = dequantize.input[0]
    if name in graph.constants or name not in types.declared:
        raise _OnHost("its input is constant or of unknown type")
    kind = types.declared[name].type.tensor_type.elem_type
    quantization = _quantization(graph, dequantize, kind)
    if quantization is None:
        raise _OnHost("its input is not quantized to 8 bits with one constant scale per tensor")
    return name, quantization


def _quantization(graph: _Graph, node: onnx.NodeProto, kind: int) -> Quantization | None:
    """The 8-bit per-tensor parameters of a QuantizeLinear or DequantizeLinear; None for anything else."""
    scale, zero_name = graph.constant(_input(node, 1)), _input(node, 2)
    zero = graph.constant(zero_name) if zero_name else np.zeros(1, np.int64)
    if scale is None or zero is None or scale.dtype != np.float32 or scale.size != 1 or zero.size != 1:
        return None
    if kind not in (TensorProto.INT8, TensorProto.UINT8) or not scale.item() > 0:
        return None
    unsigned = kind == TensorProto.UINT8
    return Quantization(np.float32(scale.item()), int(zero.item()) - (128 if unsigned else 0), unsigned)


def _layer_weights(graph: _Graph, node: onnx.NodeProto) -> _Weights:
    dequantize = graph.producer(_input(node, 1))
    codes = graph.constant(dequantize.input[0]) if dequantize is not None and _is_dequantize(dequantize) else None
    if dequantize is None or codes is None:
        raise _OnHost("its weights are not quantized constants")
    if codes.dtype not in (np.int8, np.uint8) or _attribute(dequantize, "block_size", 0):
        raise _OnHost(f"its weights are {codes.dtype} or quantized in blocks, not 8 bits per channel")
    scale, zero_name = graph.constant(_input(dequantize, 1)), _input(dequantize, 2)
    zero = graph.constant(zero_name) if zero_name else np.zeros(1, codes.dtype)
    middle = 128 if codes.dtype == np.uint8 else 0
    if scale is None or zero is None or scale.dtype != np.float32:
        raise _OnHost("its weight scale or zero point is not a constant")
    if np.any(zero != middle):
        raise _OnHost(f"its weights are not symmetric (a zero point other than {middle})")
    if node.op_type != "Conv" and codes.ndim != 2:
        raise _OnHost(f"its weights have {codes.ndim} axes, not 2")
    if node.op_type == "Gemm" and (
        _attribute(node, "alpha", 1.0) != 1.0 or _attribute(node, "beta", 1.0) != 1.0 or _attribute(node, "transA", 0)
    ):
        raise _OnHost("alpha and beta must be 1 and transA 0")
    channel_axis = _channel_axis(node)
    rows = _to_rows(node, codes)
    axis = _attribute(dequantize, "axis", 1) % codes.ndim
    if scale.size > 1 and (axis != channel_axis or scale.size != len(rows)):
        raise _OnHost(f"its weight scales run along axis {axis}, not along the output channels")
    signed = (rows ^ np.uint8(0x80)).view(np.int8) if rows.dtype == np.uint8 else rows
    scales = np.broadcast_to(scale.reshape(-1), (len(rows),)).astype(np.float32)
    return _Weights(dequantize.input[0], np.ascontiguousarray(signed), scales)


def _channel_axis(node: onnx.NodeProto) -> int:
    return 0 if node.op_type == "Conv" or (node.op_type == "Gemm" and _attribute(node, "transB", 0)) else 1


def _to_rows(node: onnx.NodeProto, tensor: NDArray[Any]) -> NDArray[Any]:
    """ONNX weights -> [channels, reduction], the reduction in kernel position, input channel order."""
    if node.op_type == "Conv":
        return np.moveaxis(tensor, 1, -1).reshape(tensor.shape[0], -1)
    return tensor if _channel_axis(node) == 0 else tensor.T


def _from_rows(node: onnx.NodeProto, rows: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The inverse of `_to_rows`: [channels, reduction] -> ONNX weights of `shape`."""
    if node.op_type == "Conv":
        return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
    return rows if _channel_axis(node) == 0 else rows.T


def _layer_bias(graph: _Graph, node: onnx.NodeProto, scales: NDArray[np.float32]) -> NDArray[np.int32]:
    name = _input(node, 2)
    if not name or node.op_type == "MatMul":
        return np.zeros(len(scales), np.int32)
    dequantize = graph.producer(name)
    codes = graph.constant(dequantize.input[0]) if dequantize is not None and _is_dequantize(dequantize) else None
    if dequantize is None or codes is None or codes.dtype != np.int32:
        raise _OnHost("its bias is not a quantized int32 constant")
    scale, zero_name = graph.constant(_input(dequantize, 1)), _input(dequantize, 2)
    zero = graph.constant(zero_name) if zero_name else np.zeros(1, np.int32)
    if scale is None or zero is None or np.any(zero):
        raise _OnHost("its bias has a scale that is not constant, or a zero point")
    if codes.size not in (1, len(scales)) or scale.size not in (1, len(scales)):
        raise _OnHost(f"its bias has {codes.size} values for {len(scales)} channels")
    if not np.allclose(scale.reshape(-1), scales, rtol=BIAS_SCALE_TOLERANCE, atol=0):
        raise _OnHost("the scale of its bias is not input scale x weight scale")
    return np.ascontiguousarray(np.broadcast_to(codes.reshape(-1), (len(scales),)))


def _layer_output(
    graph: _Graph, node: onnx.NodeProto
) -> tuple[str, Quantization | None, tuple[int, int], list[onnx.NodeProto]]:
    """Output tensor, its quantization, clamp and the nodes taken over; raw if nothing quantizes it alone."""
    raw = (node.output[0], None, (INT8_MIN, INT8_MAX), [node])
    covered = [node]
    after = graph.only_consumer(node.output[0])
    activation = after if after is not None and after.op_type in ("Relu", "Clip") else None
    if activation is not None:
        covered.append(activation)
        after = graph.only_consumer(activation.output[0])
    if after is None or after.op_type != "QuantizeLinear" or after.input[0] != covered[-1].output[0]:
        return raw
    zero = graph.constants.get(_input(after, 2))
    default_kind = _attribute(after, "output_dtype", 0) or TensorProto.UINT8
    quantization = _quantization(graph, after, zero.data_type if zero is not None else default_kind)
    clamp = _clamp(graph, activation, quantization) if quantization is not None else None
    if quantization is None or clamp is None:
        return raw
    return after.output[0], quantization, clamp, [*covered, after]


def _clamp(graph: _Graph, activation: onnx.NodeProto | None, output: Quantization) -> tuple[int, int] | None:
    """ReLU or Clip in the int8 domain; None when a bound is not constant."""
    if activation is None:
        return INT8_MIN, INT8_MAX
    if activation.op_type == "Relu":
        return max(INT8_MIN, output.zero_point), INT8_MAX
    codes = []
    for index, default in ((1, INT8_MIN), (2, INT8_MAX)):
        name = _input(activation, index)
        bound = graph.constant(name) if name else None
        if name and bound is None:
            return None
        if bound is None:
            codes.append(default)
        else:
            with np.errstate(over="ignore"):
                steps = np.rint(np.float32(bound.item()) / output.scale)
            codes.append(int(np.clip(float(steps) + output.zero_point, INT8_MIN, INT8_MAX)))
    return codes[0], codes[1]


def _window(graph: _Graph, types: _Types, node: onnx.NodeProto, data: str) -> Window:
    dequantize = graph.producers[node.input[1]]
    kernel = tuple(graph.constants[dequantize.input[0]].dims[2:])
    shape = types.shapes.get(data, ())
    axes = len(kernel)
    if len(shape) != axes + 2 or not 1 <= axes <= 3:
        raise _OnHost(f"its kernel has {axes} axes; 1, 2 or 3 are supported")
    strides = tuple(_attribute(node, "strides", [1] * axes))
    dilations = tuple(_attribute(node, "dilations", [1] * axes))
    pads = tuple(_attribute(node, "pads", [0] * 2 * axes))
    auto_pad = _attribute(node, "auto_pad", b"NOTSET").decode()
    if auto_pad != "NOTSET":
        pads = _resolve_auto_pad(auto_pad, shape[2:], kernel, strides, dilations)
    if min(pads, default=0) < 0:
        raise _OnHost(f"it has negative pads {list(pads)}")
    return Window(kernel, strides, pads, dilations)


def _resolve_auto_pad(
    mode: str,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[int, ...]:
    if mode == "VALID":
        return (0,) * (2 * len(kernel))
    begins, ends = [], []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if mode == "SAME_UPPER" else large)
        ends.append(large if mode == "SAME_UPPER" else small)
    return (*begins, *ends)


# -------------------------------------------------------------------------------- cut


def cut(model: onnx.ModelProto, name: str) -> Network:
    """Cut an INT8 QDQ model into array layers and host segments, in the order they run.

    Conv, Gemm and MatMul with 8-bit input and constant 8-bit symmetric weights go to the array, together with
    the ReLU or Clip and the QuantizeLinear that follow alone; everything else goes to the host, and a note
    says why for each Conv, Gemm and MatMul among it. `Network.model` is the model in `canonical` form.
    """
    whole = canonical(model)
    graph = _Graph.of(whole)
    wanted = []
    for node in whole.graph.node:
        if node.op_type in ARRAY_OPERATORS:
            before = graph.producer(node.input[0])
            wanted.append(node.output[0])
            wanted += [before.input[0]] if before is not None and _is_dequantize(before) else []
    types = _infer(whole, wanted)
    layers: list[ArrayLayer] = []
    covered: set[str] = set()
    notes: list[str] = []
    for node in whole.graph.node:
        if node.op_type in ARRAY_OPERATORS and node.domain in ("", "ai.onnx"):
            try:
                layer, nodes = _array_layer(graph, types, node)
            except _OnHost as reason:
                notes.append(f"{node.op_type} '{_name(node)}' stays on the host: {reason}.")
                continue
            layers.append(layer)
            covered.update(output for taken in nodes for output in taken.output)
    host_nodes = _host_nodes(whole, layers, covered)
    steps = tuple(_schedule(graph, types, layers, host_nodes))
    return Network(
        name=name,
        model=whole,
        steps=steps,
        inputs=tuple(value.name for value in graph_inputs(whole)),
        outputs=tuple(value.name for value in whole.graph.output),
        notes=tuple(notes),
    )


def _host_nodes(model: onnx.ModelProto, layers: list[ArrayLayer], covered: set[str]) -> list[onnx.NodeProto]:
    """Nodes the host must run, in order: needed by an output or a layer, and not taken over by a layer."""
    needed = {value.name for value in model.graph.output} | {layer.input for layer in layers}
    nodes = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output) and not covered.intersection(node.output):
            needed.update(_reads(node))
            nodes.append(node)
    return nodes[::-1]


def _schedule(
    graph: _Graph, types: _Types, layers: list[ArrayLayer], nodes: list[onnx.NodeProto]
) -> Iterator[ArrayLayer | HostSegment]:
    """Greedy: all host nodes that are ready as one segment, then all layers that are ready, and again.

    A DequantizeLinear belongs to whichever segment reads it, so that tensors between steps stay 8 bits wide.
    """
    lazy = {node.output[0]: node for node in nodes if _is_lazy(graph, node)}
    ready = {value.name for value in graph_inputs(graph.model)} | set(graph.constants)
    eager = [node for node in nodes if node.output[0] not in lazy]
    waiting = list(layers)
    count = 0
    while eager or waiting:
        segment, rest = [], []
        for node in eager:
            if all(lazy[name].input[0] in ready if name in lazy else name in ready for name in _reads(node)):
                segment.append(node)
                ready.update(node.output)
            else:
                rest.append(node)
        later = {lazy[name].input[0] if name in lazy else name for node in rest for name in _reads(node)}
        later |= {layer.input for layer in waiting} | graph.outputs
        runnable = [layer for layer in waiting if layer.input in ready]
        assert segment or runnable, "the graph has a cycle"
        if segment:
            yield _segment(graph, types, f"host_{count}", segment, lazy, later)
            count += 1
        yield from runnable
        ready.update(layer.output for layer in runnable)
        eager = rest
        waiting = [layer for layer in waiting if layer.output not in ready]


def _is_lazy(graph: _Graph, node: onnx.NodeProto) -> bool:
    return _is_dequantize(node) and node.output[0] not in graph.outputs and _size(graph, node.input[1]) > 0


def _segment(
    graph: _Graph,
    types: _Types,
    name: str,
    nodes: list[onnx.NodeProto],
    lazy: Mapping[str, onnx.NodeProto],
    later: set[str],
) -> HostSegment:
    body: list[onnx.NodeProto] = []
    made: set[str] = set()
    for node in nodes:
        for tensor in _reads(node):
            if tensor in lazy and tensor not in made:
                body.append(lazy[tensor])
                made.add(tensor)
        body.append(node)
        made.update(node.output)
    reads = dict.fromkeys(tensor for node in body for tensor in _reads(node))
    inputs = [tensor for tensor in reads if tensor not in made and tensor not in graph.constants]
    outputs = [tensor for node in body for tensor in node.output if tensor in later]
    extracted = helper.make_graph(
        body,
        name,
        [_declared(types, tensor) for tensor in inputs],
        [_declared(types, tensor) for tensor in outputs],
        [graph.constants[tensor] for tensor in reads if tensor in graph.constants],
    )
    return HostSegment(
        name=name,
        model=_model_like(graph.model, extracted),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        operators=tuple(node.op_type for node in body),
    )


def _declared(types: _Types, tensor: str) -> onnx.ValueInfoProto:
    if tensor in types.declared:
        return types.declared[tensor]
    raise FlowError(f"the type of tensor '{tensor}' cannot be inferred; add it to the model's value_info")


# -------------------------------------------------------------------------------- weights back


def with_weights(
    model: onnx.ModelProto, weights: Mapping[str, NDArray[np.int8]], layers: Iterable[ArrayLayer]
) -> onnx.ModelProto:
    """A copy of `model` (a network's own `Network.model`) with other weights, by layer name.

    `weights` are int8 [channels, reduction]; other layers keep theirs. FlowError for a name
    that is no layer, or a wrong shape.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {layer.name: layer for layer in layers}
    nodes = {_name(node): node for node in copy.graph.node}
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    for name, rows in weights.items():
        layer = known.get(name)
        if layer is None or rows.shape != layer.weights.shape or rows.dtype != np.int8:
            expected = "no such layer" if layer is None else f"int8 {list(layer.weights.shape)}"
            raise FlowError(
                f"weights must match their layer, but '{name}' got {rows.dtype} {list(rows.shape)} for "
                f"{expected}; pass the layer's own shape"
            )
        tensor = tensors[layer.weight_tensor]
        unsigned = tensor.data_type == TensorProto.UINT8
        stored = rows.view(np.uint8) ^ np.uint8(0x80) if unsigned else rows
        array = np.ascontiguousarray(_from_rows(nodes[name], stored, tuple(tensor.dims)))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return copy
