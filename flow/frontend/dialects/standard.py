"""Quantized networks of any maker, rewritten into standard ONNX: QDQ or float.

A dialect is a set of operators: the integer operators of ONNX Runtime, dynamic quantization, weights in blocks, and
the quantizers of QONNX. docs/networks.md lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from flow.errors import FlowError, first_line
from flow.frontend.dialects import blocks, dynamic, qonnx, thresholds
from flow.frontend.dialects import qoperator as q
from flow.frontend.dialects.rewriting import Rewriting
from flow.frontend.dialects.weights import rounding, weights_to_int8, weights_to_real
from flow.frontend.dialects.wide import wide_to_real
from flow.frontend.entry import checks
from flow.frontend.int8.canonical import fold_codes
from flow.onnxtools import external
from flow.onnxtools.edit import constants_to_initializers
from flow.onnxtools.graph import is_standard, node_name, opset

PER_CHANNEL_OPSET = 13  # DequantizeLinear has an axis
DYNAMIC = ("DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul")
Rule = tuple[int, Callable[[Rewriting, onnx.NodeProto], bool]]  # the least number of inputs, and what rewrites the node

MICROSOFT: Mapping[str, Rule] = {
    "DynamicQuantizeLSTM": (12, dynamic.lstm),
    "DynamicQuantizeMatMul": (3, dynamic.dynamic_product),
    "MatMulIntegerToFloat": (4, dynamic.product_to_float),
    "MatMulNBits": (3, blocks.product),
    "QGemm": (6, q.gemm),
    "QLinearAdd": (7, q.two_operands),
    "QLinearAveragePool": (4, q.one_operand),
    "QLinearConcat": (5, q.concat),
    "QLinearConv": (8, q.convolution),
    "QLinearGlobalAveragePool": (4, q.one_operand),
    "QLinearLeakyRelu": (4, q.one_operand),
    "QLinearMul": (7, q.two_operands),
    "QLinearReduceMean": (4, q.mean),
    "QLinearSigmoid": (4, q.one_operand),
    "QLinearSoftmax": (4, q.softmax),
    "QLinearWhere": (8, q.where),
}
STANDARD: Mapping[str, Rule] = {
    "ConvInteger": (2, dynamic.integer_product),
    "DequantizeLinear": (2, dynamic.dequantization),
    "DynamicQuantizeLinear": (1, dynamic.quantization),
    "MatMulInteger": (2, dynamic.integer_product),
    "QLinearConv": (8, q.convolution),
    "QLinearMatMul": (8, q.matrix_product),
}
QONNX: Mapping[str, Rule] = {
    "BipolarQuant": (2, qonnx.bipolar),
    "IntQuant": (4, qonnx.quantizer),
    "MultiThreshold": (2, thresholds.thresholds),
    "Quant": (4, qonnx.quantizer),
    "Trunc": (5, qonnx.truncation),
}
RULES = {"": STANDARD, "com.microsoft": MICROSOFT, **dict.fromkeys(qonnx.DOMAINS, QONNX)}


def standard_quantization(model: onnx.ModelProto, place: str = "") -> tuple[onnx.ModelProto, list[str]]:
    """The model with its quantization in standard form, and notes on what that changed, one sentence each.

    The model itself where nothing changes. Integer operators become DequantizeLinear, float operator and
    QuantizeLinear with the same codes; dynamic quantization becomes float; quantized weights become INT8 per channel.
    FlowError where an operator has no such form; `place` is the file named in the message.
    """
    place = place or model.graph.name
    if not any(_rule(model, node) or _foreign(model, node) or _wide(node) for node in model.graph.node):
        return model, []
    if not _is_valid(model, place):
        return model, []
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants_to_initializers(copy)
    wide = wide_to_real(copy)
    rewriting = _rewritten(copy, place)
    fold_codes(rewriting.model)
    weights = weights_to_real(rewriting.model)
    stored = {**rewriting.stored, **weights}
    changed = weights_to_int8(rewriting.model, stored)
    if not (wide or rewriting.changed or weights or changed):
        return model, []
    rounded = rounding(rewriting.model, stored) if stored and not checks.is_quantized(rewriting.model) else {}
    words = f"Activations of 16 bits ({wide} tensor{'s' * (wide > 1)}) get 8 bits, from the calibration samples."
    return rewriting.model, [*([words] if wide else []), *_notes(rewriting), *_weight_notes({**changed, **rounded})]


def _is_valid(model: onnx.ModelProto, place: str) -> bool:
    """Whether ONNX can read the constants and its checker accepts the model, but for undeclared operator sets.

    What it does not accept is refused later, in `checks.check`. FlowError for constants of a wrong size.
    """
    checks.check_constants(model, place)
    declared = external.externals_as_inputs(model)
    versions = {entry.domain for entry in declared.opset_import}
    if missing := {node.domain for node in model.graph.node if node.domain in RULES} - versions - {""}:
        copy = onnx.ModelProto()
        copy.CopyFrom(declared)
        copy.opset_import.extend(onnx.helper.make_opsetid(domain, 1) for domain in sorted(missing))
        declared = copy
    try:
        for tensor in model.graph.initializer:
            if not external.is_external(tensor):
                onnx.numpy_helper.to_array(tensor)
        onnx.checker.check_model(checks.checkable(declared))
    except Exception:
        return False
    return True


def _rule(model: onnx.ModelProto, node: onnx.NodeProto) -> Rule | None:
    """How a node is rewritten; None for nodes of no dialect and for functions of the model's own."""
    rule = RULES.get("" if is_standard(node) else node.domain, {}).get(node.op_type)
    return None if rule is None or _own(model, node) else rule


def _wide(node: onnx.NodeProto) -> bool:
    """Whether this may quantize to 16 bits, in the domain that had these first."""
    return node.op_type == "QuantizeLinear" and node.domain == "com.microsoft"


def _own(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether the model itself defines the operator."""
    return any((function.domain, function.name) == (node.domain, node.op_type) for function in model.functions)


def _foreign(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether this is an operator of QONNX, which ONNX Runtime does not have."""
    return node.domain in qonnx.DOMAINS and not _own(model, node)


def _rewritten(model: onnx.ModelProto, place: str) -> Rewriting:
    """Every node by its rule."""
    foreign = any(_foreign(model, node) for node in model.graph.node)
    integer = any(_rule(model, node) and node.op_type != "DequantizeLinear" for node in model.graph.node)
    if integer and opset(model) < PER_CHANNEL_OPSET:
        model = _newer(model, place)
    r = Rewriting(model)
    r.real = dynamic.real_tensors(r.graph)
    if foreign:
        thresholds.whole_weights(r)
    for node in model.graph.node:
        rule = _rule(model, node)
        if rule is None and _foreign(model, node):
            raise qonnx.unknown(node)
        if r.done.intersection(node.output):
            continue
        if rule is None or not _apply(r, rule, node, place):
            r.nodes.append(node)
    if r.changed:
        r.finish()
        used = {node.domain for node in r.nodes}
        kept = [entry for entry in model.opset_import if entry.domain in used or entry.domain not in qonnx.DOMAINS]
        del model.opset_import[:]
        model.opset_import.extend(kept)
    return r


def _apply(r: Rewriting, rule: Rule, node: onnx.NodeProto, place: str) -> bool:
    least, rewrite = rule
    if len(node.input) < least or not node.output:
        raise FlowError(
            f"{node.op_type} must have {least} inputs and an output, but '{node_name(node)}' of '{place}' has "
            f"{len(node.input)} and {len(node.output)}; export it again"
        )
    try:
        with np.errstate(all="ignore"):  # numbers that are not finite are not taken, or refused later
            done = rewrite(r, node)
    except ValueError as error:
        raise FlowError(
            f"the shapes of {node.op_type} '{node_name(node)}' of '{place}' do not fit: {first_line(error)}; "
            "export it again"
        ) from None
    if done:
        r.changed[node.op_type] += 1
    return done


def _newer(model: onnx.ModelProto, place: str) -> onnx.ModelProto:
    try:
        converted = onnx.version_converter.convert_version(external.externals_as_inputs(model), PER_CHANNEL_OPSET)
        return external.with_externals(converted, model)
    except Exception as error:
        raise FlowError(
            f"quantized networks need opset {PER_CHANNEL_OPSET}, but '{place}' has opset {opset(model)} and cannot be "
            f"converted: {first_line(error)}; export it again"
        ) from None


def _notes(r: Rewriting) -> list[str]:
    notes = []
    operators = dict(sorted(r.changed.items()))
    if operators:
        listed = ", ".join(f"{count} {op}" for op, count in operators.items())
        notes.append(f"Quantization in standard form instead of {listed}.")
    if any(op in operators for op in DYNAMIC):
        notes.append("Dynamic quantization became static, with scales from the calibration samples.")
    return notes


def _weight_notes(decibels: Mapping[str, float]) -> list[str]:
    """What became of the weights: exact, or rounded again, with the largest error."""
    rounded = {name: value for name, value in decibels.items() if value != float("inf")}
    exact, notes = len(decibels) - len(rounded), []
    if exact:
        notes.append(f"The weights of {_layers(exact)} were taken exactly as INT8 codes.")
    if rounded:
        worst = min(rounded, key=lambda name: rounded[name])
        notes.append(
            f"The weights of {_layers(len(rounded))} were dequantized and quantized again to INT8, one scale for each "
            f"channel: SQNR {rounded[worst]:.1f} dB or more ('{worst}')."
        )
    return notes


def _layers(count: int) -> str:
    return f"{count} layer{'s' if count > 1 else ''}"
