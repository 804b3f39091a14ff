"""Tiers 1 and 2: ONNX Runtime against reference and RTL, layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from flow.frontend.int8 import rewrite
from flow.judgement.accuracy import Accuracy
from flow.network import reference
from flow.network.model import OFFSET, ArrayLayer, Network, as_uint8
from flow.onnxtools import runtime
from flow.programs import in_parallel
from flow.simulation.results import LayerRun, SampleRun

if TYPE_CHECKING:
    import onnxruntime as ort

TIER2_SHARE = 1e-4
TIER2_LSB = 1


@dataclass(frozen=True)
class LayerVerdict:
    """Mismatches of one layer over the simulated samples; `elements` outputs were compared.

    The RTL computed `elements_rtl` of them, the integer reference the others, which count in tiers 1a and 2 only.
    `pieces` and `shipped` are as in `LayerRun`.
    """

    name: str
    elements: int
    elements_rtl: int
    pieces: int
    tier1a_mismatches: int
    tier1b_mismatches: int
    tier2_mismatches: int
    tier2_max_lsb: int
    tier2_histogram: dict[int, int]  # difference in LSB -> elements
    first_mismatch: str | None
    cycles: int
    shipped: bool = False

    @property
    def tier1_mismatches(self) -> int:
        return self.tier1a_mismatches + self.tier1b_mismatches


def accumulators_model(layer: ArrayLayer) -> onnx.ModelProto:
    """ConvInteger or MatMulInteger with the layer's weights; inputs `x` uint8 (code + OFFSET) and its zero point."""
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
    zero = np.array(layer.input_quantization.zero_point + OFFSET, np.uint8)
    shape: list[str | int] = ["rows", layer.reduction] if layer.window is None else [1, *layer.input_shape]
    graph = helper.make_graph(
        [node], "accumulators",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(zero, "z")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def integer_sums(
    layer: ArrayLayer, codes: NDArray[np.int8], session: ort.InferenceSession | None = None
) -> NDArray[np.int32]:
    """Accumulators by ONNX Runtime's integer operators: int8 [1, *input_shape] -> int32 [positions, channels]."""
    unsigned = as_uint8(codes)
    active = session or runtime.session(accumulators_model(layer))
    if layer.window is None:
        sums = runtime.run(active, {"x": unsigned.reshape(-1, layer.reduction)})["y"]
    else:
        sums = np.moveaxis(runtime.run(active, {"x": unsigned})["y"], 1, -1).reshape(-1, layer.channels)
    added: NDArray[np.int32] = sums + layer.bias
    return added


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
    steps: NDArray[np.int64] = np.ceil(np.divide(excess, step, out=np.zeros_like(excess), where=step > 0)).astype(
        np.int64
    )
    return steps


def judge(
    network: Network, runs: Sequence[SampleRun], advance: Callable[[], None] = lambda: None
) -> list[LayerVerdict]:
    """Tiers 1a, 1b and 2 of every array layer over all simulated samples; `advance` is called after each layer."""

    def one(number: int) -> LayerVerdict:
        verdict = judge_layer(network, [sample.layers[number] for sample in runs])
        advance()
        return verdict

    return in_parallel(one, range(len(network.layers)))


def judge_layer(network: Network, runs: Sequence[LayerRun]) -> LayerVerdict:
    """Tiers 1a, 1b and 2 of the samples' runs of one layer."""
    layer = runs[0].layer
    integer, quantized = (
        runtime.session(accumulators_model(layer)),
        runtime.session(rewrite.layer_model(network.graph, layer)),
    )
    tier1a = tier1b = elements = simulated = 0
    first: str | None = None
    histogram: Counter[int] = Counter()
    for run in runs:
        codes = layer.input_quantization.to_int8(run.tensor)
        tier1a += int((integer_sums(layer, codes, integer) != reference.accumulate(layer, codes)).sum())
        tier1b += run.mismatches
        first = first or run.failure or (str(run.first_mismatch) if run.first_mismatch else None)
        judged = runtime.run(quantized, {layer.input: run.tensor})[layer.output]
        steps, counts = np.unique(lsb_differences(layer, run, judged), return_counts=True)
        histogram.update(dict(zip(steps.tolist(), counts.tolist(), strict=True)))
        elements += run.rows.size
        simulated += run.simulated
    return LayerVerdict(
        layer.name, elements, simulated, runs[0].pieces, tier1a, tier1b, elements - histogram[0], max(histogram),
        dict(histogram), first, runs[0].cycles, runs[0].shipped,
    )  # fmt: skip


class Judged(Protocol):
    """The counts of tiers 1 and 2 for a part of the network."""

    @property
    def elements(self) -> int: ...

    @property
    def tier1_mismatches(self) -> int: ...

    @property
    def tier2_mismatches(self) -> int: ...

    @property
    def tier2_max_lsb(self) -> int: ...


def agree(parts: Sequence[Judged]) -> bool:
    """Tier 1 equal, tier 2 at most 1 LSB on at most 1e-4 of the elements of all parts.

    One element may always differ in tier 2, however few elements there are: float32 may round a near tie either way.
    """
    return near(parts) and not any(part.tier1_mismatches or far(part) for part in parts)


def far(part: Judged) -> bool:
    """Whether an element differs in tier 2 by more than it may."""
    return part.tier2_max_lsb > TIER2_LSB


def near(parts: Sequence[Judged]) -> bool:
    """Whether few enough elements differ in tier 2, by however much."""
    elements = sum(part.elements for part in parts)
    return sum(part.tier2_mismatches for part in parts) <= max(1, TIER2_SHARE * elements)


def passes(layers: Sequence[LayerVerdict], accuracy: Accuracy) -> bool:
    """The verdict: all layers agree, and RTL and pruned network give the same answers.

    Judges the elements that were simulated; it also passes where none were.
    """
    return agree(layers) and accuracy.same_in_rtl
