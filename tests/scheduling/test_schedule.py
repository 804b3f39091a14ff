"""Schedule: which channels stand together, what lies in the memories, and what does not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.hardware.fields import DESCRIPTOR, DESCRIPTOR_BITS
from flow.scheduling.blocks import Bytes, channel_blocks
from flow.scheduling.order import layout
from flow.scheduling.schedule import schedule
from flow.scheduling.words import (
    activation_words,
    channel_parameters,
    output_rows,
    pack_fields,
    pack_outputs,
    parameter_words,
    weight_words,
)
from tests.helpers.layers import layer_of, random_layer, random_weights

CONFIG = ArrayConfig(2, 3, drain=2)
MIXED = (4, 0, 2, 4, 4, 0, 4, 4)


def fields(word: Bytes) -> dict[str, int]:
    value, made = int.from_bytes(word.tobytes(), "little"), {}
    for name, width in DESCRIPTOR:
        made[name] = value & ((1 << width) - 1)
        value >>= width
    return made


def test_fields_that_do_not_fit_are_refused() -> None:
    layout_of_two = (("a", 3), ("b", 5))
    assert pack_fields({"a": 5, "b": 9}, layout_of_two, 8, "l").tolist() == [9 << 3 | 5]
    with pytest.raises(FlowError, match="layer 'l': a = 8 needs more than the hardware's 3 bits"):
        pack_fields({"a": 8, "b": 9}, layout_of_two, 8, "l")


def test_channels_of_one_n_stand_together() -> None:
    _, layer = random_layer(0, 20, 5, MIXED)
    blocks = channel_blocks(layer, np.array(MIXED), CONFIG)
    assert [(b.columns, b.channels.tolist()) for b in blocks] == [(8, [1, 5]), (6, [2]), (4, [0, 3, 4]), (4, [6, 7])]
    assert all((b.steps, b.tiles, b.resident) == (2, 3, True) for b in blocks)


def test_weights_that_layers_share_are_stored_once() -> None:
    """Each layer's descriptors lead to them, and to parameters of their own; words of other layers stay apart."""
    stored, layer = random_layer(0, 70, 5, MIXED)
    other = replace(layer, name="again", bias=layer.bias + 1)
    for config in (CONFIG, replace(CONFIG, map_words=64)):
        alone, both = schedule([stored], [layer], config), schedule([stored, stored], [layer, other], config)
        for name in ("weight", "metadata"):
            assert np.array_equal(both.memories[name], alone.memories[name])
        half = len(both.memories["descriptor"]) // 2
        words = [fields(word) for word in both.memories["descriptor"]]
        for first, second in zip(words[:half], words[half:], strict=True):
            assert first["weight_base"] == second["weight_base"] and first["parameter_base"] < second["parameter_base"]
    apart = schedule([stored, stored], [layer, replace(other, weight_tensor="other")], CONFIG)
    assert len(apart.memories["weight"]) == 2 * len(both.memories["weight"])


def test_blocks_stay_within_their_group() -> None:
    layer = replace(layer_of(random_weights(np.random.default_rng(0), 8, 9), 4, np.random.default_rng(0)), groups=4)
    blocks = channel_blocks(layer, np.array(MIXED), CONFIG)
    assert [(b.group, b.channels.tolist()) for b in blocks] == [
        (0, [1]), (0, [0]), (1, [2]), (1, [3]), (2, [5]), (2, [4]), (3, [6, 7]),
    ]  # fmt: skip


@pytest.mark.parametrize("config", [replace(CONFIG, weight_depth=8), replace(CONFIG, metadata_depth=4)])
def test_weights_larger_than_their_buffer_pass_once_per_tile(config: ArrayConfig) -> None:
    _, layer = random_layer(0, 160, 5, (4, 4))
    blocks = channel_blocks(layer, np.array([4, 4]), config)
    assert [(b.first_tile, b.tiles, b.resident) for b in blocks] == [(0, 1, False), (1, 1, False), (2, 1, False)]


def test_descriptors_point_into_the_memories() -> None:
    """Every job's words begin where the job before ended, and hold that block's weights and parameters."""
    made = [random_layer(seed, 20 + 16 * seed, 5, MIXED, raw=seed == 1) for seed in range(3)]
    layers = [replace(layer, name=f"layer{i}") for i, (_, layer) in enumerate(made)]
    program = schedule([encoded for encoded, _ in made], layers, CONFIG)
    used = dict.fromkeys(("weight", "metadata", "parameter"), 0)
    for (encoded, _), scheduled in zip(made, program.layers, strict=True):
        layer, planes = scheduled.layer, 1 if scheduled.layer.output_quantization else 4
        windows = np.zeros((layer.groups, layer.positions, layer.reduction), np.int8)
        beats = len(activation_words(scheduled, windows, CONFIG)) // scheduled.tiles  # of one position tile
        given = 0
        for number, block in enumerate(scheduled.blocks, scheduled.first):
            word = fields(program.memories["descriptor"][number])
            images = dict(zip(("weight", "metadata"), weight_words(block, layer, encoded, CONFIG), strict=True))
            images["parameter"], index = parameter_words(block, channel_parameters(layer), CONFIG)
            for name, image in images.items():
                base = word[f"{name}_base"]
                assert (base, word[f"{name}_count"]) == (used[name], len(image))
                assert np.array_equal(program.memories[name][base : base + len(image)], image)
                used[name] += len(image)
            assert index.view(np.uint16).reshape(-1)[: len(block.channels)].tolist() == block.channels.tolist()
            assert (word["tiles"], word["steps"], word["columns"]) == (block.tiles, block.steps, block.columns)
            assert (word["channels"], word["resident"]) == (len(block.channels), block.resident)
            assert word["activation_base"] == (block.first_tile + (block.tiles if word["ahead"] else 0)) * beats
            assert word["activation_count"] == (block.ahead if given else block.tiles) * beats
            given = word["hold"] or word["ahead"]
            assert word["output_base"] == block.first_tile * planes * layer.channels
            assert (word["tile_stride"], word["plane_stride"]) == (planes * layer.channels, layer.channels)
            assert word["raw"] == int(layer.output_quantization is None)
            assert (word["low"], word["high"]) == (layer.clamp[0] + 128, layer.clamp[1] + 128)
            if layer.output_quantization:
                assert word["zero"] == layer.output_quantization.zero_point + 128
    assert used == {name: len(program.memories[name]) for name in used}
    assert sum(width for _, width in DESCRIPTOR) <= DESCRIPTOR_BITS


def test_weight_words_hold_the_bit_columns() -> None:
    """Read back by the rule of the docstring: step, bit column, array column, weight."""
    encoded, layer = random_layer(3, 40, 1, (4, 4))
    block = channel_blocks(layer, np.array([4, 4]), CONFIG)[0]
    words, metadata = weight_words(block, layer, encoded, CONFIG)
    bits = np.unpackbits(words, axis=1, bitorder="little").reshape(3, 4, 3, 16)
    assert not bits[:, :, 2].any()  # no channel there
    weights = np.zeros((2, 48), np.int64)
    for channel in range(2):
        values = (bits[:, :, channel] * np.array([-8, 4, 2, 1])[None, :, None]).sum(axis=1).reshape(-1)
        octets = metadata[:, channel].astype(np.int64)
        redundant, constant = octets >> 6, (octets & 63) - 64 * (octets >> 5 & 1)
        group = np.arange(48) // 32
        weights[channel] = (values << (4 - redundant)[group]) + constant[group]
    assert np.array_equal(weights[:, :40], layer.weights)


def test_activation_words_hold_the_windows() -> None:
    _, layer = random_layer(3, 20, 3, (0,))
    scheduled = layout([layer], {"layer": np.zeros(1, np.int64)}, CONFIG)[0]
    windows = np.random.default_rng(0).integers(-128, 128, (1, 3, 20)).astype(np.int8)
    words = activation_words(scheduled, windows, CONFIG).reshape(2, 4, 2, 8)  # tile, eight weights, row, byte
    rows = words.transpose(0, 2, 1, 3).reshape(4, 32).astype(np.int64)
    assert np.array_equal(rows[:3, :20] - 128, windows[0])
    assert not rows[3].any() and not rows[:, 20:].any()


@pytest.mark.parametrize("raw", [False, True])
def test_output_rows_invert_output_words(raw: bool) -> None:
    _, layer = random_layer(0, 9, 7, (0,) * 5, raw)
    scheduled = layout([layer], {"layer": np.zeros(5, np.int64)}, CONFIG)[0]
    rng = np.random.default_rng(1)
    rows = rng.integers(-(2**31), 2**31, (8, 5)).astype(np.int32) if raw else random_weights(rng, 8, 5)
    memory = pack_outputs(scheduled, rows, CONFIG)
    assert memory.shape == (scheduled.output_words, CONFIG.rows)
    assert np.array_equal(output_rows(scheduled, memory, CONFIG), rows)


def test_ideal_cycles_count_columns_alone() -> None:
    _, layer = random_layer(0, 20, 5, MIXED)
    scheduled = layout([layer], {"layer": np.array(MIXED)}, CONFIG)[0]
    assert scheduled.ideal_cycles == 3 * 2 * (8 + 6 + 4 + 4)  # tiles, steps, columns of the four blocks


def test_too_many_descriptors_are_refused() -> None:
    _, layer = random_layer(0, 160, 2, (0,))
    layer = replace(layer, input_shape=(140000, 160), output_shape=(140000, 1))
    with pytest.raises(FlowError, match=r"needs more than 65,535 descriptors on a 2x3 array; use a larger array"):
        layout([layer], {"layer": np.zeros(1, np.int64)}, replace(CONFIG, weight_depth=16))
