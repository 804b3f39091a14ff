"""Static quantization: QuantizeLinear/DequantizeLinear pairs around the tensors of a plan, and codes as weights.

No node is removed, also no activation.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flow.errors import FlowError
from flow.frontend.int8.layers import bias_name, output_axis
from flow.frontend.operators import ARRAY_OPERATORS
from flow.frontend.quantization.plan import Plan
from flow.frontend.quantization.ranges import Range
from flow.frontend.quantization.scales import Scale, scale_of, weight_codes, weight_scales
from flow.network.samples import Arrays
from flow.onnxtools import external
from flow.onnxtools.edit import drop_unused_nodes, replace_nodes
from flow.onnxtools.graph import Graph, linear_codes, names, node_name


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
        if external.stays(tensor):  # a look-up table (Gather)
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
        self._read: dict[str, str] = {}  # the dequantized tensor that replaces a tensor at its readers, by name
        self._before: list[onnx.NodeProto] = []  # nodes of constants
        self.parameters: dict[str, tuple[str, str]] = {}  # the constants of scale and zero point, by tensor

    def constants(self, scales: Mapping[str, Scale]) -> None:
        """Constants with these scales are read as their codes."""
        for name, scale in scales.items():
            value = self._graph.constant(name)
            assert value is not None
            inputs = [
                self._constant(f"{name}_quantized", linear_codes(value, scale.scale, scale.zero)),
                self._constant(f"{name}_scale", scale.scale),
                self._constant(f"{name}_zero_point", scale.zero),
            ]
            read = self._read[name] = self._name(f"{name}_DequantizeLinear_Output")
            self._before.append(
                helper.make_node("DequantizeLinear", inputs, [read], self._name(f"{name}_DequantizeLinear"))
            )

    def write(self, layers: Container[str]) -> None:
        """Insert the pairs of all tensors, and the weight codes of `layers`, named by their outputs."""
        nodes: list[onnx.NodeProto] = [*self._before]
        weights: dict[str, onnx.NodeProto] = {}  # by the output of the layer that reads them
        for (weight, axis), sharing in self._layers(layers).items():
            made = self._weights(weight, axis, sharing)
            weights |= {layer.output[0]: made for layer in sharing}
        written: set[str] = set()
        for value in self._model.graph.input:
            nodes += self._pair(value.name) if value.name in self._scales else []
        for node in self._model.graph.node:
            node.input[:] = [self._read.get(name, name) for name in node.input]
            if (own := weights.get(node.output[0])) is not None:
                node.input[1] = own.output[0]
                nodes += [] if own.output[0] in written else [own]
                written.add(own.output[0])
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
        yield helper.make_node("QuantizeLinear", [real, *constants], [codes], self._name(f"{name}_QuantizeLinear"))
        yield helper.make_node("DequantizeLinear", [codes, *constants], [read], self._name(f"{name}_DequantizeLinear"))

    def _layers(self, chosen: Container[str]) -> dict[tuple[str, int], list[onnx.NodeProto]]:
        """The nodes among `chosen` whose inputs get 8 bits, by their weights and the axis of the channels."""
        found: dict[tuple[str, int], list[onnx.NodeProto]] = {}
        for node in self._model.graph.node:
            if node.output[0] in chosen and node.input[0] in self._scales:
                found.setdefault((node.input[1], output_axis(node)), []).append(node)
        return found

    def _weights(self, name: str, axis: int, layers: Sequence[onnx.NodeProto]) -> onnx.NodeProto:
        """Store the weights of these layers as int8; returns the DequantizeLinear that they are to read.

        The scales are large enough for the bias of each layer. Weights that others read, too, are copied.
        """
        values = external.values(self._graph.constants[name])
        step, bias = self._scales[layers[0].input[0]].scale, np.zeros(values.shape[axis])
        for layer in layers:
            bias = np.maximum(bias, self._bias_in_units(layer, len(bias)) * float(step))
        with external.released([values]):
            scales = weight_scales(values, axis, bias, float(step))
            codes = weight_codes(values, scales, axis)
        stem = name if len(self._graph.consumers.get(name, [])) == len(layers) else node_name(layers[0])
        inputs = [
            self._constant(f"{stem}_quantized", codes),
            self._constant(f"{stem}_scale", scales),
            self._constant(f"{stem}_zero_point", np.zeros(len(scales), np.int8)),
        ]
        read = self._name(f"{stem}_DequantizeLinear_Output")
        return helper.make_node("DequantizeLinear", inputs, [read], self._name(f"{stem}_DequantizeLinear"), axis=axis)

    def _bias_in_units(self, layer: onnx.NodeProto, channels: int) -> NDArray[np.float64]:
        """The magnitudes of a layer's bias over the scale of its input, float64 [channels]."""
        bias = self._graph.constant(bias_name(self._graph, layer))
        real = np.zeros(channels) if bias is None or bias.size not in (1, channels) else bias.reshape(-1)
        each = np.broadcast_to(np.abs(real.astype(np.float64)), (channels,))
        return each / float(self._scales[layer.input[0]].scale)

    def _constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        name = self._name(name)
        self._model.graph.initializer.append(external.constant(np.asarray(value), name))
        return name

    def _name(self, wanted: str) -> str:
        """This name, or with underscores appended until it is unused; the name counts as used from now on."""
        while wanted in self._names:
            wanted += "_"
        self._names.add(wanted)
        return wanted
