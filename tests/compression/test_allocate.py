"""Allocation of pruned columns to channels: algorithm 2 on layers made for the purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.compression.allocate import PRESETS, allocate, average_bits, preset
from flow.compression.encoding import bits_per_weight
from flow.compression.prune import METHODS
from flow.errors import FlowError
from flow.network.model import ArrayLayer, Quantization


def layer(name: str, scales: NDArray[Any], reduction: int = 64) -> ArrayLayer:
    channels = scales.size
    return ArrayLayer(
        name=name,
        op="MatMul",
        input="x",
        output="y",
        weight_tensor=f"{name}.weights",
        weights=np.ones((channels, reduction), np.int8),
        weight_scales=scales.astype(np.float32),
        bias=np.zeros(channels, np.int32),
        input_quantization=Quantization(np.float32(1), 0, False),
        output_quantization=None,
        clamp=(-128, 127),
        input_shape=(reduction,),
        output_shape=(channels,),
    )


def test_most_sensitive_channels_of_the_whole_network_stay_whole() -> None:
    first, second = layer("a", np.arange(1.0, 101)), layer("b", np.arange(0.001, 0.1, 0.001)[:60])
    allocation = allocate([first, second], 4, 0.2, channels_parallel=8)
    # 20 % of 160 channels are 32, all of the first layer, already a multiple of 8: its 32 largest scales.
    assert np.array_equal(np.flatnonzero(allocation["a"] == 0), np.arange(68, 100))
    assert (allocation["b"] == 4).all()


def test_each_layer_rounds_up_to_whole_blocks_but_not_beyond_its_channels() -> None:
    scales = np.full(64, 1.0)
    scales[5] = 9.0
    many, few = layer("many", scales), layer("few", np.array([1.0, 2.0, 8.0]))
    allocation = allocate([many, few], 2, 2 / 67, channels_parallel=32)
    assert (allocation["many"] == 0).sum() == 32 and allocation["many"][5] == 0
    assert not allocation["few"].any()
    assert all(columns.dtype == np.int64 for columns in allocation.values())


def test_rank_not_position_decides() -> None:
    scales = np.random.default_rng(4).permutation(40).astype(float)
    whole = allocate([layer("a", scales)], 3, 0.25, channels_parallel=1)["a"] == 0
    assert np.array_equal(np.sort(scales[whole]), np.arange(30, 40))


@pytest.mark.parametrize(("sensitive", "expected"), [(0.0, 4), (1.0, 0)])
def test_none_and_all(sensitive: float, expected: int) -> None:
    allocation = allocate([layer("a", np.arange(5.0)), layer("b", np.arange(7.0))], 4, sensitive)
    assert all((columns == expected).all() for columns in allocation.values())
    assert allocate([], 4, sensitive) == {}


def test_average_bits_weighs_layers_by_their_weights() -> None:
    layers = [layer("a", np.ones(4), 64), layer("b", np.ones(2), 32)]
    allocation = {"a": np.array([0, 4, 4, 4]), "b": np.array([2, 2])}
    expected = (64 * 8 + 3 * 64 * bits_per_weight(4) + 2 * 32 * bits_per_weight(2)) / 320
    assert average_bits(layers, allocation) == pytest.approx(expected)


def test_average_bits_counts_the_metadata_of_a_part_filled_group() -> None:
    assert average_bits([layer("a", np.ones(1), 40)], {"a": np.array([4])}) == (40 * 4 + 2 * 8) / 40


def test_presets_are_the_papers() -> None:
    conservative, moderate = preset("conservative"), preset("moderate")
    assert (conservative.sensitive, conservative.columns_pruned) == (0.10, 2)
    assert (moderate.sensitive, moderate.columns_pruned) == (0.20, 4)
    assert all(known.method in METHODS for known in PRESETS.values())


def test_errors_name_the_value() -> None:
    layers = [layer("a", np.ones(4))]
    with pytest.raises(FlowError, match="'bold'; choose one of conservative, moderate"):
        preset("bold")
    with pytest.raises(FlowError, match=r"0\.\.1, got 20; write"):
        allocate(layers, 4, 20)
    with pytest.raises(FlowError, match="got nan"):
        allocate(layers, 4, float("nan"))
    with pytest.raises(FlowError, match=r"got -0\.1"):
        allocate(layers, 4, -0.1)
    with pytest.raises(FlowError, match="got 9"):
        allocate(layers, 9, 0.1)
    with pytest.raises(FlowError, match="got 0"):
        allocate(layers, 4, 0.1, channels_parallel=0)
