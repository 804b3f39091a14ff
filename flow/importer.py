"""ONNX in, `Network` out: what an imported model must satisfy, and how it is cut into array and host.

`load` reads and checks a file, `cut` finds the layers for the array in an INT8 (QDQ) model, `with_layers` puts
pruned layers back.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow import external, host
from flow.canonical import ARRAY_OPERATORS, canonical
from flow.errors import FlowError, first_line
from flow.graph import (
    Graph,
    Types,
    attribute,
    graph_inputs,
    infer,
    is_dequantize,
    is_standard,
    model_like,
    names,
    node_input,
    node_name,
    opset,
    reads,
    sample_shapes,
    size,
    tensors,
)
from flow.network import INT8_MAX, INT8_MIN, ArrayLayer, HostSegment, Network, Quantization, Window

OLDEST_OPSET = 11
INTEGER = ("QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger")
BIAS_SCALE_TOLERANCE = 1e-5
LARGE_NETWORK = 2**27  # bytes: the matrices of networks with more stay in their files
LARGE_WEIGHT = 2**20
LARGEST = 2**30  # bytes of a tensor of one sample, taking four a value


# -------------------------------------------------------------------------------- load


def load(path: str | Path) -> onnx.ModelProto:
    """Read an ONNX file, with its external data, and check that the flow and ONNX Runtime can run it.

    FlowError: no such file, not ONNX, external data missing, invalid, too old, operators ONNX Runtime
    does not have, inputs that are not tensors, or sizes other than the batch (axis 0) left open.
    """
    model = read(path)
    check(model, str(path))
    return model


def read(path: str | Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data; FlowError when that fails. What it holds is not checked."""
    file = Path(path)
    if not file.is_file():
        found = "is a folder" if file.is_dir() else "does not exist"
        raise FlowError(f"the network must be an ONNX file, but '{file}' {found}; check the path")
    try:
        if file.stat().st_size > LARGE_NETWORK:
            model = external.read(file, LARGE_WEIGHT)
        else:
            model = onnx.load(str(file), format="protobuf", load_external_data=False)
    except (DecodeError, ValueError):
        raise FlowError(
            f"'{file}' is not an ONNX file or is truncated ({file.stat().st_size} bytes); export it again"
        ) from None
    if bad := next((name for name in names(model.graph) if not isinstance(name, str)), None):
        raise FlowError(f"names must be UTF-8, but {bad!r} in '{file}' is not; export it again")
    outside = [(tensor, _located(tensor, file)) for tensor in tensors(model.graph) if external.is_external(tensor)]
    stay = _stay_outside(model, {tensor.name: length for tensor, (_, _, length) in outside})
    for tensor, where in outside:
        _read_external(tensor, *where, tensor.name in stay)
    _constants_are_no_inputs(model)
    return model


def _constants_are_no_inputs(model: onnx.ModelProto) -> None:
    """Up to IR version 3 every constant had to be an input as well, and shape inference wants it there.

    ONNX Runtime folds nothing that an input might change, neither then nor later.
    """
    inputs = graph_inputs(model)
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)


def _stay_outside(model: onnx.ModelProto, lengths: Mapping[str, int]) -> set[str]:
    """Constants that stay in their files: in a large network, matrices that only products and look-ups read."""
    if sum(lengths.values()) <= LARGE_NETWORK:
        return set()
    places = {"MatMul": 1, "Gemm": 1, "Gather": 0}
    used = {value.name for value in model.graph.output}
    for node in model.graph.node:
        own = places.get(node.op_type, -1)
        used.update(name for index, name in enumerate(node.input) if index != own)
        used.update(name for name in reads(node) if name not in node.input)
    matrices = {t.name for t in model.graph.initializer if len(t.dims) == 2 and t.data_type == TensorProto.FLOAT}
    return {name for name in matrices if name not in used and lengths.get(name, 0) > LARGE_WEIGHT}


def _located(tensor: onnx.TensorProto, file: Path) -> tuple[Path, int, int]:
    """File, offset and length of an external constant; only files in the network's folder are read."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, trouble = entries.get("location", ""), ""
    try:
        path = (file.parent / location).resolve()
        offset = int(entries.get("offset", 0))
        size = path.stat().st_size
        length = int(entries.get("length", size - offset))
        if not any(path.is_relative_to(root) for root in (file.parent.resolve(), file.resolve().parent)):
            trouble = "is outside the network's folder"
        elif not path.is_file():
            trouble = "is no file"
        elif not (offset >= 0 and length >= 0 and offset + length <= size):
            trouble = f"has {size:,} bytes, fewer than the {length:,} from {offset:,} on that are wanted"
    except (OSError, ValueError) as error:
        trouble = f"cannot be read ({error.strerror if isinstance(error, OSError) else error})"
    if trouble:
        raise FlowError(f"the external data '{location}' of tensor '{tensor.name}' of '{file}' {trouble}; "
                        "put it next to the network's file")  # fmt: skip
    return path, offset, length


def _read_external(tensor: onnx.TensorProto, path: Path, offset: int, length: int, stays: bool) -> None:
    """Put the values of a constant that is stored beside the model into the model, or note where they are."""
    wanted = math.prod(tensor.dims) * 4
    if stays and length == wanted:
        external.place(tensor, path, offset, length)
        return
    with path.open("rb") as data:
        data.seek(offset)
        tensor.raw_data = data.read(length)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def digest(model: onnx.ModelProto) -> str:
    """The sha256 of a model and of what it keeps in files."""
    copy, whole = onnx.ModelProto(), hashlib.sha256()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if external.is_external(tensor):
            whole.update(external.values(tensor).data)
            del tensor.external_data[:]
    whole.update(copy.SerializeToString(deterministic=True))
    return whole.hexdigest()


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
    _check_constants(model, place)
    try:
        onnx.checker.check_model(external.shell(model))
    except Exception as error:
        raise FlowError(f"'{place}' is not valid ONNX: {first_line(error)}; export it again") from None
    _check_inputs(model, place)
    _check_sizes(model, place)
    for name, reason in refusals(model).items():
        raise FlowError(f"node '{name}' of '{place}' is refused: {reason}")
    try:
        host.session(model)
    except FlowError as error:
        raise FlowError(f"'{place}': {error}") from None


def refusals(model: onnx.ModelProto) -> dict[str, str]:
    """Nodes the flow cannot run, by name or output, with the reason and the remedy."""
    found: dict[str, str] = {}
    own = {(function.domain, function.name) for function in model.functions}
    whole = min(max(opset(model), 0), onnx.defs.onnx_opset_version())
    quantized = is_quantized(model)
    for node in model.graph.node:
        standard = is_standard(node)
        if node.op_type in INTEGER and not quantized:
            reason = f"INT8 networks must be in QDQ form, but it is {node.op_type}; quantize with QuantFormat.QDQ"
        elif standard and not onnx.defs.has(node.op_type, whole, "") and ("", node.op_type) not in own:
            reason = f"{node.op_type} is no ONNX operator of opset {whole}; replace it and export again"
        else:
            continue
        found[node_name(node)] = reason
    return found


def _check_constants(model: onnx.ModelProto, place: str) -> None:
    """Every constant holds as many values as its shape says."""
    for tensor in tensors(model.graph):
        if external.is_external(tensor):
            continue  # of the length its shape wants, or it would have been read
        count, wanted = 0, math.prod(tensor.dims)
        if tensor.HasField("raw_data"):
            count = 8 * len(tensor.raw_data)  # bits; the checker knows the types, and their exact number
        for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"):
            count += 8 * len(getattr(tensor, field))
        if min(tensor.dims, default=0) < 0 or wanted > count:
            raise FlowError(
                f"constants must hold all values of their shape, but '{tensor.name}' of '{place}' has shape "
                f"{list(tensor.dims)} and {count // 8:,} values or bytes; export it again"
            )


def _check_sizes(model: onnx.ModelProto, place: str) -> None:
    """Every tensor of one sample is smaller than `LARGEST`, as far as shape inference can tell.

    Weights that stay in their files may be larger.
    """
    outside = {tensor.name for tensor in model.graph.initializer if external.is_external(tensor)}
    for name, shape in sample_shapes(model).items():
        if name in outside:
            continue
        if 4 * math.prod(shape) >= LARGEST or min(shape, default=0) < 0:
            raise FlowError(
                f"a tensor must take less than {LARGEST >> 30} GiB for one sample, but '{name}' of '{place}' has shape "
                f"{list(shape)}; export with other sizes"
            )


def _check_inputs(model: onnx.ModelProto, place: str) -> None:
    for value in graph_inputs(model):
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise FlowError(
                f"inputs must be tensors of known rank, but '{value.name}' of '{place}' is not; export again"
            )
        dims = value.type.tensor_type.shape.dim
        if not dims:
            raise FlowError(
                f"the first axis of an input must be the batch, but '{value.name}' of '{place}' is a single number; "
                "make it a constant and export again"
            )
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


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the model is already INT8 in QDQ form: some layer's data comes from a DequantizeLinear."""
    graph = Graph.of(model)
    return any(
        node.op_type in ARRAY_OPERATORS and is_dequantize(graph.producer(node.input[1]))
        for node in model.graph.node
        if len(node.input) > 1
    )


# -------------------------------------------------------------------------------- array layers


class _OnHost(Exception):  # noqa: N818 - a decision, not an error
    """Why a Conv, Gemm or MatMul cannot run on the array."""


@dataclass(frozen=True)
class _Weights:
    tensor: str
    codes: NDArray[np.int8]  # [channels, reduction]
    scales: NDArray[np.float32]  # [channels]


def _array_layer(graph: Graph, types: Types, node: onnx.NodeProto) -> tuple[ArrayLayer, list[onnx.NodeProto]]:
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
        name=node_name(node), op=node.op_type, input=data, output=output, weight_tensor=weights.tensor,
        weights=weights.codes, weight_scales=weights.scales, bias=bias, input_quantization=input_quantization,
        output_quantization=quantization, clamp=clamp, input_shape=types.shapes[data][1:],
        output_shape=types.shapes[node.output[0]][1:], window=window,
        groups=attribute(node, "group", 1) if window else 1,
    )  # fmt: skip
    return layer, covered


def _layer_input(graph: Graph, types: Types, node: onnx.NodeProto) -> tuple[str, Quantization]:
    dequantize = graph.producer(node.input[0])
    if dequantize is None or not is_dequantize(dequantize):
        raise _OnHost("its input is not quantized (no DequantizeLinear before it)")
    name = dequantize.input[0]
    if name in graph.constants or name not in types.declared:
        raise _OnHost("its input is constant or of unknown type")
    kind = types.declared[name].type.tensor_type.elem_type
    quantization = _quantization(graph, dequantize, kind)
    if quantization is None:
        raise _OnHost("its input is not quantized to 8 bits with one constant scale per tensor")
    return name, quantization


def _quantization(graph: Graph, node: onnx.NodeProto, kind: int) -> Quantization | None:
    """The 8-bit per-tensor parameters of a QuantizeLinear or DequantizeLinear; None for anything else."""
    scale, zero_name = graph.constant(node_input(node, 1)), node_input(node, 2)
    zero = graph.constant(zero_name) if zero_name else np.zeros(1, np.int64)
    if scale is None or zero is None or scale.dtype != np.float32 or scale.size != 1 or zero.size != 1:
        return None
    if kind not in (TensorProto.INT8, TensorProto.UINT8) or not 0 < scale.item() < np.inf:
        return None
    unsigned = kind == TensorProto.UINT8
    return Quantization(np.float32(scale.item()), int(zero.item()) - (128 if unsigned else 0), unsigned)


def tensor_quantization(graph: Graph, node: onnx.NodeProto) -> Quantization | None:
    """The 8-bit per-tensor parameters of a QuantizeLinear; None for anything else."""
    zero = graph.constants.get(node_input(node, 2))
    default_kind = attribute(node, "output_dtype", 0) or TensorProto.UINT8
    return _quantization(graph, node, zero.data_type if zero is not None else default_kind)


def _layer_weights(graph: Graph, node: onnx.NodeProto) -> _Weights:
    dequantize = graph.producer(node_input(node, 1))
    codes = graph.constant(dequantize.input[0]) if dequantize is not None and is_dequantize(dequantize) else None
    if dequantize is None or codes is None:
        raise _OnHost("its weights are not quantized constants")
    if codes.dtype not in (np.int8, np.uint8) or attribute(dequantize, "block_size", 0):
        raise _OnHost(f"its weights are {codes.dtype} or quantized in blocks, not 8 bits per channel")
    scale, zero_name = graph.constant(node_input(dequantize, 1)), node_input(dequantize, 2)
    zero = graph.constant(zero_name) if zero_name else np.zeros(1, codes.dtype)
    middle = 128 if codes.dtype == np.uint8 else 0
    if scale is None or zero is None or scale.dtype != np.float32:
        raise _OnHost("its weight scale or zero point is not a constant")
    if not np.isfinite(scale).all():
        raise _OnHost("its weight scales are not finite")
    if np.any(zero != middle):
        raise _OnHost(f"its weights are not symmetric (a zero point other than {middle})")
    if node.op_type != "Conv" and codes.ndim != 2:
        raise _OnHost(f"its weights have {codes.ndim} axes, not 2")
    if node.op_type == "Gemm" and (
        attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0 or attribute(node, "transA", 0)
    ):
        raise _OnHost("alpha and beta must be 1 and transA 0")
    channel_axis = _channel_axis(node)
    rows = _to_rows(node, codes)
    axis = attribute(dequantize, "axis", 1) % codes.ndim
    if scale.size != 1 and (axis != channel_axis or scale.size != len(rows)):
        raise _OnHost(f"its weight scales run along axis {axis}, not along the output channels")
    signed = (rows ^ np.uint8(0x80)).view(np.int8) if rows.dtype == np.uint8 else rows
    scales = np.broadcast_to(scale.reshape(-1), (len(rows),)).astype(np.float32)
    return _Weights(dequantize.input[0], np.ascontiguousarray(signed), scales)


def _channel_axis(node: onnx.NodeProto) -> int:
    return 0 if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)) else 1


def _to_rows(node: onnx.NodeProto, tensor: NDArray[Any]) -> NDArray[Any]:
    """ONNX weights -> [channels, reduction], the reduction in kernel position, input channel order."""
    if node.op_type == "Conv":
        return np.moveaxis(tensor, 1, -1).reshape(tensor.shape[0], -1)
    return tensor if _channel_axis(node) == 0 else tensor.T


def from_rows(node: onnx.NodeProto, rows: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The inverse of `_to_rows`: [channels, reduction] -> ONNX weights of `shape`."""
    if node.op_type == "Conv":
        return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
    return rows if _channel_axis(node) == 0 else rows.T


def _layer_bias(
    graph: Graph, node: onnx.NodeProto, scales: NDArray[np.float32], strict: bool = True
) -> NDArray[np.int32]:
    """Bias codes, int32 [channels]; with `strict` their scale must be `scales`."""
    name = node_input(node, 2)
    if not name or node.op_type == "MatMul":
        return np.zeros(len(scales), np.int32)
    dequantize = graph.producer(name)
    codes = graph.constant(dequantize.input[0]) if dequantize is not None and is_dequantize(dequantize) else None
    if dequantize is None or codes is None or codes.dtype != np.int32:
        raise _OnHost("its bias is not a quantized int32 constant")
    scale, zero_name = graph.constant(node_input(dequantize, 1)), node_input(dequantize, 2)
    zero = graph.constant(zero_name) if zero_name else np.zeros(1, np.int32)
    if scale is None or zero is None or np.any(zero):
        raise _OnHost("its bias has a scale that is not constant, or a zero point")
    if codes.size not in (1, len(scales)) or scale.size not in (1, len(scales)):
        raise _OnHost(f"its bias has {codes.size} values for {len(scales)} channels")
    if strict and not np.allclose(scale.reshape(-1), scales, rtol=BIAS_SCALE_TOLERANCE, atol=0):
        raise _OnHost("the scale of its bias is not input scale x weight scale")
    return np.ascontiguousarray(np.broadcast_to(codes.reshape(-1), (len(scales),)))


def _layer_output(
    graph: Graph, node: onnx.NodeProto
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
    quantization = tensor_quantization(graph, after)
    clamp = activation_clamp(graph, activation, quantization) if quantization is not None else None
    if quantization is None or clamp is None:
        return raw
    return after.output[0], quantization, clamp, [*covered, after]


def activation_clamp(graph: Graph, activation: onnx.NodeProto | None, output: Quantization) -> tuple[int, int] | None:
    """ReLU or Clip in the int8 domain; None when a bound is not constant."""
    if activation is None:
        return INT8_MIN, INT8_MAX
    if activation.op_type == "Relu":
        return max(INT8_MIN, output.zero_point), INT8_MAX
    codes = []
    for index, default in ((1, INT8_MIN), (2, INT8_MAX)):
        name = node_input(activation, index)
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


def _window(graph: Graph, types: Types, node: onnx.NodeProto, data: str) -> Window:
    dequantize = graph.producers[node.input[1]]
    kernel = tuple(graph.constants[dequantize.input[0]].dims[2:])
    shape = types.shapes.get(data, ())
    axes = len(kernel)
    if len(shape) != axes + 2 or not 1 <= axes <= 3:
        raise _OnHost(f"its kernel has {axes} axes; 1, 2 or 3 are supported")
    strides = tuple(attribute(node, "strides", [1] * axes))
    dilations = tuple(attribute(node, "dilations", [1] * axes))
    pads = tuple(attribute(node, "pads", [0] * 2 * axes))
    auto_pad = attribute(node, "auto_pad", b"NOTSET").decode()
    if auto_pad != "NOTSET":
        pads = resolve_auto_pad(auto_pad, shape[2:], kernel, strides, dilations)
    if min(pads, default=0) < 0:
        raise _OnHost(f"it has negative pads {list(pads)}")
    return Window(kernel, strides, pads, dilations)


def resolve_auto_pad(
    mode: str,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[int, ...]:
    """ONNX's auto_pad as pads: the beginnings of all axes, then the ends."""
    if mode == "VALID":
        return (0,) * (2 * len(kernel))
    begins, ends = [], []
    for extent, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-extent // stride) - 1) * stride + (taps - 1) * dilation + 1 - extent, 0)
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
    graph = Graph.of(whole)
    wanted = []
    for node in whole.graph.node:
        if node.op_type in ARRAY_OPERATORS:
            before = graph.producer(node.input[0])
            wanted.append(node.output[0])
            wanted += [before.input[0]] if before is not None and is_dequantize(before) else []
    types = infer(whole, wanted)
    layers: list[ArrayLayer] = []
    covered: set[str] = set()
    notes: list[str] = []
    for node in whole.graph.node:
        if node.op_type in ARRAY_OPERATORS and is_standard(node):
            try:
                layer, nodes = _array_layer(graph, types, node)
            except _OnHost as reason:
                notes.append(f"{node.op_type} '{node_name(node)}' stays on the host: {reason}.")
                continue
            layers.append(layer)
            covered.update(output for taken in nodes for output in taken.output)
    host_nodes = _host_nodes(whole, layers, covered)
    named = dict.fromkeys(name for node in host_nodes for name in (*reads(node), *node.output) if name)
    if unknown := [name for name in named if name not in types.declared and name not in graph.constants]:
        with contextlib.suppress(FlowError):  # a run on zeros may fail; sequences have no type here anyway
            types = infer(whole, [*wanted, *unknown])  # behind operators of other domains
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
            needed.update(reads(node))
            nodes.append(node)
    return nodes[::-1]


def _schedule(
    graph: Graph, types: Types, layers: list[ArrayLayer], nodes: list[onnx.NodeProto]
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
            if all(lazy[name].input[0] in ready if name in lazy else name in ready for name in reads(node)):
                segment.append(node)
                ready.update(node.output)
            else:
                rest.append(node)
        later = {lazy[name].input[0] if name in lazy else name for node in rest for name in reads(node)}
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


def _is_lazy(graph: Graph, node: onnx.NodeProto) -> bool:
    return is_dequantize(node) and node.output[0] not in graph.outputs and size(graph, node.input[1]) > 0


def _segment(
    graph: Graph,
    types: Types,
    name: str,
    nodes: list[onnx.NodeProto],
    lazy: Mapping[str, onnx.NodeProto],
    later: set[str],
) -> HostSegment:
    body: list[onnx.NodeProto] = []
    made: set[str] = set()
    for node in nodes:
        for tensor in reads(node):
            if tensor in lazy and tensor not in made:
                body.append(lazy[tensor])
                made.add(tensor)
        body.append(node)
        made.update(node.output)
    needed = dict.fromkeys(tensor for node in body for tensor in reads(node))
    inputs = [tensor for tensor in needed if tensor not in made and tensor not in graph.constants]
    outputs = [tensor for node in body for tensor in node.output if tensor in later]
    extracted = helper.make_graph(
        body,
        name,
        [_declared(types, tensor) for tensor in inputs],
        [_declared(types, tensor) for tensor in outputs],
        [graph.constants[tensor] for tensor in needed if tensor in graph.constants],
    )
    return HostSegment(
        name=name,
        model=model_like(graph.model, extracted),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        operators=tuple(node.op_type for node in body),
    )


def _declared(types: Types, tensor: str) -> onnx.ValueInfoProto:
    if tensor in types.declared:
        return types.declared[tensor]
    raise FlowError(f"the type of tensor '{tensor}' cannot be inferred; add it to the model's value_info")


def layer_model(model: onnx.ModelProto, layer: ArrayLayer) -> onnx.ModelProto:
    """The part of the QDQ network between the layer's input and output tensors, as a model of its own."""
    kind = _element(layer.input_quantization)
    output = layer.output_quantization
    result = TensorProto.FLOAT if output is None else _element(output)
    return between(
        model,
        [helper.make_tensor_value_info(layer.input, kind, ["batch", *layer.input_shape])],
        helper.make_tensor_value_info(layer.output, result, ["batch", *layer.output_shape]),
    )


def _element(quantization: Quantization) -> int:
    return int(TensorProto.UINT8 if quantization.unsigned else TensorProto.INT8)


def between(
    model: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto], output: onnx.ValueInfoProto
) -> onnx.ModelProto:
    """The part of a model between these tensors, as a model of its own."""
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    ends = {value.name for value in inputs}
    needed: set[str] = set()
    stack, seen = [output.name], set()
    while stack:
        name = stack.pop()
        if name in seen or name in ends or not name:
            continue
        seen.add(name)
        if name in constants:
            needed.add(name)
            continue
        node = makers[name]
        stack.extend(node.input)
    nodes = [node for node in model.graph.node if any(name in seen for name in node.output)]
    graph = helper.make_graph(nodes, "part", inputs, [output], [constants[name] for name in sorted(needed)])
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def real_weights(prepared: onnx.ModelProto, layers: Iterable[ArrayLayer]) -> dict[str, NDArray[np.float64]]:
    """The float weights that the layers' int8 weights were rounded from, in units of their scales, by layer name.

    `prepared` is the float network that was quantized. float64 [channels, reduction]; layers whose float weights
    are not found, or are something else, are left out.
    """
    graph = Graph.of(prepared)
    nodes = {node_name(node): node for node in prepared.graph.node}
    found = {}
    for layer in layers:
        node = nodes.get(layer.name)
        weights = graph.constant(node_input(node, 1)) if node is not None else None
        if node is None or weights is None or weights.size != layer.weights.size:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            real = _to_rows(node, weights).astype(np.float64) / layer.weight_scales[:, None]
        if real.shape == layer.weights.shape and np.abs(np.clip(real, -128, 127) - layer.weights).max() < 1:
            found[layer.name] = real
    return found


def with_layers(model: onnx.ModelProto, layers: Iterable[ArrayLayer]) -> onnx.ModelProto:
    """A copy of `model` (a network's own, or that of one layer) with these layers' weights, scales and biases.

    What a layer has unchanged stays as it is in the model, to the byte. FlowError for a name that is no layer,
    or weights of another shape. A MatMul has no bias to change.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = Graph.of(copy)
    nodes = {node_name(node): node for node in copy.graph.node}
    for layer in layers:
        node = nodes.get(layer.name)
        _check_shape(graph, node, layer)
        assert node is not None
        tensor = graph.constants[layer.weight_tensor]
        unsigned = tensor.data_type == TensorProto.UINT8
        stored = layer.weights.view(np.uint8) ^ np.uint8(0x80) if unsigned else layer.weights
        array = np.ascontiguousarray(from_rows(node, stored, tuple(tensor.dims)))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        _set_scales(graph, node, layer)
        _set_bias(graph, node, layer)
    return copy


def _check_shape(graph: Graph, node: onnx.NodeProto | None, layer: ArrayLayer) -> None:
    expected = "no such layer"
    if node is not None and layer.weight_tensor in graph.constants:
        dims = tuple(graph.constants[layer.weight_tensor].dims)
        shape = list(_to_rows(node, np.empty(dims, np.int8)).shape)
        expected = f"int8 {shape}"
        if list(layer.weights.shape) == shape and layer.weights.dtype == np.int8:
            return
    raise FlowError(
        f"weights must match their layer, but '{layer.name}' got {layer.weights.dtype} "
        f"{list(layer.weights.shape)} for {expected}; pass the layer's own shape"
    )


def _set_scales(graph: Graph, node: onnx.NodeProto, layer: ArrayLayer) -> None:
    dequantize = graph.producers[node.input[1]]
    scale = graph.constant(dequantize.input[1])
    assert scale is not None
    if np.array_equal(np.broadcast_to(scale.reshape(-1), layer.weight_scales.shape), layer.weight_scales):
        return
    kind = helper.tensor_dtype_to_np_dtype(graph.constants[layer.weight_tensor].data_type)
    zeros = np.full(layer.channels, 128 if kind == np.uint8 else 0, kind)
    names = _add_constants(graph, layer, weight_scale=layer.weight_scales, weight_zero=zeros)
    dequantize.input[:] = [dequantize.input[0], *names]
    _set_axis(dequantize, _channel_axis(node))


def _set_bias(graph: Graph, node: onnx.NodeProto, layer: ArrayLayer) -> None:
    """The bias codes and their scale, s_x * s_w; a layer that has none gets one if it is not zero."""
    if node.op_type == "MatMul":
        assert not layer.bias.any(), f"MatMul '{layer.name}' cannot have a bias"
        return
    scales = (layer.input_quantization.scale * layer.weight_scales).astype(np.float32)
    name = node_input(node, 2)
    if not name and not layer.bias.any():
        return
    if name and np.array_equal(_layer_bias(graph, node, scales, strict=False), layer.bias):
        scale = graph.constant(graph.producers[name].input[1])
        if scale is not None and np.allclose(scale.reshape(-1), scales, rtol=BIAS_SCALE_TOLERANCE, atol=0):
            return
    names = _add_constants(graph, layer, bias=layer.bias, bias_scale=scales)
    output = f"{layer.name}_refined_bias_dequantized"
    dequantize = helper.make_node("DequantizeLinear", names, [output], f"{layer.name}_refined_bias", axis=0)
    position = list(graph.model.graph.node).index(node)
    graph.model.graph.node.insert(position, dequantize)
    here = graph.model.graph.node[position + 1]
    here.input[:] = [*here.input[:2], output]


def _add_constants(graph: Graph, layer: ArrayLayer, **arrays: NDArray[Any]) -> list[str]:
    names = [f"{layer.name}_refined_{name}" for name in arrays]
    for name, array in zip(names, arrays.values(), strict=True):
        graph.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return names


def _set_axis(dequantize: onnx.NodeProto, axis: int) -> None:
    kept = [entry for entry in dequantize.attribute if entry.name != "axis"]
    del dequantize.attribute[:]
    dequantize.attribute.extend([*kept, helper.make_attribute("axis", axis)])
