"""Any network in, INT8 network in QDQ form out, with notes on what was changed.

A float network is quantized by ONNX Runtime (static, per-channel symmetric weights, per-tensor activations)
from the user's calibration samples. A network that is INT8 already is only brought to the form `cut` reads.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flow import external, host, importer
from flow.canonical import ARRAY_OPERATORS, canonical, prepare
from flow.errors import FlowError, first_line
from flow.graph import Graph, attribute
from flow.samples import Arrays, check_samples

# What the host does between two array layers with 8-bit tensors.
BETWEEN_LAYERS = (
    "Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "Flatten", "GlobalAveragePool", "Identity", "MaxPool",
    "Pad", "Relu", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze",
    "Upsample",
)  # fmt: skip

OPTIONS = {"WeightSymmetric": True, "ActivationSymmetric": False, "QuantizeBias": True}
PART = 2**26  # bytes of a matrix that are looked at together


@dataclass(frozen=True)
class Quantized:
    """The INT8 (QDQ) network; the float one it was made from, BatchNorm folded; notes, one sentence each."""

    model: onnx.ModelProto
    prepared: onnx.ModelProto | None
    notes: list[str]


def quantize(
    model: onnx.ModelProto,
    calibration: NDArray[Any] | Mapping[str, NDArray[Any]] | None = None,
    unsigned: bool = False,
) -> Quantized:
    """The INT8 (QDQ) network, with notes on what was changed.

    `calibration` is [samples, ...] for the only input, or arrays by input name; it is needed for float
    networks only. `unsigned` asks for uint8 activations. FlowError when the samples do not fit or ONNX
    Runtime cannot quantize the network.
    """
    if importer.is_quantized(model):
        quantized, notes = quantize_biases(model)
        return Quantized(quantized, None, notes)
    if calibration is None:
        raise FlowError(
            f"network '{model.graph.name}' is float and needs calibration samples, but there are none; "
            "pass --calibration FILE.npz"
        )
    feeds = check_samples(model, calibration, "calibration")
    prepared = prepare(model)
    _check_weights(prepared)
    quantized, notes = quantize_biases(_quantize_static(prepared, feeds, unsigned))
    count = len(next(iter(feeds.values())))
    kind = "uint8" if unsigned else "int8"
    notes = [f"Quantized by ONNX Runtime from {count} samples, activations {kind}.", *notes]
    return Quantized(quantized, prepared, notes)


def _check_weights(model: onnx.ModelProto) -> None:
    """FlowError for weights that are NaN or infinite."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ARRAY_OPERATORS:
            continue
        for name in node.input[1:]:
            if name in constants and not np.isfinite(external.values(constants[name])).all():
                raise FlowError(
                    f"weights must be finite, but '{name}' of '{node.name}' holds NaN or infinity; train again"
                )


def _left_in_float(model: onnx.ModelProto) -> list[str]:
    """Names, given where they are missing, of the nodes that 8 bits would harm for nothing: the host runs them.

    Eight bits are for what the array computes and what pools, adds, joins or moves that on the way to the next
    layer. A tensor that something else has made (Softmax, LayerNorm, a mask of -1e38) keeps its range: so does
    all that reads it, but for the array's own operators.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    eight_bit = {value.name for value in model.graph.input} | constants
    left: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type in ARRAY_OPERATORS:
            kept = all(name in constants for name in node.input[1:2])
        else:
            kept = node.op_type in BETWEEN_LAYERS and all(name in eight_bit for name in node.input if name)
        if kept:
            eight_bit.update(node.output)
        else:
            left.append(node)
    taken = {node.name for node in model.graph.node if node not in left}
    for node in left:
        if not node.name or node.name in taken:
            node.name = f"{next(iter(node.output), node.op_type)}_in_float"
    return [node.name for node in left]


def _quantize_static(model: onnx.ModelProto, feeds: Arrays, unsigned: bool) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    named = onnx.ModelProto()
    named.CopyFrom(model)
    left = _left_in_float(named)
    kinds = QuantType.QUInt8 if unsigned else QuantType.QInt8, QuantType.QInt8
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)  # its hints are for those who call it themselves
    try:
        with tempfile.TemporaryDirectory() as folder:
            if external.weights(model):
                return _quantize_large(named, feeds, left, kinds, Path(folder))
            source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            onnx.save(named, str(source))
            quantize_static(
                str(source),
                str(target),
                _reader(named, feeds),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=False,
                activation_type=kinds[0],
                weight_type=kinds[1],
                nodes_to_exclude=left,
                extra_options=OPTIONS,
            )
            return onnx.load(str(target))
    except Exception as error:
        raise FlowError(
            f"ONNX Runtime cannot quantize network '{model.graph.name}': {first_line(error)}; "
            "quantize it yourself and pass the QDQ model"
        ) from None
    finally:
        logging.disable(previous)


def _reader(model: onnx.ModelProto, feeds: Arrays) -> Any:
    """The samples in the batches the network takes, with its external constants, as ONNX Runtime wants them."""
    from onnxruntime.quantization import CalibrationDataReader

    outside = external.weights(model)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            step = host.batch_size(host.session(model))
            starts = range(0, len(next(iter(feeds.values()))), step)
            self.batches = iter([{n: a[start : start + step] for n, a in feeds.items()} | outside for start in starts])

        def get_next(self) -> Arrays | None:
            return next(self.batches, None)

    return Reader()


def _quantize_large(
    model: onnx.ModelProto, feeds: Arrays, left: list[str], kinds: tuple[Any, Any], folder: Path
) -> onnx.ModelProto:
    """As `quantize_static`, with the external constants of the model read from their files one by one.

    ONNX Runtime calibrates the model's shell and quantizes a model in which each of these matrices is one row (or
    column) of its channels' largest magnitudes: the scales depend on nothing else. The codes are put in after that.
    """
    from onnxruntime.quantization.calibrate import create_calibrator
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import add_infer_metadata
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    operators = sorted({*QDQRegistry, *QLinearOpsRegistry})
    bare, augmented = folder / "shell.onnx", folder / "augmented.onnx"
    inferred = onnx.shape_inference.infer_shapes(external.shell(model))
    onnx.save(inferred, str(bare))
    calibrator = create_calibrator(bare, operators, augmented_model_path=str(augmented))
    calibrator.collect_data(_reader(model, feeds))
    ranges = calibrator.compute_data()
    del calibrator
    small = external.refilled(inferred, model)
    channel_axes = _channel_axes(small)
    for tensor in small.graph.initializer:
        if external.is_external(tensor):
            axis = channel_axes.get(tensor.name, 0)
            largest = _largest(external.values(tensor), 1 - axis)
            tensor.CopyFrom(numpy_helper.from_array(largest, tensor.name))
    add_infer_metadata(small)  # its shapes are known, and those of the stand-ins would not fit
    quantizer = QDQQuantizer(small, True, False, kinds[1], kinds[0], ranges, [], left, operators, OPTIONS)
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized = onnx.ModelProto()
    quantized.CopyFrom(quantizer.model.model)
    _fill(quantized, model)
    return quantized


def _channel_axes(model: onnx.ModelProto) -> dict[str, int]:
    """Along which axis the output channels of the matrices that products read lie."""
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    return {node.input[1]: 0 if attribute(node, "transB", 0) else 1 for node in products}


def _largest(matrix: NDArray[Any], axis: int) -> NDArray[np.float32]:
    """Largest magnitudes along an axis, which stays with size 1; a few rows at a time."""
    parts = [np.abs(part).max(axis=axis, keepdims=True) for part in _rows(matrix)]
    whole = np.concatenate(parts, axis=0)
    largest: NDArray[np.float32] = whole.max(axis=0, keepdims=True) if axis == 0 else whole
    return largest


def _rows(matrix: NDArray[Any]) -> list[NDArray[Any]]:
    """A matrix in parts of some megabytes."""
    return np.array_split(matrix, max(1, matrix.nbytes // PART))


def _fill(quantized: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Put what belongs there in place of the stand-ins: codes of quantized matrices, values of others."""
    outside = external.weights(source)
    constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
    for node in quantized.graph.node:
        name = node.input[0].removesuffix("_quantized") if node.op_type == "DequantizeLinear" else ""
        tensor = constants.get(f"{name}_quantized")
        if name not in outside or tensor is None or tuple(tensor.dims) == outside[name].shape:
            continue
        axis = attribute(node, "axis", 1)
        scale = numpy_helper.to_array(constants[node.input[1]]).reshape((-1, 1) if axis == 0 else (1, -1))
        codes = np.empty(outside[name].shape, np.int8)
        begin = 0
        for part in _rows(outside[name]):
            end = begin + len(part)
            codes[begin:end] = np.clip(np.round(part / (scale[begin:end] if axis == 0 else scale)), -127, 127)
            begin = end
        tensor.CopyFrom(numpy_helper.from_array(codes, tensor.name))
    for name in outside.keys() & constants.keys():
        constants[name].CopyFrom(numpy_helper.from_array(np.array(outside[name]), name))


def quantize_biases(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Biases of INT8 layers, float or of another scale, as int32 in units of input scale x weight scale.

    Returns the model in the importer's canonical form and a note for every bias that was changed.
    """
    copy = canonical(model)
    graph = Graph.of(copy)
    dequantizers = {node.output[0]: node for node in copy.graph.node if node.op_type == "DequantizeLinear"}
    nodes: list[onnx.NodeProto] = []
    notes: list[str] = []
    for node in copy.graph.node:
        scales = _bias_scales(node, dequantizers, graph)
        bias = None if scales is None else _real_bias(node, scales, dequantizers, graph)
        if scales is not None and bias is not None:
            nodes.append(_quantize_bias(copy, node, bias, scales))
            notes.append(f"The bias of {node.op_type} '{node.name}' was quantized to int32.")
        nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return canonical(copy), notes


def _bias_scales(
    node: onnx.NodeProto, dequantizers: Mapping[str, onnx.NodeProto], graph: Graph
) -> NDArray[np.float32] | None:
    """s_x * s_w, float32 [1 or channels], of an INT8 layer with a bias; None for every other node."""
    if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3 or not node.input[2]:
        return None
    data, weight = dequantizers.get(node.input[0]), dequantizers.get(node.input[1])
    if data is None or weight is None:
        return None
    factors = [graph.constant(dequantize.input[1]) for dequantize in (data, weight)]
    if factors[0] is None or factors[1] is None or factors[0].size != 1:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        product = (factors[0].reshape(-1) * factors[1].reshape(-1)).astype(np.float32)
    return product if product.size and bool((product > 0).all()) else None


def _real_bias(
    node: onnx.NodeProto,
    scales: NDArray[np.float32],
    dequantizers: Mapping[str, onnx.NodeProto],
    graph: Graph,
) -> NDArray[np.float32] | None:
    """The bias in real numbers when it must be quantized (again); None when it is right or not constant."""
    name = node.input[2]
    if (real := graph.constant(name)) is not None:
        return real.reshape(-1)
    source = dequantizers.get(name)
    if source is None:
        return None
    codes, scale = graph.constant(source.input[0]), graph.constant(source.input[1])
    zero = graph.constant(source.input[2]) if len(source.input) > 2 and source.input[2] else np.zeros(1, np.int32)
    if codes is None or scale is None or zero is None:
        return None
    codes, scale = codes.reshape(-1), scale.reshape(-1)
    if scale.size not in (1, codes.size) or zero.size not in (1, codes.size):
        return None
    alike = scale.size == scales.size or 1 in (scale.size, scales.size)
    if codes.dtype == np.int32 and alike and np.allclose(scale, scales, rtol=importer.BIAS_SCALE_TOLERANCE, atol=0):
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # `_quantize_bias` refuses what comes of it
        whole: NDArray[np.float32] = ((codes.astype(np.float64) - zero.reshape(-1)) * scale).astype(np.float32)
    return whole


def _quantize_bias(
    model: onnx.ModelProto, node: onnx.NodeProto, bias: NDArray[np.float32], scales: NDArray[np.float32]
) -> onnx.NodeProto:
    """Gives `node` an int32 bias; returns the DequantizeLinear for it. FlowError if it overflows, or does not fit."""
    size = max(bias.size, scales.size)
    if bias.size != scales.size and 1 not in (bias.size, scales.size):
        raise FlowError(
            f"a bias must have one value for each channel, but that of '{node.name}' has {bias.size} for "
            f"{scales.size} weight scales; export the network again"
        )
    codes = np.broadcast_to(np.rint(bias.astype(np.float64) / scales), (size,))
    bad = np.flatnonzero(~((codes >= -(2**31)) & (codes < 2**31)))  # NaN, too
    if bad.size:
        raise FlowError(
            f"biases must fit 32 bits in units of s_x*s_w, but channel {int(bad[0])} of '{node.name}' needs "
            f"{codes[bad[0]]:.0f}; use a larger weight scale"
        )
    stem = f"{node.name}_bias_int32"
    model.graph.initializer.append(numpy_helper.from_array(codes.astype(np.int32), stem))
    factor = scales if scales.size == size and size > 1 else np.float32(scales[0])
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(factor, np.float32), f"{stem}_scale"))
    node.input[2] = f"{stem}_dequantized"
    dequantize = helper.make_node("DequantizeLinear", [stem, f"{stem}_scale"], [node.input[2]], f"{stem}_dequantize")
    if np.ndim(factor):
        dequantize.attribute.append(helper.make_attribute("axis", 0))
    return dequantize
