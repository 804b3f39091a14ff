"""Convolutions of three spatial axes as convolutions of two: the planes of the first one are channels.

Channel c of a map becomes channels c D to c D + D - 1, its D planes, in the order of the tensor's elements. A channel
of the result then reads all planes of a channel, those that its window does not hold with weights of zero.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow.network.model import ArrayLayer, Window
from flow.scheduling.onchip.maps import as_map

MOST = 4.0  # products for each one of the layer: a convolution of more planes is faster by itself


def over_planes(layer: ArrayLayer) -> bool:
    return layer.window is not None and len(layer.window.kernel) == 3


def _places(layer: ArrayLayer, window: Window) -> NDArray[np.int64]:
    """The plane that each tap of each plane of the result reads, [planes, taps]; some are not in the map."""
    first = np.arange(layer.output_shape[1]) * window.strides[0] - window.pads[0]
    places: NDArray[np.int64] = first[:, None] + np.arange(window.kernel[0]) * window.dilations[0]
    return places


def more_products(layer: ArrayLayer) -> float:
    """How many products the convolution of two axes has for each one of the layer that is not of padding."""
    assert layer.window is not None
    places = _places(layer, layer.window)
    planes = layer.input_shape[1]
    return len(places) * planes / max(int(((places >= 0) & (places < planes)).sum()), 1)


def with_planes_as_channels(layer: ArrayLayer) -> ArrayLayer:
    """The layer over maps of two axes, with the same results in the same order."""
    window = layer.window
    assert window is not None
    places, (planes, taps) = _places(layer, window), (layer.input_shape[1], window.kernel[0])
    given = layer.weights.reshape(layer.channels, *window.kernel, -1)
    made = np.zeros((layer.channels, len(places), *window.kernel[1:], given.shape[-1], planes), np.int8)
    for plane, reads in enumerate(places):
        for tap in range(taps):
            if 0 <= reads[tap] < planes:
                made[:, plane, ..., reads[tap]] = given[:, tap]
    pads = window.pads[1:3] + window.pads[4:]
    each = len(places)
    return replace(
        layer, weights=made.reshape(layer.channels * each, -1), weight_scales=layer.weight_scales.repeat(each),
        bias=layer.bias.repeat(each), input_shape=as_map(layer.input_shape, False, layer.name),
        output_shape=as_map(layer.output_shape, False, layer.name),
        window=Window(window.kernel[1:], window.strides[1:], pads, window.dilations[1:]),
    )  # fmt: skip
