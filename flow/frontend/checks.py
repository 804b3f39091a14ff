"""Requirements on an imported model, and the nodes that are refused."""

from __future__ import annotations

import math

import onnx

from flow.errors import FlowError, first_line
from flow.frontend.operators import ARRAY_OPERATORS
from flow.onnxtools import external, runtime
from flow.onnxtools.graph import Graph, graph_inputs, is_dequantize, is_standard, node_name, opset, tensors
from flow.onnxtools.shapes import sample_shapes

OLDEST_OPSET = 11
LARGEST = 2**30  # bytes of a tensor of one sample, at four bytes per value


def check(model: onnx.ModelProto, place: str) -> None:
    """Raise FlowError if the flow cannot run the model; `place` is the file named in the message."""
    if not model.graph.node or not model.opset_import:
        raise FlowError(f"'{place}' holds no ONNX graph ({len(model.graph.node)} nodes); export it again")
    version = opset(model)
    if version < OLDEST_OPSET:
        raise FlowError(
            f"opset {OLDEST_OPSET} or later is needed, but '{place}' has opset {version}; "
            "convert it with onnx.version_converter"
        )
    check_constants(model, place)
    try:
        onnx.checker.check_model(external.externals_as_inputs(model))
    except Exception as error:
        raise FlowError(f"'{place}' is not valid ONNX: {first_line(error)}; export it again") from None
    _check_inputs(model, place)
    _check_sizes(model, place)
    for name, reason in refusals(model).items():
        raise FlowError(f"node '{name}' of '{place}' is refused: {reason}")
    try:
        runtime.session(model)
    except FlowError as error:
        raise FlowError(f"'{place}': {error}") from None


def refusals(model: onnx.ModelProto) -> dict[str, str]:
    """Nodes the flow cannot run, by name or output, with the reason and the remedy."""
    reasons: dict[str, str] = {}
    own = {(function.domain, function.name) for function in model.functions}
    version = min(max(opset(model), 0), onnx.defs.onnx_opset_version())
    for node in model.graph.node:
        standard = is_standard(node)
        if standard and not onnx.defs.has(node.op_type, version, "") and ("", node.op_type) not in own:
            reason = f"{node.op_type} is no ONNX operator of opset {version}; replace it and export again"
        else:
            continue
        reasons[node_name(node)] = reason
    return reasons


def check_constants(model: onnx.ModelProto, place: str) -> None:
    """Every constant holds as many values as its shape says."""
    for tensor in tensors(model.graph):
        if external.is_external(tensor):
            continue  # its length matches its shape, or it would be in memory
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
