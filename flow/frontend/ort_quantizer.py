"""Static quantization by ONNX Runtime, large networks a part at a time."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from flow.errors import FlowError, first_line
from flow.frontend.operators import ARRAY_OPERATORS, BETWEEN_LAYERS
from flow.network.samples import Arrays
from flow.onnxtools import external, runtime
from flow.onnxtools.graph import attribute

OPTIONS = {"WeightSymmetric": True, "ActivationSymmetric": False, "QuantizeBias": True}
PART = 2**26  # bytes of a matrix that are looked at together


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


def quantize_static(model: onnx.ModelProto, feeds: Arrays, unsigned: bool) -> onnx.ModelProto:
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
            step = runtime.batch_size(runtime.session(model))
            starts = range(0, len(next(iter(feeds.values()))), step)
            self.batches = iter([{n: a[start : start + step] for n, a in feeds.items()} | outside for start in starts])

        def get_next(self) -> Arrays | None:
            return next(self.batches, None)

    return Reader()


def _quantize_large(
    model: onnx.ModelProto, feeds: Arrays, left: list[str], kinds: tuple[Any, Any], folder: Path
) -> onnx.ModelProto:
    """As `quantize_static`, with the external constants of the model read from their files one by one.

    ONNX Runtime calibrates the model with these constants as inputs. It quantizes a model in which each of these
    matrices is one row (or column) of its channels' largest magnitudes: the scales depend on nothing else. The codes
    are put in after that.
    """
    from onnxruntime.quantization.calibrate import create_calibrator
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import add_infer_metadata
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    operators = sorted({*QDQRegistry, *QLinearOpsRegistry})
    bare, augmented = folder / "shell.onnx", folder / "augmented.onnx"
    inferred = onnx.shape_inference.infer_shapes(external.externals_as_inputs(model))
    onnx.save(inferred, str(bare))
    calibrator = create_calibrator(bare, operators, augmented_model_path=str(augmented))
    calibrator.collect_data(_reader(model, feeds))
    ranges = calibrator.compute_data()
    del calibrator
    small = external.with_externals(inferred, model)
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
