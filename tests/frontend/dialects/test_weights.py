"""Weights in any quantized form: what fits INT8 is taken exactly, everything else is rounded again, and said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from flow.frontend.dialects.standard import standard_quantization
from flow.frontend.dialects.weights import Stored
from flow.frontend.int8.cut import partition
from flow.frontend.quantize import quantize
from flow.network.model import Network
from flow.onnxtools import runtime
from tests.helpers.nets import Builder, samples

EXACT = "The weights of 1 layer were taken exactly as INT8 codes."
AGAIN = "The weights of 1 layer were dequantized and quantized again to INT8, one scale for each channel: SQNR "
FLOAT_KINDS = (TensorProto.FLOAT, TensorProto.FLOAT16)
Form = Callable[[Builder], tuple[list[str], dict[str, int]]]


def raw(b: Builder, values: NDArray[Any], kind: int) -> str:
    b.constants.append(helper.make_tensor(f"c{len(b.constants)}", kind, values.shape, values.reshape(-1)))
    return b.constants[-1].name


def signed(b: Builder, low: int = -127, high: int = 127) -> NDArray[np.int8]:
    codes = b.rng.integers(low, high + 1, (6, 16)).astype(np.int8)
    codes[:, 0], codes[:, 1] = low, high
    return codes


def scales(b: Builder, *shape: int) -> NDArray[np.float32]:
    return b.rng.uniform(0.01, 0.1, shape or (6,)).astype(np.float32)


def int4_channels(b: Builder) -> tuple[list[str], dict[str, int]]:
    return [raw(b, signed(b, -8, 7), TensorProto.INT4), b.constant(scales(b))], {"axis": 0}


def uint4_channels(b: Builder) -> tuple[list[str], dict[str, int]]:
    codes, zeros = signed(b, 0, 15), b.rng.integers(0, 16, 6)
    return [raw(b, codes, TensorProto.UINT4), b.constant(scales(b)), raw(b, zeros, TensorProto.UINT4)], {"axis": 0}


def int4_blocks(b: Builder) -> tuple[list[str], dict[str, int]]:
    return [raw(b, signed(b, -8, 7), TensorProto.INT4), b.constant(scales(b, 6, 4))], {"axis": 1, "block_size": 4}


def equal_blocks(b: Builder) -> tuple[list[str], dict[str, int]]:
    """Blocks whose scales are those of their channel."""
    each = np.repeat(scales(b, 6, 1), 4, axis=1)
    return [raw(b, signed(b, -8, 7), TensorProto.INT4), b.constant(each)], {"axis": 1, "block_size": 4}


def input_channels(b: Builder) -> tuple[list[str], dict[str, int]]:
    return [b.constant(signed(b)), b.constant(scales(b, 16))], {"axis": 1}


def negative_scale(b: Builder) -> tuple[list[str], dict[str, int]]:
    return [b.constant(signed(b)), b.constant(scales(b) * np.array([1, 1, -1, 1, -1, 1], np.float32))], {"axis": 0}


def negative_scale_of_the_least_code(b: Builder) -> tuple[list[str], dict[str, int]]:
    return [b.constant(signed(b, -128)), negative_scale(b)[0][1]], {"axis": 0}


def zero_scale(b: Builder) -> tuple[list[str], dict[str, int]]:
    return [b.constant(signed(b)), b.constant(scales(b) * np.array([1, 0, 1, 1, 1, 1], np.float32))], {"axis": 0}


def asymmetric(b: Builder) -> tuple[list[str], dict[str, int]]:
    codes = signed(b).view(np.uint8)
    return [b.constant(codes), b.constant(np.float32(0.02)), b.constant(np.uint8(100))], {}


def asymmetric_but_small(b: Builder) -> tuple[list[str], dict[str, int]]:
    codes = (signed(b, -100, 100).astype(np.int16) + 120).astype(np.uint8)
    return [b.constant(codes), b.constant(np.float32(0.02)), b.constant(np.uint8(120))], {}


def sixteen_bits(b: Builder) -> tuple[list[str], dict[str, int]]:
    codes = b.rng.integers(-32768, 32768, (6, 16)).astype(np.int16)
    return [b.constant(codes), b.constant(np.float32(0.0002))], {}


def layer_of(form: Form, quantized: bool = True, transposed: bool = False) -> onnx.ModelProto:
    b = Builder(2)
    x = b.quantized("x", 0.0517, 3) if quantized else "x"
    inputs, given = form(b)
    weights = b.node("DequantizeLinear", *inputs, **given)
    if transposed:
        y = b.node("MatMul", x, b.node("Transpose", weights, perm=[1, 0]))
    else:
        bias = b.constant(b.rng.normal(0, 1, 6).astype(np.float32))
        y = b.node("Gemm", x, weights, bias, transB=1)
    model = b.model({"x": ["N", 16]}, y, opset=21)
    model.ir_version = 10
    return model


def network_of(model: onnx.ModelProto) -> tuple[Network, list[str]]:
    standard, notes = standard_quantization(model)
    return partition(quantize(standard, samples(model, 30)).model, "net"), notes


def decibels(model: onnx.ModelProto, network: Network) -> float:
    wanted, got = (next(iter(runtime.run(each, samples(model, 30)).values())) for each in (model, network.model))
    noise = np.square(wanted.astype(np.float64) - got).sum()
    return float(10 * np.log10(np.square(wanted.astype(np.float64)).sum() / max(noise, 1e-300)))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    "form",
    [int4_channels, uint4_channels, equal_blocks, negative_scale, zero_scale, asymmetric_but_small],
    ids=lambda form: form.__name__,
)
def test_what_fits_is_exact(form: Form, transposed: bool) -> None:
    network, notes = network_of(model := layer_of(form, transposed=transposed))
    assert notes == [EXACT] and len(network.layers) == 1 and not network.reasons
    assert (network.layers[0].weight_scales > 0).all()
    assert decibels(model, network) > (80 if transposed else 50)  # the float bias is rounded to int32


def test_what_fits_is_exact_in_a_convolution_too() -> None:
    b = Builder(2)
    x = b.quantized("x", 0.0517, 3)
    codes = (signed(b, -100, 100).astype(np.int16) + 120).astype(np.uint8).reshape(6, 4, 2, 2)
    weights = b.node("DequantizeLinear", b.constant(codes), b.constant(np.float32(0.02)), b.constant(np.uint8(120)))
    model = b.model({"x": ["N", 4, 5, 3]}, b.node("Conv", x, weights), rank=4)
    network, notes = network_of(model)
    assert notes == [EXACT] and len(network.layers) == 1 and not network.reasons
    assert decibels(model, network) > 80


@pytest.mark.parametrize(
    "form",
    [int4_blocks, input_channels, negative_scale_of_the_least_code, asymmetric, sixteen_bits],
    ids=lambda form: form.__name__,
)
def test_everything_else_is_rounded_again(form: Form) -> None:
    network, notes = network_of(model := layer_of(form))
    assert len(network.layers) == 1 and len(notes) == 1 and notes[0].startswith(AGAIN) and "('Gemm_" in notes[0]
    told = float(notes[0].removeprefix(AGAIN).split()[0])
    assert 40 < told < 80 and decibels(model, network) > 40


@pytest.mark.parametrize("form", [int4_blocks, int4_channels, asymmetric, input_channels], ids=lambda f: f.__name__)
def test_quantized_weights_alone_make_a_float_network(form: Form) -> None:
    """Its activations are quantized from the calibration samples; weights that fit INT8 keep their codes."""
    network, notes = network_of(model := layer_of(form, quantized=False))
    assert len(network.layers) == 1 and decibels(model, network) > 35
    if form is int4_channels:
        assert notes == [EXACT] and np.abs(network.layers[0].weights.astype(int)).max() == 8
    else:
        assert notes[-1].startswith(AGAIN)


def test_scales_that_are_not_finite_stay_on_the_host() -> None:
    def infinite(b: Builder) -> tuple[list[str], dict[str, int]]:
        return [b.constant(signed(b)), b.constant(scales(b) * np.array([1, np.inf, 1, 1, 1, 1], np.float32))], {
            "axis": 0
        }

    model = layer_of(infinite, transposed=True)
    standard, notes = standard_quantization(model)
    assert standard is model and not notes


def test_weights_that_the_array_takes_are_left_alone() -> None:
    def usual(b: Builder) -> tuple[list[str], dict[str, int]]:
        return [b.constant(signed(b)), b.constant(scales(b))], {"axis": 0}

    model = layer_of(usual)
    standard, notes = standard_quantization(model)
    assert standard is model and not notes


def test_only_channels_that_do_not_fit_are_rounded() -> None:
    codes = np.array([[-8, 7, 3], [-128, 5, 127], [200, -4, 1]], np.float32)
    held = Stored(codes, np.broadcast_to(np.array([[0.5], [-0.25], [1]], np.float32), (3, 3)))
    found = held.int8(0)
    assert found.codes[0].tolist() == [-8, 7, 3] and found.scales[0] == 0.5
    assert found.codes[1].tolist() == [127, -5, -126] and found.scales[1] == np.float32(32 / 127)
    assert found.codes[2].tolist() == [127, -3, 1] and found.scales[2] == np.float32(200 / 127)
    assert 20 < found.sqnr < 60 and found.codes.dtype == np.int8


# -------------------------------------------------------------------------------- MatMulNBits


def packed(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Codes along the last axis, the lowest bits of each byte first."""
    stream = (codes[..., None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(stream.reshape(*codes.shape[:-1], -1), axis=-1, bitorder="little")


def blocks_net(bits: int, zeros: str = "", bias: bool = False, quantized: bool = False, half: bool = False) -> Any:
    """MatMulNBits of 40 inputs in blocks of 16, and its weights in real numbers."""
    b, kind = Builder(4), np.float16 if half else np.float32
    codes = b.rng.integers(0, 2**bits, (6, 3, 16)).astype(np.uint8)
    scale = b.rng.uniform(0.01, 0.1, (6, 3)).astype(kind)
    middle = np.full((6, 3), 2 ** (bits - 1), np.float32)
    x = b.quantized("x", 0.0517, 3) if quantized else b.node("Cast", "x", to=FLOAT_KINDS[half])
    inputs = [x, b.constant(packed(codes, bits)), b.constant(scale)]
    if zeros == "packed":
        chosen = b.rng.integers(0, 2**bits, (6, 3)).astype(np.uint8)
        middle = chosen.astype(np.float32)
        inputs.append(b.constant(packed(np.pad(chosen, ((0, 0), (0, 5))), bits)[:, : -(-3 * bits // 8)]))
    if zeros == "real":
        middle = b.rng.uniform(0, 2**bits, (6, 3)).astype(kind)
        inputs.append(b.constant(middle))
    if bias:
        inputs += [""] * (5 - len(inputs)) + [b.constant(np.arange(6, dtype=kind))]
    given = {"K": 40, "N": 6, "bits": bits, "block_size": 16}
    y = b.node("Cast", b.node("MatMulNBits", *inputs, domain="com.microsoft", **given), to=TensorProto.FLOAT)
    model = b.model({"x": ["N", 40]}, y)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    real = (codes - np.asarray(middle, np.float32)[..., None]) * scale.astype(np.float32)[..., None]
    return model, real.reshape(6, -1)[:, :40]


@pytest.mark.parametrize(
    ("bits", "given"),
    [
        (2, {}), (3, {}), (4, {}), (5, {"zeros": "packed"}), (8, {}), (4, {"zeros": "packed"}),
        (4, {"zeros": "real"}), (4, {"bias": True}), (4, {"half": True}), (4, {"quantized": True}),
    ],
    ids=lambda value: str(value),
)  # fmt: skip
def test_weights_in_blocks(bits: int, given: dict[str, Any]) -> None:
    model, real = blocks_net(bits, **given)
    standard, notes = standard_quantization(model)
    assert notes[0] == "Quantization in standard form instead of 1 MatMulNBits." and notes[1].startswith(AGAIN)
    feeds = samples(model, 20)
    x = feeds["x"]
    if given.get("quantized"):
        x = ((np.clip(np.rint(x / np.float32(0.0517)) + 3, -128, 127) - 3) * 0.0517).astype(np.float32)
    wanted = x @ real.T + (np.arange(6) if given.get("bias") else 0)
    rough = bool(given.get("half") or given.get("quantized"))
    got = next(iter(runtime.run(standard, feeds).values()))
    assert np.abs(got - wanted).max() < (0.02 if rough else 1e-5) * np.abs(wanted).max()
    if bits in (2, 4, 8) and not rough:  # others ONNX Runtime does not have
        np.testing.assert_allclose(got, next(iter(runtime.run(model, feeds).values())), rtol=1e-4, atol=1e-4)
    assert len(partition(quantize(standard, feeds).model, "net").layers) == 1


def test_blocks_of_another_size_stay_with_onnx_runtime() -> None:
    model, _ = blocks_net(4)
    next(entry for entry in model.graph.node[1].attribute if entry.name == "block_size").i = 32
    standard, notes = standard_quantization(model)
    assert standard is model and not notes
