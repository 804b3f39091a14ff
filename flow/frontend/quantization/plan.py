"""Which tensors of a float network get 8 bits, and which of them have one range.

Every tensor that an array layer reads or writes gets 8 bits, and so does the output of every node that pools, adds,
concatenates or moves 8-bit tensors between layers. The tensor before an activation (Relu, Clip) stays float if only the
activation reads it, so that a layer, its activation and one QuantizeLinear form one step of the array.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from flow.frontend.operators import ACTIVATIONS, ARRAY_OPERATORS, BETWEEN_LAYERS, SAME_SCALE, is_elementwise
from flow.frontend.preparation.conditions import condition_of
from flow.frontend.quantization.ranges import Range
from flow.frontend.sums import bias_add
from flow.frontend.unfused import unfused
from flow.onnxtools.graph import Graph, attribute, is_standard, node_input

ROW_AXES = 2  # the batch, and channels
MAP_AXES = 3  # the batch, channels, and pixels in rows and columns, in a row, or in no order
PRODUCTS = ("Mul", "Sub")  # of two tensors
EXTREMA = ("Max", "Min")  # of two tensors or more, on chip
LINEAR = ("Add", "Sub", "Mul", "Div")  # with a constant
NORMALIZATIONS = ("LayerNormalization", "Softmax")
ON_CHIP = ("InstanceNormalization",)  # between layers, beside those that all networks have between them
PARTS = ("Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")  # they only move
SCALES = ("Mul", "Div")  # a product of two tensors by a constant
HIDES = -64.0  # what a mask adds to a value that a Softmax shall not see, at most
HIDDEN = 12.0  # how far below all others it is seen: e^-12 of a value beside it, or less


@dataclass
class Plan:
    """The quantized part: `nodes` that work on 8 bits, and for every 8-bit tensor the tensor whose range it has."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, str] = field(default_factory=dict)
    symmetric: set[str] = field(default_factory=set)  # tensors whose zero point has to be 0
    constants: set[str] = field(default_factory=set)  # that get 8 bits, too, as they have no place in a bias
    lowered: dict[str, float] = field(default_factory=dict)  # by how much a tensor's range begins lower than it does
    masks: dict[str, list[str]] = field(default_factory=dict)  # by mask, the tensors that it hides values of

    def balanced(self, ranges: Mapping[str, Range]) -> dict[str, Range]:
        """The ranges, those of `symmetric` tensors widened to zero point 0: 128 codes below it, 127 above.

        Those of `lowered` tensors have room for what a mask hides. A mask hides by as much as the largest spans.
        """
        found = dict(ranges)
        for name in self.lowered.keys() & set(ranges):
            found[name] = Range(np.float32(ranges[name].low - self.lowered[name]), ranges[name].high)
        for name, scores in self.masks.items():
            spans = [max(float(each.high), 0) - min(float(each.low), 0) for each in map(found.get, scores) if each]
            if spans:
                found[name] = Range(np.float32(-max(spans)), np.float32(0))
        for name in self.symmetric & set(ranges):
            step = max(-float(ranges[name].low) / 128, float(ranges[name].high) / 127)
            found[name] = Range(np.float32(-128 * step), np.float32(127 * step))
        return found


def plan(
    graph: Graph, kinds: Mapping[str, int], ranks: Mapping[str, int] | None = None, products: bool = False
) -> Plan:
    """Select the layers of the array, and the nodes that pool, add, concatenate or move 8-bit tensors between them.

    An element-wise function of one 8-bit tensor (SiLU, HardSigmoid) gets 8 bits where such a node reads it, or a
    product, and a normalization of its channels where it is joined with another tensor. A constant that is repeated for
    every sample (a class token) may have 8 bits. The output of any other node (a mask of -1e38) stays float, with its
    full range, and so do the outputs of all nodes that read it, except the array's own operators. Powers stay float,
    and so does what is only raised to a power. `kinds` and `ranks`: element types and numbers of axes by tensor.
    Functions and products of tensors of two axes stay float, as the states of unrolled recurrent operators had better.
    With `products`, all that the chip computes gets 8 bits: these, matrix products of two 8-bit tensors (attention),
    constants that are added to every element (positions), means of tokens, the largest or smallest of tensors,
    what has a factor or a summand for each channel where another tensor is joined, and a tensor where a condition
    holds, beside one number where it does not; so has the condition, as a number.
    """
    result, functions = Plan(), _Functions(graph, ranks or {}, products)
    matrices = _Matrices(graph) if products else None
    eight_bit = {value.name for value in graph.model.graph.input} | set(graph.constants)
    for node in graph.model.graph.node:
        if matrices is not None and matrices.joined(node, eight_bit, result):
            continue
        array = node.op_type in ARRAY_OPERATORS and is_standard(node)
        if array:
            real = kinds.get(node.output[0], TensorProto.FLOAT) == TensorProto.FLOAT
            selected = real and node_input(node, 1) in graph.constants and node.input[0] not in graph.constants
        else:
            between = is_standard(node) and node.op_type in (*BETWEEN_LAYERS, *(ON_CHIP if products else ()))
            known = any(name in result.tensors for name in node.input)  # of unknown type behind foreign operators
            unknown = TensorProto.FLOAT if known else TensorProto.UNDEFINED
            real = all(kinds.get(name, unknown) == TensorProto.FLOAT for name in node.output)
            selected = between and real and all(name in eight_bit for name in node.input if name)
            if not selected and functions.joined(node, eight_bit, real):
                selected = True
                read = [name for name in numbers(graph, node) if name in functions.sources]
                for name in (*read, *functions.norms_of(read)):
                    result.tensors.setdefault(name, name)
                    eight_bit.add(name)
        if node.op_type == "Expand" and node.input[0] in graph.constants:  # a class token, for every sample
            eight_bit.add(node.output[0])
        if not selected:
            continue
        eight_bit.update(node.output)
        result.nodes.append(node)
        if _keeps_scale(graph, node):
            if node.input[0] in result.tensors:
                result.tensors.update(dict.fromkeys(node.output, result.tensors[node.input[0]]))
            continue
        if products and node.op_type == "Add":
            result.constants.update(_added_maps(graph, node, ranks or {}))
        if array and products and (ranks or {}).get(node.input[0], 0) >= MAP_AXES:
            eight_bit.add(node.input[0])  # of 8 bits for all that read it, as in a transformer with its norm behind
        inputs = node.input[:1] if array or node.op_type == "Clip" else numbers(graph, node)
        for name in (*inputs, *node.output):
            if name and name not in graph.constants:
                result.tensors.setdefault(name, name)
    functions.enter_scaled(result)
    _keep_float(graph, result)
    _share_ranges(graph, result)
    for name in [name for name in result.tensors if _only_activated(graph, name) or _only_biased(graph, name)]:
        del result.tensors[name]
    return result


def numbers(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """The inputs of a node that are numbers: in place of a Where's condition, what is 0 where it does not hold."""
    if node.op_type != "Where" or not is_standard(node):
        return list(node.input)
    condition = condition_of(graph, node)
    return [*([condition] if condition else []), *node.input[1:]]


def is_power(node: onnx.NodeProto) -> bool:
    """Whether a node raises its input to a power: squares have twice the dynamic range, of which 8 bits keep half."""
    square = node.op_type == "Mul" and node.input[0] == node.input[1]
    return is_standard(node) and (square or node.op_type == "Pow")


def _is_multiple(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node multiplies a tensor by a constant, or divides it by one."""
    constants = [name in graph.constants for name in node.input]
    divides = node.op_type == "Div" and constants == [False, True]
    return is_standard(node) and (divides or (node.op_type == "Mul" and sorted(constants) == [False, True]))


def _keep_float(graph: Graph, result: Plan) -> None:
    """Results that are only raised to a power, such as the parts of a spectrum, stay float.

    So do parts of them, what they are joined to, and multiples by a constant.
    """
    moves = {node.output[0]: node for node in result.nodes if node.op_type in (*SAME_SCALE, "Concat")}
    raised: dict[str, bool] = {}

    def only_raised(name: str) -> bool:
        if name not in raised:
            readers = graph.consumers.get(name, [])
            raised[name] = name not in graph.outputs and bool(readers) and all(
                is_power(reader)
                or ((reader.output[0] in moves or _is_multiple(graph, reader)) and all(map(only_raised, reader.output)))
                for reader in readers
            )  # fmt: skip
        return raised[name]

    kept = {name for name in result.tensors if name in graph.producers and only_raised(name)}
    for name in kept:
        del result.tensors[name]
    result.nodes = [node for node in result.nodes if node.output[0] not in moves or node.output[0] not in kept]


def _added_maps(graph: Graph, node: onnx.NodeProto, ranks: Mapping[str, int]) -> Iterator[str]:
    """The constants of a sum that have more than a value for each channel, if nothing else reads them."""
    rank = ranks.get(node.output[0], 0)
    for name in (name for name in node.input if name in graph.constants and rank >= MAP_AXES):
        value = graph.constant(name)
        if value is None or value.ndim > rank or graph.only_consumer(name) is None:
            continue
        along = [axis - value.ndim for axis, count in enumerate(value.shape) if count > 1]
        if along and along != [-1 if rank == MAP_AXES else 1 - rank]:
            yield name


def _share_ranges(graph: Graph, result: Plan) -> None:
    """The parts of a Concat get the range of the whole: with it, a part is rounded once only."""
    for node in [node for node in result.nodes if node.op_type == "Concat" and node.output[0] in result.tensors]:
        for name in node.input:
            if result.tensors.get(name) == name and graph.only_consumer(name) is not None:
                result.tensors[name] = node.output[0]


def _of_channels(constants: Sequence[NDArray[Any] | None]) -> bool:
    """Whether these constants have several values, along one axis."""
    return all(value is not None and sum(size > 1 for size in value.shape) == 1 for value in constants)


class _Functions:
    """The element-wise functions of one 8-bit tensor, as the nodes are read: by tensor, the one it is a function of.

    A normalization of the channels of an 8-bit tensor is one of itself: it has 8 bits where others would. On chip, so
    is a factor or a summand for each channel.
    """

    def __init__(self, graph: Graph, ranks: Mapping[str, int], means: bool = False) -> None:
        self.sources: dict[str, str] = {}
        self._scaled = set[str]()  # what has a factor or a summand for each channel
        self._graph, self._ranks, self._means = graph, ranks, means
        self._norms = {each.output: each.x for each in unfused(graph, graph.constant, lambda name: ranks.get(name, 0))}

    def joined(self, node: onnx.NodeProto, eight_bit: Container[str], real: bool) -> bool:
        """Whether a node joins, pools or moves 8-bit tensors and functions of such; enters one more function."""
        if not is_standard(node) and not is_elementwise(node):
            return False
        if self._means and node.op_type == "Where" and is_standard(node) and self._chooses(node, eight_bit, real):
            return True
        if self._norms.get(node.output[0]) in eight_bit and self._ranks.get(node.output[0], 0) >= MAP_AXES:
            self.sources[node.output[0]] = node.output[0]
            return False
        read = [name for name in dict.fromkeys(node.input) if name and name not in self._graph.constants]
        if not read or not all(name in eight_bit or name in self.sources for name in read):
            return False
        if node.op_type in NORMALIZATIONS and max(self._ranks.get(name, 0) for name in read) >= MAP_AXES:
            self.sources[node.output[0]] = node.output[0]
            return False
        roots = {self.sources.get(name, name) for name in read}
        if self._means and real and node.op_type == "BatchNormalization" and len(read) == 1:
            self._scale(node.output[0])
            return False
        if is_elementwise(node) and len(roots) == 1:
            constants = [self._graph.constant(name) for name in node.input if name in self._graph.constants]
            if all(value is not None and np.unique(value).size == 1 for value in constants):
                self.sources.update(dict.fromkeys(node.output, roots.pop()))
            elif self._means and real and node.op_type in LINEAR and _of_channels(constants):
                self._scale(node.output[0])
            return False
        least = ROW_AXES if self._means else MAP_AXES
        if max(self._ranks.get(name, 0) for name in (*read, *node.output)) < least or not real:
            return False
        if any(is_power(self._graph.producers[name]) for name in read if name in self.sources):
            return False
        if self._means and self._over_tokens(node):
            return True
        if len(read) == 1 and set(self.norms_of(name for name in read if name in self.sources)) - self._scaled:
            return False  # the classes at an output, in another order
        if self._means and node.op_type in EXTREMA:
            return len(roots) > 1
        return node.op_type in BETWEEN_LAYERS or (node.op_type in PRODUCTS and len(roots) == len(node.input) == 2)

    def _scale(self, name: str) -> None:
        """Enter what has a factor or a summand for each channel."""
        self.sources[name] = name
        self._scaled.add(name)

    def enter_scaled(self, result: Plan) -> None:
        """Give 8 bits to what has a factor or a summand for each channel, where a function of it has, a table."""
        for name, root in self.sources.items():
            if root in self._scaled and name in result.tensors and not _only_activated(self._graph, root):
                result.tensors.setdefault(root, root)

    def _chooses(self, node: onnx.NodeProto, eight_bit: Container[str], real: bool) -> bool:
        """Whether a Where takes one of two tensors, of 8 bits or functions of such, as a condition says.

        One of the two may be a small number.
        """
        graph, condition = self._graph, condition_of(self._graph, node)
        data = [name for name in node.input[1:] if name not in graph.constants]
        numbers = [graph.constant(name) for name in node.input[1:] if name in graph.constants]
        mask = graph.constant(node.input[0])
        roots = [self.sources.get(name, name if name in eight_bit else "") for name in data]
        if not real or condition is None or not data or not all(roots) or (mask is not None and mask.size == 1):
            return False
        if any(value is None or np.unique(value).size != 1 or np.abs(value).max() >= -HIDES for value in numbers):
            return False
        told = {self.sources.get(condition, condition)} if condition else {""}
        return self._ranks.get(data[0], 0) >= ROW_AXES and len({*roots, *told}) > 1

    def _over_tokens(self, node: onnx.NodeProto) -> bool:
        """Whether a node is the mean over all tokens, whose channels are the last axis."""
        rank = self._ranks.get(node.input[0], 0)
        given = self._graph.constant(node_input(node, 1)) if node_input(node, 1) else None
        axes = attribute(node, "axes", [] if given is None else given.reshape(-1).tolist())
        return node.op_type == "ReduceMean" and rank == MAP_AXES and [axis % rank for axis in axes] == [1]

    def norms_of(self, names: Iterable[str]) -> list[str]:
        """The normalizations, and what has a factor or a summand for each channel, that these functions are of."""
        roots = [self.sources[name] for name in names]
        return [root for root in roots if root in self.sources]


class _Matrices:
    """The matrix products of two 8-bit tensors, as the nodes are read: by tensor, the 8-bit one it is a part of."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._parts = graph, dict[str, str]()

    def joined(self, node: onnx.NodeProto, eight_bit: Container[str], result: Plan) -> bool:
        """Enter a node that belongs to a product of two tensors, with the tensors that it quantizes."""
        if not is_standard(node):
            return False
        graph = self._graph
        read = [name for name in node.input if name and name not in graph.constants]
        if node.op_type in PARTS and len(read) == 1 and (root := self._root(read[0], eight_bit)):
            self._parts.update(dict.fromkeys(node.output, root))
            return False
        if node.op_type == "Softmax" and self._root(read[0], eight_bit) and self._multiplied(node, eight_bit):
            self._enter(node.output[0], result)
            return True
        if node.op_type in ("Add", "Where") and self._masked(node, result):
            return True
        roots = [self._root(name, eight_bit) for name in read]
        if node.op_type != "MatMul" or len(node.input) != 2 or len(read) != 2 or not all(roots):
            return False
        for root in roots:
            result.tensors.setdefault(root, root)
        shares = graph.producer(roots[1])
        turned = shares is not None and shares.op_type == "Softmax"  # the chip then computes the transposed product
        result.symmetric.add(result.tensors[roots[0 if turned else 1]])
        made = node.output[0]
        while (reader := graph.only_consumer(made)) is not None and self._finishes(reader, made):
            made = reader.output[0]
        self._enter(made, result)
        return True

    def _enter(self, name: str, result: Plan) -> None:
        """A tensor that gets 8 bits here; for all other nodes, such as a mask's Add, it is as a float one."""
        result.tensors.setdefault(name, name)
        self._parts[name] = name

    def _masked(self, node: onnx.NodeProto, result: Plan) -> bool:
        """Whether a node masks what a product of two tensors made; then the result has its range.

        A mask keeps a value or hides it, so that a Softmax does not see it: that gets the lowest code.
        """
        chooses = node.op_type == "Where"
        condition = condition_of(self._graph, node) if chooses else ""
        values = node.input[1:] if chooses else node.input
        scores = [name for name in values if self._parts.get(name) == name and name in result.tensors]
        others = [name for name in values if name not in scores and condition is not None]
        if len(scores) != 1 or len(others) != 1 or not self._hides(others[0]):
            return False
        root, made = result.tensors[scores[0]], node.output[0]
        result.lowered[root] = HIDDEN
        result.tensors[made] = root
        self._parts[made] = made
        if condition:
            result.tensors.setdefault(condition, condition)
        if others[0] not in self._graph.constants:
            result.tensors[others[0]] = others[0]
            result.masks.setdefault(others[0], []).append(root)
        return True

    def _hides(self, name: str) -> bool:
        """Whether a tensor is 0 where a value is kept, and where it is not, `HIDES` or less."""
        graph = self._graph
        if (mask := graph.constant(name)) is not None:
            return bool(((mask == 0) | (mask <= HIDES)).all())
        maker = graph.producer(name)
        if maker is None or not is_standard(maker):
            return False
        if maker.op_type in (*PARTS, "Cast", "Expand"):
            return self._hides(maker.input[0])
        if maker.op_type == "Where":
            return all(each in graph.constants and self._hides(each) for each in maker.input[1:])
        factors = [graph.constant(each) for each in maker.input if each in graph.constants]
        return (
            maker.op_type == "Mul"
            and len(factors) == 1
            and factors[0] is not None
            and bool((factors[0] <= HIDES).all())
        )

    def _finishes(self, node: onnx.NodeProto, made: str) -> bool:
        """Whether a node moves a product's elements, or multiplies them by one constant."""
        constants = [self._graph.constant(name) for name in node.input if name in self._graph.constants]
        if not is_standard(node) or len(node.output) != 1 or len(constants) + 1 != len(node.input):
            return False
        if node.op_type in SCALES:
            return node.input[0] == made and constants[0] is not None and constants[0].size == 1
        return node.op_type in PARTS

    def _root(self, name: str, eight_bit: Container[str]) -> str:
        if name in self._parts:
            return self._parts[name]
        return name if name in eight_bit and name not in self._graph.constants else ""

    def _multiplied(self, node: onnx.NodeProto, eight_bit: Container[str]) -> bool:
        """Whether a matrix product alone reads the node's output, moved or not, and its other operand is of 8 bits."""
        name = node.output[0]
        while (reader := self._graph.only_consumer(name)) is not None and reader.op_type in PARTS:
            name = reader.output[0]
        if reader is None or reader.op_type != "MatMul":
            return False
        return all(bool(self._root(other, eight_bit)) for other in reader.input if other != name)


def _keeps_scale(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node's output lies in the range of its input, so that both have one scale."""
    if node.op_type == "Pad":
        value = node_input(node, 2)
        return not value or bool(np.all(graph.constant(value) == 0))
    if node.op_type == "Resize":
        return bool(attribute(node, "mode", b"nearest") != b"cubic")
    return node.op_type in SAME_SCALE


def _only_activated(graph: Graph, name: str) -> bool:
    """Whether only an activation reads a node's output: then the activation's output is quantized instead."""
    reader = graph.only_consumer(name)
    return reader is not None and reader.op_type in ACTIVATIONS and reader.input[0] == name and name in graph.producers


def _only_biased(graph: Graph, name: str) -> bool:
    """Whether a tensor is a product whose bias an Add adds: then the sum is quantized instead."""
    product = graph.producer(name)
    return product is not None and bias_add(graph, product) is not None
