"""MatMul with constants of any rank on either side, Einsum and Gemm as products with one constant matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.frontend.preparation.products.maker import Maker, Shape
from flow.frontend.sums import is_per_channel
from flow.onnxtools import external
from flow.onnxtools.graph import attribute, is_standard, node_input


@dataclass(frozen=True)
class Contraction:
    """A product of a tensor and a constant, its axes labelled as in Einsum: `data` x `weights` -> `result`."""

    data: tuple[str, ...]
    weights: tuple[str, ...]
    result: tuple[str, ...]


# -------------------------------------------------------------------------------- MatMul, Einsum


def matmul(maker: Maker, node: onnx.NodeProto) -> bool:
    """A MatMul with a constant that is no matrix on the right."""
    if node.op_type != "MatMul" or not is_standard(node):
        return False
    right = maker.graph.constants.get(node.input[1])
    if right is not None and len(right.dims) == 2:
        return False
    for place in (1, 0):
        values, shape = maker.values(node.input[place]), maker.shape(node.input[1 - place])
        if values is None or shape is None or node.input[1 - place] in maker.graph.constants:
            continue
        labels = _labels(shape, values.shape, place)
        return labels is not None and contract(maker, node.input[1 - place], labels, values, node.output[0])
    return False


def _labels(data: Shape, weights: tuple[int, ...], place: int) -> Contraction | None:
    """The axes of a MatMul whose input `place` is a constant of shape `weights`; None if axis 0 is no axis of rows."""
    rank, extra = len(data), max(len(weights) - 2, 0)
    least = 2 if place == 1 else 3
    if rank < max(least, 3 if extra else 0) or len(weights) > rank:
        return None
    stack = [f"s{axis}" for axis in range(rank - 2)]
    own = ["k", "n"] if place == 1 else ["m", "k"]
    inside = [*stack, "m", "k"] if place == 1 else [*stack, "k", "n"]
    matrix = own if len(weights) >= 2 else ["k"]
    result = [*stack, *(label for label in ("m", "n") if label in (*inside, *matrix))]
    shared = []
    for size, label, other in zip(weights[:extra], stack[len(stack) - extra :], data[rank - 2 - extra :], strict=False):
        shared.append(label if size != 1 else f"one_{label}")
        if size != 1 and other == 1:  # the data's axis is repeated: it is no axis of the result
            inside[inside.index(label)] = f"one_{label}"
        elif size not in (1, other):
            return None
    return Contraction(tuple(inside), (*shared, *matrix), tuple(result))


def einsum(maker: Maker, node: onnx.NodeProto) -> bool:
    """An Einsum of a tensor and a constant."""
    if node.op_type != "Einsum" or not is_standard(node) or len(node.input) != 2:
        return False
    places = [place for place in (0, 1) if maker.values(node.input[place]) is not None]
    if len(places) != 1:
        return False
    data, weights = node.input[1 - places[0]], maker.values(node.input[places[0]])
    shape = maker.shape(data)
    if shape is None or weights is None:
        return False
    ranks = [weights.ndim, len(shape)] if places[0] == 0 else [len(shape), weights.ndim]
    terms = _terms(attribute(node, "equation", b"").decode(), ranks)
    if terms is None:
        return False
    labels = Contraction(terms[1 - places[0]], terms[places[0]], terms[2])
    sizes = dict(zip(labels.data, shape, strict=True))
    if any(sizes.get(label, size) != size for label, size in zip(labels.weights, weights.shape, strict=True)):
        return False
    return contract(maker, data, labels, weights, node.output[0])


def _terms(equation: str, ranks: Sequence[int]) -> list[tuple[str, ...]] | None:
    """The labels of both operands and the result, an ellipsis spelled out; None where one is repeated in a term."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        return None
    spelled = [_spelled(term, rank - len(term.replace("...", ""))) for term, rank in zip(terms, ranks, strict=True)]
    widest = max((label for term in spelled for label in term if label.startswith("...")), default="")
    hidden = max((sum(label.startswith("...") for label in term) for term in spelled), default=0)
    if arrow:
        result = _spelled(right, hidden)
    else:
        letters = sorted(set(left) - set(",."))
        result = (*_spelled("..." if widest else "", hidden), *(c for c in letters if left.count(c) == 1))
    found = [*spelled, result]
    same = all(len(set(term)) == len(term) for term in found)
    return found if same and [len(term) for term in spelled] == list(ranks) else None


def _spelled(term: str, hidden: int) -> tuple[str, ...]:
    before, dots, after = term.partition("...")
    ellipsis = [f"...{hidden - 1 - index}" for index in range(hidden)] if dots else []
    return (*before, *ellipsis, *after)


# -------------------------------------------------------------------------------- any product


def contract(maker: Maker, data: str, labels: Contraction, weights: NDArray[np.float32], output: str) -> bool:
    """Make the product; False where it is none with rows of its own along axis 0, or a size that matters is unknown.

    A product without axes that both operands and the result have is a MatMul, or, where the summed axis comes first, a
    Conv of kernel 1; with such axes it is a grouped Conv.
    """
    shape = maker.shape(data)
    assert shape is not None
    first, *others = labels.data
    if first in labels.weights or first not in labels.result or set(labels.result) - {*labels.data, *labels.weights}:
        return False
    sizes: dict[str, int | None] = dict(zip(labels.weights, weights.shape, strict=True)) | dict(
        zip(labels.data, shape, strict=True)
    )
    lone = [label for label in others if label not in (*labels.weights, *labels.result)]
    summed = [label for label in labels.weights if label not in (*labels.data, *labels.result)]
    if any(sizes[label] != 1 for label in lone):
        return False
    kept = [label for label in labels.weights if label not in summed]
    matrix = weights.sum(axis=tuple(labels.weights.index(label) for label in summed))
    both = [label for label in others if label in kept]
    groups = [label for label in both if label in labels.result]
    inner = [label for label in others if label in lone or (label in both and label not in groups)]
    if len(inner) == len(lone):
        return False
    rows = [label for label in labels.result if label in others and label not in both]
    new = [label for label in labels.result if label in kept and label not in both]
    matrix = matrix.reshape(*matrix.shape, *[1] * len(lone))
    matrix = matrix.transpose([[*kept, *lone].index(label) for label in (*groups, *new, *inner)])
    parts = _Parts(first, groups, inner, rows, new, sizes)
    channels_first = bool(rows) and others == [*inner, *rows] and list(labels.result) == [first, *new, *rows]
    if groups or channels_first:
        return _as_conv(maker, data, labels, parts, matrix, output)
    return _as_matmul(maker, data, labels, parts, matrix, output)


@dataclass(frozen=True)
class _Parts:
    """The axes of a product: the batch, those of both operands and the result, summed, of the data, of the weights."""

    first: str
    groups: list[str]
    inner: list[str]
    rows: list[str]
    new: list[str]
    sizes: dict[str, int | None]

    def shape(self, labels: Sequence[str]) -> list[int] | None:
        found = [self.sizes[label] for label in labels]
        return None if None in found else [size for size in found if size is not None]


def _order(labels: Sequence[str], wanted: Sequence[str]) -> list[int]:
    return [list(labels).index(label) for label in wanted]


def _as_matmul(
    maker: Maker, data: str, labels: Contraction, parts: _Parts, matrix: NDArray[np.float32], output: str
) -> bool:
    rows, inner, new = (parts.shape(each) for each in (parts.rows, parts.inner, parts.new))
    flat = len(parts.inner) > 1 or len(parts.new) > 1
    if inner is None or new is None or (flat and rows is None):
        return False
    order = [parts.first, *parts.rows, *parts.inner]
    tensor = maker.transpose(data, _order(labels.data, order), "data")
    if len(inner) > 1:
        tensor = maker.reshape(tensor, [0, *(rows or []), prod(inner)], "rows")
    weights = maker.constant("weights", matrix.reshape(prod(new), prod(inner)).T)
    tensor = maker.node("MatMul", [tensor, weights], "")
    if not new:
        axis = maker.constant("axis", np.array([len(parts.rows) + 1], np.int64))
        tensor = maker.node("Squeeze", [tensor, axis], "squeezed")
    elif len(new) > 1:
        tensor = maker.reshape(tensor, [0, *(rows or []), *new], "axes")
    tensor = maker.transpose(tensor, _order([parts.first, *parts.rows, *parts.new], labels.result), "result")
    maker.rename(tensor, output)
    return True


def _as_conv(
    maker: Maker, data: str, labels: Contraction, parts: _Parts, matrix: NDArray[np.float32], output: str
) -> bool:
    groups, rows, inner, new = (parts.shape(each) for each in (parts.groups, parts.rows, parts.inner, parts.new))
    if groups is None or rows is None or inner is None or new is None:
        return False
    order = [parts.first, *parts.groups, *parts.inner, *parts.rows]
    tensor = maker.transpose(data, _order(labels.data, order), "data")
    if len(order) != 3 or len(rows) != 1:
        tensor = maker.reshape(tensor, [0, prod(groups) * prod(inner), prod(rows)], "channels")
    weights = maker.constant("weights", matrix.reshape(prod(groups) * prod(new), prod(inner), 1))
    tensor = maker.node("Conv", [tensor, weights], "", group=prod(groups), kernel_shape=[1])
    made = [parts.first, *parts.groups, *parts.new, *parts.rows]
    if len(made) != 3 or len(rows) != 1:
        tensor = maker.reshape(tensor, [0, *groups, *new, *rows], "axes")
    tensor = maker.transpose(tensor, _order(made, labels.result), "result")
    maker.rename(tensor, output)
    return True


# -------------------------------------------------------------------------------- Gemm


def gemm(maker: Maker, node: onnx.NodeProto) -> bool:
    """A Gemm with factors, with a transposed A, or whose C is no constant for each channel: without them.

    alpha is in the weights, and an Add behind the product adds what is no bias.
    """
    if node.op_type != "Gemm" or not is_standard(node) or node.input[0] in maker.graph.constants:
        return False
    matrix = maker.graph.constants.get(node.input[1])
    if matrix is None:
        return False
    transposed, addend = attribute(node, "transB", 0), node_input(node, 2)
    inside = maker.graph.constants.get(addend)
    per_channel = inside is not None and is_per_channel(tuple(inside.dims), matrix.dims[0 if transposed else 1])
    plain = inside is None or (per_channel and len(inside.dims) <= 2)
    plain = plain and (not addend or inside is not None)
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    if plain and not attribute(node, "transA", 0) and alpha == 1.0 and (beta == 1.0 or not addend):
        return False
    weights = node.input[1]
    if alpha != 1.0:
        if external.stays(matrix) or (values := maker.values(weights)) is None:
            return False
        weights = maker.constant("weights", (values * alpha).astype(np.float32))
    data = maker.transpose(node.input[0], [1, 0], "data") if attribute(node, "transA", 0) else node.input[0]
    own = [weights]
    if plain and addend:
        if (values := maker.values(addend)) is None:
            return False
        own.append(addend if beta == 1.0 else maker.constant("bias", (values * beta).astype(np.float32)))
    product = maker.node("Gemm", [data, *own], "", transB=transposed)
    if plain:
        maker.rename(product, node.output[0])
        return True
    if beta != 1.0:
        addend = maker.node("Mul", [addend, maker.constant("beta", np.float32(beta))], "addend")
    maker.node("Add", [product, addend], "sum", node.output[0])
    return True


def rows_of_gemm(maker: Maker, node: onnx.NodeProto) -> bool:
    """Reshape -> Gemm -> Reshape, which ONNX Runtime makes of MatMul and Add, as MatMul and Add again.

    The Reshapes would part the product from its activation.
    """
    if node.op_type != "Gemm" or not is_standard(node) or attribute(node, "transA", 0):
        return False
    before, after = maker.graph.producer(node.input[0]), maker.graph.only_consumer(node.output[0])
    weights, bias = maker.graph.constants.get(node.input[1]), node_input(node, 2)
    if before is None or after is None or weights is None or {before.op_type, after.op_type} != {"Reshape"}:
        return False
    source, target, flat = (maker.shape(name) for name in (before.input[0], after.output[0], node.input[0]))
    channels = weights.dims[0 if attribute(node, "transB", 0) else 1]
    if source is None or target is None or flat is None or len(source) < 3 or after.input[0] != node.output[0]:
        return False
    if target != (*source[:-1], channels) or flat[-1] != source[-1]:
        return False
    addend = maker.graph.constants.get(bias)
    if bias and (addend is None or not is_per_channel(tuple(addend.dims), channels)):
        return False
    plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
    matrix = node.input[1]
    if not plain or (attribute(node, "transB", 0) and maker.values(matrix) is None):
        return False
    if attribute(node, "transB", 0):
        values = maker.values(matrix)
        assert values is not None
        matrix = maker.constant("weights", values.T)
    product = maker.node("MatMul", [before.input[0], matrix], "")
    if bias:
        product = maker.node("Add", [product, bias], "bias")
    maker.rename(product, after.output[0])
    maker.gone.add(after.output[0])
    return True


# -------------------------------------------------------------------------------- biases


def bias(maker: Maker, node: onnx.NodeProto) -> bool:
    """A Conv or Gemm with constant weights and an Add of a constant for each channel behind it: its bias."""
    if node.op_type not in ("Conv", "Gemm") or not is_standard(node):
        return False
    weights, own = maker.graph.constants.get(node.input[1]), node_input(node, 2)
    add = maker.graph.only_consumer(node.output[0])
    if weights is None or add is None or add.op_type != "Add" or attribute(node, "beta", 1.0) != 1.0:
        return False
    place = 1 if add.input[0] == node.output[0] else 0
    addend, given = maker.values(add.input[place]), maker.values(own) if own else np.zeros(1, np.float32)
    rank = len(weights.dims)
    if addend is None or given is None or addend.ndim > rank:
        return False
    channels = weights.dims[0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1]
    wide = addend.reshape([1] * (rank - addend.ndim) + list(addend.shape))
    alone = [1, channels, *[1] * (rank - 2)]
    if list(wide.shape) not in (alone, [1] * rank) or not is_per_channel(given.shape, channels):
        return False
    total = np.broadcast_to(given.reshape(-1) + wide.reshape(-1), (channels,))
    maker.made = [onnx.NodeProto()]
    maker.made[0].CopyFrom(node)
    maker.made[0].input[:] = [*node.input[:2], maker.constant("bias", total.astype(np.float32))]
    maker.made[0].output[0] = add.output[0]
    maker.gone.add(add.output[0])
    return True
