"""LSTM, GRU and RNN unrolled: the same function, for any attributes, and all products on the array."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.frontend import quantize
from flow.frontend.int8 import cut
from flow.frontend.preparation.prepare import prepare
from flow.frontend.preparation.products.products import products
from flow.frontend.preparation.products.recurrent import GATES, MOST_STEPS
from flow.judgement.fidelity import unaccounted
from flow.network.model import by_weights
from flow.onnxtools import runtime
from flow.onnxtools.edit import replace_nodes
from tests.helpers.nets import Builder, samples
from tests.helpers.signals import decibels

HIDDEN, FEATURES = 5, 4


def net(
    op: str, steps: int = 6, direction: str = "forward", bias: bool = True, initial: str = "", outputs: str = "YHC",
    batch: Any = "N", further: dict[int, Any] | None = None, **attributes: Any,
) -> onnx.ModelProto:  # fmt: skip
    """x [batch, steps, features] -> Transpose -> recurrent node; its outputs with the batch as axis 0."""
    b, layout = Builder(7), attributes.get("layout", 0)
    count, gates = 2 if direction == "bidirectional" else 1, GATES[op] * HIDDEN

    def real(*shape: int) -> str:
        return b.constant(np.asarray(b.rng.normal(0, 0.5, shape), np.float32))

    x = "x" if layout else b.node("Transpose", "x", perm=[1, 0, 2])
    inputs = [x, real(count, gates, FEATURES), real(count, gates, HIDDEN), real(count, 2 * gates) if bias else ""]
    inputs += ["", *["" for _ in range(3 if op == "LSTM" else 1)]]
    for place in (5, 6) if op == "LSTM" else (5,):
        if "zeros" in initial:
            inputs[place] = b.constant(np.zeros((count, 1, HIDDEN), np.float32))
        elif initial:  # [batch, directions, hidden] of the samples, in the order of the layout
            start = b.node("Reshape", f"s{place}", b.constant(np.array([0, count, HIDDEN])))
            inputs[place] = start if layout else b.node("Transpose", start, perm=[1, 0, 2])
    for place, value in (further or {}).items():
        inputs[place] = b.constant(value)
    names = ["y", "h", "c"][: 3 if op == "LSTM" else 2]
    made = [name if name.upper() in outputs else "" for name in names]
    b.nodes.append(helper.make_node(op, inputs, made, "cell", hidden_size=HIDDEN, direction=direction, **attributes))
    orders = {"y": [2, 0, 1, 3], "h": [1, 0, 2], "c": [1, 0, 2]}
    ends = [name if layout else b.node("Transpose", name, perm=orders[name]) for name in made if name]
    given = {"x": [batch, steps, FEATURES]}
    if initial == "given":
        given |= {f"s{place}": [batch, count * HIDDEN] for place in ((5, 6) if op == "LSTM" else (5,))}
    model = b.model(given, ends[0], rank=4 if made[0] else 3)
    for name in ends[1:]:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model


def random_net(seed: int) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    op = str(rng.choice(list(GATES)))
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    further: dict[str, Any] = {}
    if op == "GRU":
        further["linear_before_reset"] = int(rng.integers(2))
    if rng.integers(3) == 0:
        kinds = ["Sigmoid", "Tanh", "Relu", "Softsign"]
        count = (2 if direction == "bidirectional" else 1) * {"GRU": 2, "LSTM": 3, "RNN": 1}[op]
        further["activations"] = [str(rng.choice(kinds)) for _ in range(count)]
    outputs = str(rng.choice(["YHC", "Y", "H", "YH", "HC"]))
    return net(
        op, int(rng.integers(1, 7)), direction, bool(rng.integers(2)), str(rng.choice(["", "given", "zeros"])),
        outputs, int(rng.choice([0, 1])) or "N", **further,
    )  # fmt: skip


@pytest.mark.parametrize("seeds", [range(start, start + 20) for start in range(0, 60, 20)], ids=str)
def test_random_attributes(seeds: range) -> None:
    """Every output is equal but for the rounding of float32, and every node's products are accounted for."""
    for seed in seeds:
        model = random_net(seed)
        feeds = samples(model, 1)
        want, prepared = runtime.run(model, feeds), prepare(model)
        got = runtime.run(prepared, feeds)
        assert not {node.op_type for node in prepared.graph.node} & set(GATES), seed
        assert all(got[name].shape == want[name].shape for name in want), seed
        assert all(np.allclose(got[name], want[name], rtol=1e-4, atol=1e-5) for name in want), seed
        assert unaccounted(model, prepared) == (), seed


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_all_products_of_a_recurrent_layer_are_on_the_array(op: str, direction: str) -> None:
    """One for the inputs, and one or two for each step's state; over 24 dB after six steps, for every output.

    All steps of a direction share their weights.
    """
    model = net(op, direction=direction, initial="given")
    feeds = samples(model, 32)
    made = quantize.quantize(model, feeds).model
    network, count = cut.partition(made, "net"), 2 if direction == "bidirectional" else 1
    assert len(network.layers) == count * (1 + 6 * (2 if op == "GRU" else 1)) and not network.reasons
    sharing = sorted(len(each) for each in by_weights(network.layers))
    assert sharing == sorted(count * ([1, 6, 6] if op == "GRU" else [1, 6]))
    macs = 6 * GATES[op] * HIDDEN * (FEATURES + HIDDEN)
    assert sum(layer.macs for layer in network.layers) == count * macs
    want, got = runtime.run(model, feeds), runtime.run(made, feeds)
    assert min(decibels(want[name], got[name]) for name in want) > 24


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (net("LSTM", further={7: np.ones((1, 3 * HIDDEN), np.float32)}), "it has peepholes"),
        (net("RNN", clip=3.0), "it clips what its gates read"),
        (net("RNN", activations=["LeakyRelu"], activation_alpha=[0.1]), "its activations are LeakyRelu, "),
        (net("GRU", MOST_STEPS + 1), f"it has {MOST_STEPS + 1} steps, and at most {MOST_STEPS} are unrolled"),
    ],
    ids=["peepholes", "clip", "activations", "steps"],
)  # fmt: skip
def test_what_is_not_unrolled_is_told(model: onnx.ModelProto, reason: str) -> None:
    model.graph.node.append(helper.make_node("Flatten", [model.graph.output[0].name], ["flat"]))
    prepared, feeds = prepare(model), samples(model, 1)
    assert set(GATES) & {node.op_type for node in prepared.graph.node}
    network = cut.partition(quantize.quantize(model, feeds).model, "net")
    assert reason in network.reasons["cell"]
    assert any(note.startswith(f"{model.graph.node[1].op_type} 'cell' stays on the host: ") for note in network.notes)


def test_lengths_that_are_all_of_the_steps() -> None:
    model = net("LSTM", batch=1, further={4: np.array([6], np.int32)})
    feeds = samples(model, 1)
    prepared = prepare(model)
    assert "LSTM" not in {node.op_type for node in prepared.graph.node}
    want, got = runtime.run(model, feeds), runtime.run(prepared, feeds)
    assert all(np.allclose(got[name], want[name], rtol=1e-4, atol=1e-5) for name in want)


@pytest.mark.parametrize("initial", ["", "given"])
@pytest.mark.parametrize("op", GATES)
def test_sequences_of_several_lengths(op: str, initial: str) -> None:
    """Packed sequences: outputs are 0 behind the end of each, its last state is that of its last step."""
    model = net(op, direction="bidirectional", initial=initial)
    next(node for node in model.graph.node if node.op_type == op).input[4] = "lengths"
    model.graph.input.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["N"]))
    prepared = prepare(model)
    assert op not in {node.op_type for node in prepared.graph.node}
    feeds = samples(net(op, initial=initial, direction="bidirectional"), 6) | {
        "lengths": np.arange(1, 7, dtype=np.int32)
    }
    want, got = runtime.run(model, feeds), runtime.run(prepared, feeds)
    assert all(np.allclose(got[name], want[name], rtol=1e-4, atol=1e-5) for name in want)


def test_a_constant_length_shorter_than_the_steps() -> None:
    model = net("LSTM", batch=1, further={4: np.array([3], np.int32)})
    feeds = samples(model, 1)
    want, got = runtime.run(model, feeds), runtime.run(prepare(model), feeds)
    assert all(np.allclose(got[name], want[name], rtol=1e-4, atol=1e-5) for name in want)


def test_steps_that_only_a_run_tells() -> None:
    """Packed sequences sorted by length, as PyTorch exports them: what TopK and Gather give, no inference finds."""
    model = net("GRU")
    packing = [
        helper.make_node("Shape", ["x"], ["sizes"], "sizes"),
        helper.make_node("Gather", ["sizes", "zero"], ["batch"], "batch"),
        helper.make_node("TopK", ["lengths", "batch"], ["sorted", "order"], "sort", axis=0),
        helper.make_node("Gather", ["x", "order"], ["packed"], "pack", axis=0),
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "zero"))
    model.graph.input.append(helper.make_tensor_value_info("lengths", TensorProto.FLOAT, ["N"]))
    model.graph.node[0].input[0] = "packed"
    replace_nodes(model, [*packing, *model.graph.node])
    prepared = prepare(model)
    assert "GRU" not in {node.op_type for node in prepared.graph.node}
    feeds = samples(net("GRU"), 3) | {"lengths": np.array([1, 3, 2], np.float32)}
    want, got = runtime.run(model, feeds), runtime.run(prepared, feeds)
    assert all(np.allclose(got[name], want[name], rtol=1e-4, atol=1e-5) for name in want)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_batch_as_axis_0(op: str, direction: str) -> None:
    """Which ONNX Runtime does not have: compared with the same network of steps as axis 0."""
    model, other = (net(op, direction=direction, initial="given", layout=layout) for layout in (1, 0))
    products(model)
    feeds = samples(model, 3)
    got, want = (list(runtime.run(each, feeds).values()) for each in (model, other))
    assert all(np.allclose(one, wanted, rtol=1e-4, atol=1e-5) for one, wanted in zip(got, want, strict=True))
