"""Static quantization: placement of QuantizeLinear/DequantizeLinear pairs, codes of weights.

Every tensor that an array layer reads or writes gets a pair, and so does the output of every node that pools, adds,
concatenates or moves 8-bit tensors between layers. No node is removed: an activation (Relu, Clip) stays, and the tensor
before it stays float if only the activation reads it, so that a layer, its activation and one QuantizeLinear form one
step of the array. Scales and zero points: docs/numbers.md.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.errors import FlowError
from flow.frontend.int8.layers import bias_name, output_axis
from flow.frontend.operators import ACTIVATIONS, ARRAY_OPERATORS, BETWEEN_LAYERS, SAME_SCALE, is_elementwise
from flow.frontend.quantization.ranges import Range
from flow.frontend.sums import bias_add
from flow.frontend.unfused import unfused
from flow.network.samples import Arrays
from flow.onnxtools import external
from flow.onnxtools.edit import drop_unused_nodes, replace_nodes
from flow.onnxtools.graph import Graph, attribute, is_standard, names, node_input, node_name

PART = 2**26  # bytes of weights that are quantized at a time
LARGEST_SUM = 2**31 - 1
MAP_AXES = 3  # the batch, channels, and pixels in rows and columns, in a row, or in no order
PRODUCTS = ("Mul", "Sub")  # of two tensors
NORMALIZATIONS = ("LayerNormalization", "Softmax")
PARTS = ("Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")  # they only move
SCALES = ("Mul", "Div")  # a product of two tensors by a constant
HIDES = -64.0  # what a mask adds to a value that a Softmax shall not see, at most
HIDDEN = 12.0  # how far below all others it is seen: e^-12 of a value beside it, or less
GRID_WEIGHTS = 8  # channels of fewer weights other than zero are not searched for a grid: any few numbers have one
GRID_DIVISORS = 64  # the smallest weight other than zero is a code of 1 to 64
GRID_TOLERANCE = 1e-3  # steps: far more than the rounding of float32, far less than that to a code
GRID_TRIED = 32  # weights of a channel that are tried first


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
    Functions and products of tensors of two axes stay float, as the states of unrolled recurrent operators have to.
    With `products`, the matrix products of two 8-bit tensors, as attention has them, get 8 bits, too, and so do the
    constants that are added to every element (positions), and means of tokens.
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
            between = node.op_type in BETWEEN_LAYERS and is_standard(node)
            known = any(name in result.tensors for name in node.input)  # of unknown type behind foreign operators
            unknown = TensorProto.FLOAT if known else TensorProto.UNDEFINED
            real = all(kinds.get(name, unknown) == TensorProto.FLOAT for name in node.output)
            selected = between and real and all(name in eight_bit for name in node.input if name)
            if not selected and functions.joined(node, eight_bit, real):
                selected = True
                read = [name for name in node.input if name in functions.sources]
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
        inputs = node.input[:1] if array or node.op_type == "Clip" else node.input
        for name in (*inputs, *node.output):
            if name and name not in graph.constants:
                result.tensors.setdefault(name, name)
    _keep_float(graph, result)
    _share_ranges(graph, result)
    for name in [name for name in result.tensors if _only_activated(graph, name) or _only_biased(graph, name)]:
        del result.tensors[name]
    return result


def is_power(node: onnx.NodeProto) -> bool:
    """Whether a node raises its input to a power: squares have twice the dynamic range, of which 8 bits keep half."""
    square = node.op_type == "Mul" and node.input[0] == node.input[1]
    return is_standard(node) and (square or node.op_type == "Pow")


def _keep_float(graph: Graph, result: Plan) -> None:
    """Results that are only raised to a power, such as the parts of a spectrum, stay float, and so do parts of them."""
    moves = {node.output[0]: node for node in result.nodes if node.op_type in SAME_SCALE}
    raised: dict[str, bool] = {}

    def only_raised(name: str) -> bool:
        if name not in raised:
            readers = graph.consumers.get(name, [])
            raised[name] = name not in graph.outputs and bool(readers) and all(
                is_power(reader) or (reader.output[0] in moves and all(map(only_raised, reader.output)))
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


class _Functions:
    """The element-wise functions of one 8-bit tensor, as the nodes are read: by tensor, the one it is a function of.

    A normalization of the channels of an 8-bit tensor is one of itself: it has 8 bits where others would.
    """

    def __init__(self, graph: Graph, ranks: Mapping[str, int], means: bool = False) -> None:
        self.sources: dict[str, str] = {}
        self._graph, self._ranks, self._means = graph, ranks, means
        self._norms = {each.output: each.x for each in unfused(graph, graph.constant, lambda name: ranks.get(name, 0))}

    def joined(self, node: onnx.NodeProto, eight_bit: Container[str], real: bool) -> bool:
        """Whether a node joins, pools or moves 8-bit tensors and functions of such; enters one more function."""
        if not is_standard(node) and not is_elementwise(node):
            return False
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
        if is_elementwise(node) and len(roots) == 1:
            constants = [self._graph.constant(name) for name in node.input if name in self._graph.constants]
            if all(value is not None and np.unique(value).size == 1 for value in constants):
                self.sources.update(dict.fromkeys(node.output, roots.pop()))
            return False
        if max(self._ranks.get(name, 0) for name in (*read, *node.output)) < MAP_AXES or not real:
            return False
        if any(is_power(self._graph.producers[name]) for name in read if name in self.sources):
            return False
        if self._means and self._over_tokens(node):
            return True
        if len(read) == 1 and self.norms_of(name for name in read if name in self.sources):
            return False  # the classes at an output, in another order
        return node.op_type in BETWEEN_LAYERS or (node.op_type in PRODUCTS and len(roots) == len(node.input) == 2)

    def _over_tokens(self, node: onnx.NodeProto) -> bool:
        """Whether a node is the mean over all tokens, whose channels are the last axis."""
        rank = self._ranks.get(node.input[0], 0)
        given = self._graph.constant(node_input(node, 1)) if node_input(node, 1) else None
        axes = attribute(node, "axes", [] if given is None else given.reshape(-1).tolist())
        return node.op_type == "ReduceMean" and rank == MAP_AXES and [axis % rank for axis in axes] == [1]

    def norms_of(self, names: Iterable[str]) -> list[str]:
        """The normalizations that these functions are of."""
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
        if node.op_type == "Add" and self._masked(node, result):
            return True
        roots = [self._root(name, eight_bit) for name in read]
        if node.op_type != "MatMul" or len(node.input) != 2 or len(read) != 2 or not all(roots):
            return False
        for root in roots:
            result.tensors.setdefault(root, root)
        result.symmetric.add(result.tensors[roots[1]])
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
        """Whether a node adds a mask to what a product of two tensors made; then the sum has its range.

        A mask keeps a value or hides it, so that a Softmax does not see it: that gets the lowest code.
        """
        scores = [name for name in node.input if self._parts.get(name) == name and name in result.tensors]
        others = [name for name in node.input if name not in scores]
        if len(scores) != 1 or len(others) != 1 or not self._hides(others[0]):
            return False
        root, made = result.tensors[scores[0]], node.output[0]
        result.lowered[root] = HIDDEN
        result.tensors[made] = root
        self._parts[made] = made
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
        """Whether a matrix product alone reads the node's output, and its other operand is of 8 bits."""
        reader = self._graph.only_consumer(node.output[0])
        return (
            reader is not None
            and reader.op_type == "MatMul"
            and reader.input[0] == node.output[0]
            and bool(self._root(reader.input[1], eight_bit))
        )


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


# -------------------------------------------------------------------------------- scales


@dataclass(frozen=True)
class Scale:
    """Scale and zero point of a tensor: real = scale * (q - zero)."""

    scale: np.float32
    zero: np.int8 | np.uint8


def scale_of(found: Range, unsigned: bool) -> Scale:
    """Scale and zero point for 256 codes over a range, which is widened to contain zero so that zero is exact."""
    kind = np.uint8 if unsigned else np.int8
    limits = np.iinfo(kind)
    low, high = min(float(found.low), 0.0), max(float(found.high), 0.0)
    scale = (high - low) / 255
    if scale < np.finfo(np.float32).tiny:
        return Scale(np.float32(1), kind(0))
    zero = np.rint(limits.min - low / scale)
    return Scale(np.float32(scale), kind(np.clip(zero, limits.min, limits.max)))


def channel_scales(
    largest: NDArray[np.float64], bias: NDArray[np.float64], step: float, reduction: int
) -> NDArray[np.float32]:
    """Scales of int8 weights -127 to 127, float32 [channels], from the largest magnitude of each channel.

    Where a bias, or the sum it is added to, would exceed 32 bits in units of step x scale, the scale is enlarged until
    it fits: in such a channel the bias dominates, and the weights are small. `step` is the scale of the input.
    """
    scales = largest / 127
    scales[scales < np.finfo(np.float32).tiny] = 1.0
    return np.maximum(scales, _least_scales(bias, step, reduction)).astype(np.float32)


def _least_scales(bias: NDArray[np.float64], step: float, reduction: int) -> NDArray[np.float64]:
    room = LARGEST_SUM - 255 * 127 * reduction - 1
    return np.abs(bias) / (step * room) * (1 + 2**-20) if room > 0 else np.zeros_like(bias)


def weight_scales(
    values: NDArray[np.float32], axis: int, bias: NDArray[np.float64], step: float
) -> NDArray[np.float32]:
    """Scales of int8 weights, float32 [channels]: of their grid if they have one, else `channel_scales`.

    Weights that were quantized before, to 8 bits or fewer, are multiples of a scale: with it, they are exact.
    """
    largest = largest_magnitudes(values, axis)
    reduction = values.size // max(len(largest), 1)
    grid, least = _grids(values, axis), _least_scales(bias, step, reduction)
    usual = channel_scales(largest, bias, step, reduction)
    return np.where((grid > 0) & (grid >= least), grid.astype(np.float32), usual)


def _grids(values: NDArray[np.float32], axis: int) -> NDArray[np.float64]:
    """The step all weights of a channel are multiples of, up to 127; float64 [channels], 0 where there is none."""
    channels = np.moveaxis(values, axis, 0)
    count = max(1, PART // 8 // max(values.nbytes // max(len(channels), 1), 1))
    parts = [channels[start : start + count] for start in range(0, len(channels), count)]
    found = [_grid_steps(np.abs(part.reshape(len(part), -1)).astype(np.float64)) for part in parts]
    return np.concatenate(found) if found else np.zeros(0)


def _grid_steps(magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """As `_grids`, of magnitudes [channels, weights]."""
    found = np.zeros(len(magnitudes))
    smallest = np.where(magnitudes > 0, magnitudes, np.inf).min(axis=1, initial=np.inf)
    searched = (np.count_nonzero(magnitudes, axis=1) >= GRID_WEIGHTS) & np.isfinite(magnitudes).all(axis=1)
    for divisor in range(1, GRID_DIVISORS + 1):
        index = np.flatnonzero(searched & (found == 0))
        for tried in (GRID_TRIED, magnitudes.shape[1]):
            steps = magnitudes[index, :tried] / smallest[index, None] * divisor
            even = (np.abs(steps - np.rint(steps)) <= GRID_TOLERANCE).all(axis=1)
            index = index[even & (steps.max(axis=1, initial=0) < 127.5)]
        largest = magnitudes[index].max(axis=1, initial=0)
        found[index] = largest / np.rint(largest / smallest[index] * divisor)
    return found


# -------------------------------------------------------------------------------- insertion


def quantize_static(
    prepared: onnx.ModelProto, wanted: Plan, ranges: Mapping[str, Range], unsigned: bool
) -> onnx.ModelProto:
    """The QDQ form of a float network, with these ranges of its activations. Biases stay float.

    FlowError where a tensor's range is not finite.
    """
    model = onnx.ModelProto()
    model.CopyFrom(prepared)
    if not wanted.tensors:
        return model
    writer = _Writer(model, Graph.of(model), _scales(model, wanted, ranges, unsigned))
    writer.constants({name: _constant_scale(model, name, unsigned) for name in sorted(wanted.constants)})
    writer.write({node.output[0] for node in wanted.nodes if node.op_type in ARRAY_OPERATORS})
    drop_unused_nodes(model)
    for tensor in model.graph.initializer:
        if external.is_external(tensor):  # a look-up table (Gather)
            tensor.CopyFrom(numpy_helper.from_array(np.array(external.values(tensor)), tensor.name))
    return model


def _constant_scale(model: onnx.ModelProto, name: str, unsigned: bool) -> Scale:
    value = Graph.of(model).constant(name)
    assert value is not None
    return _checked(model, name, {name: Range(np.float32(value.min()), np.float32(value.max()))}, unsigned)


@dataclass(frozen=True)
class Trial:
    """A network with 8-bit activations and float weights, whose scales and zero points are inputs."""

    model: onnx.ModelProto
    inputs: dict[str, tuple[str, str]]  # the inputs of scale and zero point, by tensor
    wanted: Plan
    unsigned: bool

    def feeds(self, ranges: Mapping[str, Range]) -> Arrays:
        """The values of the additional inputs for these ranges."""
        values, ranges = dict[str, NDArray[Any]](), self.wanted.balanced(ranges)
        for tensor, (scale, zero) in self.inputs.items():
            found = scale_of(ranges[self.wanted.tensors[tensor]], self.unsigned)
            values |= {scale: np.array(found.scale), zero: np.array(found.zero)}
        return values


def trial(prepared: onnx.ModelProto, wanted: Plan, ranges: Mapping[str, Range], unsigned: bool) -> Trial:
    """The network with its activations quantized alone, to try ranges on; `ranges` has those that may be tried."""
    model = onnx.ModelProto()
    model.CopyFrom(prepared)
    writer = _Writer(model, Graph.of(model), _scales(model, wanted, ranges, unsigned))
    writer.write(())
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for name in (name for pair in writer.parameters.values() for name in pair):
        model.graph.input.append(helper.make_tensor_value_info(name, constants[name].data_type, []))
        model.graph.initializer.remove(constants[name])
    return Trial(model, writer.parameters, wanted, unsigned)


def _scales(model: onnx.ModelProto, wanted: Plan, ranges: Mapping[str, Range], unsigned: bool) -> dict[str, Scale]:
    """Scale and zero point by tensor; tensors whose range is not known, as they are always empty, are left out."""
    known = {tensor: root for tensor, root in wanted.tensors.items() if root in ranges}
    return {tensor: _checked(model, root, ranges, unsigned) for tensor, root in known.items()}


def _checked(model: onnx.ModelProto, tensor: str, ranges: Mapping[str, Range], unsigned: bool) -> Scale:
    found = ranges[tensor]
    if not (np.isfinite(found.low) and np.isfinite(found.high)):
        raise FlowError(
            f"activations must be finite, but '{tensor}' of network '{model.graph.name}' reaches {found.low:g} to "
            f"{found.high:g} on the calibration samples; check the samples and the network's weights"
        )
    return scale_of(found, unsigned)


class _Writer:
    """Inserts QuantizeLinear/DequantizeLinear pairs and weight codes into a model."""

    def __init__(self, model: onnx.ModelProto, graph: Graph, scales: Mapping[str, Scale]) -> None:
        self._model, self._graph, self._scales = model, graph, scales
        self._names = {name for name in names(model.graph) if isinstance(name, str)}
        self._dequantized: dict[str, Scale] = {}  # the scale of every tensor behind a DequantizeLinear
        self._read: dict[str, str] = {}  # the dequantized tensor that replaces a tensor at its readers, by name
        self._before: list[onnx.NodeProto] = []  # nodes of constants
        self.parameters: dict[str, tuple[str, str]] = {}  # the constants of scale and zero point, by tensor

    def constants(self, scales: Mapping[str, Scale]) -> None:
        """Constants with these scales are read as their codes."""
        for name, scale in scales.items():
            value, limits = self._graph.constant(name), np.iinfo(scale.zero.dtype)
            assert value is not None
            rounded = np.rint(value.astype(np.float32) / scale.scale) + np.float32(scale.zero)
            codes = np.clip(rounded, limits.min, limits.max).astype(scale.zero.dtype)
            inputs = [
                self._constant(f"{name}_quantized", codes), self._constant(f"{name}_scale", scale.scale),
                self._constant(f"{name}_zero_point", scale.zero),
            ]  # fmt: skip
            read = self._read[name] = self._name(f"{name}_DequantizeLinear_Output")
            self._before.append(
                helper.make_node("DequantizeLinear", inputs, [read], self._name(f"{name}_DequantizeLinear"))
            )

    def write(self, layers: Container[str]) -> None:
        """Insert the pairs of all tensors, and the weight codes of `layers`, named by their outputs."""
        nodes: list[onnx.NodeProto] = [*self._before]
        for value in self._model.graph.input:
            nodes += self._pair(value.name) if value.name in self._scales else []
        for node in self._model.graph.node:
            node.input[:] = [self._read.get(name, name) for name in node.input]
            if node.output[0] in layers and (source := self._dequantized.get(node.input[0])) is not None:
                nodes.append(self._weights(node, source))
            nodes.append(node)
            for index, name in enumerate(node.output):
                if name in self._scales:
                    nodes += self._pair(name, node, index)
        replace_nodes(self._model, nodes)

    def _pair(self, name: str, maker: onnx.NodeProto | None = None, output: int = 0) -> Iterator[onnx.NodeProto]:
        """QuantizeLinear and DequantizeLinear of a tensor; an output of the network keeps its name, behind them."""
        scale = self._scales[name]
        constants = (self._constant(f"{name}_scale", scale.scale), self._constant(f"{name}_zero_point", scale.zero))
        self.parameters[name] = constants
        real, codes, read = name, self._name(f"{name}_QuantizeLinear_Output"), name
        if maker is not None and name in self._graph.outputs:
            real = maker.output[output] = self._name(f"{name}_QuantizeLinear_Input")
        else:
            read = self._read[name] = self._name(f"{name}_DequantizeLinear_Output")
        self._dequantized[read] = scale
        yield helper.make_node("QuantizeLinear", [real, *constants], [codes], self._name(f"{name}_QuantizeLinear"))
        yield helper.make_node("DequantizeLinear", [codes, *constants], [read], self._name(f"{name}_DequantizeLinear"))

    def _weights(self, layer: onnx.NodeProto, source: Scale) -> onnx.NodeProto:
        """Store the weights of a layer as int8; returns the DequantizeLinear that the layer reads."""
        name, axis = layer.input[1], output_axis(layer)
        values = external.values(self._graph.constants[name])
        channels = values.shape[axis]
        bias = self._graph.constant(bias_name(self._graph, layer))
        real = np.zeros(channels) if bias is None or bias.size not in (1, channels) else bias.reshape(-1)
        each = np.broadcast_to(real, (channels,)).astype(np.float64)
        scales = weight_scales(values, axis, each, float(source.scale))
        stem = node_name(layer) if self._shared(name) else name
        inputs = [
            self._constant(f"{stem}_quantized", weight_codes(values, scales, axis)),
            self._constant(f"{stem}_scale", scales),
            self._constant(f"{stem}_zero_point", np.zeros(len(scales), np.int8)),
        ]
        layer.input[1] = self._name(f"{stem}_DequantizeLinear_Output")
        return helper.make_node(
            "DequantizeLinear", inputs, [layer.input[1]], self._name(f"{stem}_DequantizeLinear"), axis=axis
        )

    def _shared(self, name: str) -> bool:
        return len(self._graph.consumers.get(name, [])) > 1

    def _constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        name = self._name(name)
        self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _name(self, wanted: str) -> str:
        """This name, or with underscores appended until it is unused; the name counts as used from now on."""
        while wanted in self._names:
            wanted += "_"
        self._names.add(wanted)
        return wanted


def _parts(values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Weights split along the first axis, into parts of about `PART` bytes at most."""
    return np.array_split(values, max(1, min(len(values), -(-values.nbytes // PART))))


def largest_magnitudes(values: NDArray[np.float32], axis: int) -> NDArray[np.float64]:
    """The largest magnitude of each channel, float64 [channels]."""
    rest = tuple(i for i in range(values.ndim) if i != axis)
    found = [np.abs(part).max(axis=rest, initial=0) for part in _parts(values)]
    largest: NDArray[np.float32] = np.concatenate(found) if axis == 0 else np.max(found, axis=0)
    return largest.astype(np.float64)


def weight_codes(values: NDArray[np.float32], scales: NDArray[np.float32], axis: int) -> NDArray[np.int8]:
    """Weights rounded to int8 codes -127 to 127, with one scale for each index of `axis`."""
    shape = [1] * values.ndim
    shape[axis] = -1
    scale, codes, begin = scales.reshape(shape), np.empty(values.shape, np.int8), 0
    for part in _parts(values):
        own = scale[begin : begin + len(part)] if axis == 0 else scale
        codes[begin : begin + len(part)] = np.clip(np.rint(part / own), -127, 127)
        begin += len(part)
    return codes
