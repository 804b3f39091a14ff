"""Any network in, INT8 network in QDQ form out, with notes on the changes.

A float network is quantized (static, per-channel symmetric weights, per-tensor activations) from the user's
calibration samples. A network that is INT8 already only gets int32 biases and the canonical form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.frontend.entry import checks
from flow.frontend.int8.biases import quantize_biases
from flow.frontend.operators import ARRAY_OPERATORS
from flow.frontend.preparation.conditions import conditions_as_numbers
from flow.frontend.preparation.groups import norms_by_row
from flow.frontend.preparation.prepare import prepare
from flow.frontend.preparation.resizes import known_scales, resizes_by_axis
from flow.frontend.preparation.slopes import slopes_as_products
from flow.frontend.preparation.upgrade import in_float32, upgraded
from flow.frontend.quantization.calibrate import AUTO, calibrate
from flow.frontend.quantization.equalize import equalized
from flow.frontend.quantization.plan import plan
from flow.frontend.quantization.qdq import quantize_static
from flow.network.samples import Arrays, check_samples
from flow.onnxtools import external
from flow.onnxtools.graph import Graph, opset
from flow.onnxtools.shapes import element_types, ranks

OLDEST_QDQ = 11  # the oldest opset that is read as it is; older ones are converted


@dataclass(frozen=True)
class Quantized:
    """The INT8 (QDQ) network in canonical form, and its origin.

    `prepared` is the float network it was quantized from, BatchNorm folded; None if the user's network is INT8.
    `notes` on the changes are one sentence each.
    """

    model: onnx.ModelProto
    prepared: onnx.ModelProto | None
    notes: list[str]


def quantize(
    model: onnx.ModelProto,
    calibration: NDArray[Any] | Mapping[str, NDArray[Any]] | None = None,
    unsigned: bool = False,
) -> Quantized:
    """The INT8 (QDQ) network, with notes on the changes.

    `calibration` is [samples, ...] for the only input, or arrays by input name; it is needed for float
    networks only. `unsigned` asks for uint8 activations. FlowError when the samples do not fit or the
    network cannot be quantized.
    """
    if checks.is_quantized(model):
        return from_int8(model)
    if calibration is None:
        raise FlowError(
            f"network '{model.graph.name}' is float and needs calibration samples, but there are none; "
            "pass --calibration FILE.npz"
        )
    feeds = check_samples(model, calibration, "calibration")
    return from_float(prepare(model), feeds, unsigned)


def from_int8(model: onnx.ModelProto, products: bool = False) -> Quantized:
    """The user's network, if it is INT8 in QDQ form already, in float32 otherwise and with int32 biases.

    With `products`, for the chip: linear interpolations of rows and columns have 8 bits between the two, with a note.
    """
    single = in_float32(model)
    quantized, notes = quantize_biases(upgraded(single) if opset(single) < OLDEST_QDQ else single)
    if products:
        known_scales(quantized)
        quantized, divided = resizes_by_axis(quantized)
        notes += [
            f"Resize '{name}' interpolates rows and columns one after the other on chip, with 8 bits between the two."
            for name in divided
        ]
    return Quantized(quantized, None, notes)


def from_float(
    prepared: onnx.ModelProto, feeds: Arrays, unsigned: bool = False, method: str = AUTO, products: bool = False
) -> Quantized:
    """The float network `prepared`, a result of `prepare`, quantized from checked samples, calibrated by `method`.

    With `products`, matrix products of two activations are quantized, too, and so is what is chosen of two tensors, by
    a PRelu of several slopes, too, and what is between the rows and the columns of a linear interpolation: on chip they
    are computed.
    """
    _check_weights(prepared)
    prepared, equal = equalized(prepared, feeds) if method == AUTO else (prepared, 0)
    if products:
        prepared, _ = resizes_by_axis(slopes_as_products(conditions_as_numbers(norms_by_row(prepared))))
    wanted = plan(Graph.of(prepared), element_types(prepared), ranks(prepared), products)
    found = calibrate(prepared, wanted, feeds, unsigned, method)
    quantized, _ = quantize_biases(quantize_static(prepared, wanted, wanted.balanced(found.ranges), unsigned))
    count = len(next(iter(feeds.values())))
    kind = "uint8" if unsigned else "int8"
    notes = [f"Quantized from {count} samples, activations {kind}, ranges by {found.words}."] if wanted.tensors else []
    if equal:
        notes.append(f"Channels have ranges that are alike in {equal} tensors before depthwise convolutions.")
    return Quantized(quantized, prepared, notes)


def _check_weights(model: onnx.ModelProto) -> None:
    """FlowError for weights that are NaN or infinite."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ARRAY_OPERATORS:
            continue
        for name in node.input[1:]:
            if name in constants and not external.is_finite(constants[name]):
                raise FlowError(
                    f"weights must be finite, but '{name}' of '{node.name}' holds NaN or infinity; train again"
                )
