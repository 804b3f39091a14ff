"""Types and shapes of one sample, by ONNX shape inference and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from flow.errors import FlowError, first_line
from flow.onnxtools import external, runtime
from flow.onnxtools.graph import graph_inputs


@dataclass(frozen=True)
class Types:
    """Element type and shape of tensors: as declared (open batch), and of one sample (batch 1).

    `declared` has the types of sequences and optional values, too.
    """

    declared: dict[str, onnx.ValueInfoProto]
    shapes: dict[str, tuple[int, ...]]


def infer(model: onnx.ModelProto, wanted: Iterable[str], constants: Collection[str] = ()) -> Types:
    """Types and shapes of one sample, of the `wanted` tensors in any case; `constants`: inputs that hold no samples."""
    inferred = _inferred(model)
    declared = _others(inferred) | _value_infos(inferred)
    shapes = sample_shapes(model, constants=constants)
    missing = [name for name in wanted if name not in shapes or name not in declared]
    if missing:
        _measure(_one_sample(model, constants), missing, declared, shapes)
    return Types(declared, shapes)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Declared or inferred element types, by tensor."""
    infos = _value_infos(_inferred(model))
    return {name: value.type.tensor_type.elem_type for name, value in infos.items()}


def ranks(model: onnx.ModelProto) -> dict[str, int]:
    """Declared or inferred numbers of axes, by tensor, where they are known."""
    infos = {name: value.type.tensor_type for name, value in _value_infos(_inferred(model)).items()}
    return {name: len(kind.shape.dim) for name, kind in infos.items() if kind.HasField("shape")}


def batch_is_open(model: onnx.ModelProto) -> bool:
    """Whether the batch, axis 0, of some input has no size."""
    axes = [value.type.tensor_type.shape.dim for value in graph_inputs(model)]
    return any(dims and dims[0].dim_value <= 0 for dims in axes)


def sample_shapes(
    model: onnx.ModelProto, batch: int = 1, constants: Collection[str] = ()
) -> dict[str, tuple[int, ...]]:
    """Inferred shapes of a batch, by tensor, where they are known. FlowError when the model's shapes do not fit.

    `constants` are inputs that hold no samples.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    outlined = external.large_as_inputs(model)
    large = {value.name for value in outlined.graph.input} - {value.name for value in model.graph.input}
    large.update(constants)
    for name, info in _value_infos(_inferred(_one_sample(outlined, large, batch))).items():
        dims = info.type.tensor_type.shape.dim if info.type.tensor_type.HasField("shape") else None
        if dims is not None and all(dim.HasField("dim_value") for dim in dims):
            shapes[name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(external.large_as_inputs(model), data_prop=True)
    except Exception as error:
        raise FlowError(
            f"the shapes of network '{model.graph.name}' do not fit: {first_line(error)}; export it again"
        ) from None


def _one_sample(model: onnx.ModelProto, constants: Container[str] = (), batch: int = 1) -> onnx.ModelProto:
    """A copy with this batch and without other declared shapes; `constants` are inputs that hold no samples."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]
    for value in graph_inputs(single):
        if value.name not in constants and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = batch
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    return single


def _value_infos(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    values = [*model.graph.value_info, *model.graph.output, *model.graph.input]
    return {value.name: value for value in values if value.type.tensor_type.elem_type}


def _others(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Sequences and optional values, by name."""
    values = [*model.graph.value_info, *model.graph.output, *model.graph.input]
    return {value.name: value for value in values if value.type.WhichOneof("value") not in (None, "tensor_type")}


def _measure(
    single: onnx.ModelProto,
    missing: list[str],
    declared: dict[str, onnx.ValueInfoProto],
    shapes: dict[str, tuple[int, ...]],
) -> None:
    """Add types and shapes that inference does not find, from a run on one sample of zeros.

    Or of whole numbers that are one: a cache and a mask of zeros have no length.
    """
    already = {value.name for value in single.graph.output}
    del single.graph.output[:]
    single.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(missing))
    feeds = {}
    for value in graph_inputs(single):
        tensor = value.type.tensor_type
        kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        feeds[value.name] = np.zeros([dim.dim_value for dim in tensor.shape.dim], kind)
    try:
        found = runtime.run(single, feeds)
    except FlowError:
        whole = {name: np.ones_like(array) for name, array in feeds.items() if array.dtype.kind in "biu"}
        if not whole:
            raise
        found = runtime.run(single, feeds | whole)
    for name, array in found.items():
        if not isinstance(array, np.ndarray):  # a sequence, or an empty optional
            continue
        shapes[name] = array.shape
        if name not in declared or name in already:
            element = int(helper.np_dtype_to_tensor_dtype(array.dtype))
            declared[name] = helper.make_tensor_value_info(name, element, None)


def auto_pads(
    mode: str, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """The pads that ONNX's auto_pad `mode` means for spatial axes of these sizes: all beginnings, then all ends."""
    if mode == "VALID":
        return (0,) * (2 * len(kernel))
    begins, ends = [], []
    for extent, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-extent // stride) - 1) * stride + (taps - 1) * dilation + 1 - extent, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if mode == "SAME_UPPER" else large)
        ends.append(large if mode == "SAME_UPPER" else small)
    return (*begins, *ends)
