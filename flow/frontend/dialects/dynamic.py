"""Dynamic quantization and integer products: they become products of real numbers.

DynamicQuantizeLinear finds the scale of an activation at run time; the flow finds it from the calibration samples. So
its codes are replaced by the real numbers and its scale by 1, which makes the scale that is multiplied to the integer
sums that of the weights alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from flow.frontend.dialects.rewriting import Rewriting
from flow.frontend.dialects.weights import Stored
from flow.frontend.operators import LAYOUT_OPERATORS
from flow.onnxtools.graph import Graph, attribute, node_input, node_name

INTEGER_PRODUCTS = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}
READERS = (*INTEGER_PRODUCTS, "MatMulIntegerToFloat", "DequantizeLinear", "Mul")


def real_tensors(graph: Graph) -> dict[str, str]:
    """Codes of dynamic quantization and tensors moved from them, by name, with the scale each one has.

    Only those that nothing reads but products and operators that move codes.
    """
    found: dict[str, str] = {}
    for node in graph.model.graph.node:
        if node.op_type == "DynamicQuantizeLinear" and len(node.output) > 2 and _only_products(graph, node):
            found[node.output[0]] = node.output[1]
        elif node.op_type in LAYOUT_OPERATORS and node.input and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _only_products(graph: Graph, node: onnx.NodeProto) -> bool:
    waiting = list(node.output)
    while waiting:
        name = waiting.pop()
        if name in graph.outputs:
            return False
        for reader in graph.consumers.get(name, []):
            if reader.op_type in LAYOUT_OPERATORS and name != node.output[1]:
                waiting += reader.output
            elif reader.op_type not in READERS or (reader.op_type == "Mul" and name != node.output[1]):
                return False
    return True


def quantization(r: Rewriting, node: onnx.NodeProto) -> bool:
    """DynamicQuantizeLinear: the real numbers themselves, with scale 1 and zero point 0."""
    if node.output[0] not in r.real:
        return False
    zero = r.constant(f"{node.output[2]}_static", np.zeros((), np.uint8))
    r.alias |= dict(zip(node.output, (r.alias.get(node.input[0], node.input[0]), r.one(), zero), strict=True))
    return True


def dequantization(r: Rewriting, node: onnx.NodeProto) -> bool:
    """DequantizeLinear of what is real already."""
    if node.input[0] not in r.real:
        return False
    if node.output[0] in r.graph.outputs:
        r.node("Identity", [node.input[0]], node.output[0], node_name(node))
    else:
        r.alias[node.output[0]] = r.alias.get(node.input[0], node.input[0])
    return True


def integer_product(r: Rewriting, node: onnx.NodeProto) -> bool:
    """MatMulInteger and ConvInteger, with the Cast and the scales behind them."""
    op = INTEGER_PRODUCTS[node.op_type]
    output, factor, done = _scaled(r, node)
    weights = r.graph.constant(node.input[1])
    inputs = [_operand(r, node.input[0], "", node_input(node, 2))]
    zero = r.graph.constant(node_input(node, 3)) if node_input(node, 3) else np.zeros((), np.uint8)
    if weights is not None and zero is not None:
        last = weights.ndim - 1
        held = Stored.of(weights, np.ones((), np.float32), zero, last if op == "MatMul" else 0)
        inputs.append(_scaled_weights(r, held, factor, op, output))
        factor = np.ones((), np.float32)
    else:
        inputs.append(_operand(r, node.input[1], "", node_input(node, 3)))
    target = output if done and np.all(factor == 1) else r.name(f"{output}_product")
    name = node_name(node)
    r.node(op, inputs, target, name, **{a.name: helper.get_attribute_value(a) for a in node.attribute})
    if not done:
        r.node("Cast", [target], output, to=TensorProto.INT32)
    elif target != output:
        r.node("Mul", [target, r.constant(f"{output}_factor", factor)], output)
    r.done |= done
    return True


def _operand(r: Rewriting, codes: str, scale: str, zero: str) -> str:
    """An operand in real numbers: dynamically quantized ones as they are, others by their scale, or 1."""
    if codes in r.real:
        return codes
    return r.dequantized(codes, scale or r.one(), zero, axis=-1)


def _scaled(r: Rewriting, node: onnx.NodeProto) -> tuple[str, NDArray[np.float32], set[str]]:
    """The tensor behind the Cast and the constant factors of integer sums, their product, and the outputs passed."""
    name, factor = node.output[0], np.ones((), np.float32)
    done: set[str] = set()
    reader = r.graph.only_consumer(name)
    if reader is None or reader.op_type != "Cast" or attribute(reader, "to", 0) != TensorProto.FLOAT:
        return name, factor, done
    weights = r.graph.constant(node.input[1])
    while reader is not None:
        if reader.op_type == "Mul":
            other = reader.input[1] if reader.input[0] == name else reader.input[0]
            found = _constant_factor(r, other)
            if found is None or not _by_channel(found, weights, node.op_type):
                break
            factor = np.asarray(factor * found, np.float32)
        elif reader.op_type != "Cast" or done:
            break
        name = reader.output[0]
        done.add(name)
        reader = r.graph.only_consumer(name)
    return name, factor, done


def _constant_factor(r: Rewriting, name: str) -> NDArray[np.float32] | None:
    """The value of a factor: a constant, 1 for the scale of a dynamic quantization, or a product of such."""
    value = r.graph.constant(name)
    if value is not None:
        return value.astype(np.float32)
    if name in r.real.values():
        return np.ones((), np.float32)
    node = r.graph.producer(name)
    if node is None or node.op_type != "Mul":
        return None
    parts = [_constant_factor(r, part) for part in node.input]
    return None if parts[0] is None or parts[1] is None else np.asarray(parts[0] * parts[1], np.float32)


def _by_channel(factor: NDArray[np.float32], weights: NDArray[Any] | None, op: str) -> bool:
    """Whether a factor is one number, or one for each output channel of these weights."""
    if factor.size == 1 or weights is None:
        return factor.size == 1
    axis = -1 if op == "MatMulInteger" else 1 - weights.ndim  # counted from the end: [..., channel, *spatial]
    channels = weights.shape[-1 if op == "MatMulInteger" else 0]
    return factor.size == channels and factor.ndim >= -axis and factor.shape[axis] == channels


def _scaled_weights(r: Rewriting, held: Stored, factor: NDArray[np.float32], op: str, stem: str) -> str:
    """The weights with their scale, one or one for each channel."""
    shape = [1] * held.codes.ndim
    if factor.size > 1:
        shape[-1 if op == "MatMul" else 0] = -1
    scales = np.broadcast_to(factor.reshape(shape).astype(np.float32), held.codes.shape)
    return r.weights(Stored(held.codes, scales), r.name(f"{stem}_weights"))


def product_to_float(r: Rewriting, node: onnx.NodeProto) -> bool:
    """MatMulIntegerToFloat."""
    left = _operand(r, node.input[0], node.input[2], node_input(node, 4))
    return _product(r, node, left, (1, 3, 5), 6)


def dynamic_product(r: Rewriting, node: onnx.NodeProto) -> bool:
    """DynamicQuantizeMatMul."""
    return _product(r, node, node.input[0], (1, 2, 3), 4)


def _product(r: Rewriting, node: onnx.NodeProto, left: str, right: tuple[int, int, int], bias: int) -> bool:
    """MatMul of `left` and an operand of codes, scale and zero point, and the bias, if any."""
    codes, scale, zero = (node_input(node, index) for index in right)
    values = [r.graph.constant(name) for name in (codes, scale)]
    zeros = r.graph.constant(zero) if zero else np.zeros((), np.uint8)
    if values[0] is None or values[1] is None or zeros is None:
        matrix = _operand(r, codes, scale, zero)
    else:
        held = Stored.of(values[0], values[1], zeros, axis=values[0].ndim - 1)
        matrix = r.weights(held, r.name(f"{node.output[0]}_weights"))
    added = node_input(node, bias)
    out = r.name(f"{node.output[0]}_product") if added else node.output[0]
    r.node("MatMul", [left, matrix], out, node_name(node))
    if added:
        r.node("Add", [out, added], node.output[0])
    return True


def lstm(r: Rewriting, node: onnx.NodeProto) -> bool:
    """DynamicQuantizeLSTM: weights [directions, inputs, 4 x hidden] become those of LSTM, the last axes swapped."""
    matrices = []
    for first, codes in ((8, node.input[1]), (10, node.input[2])):
        values = [r.graph.constant(name) for name in (codes, node_input(node, first), node_input(node, first + 1))]
        if values[0] is None or values[1] is None or values[2] is None or values[0].ndim != 3:
            return False
        scale, zero = (v.reshape(len(v), 1, -1) if v.ndim else v for v in values[1:] if v is not None)
        held = Stored.of(values[0], scale, zero).transposed([0, 2, 1])
        matrices.append(r.weights(held, r.name(f"{codes}_weights")))
    inputs = [node.input[0], *matrices, *node.input[3:8]]
    while inputs and not inputs[-1]:
        inputs.pop()
    lstm = helper.make_node("LSTM", inputs, list(node.output), node_name(node))
    lstm.attribute.extend(node.attribute)
    r.nodes.append(lstm)
    return True
