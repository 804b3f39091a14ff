"""Weights in blocks of a few bits: MatMulNBits, whose codes are packed into bytes."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from flow.frontend.dialects.rewriting import Rewriting
from flow.frontend.dialects.weights import Stored
from flow.onnxtools.graph import attribute, node_input, node_name

BITS = range(2, 9)


def product(r: Rewriting, node: onnx.NodeProto) -> bool:
    """MatMulNBits: MatMul with the weights in real numbers. Its data must be constant and not prepacked."""
    held = _weights(r, node)
    if held is None:
        return False
    kind = r.graph.constants[node.input[2]].data_type
    matrix = r.weights(held, r.name(f"{node.output[0]}_weights"), kind)
    bias = node_input(node, 5)
    out = r.name(f"{node.output[0]}_product") if bias else node.output[0]
    r.node("MatMul", [node.input[0], matrix], out, node_name(node))
    if bias:
        r.node("Add", [out, bias], node.output[0])
    return True


def _weights(r: Rewriting, node: onnx.NodeProto) -> Stored | None:
    """The weights [K, N]; None if they are not known, or do not have the declared size."""
    bits, block = attribute(node, "bits", 4), attribute(node, "block_size", 0)
    rows, columns = attribute(node, "K", 0), attribute(node, "N", 0)
    packed, scales = (r.graph.constant(name) for name in node.input[1:3])
    if (
        packed is None
        or packed.dtype != np.uint8
        or scales is None
        or bits not in BITS
        or block < 1
        or attribute(node, "weight_prepacked", 0)
    ):
        return None
    kind = r.graph.constants[node.input[2]].data_type
    blocks = -(-rows // block)
    size = columns * blocks
    if kind not in (TensorProto.FLOAT, TensorProto.FLOAT16) or not size or packed.size != size * block * bits // 8:
        return None
    zeros = _zeros(r, node_input(node, 3), (columns, blocks), bits)
    groups = _groups(r, node_input(node, 4), rows, block)
    if zeros is None or groups is None or scales.size != size:
        return None
    codes = _unpacked(packed.reshape(columns, blocks, -1), bits, block).reshape(columns, -1)[:, :rows]
    each = [part.reshape(columns, blocks)[:, groups].T for part in (scales.astype(np.float32), zeros)]
    return Stored.of(codes.T, each[0], each[1])


def _zeros(r: Rewriting, name: str, shape: tuple[int, int], bits: int) -> NDArray[np.float32] | None:
    """Zero points [columns, blocks], packed or not; by default half the range."""
    if not name:
        return np.full(shape, 2 ** (bits - 1), np.float32)
    values = r.graph.constant(name)
    if values is None:
        return None
    if values.dtype == np.uint8:
        if values.size != shape[0] * -(-shape[1] * bits // 8):
            return None
        values = _unpacked(values.reshape(shape[0], -1), bits, shape[1])
    return values.astype(np.float32).reshape(shape) if values.size == shape[0] * shape[1] else None


def _groups(r: Rewriting, name: str, rows: int, block: int) -> NDArray[np.int64] | None:
    """The block of each input: in order, or as the deprecated g_idx says."""
    if not name:
        return np.arange(rows) // block
    given = r.graph.constant(name)
    return given.astype(np.int64)[:rows] if given is not None and len(given) >= rows else None


def _unpacked(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """`count` codes of `bits` bits along the last axis, the lowest bits of each byte first."""
    stream = np.unpackbits(packed, axis=-1, bitorder="little")[..., : count * bits]
    grouped = stream.reshape(*packed.shape[:-1], count, bits)
    return np.asarray((grouped << np.arange(bits, dtype=np.uint8)).sum(axis=-1), np.uint8)
