"""Whole networks through the RTL by one start: every step equal to the reference, whatever the ports do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flow.hardware.config import UNITS, ArrayConfig
from flow.hardware.emit import emit
from flow.judgement.onchip import judge, passes, summary
from flow.judgement.verdict import agree
from flow.network.model import ArrayLayer, Network
from flow.network.samples import Samples
from flow.scheduling.onchip import post, timing
from flow.scheduling.onchip.chain import ChainLayer, chain
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.program import OnChip, assemble, fitted, outputs_only
from flow.simulation import onchip as running
from flow.simulation.engines import ENGINES, Simulator
from flow.simulation.engines.base import Command, DeviceError
from flow.simulation.onchip import ChainRun, by_reference, cosimulate, run
from tests.helpers.heads import for_the_chip
from tests.helpers.networks import KINDS, Floats, chosen, feeds, on_chip, pruned, quantized
from tests.helpers.stalls import stalled_device
from tests.helpers.tools import once_each, require_engine

TINY: dict[str, Any] = {"weight_depth": 32, "metadata_depth": 8, "activation_depth": 8}
SMALL = ArrayConfig(4, 4, **TINY, drain=2)  # most weights pass through the buffer again for every tile
WIDE = ArrayConfig(8, 16, drain=2)
LONG = ArrayConfig(2, 3, drain=3)  # narrower than an octet


def simulator(onchip: OnChip, folder: Path, engine: str = "verilator") -> Simulator:
    require_engine(engine)
    return ENGINES[engine].open(emit(onchip.config, folder))


def runs(network: Network, onchip: OnChip, given: Simulator, count: int) -> list[ChainRun]:
    x = feeds(network.model, count, seed=11)["x"]
    return [run(network, onchip, given, {"x": x[i : i + 1]}) for i in range(count)]


def check(onchip: OnChip, done: ChainRun) -> None:
    """Every step of the chain has come out of the output port, with the reference's values."""
    assert done.failure is None
    want = by_reference(onchip, {held.tensor: done.maps[held.tensor] for held in onchip.chain.inputs})
    assert set(done.rows) == set(want) == set(range(len(onchip.chain.steps)))
    for number, rows in want.items():
        differs = np.argwhere(rows != done.rows[number])
        assert not len(differs), f"step {number}: {len(differs)} of {rows.size}, the first at {differs[0]}"


def columns_pruned(onchip: OnChip, layer: ArrayLayer) -> NDArray[np.int64]:
    """N of every channel of a layer that runs as it is stored; of all others any N takes the same time."""
    for region in onchip.regions:
        step = onchip.chain.steps[region.step]
        if isinstance(step, ChainLayer) and step.layer.name == layer.name and region.part is not None:
            return region.part.columns_pruned
    raise AssertionError(layer.name)


@cache
def of_kind(kind: str) -> Network:
    """A network of this kind, quantized once."""
    return quantized(KINDS[kind]())


Shared = Callable[..., tuple[ArrayConfig, Simulator]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """shared(config, engine): this array with the units and the room that every kind of network needs, simulated."""

    @cache
    def compiled(config: ArrayConfig, engine: str = "verilator") -> tuple[ArrayConfig, Simulator]:
        require_engine(engine)
        needs = [fitted(config, chain(of_kind(kind))) for kind in KINDS]
        units = {unit: any(getattr(need, unit) for need in needs) for unit in UNITS}
        config = config.with_maps(max(need.map_words for need in needs), **units)
        return config, ENGINES[engine].open(emit(config, tmp_path_factory.mktemp("shared")))

    return compiled


def check_kind(network: Network, onchip: OnChip, given: Simulator, samples: int) -> None:
    """Sample after sample as the reference and as ONNX Runtime, in a time that the model knows."""
    done = runs(network, onchip, given, samples)
    for each in done:
        check(onchip, each)
    assert len({each.cycles for each in done}) == 1
    time = timing.on_chip(onchip.chain, network.layers, onchip.config)
    assert time.config == fitted(onchip.config, onchip.chain)
    predicted = time.beside + sum(time.of(layer, columns_pruned(onchip, layer)) for layer in network.layers)
    assert done[0].cycles <= predicted <= 1.3 * done[0].cycles  # little work: edges between the steps weigh most
    verdicts = judge(network, onchip, done)
    assert passes(verdicts, done), verdicts
    told = summary(onchip, done, verdicts)
    assert told.verdict == "pass" and told.cycles == done[0].cycles and 0 < (told.utilization or 0) < 1
    assert sum(verdict.elements for verdict in verdicts) == samples * sum(rows.size for rows in done[0].rows.values())


@pytest.mark.parametrize(
    "config", once_each([LONG, WIDE], lambda config: True), ids=lambda config: f"{config.rows}x{config.columns}"
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network(kind: str, config: ArrayConfig, shared: Shared) -> None:
    """Through Verilator, all kinds by the same array."""
    config, given = shared(config)
    check_kind(*program(of_kind(kind), config), given, 3)


@pytest.mark.parametrize("kind", once_each(KINDS, lambda kind: True))
def test_an_array_with_the_units_of_one_network(kind: str, tmp_path: Path) -> None:
    """Through Icarus Verilog, as `bbs compile` makes it: what this kind does not need is left out."""
    network, onchip = on_chip(kind, SMALL)
    assert onchip.config == fitted(SMALL, onchip.chain)
    check_kind(network, onchip, simulator(onchip, tmp_path, "icarus"), 1)


@pytest.mark.full
@pytest.mark.parametrize("engine", ["icarus", "ghdl"])
@pytest.mark.parametrize("kind", ["residual", "functions", "gated", "shuffled"])
def test_other_engines(kind: str, engine: str, shared: Shared) -> None:
    """The same bits and the same cycles, no bit unknown."""
    config, given = shared(LONG)
    network, onchip = program(of_kind(kind), config)
    (want,) = runs(network, onchip, given, 1)
    (done,) = runs(network, onchip, shared(LONG, engine)[1], 1)
    check(onchip, done)
    assert done.cycles == want.cycles


def behind_normalizations() -> Network:
    """What post-processing may do directly behind a normalization, whose results come by other stages of it."""
    net = Floats(9)
    made = net.conv("x", 3, 12, 1)
    for kind in ("Mul", "Add", "Sub", "Concat"):
        shares = net.node("Softmax", net.conv(made, 12, 12, 1, relu=False), axis=1)
        joined = net.node(kind, made, shares, **({"axis": 1} if kind == "Concat" else {}))
        made = net.conv(joined, 24 if kind == "Concat" else 12, 12, 1)
    return quantized(net.model((3, 5, 7), net.conv(made, 12, 4, 1, relu=False)))


@pytest.mark.parametrize(
    "config",
    once_each(
        [SMALL, LONG, ArrayConfig(2, 5, "pairs", **TINY, drain=2, columns_per_cycle=4)], lambda config: True
    ),
    ids=lambda config: f"{config.pe}-{config.rows}x{config.columns}",
)  # fmt: skip
def test_what_follows_a_normalization(config: ArrayConfig, tmp_path: Path) -> None:
    network = behind_normalizations()
    network, onchip = program(network, fitted(config, chain(network)))
    kinds = [step.kind for step in onchip.chain.steps if isinstance(step, PostOp)]
    followed = [after for before, after in pairwise(kinds) if before == "softmax"]
    assert followed == ["product", "add", "subtract", "move"] and onchip.chain.whole
    (done,) = runs(network, onchip, simulator(onchip, tmp_path, "icarus"), 1)
    check(onchip, done)
    verdicts = judge(network, onchip, [done])
    assert passes(verdicts, [done]), verdicts


def test_more_lanes_than_an_octet_has_channels(tmp_path: Path) -> None:
    """Those beyond carry no result of post-processing, by a table or not."""
    network, onchip = on_chip("functions", ArrayConfig(2, 20, **TINY, drain=2))
    assert onchip.config.lanes > 8 and onchip.config.tables
    (done,) = runs(network, onchip, simulator(onchip, tmp_path, "icarus"), 1)
    check(onchip, done)


def test_what_is_chosen_of_maps(tmp_path: Path) -> None:
    """The largest or smallest, or one where a condition or a constant says so: as ONNX Runtime has it, to the bit."""
    network = for_the_chip(chosen())
    network, onchip = program(network, fitted(SMALL, chain(network)))
    kinds = [step.kind for step in onchip.chain.steps if isinstance(step, PostOp)]
    assert onchip.chain.whole and kinds[:4] == ["largest", "average", "table", "smallest"]
    assert kinds[4:] == ["choice", "choice", "table", "scale", "largest", "select"]
    (done,) = runs(network, onchip, simulator(onchip, tmp_path), 1)
    check(onchip, done)
    verdicts = judge(network, onchip, [done])
    assert passes(verdicts, [done]), verdicts
    assert not any(each.tier2_mismatches or each.tier2_ties for each in verdicts if each.kind in post.CHOSEN)
    time = timing.on_chip(onchip.chain, network.layers, SMALL)
    predicted = time.beside + sum(time.of(layer, columns_pruned(onchip, layer)) for layer in network.layers)
    assert done.cycles <= predicted <= 1.3 * done.cycles


FUNCTIONS = ("HardSwish", "Sigmoid", "Tanh", "Erf", "Exp", "Abs", "LeakyRelu", "Elu", "Softplus", "Neg")


def drawn_functions(seed: int, functions: list[str], largest: int) -> Network:
    """Convolutions of 1 to `largest` channels, one behind each function, over maps of any few pixels."""
    net, rng = Floats(seed), np.random.default_rng(seed)
    channels, size = int(rng.integers(1, largest)), tuple(int(each) for each in rng.integers(1, largest, 2))
    shape, made = (channels, *size), "x"
    for function in functions:
        outputs = int(rng.integers(1, largest))
        made = net.conv(made, channels, outputs, int(rng.choice([1, 3])), relu=False)
        made, channels = net.node(function, made), outputs
    return quantized(net.model(shape, net.conv(made, channels, 3, 1, relu=False)))


def program(network: Network, config: ArrayConfig) -> tuple[Network, OnChip]:
    network, encoded = pruned(network, config.columns)
    return network, assemble(chain(network), encoded, config)


@pytest.mark.parametrize("size", [2, 4])
def test_functions_over_maps_of_any_shape(size: int, tmp_path: Path) -> None:
    """By the same array, whatever is drawn: no byte differs, and of the tables none from ONNX Runtime."""
    require_engine("icarus")
    config = ArrayConfig(size, size, **TINY, drain=2).with_maps(64 * size, True)
    icarus = ENGINES["icarus"].open(emit(config, tmp_path), tmp_path / "cache")

    @settings(max_examples=4)
    @given(st.integers(0, 1000), st.lists(st.sampled_from(FUNCTIONS), min_size=1, max_size=2))
    def equal(seed: int, functions: list[str]) -> None:
        network, onchip = program(drawn_functions(seed, functions, size + 4), config)
        (done,) = runs(network, onchip, icarus, 1)
        check(onchip, done)
        verdicts = judge(network, onchip, [done])
        found = [verdict for verdict in verdicts if verdict.kind == "table"]
        assert passes(verdicts, [done]) and len(found) == len(functions)
        assert not any(verdict.tier2_mismatches for verdict in found)

    equal()


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.full)])
def test_normalizations_of_any_shape(size: int, tmp_path: Path) -> None:
    """By the same array, channels of tokens and of pixels: no byte differs, and none from ONNX Runtime but ties."""
    require_engine("icarus")
    config = ArrayConfig(size, size, **TINY, drain=2).with_maps(64 * size, normalizer=True)
    icarus = ENGINES["icarus"].open(emit(config, tmp_path), tmp_path / "cache")

    @settings(max_examples=3)
    @given(st.integers(0, 1000), st.integers(1, 2 * size + 8), st.integers(1, size + 3), st.booleans())
    def equal(seed: int, channels: int, tokens: int, softmax: bool) -> None:
        network, onchip = program(drawn_norm(seed, channels, tokens, softmax), config)
        (done,) = runs(network, onchip, icarus, 1)
        check(onchip, done)
        verdicts = judge(network, onchip, [done])
        assert passes(verdicts, [done]) and {"softmax", "layernorm"} & {verdict.kind for verdict in verdicts}

    equal()


@pytest.mark.full
def test_more_positions_than_are_measured_at_once(tmp_path: Path) -> None:
    """On two rows the second descriptor that measures begins with the 129th token."""
    config = ArrayConfig(2, 2, **TINY, drain=2).with_maps(1024, normalizer=True)
    network, onchip = program(drawn_norm(1, 3, 131, True), config)
    (done,) = runs(network, onchip, simulator(onchip, tmp_path), 1)
    check(onchip, done)
    assert passes(judge(network, onchip, [done]), [done])


def drawn_norm(seed: int, channels: int, tokens: int, softmax: bool) -> Network:
    """A Softmax of rows of channels or of an image's channels, or a LayerNormalization of rows, between two layers."""
    net, rng = Floats(seed), np.random.default_rng(seed)
    if softmax and seed % 2 == 0:
        made = net.node("Softmax", net.conv("x", 2, channels, 1, relu=False), axis=1)
        return quantized(net.model((2, tokens, 2), net.conv(made, channels, 3, 1, relu=False)))
    weights = [
        net.constant(rng.normal(0, 1, shape).astype(np.float32))
        for shape in ((4, channels), (channels, 3), (channels,))
    ]
    a = net.node("MatMul", "x", weights[0])
    b = net.node("Softmax", a, axis=-1) if softmax else net.node("LayerNormalization", a, weights[2])
    return quantized(net.model((tokens, 4), net.node("MatMul", b, weights[1])))


def joined_maps(net: Floats, rng: np.random.Generator, x: str, channels: int) -> tuple[str, int]:
    """A map with another one of as many elements, or with one of a single pixel."""
    kind, other = (
        str(rng.choice(["Add", "Sub", "Mul", "Max", "Min", "Where"])),
        net.conv(x, channels, channels, 1, relu=False),
    )
    if rng.random() < 0.6:
        other = net.conv(net.node("GlobalAveragePool", x), channels, channels, 1, relu=False)
    pair = (x, other) if rng.random() < 0.5 else (other, x)
    if kind == "Where":
        seen = net.node("Less", other, net.constant(np.float32(rng.normal(0, 1))))
        either = other if rng.random() < 0.5 else net.constant(np.float32(rng.normal(0, 1)))
        return net.node(kind, seen, x, either), channels
    return net.node(kind, *pair), channels


def moved_channels(net: Floats, rng: np.random.Generator, x: str, channels: int) -> tuple[str, int]:
    """A part of the channels beside all of them and one more map, repeated or padded."""
    first, more = int(rng.integers(0, channels)), int(rng.integers(1, 11))
    bounds = [net.constant(np.array([value], np.int64)) for value in (first, channels, 1)]
    part = net.node("Slice", x, *bounds)
    made, total = net.node("Concat", part, net.conv(x, channels, more, 1), x, axis=1), 2 * channels - first + more
    if rng.random() < 0.5:
        factors = net.constant(np.array([1, 1, *rng.integers(1, 4, 2)], np.float32))
        return net.node("Resize", made, "", factors, mode="nearest"), total
    pads = net.constant(np.array([0, 3, 1, 0, 0, 2, 0, 2], np.int64))
    return net.node("Pad", made, pads, net.constant(np.float32(0))), total + 5


def padded_windows(net: Floats, rng: np.random.Generator, x: str, channels: int) -> tuple[str, int]:
    window = {"kernel_shape": [2, 3], "pads": [0, 1, 1, 1], "strides": rng.integers(1, 3, 2).tolist()}
    if rng.random() < 0.3:
        kind, axis = str(rng.choice(["ReduceMean", "ReduceMax"])), int(rng.integers(2, 4))
        return net.node(kind, x, axes=[axis], keepdims=1), channels
    if rng.random() < 0.3:
        return net.node("MaxPool", x, **window), channels
    return net.node("AveragePool", x, count_include_pad=int(rng.integers(0, 2)), **window), channels


def interpolated(net: Floats, rng: np.random.Generator, x: str, channels: int) -> tuple[str, int]:
    """Rows and columns by scales that may be no integers, up or down, whatever its coordinates."""
    scales = net.constant(np.array([1, 1, *rng.choice([0.75, 1.5, 2, 3], 2)], np.float32))
    coordinates = str(rng.choice(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]))
    return net.node("Resize", x, "", scales, mode="linear", coordinate_transformation_mode=coordinates), channels


def drawn_operations(seed: int, size: int) -> Network:
    """One operation of each kind, a convolution behind each, over maps of any few channels and pixels."""
    net, rng = Floats(seed), np.random.default_rng(seed)
    channels, shape = int(rng.integers(1, size + 8)), tuple(int(each) for each in rng.integers(2, size + 2, 2))
    made = net.conv("x", 3, channels, 1)
    for operation in rng.permutation(np.array([joined_maps, moved_channels, padded_windows, interpolated])):
        made, total = operation(net, rng, made, channels)
        channels = int(rng.integers(1, size + 8))
        made = net.conv(made, total, channels, 1, relu=False)
    return for_the_chip(net.model((3, *shape), made))


@pytest.mark.parametrize("size", [2, 4])
def test_operations_over_maps_of_any_shape(size: int, tmp_path: Path) -> None:
    """By the same array, whatever is drawn: no byte differs from the reference, and ONNX Runtime agrees."""
    require_engine("icarus")
    config = ArrayConfig(size, size, **TINY, drain=2).with_maps(512 * size, True, True)
    icarus = ENGINES["icarus"].open(emit(config, tmp_path), tmp_path / "cache")

    @settings(max_examples=3)
    @given(st.integers(0, 1000))
    def equal(seed: int) -> None:
        network, onchip = program(drawn_operations(seed, size), config)
        (done,) = runs(network, onchip, icarus, 1)
        check(onchip, done)
        verdicts = judge(network, onchip, [done])
        assert passes(verdicts, [done]), verdicts

    equal()


def drawn_groups(seed: int, channels: int, groups: int, form: str, behind: str) -> Network:
    """A normalization of groups of channels, as PyTorch writes it, of the pixels of a channel, or along the rows."""
    net, rng, count = Floats(seed), np.random.default_rng(seed), channels * groups
    size = [int(each) for each in rng.integers(1, 6, 2)]
    made = net.conv("x", 2, count, 1, relu=False)

    def drawn(*shape: int) -> str:
        return net.constant(rng.normal(0, 1, shape).astype(np.float32))

    if form == "rows":
        made = net.node("Softmax", made, axis=3)
    elif form == "pixels":
        made = net.node("InstanceNormalization", made, drawn(count), drawn(count))
    else:
        sizes = [net.constant(np.array(each, np.int64)) for each in ([0, groups, -1], [0, count, *size])]
        pair = [net.constant(np.full(groups, value, np.float32)) for value in (1, 0)]
        rows = net.node("InstanceNormalization", net.node("Reshape", made, sizes[0]), *pair)
        scaled = net.node("Mul", net.node("Reshape", rows, sizes[1]), drawn(count, 1, 1))
        made = net.node("Add", scaled, drawn(count, 1, 1))
    made = net.node(behind, made) if behind and form != "rows" else made
    return for_the_chip(net.model((2, *size), net.conv(made, count, 3, 1, relu=False)))


def test_normalizations_of_groups_of_any_shape(tmp_path: Path) -> None:
    """Maps that are turned and gathered for it, and back: no byte differs, and none from ONNX Runtime but ties."""
    require_engine("icarus")
    config = ArrayConfig(2, 2, **TINY, drain=2).with_maps(2048, tables=True, products=True, normalizer=True)
    config = replace(config, operands=True)
    icarus = ENGINES["icarus"].open(emit(config, tmp_path), tmp_path / "cache")

    @settings(max_examples=3)
    @given(
        st.integers(0, 1000), st.integers(1, 5), st.integers(1, 3), st.sampled_from(["groups", "pixels", "rows"]),
        st.sampled_from(["", "Relu", "HardSwish"]),
    )  # fmt: skip
    def equal(seed: int, channels: int, groups: int, form: str, behind: str) -> None:
        network, onchip = program(drawn_groups(seed, channels, groups, form, behind), config)
        assert onchip.chain.whole, onchip.chain.left
        (done,) = runs(network, onchip, icarus, 1)
        check(onchip, done)
        verdicts = judge(network, onchip, [done])
        assert passes(verdicts, [done]) and {"softmax", "layernorm"} & {verdict.kind for verdict in verdicts}

    equal()


def drawn_volumes(seed: int, channels: int, groups: int) -> Network:
    """Convolutions of three axes with any strides, pads and dilations, a sum and a function between them."""
    net, rng, count = Floats(seed), np.random.default_rng(seed), channels * groups
    size = [int(each) for each in rng.integers(2, 5, 3)]

    def conv(x: str, inputs: int, group: int, **attributes: list[int]) -> str:
        weights = rng.normal(0, 1, (count, inputs // group, 2, *rng.integers(1, 3, 2))).astype(np.float32)
        bias = net.constant(rng.normal(0, 0.3, count).astype(np.float32))
        return net.node("Conv", x, net.constant(weights), bias, group=group, **attributes)

    first = net.node("Relu", conv("x", 2, 1, pads=[1, 1, 0, 1, 0, 1], strides=rng.integers(1, 3, 3).tolist()))
    weights = net.constant(rng.normal(0, 1, (count, count, 2, 1, 1)).astype(np.float32))
    gate = net.node("Tanh", net.node("Conv", first, weights, pads=[1, 0, 0, 0, 0, 0]))
    last = conv(net.node("Add", first, gate), count, groups, pads=[1] * 6, dilations=[2, 1, 1])
    return for_the_chip(net.model((2, *size), last))


def test_volumes_of_any_shape(tmp_path: Path) -> None:
    """Convolutions of three axes, whose planes are channels: no byte differs."""
    require_engine("icarus")
    config = ArrayConfig(2, 2, **TINY, drain=2).with_maps(1024, tables=True)
    icarus = ENGINES["icarus"].open(emit(config, tmp_path), tmp_path / "cache")

    @settings(max_examples=3)
    @given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 2))
    def equal(seed: int, channels: int, groups: int) -> None:
        network, onchip = program(drawn_volumes(seed, channels, groups), config)
        assert onchip.chain.whole, onchip.chain.left
        (done,) = runs(network, onchip, icarus, 1)
        check(onchip, done)
        assert passes(judge(network, onchip, [done]), [done])

    equal()


def test_products_themselves(tmp_path: Path) -> None:
    """MyHDL's own simulator and Icarus: the same bits and cycles."""
    require_engine("icarus")
    net = Floats(3)
    a = net.conv("x", 2, 3, 1)
    b = net.node("Sub", net.node("Mul", a, net.conv(a, 3, 3, 1, relu=False)), net.conv(a, 3, 3, 1, relu=False))
    one = net.constant(np.float32(1))
    b = net.node("Where", net.node("Less", a, one), net.node("Min", a, b), one)
    b = net.node("Where", net.node("Less", b, one), a, b)
    network = for_the_chip(net.model((2, 2, 2), net.conv(b, 3, 2, 1, relu=False)))
    network, onchip = program(network, ArrayConfig(2, 2, **TINY, drain=2).with_maps(128, True, True))
    kinds = {step.kind for step in onchip.chain.steps if isinstance(step, PostOp)}
    assert kinds == {"product", "subtract", "table", "smallest", "choice", "select"}
    (want,) = runs(network, onchip, simulator(onchip, tmp_path, "icarus"), 1)
    (done,) = runs(network, onchip, simulator(onchip, tmp_path / "b", "myhdl"), 1)
    check(onchip, done)
    assert done.cycles == want.cycles


def test_the_table_itself(tmp_path: Path) -> None:
    """MyHDL's own simulator and Icarus: the same bits and cycles, of two tables one after the other."""
    require_engine("icarus")
    config = ArrayConfig(2, 2, **TINY, drain=2).with_maps(128, True)
    network, onchip = program(drawn_functions(5, ["Sigmoid", "Abs"], 3), config)
    (want,) = runs(network, onchip, simulator(onchip, tmp_path, "icarus"), 1)
    (done,) = runs(network, onchip, simulator(onchip, tmp_path / "b", "myhdl"), 1)
    check(onchip, done)
    assert done.cycles == want.cycles


@pytest.mark.full
def test_the_blocks_themselves(tmp_path: Path) -> None:
    """MyHDL's own simulator runs what is converted."""
    network, onchip = on_chip("tokens", replace(SMALL, rows=2, columns=2))
    (want,) = runs(network, onchip, simulator(onchip, tmp_path, "icarus"), 1)
    (done,) = runs(network, onchip, simulator(onchip, tmp_path / "b", "myhdl"), 1)
    check(onchip, done)
    assert done.cycles == want.cycles


@pytest.mark.parametrize("together", [2, pytest.param(4, marks=pytest.mark.full)])
def test_elements_of_pairs(together: int, tmp_path: Path) -> None:
    """Several bit columns a cycle, with additions and pooling between the layers."""
    require_engine("icarus")
    network, onchip = on_chip("residual", replace(SMALL, rows=2, columns=4, pe="pairs", columns_per_cycle=together))
    (done,) = runs(network, onchip, simulator(onchip, tmp_path, "icarus"), 1)
    check(onchip, done)


@pytest.mark.full
@pytest.mark.parametrize(("kind", "seed"), [("mixed", 1), ("mixed", 2), ("functions", 1)])
def test_ports_that_keep_it_waiting(kind: str, seed: int, tmp_path: Path) -> None:
    """Requests, answers and writes wait at random; results do not change."""
    require_engine("verilator")
    network, onchip = on_chip(kind, SMALL)
    device = stalled_device(onchip.config, seed, tmp_path / "stalled")
    (free,) = runs(network, onchip, simulator(onchip, tmp_path / "free"), 1)
    (done,) = runs(network, onchip, ENGINES["verilator"].open(device), 1)
    check(onchip, done)
    assert done.cycles > free.cycles


def test_only_the_outputs_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the other descriptors the network's output alone is written, and it is the same; else the verdict fails."""
    network, onchip = on_chip("residual", SMALL)
    given = simulator(onchip, tmp_path)
    x = Samples(feeds(network.model, 2, seed=11), None, "drawn")
    want, other = cosimulate(network, onchip, given, x, 1)
    assert want.outputs_only == 0 and other.outputs_only is None
    quiet = {**onchip.memories, "descriptor": outputs_only(onchip), "activation": want.memories["activation"]}
    result = given.run(quiet, Command(0, onchip.descriptors, 10**6), {"output": onchip.output_words})
    last = onchip.regions[-1]
    region = slice(last.base, last.base + last.words)
    assert not result.memories["output"][: last.base].any() and last.step == len(onchip.chain.steps) - 1
    assert np.array_equal(result.memories["output"][region], want.memories["output"][region])
    assert want.memories["output"][: last.base].any()
    monkeypatch.setattr(running, "outputs_only", lambda onchip: onchip.memories["descriptor"])
    done = cosimulate(network, onchip, given, x, 1)
    verdicts = judge(network, onchip, done)
    assert done[0].outputs_only and agree(verdicts) and not passes(verdicts, done)
    assert summary(onchip, done, verdicts).outputs_only_mismatches == done[0].outputs_only


def test_a_wrong_weight_is_seen(tmp_path: Path) -> None:
    """One word of weights: the step it belongs to, and none before, differs from the reference."""
    network, onchip = on_chip("depthwise", SMALL)
    weights = onchip.memories["weight"].copy()
    weights[-1] ^= 0xFF  # the last layer's
    (done,) = runs(
        network, replace(onchip, memories={**onchip.memories, "weight": weights}), simulator(onchip, tmp_path), 1
    )
    verdicts = judge(network, onchip, [done])
    wrong = [number for number, verdict in enumerate(verdicts) if verdict.tier1_mismatches]
    assert wrong == [len(verdicts) - 1] and not passes(verdicts, [done])


def test_a_run_that_does_not_end_is_no_verdict(tmp_path: Path) -> None:
    network, onchip = on_chip("dense", SMALL)

    class Hangs:
        def run(self, *_: Any) -> Any:
            raise DeviceError("done not high by cycle 7, the limit")

    (done,) = runs(network, onchip, Hangs(), 1)
    assert judge(network, onchip, [done]) == [] and not passes([], [done])
    assert summary(onchip, [done], []).failure == "done not high by cycle 7, the limit"
