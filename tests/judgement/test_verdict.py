"""The judges find what is wrong: a wrong sum, a wrong code, a wrong answer; and let pass what may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flow.errors import FlowError
from flow.frontend.int8 import cut
from flow.judgement.accuracy import Accuracy, json_number, sqnr
from flow.judgement.verdict import LayerVerdict, judge_layer, passes
from flow.network import reference
from flow.network.answers import FARTHEST, Answers, answers, divergence
from flow.network.model import ArrayLayer, Network
from flow.network.run import run_network
from flow.onnxtools import runtime
from flow.simulation.results import LayerRun, Mismatch, expected_rows, output_tensor
from tests.helpers.nets import residual_net, samples


@pytest.fixture(scope="module")
def network() -> Network:
    return cut.partition(residual_net(), "residual")


def runs_of(network: Network) -> dict[str, LayerRun]:
    """Every layer on one sample, as hardware without a fault would run it."""
    runs: dict[str, LayerRun] = {}

    def layer_run(layer: ArrayLayer, tensor: NDArray[Any]) -> NDArray[Any]:
        rows = expected_rows(layer, layer.input_quantization.to_int8(tensor))
        runs[layer.name] = LayerRun(layer, tensor, rows, 10, 0, None)
        return output_tensor(layer, rows)

    run_network(network, {name: x[:1] for name, x in samples(network.model, 1).items()}, layer_run)
    return runs


def test_every_layer_agrees_with_onnx_runtime(network: Network) -> None:
    runs = runs_of(network)
    assert {run.layer.output_quantization is None for run in runs.values()} == {True, False}
    for run in runs.values():
        verdict = judge_layer(network, [run, run])
        assert verdict.elements == 2 * run.rows.size
        assert verdict.tier1_mismatches == 0 and verdict.tier2_max_lsb <= 1
        assert sum(verdict.tier2_histogram.values()) == verdict.elements


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("off", [1, -2])
def test_a_wrong_result_is_found(network: Network, number: int, off: int) -> None:
    run = list(runs_of(network).values())[number]
    rows = run.rows.copy()
    middle = np.argmin(np.abs(rows.astype(np.int64)))  # far from both ends of int8
    scale = 40 if run.layer.output_quantization is None else 1  # float32 hides single steps of a raw sum
    rows.flat[middle] += off * scale
    before, verdict = (judge_layer(network, [r]) for r in (run, replace(run, rows=rows)))
    assert verdict.tier2_max_lsb > 0
    assert verdict.tier2_histogram != before.tier2_histogram


def test_a_wrong_reference_is_found(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tier 1a: ONNX Runtime's integer operators judge the reference itself."""
    runs, right = runs_of(network), reference.accumulate
    monkeypatch.setattr(reference, "accumulate", lambda layer, codes: right(layer, codes) + 1)
    for run in runs.values():
        assert judge_layer(network, [run]).tier1a_mismatches == run.rows.size


def test_what_cosimulation_found_is_counted(network: Network) -> None:
    run = replace(next(iter(runs_of(network).values())), mismatches=3, failure="here")
    verdict = judge_layer(network, [run, replace(run, failure="there")])
    assert (verdict.tier1a_mismatches, verdict.tier1b_mismatches, verdict.first_mismatch) == (0, 6, "here")


def test_the_first_thing_that_is_wrong_is_told(network: Network) -> None:
    """Of several samples the first that is wrong; why a run did not end before the element that differs."""
    run = next(iter(runs_of(network).values()))
    element = Mismatch(run.layer.name, 0, 0, 0, 0, 3, 7, 5, 6)
    differs, ends = replace(run, first_mismatch=element), replace(run, failure="done not high")
    told = [judge_layer(network, list(each)).first_mismatch for each in ((run, differs, ends), (ends, differs), (run,))]
    assert told == [str(element), "done not high", None]


def verdict_of(**values: Any) -> LayerVerdict:
    good = LayerVerdict("l", 20000, 20000, 1, 0, 0, 0, 0, {0: 20000}, None, 1)
    return replace(good, **values)


@pytest.mark.parametrize(
    ("values", "passed"),
    [
        ({}, True),
        ({"tier1a_mismatches": 1}, False),
        ({"tier1b_mismatches": 1}, False),
        ({"tier2_mismatches": 2, "tier2_max_lsb": 1}, True),
        ({"tier2_mismatches": 3, "tier2_max_lsb": 1}, False),
        ({"tier2_mismatches": 1, "tier2_max_lsb": 2}, False),
        ({"tier2_mismatches": 1, "tier2_max_lsb": 1, "elements": 500}, True),
        ({"tier2_mismatches": 2, "tier2_max_lsb": 1, "elements": 500}, False),
    ],
)
def test_the_verdict(values: dict[str, int], passed: bool) -> None:
    assert passes([verdict_of(**values)], Accuracy(1, "given", rtl=1.0, pruned_simulated=1.0)) == passed
    assert not passes([verdict_of(**values)], Accuracy(1, "given", rtl=0.5, pruned_simulated=1.0))


def answering(nodes: list[onnx.NodeProto], output: list[Any], constants: dict[str, Any]) -> onnx.ModelProto:
    """A network of one input x [N, 3, 2]."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)], tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("node", "output", "want"),
    [
        (helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0), [], lambda x: x.sum(axis=(1, 2))),
        (helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0, 2]), [3, "N", 2], lambda x: x[:, :, None]),
        (helper.make_node("Reshape", ["x", "six"], ["y"]), ["M"], lambda x: x.reshape(len(x), 6)),
        (helper.make_node("Neg", ["x"], ["y"]), ["N", 3, 2], lambda x: -x),
    ],
    ids=["a number", "tokens first", "a row", "the batch first"],
)
def test_answers_of_every_shape_are_one_for_each_sample(
    node: onnx.NodeProto, output: list[Any], want: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    x = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float32)
    made = runtime.predict(answering([node], output, {"six": np.array([-1])}), x)
    assert made.shape == want(x).shape and np.allclose(made, want(x), rtol=1e-6)


def test_answers_whose_shape_depends_on_the_sample_are_refused() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["z"]), helper.make_node("Cast", ["z"], ["y"], to=TensorProto.FLOAT)]
    x = np.ones((2, 3, 2), np.float32)
    x[1, 0] = 0
    with pytest.raises(FlowError, match=r"one shape for all samples, but 'y' has \[3, 6\] and \[3, 4\]"):
        runtime.predict(answering(nodes, [3, "M"], {}), x)


def test_answers_that_only_together_are_as_many_as_the_samples_are_refused() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["z"]), helper.make_node("Transpose", ["z"], ["t"]),
             helper.make_node("Cast", ["t"], ["y"], to=TensorProto.FLOAT)]  # fmt: skip
    x = np.zeros((4, 3, 2), np.float32)
    x[:2, 0] = 1  # two rows each of two samples, none of the others
    with pytest.raises(FlowError, match=r"one shape for all samples"):
        runtime.predict(answering(nodes, ["M", 3], {}), x)


def test_answers_infinitely_far_are_a_number() -> None:
    wanted, got = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 2.0, -np.inf]])
    nothing = np.full((1, 3), -np.inf)
    for scores in (False, True):
        assert divergence(Answers(wanted, scores), Answers(got, scores)) == FARTHEST
        assert np.isfinite(divergence(Answers(nothing, scores), Answers(nothing, scores)))
    assert sqnr(np.array([np.nan, 1]), np.array([1.0, 1])) == -3000


def test_a_mask_of_infinities_is_no_difference() -> None:
    wanted = np.array([[1.0, -np.inf, 2.0], [-np.inf, 0.0, 4.0]])
    off = wanted + np.array([[0.1, 0, 0], [0, 0, 0]])
    assert sqnr(wanted, wanted) == np.inf and sqnr(off, wanted) == pytest.approx(10 * np.log10(21 / 0.01))
    lost = np.where(np.isinf(wanted), 0, wanted)
    assert sqnr(lost, wanted) == -3000  # far from equal
    for scores in (False, True):
        assert divergence(Answers(wanted, scores), Answers(wanted, scores)) == 0
        assert 0 < divergence(Answers(wanted, scores), Answers(off, scores)) < 0.01


def test_classes_at_every_position_have_a_distribution_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """The divergence is the mean over samples and positions, whatever else a position's scores have in common."""
    p, q = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]), np.array([[0.25, 0.25, 0.5], [0.1, 0.1, 0.8]])
    one = float((p * np.log(p / q)).sum() / 2)
    for axis in (-1, 1):
        wanted, got = (np.moveaxis(np.stack([np.log(each), np.log(each) + 7 * np.arange(2)[:, None]]), -1, axis)
                       for each in (p, q))  # fmt: skip
        assert divergence(Answers.of(wanted, True, axis), Answers.of(got, True, axis)) == pytest.approx(one)
        monkeypatch.setattr("flow.network.answers.PART", 1)  # sample by sample
        assert divergence(Answers.of(wanted, True, axis), Answers.of(got, True, axis)) == pytest.approx(one)
    flat = [Answers.of(np.log(each)[:, :, None, None], True, 1) for each in (p, q)]
    assert divergence(*flat) == pytest.approx(one)


def test_sqnr() -> None:
    wanted = np.array([3.0, 4.0])
    assert sqnr(wanted + np.array([0.3, 0.4]), wanted) == pytest.approx(20)
    assert json_number(sqnr(wanted, wanted)) is None


def test_scores_that_something_else_reads_are_compared() -> None:
    """scikit-learn's exporter leaves an ArgMax on the probabilities, whose result is no output any more."""
    nodes = [
        onnx.helper.make_node("Softmax", ["x"], ["p"], "softmax"),
        onnx.helper.make_node("ArgMax", ["p"], ["label"], "argmax"),
    ]
    x, p = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 4]) for name in "xp")
    graph = onnx.helper.make_graph(nodes, "net", [x], [p])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    values = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    found = answers(model, {"x": values})["p"]
    assert found.scores and np.allclose(found.values, values)
