"""A network is asked once what it is, and pruning asks nothing again."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import CodeType, FrameType

import numpy as np
import onnx
import pytest

import flow
from flow.errors import FlowError
from flow.frontend import admit
from flow.frontend.entry import checks
from flow.frontend.imported import import_calibrated, import_uncalibrated
from flow.frontend.int8 import canonical, cut, rewrite
from flow.frontend.preparation import prepare
from flow.network import samples
from flow.network.model import ArrayLayer
from flow.onnxtools import runtime, shapes
from tests.helpers.nets import residual_net
from tests.helpers.networks import dense, feeds

ASKED = (canonical.canonical, checks.is_quantized, prepare.prepare, shapes.infer)


def calls(work: Callable[[], object]) -> list[int]:
    """How often the functions ASKED run meanwhile."""
    codes: Counter[CodeType] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            codes[frame.f_code] += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return [codes[function.__code__] for function in ASKED]


def float_file(folder: Path) -> Path:
    """A float network with calibration samples beside it."""
    path = folder / "net.onnx"
    onnx.save(dense(), str(path))
    np.savez(folder / "net_calibration.npz", **feeds(dense(), 16))  # type: ignore[arg-type]
    return path


def test_compress_asks_once(tmp_path: Path) -> None:
    model = float_file(tmp_path)
    chosen = flow.pruning("moderate")
    assert calls(lambda: flow.compress(model, tmp_path / "int8.onnx", pruning=chosen)) == [1, 1, 1, 1]
    assert calls(lambda: flow.compress(tmp_path / "int8.onnx", tmp_path / "again.onnx", pruning=chosen)) == [1, 1, 0, 1]


def test_float_and_int8_networks(tmp_path: Path) -> None:
    path = float_file(tmp_path)
    source = admit.load(path)
    with pytest.raises(FlowError, match=r"'net\.onnx' is a float network and needs calibration samples"):
        import_calibrated(source, "net", None, "net.onnx")
    given = samples.load(tmp_path / "net_calibration.npz", source, "calibration")
    imported = import_calibrated(source, "net", given, "net.onnx")
    assert imported.network.name == "net" and imported.calibration is given
    assert imported.float_model is source and imported.prepared is not None
    uncalibrated = import_uncalibrated(source, "net")
    assert [layer.name for layer in uncalibrated.network.layers] == [layer.name for layer in imported.network.layers]
    quantized = import_calibrated(imported.network.model, "net", None, "net.onnx")
    assert quantized.float_model is None and quantized.prepared is None and quantized.calibration is None
    assert quantized.network.model == imported.network.model


def test_partitioned_again_is_as_partitioned_anew() -> None:
    """With weights, scales and biases replaced, the steps and the model are those of a new import, to the byte."""
    network = cut.partition(residual_net(), "net")
    generator = np.random.default_rng(5)

    def changed(layer: ArrayLayer) -> ArrayLayer:
        bias = layer.bias + generator.integers(-9, 9, layer.channels)
        weights = generator.integers(-64, 64, layer.weights.shape).astype(np.int8)
        scales = layer.weight_scales * np.float32(1.5)
        return replace(layer, weights=weights, weight_scales=scales, bias=bias.astype(np.int32))

    layers = [changed(layer) for layer in network.layers]
    again = cut.partition_again(network, layers)
    anew = cut.partition(rewrite.with_layers(network.model, layers), "net")
    assert again.model == anew.model
    assert (again.reasons, again.inputs, again.outputs) == (anew.reasons, anew.inputs, anew.outputs)
    for one, other, wanted in zip(again.layers, anew.layers, layers, strict=True):
        assert np.array_equal(one.weights, wanted.weights) and np.array_equal(one.bias, wanted.bias)
        assert repr(one) == repr(other)
    assert [getattr(step, "model", None) for step in again.steps] == [
        getattr(step, "model", None) for step in anew.steps
    ]


def test_layers_are_replaced_twice() -> None:
    """What was refined before is refined again, under names of its own."""
    network = cut.partition(residual_net(), "net")
    for _ in range(2):
        layers = [
            replace(layer, weight_scales=layer.weight_scales * np.float32(2), bias=layer.bias + 1)
            for layer in network.layers
        ]
        runtime.session(rewrite.with_layers(network.model, layers))
        network = cut.partition_again(network, layers)
        onnx.checker.check_model(network.model)
        for layer, wanted in zip(network.layers, layers, strict=True):
            assert np.array_equal(layer.bias, wanted.bias) and np.array_equal(layer.weight_scales, wanted.weight_scales)
