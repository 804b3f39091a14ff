"""ONNX files: reading, with external data, and digests of models."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from flow.errors import FlowError, first_line
from flow.onnxtools import external
from flow.onnxtools.edit import replace_nodes
from flow.onnxtools.graph import attribute, graph_inputs, is_standard, names, reads, subgraphs, tensors

LARGE_NETWORK = 2**27  # bytes of constants: in larger networks, large matrices stay in their files
LARGE_WEIGHT = 2**20  # bytes
STANDARD = 17  # opset of a network without standard operators
LARGEST_SPARSE = 2**30  # bytes of a sparse constant made dense, at four for each value
ANY_WEIGHT = external.SMALL  # bytes, of what stays in its file in any network that is read `lean`
# operands that may stay in their files: of large networks, and of those that are read `lean`
PLACES: dict[str, tuple[int, ...]] = {"MatMul": (1,), "Gemm": (1,), "Gather": (0,)}
MORE_PLACES = PLACES | {
    "Conv": (1,), "ConvInteger": (1,), "ConvTranspose": (1,), "DequantizeLinear": (0,), "DynamicQuantizeLSTM": (1, 2),
    "DynamicQuantizeMatMul": (1,), "GRU": (1, 2), "LSTM": (1, 2), "MatMulInteger": (1,), "MatMulIntegerToFloat": (1,),
    "MatMulNBits": (1,), "QGemm": (3,), "QLinearConv": (3,), "QLinearMatMul": (3,), "RNN": (1, 2),
}  # fmt: skip
KINDS = (TensorProto.FLOAT,)
MORE_KINDS = (*KINDS, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8)


def from_memory(model: onnx.ModelProto, lean: bool = False) -> onnx.ModelProto:
    """A copy of a model that is in memory already. FlowError if constants are in files, whose folder is not known.

    With `lean`, what `read` would leave in the file is copied as `external.constant` puts it.
    """
    for tensor in tensors(model.graph):
        if external.is_external(tensor):
            raise FlowError(
                f"constants of a model in memory must be in memory, but '{tensor.name}' is in a file; load them with "
                "onnx.load, or give the path of the network"
            )
    whole = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) == _bytes(tensor)]
    lengths = {tensor.name: len(tensor.raw_data) for tensor in whole}
    copy = external.copied(model, _stay_outside(model, lengths, lean) if lean else set())
    _normalize(copy)
    return copy


def read(path: str | Path, lean: bool = False) -> onnx.ModelProto:
    """Read an ONNX file with its external data; FlowError when that fails. Its content is not checked.

    Of a large network, large matrices stay in their files. With `lean`, weights of any network do, also those of
    convolutions and recurrent layers: what is made of them must have files, too (`external.made_in_files`).
    """
    file = Path(path)
    if not file.is_file():
        found = "is a folder" if file.is_dir() else "is no regular file" if file.exists() else "does not exist"
        raise FlowError(f"the network must be an ONNX file, but '{file}' {found}; check the path")
    try:
        if lean or file.stat().st_size > LARGE_NETWORK:
            model = external.read(file, ANY_WEIGHT if lean else LARGE_WEIGHT)
        else:
            model = onnx.load(str(file), format="protobuf", load_external_data=False)
    except (DecodeError, ValueError):
        raise FlowError(
            f"'{file}' is not an ONNX file or is truncated ({file.stat().st_size} bytes); export it again"
        ) from None
    if bad := next((name for name in names(model.graph) if not isinstance(name, str)), None):
        raise FlowError(f"names must be UTF-8, but {bad!r} in '{file}' is not; export it again")
    outside = [(tensor, _located(tensor, file)) for tensor in tensors(model.graph) if external.is_external(tensor)]
    stay = _stay_outside(model, {tensor.name: length for tensor, (_, _, length) in outside}, lean)
    for tensor, where in outside:
        _read_external(tensor, *where, tensor.name in stay)
    _normalize(model)
    return model


def _normalize(model: onnx.ModelProto) -> None:
    """Mend what ONNX Runtime accepts and ONNX's checker does not, or the other way round."""
    _drop_repeated_initializers(model)
    _drop_initializers_from_inputs(model)
    _declare_domains(model)
    _sort_nodes(model)
    _make_dense(model.graph)
    _one_sided_spectra(model)
    _declare_outputs(model)


def _drop_repeated_initializers(model: onnx.ModelProto) -> None:
    """Of constants of one name, the last one counts, as in ONNX Runtime."""
    last = {tensor.name: number for number, tensor in enumerate(model.graph.initializer)}
    if len(last) < len(model.graph.initializer):
        kept = [tensor for number, tensor in enumerate(model.graph.initializer) if last[tensor.name] == number]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)


def _one_sided_spectra(model: onnx.ModelProto) -> None:
    """Say that a STFT is one-sided where that is its default: ONNX's shape inference takes it for two-sided."""
    for node in model.graph.node:
        if node.op_type == "STFT" and is_standard(node) and attribute(node, "onesided", None) is None:
            node.attribute.append(helper.make_attribute("onesided", 1))


def _make_dense(graph: onnx.GraphProto) -> None:
    """Sparse constants of a graph and its subgraphs become dense ones."""
    for sparse in graph.sparse_initializer:
        graph.initializer.append(_dense(sparse, sparse.values.name))
    del graph.sparse_initializer[:]
    for node in graph.node:
        for entry in node.attribute if node.op_type == "Constant" else ():
            if entry.HasField("sparse_tensor"):
                dense = _dense(entry.sparse_tensor, entry.sparse_tensor.values.name)
                entry.CopyFrom(helper.make_attribute("value", dense))
        for inner in subgraphs(node):
            _make_dense(inner)


def _dense(sparse: onnx.SparseTensorProto, name: str) -> onnx.TensorProto:
    """A constant of zeros and the values at their indices, one number for each or one for each axis."""
    try:
        if 4 * math.prod(sparse.dims) >= LARGEST_SPARSE or min(sparse.dims, default=0) < 0:
            raise ValueError(f"its shape is {list(sparse.dims)}")
        values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        array = np.zeros(tuple(sparse.dims), values.dtype)
        if places.ndim == 2:
            array[tuple(places.T)] = values
        else:
            array.reshape(-1)[places] = values
    except (IndexError, TypeError, ValueError) as error:
        raise FlowError(
            f"sparse constants must hold values and their indices, but '{name}' does not: {first_line(error)}; export "
            "it as a dense one"
        ) from None
    return numpy_helper.from_array(array, name)


def _declare_outputs(model: onnx.ModelProto) -> None:
    """Give outputs without type or number of axes those that follow from the network, where they do."""
    missing = [
        value for value in model.graph.output
        if not value.HasField("type")
        or (value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"))
    ]  # fmt: skip
    if not missing:
        return
    with contextlib.suppress(Exception):  # what does not fit is found later
        inferred = onnx.shape_inference.infer_shapes(external.large_as_inputs(model)).graph
        found = {value.name: value.type for value in (*inferred.value_info, *inferred.output)}
        for value in missing:
            if (kind := found.get(value.name)) is not None and kind.tensor_type.HasField("shape"):
                value.type.CopyFrom(kind)
                for dim in value.type.tensor_type.shape.dim:
                    dim.Clear()


def _declare_domains(model: onnx.ModelProto) -> None:
    """Import the operator sets that nodes are of and the model does not import."""
    declared = {entry.domain for entry in model.opset_import}
    for domain in sorted({node.domain for node in model.graph.node} - declared - {"", "ai.onnx"}):
        model.opset_import.append(helper.make_opsetid(domain, 1))
    if not declared & {"", "ai.onnx"} and declared and not any(map(is_standard, model.graph.node)):
        model.opset_import.append(helper.make_opsetid("", STANDARD))


def _drop_initializers_from_inputs(model: onnx.ModelProto) -> None:
    """Remove constants from the inputs, for ONNX Runtime folds no constant that is an input, which a user may replace.

    Up to IR version 3 every constant must be an input as well, also for shape inference: the version becomes 4.
    """
    inputs = graph_inputs(model)
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)


def _sort_nodes(model: onnx.ModelProto) -> None:
    """Put every node behind those whose outputs it reads, otherwise in the file order; `check` refuses cycles."""
    producers = {name: index for index, node in enumerate(model.graph.node) for name in node.output if name}
    sources = [{producers[name] for name in reads(node) if name in producers} for node in model.graph.node]
    if all(source < index for index, before in enumerate(sources) for source in before):
        return
    with contextlib.suppress(CycleError):
        order = TopologicalSorter(dict(enumerate(sources)))
        replace_nodes(model, [model.graph.node[index] for index in order.static_order()])


def _stay_outside(model: onnx.ModelProto, lengths: Mapping[str, int], lean: bool) -> set[str]:
    """Constants that stay in their files: in a large network, matrices that only matrix products and Gather read.

    With `lean`, in any network, and weights of convolutions and recurrent layers, too.
    """
    if not lean and sum(lengths.values()) <= LARGE_NETWORK:
        return set()
    places = MORE_PLACES if lean else PLACES
    least = ANY_WEIGHT if lean else LARGE_WEIGHT
    used = {value.name for value in model.graph.output}
    for node in model.graph.node:
        operands = places.get(node.op_type, ())
        used.update(name for index, name in enumerate(node.input) if index not in operands)
        used.update(name for name in reads(node) if name not in node.input)
    kinds = MORE_KINDS if lean else KINDS
    matrices = {
        tensor.name for tensor in model.graph.initializer
        if (len(tensor.dims) == 2 or (lean and len(tensor.dims) > 2)) and tensor.data_type in kinds
    }  # fmt: skip
    return {name for name in matrices if name not in used and lengths.get(name, 0) > least}


def _located(tensor: onnx.TensorProto, file: Path) -> tuple[Path, int, int]:
    """File, offset and length of an external constant; only files in the network's folder are allowed."""
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


def _bytes(tensor: onnx.TensorProto) -> int:
    """The bytes of a constant of types that may stay in their files."""
    known = tensor.data_type in MORE_KINDS
    return math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize if known else -1


def _read_external(tensor: onnx.TensorProto, path: Path, offset: int, length: int, stays: bool) -> None:
    """Load an external constant's values into the model, or only note where they are if the constant `stays`."""
    if stays and length == _bytes(tensor):
        external.make_external(tensor, path, offset, length)
        return
    with path.open("rb") as data:
        data.seek(offset)
        tensor.raw_data = data.read(length)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def digest(model: onnx.ModelProto) -> str:
    """The sha256 of a model, including its external constants."""
    copy, sha = onnx.ModelProto(), hashlib.sha256()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if external.is_external(tensor):
            sha.update(external.values(tensor).data)
            del tensor.external_data[:]
    sha.update(copy.SerializeToString(deterministic=True))
    return sha.hexdigest()
