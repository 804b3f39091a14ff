"""The bit-true integer reference: what the accelerator computes, on int8 codes, in NumPy.

Everything else (RTL, ONNX Runtime) is compared with this file. The numbers: docs/numbers.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.network.model import INT8_MAX, INT8_MIN, ArrayLayer, Window

MANTISSA_BITS = 24
MAX_SHIFT = 57  # beyond it every product of a 32-bit accumulator and a 24-bit mantissa rounds to zero
ACC_MIN, ACC_MAX = -(2**31), 2**31 - 1


def windows(layer: ArrayLayer, codes: NDArray[np.int8], chosen: NDArray[np.int64] | None = None) -> NDArray[np.int8]:
    """The activations of every dot product (im2col).

    `codes` int8 [batch, *input_shape] -> int8 [groups, batch * positions, reduction]; the reduction runs over
    kernel positions, then input channels of the group; padding has the value of the zero point. `chosen`: the numbers
    of the dot products, batch * positions, of which alone the activations are wanted.
    """
    if layer.window is None:
        rows = codes.reshape(1, -1, layer.reduction)
        return rows if chosen is None else rows[:, chosen]
    window, axes = layer.window, len(layer.window.kernel)
    padded = _pad(codes, window, layer.input_quantization.zero_point)
    batch, channels = padded.shape[:2]
    out = layer.output_shape[1:]
    steps = padded.strides[2:]
    view = np.lib.stride_tricks.as_strided(
        padded,
        shape=(batch, layer.groups, channels // layer.groups, *out, *window.kernel),
        strides=(
            padded.strides[0],
            padded.strides[1] * (channels // layer.groups),
            padded.strides[1],
            *(step * stride for step, stride in zip(steps, window.strides, strict=True)),
            *(step * dilation for step, dilation in zip(steps, window.dilations, strict=True)),
        ),
        writeable=False,
    )
    if chosen is not None:
        sample, *place = np.unravel_index(chosen, (batch, *out))
        here: tuple[Any, ...] = (sample, slice(None), slice(None), *place)
        some = view[here]  # [chosen, groups, channels of a group, *kernel]
        order = (1, 0, *range(3, 3 + axes), 2)
        return np.asarray(some.transpose(order).reshape(layer.groups, len(chosen), layer.reduction), np.int8)
    order = (1, 0, *range(3, 3 + 2 * axes), 2)
    return view.transpose(order).reshape(layer.groups, batch * layer.positions, layer.reduction)


def _pad(codes: NDArray[np.int8], window: Window, value: int) -> NDArray[np.int8]:
    axes = len(window.kernel)
    spatial = [(window.pads[axis], window.pads[axis + axes]) for axis in range(axes)]
    return np.pad(codes, [(0, 0), (0, 0), *spatial], constant_values=np.int8(value))


def folded_bias(layer: ArrayLayer, weights: NDArray[np.int8] | None = None) -> NDArray[np.int64]:
    """b' = b - z_x * sum(w), int64 [channels]; `weights` int8 [channels, reduction] replace the layer's."""
    used = layer.weights if weights is None else weights
    sums = used.sum(axis=1, dtype=np.int64)
    folded: NDArray[np.int64] = layer.bias.astype(np.int64) - layer.input_quantization.zero_point * sums
    return folded


def check_accumulator(layer: ArrayLayer) -> None:
    """Prove from the weights that no input overflows 32 bits; FlowError naming the channel otherwise."""
    positive = np.maximum(layer.weights, 0).sum(axis=1, dtype=np.int64)
    negative = np.minimum(layer.weights, 0).sum(axis=1, dtype=np.int64)
    bias = folded_bias(layer)
    highest = bias + positive * INT8_MAX + negative * INT8_MIN
    lowest = bias + positive * INT8_MIN + negative * INT8_MAX
    bad = np.flatnonzero((highest > ACC_MAX) | (lowest < ACC_MIN))
    if bad.size:
        channel = int(bad[0])
        raise FlowError(
            f"accumulators must fit 32 bits, but channel {channel} of layer '{layer.name}' spans "
            f"{lowest[channel]}…{highest[channel]}; use a larger weight scale or a smaller bias"
        )


def accumulate(layer: ArrayLayer, codes: NDArray[np.int8]) -> NDArray[np.int32]:
    """acc = sum(w * x) + b': int8 [batch, *input_shape] -> int32 [batch * positions, channels].

    FlowError if an accumulator may not fit 32 bits.
    """
    check_accumulator(layer)
    columns = windows(layer, codes)
    weights = layer.weights.reshape(layer.groups, -1, layer.reduction)
    # Every partial sum is an integer of at most 128 * sum(|w|), so a float type with that many mantissa bits
    # is exact, in any order of addition.
    largest = -INT8_MIN * int(np.abs(layer.weights.astype(np.int16)).sum(axis=1, dtype=np.int64).max(initial=0))
    exact = np.float32 if largest <= 2**24 else np.float64
    sums = np.matmul(columns.astype(exact), weights.astype(exact).transpose(0, 2, 1))
    rows = np.moveaxis(sums, 0, 1).reshape(columns.shape[1], layer.channels)
    acc: NDArray[np.int32] = (rows.astype(np.int64) + folded_bias(layer)).astype(np.int32)
    return acc


def accumulator_scales(layer: ArrayLayer) -> NDArray[np.float32]:
    """s_x * s_w, float32 [channels]: the real value of one accumulator unit."""
    return (layer.input_quantization.scale * layer.weight_scales).astype(np.float32)


def multipliers(layer: ArrayLayer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(M, S), int64 [channels] each: float32 s_x * s_w / s_y = M * 2**-S, M in 2**23…2**24 - 1 or 0.

    FlowError if a factor is not finite or at least 2**23, which no shift to the right can reach.
    """
    output = layer.output_quantization
    assert output is not None, f"layer {layer.name} has no output quantization"
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        factors = (accumulator_scales(layer) / output.scale).astype(np.float32)
    return fixed_point(factors, f" of layer '{layer.name}'")


def fixed_point(factors: NDArray[np.float32], where: str = "") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(M, S) of factors float32 [channels], as in `multipliers`; `where` ends the message of the FlowError."""
    mantissas, exponents = np.frexp(np.where(np.isfinite(factors), factors, 0).astype(np.float64))
    shifts = MANTISSA_BITS - exponents.astype(np.int64)
    bad = np.flatnonzero(~np.isfinite(factors) | (factors < 0) | (shifts < 1))
    if bad.size:
        raise FlowError(
            f"the requantization factor s_x*s_w/s_y must lie in 0…2**23, but it is {factors[bad[0]]} at "
            f"channel {int(bad[0])}{where}; calibrate the network again"
        )
    vanishes = (factors == 0) | (shifts > MAX_SHIFT)
    scaled = (mantissas * 2**MANTISSA_BITS).astype(np.int64)
    return np.where(vanishes, 0, scaled), np.where(vanishes, 1, shifts)


def requantize(
    acc: NDArray[np.integer[Any]],
    mantissa: NDArray[np.int64],
    shift: NDArray[np.int64],
    zero_point: int,
    clamp: tuple[int, int],
) -> NDArray[np.int8]:
    """clamp(rne(acc * M * 2**-S) + z_y): integers [..., channels] -> int8, round half to even, in int64."""
    product = acc.astype(np.int64) * mantissa  # below 2**55
    odd = (product >> shift) & 1
    half = np.int64(1) << (shift - 1)
    rounded = (product + (half - 1) + odd) >> shift
    codes: NDArray[np.int8] = np.clip(rounded + zero_point, clamp[0], clamp[1]).astype(np.int8)
    return codes


def to_output(layer: ArrayLayer, rows: NDArray[Any]) -> NDArray[Any]:
    """[batch * positions, channels] -> [batch, *output_shape] in ONNX's layout (channels first for Conv)."""
    if layer.window is None:
        return rows.reshape(-1, *layer.output_shape)
    spatial = layer.output_shape[1:]
    return np.ascontiguousarray(np.moveaxis(rows.reshape(-1, *spatial, layer.channels), -1, 1))


def finish(layer: ArrayLayer, acc: NDArray[np.int32]) -> NDArray[Any]:
    """Accumulators [batch * positions, channels] -> the layer's ONNX output tensor.

    int8 or uint8 after requantization, or float32 when the layer returns raw accumulators.
    """
    output = layer.output_quantization
    if output is None:
        return to_output(layer, acc.astype(np.float32) * accumulator_scales(layer))
    codes = requantize(acc, *multipliers(layer), output.zero_point, layer.clamp)
    return output.from_int8(to_output(layer, codes))


def run_layer(layer: ArrayLayer, tensor: NDArray[Any]) -> NDArray[Any]:
    """The layer on its 8-bit ONNX input tensor [batch, *input_shape]; see `finish` for the output."""
    return finish(layer, accumulate(layer, layer.input_quantization.to_int8(tensor)))
