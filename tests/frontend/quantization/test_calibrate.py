"""Ranges of activations by four methods, and the choice among them by what the outputs lose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from flow.api.compress import compress
from flow.errors import FlowError
from flow.frontend.preparation.prepare import prepare
from flow.frontend.quantization import plan, qdq, scales
from flow.frontend.quantization.calibrate import AUTO, calibrate
from flow.frontend.quantization.ranges import BINS, METHODS, MINMAX, Range, histograms, measure, narrowed
from flow.frontend.quantize import from_float
from flow.onnxtools import edit, runtime
from flow.onnxtools.graph import Graph, names
from flow.onnxtools.shapes import element_types
from tests.helpers.nets import Builder, float_net, samples


def outlier_net() -> onnx.ModelProto:
    """Products of inputs whose rare large values saturate in a Tanh: their range is best cut."""
    b = Builder(31)
    first, second = (b.constant(b.rng.normal(size=size).astype(np.float32)) for size in ((6, 8), (8, 4)))
    y = b.node("Relu", b.node("MatMul", b.node("Tanh", b.node("MatMul", "x", first)), second))
    return b.model({"x": ["N", 6]}, y)


def rare() -> np.ndarray:
    x = np.random.default_rng(32).normal(size=(200, 6)).astype(np.float32)
    x[7] *= 300
    return x


def test_names_are_read_once_for_all_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all names for each tensor is a minute's work in an unrolled LSTM."""
    b = Builder(33)
    tensor = "x"
    for _ in range(20):
        tensor = b.node("Relu", tensor)
    model, graphs = b.model({"x": ["N", 6]}, tensor), list[onnx.GraphProto]()

    def counted(graph: onnx.GraphProto) -> Iterator[str | bytes]:
        graphs.append(graph)
        return names(graph)

    monkeypatch.setattr(edit, "names", counted)
    measure(model, [node.output[0] for node in model.graph.node], {"x": np.zeros((1, 6), np.float32)})
    assert len(graphs) == 1


def test_histograms_count_all_values_but_zeros() -> None:
    model = prepare(float_net())
    feeds = samples(model, 5)
    name = model.graph.node[0].output[0]
    counts = histograms(model, {"x": Range.of(feeds["x"]), name: Range(np.float32(-9), np.float32(9))}, feeds)
    assert counts["x"].sum() == feeds["x"].size and counts["x"][0] and counts["x"][-1]
    assert 0 < counts[name].sum() <= 5 * 10**4


def test_histograms_of_values_that_hardly_differ() -> None:
    """Scores of a detector that has learned nothing are its bias: two neighbouring float32."""
    b = Builder(34)
    scores = b.node("Sigmoid", b.node("MatMul", "x", b.constant(np.full((3, 4), 1e-7, np.float32))))
    model, feeds = b.model({"x": ["N", 3]}, scores), {"x": b.rng.normal(size=(9, 3)).astype(np.float32)}
    found = measure(model, [scores], feeds)
    assert 0 < found[scores].high - found[scores].low < 1e-5
    assert histograms(model, found, feeds)[scores].sum() == 9 * 4


@pytest.mark.parametrize("method", METHODS)
def test_a_range_is_narrowed_where_values_are_rare(method: str) -> None:
    """A normal distribution from -4 to 4 and one value of 40."""
    values = np.clip(np.random.default_rng(33).normal(size=100_000), -4, 4)
    values[0] = 40
    full = Range(np.float32(-4), np.float32(40))
    counts = np.histogram(values, BINS, (-4, 40))[0]
    found = narrowed(method, full, counts)
    if method == MINMAX:
        assert found == full
    elif method == "mse":  # the one value costs more than the steps gain
        assert 30 < found.high <= 40
    else:
        assert found.low >= -4.1 and 2.5 < found.high < 12

    uniform = np.full(BINS, 10)
    whole = narrowed(method, full, uniform)
    assert whole.high > 38 and whole.low < -3.5  # nothing is rare


def test_a_percentile_leaves_out_whole_bins() -> None:
    """From the beginning of the first bin that counts to the end of the last one."""
    counts = np.zeros(BINS, np.int64)
    counts[[7, 20]] = 10**6
    full = Range(np.float32(0), np.float32(BINS))
    assert narrowed("percentile", full, counts) == Range(np.float32(7), np.float32(21))


@pytest.mark.parametrize("method", ["entropy", "mse"])
def test_mirrored_values_have_the_mirrored_range(method: str) -> None:
    """What lies beyond the lower end counts as what lies beyond the upper one."""
    values = np.random.default_rng(34).standard_t(4, size=50_000).astype(np.float32)
    found = []
    for each in (values, -values):
        full = Range.of(each)
        counts = np.histogram(each, BINS, (float(full.low), float(full.high)))[0]
        found.append(narrowed(method, full, counts))
    assert (found[0].low, found[0].high) == pytest.approx((-found[1].high, -found[1].low))
    assert found[0].low > values.min()


def test_mean_squared_error_finds_the_best_range() -> None:
    values = np.random.default_rng(34).standard_t(4, size=50_000)
    full = Range.of(values.astype(np.float32))
    counts = np.histogram(values, BINS, (float(full.low), float(full.high)))[0]

    def error(found: Range) -> float:
        scale = scales.scale_of(found, False)
        codes = np.clip(np.rint(values / scale.scale) + int(scale.zero), -128, 127)
        return float(((codes - int(scale.zero)) * scale.scale - values).std())

    best = min(
        error(Range(np.float32(full.low * a), np.float32(full.high * b)))
        for a in np.linspace(0.1, 1, 19)
        for b in np.linspace(0.1, 1, 19)
    )
    assert error(narrowed("mse", full, counts)) < 1.05 * best and best < 0.95 * error(full)


def test_a_trial_quantizes_as_the_network_will_be() -> None:
    """With the ranges of min-max, the trial's activations are those of the quantized network, but for the weights."""
    prepared = prepare(float_net())
    feeds = samples(prepared, 6)
    wanted = plan.plan(Graph.of(prepared), element_types(prepared))
    full = calibrate(prepared, wanted, feeds, False, MINMAX).ranges
    made = qdq.trial(prepared, wanted, full, False)
    quantized = qdq.quantize_static(prepared, wanted, full, False)
    values = made.feeds(full)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    assert values and all(np.array_equal(stored[name], array) for name, array in values.items())


def test_every_trial_takes_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, once = list[int](), runtime.run

    def counted(model: Any, feeds: Any) -> Any:
        sizes.append(len(feeds["x"]))
        return once(model, feeds)

    prepared = prepare(float_net())
    monkeypatch.setattr(runtime, "run", counted)
    calibrate(prepared, plan.plan(Graph.of(prepared), element_types(prepared)), samples(prepared, 6), False, AUTO)
    assert sizes.count(1) > 6 and 0 not in sizes and 5 not in sizes


def test_auto_takes_the_method_that_costs_the_outputs_least(tmp_path: Path) -> None:
    quality = {}
    for method in ("auto", *METHODS):
        report = compress(
            outlier_net(), tmp_path / f"{method}.onnx", calibration=rare(), evaluate=rare()[8:40], calibrate=method
        )
        quality[method] = report.summary.fidelity.outputs[0].sqnr or 0.0
    assert quality["minmax"] < 5 and quality["mse"] > 15 and quality["percentile"] > 18
    assert quality["auto"] > max(quality.values()) - 1


class Wishes:
    """Trials of a network whose first tensors are best with their whole range, and all others with a narrower one."""

    def __init__(self, _prepared: object, _wanted: object, full: dict[str, Range], *_: object) -> None:
        self.whole = {name: number < len(full) // 2 for number, name in enumerate(full)}
        self.full = full

    def worst(self, ranges: dict[str, Range]) -> float:
        return 0.0

    def loss(self, ranges: dict[str, Range]) -> float:
        return 1.0 + sum((ranges[name] == self.full[name]) != whole for name, whole in self.whole.items())


def test_auto_takes_another_method_where_that_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Part by part of the network; here every part is a tensor."""
    prepared = prepare(outlier_net())
    wanted, feeds = plan.plan(Graph.of(prepared), element_types(prepared)), {"x": rare()}
    monkeypatch.setattr("flow.frontend.quantization.calibrate._Trials", Wishes)
    found = calibrate(prepared, wanted, feeds, False, "auto")
    whole = calibrate(prepared, wanted, feeds, False, MINMAX).ranges
    kept = [found.ranges[name] == each for name, each in whole.items()]
    assert kept == sorted(kept, reverse=True) and len(kept) // 2 <= sum(kept) < len(kept)
    assert found.methods[MINMAX] and sum(found.methods.values()) == len(kept) > found.methods[MINMAX]


def test_auto_keeps_min_max_where_it_is_good() -> None:
    prepared = prepare(float_net())
    wanted = plan.plan(Graph.of(prepared), element_types(prepared))
    found = calibrate(prepared, wanted, samples(prepared, 16), False, "auto")
    assert found.words == "min-max"


@pytest.mark.parametrize("products", [False, True])
def test_a_mask_that_is_infinite_stays_float(products: bool) -> None:
    """As PyTorch exports the mask of padded tokens: 0 and -inf, moved to where the scores are."""
    b = Builder(7)
    keys, values = (b.constant(b.rng.normal(size=(4, 4)).astype(np.float32)) for _ in range(2))
    hidden = b.node("Where", b.node("Equal", "mask", b.constant(np.float32(0))), b.constant(np.float32(-np.inf)),
                    b.constant(np.float32(0)))  # fmt: skip
    moved = b.node("Reshape", hidden, b.constant(np.array([-1, 1, 5])))
    asked = b.node("Transpose", b.node("MatMul", "x", keys), perm=[0, 2, 1])
    shares = b.node("Softmax", b.node("Add", b.node("MatMul", "x", asked), moved))
    y = b.node("MatMul", shares, b.node("MatMul", "x", values))
    model = b.model({"x": ["N", 5, 4], "mask": ["N", 5]}, y, rank=3)
    mask = np.ones((8, 5), np.float32)
    mask[::2, 3:] = 0
    feeds = {"x": b.rng.normal(size=(8, 5, 4)).astype(np.float32), "mask": mask}
    quantized = from_float(prepare(model), feeds, products=products).model
    want, got = (next(iter(runtime.run(each, feeds).values())) for each in (model, quantized))
    assert np.isfinite(got).all() and ((got - want) ** 2).sum() < 0.01 * (want**2).sum()


def test_an_unknown_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="--calibrate is one of auto, minmax, .*, but it is 'kl'"):
        compress(outlier_net(), tmp_path / "o.onnx", calibration=rare(), calibrate="kl")
