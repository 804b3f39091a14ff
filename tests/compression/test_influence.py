"""The influence of layers is that of whole runs, whatever the network's outputs and the way to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import onnx
import pytest

from flow.compression import influence
from flow.frontend.int8 import rewrite
from flow.network.answers import answers, distance
from flow.network.model import ArrayLayer, by_weights
from flow.onnxtools import runtime
from tests.helpers import networks


def averaged() -> onnx.ModelProto:
    """One output of each sample, and one of all together, which has no axis of samples."""
    net = networks.Floats(4)
    a = net.gemm(net.node("Relu", net.gemm("x", 12, 9)), 9, 5)
    return net.model((12,), a, net.node("ReduceMean", a, axes=[0], keepdims=0))


def reversed_weights(layer: ArrayLayer) -> ArrayLayer:
    return replace(layer, weights=layer.weights[::-1].copy(), bias=layer.bias[::-1].copy())


MADE = [
    networks.residual,
    networks.mixed,
    networks.gated,
    networks.attention,
    networks.heads,
    networks.sharing,
    averaged,
]


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_the_influence_is_that_of_whole_runs(make: Callable[[], onnx.ModelProto]) -> None:
    network = networks.quantized(make())
    feeds = networks.feeds(network.model, 9)
    changed = {each[0].name: [reversed_weights(layer) for layer in each] for each in by_weights(network.layers)}
    calls: list[None] = []
    scores, weights = dict.fromkeys(network.outputs[:1], 1), {network.outputs[-1]: 0.5}
    found = influence.influences(network, changed, feeds, scores, weights, lambda: calls.append(None))
    assert len(calls) == len(network.layers) and list(found) == list(changed)
    before = answers(network.model, feeds, scores)
    for name, layers in changed.items():
        got = answers(rewrite.with_layers(network.model, layers), feeds, scores)
        assert found[name] == pytest.approx(distance(before, got, weights), rel=1e-5) and found[name] > 0, name


def test_layers_that_do_not_change_have_none() -> None:
    network = networks.quantized(networks.residual())
    same = {layer.name: [layer] for layer in network.layers[1:]}
    found = influence.influences(network, same, networks.feeds(network.model, 5), {}, {}, lambda: None)
    assert found == dict.fromkeys(same, 0.0)


def test_only_what_follows_a_layer_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    network = networks.quantized(networks.dense())
    sizes, usual = [], runtime.session

    def counted(model: onnx.ModelProto, optimise: bool = True) -> object:
        sizes.append(sum(node.op_type == "Gemm" for node in model.graph.node))
        return usual(model, optimise)

    monkeypatch.setattr(runtime, "session", counted)
    changed = {layer.name: [layer] for layer in network.layers}
    influence.influences(network, changed, networks.feeds(network.model, 4), {}, {}, lambda: None)
    whole, suffixes, own = 3, [3, 2, 1], 1
    assert [size for size in sizes if size] == [whole, suffixes[0], own, suffixes[1], own, suffixes[2], own]
