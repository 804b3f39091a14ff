"""Requirements on an imported model, and the nodes that are refused."""

from __future__ import annotations

import math

import onnx

from flow.errors import FlowError, first_line
from flow.frontend.operators import ARRAY_OPERATORS
from flow.network.samples import random
from flow.onnxtools import external, runtime
from flow.onnxtools.graph import Graph, is_dequantize, is_standard, node_name, opset, subgraphs, tensors
from flow.onnxtools.shapes import sample_shapes

OLDEST_OPSET = 6
OWN = "ai.onnx.runtime"  # domain of what is not checked
LONGEST = 10.0  # seconds that a network with a loop may take for one sample
LARGEST = 2**30  # bytes of a tensor of one sample, at four bytes per value


def check_form(model: onnx.ModelProto, place: str) -> None:
    """Raise FlowError if a model that was read is not valid ONNX; `place` is the file named in the message."""
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
        onnx.checker.check_model(checkable(external.externals_as_inputs(model)))
    except Exception as error:
        raise FlowError(f"'{place}' is not valid ONNX: {first_line(error)}; export it again") from None


def check(model: onnx.ModelProto, place: str) -> None:
    """Raise FlowError if the flow cannot run the model, which takes one sample at a time."""
    _check_sizes(model, place)
    for name, reason in refusals(model).items():
        raise FlowError(f"node '{name}' of '{place}' is refused: {reason}")
    try:
        runtime.session(model)
    except FlowError as error:
        raise FlowError(f"'{place}': {error}") from None
    if (loop := _loop(model.graph)) is not None and not runtime.ends(model, random(model, 1).feeds, LONGEST):
        raise FlowError(
            f"a network must end, but loop '{node_name(loop)}' of '{place}' runs for more than {LONGEST:.0f} s on one "
            "made-up sample; give it a trip count and export again"
        )


def _loop(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """A Loop of a graph or its subgraphs."""
    for node in graph.node:
        found = node if node.op_type == "Loop" else next(filter(None, map(_loop, subgraphs(node))), None)
        if found is not None:
            return found
    return None


def refusals(model: onnx.ModelProto) -> dict[str, str]:
    """Nodes the flow cannot run, by name or output, with the reason and the remedy."""
    unknown = _unknown(model)
    if not unknown or runtime.accepts(model):
        return {}
    version = _version(model)
    return {
        node_name(node): f"{node.op_type} is no ONNX operator of opset {version}; replace it and export again"
        for node in unknown
    }


def _unknown(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes in the standard domain that ONNX does not know."""
    own = {(function.domain, function.name) for function in model.functions}
    version = _version(model)
    return [
        node for node in model.graph.node
        if is_standard(node) and not onnx.defs.has(node.op_type, version, "") and ("", node.op_type) not in own
    ]  # fmt: skip


def _version(model: onnx.ModelProto) -> int:
    """The opset of the standard domain, as far as ONNX knows it."""
    return min(max(opset(model), 0), onnx.defs.onnx_opset_version())


def checkable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a domain of its own for what ONNX does not know and ONNX Runtime runs all the same.

    Its tools write operators of its own into the standard domain, such as SimplifiedLayerNormalization.
    """
    if not _unknown(model) or not runtime.accepts(model):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in _unknown(copy):
        node.domain = OWN
    copy.opset_import.append(onnx.helper.make_opsetid(OWN, 1))
    return copy


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


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the model is already INT8 in QDQ form: some layer's data comes from a DequantizeLinear."""
    graph = Graph.of(model)
    return any(
        node.op_type in ARRAY_OPERATORS and is_dequantize(graph.producer(node.input[1]))
        for node in model.graph.node
        if len(node.input) > 1
    )
