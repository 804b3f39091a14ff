"""Weights that stay in their files: large networks are read layer by layer, never held in memory as a whole.

A constant of a model is *external* when its `external_data` names a file (by its absolute path), an offset and a
length. `values` maps such a constant into memory, so that the pages that were read can be `released` again. ONNX and
ONNX Runtime see the model with its external constants as inputs (`externals_as_inputs`), which are fed when it runs.
Where `made_in_files` holds, large constants that are made (`constant`) are external, too.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.errors import FlowError
from flow.files import scratch

LARGE = 2**20  # bytes
SMALL = 2**16  # bytes: a constant of more that is made goes to a file, if those do
ALIGNED = 64  # bytes
RELEASED = 0.001  # seconds after which pages are given back
WEIGHTS = (np.float32, np.float16, np.int8, np.uint8)  # types of such constants; of others, graphs need the values
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9  # fields of ModelProto, GraphProto, TensorProto in onnx.proto


def is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def values(tensor: onnx.TensorProto) -> NDArray[Any]:
    """A constant's values; those of an external one are mapped from its file, read-only."""
    if not is_external(tensor):
        array: NDArray[Any] = numpy_helper.to_array(tensor)
        return array
    entries = {entry.key: entry.value for entry in tensor.external_data}
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    shape = tuple(tensor.dims)
    return np.memmap(entries["location"], kind, "r", int(entries["offset"]), shape)


def is_finite(tensor: onnx.TensorProto) -> bool:
    """Whether all values of a constant are finite."""
    array = values(tensor)
    with released([array]):
        return all(np.isfinite(part).all() for part in _parts(array))


def make_external(tensor: onnx.TensorProto, file: Path, offset: int, length: int) -> None:
    """Make a constant external: its values are those bytes of the file."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", str(file)), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


class _Store:
    """A temporary file of constants, made with the first; without room for it, constants stay in memory."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._file = stack, Path()

    def take(self, tensor: onnx.TensorProto, parts: Iterable[NDArray[Any]]) -> bool:
        """Write the values of a constant, part by part, behind those that are there; returns whether they could be."""
        try:
            if not self._file.name:
                self._file = self._stack.enter_context(scratch()) / "constants"
            with self._file.open("ab") as file:
                offset = file.seek(0, 2)
                file.write(bytes(-offset % ALIGNED))
                offset = file.tell()
                for part in parts:
                    file.write(part.data.cast("B"))
                length = file.tell() - offset
        except (OSError, FlowError):
            return False
        make_external(tensor, self._file, offset, length)
        return True


_store: ContextVar[_Store | None] = ContextVar("store", default=None)


@contextmanager
def made_in_files() -> Iterator[None]:
    """Large constants that are made meanwhile are external, in a temporary file that is removed at the end."""
    with ExitStack() as stack:
        token = _store.set(_Store(stack))
        try:
            yield
        finally:
            _store.reset(token)


def constant(array: NDArray[Any], name: str) -> onnx.TensorProto:
    """A new constant with these values; external if it is large and `made_in_files` holds."""
    whole = np.asarray(array, order="C")
    return _in_file(whole.dtype, whole.shape, [whole], name) or numpy_helper.from_array(whole, name)


def computed(
    array: NDArray[Any], function: Callable[[NDArray[Any]], NDArray[Any]], kind: np.dtype[Any], name: str
) -> onnx.TensorProto:
    """A new constant, `function` of each of the values of an array, of type `kind`; as `constant`.

    Part by part, so that no array of this size is made if the constant is external.
    """
    with released([array]):
        made = _in_file(kind, array.shape, map(function, _parts(array)), name)
    return made or numpy_helper.from_array(function(array), name)


def _parts(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The values of an array, flat in C order, `LARGE` bytes at a time."""
    flat, count = np.reshape(array, -1), LARGE // array.itemsize
    return (flat[begin : begin + count] for begin in range(0, flat.size, count))


def _in_file(
    kind: np.dtype[Any], shape: tuple[int, ...], parts: Iterable[NDArray[Any]], name: str
) -> onnx.TensorProto | None:
    """An external constant of these values, in C order; None if it is small, or has to stay in memory."""
    store = _store.get()
    if store is None or math.prod(shape) * kind.itemsize <= SMALL or kind not in WEIGHTS:
        return None
    tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(kind), dims=shape)
    return tensor if store.take(tensor, parts) else None


def size(tensor: onnx.TensorProto) -> int:
    """The bytes of a constant's values."""
    lengths = (int(entry.value) for entry in tensor.external_data if entry.key == "length")
    return next(lengths) if is_external(tensor) else int(tensor.ByteSize())


def stays(tensor: onnx.TensorProto) -> bool:
    """Whether no other constant is made of this one, as it would be held in memory."""
    return is_external(tensor) and _store.get() is None


def weights(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """The external constants of a model by name, mapped."""
    return {tensor.name: values(tensor) for tensor in model.graph.initializer if is_external(tensor)}


@contextmanager
def released(arrays: Iterable[NDArray[Any]]) -> Iterator[None]:
    """Meanwhile, mapped pages of these arrays that were read are given back: not all are in memory at the same time."""
    bases: list[Any] = [array.base for array in arrays]
    maps = [base for base in bases if isinstance(base, mmap.mmap)]
    if not maps:
        yield
        return
    done = Event()

    def release() -> None:
        while not done.wait(RELEASED):
            for each in maps:
                each.madvise(mmap.MADV_DONTNEED)

    watcher = Thread(target=release, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def externals_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its external constants as inputs, last in order; the model itself if it has none."""
    return _as_inputs(model, [tensor for tensor in model.graph.initializer if is_external(tensor)])


def _as_inputs(model: onnx.ModelProto, constants: list[onnx.TensorProto]) -> onnx.ModelProto:
    if not constants:
        return model
    copy = _without(model, {tensor.name for tensor in constants})
    copy.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in constants
    )
    return copy


def copied(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """A copy of the model, its constants of these names made anew (`constant`)."""
    taken = [tensor for tensor in model.graph.initializer if tensor.name in names]
    copy = _without(model, {tensor.name for tensor in taken})
    copy.graph.initializer.extend(constant(values(tensor), tensor.name) for tensor in taken)
    return copy


def large_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large constants as inputs: enough for shape inference, and small in memory."""
    large = [tensor for tensor in model.graph.initializer if is_external(tensor) or len(tensor.raw_data) > LARGE]
    return _as_inputs(model, large)


def with_externals(bare: onnx.ModelProto, source: onnx.ModelProto) -> onnx.ModelProto:
    """The inverse, for a model derived from `externals_as_inputs(source)`: those inputs become constants again."""
    inputs = {value.name for value in bare.graph.input}
    kept = [tensor for tensor in source.graph.initializer if is_external(tensor) and tensor.name in inputs]
    copy = _without(bare, {tensor.name for tensor in kept})
    copy.graph.initializer.extend(kept)
    return copy


def _without(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """A copy without the inputs and constants of these names; what is not set stays so."""
    graph, copy = model.graph, onnx.ModelProto(
        **_set(model, "ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"),
        opset_import=model.opset_import, metadata_props=model.metadata_props, functions=model.functions,
    )  # fmt: skip
    copy.graph.MergeFrom(onnx.GraphProto(
        **_set(graph, "name", "doc_string"), node=graph.node, output=graph.output,
        value_info=graph.value_info, sparse_initializer=graph.sparse_initializer,
        quantization_annotation=graph.quantization_annotation,
        input=[value for value in graph.input if value.name not in names],
        initializer=[tensor for tensor in graph.initializer if tensor.name not in names],
    ))  # fmt: skip
    return copy


def _set(message: onnx.ModelProto | onnx.GraphProto, *names: str) -> dict[str, Any]:
    """Those of these fields that are set."""
    return {name: getattr(message, name) for name in names if message.HasField(name)}


# -------------------------------------------------------------------------------- reading
def read(file: Path, largest: int) -> onnx.ModelProto:
    """A model whose constants of more than `largest` bytes stay in its file.

    DecodeError, or ValueError, when the file is not ONNX.
    """
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        model = onnx.ModelProto()
        rest = bytearray()
        for number, start, begin, end in _fields(data, 0, len(data)):
            if number == GRAPH:
                _read_graph(model.graph, file, data, begin, end, largest)
            else:
                rest += data[start:end]
        model.MergeFromString(bytes(rest))
    return model


def _read_graph(graph: onnx.GraphProto, file: Path, data: mmap.mmap, begin: int, end: int, largest: int) -> None:
    rest, constants = bytearray(), []
    for number, start, first, last in _fields(data, begin, end):
        if number == INITIALIZER and last - first > largest:
            constants.append(_read_tensor(file, data, first, last, largest))
        elif number == INITIALIZER:
            constants.append(TensorProto())
            constants[-1].MergeFromString(data[first:last])
        else:
            rest += data[start:last]
    graph.MergeFromString(bytes(rest))
    graph.initializer.extend(constants)


def _read_tensor(file: Path, data: mmap.mmap, begin: int, end: int, largest: int) -> onnx.TensorProto:
    rest, raw = bytearray(), None
    for number, start, first, last in _fields(data, begin, end):
        if number == RAW_DATA and last - first > largest:
            raw = first, last - first
        else:
            rest += data[start:last]
    tensor = TensorProto()
    tensor.MergeFromString(bytes(rest))
    if raw:
        make_external(tensor, file.resolve(), *raw)
    return tensor


def _fields(data: mmap.mmap, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields of a protobuf message: number, where the field starts, where its value begins and ends."""
    while begin < end:
        start = begin
        key, begin = _varint(data, begin, end)
        kind = key & 7
        if kind == 2:  # length-delimited
            length, begin = _varint(data, begin, end)
        elif kind == 0:
            length = _varint(data, begin, end)[1] - begin
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if begin + length > end:
            raise ValueError("truncated")
        yield key >> 3, start, begin, begin + length
        begin += length


def _varint(data: mmap.mmap, begin: int, end: int) -> tuple[int, int]:
    value = 0
    for position in range(begin, min(end, begin + 10)):
        value |= (data[position] & 127) << 7 * (position - begin)
        if data[position] < 128:
            return value, position + 1
    raise ValueError("no number")
