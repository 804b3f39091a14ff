"""Networks that leave the chip and come back: every step, and the outputs of the whole, whatever lies between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit
from flow.judgement.onchip import judge, judge_outputs, passes, summary
from flow.network.model import ArrayLayer, Network
from flow.network.run import run_network
from flow.network.samples import Samples
from flow.scheduling.onchip import timing
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.program import OnChip, assemble, needed_words
from flow.scheduling.timing import layer_by_layer
from flow.simulation.engines import ENGINES, Simulator
from flow.simulation.engines.base import DeviceError
from flow.simulation.onchip import ChainRun, cosimulate, prepared, run
from tests.helpers.networks import Floats, attention, divided, feeds, heads, program, pruned, quantized
from tests.helpers.reference import Reference
from tests.helpers.tools import require_engine

TINY: dict[str, Any] = {"weight_depth": 32, "metadata_depth": 8, "activation_depth": 8}
SMALL = ArrayConfig(4, 4, **TINY, drain=2)


def judged(network: Network, onchip: OnChip, simulator: Simulator, count: int = 2) -> list[ChainRun]:
    """Runs of so many samples, of which all is right; the outputs are those of the network layer by layer."""
    x = Samples(feeds(network.model, count, seed=11), None, "drawn")
    runs = cosimulate(network, onchip, simulator, x, 1)
    verdicts, outputs = judge(network, onchip, runs), judge_outputs(network, runs, x)
    assert passes(verdicts, runs, outputs), (verdicts, outputs)
    assert not any(output.mismatches for output in outputs) or any(verdict.tier2_ties for verdict in verdicts)
    wanted = run_network(network, x.one(0))
    if not any(step.kind == "average" for step in verdicts):
        assert all(np.array_equal(runs[0].outputs[name], wanted[name]) for name in network.outputs)
    told = summary(onchip, runs, verdicts, outputs)
    assert told.verdict == "pass" and told.cycles == sum(segment.cycles for segment in told.segments)
    assert [layer for segment in told.segments for layer in segment.layers] + list(told.alone) == [
        *(layer.name for segment in onchip.chain.segments for layer in segment.layers), *told.alone
    ]  # fmt: skip
    return runs


def tiny() -> onnx.ModelProto:
    """Two convolutions and a LogSoftmax between them."""
    net = Floats(8)
    return net.model((2, 2, 2), net.conv(net.node("LogSoftmax", net.conv("x", 2, 2, 1, relu=False), axis=1), 2, 2, 1))


@pytest.mark.parametrize(
    ("make", "engine", "segments"),
    [(attention, "verilator", 2), (divided, "verilator", 2), (heads, "verilator", 1), (tiny, "myhdl", 2)],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
def test_segments_through_the_rtl(
    make: Callable[[], onnx.ModelProto], engine: str, segments: int, tmp_path: Path
) -> None:
    """One array for all of them: what it has of maps and tables is more than they need."""
    require_engine(engine)
    config = SMALL.with_maps(512, True) if engine == "verilator" else replace(SMALL, rows=2, columns=2).with_maps(128)
    network, encoded = pruned(quantized(make()), config.columns)
    onchip = assemble(chain(network), encoded, config)
    assert len(onchip.starts) == segments and sum(count for _, count in onchip.starts) == onchip.descriptors
    runs = judged(network, onchip, ENGINES[engine].open(emit(config, tmp_path)), 1)
    assert runs[0].outputs_only == 0 and len(runs[0].segment_cycles) == segments


BETWEEN = ("none", "Softmax", "LogSoftmax", "Transpose", "PRelu", "Tanh+", "Div", "output", "Relu", "MaxPool")


def drawn(seed: int, between: list[str]) -> onnx.ModelProto:
    """Convolutions of eight channels over square maps, with one of `BETWEEN` behind each."""
    net, outputs = Floats(seed), list[str]()
    made = net.conv("x", 3, 8, 3, relu=False)
    for kind in between:
        if kind in ("Softmax", "LogSoftmax", "Relu"):
            made = net.node(kind, made, **({} if kind == "Relu" else {"axis": 1}))
        elif kind == "Transpose":
            made = net.node(kind, made, perm=[0, 1, 3, 2])
        elif kind == "PRelu":
            made = net.node(kind, made, net.constant(net.rng.uniform(0, 1, (8, 1, 1)).astype(np.float32)))
        elif kind == "Tanh+":
            made = net.node("Add", net.node("Tanh", made), net.conv(made, 8, 8, 1))
        elif kind == "Div":
            made = net.node("Div", made, net.node("Sigmoid", net.conv(made, 8, 8, 1)))
        elif kind == "MaxPool":
            made = net.node(kind, made, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        elif kind == "output":
            outputs.append(made)
        made = net.conv(made, 8, 8, int(net.rng.choice([1, 3])), relu=False)
    return net.model((3, 4, 4), made, *(name for name in dict.fromkeys(outputs) if name != made))


@settings(max_examples=12)
@given(st.integers(0, 1000), st.lists(st.sampled_from(BETWEEN), min_size=1, max_size=5))
def test_whatever_lies_between(seed: int, between: list[str]) -> None:
    """As many segments as there are reasons to leave, and one more; memories, places and host parts fit together."""
    network, onchip = program(drawn(seed, between), SMALL)
    leaves = sum(kind in ("LogSoftmax", "PRelu", "Div") for kind in between)
    assert len(onchip.starts) == leaves + 1 and onchip.chain.whole == (not leaves)
    device = Reference(onchip)
    judged(network, onchip, device, 1)
    assert tuple(device.commands[: len(onchip.starts)]) == onchip.starts


def test_a_layer_that_has_no_place_runs_by_itself() -> None:
    """Between two segments, and behind the last one: what it takes is counted, and all is right.

    Its channels are the columns of a map of more rows than a copy may have runs of pixels.
    """
    net = Floats(5)
    weights = [net.constant(net.rng.normal(0, 0.5, (4, 4)).astype(np.float32)) for _ in range(2)]
    made = net.conv(net.node("MatMul", net.conv("x", 3, 8, 1), weights[0]), 8, 8, 1)
    network, onchip = program(net.model((3, 257, 4), net.node("MatMul", made, weights[1])), SMALL)
    alone = onchip.chain.alone
    assert len(onchip.starts) == 2 and [layer.op for layer in alone] == ["MatMul", "MatMul"]
    assert alone[1] in onchip.chain.after and not onchip.chain.whole
    reasons = [each.reason for each in onchip.chain.left]
    assert all("reads its rows along another axis" in reason for reason in reasons) and len(reasons) == 2
    runs = judged(network, onchip, Reference(onchip), 1)
    assert summary(onchip, runs, [], []).macs_share < 1
    time, layers = timing.on_chip(onchip.chain, network.layers, SMALL), layer_by_layer(network.layers, onchip.config)
    unpruned = np.zeros(alone[0].channels, np.int64)
    assert time.of(alone[0], unpruned) == layers.of(alone[0], unpruned) > 0


@pytest.mark.parametrize("turned", [False, True])
def test_a_square_map_is_read_along_its_channels_alone(turned: bool) -> None:
    """As many channels as pixels: the shapes fit, but a product of rows reads the other axis than the map has.

    So the map is turned for the product, and back for the convolution; turned by the network, nothing moves.
    """
    net = Floats(6)
    kernel, product, last = (
        net.constant(net.rng.normal(0, 0.5, shape).astype(np.float32)) for shape in ((8, 4, 3), (8, 8), (4, 8, 1))
    )
    made = net.node("Conv", "x", kernel, pads=[1, 1])
    made = net.node("Transpose", made, perm=[0, 2, 1]) if turned else made
    made = net.node("MatMul", made, product)
    made = net.node("Transpose", made, perm=[0, 2, 1]) if turned else made
    network, onchip = program(net.model((4, 8), net.node("Conv", made, last)), SMALL)
    kinds = [step.kind for step in onchip.chain.steps if isinstance(step, PostOp)]
    assert onchip.chain.whole and kinds == ([] if turned else ["turn", "turn"])
    judged(network, onchip, Reference(onchip), 1)


def test_a_wrong_turn_between_segments_fails() -> None:
    """Each step is right on what it was given, but a segment was given another map: the outputs tell."""
    network, onchip = program(divided(), SMALL)

    class Turned(Reference):
        def run(self, memories: dict[str, Any], command: Any, writes: dict[str, int]) -> Any:
            done = super().run(memories, command, writes)
            return replace(done, memories={"output": np.roll(done.memories["output"], 1, axis=1)})

    x = Samples(feeds(network.model, 1), None, "drawn")
    runs = cosimulate(network, onchip, Reference(onchip), x, 1)
    verdicts = judge(network, onchip, runs)
    wrong = [replace(run, outputs={name: value + 1 for name, value in run.outputs.items()}) for run in runs]
    assert passes(verdicts, runs, judge_outputs(network, runs, x))
    exact = [replace(verdict, tier2_ties=0, tier2_mismatches=0) for verdict in verdicts]
    assert not passes(exact, wrong, judge_outputs(network, wrong, x))
    assert summary(onchip, wrong, exact, judge_outputs(network, wrong, x)).verdict == "fail"
    turned = cosimulate(network, onchip, Turned(onchip), x, 1)
    assert not passes(judge(network, onchip, turned), turned)


def test_sums_that_leave_may_be_rounded_and_codes_may_not() -> None:
    """A float output is right but for float32's rounding; a code more is none of it, and must not be where exact."""
    network, onchip = program(divided(), SMALL)
    x = Samples(feeds(network.model, 1), None, "drawn")
    runs = cosimulate(network, onchip, Reference(onchip), x, 1)
    (name,) = network.outputs
    rounded = [replace(runs[0], outputs={name: runs[0].outputs[name] * np.float32(1 + 1e-6)})]
    (output,) = judge_outputs(network, rounded, x)
    assert output.exact and not output.mismatches
    code = np.abs(runs[0].outputs[name]).max() / 255
    (output,) = judge_outputs(network, [replace(runs[0], outputs={name: runs[0].outputs[name] + code})], x)
    assert output.mismatches == output.elements
    raw = [replace(step, output_quantization=None) if isinstance(step, ArrayLayer) else step for step in network.steps]
    sums = replace(network, steps=tuple(raw))
    assert not judge_outputs(sums, runs, x)[0].exact


def test_a_segment_that_does_not_end_is_named() -> None:
    network, onchip = program(divided(), SMALL)

    class Hangs(Reference):
        def run(self, memories: dict[str, Any], command: Any, writes: dict[str, int]) -> Any:
            if command.first:
                raise DeviceError("done not high by cycle 7, the limit")
            return super().run(memories, command, writes)

    done = run(network, onchip, Hangs(onchip), feeds(network.model, 1))
    assert done.failure == "segment 2 of 2: done not high by cycle 7, the limit"
    assert judge(network, onchip, [done]) == []


def test_what_later_segments_load_is_there_without_a_simulation() -> None:
    """The activation memory that is handed over is the one of a run, though nothing ran."""
    network, onchip = program(attention(), SMALL)
    x = feeds(network.model, 1)
    ready, done = prepared(onchip, x), run(network, onchip, Reference(onchip), x)
    assert np.array_equal(ready.memories["activation"], done.memories["activation"]) and not ready.cycles
    assert set(ready.maps) == {held.tensor for held in onchip.chain.inputs}


def test_segments_share_the_memory_of_maps() -> None:
    """The largest segment says how many words there are."""
    network, onchip = program(attention(), SMALL)
    alone = [max(place.base + place.words for place in places.values()) for places in onchip.places]
    assert max(alone) <= needed_words(onchip.chain, 4) < max(alone) + 4 * 64 and len(alone) == 2
    assert network.layers and sum(alone) > max(alone)


def test_maps_of_one_axis_are_judged_as_the_network_has_them() -> None:
    """Pooling along one axis, whose tensors have three axes and whose maps have four."""
    net = Floats(5)
    first, last = (net.constant(net.rng.normal(0, 0.3, shape).astype(np.float32)) for shape in ((9, 3, 3), (4, 9, 1)))
    a = net.node("Relu", net.node("Conv", "x", first, pads=[1, 1]))
    b = net.node("MaxPool", net.node("AveragePool", a, kernel_shape=[3], pads=[1, 0], strides=[2]), kernel_shape=[2])
    network, onchip = program(net.model((3, 12), net.node("Conv", b, last)), SMALL)
    assert len(onchip.chain.steps) == 4
    judged(network, onchip, Reference(onchip), 2)


@pytest.mark.parametrize("between", ["", "Relu", "HardSwish"])
@pytest.mark.parametrize("tokens", [1, 4])
def test_rows_that_are_flattened_keep_their_order(between: str, tokens: int) -> None:
    """A row of channels is one as it lies; of several, the channels of all tokens are gathered, one after the other.

    Behind a function, the host flattens them.
    """
    net = Floats(8)
    rows = net.node("MatMul", "x", net.constant(net.rng.normal(0, 0.5, (8, 8)).astype(np.float32)))
    made = net.node(between, rows) if between else rows
    flat = net.node("Relu", net.node("Flatten", made))
    network, onchip = program(net.model((tokens, 8), net.gemm(flat, 8 * tokens, 5)), SMALL)
    assert len(onchip.starts) == (2 if between == "HardSwish" and tokens > 1 else 1)
    judged(network, onchip, Reference(onchip), 2)


def test_a_map_with_itself_is_judged() -> None:
    """Its sum with itself, its difference from itself, and both beside each other."""
    net = Floats(6)
    a = net.conv("x", 3, 5, 3)
    b = net.node("Concat", net.node("Sub", a, a), a, net.node("Add", a, a), axis=1)
    network, onchip = program(net.model((3, 4, 3), net.conv(b, 15, 4, 1, relu=False)), SMALL)
    assert [step.kind for step in onchip.chain.steps if isinstance(step, PostOp)] == ["add", "table", "move"]
    judged(network, onchip, Reference(onchip), 2)
