"""Preparation of a float model for quantization: constants folded, and what scales a product's channels made its own.

A node that stays keeps its name; a product that takes over the nodes behind it keeps its name and makes their output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.frontend.entry.fold import fold, fold_constants
from flow.frontend.preparation.batches import images_to_axis
from flow.frontend.preparation.products.products import products
from flow.frontend.preparation.resizes import known_scales
from flow.frontend.preparation.upgrade import in_float32, upgraded
from flow.onnxtools import external
from flow.onnxtools.edit import Editor, add_constant, drop_unused_nodes, replace_nodes, set_attributes, unused_name
from flow.onnxtools.graph import Graph, attribute, is_standard, node_input
from flow.onnxtools.shapes import sample_shapes

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FOLLOWERS = ("Add", "BatchNormalization", "Div", "Mul", "Sub")
Real = NDArray[np.float32]


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float model in the form that is quantized: opset 13 or later, float32, no constant computed when it runs.

    BatchNormalization, and products and sums with one constant for each channel, are folded into the Conv,
    ConvTranspose, Gemm or MatMul before them; so is a Pad with zeros into the Conv behind it. FlowError when the
    network's opset cannot be converted.
    """
    prepared = onnx.ModelProto()
    prepared.CopyFrom(upgraded(in_float32(model)))  # in this order: ONNX's converter writes constants of float32
    fold(prepared)
    known_scales(prepared)
    _add_in_turn(prepared)
    ranks = {name: len(shape) for name, shape in sample_shapes(prepared).items()}
    _fold_gemm_factors(prepared)
    _fold_followers(prepared, ranks)
    products(prepared)
    fold_constants(prepared)
    _fold_pads(prepared)
    _fold_clips(prepared)
    images_to_axis(prepared)
    drop_unused_nodes(prepared)
    return prepared


def _add_in_turn(model: onnx.ModelProto) -> None:
    """Sum as Adds, one after the other, of which the last keeps the name."""
    editor = Editor(model)
    for node in model.graph.node:
        if node.op_type != "Sum" or not is_standard(node):
            editor.nodes.append(node)
            continue
        total, *terms = node.input
        for term in terms[:-1]:
            total = editor.step("Add", [total, term], node.output[0])
        operator, inputs = ("Add", [total, terms[-1]]) if terms else ("Identity", [total])
        editor.node(operator, inputs, node.output[0], node.name)
    editor.finish()


# -------------------------------------------------------------------------------- products


def _fold_gemm_factors(model: onnx.ModelProto) -> None:
    """Fold alpha and beta of Gemm into its weights and bias, one value for each channel, where these are constant."""
    graph = Graph.of(model)
    for node in model.graph.node:
        gemm = node.op_type == "Gemm" and is_standard(node)
        matrix = graph.constants.get(node_input(node, 1)) if gemm else None
        name = node_input(node, 2)
        bias = graph.constant(name) if name else np.zeros(1, np.float32)
        if matrix is None or bias is None or external.stays(matrix):
            continue
        channels = matrix.dims[0 if attribute(node, "transB", 0) else 1]
        alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
        if bias.size != 1 and (bias.size, *bias.shape[-1:]) != (channels, channels):  # one bias for each row
            continue
        if alpha != 1.0:
            weights = graph.constant(matrix.name)
            assert weights is not None
            node.input[1] = add_constant(model, f"{node.output[0]}_weights", (weights * alpha).astype(weights.dtype))
        if name and (beta != 1.0 or bias.shape != (channels,)):
            per_channel = np.broadcast_to((bias.reshape(-1) * beta).astype(bias.dtype), (channels,))
            node.input[2] = add_constant(model, f"{node.output[0]}_bias", per_channel)
        set_attributes(node, without=("alpha", "beta"))


@dataclass
class _Product:
    """A product with constant weights: `weights` in ONNX's layout, `bias` [channels] or None.

    `add`: the Add of that bias, where the product's operator has none.
    """

    node: onnx.NodeProto
    weights: Real
    bias: Real | None
    changed: bool = False
    scaled: bool = False  # the weights are changed, too
    add: onnx.NodeProto | None = None

    @property
    def channels(self) -> int:
        """The number of output channels."""
        if self.node.op_type == "ConvTranspose":
            return int(self.weights.shape[1] * attribute(self.node, "group", 1))
        return int(self.weights.shape[self._axis])

    @property
    def _axis(self) -> int:
        rows = self.node.op_type == "Conv" or (self.node.op_type == "Gemm" and attribute(self.node, "transB", 0))
        return 0 if rows else 1

    def scale(self, factor: Real) -> None:
        """Multiply every channel's weights, and its bias, by its factor, float32 [channels]."""
        shape = [1] * self.weights.ndim
        if self.node.op_type == "ConvTranspose":
            groups = attribute(self.node, "group", 1)
            parts = np.split(self.weights, groups)
            shape[1] = -1
            factors = np.split(factor, groups)
            self.weights = np.concatenate([w * f.reshape(shape) for w, f in zip(parts, factors, strict=True)])
        else:
            shape[self._axis] = -1
            self.weights = self.weights * factor.reshape(shape)
        self.bias = None if self.bias is None else self.bias * factor
        self.changed = self.scaled = True

    def shift(self, amount: Real) -> None:
        """Add an amount to every channel's bias, float32 [channels]."""
        self.bias = amount if self.bias is None else self.bias + amount
        self.changed = True


def _fold_followers(model: onnx.ModelProto, ranks: dict[str, int]) -> None:
    """Fold BatchNormalization, and products and sums with one constant for each channel, into the product before."""
    graph = Graph.of(model)
    gone: set[int] = set()
    for node in model.graph.node:
        product = _product(graph, node) if node.op_type in PRODUCTS and is_standard(node) else None
        if product is None:
            continue
        rank, folded = ranks.get(node.output[0], 0), [node]
        while (after := graph.only_consumer(folded[-1].output[0])) is not None and _fold_into(
            graph, product, after, folded[-1], rank
        ):
            folded.append(after)
        if folded[-1] is product.add:  # a bias and nothing behind it stays as it is
            product.bias, product.add = None, None
            folded.pop()
        if product.changed and len(folded) > 1:
            gone.update(id(each) for each in folded[1:] if each is not product.add)
            _write(model, product, folded[-1].output[0])
    replace_nodes(model, [node for node in model.graph.node if id(node) not in gone])
    drop_unused_nodes(model)


def _product(graph: Graph, node: onnx.NodeProto) -> _Product | None:
    """The product that a node computes; None if its weights or its bias are not constants that may be changed."""
    tensor = graph.constants.get(node_input(node, 1))
    weights = None if tensor is None or external.stays(tensor) else graph.constant(tensor.name)
    name = node_input(node, 2)
    bias = graph.constant(name) if name else None
    if weights is None or weights.dtype != np.float32 or (name and bias is None):
        return None
    if node.op_type in ("Gemm", "MatMul") and weights.ndim != 2:
        return None
    if any(attribute(node, factor, 1.0) != 1.0 for factor in ("alpha", "beta")):
        return None
    product = _Product(node, weights, None)
    if bias is not None and bias.shape != (product.channels,):
        return None
    product.bias = bias
    return product


def _fold_into(graph: Graph, product: _Product, node: onnx.NodeProto, last: onnx.NodeProto, rank: int) -> bool:
    """Fold `node`, which alone reads the output of `last`, into the product, if possible; returns whether it was."""
    if node.op_type not in FOLLOWERS or not is_standard(node):
        return False
    spatial = product.node.op_type in ("Conv", "ConvTranspose")
    if node.op_type == "BatchNormalization":
        return (spatial or rank == 2) and node.input[0] == last.output[0] and _fold_norm(graph, product, node)
    first = node.input[0] == last.output[0]
    other = graph.constant(node.input[1 if first else 0])
    amount = None if other is None else _per_channel(product, other, rank)
    if amount is None or (node.op_type == "Div" and not first):
        return False
    if node.op_type in ("Mul", "Div"):
        with np.errstate(divide="ignore", over="ignore"):
            factor = amount if node.op_type == "Mul" else (1 / amount).astype(np.float32)
        if not np.isfinite(factor).all():
            return False
        product.scale(factor)
        return True
    if product.node.op_type == "MatMul" and rank != 2 and product.add is None:  # no operator has a bias there
        if node.op_type != "Add":
            return False
        product.add = node
    if node.op_type == "Sub" and not first:
        product.scale(np.full(product.channels, -1, np.float32))
    product.shift(-amount if node.op_type == "Sub" and first else amount)
    return True


def _per_channel(product: _Product, array: NDArray[np.generic], rank: int) -> Real | None:
    """A constant as one value for each channel, float32 [channels]; None if it is anything else.

    `rank`: axes of the product's output, 0 if they are not known. The constant must not widen the output.
    """
    if array.dtype != np.float32 or not rank or array.ndim > rank:
        return None
    if array.size == 1:
        return np.full(product.channels, array.reshape(-1)[0], np.float32)
    axis = 1 if product.node.op_type in ("Conv", "ConvTranspose") else rank - 1
    shape = (1,) * (rank - array.ndim) + array.shape
    if shape[axis] != product.channels or array.size != product.channels:
        return None
    found: Real = array.reshape(-1).astype(np.float32)
    return found


def _fold_norm(graph: Graph, product: _Product, norm: onnx.NodeProto) -> bool:
    """Fold a BatchNormalization into the product before it, if its parameters are constants."""
    found = [graph.constant(name) for name in norm.input[1:]]
    if attribute(norm, "training_mode", 0) or any(name and graph.consumers.get(name) for name in norm.output[1:]):
        return False
    if any(array is None or array.shape != (product.channels,) for array in found):
        return False
    scale, shift, mean, variance = (np.asarray(array, np.float32) for array in found)
    factor = scale / np.sqrt(variance + np.float32(attribute(norm, "epsilon", 1e-5)))
    if not np.isfinite(factor).all():
        return False
    product.shift(-mean)
    product.scale(factor)
    product.shift(shift)
    return True


def _write(model: onnx.ModelProto, product: _Product, output: str) -> None:
    """Write a product's new weights and bias; a MatMul with a bias becomes a Gemm, or its bias stays an Add's."""
    node = product.node
    weights = add_constant(model, f"{output}_weights", product.weights) if product.scaled else node.input[1]
    bias = [] if product.bias is None else [add_constant(model, f"{output}_bias", product.bias)]
    if product.add is not None:
        product.add.input[:] = [unused_name(model, f"{output}_product"), *bias]
        product.add.output[0] = output
        output, bias = product.add.input[0], []
    if node.op_type == "MatMul" and bias:
        node.op_type = "Gemm"
    node.input[:] = [node.input[0], weights, *bias]
    node.output[0] = output


# -------------------------------------------------------------------------------- pads and clamps


def _fold_pads(model: onnx.ModelProto) -> None:
    """Fold a Pad with zeros along the spatial axes into the Conv that alone reads it."""
    graph = Graph.of(model)
    for node in model.graph.node:
        pad = graph.producer(node.input[0]) if node.op_type == "Conv" and is_standard(node) else None
        if pad is None or pad.op_type != "Pad" or graph.only_consumer(pad.output[0]) is None:
            continue
        pads, value = graph.constant(node_input(pad, 1)), node_input(pad, 2)
        plain = attribute(pad, "mode", b"constant") == b"constant" and not node_input(pad, 3)
        zero = not value or ((constant := graph.constant(value)) is not None and not np.any(constant))
        own = attribute(node, "auto_pad", b"NOTSET")
        if pads is None or not plain or not zero or own not in (b"NOTSET", b"VALID") or np.min(pads, initial=0) < 0:
            continue
        axes = pads.size // 2
        begins, ends = pads[:axes], pads[axes:]
        if np.any(begins[:2]) or np.any(ends[:2]):
            continue
        before = attribute(node, "pads", [0] * 2 * (axes - 2)) if own == b"NOTSET" else [0] * 2 * (axes - 2)
        total = [int(a + b) for a, b in zip(before, [*begins[2:], *ends[2:]], strict=True)]
        set_attributes(node, without=("auto_pad",), pads=total)
        node.input[0] = pad.input[0]
    drop_unused_nodes(model)


def _fold_clips(model: onnx.ModelProto) -> None:
    """Fold a Relu into the Clip that alone reads it: Clip of max(0, least), largest."""
    graph = Graph.of(model)
    for node in model.graph.node:
        relu = graph.producer(node.input[0]) if node.op_type == "Clip" and is_standard(node) else None
        if relu is None or relu.op_type != "Relu" or graph.only_consumer(relu.output[0]) is None:
            continue
        name = node_input(node, 1)
        least = graph.constant(name) if name else np.zeros((), np.float32)
        if least is None or least.dtype != np.float32 or least.size != 1:
            continue
        largest = node_input(node, 2)
        bound = add_constant(model, f"{node.output[0]}_least", np.maximum(least.reshape(()), np.float32(0)))
        node.input[:] = [relu.input[0], bound, *([largest] if largest else [])]
    drop_unused_nodes(model)
