"""Budgets and refinement: what they promise in numbers, on layers small enough to search by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from flow.compression import influence, prune, tune
from flow.compression import refine as refinement
from flow.compression.allocate import Allocation, average_bits, channel_bits
from flow.compression.budget import Bits, bits_limit, least_bits, most, spend, total, unpruned
from flow.compression.calibration import Moments, calibrate, calibrate_beside, moments, together
from flow.compression.choice import DEFAULT_BITS, pruning
from flow.compression.compress import encode
from flow.compression.effort import EFFORTS
from flow.compression.refine import REFINEMENTS, Refined, error_curves, refine
from flow.errors import FlowError
from flow.frontend import quantize
from flow.frontend.int8 import cut, rewrite
from flow.hardware.config import ArrayConfig
from flow.network import answers, reference
from flow.network.model import ArrayLayer, Network, by_weights
from flow.network.run import run_network
from flow.network.samples import Samples
from flow.onnxtools import runtime
from flow.scheduling.timing import layer_by_layer
from tests.helpers import networks
from tests.helpers.layers import layer_of, random_weights
from tests.helpers.nets import float_net, residual_net, samples
from tests.helpers.networks import quantized, sharing

ALL = frozenset(REFINEMENTS)


def gaussian_layer(seed: int, channels: int, reduction: int) -> ArrayLayer:
    rng = np.random.default_rng(seed)
    weights = np.clip(np.rint(rng.normal(0, 30, (channels, reduction))), -128, 127).astype(np.int8)
    return layer_of(weights, 400, rng)


def correlated(seed: int, layer: ArrayLayer) -> NDArray[np.int8]:
    """Inputs int8 [1, positions, reduction] with few degrees of freedom and a mean, as real layers have."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(layer.positions, 6)) @ rng.normal(size=(6, layer.reduction)) * 15
    noisy = mixed + rng.normal(0, 4, mixed.shape) + 20
    return np.clip(np.rint(noisy), -128, 127).astype(np.int8)[None]


def network(quantized: onnx.ModelProto) -> Network:
    return cut.partition(quantized, "net")


# -------------------------------------------------------------------------------- moments
def test_moments_are_those_of_the_windows() -> None:
    layer = network(residual_net()).layers[0]
    tensor = np.random.default_rng(0).integers(-128, 128, (3, *layer.input_shape)).astype(np.int8)
    x = reference.windows(layer, tensor)[0].astype(np.float64) - layer.input_quantization.zero_point
    seen = moments(layer, [tensor[:1], tensor[1:]])
    assert np.allclose(seen.means[0, 0], x.mean(axis=0))
    assert np.allclose(seen.parts[0][0], x.T @ x / len(x), rtol=1e-5)
    difference = np.random.default_rng(1).normal(size=(4, layer.reduction))
    outputs = x @ difference.T
    assert np.allclose(seen.error(difference[None], False)[0], (outputs**2).mean(axis=0), rtol=1e-5)
    assert np.allclose(seen.error(difference[None], True)[0], outputs.var(axis=0), rtol=1e-5)


def test_moments_of_layers_that_share_their_weights() -> None:
    """By them the error is the sum over both, in units of the first one's inputs; biases correct each one's mean."""
    first = gaussian_layer(1, 4, 40)
    second = replace(
        first, name="second", input_shape=(100, 40), output_shape=(100, 4),
        input_quantization=replace(first.input_quantization, scale=np.float32(0.05), zero_point=-7),
    )  # fmt: skip
    inputs = [correlated(2, first), correlated(3, second)]
    own = [moments(layer, [each]) for layer, each in zip((first, second), inputs, strict=True)]
    both = together(own[0], first, second, own[1])
    difference = np.random.default_rng(4).normal(size=(4, 40))
    weight = (0.05 / float(first.input_quantization.scale)) ** 2 * second.positions / first.positions
    for centred in (False, True):
        each = [seen.error(difference[None], centred)[0] for seen in own]
        assert np.allclose(both.error(difference[None], centred)[0], each[0] + weight * each[1], rtol=1e-5)


def test_layers_that_share_their_weights_are_refined_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One set of codes, scales and N for all, each layer's own bias; stored bits count them once."""
    network = quantized(sharing())
    model, feeds = network.model, networks.feeds(network.model, 16)
    data = tune.calibration_data(network, model, None, Samples(feeds, None, "drawn"))
    advanced: list[None] = []
    found = tune.survey(network, data, ALL, lambda: advanced.append(None))
    assert len(advanced) == len(network.layers)  # each is pruned where the influence of its weights is measured
    groups = by_weights(network.layers)
    assert sorted(map(len, groups)) == [1, 1, 1, 3] and set(found.curves) == {each[0].name for each in groups}
    tuned = tune.tune(network, data, found, 4.5, tune.Limits(4, ALL))
    of = {layer.name: layer for layer in tuned.layers}
    shared = [of[layer.name] for layer in next(each for each in groups if len(each) == 3)]
    first, *others = shared
    for layer in others:
        assert np.array_equal(layer.weights, first.weights)
        assert np.array_equal(layer.weight_scales, first.weight_scales)
        assert np.array_equal(tuned.allocation[layer.name], tuned.allocation[first.name])
    assert len({layer.bias.tobytes() for layer in shared}) == 3
    once = sum(int(channel_bits(each[0], tuned.allocation[each[0].name]).sum()) for each in groups)
    size = sum(each[0].weights.size for each in groups)
    assert average_bits(network.layers, tuned.allocation) == once / size <= 4.5
    fits = []

    def seen_by(layer: ArrayLayer, *rest: Any) -> Refined:
        fits.append((layer.name, rest[-1]))
        return refine(layer, *rest)

    monkeypatch.setattr(tune, "refine", seen_by)
    tune.refined(network, data, found, tuned.allocation, frozenset())
    assert fits == [(each[0].name, found.shared.get(each[0].name)) for each in groups]
    assert set(found.shared) == {first.name}
    again = cut.partition_again(network, tuned.layers)
    assert [len(each) for each in by_weights(again.layers)] == list(map(len, groups))
    got = answers.answers(again.model, data.samples.feeds, data.scores)
    assert answers.distance(data.wanted, got, {}) == pytest.approx(tuned.divergence, rel=1e-6)


def test_what_layers_cost_together() -> None:
    """Bits once, where they share their weights; time for each."""
    network = quantized(sharing())
    time, none = layer_by_layer(network.layers, ArrayConfig(2, 4)), unpruned(network.layers)
    assert total(network.layers, time, none) == sum(time.of(layer, none[layer.name]) for layer in network.layers)
    assert total(network.layers, Bits(), none) == 8 * sum(each[0].weights.size for each in by_weights(network.layers))
    curves = {layer.name: np.tile(4.0 ** np.arange(7), (layer.channels, 1)) for layer in network.layers}
    for cost, limit in ((Bits(), bits_limit(network.layers, 5)), (time, 0.7 * most(network.layers, time))):
        spent = spend(network.layers, curves, limit, 4, cost)
        assert 0.8 * limit <= total(network.layers, cost, spent) <= limit
        for each in by_weights(network.layers):
            assert all(spent[layer.name] is spent[each[0].name] for layer in each)


def test_walking_without_change_gives_the_network_itself() -> None:
    net = network(residual_net())
    feeds = samples(net.model, 40)
    seen: dict[str, NDArray[np.int8]] = {}

    def keep(layer: ArrayLayer, tensors: list[NDArray[np.int8]]) -> ArrayLayer:
        assert all(tensor.flags.owndata for tensor in tensors)  # none keeps the memory of a session
        seen[layer.input] = np.concatenate(tensors)
        return layer

    calibrate(net, feeds, keep)
    expected = run_network(net, feeds)
    assert set(seen) == {layer.input for layer in net.layers}
    for name, tensor in seen.items():
        near = np.abs(tensor.astype(int) - expected[name].astype(int))
        assert near.max() <= 1 and (near > 0).mean() < 0.01


def test_beside_it_the_network_runs_with_its_real_weights() -> None:
    """Layers pruned on one side see changed inputs, on the other those of float weights."""
    net = network(residual_net())
    feeds = samples(net.model, 20)
    rng = np.random.default_rng(1)
    targets = {layer.name: layer.weights + rng.uniform(-0.4, 0.4, layer.weights.shape) for layer in net.layers}
    real = {layer.name: layer.weights.astype(np.float64) for layer in net.layers}
    seen: dict[str, tuple[NDArray[np.int8], NDArray[np.int8]]] = {}

    def half(layer: ArrayLayer, tensors: list[NDArray[Any]], beside: list[NDArray[Any]]) -> ArrayLayer:
        seen[layer.name] = np.concatenate(tensors), np.concatenate(beside)
        return replace(layer, weights=(layer.weights // 2).astype(np.int8))

    expected, (first, *others) = run_network(net, feeds), net.layers
    apart = {}
    for exact in (True, False):
        calibrate_beside(net, real if exact else targets, feeds, half)
        near = [seen[layer.name][1].astype(int) - expected[layer.input] for layer in net.layers]
        apart[exact] = max(int(np.abs(each).max()) for each in near)
        assert np.array_equal(*seen[first.name])
        assert all(np.abs(seen[layer.name][0].astype(int) - expected[layer.input]).max() > 10 for layer in others)
    assert apart[True] <= 1 < apart[False] < 10


def drifted(layer: ArrayLayer) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Inputs as they were meant, and as layers before have made them: smaller, mixed, with another mean."""
    meant = correlated(41, layer)
    mixed = meant[0] + np.roll(meant[0], 1, axis=1) * 0.3
    return meant, np.clip(np.rint(0.6 * mixed + 7), -128, 127).astype(np.int8)[None]


def test_drift_is_that_of_the_windows() -> None:
    layer = gaussian_layer(40, 4, 40)
    meant, now = drifted(layer)
    seen = moments(layer, [now], beside=[meant])
    assert seen.drift is not None
    x = now[0].astype(np.float64) - layer.input_quantization.zero_point
    y = meant[0].astype(np.float64) - layer.input_quantization.zero_point
    assert np.allclose(seen.drift.means[0, 0], (y - x).mean(axis=0))
    assert np.allclose(seen.drift.parts[0][0], (y - x).T @ x / len(x), rtol=1e-4)
    same = moments(layer, [now], beside=[now])
    assert np.array_equal(same.parts[0], seen.parts[0]) and same.drift is not None and not same.drift.parts[0].any()


@pytest.mark.parametrize("parts", [1, 2])
def test_drift_of_the_inputs_is_compensated(parts: int) -> None:
    """The output keeps what it was for the inputs as they were meant: its mean, and most of its variance."""
    layer = gaussian_layer(42, 8, 64)
    meant, now = drifted(layer)
    seen = moments(layer, [now], beside=[meant])
    assert seen.drift is not None
    if parts == 2:
        halves = [(part[0][:, :32, :32], part[0][:, 32:, 32:]) for part in (seen.parts, seen.drift.parts)]
        seen = Moments(seen.means, halves[0], Moments(seen.drift.means, halves[1]))
    targets = layer.weights.astype(np.float64)
    x, y = ((codes[0].astype(np.float64) - layer.input_quantization.zero_point) for codes in (now, meant))
    wanted = y @ (targets * layer.weight_scales[:, None]).T + layer.bias * layer.weight_scales
    left = {}
    for known in (seen, replace(seen, drift=None)):
        found = refine(layer, targets, np.full(8, 2), known, ALL).layer
        got = x @ (found.weights * found.weight_scales[:, None]).T + found.bias * found.weight_scales
        left[known.drift is not None] = got - wanted
    assert np.abs(left[True].mean(axis=0)).max() < 0.02 * wanted.std()
    assert left[True].var() < 0.3 * left[False].var()
    unchanged = refine(layer, targets, np.full(8, 2), seen, frozenset({"scales"})).layer
    assert np.array_equal(unchanged.weights, refine(layer, targets, np.full(8, 2), replace(seen, drift=None),
                                                    frozenset({"scales"})).layer.weights)  # fmt: skip


# -------------------------------------------------------------------------------- refinement
@pytest.mark.parametrize("n", [0, 2, 4, 6])
@pytest.mark.parametrize("means", [frozenset(), frozenset({"bias"}), ALL], ids=["nothing", "bias", "all"])
def test_refined_weights_lie_on_the_grid_and_err_as_said(n: int, means: frozenset[str]) -> None:
    layer = gaussian_layer(1, 6, 70)
    codes = correlated(2, layer)
    seen = moments(layer, [codes])
    targets = layer.weights + np.random.default_rng(3).uniform(-0.5, 0.5, layer.weights.shape)
    result = refine(layer, targets, np.full(6, n), seen, means)
    again = prune.prune(result.layer.weights, np.full(6, n), "optimal")[1]
    assert np.array_equal(again, result.layer.weights)
    x = codes[0].astype(np.float64) - layer.input_quantization.zero_point
    wanted = x @ (targets * layer.weight_scales[:, None]).T + layer.bias * layer.weight_scales
    got = x @ (result.layer.weights * result.layer.weight_scales[:, None]).T
    got += result.layer.bias * result.layer.weight_scales
    lost = (got - wanted) * float(layer.input_quantization.scale)
    assert np.allclose((lost**2).mean(axis=0), result.error, rtol=0.02)
    if "bias" in means:
        assert np.abs(lost.mean(axis=0)).max() < 0.02 * np.abs(lost).max()


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_groups_are_refined_as_layers_of_their_own(groups: int) -> None:
    """Each group of a convolution sees inputs of its own; groups with different numbers of channels of one N."""
    members, size = 12 // groups, 9
    alone = gaussian_layer(21, 12, size)
    layer = replace(alone, groups=groups)
    n = np.random.default_rng(22).integers(0, 5, 12)
    parts = [moments(alone, [correlated(23 + group, alone)]) for group in range(groups)]
    together = Moments(
        np.concatenate([part.means for part in parts], axis=1), (np.concatenate([part.parts[0] for part in parts]),)
    )
    targets = layer.weights.astype(np.float64)
    whole = refine(layer, targets, n, together, ALL)
    curves = error_curves(layer, targets, together, ALL)
    for group, seen in enumerate(parts):
        here = slice(group * members, (group + 1) * members)
        own = replace(
            alone, weights=alone.weights[here], weight_scales=alone.weight_scales[here], bias=alone.bias[here],
            output_shape=(members, *alone.output_shape[1:]),
        )  # fmt: skip
        single = refine(own, targets[here], n[here], seen, ALL)
        assert np.array_equal(whole.layer.weights[here], single.layer.weights)
        assert np.array_equal(whole.layer.bias[here], single.layer.bias)
        assert np.allclose(whole.error[here], single.error, rtol=1e-5)
        assert np.allclose(curves[here], error_curves(own, targets[here], seen, ALL), rtol=1e-5)


def test_every_means_pays() -> None:
    """On correlated inputs each of them leaves less error than without it; together a twentieth of none."""
    layer = gaussian_layer(4, 16, 96)
    seen = moments(layer, [correlated(5, layer)])
    errors = {}
    for count in range(len(REFINEMENTS) + 1):
        for chosen in map(frozenset, itertools.combinations(REFINEMENTS, count)):
            result = refine(layer, layer.weights.astype(np.float64), np.full(16, 5), seen, chosen)
            errors[chosen] = result.error.sum()
    for means, error in errors.items():
        assert all(errors[means | {more}] <= error * 1.001 for more in REFINEMENTS), (means, errors)
    assert errors[ALL] < 0.05 * errors[frozenset()]


def test_unpruned_integer_weights_stay() -> None:
    layer = gaussian_layer(6, 4, 40)
    seen = moments(layer, [correlated(7, layer)])
    result = refine(layer, layer.weights.astype(np.float64), np.zeros(4, np.int64), seen, ALL)
    assert np.array_equal(result.layer.weights, layer.weights)
    assert np.array_equal(result.layer.bias, layer.bias) and not result.error.any()


def test_long_reductions_and_dead_inputs() -> None:
    """A reduction taken in parts; inputs that never vary; channels of zeros."""
    layer = gaussian_layer(8, 3, 64)
    weights = layer.weights.copy()
    weights[1] = 0
    layer = replace(layer, weights=weights)
    whole = moments(layer, [correlated(9, layer)])
    halves = Moments(whole.means, (whole.parts[0][:, :32, :32], whole.parts[0][:, 32:, 32:]))
    dead = Moments(np.zeros_like(whole.means), (np.zeros_like(whole.parts[0]),))
    for seen in (halves, dead):
        result = refine(layer, layer.weights.astype(np.float64), np.full(3, 4), seen, ALL)
        assert np.isfinite(result.error).all() and not result.layer.weights[1].any()
        assert (result.error[[0, 2]] > 0).all() == (seen is halves)


def test_error_curves_rise_with_n() -> None:
    layer = gaussian_layer(10, 5, 64)
    curves = error_curves(layer, layer.weights.astype(np.float64), moments(layer, [correlated(11, layer)]), ALL)
    assert not curves[:, 0].any()
    assert (np.diff(curves[:, 1:], axis=1) > 0).mean() > 0.9


# -------------------------------------------------------------------------------- budget
def small_layers() -> tuple[list[ArrayLayer], dict[str, NDArray[np.float64]]]:
    rng = np.random.default_rng(12)
    layers = [
        replace(layer_of(random_weights(rng, channels, reduction), 4, rng), name=f"layer{i}")
        for i, (channels, reduction) in enumerate([(4, 32), (2, 64), (2, 9)])
    ]
    curves = {}
    for layer in layers:
        steps = np.sort(rng.uniform(0, 1, (layer.channels, 7)), axis=1) ** 3 * rng.uniform(1, 100)
        curves[layer.name] = steps - steps[:, :1]
    return layers, curves


def test_a_budget_is_spent_as_well_as_any_choice_can() -> None:
    """Against every allocation there is: within the budget, and close to the least error of all."""
    layers, curves = small_layers()
    size = sum(layer.weights.size for layer in layers)
    costs = {layer.name: channel_bits(layer, np.arange(7)) * 2 for layer in layers}
    for bits in (3.0, 4.5, 6.0, 7.9):
        allocation = spend(layers, curves, bits_limit(layers, bits), 2, Bits())
        assert average_bits(layers, allocation) <= bits
        reached = sum(curves[name][np.arange(len(n)), n].sum() for name, n in allocation.items())
        options = []
        for layer in layers:
            order = np.argsort(-curves[layer.name][:, 4], kind="stable")
            options += [(layer.name, order[i : i + 2]) for i in range(0, layer.channels, 2)]
        least = min(
            sum(curves[name][members, n].sum() for (name, members), n in zip(options, choice, strict=True))
            for choice in itertools.product(range(7), repeat=len(options))
            if sum(costs[name][n] for (name, _), n in zip(options, choice, strict=True)) <= bits * size
        )
        assert least <= reached <= 1.5 * least + 1e-9


def test_blocks_share_one_n() -> None:
    layers, curves = small_layers()
    allocation = spend(layers, curves, bits_limit(layers, 5), 4, Bits())
    assert len(set(allocation["layer0"])) == 1


@pytest.mark.parametrize("bits", [1.0, 8.5, float("nan")])
def test_budgets_out_of_reach_are_refused(bits: float) -> None:
    layers, _ = small_layers()
    with pytest.raises(FlowError, match=rf"between {least_bits(layers):.2f} and 8 bits per weight.*it is {bits:g}"):
        bits_limit(layers, bits)


# -------------------------------------------------------------------------------- whole networks
def learned(seed: int = 3) -> tuple[Network, tune.CalibrationData, dict[str, NDArray[np.float32]]]:
    model = float_net()
    feeds = samples(model, 64, seed)
    made = quantize.quantize(model, feeds)
    net = network(made.model)
    return net, tune.calibration_data(net, model, made.prepared, Samples(feeds, None, "test")), feeds


def test_a_budget_beats_the_rule_at_the_same_bits() -> None:
    net, known, feeds = learned()
    plain = encode(net, pruning(columns=4, sensitive=0.0, method="zero-point-shifting"))
    bits = average_bits(net.layers, plain.allocation)
    tuned = encode(net, pruning(bits=bits, block=2), evidence=tune.Evidence(known))
    assert average_bits(net.layers, tuned.allocation) <= bits
    error = {}
    for name, made in (("plain", plain), ("tuned", tuned)):
        got = answers.answers(made.network.model, feeds)
        error[name] = answers.distance(known.wanted, got, {})
    assert error["tuned"] < 0.5 * error["plain"]
    onnx.checker.check_model(tuned.network.model)


def test_answers_that_never_change_share_the_bits_out_alike() -> None:
    net, known, _ = learned()
    last = replace(net.layers[-1], weights=np.zeros_like(net.layers[-1].weights))
    dull = cut.partition(rewrite.with_layers(net.model, [last]), "dull")
    targets = known.targets | {last.name: last.weights.astype(np.float64)}
    found = tune.survey(dull, replace(known, targets=targets), ALL, lambda: None)
    for layer in dull.layers[:-1]:
        assert found.curves[layer.name][:, 4].sum() == pytest.approx(1)


def test_float_weights_are_found_and_taken_as_targets() -> None:
    _, known, _ = learned()
    assert all(np.abs(target - np.rint(target)).max() > 0.1 for target in known.targets.values())


def test_networks_that_are_int8_already_want_their_own_weights() -> None:
    net = network(residual_net())
    known = tune.calibration_data(net, net.model, None, Samples(samples(net.model, 20), None, "test"))
    assert all(np.array_equal(known.targets[layer.name], layer.weights) for layer in net.layers)
    tuned = encode(net, pruning(bits=5.0), evidence=tune.Evidence(known))
    assert average_bits(net.layers, tuned.allocation) <= 5.0


def test_the_fewest_bits_that_are_acceptable(monkeypatch: pytest.MonkeyPatch) -> None:
    net, known, _ = learned()
    found = tune.survey(net, known, frozenset({"bias"}), lambda: None)
    whole = runtime.predict(net.model, known.samples.feeds)

    def acceptable(model: onnx.ModelProto, _: Allocation) -> bool:
        return float(np.abs(runtime.predict(model, known.samples.feeds) - whole).mean()) < 0.1 * float(whole.std())

    within, tried = tune.within, list[float]()

    def recorded(*given: Any) -> tune.Tuned:
        tried.append(given[3])
        return within(*given)

    monkeypatch.setattr(tune, "within", recorded)
    tuned = tune.smallest(net, known, found, tune.Limits(2, frozenset({"bias"})), acceptable)
    assert len({*tried}) == len(tried) and abs(tried[2] - tried[1]) * 2 == abs(tried[1] - tried[0])  # halves
    bits = average_bits(net.layers, tuned.allocation)
    assert (
        acceptable(rewrite.with_layers(net.model, tuned.layers), tuned.allocation) and least_bits(net.layers) < bits < 8
    )
    with pytest.raises(FlowError, match="even at 8 bits"):
        tune.smallest(net, known, found, tune.Limits(2, frozenset({"bias"})), lambda *_: False)


# -------------------------------------------------------------------------------- measures and choices
def test_divergence() -> None:
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])
    wanted, got = (answers.Answers(np.log(x)[None] + 5, True) for x in (p, q))
    assert answers.divergence(wanted, got) == pytest.approx((p * np.log(p / q)).sum())
    assert answers.agreement(wanted, got) == 1
    plain = answers.Answers(np.array([[1.0, 3.0]]), False)
    assert answers.divergence(plain, answers.Answers(np.array([[2.0, 3.0]]), False)) == pytest.approx(0.5)


def test_answers_come_before_the_softmax() -> None:
    model = float_net()
    model.graph.node.append(onnx.helper.make_node("Softmax", [model.graph.output[0].name], ["p"]))
    feeds = samples(model, 4)
    wanted = runtime.predict(model, feeds)
    model.graph.output[0].name = "p"
    got = answers.answers(model, feeds)["p"]
    assert got.scores and np.allclose(got.values, wanted, rtol=1e-5)
    assert not any(found.scores for found in answers.answers(float_net(), feeds).values())


def test_effort_says_how_long_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    net, known, _ = learned()
    work, asked = list[tuple[int, int]](), influence.influences

    def counted(*given: Any) -> dict[str, float]:
        work.append((len(next(iter(given[2].values()))), len(tune.tries(net, ALL, EFFORTS[len(work)]))))
        return asked(*given)

    monkeypatch.setattr(tune, "influences", counted)
    feeds = samples(net.model, 300)
    for level in EFFORTS:
        tune.survey(net, replace(known, samples=Samples(feeds, None, "many"), effort=level), ALL, lambda: None)
    assert work == [(16, 1), (64, 1), (256, 3), (256, 3)]
    with pytest.raises(FlowError, match="--effort is 0 to 3, but it is 4"):
        pruning(bits=4, effort=4)
    assert pruning().effort == 1 and pruning(bits=4, effort=3).effort == 3


def test_moments_of_as_many_windows_as_the_effort_allows() -> None:
    layer = gaussian_layer(40, 2, 16)
    codes = correlated(41, layer)
    tensor = np.repeat(codes, 20, axis=0)  # 8,000 windows
    exact = moments(layer, [codes])
    some, every = (moments(layer, [tensor], EFFORTS[level]) for level in (0, 1))
    assert np.allclose(every.parts[0], exact.parts[0], rtol=1e-5)
    assert not np.allclose(some.parts[0], exact.parts[0], rtol=1e-5) and np.allclose(
        some.parts[0], exact.parts[0], rtol=0.1
    )


def test_choices_that_exclude_each_other() -> None:
    assert pruning().bits == DEFAULT_BITS and pruning().means == REFINEMENTS
    assert not pruning("conservative").budgeted and pruning(max_drop=1.0).budgeted
    for given in (
        {"preset_name": "moderate", "bits": 4.0},
        {"columns": 3, "max_drop": 1.0},
        {"bits": 4, "max_drop": 1},
    ):
        with pytest.raises(FlowError, match="give one of them"):
            pruning(**given)
    with pytest.raises(FlowError, match="0 to 100 points, but it is 101"):
        pruning(max_drop=101)
    with pytest.raises(FlowError, match="1 or more, but they are 0"):
        pruning(bits=4, block=0)


# -------------------------------------------------------------------------------- compiled kernels
def test_of_equal_losses_the_first_is_taken() -> None:
    """Steps of 2 and of 4: 1 becomes 2 or 0; compiled and in NumPy."""
    kernels = pytest.importorskip("flow.compression.kernels")
    one, unit = np.ones((1, 1, 1), np.float32), np.ones((1, 1), np.float32)
    levels = np.array([[2, 4], [0, 0], [-9, -9], [9, 9]], np.float32)
    for order, value in (([0, 1], 2), ([1, 0], 0)):
        for best in (kernels.in_order, refinement._best_in_order):
            values, losses = best(one, np.ascontiguousarray(levels[:, None, None, order]), one, unit)
            assert (values.item(), losses.item()) == (value, 1 - value)


@pytest.mark.parametrize("n", [0, 1, 3, 6])
def test_compiled_compensation_equals_numpy(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit: with the extra `fast` and without it a network gets the same weights."""
    pytest.importorskip("numba")
    layer = gaussian_layer(30, 40, 90)
    seen = moments(layer, [correlated(31, layer)])
    made = []
    for least in (1, 10**9):
        monkeypatch.setattr(prune, "KERNEL_FROM", least)
        made.append(refine(layer, layer.weights.astype(np.float64), np.full(40, n), seen, ALL))
    assert np.array_equal(made[0].layer.weights, made[1].layer.weights)
    assert np.array_equal(made[0].error, made[1].error)


@pytest.mark.parametrize("method", ["optimal", "rounded-averaging"])
@pytest.mark.parametrize("n", range(7))
def test_compiled_kernels_equal_numpy(method: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    rng = np.random.default_rng(n)
    shape = (3000, 32)
    draws = [
        rng.integers(-128, 128, shape), np.clip(np.rint(rng.normal(0, 30, shape)), -128, 127),
        rng.choice([-128, 127, 0, 64, -64, 63], shape), np.full(shape, -128), np.zeros(shape),
    ]  # fmt: skip
    groups = np.concatenate(draws).astype(np.int8)
    valid = np.arange(32) < rng.integers(0, 33, (len(groups), 1))
    made = []
    for least in (1, len(groups) + 1):
        monkeypatch.setattr(prune, "KERNEL_FROM", least)
        made.append([prune.METHODS[method](groups, n, mask) for mask in (None, valid)])
    for compiled, plain in zip(*made, strict=True):
        for name in ("kept", "redundant", "constant"):
            ours, theirs = getattr(compiled, name), getattr(plain, name)
            assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs), name
