"""Memory images read back: right ones pass, and every bit that an output depends on is missed by none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.compression.prune import prune
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit
from flow.hardware.fields import descriptor_slice
from flow.hardware.interface import Memory
from flow.judgement import images
from flow.judgement.images import ImageError
from flow.network import reference
from flow.network.model import ArrayLayer, Quantization, Window
from flow.scheduling.blocks import Program
from flow.scheduling.onchip.chain import ChainLayer, chain
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.program import OnChip, assemble, fitted
from flow.scheduling.schedule import schedule
from flow.simulation.engines import ENGINES
from flow.simulation.engines.base import Command
from tests.helpers.heads import float_attention, for_the_chip
from tests.helpers.layers import job, layer_of, random_codes, random_layer, random_weights
from tests.helpers.networks import chosen, on_chip, pruned
from tests.helpers.tools import require_engine

CONFIG = ArrayConfig(2, 4, drain=2)
STREAMED = replace(CONFIG, weight_depth=16, metadata_depth=4)
PAIRS = [replace(CONFIG, pe="pairs", columns_per_cycle=together) for together in (2, 4)]
CONFIGS = [CONFIG, STREAMED, CONFIG.dense(), replace(CONFIG, pe="parallel"), CONFIG.with_maps(64), *PAIRS]
IDS = ["resident", "streamed", "dense", "parallel", "maps", "two columns a cycle", "four columns a cycle"]
OPERANDS = ("weight", "metadata", "parameter", "index")

Allocation = dict[str, NDArray[np.int64]]


def program(config: ArrayConfig) -> tuple[Program, Allocation]:
    """Layers of several N and tiles, one that returns its sums, one of groups, and one whose scales nearly vanish."""
    rng = np.random.default_rng(4)
    n = rng.choice([0, 2, 4], 6)
    grouped, weights = prune(random_weights(rng, 6, 40), n, "optimal")
    window = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
    shapes = {"input_shape": (80, 1, 5), "output_shape": (6, 1, 5)}
    made = [
        (*random_layer(0, 70, 5, [0] * 3 + [3] * 5 + [6]), [0] * 3 + [3] * 5 + [6]),
        (*random_layer(1, 40, 3, [2] * 5 + [6], raw=True), [2] * 5 + [6]),
        (grouped, layer_of(weights, 5, rng, window=window, groups=2, **shapes), n),  # type: ignore[arg-type]
        (*random_layer(2, 8, 2, [5] * 6), [5] * 6),
    ]
    layers = [replace(layer, name=f"layer {number}") for number, (_, layer, _) in enumerate(made)]
    small = np.array([2.0**-33, 2.0**-34, 2.0**-35, 1e-42, 0, 1], np.float32)
    one = Quantization(np.float32(1), 3, False)
    layers[3] = replace(layers[3], weight_scales=small, input_quantization=one, output_quantization=one)
    allocation = {layer.name: np.array(n, np.int64) for layer, (*_, n) in zip(layers, made, strict=True)}
    return schedule([encoded for encoded, *_ in made], layers, config), allocation


def flipped(made: Program, memory: str, *places: tuple[int, int]) -> Program:
    """The program with these bits (word, bit) of an image flipped."""
    image = made.memories[memory].copy()
    for word, bit in places:
        image[word, bit // 8] ^= 1 << bit % 8
    return replace(made, memories={**made.memories, memory: image})


def field_of(config: ArrayConfig, bit: int) -> str:
    begin = 0
    for name, width in config.descriptor:
        if begin <= bit < begin + width:
            return name
        begin += width
    return "spare"


def bits(memory: Memory, count: int, seed: int) -> Iterator[tuple[int, int]]:
    """A sample of the bits of an image, (word, bit)."""
    size = memory.shape[1] * 8
    chosen = np.random.default_rng(seed).permutation(len(memory) * size)[:count]
    yield from ((int(each) // size, int(each) % size) for each in chosen)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_right_images_pass(config: ArrayConfig) -> None:
    made, allocation = program(config)
    errors = images.judge(made, allocation)
    assert not errors, str(errors[0])
    told = images.summary(errors, made)
    assert (told.verdict, told.undecoded, told.errors) == ("pass", (), ())
    assert told.words == {f"memory/{name}": len(memory) for name, memory in made.memories.items()}


# Without requantization there is no zero point and no clamp. A dense array reads no metadata, so no base of it.
UNREAD = {"zero", "low", "high"}


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_every_bit_of_a_descriptor_counts(config: ArrayConfig) -> None:
    """But for fields that the hardware does not read in such a layer."""
    made, allocation = program(config)
    for scheduled in made.layers[: 1 if config.map_words else 2]:
        number, missed, alone = scheduled.first + 1, set(), replace(made, layers=(scheduled,))
        for bit in range(0, config.descriptor_bits, 1 if config == CONFIG else 3):
            errors = images.judge(flipped(alone, "descriptor", (number, bit)), allocation)
            if not errors:
                missed.add(field_of(config, bit))
                continue
            assert {error.layer for error in errors} == {scheduled.layer.name}
            name = field_of(config, bit)
            if name == "hold":  # or what the next one fetches
                assert any(error.memory == "descriptor" and error.word in (number, number + 1) for error in errors)
            elif name != "channels" and (not name.endswith("_base") or name in ("activation_base", "output_base")):
                assert any((error.memory, error.word) == ("descriptor", number) for error in errors), errors[0]
            elif name == "channels":  # more channels than the block has indices, or fewer
                assert any(error.word == number or f"descriptor {number} reads" in error.text for error in errors)
        allowed = UNREAD if scheduled.layer.output_quantization is None else set()
        assert missed == allowed | (set() if config.element.encoded else {"metadata_base"})


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.mark.parametrize("config", CONFIGS[:1], ids=IDS[:1])
def test_bits_that_do_not_count_change_no_output(config: ArrayConfig, device: Path) -> None:
    """Of a sample of every image: all bits that are not judged flipped at once, and in RTL nothing changes."""
    require_engine("icarus")
    made, allocation = program(config)
    spoilt, counted = made, 0
    for seed, memory in enumerate(OPERANDS):
        unjudged = []
        for word, bit in bits(made.memories[memory], 80, seed):
            errors = images.judge(flipped(made, memory, (word, bit)), allocation)
            counted += bool(errors)
            if errors and memory != "index":  # channels of another block are also those of other operands
                assert {(error.memory, error.word) for error in errors} == {(memory, word)}, (word, bit, errors)
            unjudged += [] if errors else [(word, bit)]
        assert len(unjudged) < 80
        spoilt = flipped(spoilt, memory, *unjudged)
    assert counted > 160
    for first in (made.layers[1].first, made.layers[1].first + 1):  # a raw layer's zero point and clamp
        for name in UNREAD:
            end, begin = descriptor_slice(name)
            spoilt = flipped(spoilt, "descriptor", *((first, bit) for bit in range(begin, end)))
    simulator = ENGINES["icarus"].open(emit(config, device))
    for number, scheduled in enumerate(made.layers):
        work = job(replace(made, memories=spoilt.memories), number, random_codes(number, scheduled.layer))
        command = Command(scheduled.first, len(scheduled.blocks), 10**5)
        result = simulator.run(work.memories, command, {"output": scheduled.output_words})
        assert np.array_equal(result.memories["output"], work.want), scheduled.layer.name


@pytest.mark.parametrize(
    ("memory", "bit", "field"),
    [
        ("parameter", 0, "bias of lane 0 (channel 0)"),
        ("parameter", 32, "multiplier of lane 0 (channel 0)"),
        ("parameter", 63, "shift of lane 0 (channel 0)"),
        ("parameter", 64 + 40, "multiplier of lane 1 (channel 1)"),
        ("weight", 17, "array column 1, bit 1 (channel 1, weight 1)"),
        ("metadata", 8, "array column 1 (channel 1)"),
        ("index", 15, "lane 0"),
    ],
)
def test_the_word_and_the_field_are_named(memory: str, bit: int, field: str) -> None:
    made, allocation = program(CONFIG)
    (error, *_) = images.judge(flipped(made, memory, (0, bit)), allocation)
    assert (error.layer, error.memory, error.word, error.field) == ("layer 0", memory, 0, field)
    assert str(error).startswith(f"layer 'layer 0', memory/{memory}, word 0, {field}: ")


def test_missing_words_are_named() -> None:
    made, allocation = program(CONFIG)
    for memory in ("descriptor", *OPERANDS):
        short = replace(made, memories={**made.memories, memory: made.memories[memory][:-1]})
        errors = images.judge(short, allocation)
        assert errors and errors[0].layer == made.layers[-1].layer.name
    text = str(images.judge(replace(made, memories={**made.memories, "weight": made.memories["weight"][:5]}),
                            allocation)[0])  # fmt: skip
    assert text == "layer 'layer 0', memory/descriptor, word 0, weight_base: words 0 to 39, but memory 'weight' has 5"


def test_a_report_tells_the_first_error_of_each_memory() -> None:
    made, allocation = program(CONFIG)
    wrong = flipped(flipped(made, "parameter", (0, 0), (1, 0)), "weight", (0, 0))
    told = images.summary(images.judge(wrong, allocation), wrong)
    assert told.verdict == "fail" and len(told.errors) == 2
    assert [error.split(", ")[1:3] for error in told.errors] == [
        ["memory/parameter", "word 0"], ["memory/weight", "word 0"],
    ]  # fmt: skip


def scaled(*factors: float) -> ArrayLayer:
    """A layer with these requantization factors."""
    _, layer = random_layer(0, 8, 2, [0] * len(factors))
    one = Quantization(np.float32(1), 0, False)
    scales = np.array(factors, np.float32)
    return replace(layer, weight_scales=scales, input_quantization=one, output_quantization=one)


def test_the_factors_are_those_of_the_reference() -> None:
    """From the bits of the float32 factor, where the reference takes it apart by frexp."""
    some = np.exp2(np.random.default_rng(0).uniform(-36, 22.9, 200)).astype(np.float32)
    edges = np.array([0, 1e-45, 2.0**-126, 2.0**-35, 2.0**-34, 2.0**-34 * (1 - 2.0**-24), 1, 2.0**22, 0.1], np.float32)
    layer = scaled(*some, *edges, *np.nextafter(edges, np.float32(1)))
    for got, want in zip(images.factors(layer), reference.multipliers(layer), strict=True):
        assert np.array_equal(got, want)


def test_an_error_says_what_and_where() -> None:
    error = ImageError("index", 4, "lane 1", "fc", "channel 9 of 8 channels")
    assert str(error) == "layer 'fc', memory/index, word 4, lane 1: channel 9 of 8 channels"


@pytest.fixture(scope="module")
def tabled() -> OnChip:
    """A network with element-wise functions."""
    return on_chip("functions", ArrayConfig(2, 8, drain=2))[1]


def test_a_wrong_byte_of_a_table_is_found(tabled: OnChip) -> None:
    """By its word and code; bytes of a word beyond its eight are not looked at, and layers behind are judged right."""
    onchip = tabled
    assert not images.judge_on_chip(onchip, onchip)
    tables = [step for step in onchip.chain.steps if isinstance(step, PostOp) and step.table]
    image, step = onchip.memories["parameter"], tables[1]
    (base,) = (first for first in range(len(image) - 31) if image[first : first + 32, :8].tobytes() == step.table)
    for code in (-128, 5, 127):
        word, byte = divmod(code + 128, 8)
        wrong = image.copy()
        wrong[base + word, byte] ^= 4
        (error,) = images.judge_on_chip(replace(onchip, memories={**onchip.memories, "parameter": wrong}))
        right = step.table[code + 128]
        assert str(error) == (
            f"layer '{step.name}', network/parameter, word {base + word}, byte {byte} (code {code}): "
            f"{(right ^ 4) - 128} instead of {right - 128}"
        )
    wrong = image.copy()
    wrong[base : base + 33, 8:] = 255
    wrong[base + 32] = 255
    assert not images.judge_on_chip(replace(onchip, memories={**onchip.memories, "parameter": wrong}))
    last = onchip.regions[-1].step
    weights = onchip.memories["weight"].copy()
    weights[-1] ^= 255
    errors = images.judge_on_chip(replace(onchip, memories={**onchip.memories, "weight": weights}))
    layer = onchip.chain.steps[last]
    assert isinstance(layer, ChainLayer) and {error.layer for error in errors} == {layer.layer.name}


def test_a_wrong_byte_of_an_operands_table_is_found() -> None:
    """Of every table that an operation needs before its own sweep."""
    config = ArrayConfig(2, 8, drain=2)
    network, encoded = pruned(for_the_chip(chosen()), config.columns)
    linked = chain(network)
    onchip = assemble(linked, encoded, fitted(config, linked))
    assert not images.judge_on_chip(onchip, onchip)
    steps = [step for step in onchip.chain.steps if isinstance(step, PostOp) and step.filled]
    image = onchip.memories["parameter"]
    assert [len(step.filled) for step in steps] == [1, 1, 5, 1, 1, 2, 3]
    for name, table in [(step.name, table) for step in steps for table in step.filled]:
        places = [first for first in range(len(image) - 31) if image[first : first + 32, :8].tobytes() == table]
        wrong = image.copy()
        wrong[[place + 9 for place in places], 3] ^= 4
        errors = images.judge_on_chip(replace(onchip, memories={**onchip.memories, "parameter": wrong}))
        assert name in {error.layer for error in errors} and len(errors) == len(places)


@pytest.mark.parametrize("field", ["post", "fill", "through", "mirror", "parameter_count", "parameter_base"])
def test_a_descriptor_that_brings_another_table_is_found(tabled: OnChip, field: str) -> None:
    onchip = tabled
    number = onchip.ends[0]  # the first step's last descriptor is before it
    begin = descriptor_slice(field)[1]
    words = onchip.memories["descriptor"].copy()
    words[number, begin // 8] ^= 1 << begin % 8
    errors = images.judge_on_chip(replace(onchip, memories={**onchip.memories, "descriptor": words}))
    step = onchip.chain.steps[1]
    assert isinstance(step, PostOp) and {error.layer for error in errors} == {step.name}
    assert field == "parameter_base" or [(error.word, error.field) for error in errors] == [(number, field)]


def test_a_wrong_constant_of_a_products_weights_is_found() -> None:
    """Each metadata byte of a product of two maps, and a place that is none."""
    network, encoded = pruned(for_the_chip(float_attention(3, 1, 8)), 4)
    linked = chain(network)
    onchip = assemble(linked, encoded, fitted(ArrayConfig(4, 4, drain=2), linked))
    assert not images.judge_on_chip(onchip, onchip)
    (first, end), name = next(
        ((first, end), step.name)
        for step, first, end in zip(onchip.chain.steps, onchip.firsts, onchip.ends, strict=True)
        if isinstance(step, PostOp) and step.matrices
    )
    fields = images.decoded(onchip.memories["descriptor"][first:end], onchip.config.descriptor)
    block = int(np.flatnonzero((fields["operand"] == 1) & (fields["post"] == 0))[0])
    word = int(fields["metadata_base"][block])
    for column in range(int(fields["channels"][block])):
        metadata = onchip.memories["metadata"].copy()
        metadata[word, column] ^= 1 << column
        errors = images.judge_on_chip(replace(onchip, memories={**onchip.memories, "metadata": metadata}))
        assert {(error.memory, error.word, error.layer) for error in errors} == {("metadata", word, name)}
        assert errors[0].field == f"array column {column}" and errors[0].place == images.NETWORK
    short = {**onchip.memories, "metadata": onchip.memories["metadata"][:word]}
    errors = images.judge_on_chip(replace(onchip, memories=short))
    assert "metadata_base" in [error.field for error in errors if error.layer == name]
