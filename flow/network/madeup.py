"""Made-up inputs of the right kind, as far as the network tells it: for a user who has no samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from flow.onnxtools import external
from flow.onnxtools.graph import Graph, attribute, graph_inputs

PASSED = ("Cast", "Concat", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose",
          "Unsqueeze")  # fmt: skip
ARITHMETIC = (
    "Add", "And", "Clip", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "MatMul", "Max", "Min",
    "Mul", "Neg", "Not", "Or", "Pow", "ReduceMax", "ReduceMean", "ReduceSum", "Sub", "Where", "Xor",
)  # fmt: skip
UNREAD = ("Shape", "Size")  # that read no value
MASKED = {"Attention": (3,), "MultiHeadAttention": (4,)}  # by operator: masks of tokens
EMBEDDED = {  # by operator: an index, and its table
    "EmbedLayerNormalization": {0: 2, 1: 4}, "Gather": {1: 0}, "RotaryEmbedding": {1: 2, 3: 1},
}  # fmt: skip
OF_POSITIVE = ("Log", "Sqrt")
CHANNELS = (1, 3, 4)  # of a picture


def inputs(model: onnx.ModelProto, count: int, seed: int) -> dict[str, NDArray[np.generic]]:
    """Seeded random inputs [count, ...] by name, each of the first kind that fits.

    Numbers of an embedding's rows; values of the range that the input is quantized to; bytes; ones where integers or
    truth values are computed with, such as masks, else zeros; pictures from 0 to 1; normally distributed values.
    Real values whose logarithm or root is taken are positive.
    """
    generator, graph = np.random.default_rng(seed), Graph.of(model)
    made = {}
    for value in graph_inputs(model):
        tensor = value.type.tensor_type
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        shape = (count, *(dim.dim_value for dim in tensor.shape.dim[1:]))
        made[value.name] = _made(graph, value.name, kind, shape, generator)
    return made


def _made(
    graph: Graph, name: str, kind: np.dtype[np.generic], shape: tuple[int, ...], generator: np.random.Generator
) -> NDArray[np.generic]:
    uses = list(_uses(graph, name))
    if least := rows(graph, name):
        return generator.integers(0, least, shape).astype(kind)
    if kind.kind == "f":
        with np.errstate(over="ignore"):  # a scale of any size
            return _real(graph, name, shape, generator).astype(kind)
    if not any(_is_index(node, place) for node, place in uses) and kind in (np.uint8, np.int8):
        limits = np.iinfo(kind.name)
        return generator.integers(limits.min, limits.max, shape, endpoint=True).astype(kind)
    counted = bool(uses) and all(
        node.op_type in ARITHMETIC or place in MASKED.get(node.op_type, ()) for node, place in uses
    )
    return np.full(shape, counted, kind) if kind.kind in "biu" else np.zeros(shape, kind)


def rows(graph: Graph, name: str) -> int:
    """How many rows the constant tables have in which an input looks up; 0 where it does not, or they have no size."""
    found = [_rows(graph, node, EMBEDDED[node.op_type][at]) for node, at in _uses(graph, name) if _is_index(node, at)]
    return min(found, default=0)


def _uses(graph: Graph, name: str) -> Iterator[tuple[onnx.NodeProto, int]]:
    """The nodes that read a tensor's values, and as which input, also behind those that pass them on.

    As input -1: in a subgraph.
    """
    left, seen = [name], {name}
    while left:
        tensor = left.pop()
        for node in graph.consumers.get(tensor, []):
            places = [place for place, read in enumerate(node.input) if read == tensor] or [-1]
            passing = [place for place in places if place == 0 or node.op_type == "Concat"]
            if node.op_type in PASSED and passing:
                left += [each for each in node.output[:1] if each not in seen]
                seen.update(node.output[:1])
                places = [place for place in places if place not in passing]
            if node.op_type not in UNREAD:
                yield from ((node, place) for place in places)


def _is_index(node: onnx.NodeProto, place: int) -> bool:
    return place in EMBEDDED.get(node.op_type, ())


def _rows(graph: Graph, node: onnx.NodeProto, place: int) -> int:
    """How many rows a constant table has; 0 if it is none."""
    name = node.input[place]
    producer = graph.producer(name)
    while producer is not None and producer.op_type in ("DequantizeLinear", "Identity", "Cast"):
        name = producer.input[0]
        producer = graph.producer(name)
    table = graph.constants.get(name)
    axis = attribute(node, "axis", 0)
    return table.dims[axis] if table is not None and -len(table.dims) <= axis < len(table.dims) else 0


def _real(graph: Graph, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float64]:
    """Real values: of the quantization range if there is one."""
    node = next((each for each in graph.consumers.get(name, []) if each.op_type == "QuantizeLinear"), None)
    names = node.input[1:3] if node is not None and node.input[0] == name else []
    pair = [external.values(graph.constants[each]).reshape(-1) for each in names if each in graph.constants]
    if len(pair) == 2 and all(array.size for array in pair):
        scale, zero = (array[0] for array in pair)
        limits = np.iinfo(zero.dtype)
        codes = generator.integers(limits.min, limits.max, shape, endpoint=True)
        usable = scale if np.isfinite(scale) else 1.0
        return np.asarray((codes - int(zero)) * np.float64(usable))
    picture = len(shape) == 4 and (shape[1] in CHANNELS or shape[3] in CHANNELS)
    values: NDArray[np.float64] = generator.random(shape) if picture else generator.standard_normal(shape)
    positive = any(each.op_type in OF_POSITIVE for each, _ in _uses(graph, name))
    return np.abs(values) if positive else values
