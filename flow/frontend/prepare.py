"""Preparation of a float model for quantization: opset, constants and BatchNormalization folded."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flow.errors import FlowError, first_line
from flow.files import scratch
from flow.onnxtools import external
from flow.onnxtools.edit import add_constant, drop_unused_nodes, replace_nodes
from flow.onnxtools.graph import Graph, attribute, is_standard, node_input, opset


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float model in the form that is quantized: opset 13 or later, BatchNorm and constants folded.

    Standard ONNX operators only (ONNX Runtime's optimisations of level BASIC). FlowError when ONNX Runtime
    cannot process the model.
    """
    source, model = model, external.externals_as_inputs(model)
    if opset(model) < 13:  # per-channel DequantizeLinear came with opset 13
        model = onnx.version_converter.convert_version(model, 13)
    try:
        prepared = _pre_process(model)
        if any(tensor.data_type == TensorProto.FLOAT16 for tensor in prepared.graph.initializer):
            prepared = _pre_process(prepared)  # folds casts to float32, which it inserted too late
    except Exception as error:
        raise FlowError(
            f"ONNX Runtime cannot prepare network '{model.graph.name}' for quantization: "
            f"{first_line(error)}; simplify the model"
        ) from None
    prepared = external.with_externals(prepared, source)
    _fold_gemm_factors(prepared)
    _fold_batch_norm(prepared)
    return prepared


def _pre_process(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model after ONNX Runtime's optimisations of level BASIC, with the shapes ONNX infers.

    Its symbolic shape inference is left out: nothing here needs it, and it writes files into the working directory.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with scratch() as folder:
        source, target = folder / "model.onnx", folder / "prepared.onnx"
        onnx.save(model, str(source))  # given a ModelProto, the tool would move its tensors to external data
        quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
        return onnx.load(str(target))


def _fold_gemm_factors(model: onnx.ModelProto) -> None:
    """Fold alpha and beta of Gemm into its weights and bias, one value for each channel, where these are constant."""
    graph = Graph.of(model)
    for node in model.graph.node:
        gemm = node.op_type == "Gemm" and is_standard(node)
        matrix = graph.constants.get(node_input(node, 1)) if gemm else None
        name = node_input(node, 2)
        bias = graph.constant(name) if name else np.zeros(1, np.float32)
        if matrix is None or bias is None or external.is_external(matrix):  # would be loaded as a per_channel
            continue
        channels = matrix.dims[0 if attribute(node, "transB", 0) else 1]
        alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
        if bias.size != 1 and (bias.size, *bias.shape[-1:]) != (channels, channels):  # one bias for each row
            continue
        if alpha != 1.0:
            weights = graph.constant(matrix.name)
            assert weights is not None
            node.input[1] = add_constant(model, f"{node.output[0]}_weights", (weights * alpha).astype(weights.dtype))
        if name and (beta != 1.0 or bias.shape != (channels,)):
            per_channel = np.broadcast_to((bias.reshape(-1) * beta).astype(bias.dtype), (channels,))
            node.input[2] = add_constant(model, f"{node.output[0]}_bias", per_channel)
        kept = [entry for entry in node.attribute if entry.name not in ("alpha", "beta")]
        del node.attribute[:]
        node.attribute.extend(kept)
    drop_unused_nodes(model)


def _fold_batch_norm(model: onnx.ModelProto) -> None:
    """Fold BatchNormalization into the Gemm before it; ONNX Runtime does so after Conv and MatMul only."""
    graph = Graph.of(model)
    kept = []
    for node in model.graph.node:
        gemm = graph.producer(node.input[0]) if node.op_type == "BatchNormalization" else None
        if gemm is None or graph.only_consumer(gemm.output[0]) is None or not _fold_into(graph, gemm, node):
            kept.append(node)
    replace_nodes(model, kept)
    drop_unused_nodes(model)


def _fold_into(graph: Graph, gemm: onnx.NodeProto, norm: onnx.NodeProto) -> bool:
    """Fold `norm` into `gemm`, if possible; returns whether it was."""
    plain = all(attribute(gemm, name, 1.0) == 1.0 for name in ("alpha", "beta"))
    names = [name for name in (*gemm.input[1:], *norm.input[1:]) if name]
    if gemm.op_type != "Gemm" or not plain or len(norm.output) > 1 or not all(n in graph.constants for n in names):
        return False
    weights, *biases, scale, shift, mean, variance = (np.asarray(graph.constant(name), np.float64) for name in names)
    gain = scale / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
    bias = sum(biases, np.zeros(gain.shape)).reshape(-1)
    kind = helper.tensor_dtype_to_np_dtype(graph.constants[names[0]].data_type)
    folded = {
        f"{norm.output[0]}_weights": weights * (gain[:, None] if attribute(gemm, "transB", 0) else gain),
        f"{norm.output[0]}_bias": (bias - mean) * gain + shift,
    }
    graph.model.graph.initializer.extend(numpy_helper.from_array(a.astype(kind), n) for n, a in folded.items())
    gemm.input[:] = [gemm.input[0], *folded]
    gemm.output[0] = norm.output[0]
    return True
