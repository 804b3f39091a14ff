"""The judges: ONNX Runtime against reference and RTL, per layer (tiers 1a and 2) and for the answers (tier 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from flow import host, reference
from flow.cosim import LayerRun, SampleRun
from flow.network import ArrayLayer, Network

TIER2_SHARE = 1e-4
TIER2_LSB = 1


@dataclass(frozen=True)
class LayerVerdict:
    """Mismatches of one layer over the simulated samples; `elements` were compared in each tier."""

    name: str
    elements: int
    tier1a_mismatches: int
    tier1b_mismatches: int
    tier2_mismatches: int
    tier2_max_lsb: int
    tier2_histogram: dict[int, int]  # difference in LSB -> elements
    first_mismatch: str | None
    cycles: int

    @property
    def tier1_mismatches(self) -> int:
        return self.tier1a_mismatches + self.tier1b_mismatches


def accumulators_model(layer: ArrayLayer) -> onnx.ModelProto:
    """ConvInteger or MatMulInteger with the layer's weights; inputs `x` uint8 (int8 + 128) and its zero point."""
    if layer.window is None:
        weights = np.ascontiguousarray(layer.weights.T)
        node = helper.make_node("MatMulInteger", ["x", "w", "z"], ["y"])
    else:
        window = layer.window
        shaped = layer.weights.reshape(layer.channels, *window.kernel, -1)
        weights = np.ascontiguousarray(np.moveaxis(shaped, -1, 1))
        node = helper.make_node(
            "ConvInteger", ["x", "w", "z"], ["y"], kernel_shape=window.kernel, strides=window.strides,
            pads=window.pads, dilations=window.dilations, group=layer.groups,
        )  # fmt: skip
    zero = np.array(layer.input_quantization.zero_point + 128, np.uint8)
    shape = [1, layer.reduction] if layer.window is None else [1, *layer.input_shape]
    if layer.window is None:
        shape = ["rows", layer.reduction]
    graph = helper.make_graph(
        [node], "accumulators",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(zero, "z")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def layer_model(model: onnx.ModelProto, layer: ArrayLayer) -> onnx.ModelProto:
    """The part of the QDQ network between the layer's input and output tensors, as a model of its own."""
    makers = {output: node for node in model.graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    needed: set[str] = set()
    stack, seen = [layer.output], set()
    while stack:
        name = stack.pop()
        if name in seen or name == layer.input or not name:
            continue
        seen.add(name)
        if name in constants:
            needed.add(name)
            continue
        node = makers[name]
        stack.extend(node.input)
    nodes = [node for node in model.graph.node if any(output in seen for output in node.output)]
    kind = TensorProto.UINT8 if layer.input_quantization.unsigned else TensorProto.INT8
    output = layer.output_quantization
    result = TensorProto.FLOAT if output is None else TensorProto.UINT8 if output.unsigned else TensorProto.INT8
    graph = helper.make_graph(
        nodes, "layer",
        [helper.make_tensor_value_info(layer.input, kind, ["batch", *layer.input_shape])],
        [helper.make_tensor_value_info(layer.output, result, ["batch", *layer.output_shape])],
        [constants[name] for name in sorted(needed)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def lsb_differences(layer: ArrayLayer, run: LayerRun, judged: NDArray[Any]) -> NDArray[np.int64]:
    """|RTL - ONNX Runtime| in units of the output's last place.

    For a raw layer the unit is one accumulator step, beyond the rounding error float32 itself may make in a
    sum of `reduction` products: (reduction + 2) * 2^-24 * sum |w * x|.
    """
    output = layer.output_quantization
    if output is not None:
        got = reference.to_output(layer, run.rows).astype(np.int64)
        return np.abs(got - output.to_int8(judged).astype(np.int64))
    codes = layer.input_quantization.to_int8(run.tensor)
    windows = np.abs(reference.windows(layer, codes).astype(np.float64) - layer.input_quantization.zero_point)
    weights = np.abs(layer.weights.astype(np.float64)).reshape(layer.groups, -1, layer.reduction)
    size = np.moveaxis(np.matmul(windows, weights.transpose(0, 2, 1)), 0, 1).reshape(run.rows.shape)
    size += np.abs(layer.bias.astype(np.float64))
    scales = reference.accumulator_scales(layer).astype(np.float64)
    error = np.abs(reference.to_output(layer, run.rows * scales) - judged.astype(np.float64))
    allowed = reference.to_output(layer, (layer.reduction + 2) * 2.0**-24 * size * scales)
    step = reference.to_output(layer, np.broadcast_to(scales, run.rows.shape))
    excess = np.maximum(error - allowed, 0)
    return np.ceil(np.divide(excess, step, out=np.zeros_like(excess), where=step > 0)).astype(np.int64)


def judge_layer(network: Network, number: int, runs: Sequence[SampleRun]) -> LayerVerdict:
    """Tiers 1a, 1b and 2 of the `number`-th array layer over all simulated samples."""
    layer = runs[0].layers[number].layer
    integer, quantized = host.session(accumulators_model(layer)), host.session(layer_model(network.model, layer))
    tier1a = tier1b = elements = 0
    first: str | None = None
    histogram: dict[int, int] = {}
    for sample in runs:
        run = sample.layers[number]
        codes = layer.input_quantization.to_int8(run.tensor)
        unsigned = codes.view(np.uint8) ^ np.uint8(0x80)
        if layer.window is None:
            sums = host.run(integer, {"x": unsigned.reshape(-1, layer.reduction)})["y"]
        else:
            sums = np.moveaxis(host.run(integer, {"x": unsigned})["y"], 1, -1).reshape(-1, layer.channels)
        tier1a += int((sums + layer.bias != reference.accumulate(layer, codes)).sum())
        tier1b += run.mismatches
        first = first or run.first_mismatch
        judged = host.run(quantized, {layer.input: run.tensor})[layer.output]
        values, counts = np.unique(lsb_differences(layer, run, judged), return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            histogram[value] = histogram.get(value, 0) + count
        elements += run.rows.size
    return LayerVerdict(
        layer.name, elements, tier1a, tier1b, elements - histogram.get(0, 0), max(histogram), histogram, first,
        runs[0].layers[number].cycles,
    )  # fmt: skip


def top1(outputs: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """Share of samples whose largest output is their label; None when the outputs are no class scores."""
    if outputs.ndim < 2 or labels.ndim != 1 or len(outputs) != len(labels):
        return None
    flat = outputs.reshape(len(outputs), -1)
    if not np.issubdtype(labels.dtype, np.integer) or labels.max(initial=0) >= flat.shape[1]:
        return None
    return float((flat.argmax(axis=1) == labels).mean())


def sqnr(outputs: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Signal to quantization noise of the network's outputs, dB; infinite when equal."""
    noise = float(((outputs.astype(np.float64) - wanted) ** 2).sum())
    signal = float((wanted.astype(np.float64) ** 2).sum())
    return float("inf") if noise == 0 else 10 * np.log10(max(signal, 1e-300) / noise)


def passes(layers: Sequence[LayerVerdict], answers_equal: bool) -> bool:
    """The verdict: tiers 1a and 1b equal, tier 2 at most 1 LSB on at most 1e-4 of the elements, same answers."""
    elements = sum(layer.elements for layer in layers)
    differing = sum(layer.tier2_mismatches for layer in layers)
    return (
        answers_equal
        and all(layer.tier1_mismatches == 0 and layer.tier2_max_lsb <= TIER2_LSB for layer in layers)
        and differing <= max(1, TIER2_SHARE * elements)
    )
