"""The stored format: every legal group survives columns, bytes and back, and means what the formula says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.compression.encoding import (
    BBS,
    EncodedGroups,
    EncodedLayer,
    EncodedPart,
    bit_columns,
    bits_per_weight,
    decode,
    decode_layer,
    from_bit_columns,
    pack,
    unpack,
)
from flow.errors import FlowError

ALL_N = range(BBS.max_columns_pruned + 1)


@st.composite
def encoded_groups(draw: st.DrawFn) -> EncodedGroups:
    """Groups that decode to legal INT8, at every N, with the extremes of each field likely."""
    columns_pruned = draw(st.sampled_from(ALL_N))
    kept, redundant, constant = [], [], []
    for _ in range(draw(st.integers(0, 4))):
        r = draw(st.integers(0, BBS.max_redundant(columns_pruned)))
        d = draw(st.integers(-32, 31)) if columns_pruned else 0
        lowest, highest = -(1 << (7 - columns_pruned)), (1 << (7 - columns_pruned)) - 1
        step = 1 << (columns_pruned - r)
        legal = [s for s in range(lowest, highest + 1) if -128 <= s * step + d <= 127]
        kept.append(draw(st.lists(st.sampled_from(legal), min_size=32, max_size=32)))
        redundant.append(r)
        constant.append(d)
    rows = np.array(kept, np.int8).reshape(-1, 32)
    return EncodedGroups(columns_pruned, rows, np.array(redundant, np.uint8), np.array(constant, np.int8))


def same(left: EncodedGroups, right: EncodedGroups) -> bool:
    fields = ("columns_pruned", "kept", "redundant", "constant")
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in fields)


@pytest.mark.parametrize(("columns_pruned", "kept"), [(0, (-128, 127)), (3, (-16, 15)), (6, (-2, 1))])
def test_what_is_kept_has_the_bits_that_are_left(columns_pruned: int, kept: tuple[int, int]) -> None:
    assert BBS.kept_range(columns_pruned) == kept


@given(encoded_groups())
def test_decode_is_the_formula(groups: EncodedGroups) -> None:
    groups.check()
    values = decode(groups)
    assert values.dtype == np.int8 and values.shape == groups.kept.shape
    for row in range(groups.count):
        step = 2 ** (groups.columns_pruned - int(groups.redundant[row]))
        expected = [int(s) * step + int(groups.constant[row]) for s in groups.kept[row]]
        assert values[row].tolist() == expected


@given(encoded_groups())
def test_columns_round_trip_and_weigh_like_twos_complement(groups: EncodedGroups) -> None:
    columns = bit_columns(groups)
    count = 8 - groups.columns_pruned
    assert columns.shape == (groups.count, count, 32) and columns.dtype == np.bool_
    weights = [-(2 ** (count - 1))] + [2**place for place in range(count - 2, -1, -1)]
    rebuilt = sum(columns[:, place].astype(int) * weight for place, weight in enumerate(weights))
    assert np.array_equal(rebuilt, groups.kept)
    assert np.array_equal(from_bit_columns(columns), groups.kept)


@given(encoded_groups())
def test_bytes_round_trip(groups: EncodedGroups) -> None:
    data = pack(groups)
    assert len(data) == groups.count * (4 * (8 - groups.columns_pruned) + 1)
    restored = unpack(data, groups.columns_pruned)
    restored.check()
    assert same(restored, groups)


def test_packed_layout() -> None:
    kept = np.zeros((1, 32), np.int8)
    kept[0, 0], kept[0, 9] = -8, 3  # N=4: 1000 and 0011
    groups = EncodedGroups(4, kept, np.array([2], np.uint8), np.array([-3], np.int8))
    assert pack(groups).hex() == "01000000" + "00000000" + "00020000" + "00020000" + "bd"  # 10 111101


@pytest.mark.parametrize("columns_pruned", ALL_N)
def test_full_groups_take_the_stated_bits(columns_pruned: int) -> None:
    stored = BBS.group_bytes(columns_pruned) * 8 / 32
    assert stored == 8 - columns_pruned + 0.25
    assert bits_per_weight(columns_pruned) == (stored if columns_pruned else 8.0)


def test_layer_puts_channels_back_in_order() -> None:
    rng = np.random.default_rng(3)
    weights = rng.integers(-128, 128, (5, 40)).astype(np.int8)
    padded = np.zeros((5, 64), np.int8)
    padded[:, :40] = weights
    nothing = np.zeros(6, np.uint8), np.zeros(6, np.int8)
    channels = np.array([0, 2, 3])
    whole = EncodedPart(channels, EncodedGroups(0, padded[channels].reshape(-1, 32), *nothing))
    halves = padded[[1, 4]].reshape(-1, 32) >> 1
    rest = EncodedPart(np.array([1, 4]), EncodedGroups(1, halves, nothing[0][:4], nothing[1][:4]))
    layer = EncodedLayer(40, np.array([0, 1, 0, 0, 1]), (whole, rest))
    layer.check()
    decoded = decode_layer(layer)
    assert np.array_equal(decoded[[0, 2, 3]], weights[[0, 2, 3]])
    assert np.array_equal(decoded[[1, 4]], weights[[1, 4]] & ~1)


@pytest.mark.parametrize(
    ("columns_pruned", "kept", "redundant", "constant"),
    [(4, 8, 0, 0), (4, 0, 4, 0), (1, 0, 2, 0), (4, 0, 0, 32), (4, 7, 0, 31), (0, 0, 0, 1), (0, 0, 1, 0)],
    ids=["kept", "r over 3", "r over N", "constant", "over 127", "N=0 with d", "N=0 with r"],
)
def test_check_refuses_what_the_format_cannot_hold(
    columns_pruned: int, kept: int, redundant: int, constant: int
) -> None:
    groups = EncodedGroups(
        columns_pruned,
        np.full((1, 32), kept, np.int8),
        np.array([redundant], np.uint8),
        np.array([constant], np.int8),
    )
    with pytest.raises(AssertionError):
        groups.check()


def test_errors_name_the_value() -> None:
    with pytest.raises(FlowError, match=r"0\.\.6, got 7"):
        unpack(b"", 7)
    with pytest.raises(FlowError, match="17 bytes each, got 18 bytes"):
        unpack(bytes(18), 4)
    with pytest.raises(FlowError, match="got -1"):
        bits_per_weight(-1)
    with pytest.raises(FlowError, match=r"got 2\.5; choose a whole number"):
        bits_per_weight(2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["kept", "redundant", "constant"])
def test_check_refuses_other_types(field: str) -> None:
    groups = EncodedGroups(4, np.zeros((1, 32), np.int8), np.zeros(1, np.uint8), np.zeros(1, np.int8))
    groups.check()
    with pytest.raises(AssertionError):
        replace(groups, **{field: getattr(groups, field).astype(np.int16)}).check()
