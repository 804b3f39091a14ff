"""Pruning against an explicit search, and against the outputs of the authors' code where those are legal."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flow.compression.encoding import BBS, EncodedGroups, decode, decode_layer, pack, unpack
from flow.compression.prune import METHODS, optimal, prune, rounded_averaging, to_groups, zero_point_shifting
from flow.errors import FlowError

ALL_N = range(BBS.max_columns_pruned + 1)
STORED_CONSTANTS = range(-32, 32)


def levels(columns_pruned: int, r: int, d: int) -> NDArray[Any]:
    kept = np.arange(-(2 ** (7 - columns_pruned)), 2 ** (7 - columns_pruned))
    values = kept * 2 ** (columns_pruned - r) + d
    return np.asarray(values[(values >= -128) & (values <= 127)])


def brute_force(groups: NDArray[Any], columns_pruned: int, constants: Iterable[int]) -> NDArray[Any]:
    """Smallest squared error of each group: every r and d, every level, no shortcut."""
    best: NDArray[np.int64] = np.full(len(groups), np.iinfo(np.int64).max)
    for r in range(min(3, columns_pruned) + 1):
        for d in constants if columns_pruned else [0]:
            distance = groups[:, :, None].astype(np.int64) - levels(columns_pruned, r, d)
            best = np.minimum(best, (distance**2).min(axis=2).sum(axis=1))
    return best


def squared_error(groups: NDArray[Any], encoded: EncodedGroups) -> NDArray[Any]:
    return np.asarray(((decode(encoded).astype(np.int64) - groups) ** 2).sum(axis=1))


def sample_groups() -> NDArray[Any]:
    """Extremes, constants, ramps, narrow and wide distributions."""
    rng = np.random.default_rng(7)
    rows = [np.full(32, value) for value in (-128, -127, -65, -64, -33, -1, 0, 1, 31, 32, 63, 64, 100, 127)]
    rows += [np.where(np.arange(32) % 2, 127, -128), np.where(np.arange(32) < 31, 0, 127)]
    rows += [np.where(np.arange(32) < 31, 0, -128), np.linspace(-128, 127, 32), np.arange(32)]
    rows += list(rng.integers(-128, 128, (12, 32)))
    rows += [rng.normal(mean, sigma, 32) for mean in (0, 20, -90) for sigma in (2, 8, 16, 40)]
    return np.asarray(np.clip(np.rint(np.array(rows)), -128, 127).astype(np.int8))


@pytest.mark.parametrize("columns_pruned", ALL_N)
def test_optimum_equals_brute_force(columns_pruned: int) -> None:
    groups = sample_groups()
    encoded = optimal(groups, columns_pruned)
    encoded.check()
    expected = brute_force(groups, columns_pruned, STORED_CONSTANTS)
    assert np.array_equal(squared_error(groups, encoded), expected)


@settings(max_examples=30)
@given(st.sampled_from(ALL_N), st.lists(st.integers(-128, 127), min_size=32, max_size=32))
def test_optimum_equals_brute_force_on_any_group(columns_pruned: int, weights: list[int]) -> None:
    groups = np.array([weights], np.int8)
    expected = brute_force(groups, columns_pruned, STORED_CONSTANTS)
    assert np.array_equal(squared_error(groups, optimal(groups, columns_pruned)), expected)


@settings(max_examples=60)
@given(
    st.sampled_from(ALL_N),
    st.lists(st.sampled_from([-128, 0, 127]) | st.integers(-128, 127), min_size=32, max_size=32),
    st.lists(st.booleans(), min_size=32, max_size=32),
)
def test_optimum_ignores_padding(columns_pruned: int, weights: list[int], counted: list[bool]) -> None:
    group, valid = np.array([weights], np.int8), np.array([counted])
    encoded = optimal(group, columns_pruned, valid)
    encoded.check()
    distance = decode(encoded).astype(int)[valid] - group[valid]
    assert (distance**2).sum() == brute_force(group[:, valid[0]], columns_pruned, STORED_CONSTANTS)[0]
    zeros = optimal(np.where(valid, group, 0).astype(np.int8), columns_pruned, valid)
    assert np.array_equal(decode(zeros)[valid], decode(encoded)[valid])


@settings(max_examples=60)
@given(st.data(), st.sampled_from(sorted(METHODS)), st.integers(1, 4), st.integers(1, 70))
def test_bytes_hold_pruned_weights(data: st.DataObject, method: str, channels: int, reduction: int) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1), "seed")
    spread = data.draw(st.sampled_from([1, 10, 40, 400]), "spread")
    drawn = np.random.default_rng(seed).normal(0, spread, (channels, reduction))
    weights = drawn.round().clip(-128, 127).astype(np.int8)
    wanted = data.draw(st.lists(st.sampled_from(ALL_N), min_size=channels, max_size=channels), "N")
    layer, pruned = prune(weights, np.array(wanted), method)
    layer.check()
    for part in layer.parts:
        restored = decode(unpack(pack(part.groups), part.groups.columns_pruned))
        rows = restored.reshape(part.channels.size, -1)[:, :reduction]
        assert np.array_equal(rows, pruned[part.channels])


@pytest.mark.parametrize("columns_pruned", ALL_N)
def test_optimum_prefers_small_r_then_small_constant(columns_pruned: int) -> None:
    groups = sample_groups()
    encoded = optimal(groups, columns_pruned)
    for row, group in enumerate(groups):
        error = squared_error(groups, encoded)[row]
        chosen = int(encoded.redundant[row]), abs(int(encoded.constant[row]))
        for r in range(min(3, columns_pruned) + 1):
            for d in STORED_CONSTANTS if columns_pruned else [0]:
                distance = group[:, None].astype(np.int64) - levels(columns_pruned, r, d)
                if (distance**2).min(axis=1).sum() == error:
                    assert chosen <= (r, abs(d))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("columns_pruned", ALL_N)
def test_every_method_is_encodable_and_no_better_than_the_optimum(columns_pruned: int, method: str) -> None:
    uniform = np.random.default_rng(8).integers(-128, 128, (500, 32), np.int8)
    groups = np.concatenate([sample_groups(), uniform])
    encoded = METHODS[method](groups, columns_pruned, None)
    encoded.check()
    best = squared_error(groups, optimal(groups, columns_pruned))
    assert (best <= squared_error(groups, encoded)).all()
    if columns_pruned == 0:
        assert np.array_equal(decode(encoded), groups)


@pytest.mark.parametrize("columns_pruned", range(1, 7))
def test_rounded_averaging_keeps_the_top_bits(columns_pruned: int) -> None:
    groups = np.concatenate([sample_groups(), np.array([[-70] * 16 + [60] * 16], np.int8)])
    encoded = rounded_averaging(groups, columns_pruned)
    encoded.check()
    for row, group in enumerate(groups.astype(int)):
        r = 0
        while r < min(3, columns_pruned) and -(64 >> r) <= group.min() and group.max() < 64 >> r:
            r += 1
        k = columns_pruned - r
        assert encoded.redundant[row] == r
        top, mean = group >> k, round((group % 2**k).mean())
        if mean > 31 and (top == 1).any():  # N=6: no d says 32..63, and S has no room for one more
            mean = 31
        assert np.array_equal(decode(encoded)[row], top * 2**k + mean)
        if mean <= 31:
            assert np.array_equal(encoded.kept[row], top) and encoded.constant[row] == mean


@pytest.mark.parametrize("columns_pruned", range(1, 7))
def test_zero_point_shifting_uses_the_shifted_groups_redundant_columns(columns_pruned: int) -> None:
    groups = sample_groups()
    encoded = zero_point_shifting(groups, columns_pruned)
    for row, group in enumerate(groups.astype(int)):
        errors = {}
        for d in STORED_CONSTANTS:
            shifted = np.clip(group - d, -128, 127)
            r = 0
            while r < min(3, columns_pruned) and -(64 >> r) <= shifted.min() and shifted.max() < 64 >> r:
                r += 1
            distance = group[:, None] - levels(columns_pruned, r, d)
            errors[d] = r, int((distance**2).min(axis=1).sum())
        r, error = errors[int(encoded.constant[row])]
        assert encoded.redundant[row] == r
        assert squared_error(groups, encoded)[row] == error == min(e for _, e in errors.values())


def test_ties_are_balanced() -> None:
    # The ends are levels of (r, d) = (0, 0) at N=2, which they pin; every 2 is halfway between 0 and 4.
    group = np.concatenate([np.tile([-128, 124], 14), np.full(4, 2)]).astype(np.int8)[None]
    encoded = optimal(group, 2)
    assert (encoded.redundant[0], encoded.constant[0]) == (0, 0)
    assert sorted(decode(encoded)[0, 28:].tolist()) == [0, 0, 4, 4]
    assert int((decode(encoded).astype(int) - group).sum()) == 0


@pytest.mark.parametrize("columns_pruned", range(1, 7))
def test_no_other_rounding_of_ties_brings_the_error_sum_nearer_to_zero(columns_pruned: int) -> None:
    groups = np.random.default_rng(9).integers(-128, 128, (300, 32), np.int8)
    encoded = optimal(groups, columns_pruned)
    values = decode(encoded).astype(int)
    movable = 0
    for group, row, r, d in zip(groups.astype(int), values, encoded.redundant, encoded.constant, strict=True):
        step, error_sum = 2 ** (columns_pruned - int(r)), (row - group).sum()
        legal = set(levels(columns_pruned, int(r), int(d)).tolist())
        other = row - np.sign(row - group) * step
        tie = (2 * abs(row - group) == step) & np.array([int(value) in legal for value in other])
        movable += tie.sum()
        for change in np.unique((other - row)[tie]):
            assert abs(error_sum) <= abs(error_sum + change)
    assert movable > 100 or columns_pruned > 4


@pytest.mark.parametrize("method", METHODS)
def test_padding_has_no_influence(method: str) -> None:
    rng = np.random.default_rng(10)
    weights = rng.integers(-20, 120, (60, 40), np.int8)  # uniform: many ties
    groups, valid = to_groups(weights)
    assert groups.shape == (120, 32) and valid.sum() == weights.size
    plain = METHODS[method](groups, 4, valid)
    for mask in (valid, rng.random(groups.shape) < 0.7):  # at the end, as layers have it, and anywhere
        noise = np.where(mask, groups, rng.integers(-128, 128, groups.shape, np.int8)).astype(np.int8)
        quiet, noisy = (METHODS[method](content, 4, mask) for content in (groups, noise))
        assert np.array_equal(quiet.constant, noisy.constant)
        assert np.array_equal(quiet.redundant, noisy.redundant)
        assert np.array_equal(decode(quiet)[mask], decode(noisy)[mask])
    # The last groups' 8 weights choose what they would four times over: padding does not dilute their mean.
    repeated = METHODS[method](np.tile(groups[1::2, :8], 4), 4, None)
    assert np.array_equal(plain.constant[1::2], repeated.constant)
    assert np.array_equal(plain.redundant[1::2], repeated.redundant)
    if method == "optimal":
        for row in range(1, 12, 2):  # the 8 weights of a channel's last group, searched alone
            expected = brute_force(groups[row : row + 1, :8], 4, STORED_CONSTANTS)
            assert ((decode(plain)[row, :8].astype(int) - groups[row, :8]) ** 2).sum() == expected[0]


@pytest.mark.parametrize("method", METHODS)
def test_prune_gives_every_channel_its_own_columns(method: str) -> None:
    rng = np.random.default_rng(11)
    weights = rng.integers(-128, 128, (9, 45), np.int8)
    wanted = np.array([4, 0, 2, 4, 6, 0, 0, 2, 4])
    layer, pruned = prune(weights, wanted, method)
    layer.check()
    assert [part.groups.columns_pruned for part in layer.parts] == [0, 2, 4, 6]
    assert np.array_equal(layer.columns_pruned, wanted)
    assert pruned.dtype == np.int8 and np.array_equal(decode_layer(layer), pruned)
    assert np.array_equal(pruned[wanted == 0], weights[wanted == 0])
    for channel in range(9):
        alone = prune(weights[channel : channel + 1], wanted[channel : channel + 1], method)[1]
        assert np.array_equal(alone[0], pruned[channel])


def test_more_groups_than_a_chunk() -> None:
    groups = np.random.default_rng(12).normal(0, 30, (9000, 32)).round().clip(-128, 127).astype(np.int8)
    for method in METHODS.values():
        whole, tail = method(groups, 4, None), method(groups[8999:], 4, None)
        assert whole.count == 9000
        assert np.array_equal(decode(whole)[8999:], decode(tail))
        assert method(groups[:0], 4, None).count == 0


def test_errors_name_the_value_and_the_layer() -> None:
    weights = np.zeros((2, 32), np.int8)
    with pytest.raises(FlowError, match="'bitwave' for layer 'conv1'; choose one of rounded-averaging, zero"):
        prune(weights, np.array([0, 2]), "bitwave", "conv1")
    with pytest.raises(FlowError, match=r"0\.\.6, got 7 in layer 'conv1'"):
        prune(weights, np.array([0, 7]), "optimal", "conv1")
    with pytest.raises(FlowError, match=r"got 2\.5 in layer 'conv1'; choose a whole number"):
        prune(weights, np.array([0, 2.5]), "optimal", "conv1")
    with pytest.raises(FlowError, match=r"2 channels, got shape \(3,\)"):
        prune(weights, np.array([0, 2, 2]))
    for method in METHODS.values():
        with pytest.raises(FlowError, match="got -1"):
            method(weights, -1, None)


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    """Outputs of the authors' published code and of a brute force; constants there are c = -d in -32..31."""
    folder = os.environ.get("BBS_DATA")
    if not folder or not (Path(folder) / "golden.npz").is_file():
        pytest.skip("golden vectors: set BBS_DATA to the folder that holds golden.npz")
    with np.load(Path(folder) / "golden.npz") as stored:
        return {key: stored[key] for key in stored.files if key.startswith("g32_")}


def storable(values: NDArray[Any], columns_pruned: int) -> NDArray[Any]:
    """Bool [groups]: legal INT8, and all levels of one (r, d). The authors' d go to 32, ours to 31."""
    legal = ((values >= -128) & (values <= 127)).all(axis=1)
    return np.asarray(legal & (brute_force(values, columns_pruned, STORED_CONSTANTS) == 0))


@pytest.mark.parametrize("columns_pruned", range(1, 7))
def test_golden_optimum(golden: dict[str, Any], columns_pruned: int) -> None:
    """The golden search takes d = -c in -31..32, the format -32..31: only users of an end may differ."""
    groups, expected = golden["g32_w"], golden[f"g32_opt_sse_n{columns_pruned}"]
    assert np.array_equal(brute_force(groups, columns_pruned, range(-31, 33)), expected)
    encoded = optimal(groups, columns_pruned)
    error = squared_error(groups, encoded)
    assert np.array_equal(error, brute_force(groups, columns_pruned, STORED_CONSTANTS))
    inside = (encoded.constant != -32) & (golden[f"g32_opt_c_n{columns_pruned}"] != -32)
    assert inside.sum() >= 240
    assert np.array_equal(error[inside], expected[inside])


@pytest.mark.parametrize("columns_pruned", range(1, 7))
def test_golden_rounded_averaging(golden: dict[str, Any], columns_pruned: int) -> None:
    """Equal wherever the authors' output can be stored."""
    encoded, theirs = rounded_averaging(golden["g32_w"], columns_pruned), golden[f"g32_ra_n{columns_pruned}"]
    fits = storable(theirs, columns_pruned)
    assert fits.all() if columns_pruned < 6 else fits.sum() > 200
    assert np.array_equal(decode(encoded)[fits], theirs[fits])


@pytest.mark.parametrize("columns_pruned", range(1, 7))
def test_golden_zero_point_shifting(golden: dict[str, Any], columns_pruned: int) -> None:
    """Never worse than the authors' output where it can be stored, mostly equal for small N."""
    groups = golden["g32_w"]
    legal = storable(golden[f"g32_zps_n{columns_pruned}"], columns_pruned)
    theirs = golden[f"g32_zps_sse_n{columns_pruned}"]
    ours = squared_error(groups, zero_point_shifting(groups, columns_pruned))
    assert legal.sum() >= 240
    assert (ours[legal] <= theirs[legal]).all()
    if columns_pruned <= 3:
        assert (ours[legal] == theirs[legal]).mean() > 0.8
