"""QONNX and FINN networks give what their operators' definition gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.frontend.dialects import qonnx as rules
from flow.frontend.dialects.standard import standard_quantization
from flow.frontend.int8.cut import partition
from flow.frontend.quantize import quantize
from flow.onnxtools import runtime
from flow.onnxtools.graph import Graph
from tests.helpers import qonnx
from tests.helpers.nets import samples
from tests.helpers.qonnx import DOMAIN, QonnxBuilder, qonnx_net


def compared(model: onnx.ModelProto, feeds: dict[str, NDArray[Any]] | None = None) -> onnx.ModelProto:
    """The model in standard form, which computes the same."""
    standard, notes = standard_quantization(model)
    assert notes and not [node for node in standard.graph.node if node.domain == DOMAIN]
    assert DOMAIN not in {entry.domain for entry in standard.opset_import}
    feeds = feeds or samples(model, 40)
    wanted = qonnx.run(model, feeds)
    for name, got in runtime.run(standard, feeds).items():
        assert len(np.unique(wanted[name])) > 1
        np.testing.assert_allclose(got, wanted[name], rtol=1e-5, atol=1e-5)
    return standard


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_networks_run_on_the_array(bits: int) -> None:
    """The codes of weights have as many bits as they were trained with, and so have the clamps."""
    model = qonnx_net(bits)
    network = partition(quantize(standard_quantization(model)[0]).model, "net")
    conv, matmul = network.layers
    assert not network.reasons
    for layer in (conv, matmul):
        assert np.abs(layer.weights.astype(int)).max() == 2 ** (bits - 1) - 1
    assert conv.clamp == (-128, 2**bits - 129) and matmul.clamp == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    wanted = qonnx.run(model, feeds := samples(model, 40))
    for name, got in runtime.run(network.model, feeds).items():
        assert (np.abs(got - wanted[name]) < 1e-5).mean() > 0.95  # the float bias was rounded to int32


@pytest.mark.parametrize("mode", list(qonnx.ROUNDED))
def test_roundings(mode: str) -> None:
    b = QonnxBuilder(1)
    feeds = {"x": (np.arange(-96, 96, dtype=np.float32) / 16).reshape(-1, 8)}  # halves and quarters, too
    y = b.quant("x", 0.25, 4, rounding_mode=mode)
    standard = compared(b.net(["N", 8], y), feeds)
    assert standard.graph.node[-1].op_type == "DequantizeLinear"


@pytest.mark.parametrize(
    "given",
    [
        {"scale": 0.1 * np.arange(1, 9).reshape(1, 8)},
        {"scale": 0.1, "zero": 5.0, "signed": 0},
        {"scale": 0.1, "zero": 0.5},
        {"scale": 0.1, "bits": 16},
        {"scale": 0.1, "bits": 1},
        {"scale": 0.1, "bits": 1, "signed": 0},
        {"scale": 0.1, "narrow": 1},
        {"scale": 0.1, "narrow": 1, "signed": 0},
        {"scale": 0.002, "narrow": 1, "signed": 0},
        {"scale": -0.1},
        {"scale": 0.1, "op": "IntQuant", "bits": 5},
    ],
    ids=[
        "channels",
        "zero",
        "half zero",
        "16 bits",
        "1 bit",
        "binary",
        "narrow",
        "unsigned",
        "saturated",
        "negative",
        "IntQuant",
    ],
)
def test_activations(given: dict[str, Any]) -> None:
    b = QonnxBuilder(1)
    compared(b.net(["N", 8], b.quant("x", **given)))


@pytest.mark.parametrize("rank", [2, 3])
def test_a_relu_becomes_part_of_the_clip(rank: int) -> None:
    """A layer takes over one activation only; it is not moved where others read the Relu."""
    b = QonnxBuilder(1)
    y = b.node("Relu", "x")
    z = b.quant(y, 0.25, 4, signed=rank - 2)
    standard = compared(b.net(["N", 8], z))
    assert [node.op_type for node in standard.graph.node][:2] == ["Clip", "QuantizeLinear"]
    other = compared(b.net(["N", 8], b.node("Add", y, z)))
    assert other.graph.node[0].op_type == "Relu"


def test_two_values() -> None:
    b = QonnxBuilder(2)
    x = b.node("BipolarQuant", "x", b.constant(np.float32(0.5)), domain=DOMAIN)
    weights = b.node("BipolarQuant", b.real(8, 4), b.constant(np.float32(0.25)), domain=DOMAIN)
    standard = compared(b.net(["N", 8], b.node("MatMul", x, weights)))
    (layer,) = partition(quantize(standard).model, "net").layers
    assert set(layer.weights.reshape(-1)) == {-1, 1}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("version", [1, 2])
def test_truncated_averages(bits: int, version: int) -> None:
    b = QonnxBuilder(2)
    y = b.node("GlobalAveragePool", b.quant("x", 0.1, 8, signed=0))
    y = b.node("Mul", y, b.constant(np.float32(16)))
    rest = [12, bits] if version == 1 else [12, 0.1 * 2 ** (12 - bits), bits]
    numbers = [b.constant(np.float32(value)) for value in (0.1, 0, *rest)]
    y = b.node("Trunc", y, *numbers, domain=DOMAIN, **({"signed": 0} if version == 2 else {}))
    weights = b.quant(b.real(8, 5), 0.01)
    standard = compared(b.net(["N", 8, 4, 4], b.node("MatMul", b.node("Flatten", y), weights)))
    assert len(partition(quantize(standard).model, "net").layers) == 1


STEPS = (np.arange(15) + 0.5) * 0.2


@pytest.mark.parametrize(
    ("levels", "given", "array"),
    [
        (STEPS, {"out_scale": 0.2}, True),
        (STEPS - 1.6, {"out_scale": 0.2, "out_bias": -1.6}, True),
        (STEPS, {"out_scale": 1.0}, False),
        (np.arange(1, 8) * 2.0, {}, False),
        ((np.arange(255) - 127.5) * 0.02, {"out_scale": 0.02, "out_bias": -2.56}, True),
        (np.array([0.3]), {"out_scale": 0.5}, False),
        (STEPS, {"out_scale": 0.2, "out_bias": 0.05}, False),
    ],
    ids=["unsigned", "signed", "other scale", "whole numbers", "8 bits", "one", "odd bias"],
)
def test_thresholds(levels: NDArray[np.float64], given: dict[str, float], array: bool) -> None:
    """`array`: the thresholds are a quantizer, which a layer takes over; otherwise they are counted."""
    b = QonnxBuilder(2)
    table = b.constant(np.broadcast_to(levels.astype(np.float32), (8, len(levels))))
    x = b.node("MultiThreshold", "x", table, domain=DOMAIN, **given)
    weights = b.constant(b.rng.integers(-7, 8, (8, 4)).astype(np.float32))
    model = b.net(["N", 8], b.node("MatMul", x, weights))
    feeds = {"x": np.rint(samples(model, 40)["x"] * 2)} if not given else samples(model, 40)
    standard = compared(model, feeds)
    assert ("Floor" not in {node.op_type for node in standard.graph.node}) == array
    if "out_bias" not in given or array:
        (layer,) = partition(quantize(standard).model, "net").layers
        assert np.abs(layer.weights.astype(int)).max() == 7 and np.all(layer.weight_scales == 1)


def refused(op: str, *inputs: Any, **given: Any) -> onnx.ModelProto:
    b = QonnxBuilder(2)
    names = [b.constant(np.asarray(value, np.float32)) if not isinstance(value, str) else value for value in inputs]
    return b.net(["N", 8], b.node(op, "x", *names, domain=DOMAIN, **given))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (refused("Im2Col"), "must be Quant, .* or MultiThreshold, but 'Im2Col_0' is Im2Col; export"),
        (refused("Quant", "x", 0, 4), "the scale of Quant must be a constant, but that of 'Quant_0' is 'x'; export"),
        (refused("Quant", 1), "Quant must have 4 inputs and an output, but 'Quant_0' of 'net' has 2 and 1; export"),
        (refused("Quant", 1, 0, 0.5), "a bit width must be 1 to 32, but Quant 'Quant_0' has 0.5; export"),
        (refused("Quant", 1, 0, 4, rounding_mode="ODD"), "must be one of ROUND, .*, but Quant .* has 'ODD'; export"),
        (refused("MultiThreshold", [[0, 1, 3]]), "thresholds must be evenly spaced .* 'MultiThreshold_0' are not;"),
        (refused("MultiThreshold", [[0, 1], [0, 2]]), "equal for all channels, but those of MultiThreshold .* are not"),
    ],
    ids=["operator", "scale", "inputs", "bits", "rounding", "uneven", "channels"],
)
def test_what_has_no_standard_form_is_refused_in_one_line(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(FlowError, match=message) as caught:
        standard_quantization(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("HALF_UP", [-3, -2, 1, 1]), ("HALF_DOWN", [-2, -1, 0, 1]), ("UP", [-3, -2, 1, 2]), ("DOWN", [-2, -1, 0, 1])],
)
def test_constants_are_rounded_by_their_magnitude(mode: str, wanted: list[int]) -> None:
    assert rules._nearest(np.array([-2.5, -1.5, 0.5, 1.25], np.float32), mode).tolist() == wanted


def test_the_quantizer_before_a_node_tells_whether_codes_are_signed() -> None:
    b = QonnxBuilder(1)
    for signed in (0, 1):
        y = b.node("Relu", b.quant("x", 0.25, 4, signed=signed))
        model = b.net(["N", 8], y)
        assert rules._signed(Graph.of(model), model.graph.node[-1]) == bool(signed)
