"""Networks of several outputs: each counts, whatever their order; and budgets that a network allows."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import flow
from flow.api.inputs import divided, import_network, note_int8
from flow.api.requests import CompileRequest
from flow.api.source import read_source
from flow.cli.tables import print_report
from flow.errors import FlowError
from flow.judgement.accuracy import Accuracy, OutputAccuracy, OwnAccuracy
from flow.judgement.fidelity import Fidelity
from flow.network.samples import MADE_UP, arrays
from flow.onnxtools import runtime
from flow.output.build import read
from flow.output.report import tables
from flow.output.report.report import CompressionReport
from tests.helpers import decoders
from tests.helpers.nets import Builder, heads_net, residual_net, samples

Arrays = dict[str, NDArray[Any]]
LANGUAGE = Path(__file__).parents[2] / "models" / "bytes_lm.onnx"


@pytest.fixture(scope="module")
def data() -> tuple[Arrays, Arrays]:
    """Samples to calibrate and to evaluate, with the network's own answers, slightly off, as labels."""
    model = heads_net()
    calibration, x = samples(model, 64, 1), samples(model, 96, 2)
    answers = runtime.predict_all(model, x)
    noise = np.random.default_rng(3).normal(0, 0.05, answers["box"].shape)
    labels = {"y": answers["cls"].argmax(axis=1), "y_box": (answers["box"] + noise).astype(np.float32)}
    return calibration, x | labels


def compressed(
    model: onnx.ModelProto, data: tuple[Arrays, Arrays], place: Path, **options: Any
) -> tuple[CompressionReport, onnx.ModelProto]:
    file = place / "out.onnx"
    given = {"compensation": False, "scale_search": False} | options
    report = flow.compress(model, file, calibration=data[0], evaluate=data[1], force=True, **given)
    return report, onnx.load(str(file))


def constants(model: onnx.ModelProto) -> dict[str, bytes]:
    return {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in model.graph.initializer}


def columns(report: CompressionReport) -> list[float]:
    return [layer.bits_per_weight for layer in report.layers]


def test_every_output_counts_in_any_order(data: tuple[Arrays, Arrays], tmp_path: Path) -> None:
    report, first = compressed(heads_net(), data, tmp_path, bits=4.5)
    swapped, second = compressed(heads_net(("box", "cls")), data, tmp_path, bits=4.5)
    assert constants(first) == constants(second) and columns(report) == columns(swapped)
    found = {output.name: output for output in report.summary.accuracy.outputs}
    assert list(found) == ["cls", "box"] and found["cls"].metric == "top-1" and found["box"].metric == "R2"
    for output in swapped.summary.accuracy.outputs:
        assert output.values == found[output.name].values and output.sqnr == found[output.name].sqnr
    lost = (found["box"].values["float"] or 0) - (found["box"].values["pruned"] or 0)
    assert lost < 0.05 and set(found["box"].values) == {"float", "int8", "pruned"}
    assert (found["cls"].values["pruned"] or 0) > 0.9


def test_an_output_that_weighs_nothing_is_given_up(data: tuple[Arrays, Arrays], tmp_path: Path) -> None:
    apart = {}
    for weight in (0, 1, 100):
        report, _ = compressed(heads_net(), data, tmp_path, bits=4.5, output_weight={"box": weight})
        apart[weight] = report.summary.accuracy.outputs[1].divergence["pruned"] or 0
    assert apart[0] > 3 * apart[1] >= 3 * apart[100] * 0.99
    assert "output 'box' weighs 100" in report.summary.rule


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"boxes": 1}, "must name one of the network's, 'cls', 'box', but it names 'boxes'; change --output-weight"),
        ({"cls": 0, "box": 0}, "all weigh 0"),
        ({"box": -1}, "must be 0 or more, but that of 'box' is -1"),
        ("box", "NAME=WEIGHT with a number, but it is '=box'"),
        (["box=much"], "NAME=WEIGHT with a number, but it is 'box=much'"),
    ],
)
def test_weights_that_cannot_be_used(weights: Any, words: str, data: tuple[Arrays, Arrays], tmp_path: Path) -> None:
    with pytest.raises(FlowError) as error:
        compressed(heads_net(), data, tmp_path, output_weight=weights)
    assert words in str(error.value)


def test_a_permitted_drop_holds_for_every_output(data: tuple[Arrays, Arrays], tmp_path: Path) -> None:
    evaluate = {name: array for name, array in data[1].items() if name != "y_box"}
    for given, kept in ((data[1], 0.02), (evaluate, 0.02)):
        report, _ = compressed(heads_net(), (data[0], given), tmp_path, max_drop=2)
        cls, box = report.summary.accuracy.outputs
        assert (cls.values["float"] or 0) - (cls.values["pruned"] or 0) <= kept
        lost = (box.values["float"] or 0) - (box.values["pruned"] or 0) if box.values else box.divergence["pruned"]
        assert lost is not None and lost <= kept and report.summary.bits_per_weight < 7


def test_the_default_budget_is_one_the_network_allows(tmp_path: Path) -> None:
    """Four weights of two inputs each share a metadata byte: 5 bits are too few."""
    b = Builder(5)
    weights, bias = (b.constant(b.rng.normal(0, 1, shape).astype(np.float32)) for shape in ((4, 2), (4,)))
    model = b.model({"x": ["N", 2]}, b.node("Gemm", "x", weights, bias, transB=1))
    given = samples(model, 16)
    report = flow.compress(model, tmp_path / "out.onnx", calibration=given)
    assert report.summary.bits_per_weight == 6
    assert any("default of 5 bits per weight is less than" in note and "6.00 bits" in note for note in report.notes)
    with pytest.raises(FlowError, match=r"between 6.00 and 8 bits per weight.*it is 5; change --bits"):
        flow.compress(model, tmp_path / "other.onnx", calibration=given, bits=5)


# -------------------------------------------------------------------------------- what is said
def labels_first_net() -> onnx.ModelProto:
    """Gemm and Softmax; `label` [N] int64 first, then `p` [N, 6], as exporters of scikit-learn write them."""
    model = heads_net(("cls",))
    nodes = [
        helper.make_node("Softmax", ["cls"], ["p"], "softmax"),
        helper.make_node("ArgMax", ["p"], ["label"], "argmax", axis=1, keepdims=0),
    ]
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]))
    model.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, ["N", 6]))
    return model


def test_a_label_is_compared_as_a_label(data: tuple[Arrays, Arrays], tmp_path: Path) -> None:
    model = labels_first_net()
    report, pruned = compressed(model, data, tmp_path, bits=4)
    label, p = report.summary.accuracy.outputs
    wanted, got = (runtime.predict(net, {"x": data[1]["x"]}) for net in (model, pruned))
    assert label.agreement["pruned"] == pytest.approx((wanted == got).mean())
    assert 0.5 < (wanted == got).mean() < 1
    assert label.metric == "accuracy" and label.values["pruned"] == pytest.approx((got == data[1]["y"]).mean())
    assert p.scores and p.metric is None and p.agreement["pruned"] == label.agreement["pruned"]
    other, same = compressed(model, data, tmp_path, bits=4, output_weight={"label": 0})
    assert constants(pruned) == constants(same) and other.summary.bits_per_weight == report.summary.bits_per_weight


def test_one_value_is_no_class(tmp_path: Path) -> None:
    b = Builder(5)
    weights, bias = (b.constant(b.rng.normal(0, 1, shape).astype(np.float32)) for shape in ((1, 32), (1,)))
    model = b.model({"x": ["N", 32]}, b.node("Gemm", "x", weights, bias, transB=1))
    given = samples(model, 16)
    evaluate = given | {"y": np.arange(16) % 2}
    report = flow.compress(model, tmp_path / "out.onnx", calibration=given, evaluate=evaluate)
    (only,) = report.summary.accuracy.outputs
    assert not only.agreement and only.metric is None and report.summary.accuracy.pruned is None
    assert any("labels y of the evaluation arrays are no classes or values of an output" in n for n in report.notes)


def test_every_output_is_printed_with_its_metric(
    data: tuple[Arrays, Arrays], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, _ = compressed(heads_net(), data, tmp_path, preset="moderate")
    print_report(report)
    lines = capsys.readouterr().out.splitlines()
    for start in (
        "Output 'cls', top-1 on 96 samples of the evaluation arrays: float 100.00 %, INT8 ",
        "Output 'cls', INT8 against float: same class for ",
        "Output 'cls', pruned against float: same class for ",
        "Output 'cls', pruned against INT8: same class for ",
        "Output 'box', R2 on 96 samples of the evaluation arrays: float ",
        "Output 'box', mean squared error on 96 samples",
        "Output 'box', INT8 against float: error over variance ",
        "Output 'box', pruned against float: error over variance ",
        "Output 'box', pruned against INT8: error over variance ",
    ):
        assert any(line.startswith(start) for line in lines), (start, lines)


def test_what_int8_alone_loses_is_said(data: tuple[Arrays, Arrays], tmp_path: Path) -> None:
    """A range of calibration fifty times too wide leaves few of 256 steps."""
    good, _ = compressed(heads_net(), data, tmp_path, preset="moderate")
    assert not any("Warning" in note and " dB" in note for note in good.notes)
    wide = {"x": data[0]["x"] * np.float32(50)}
    report, _ = compressed(heads_net(), (wide, data[1]), tmp_path, preset="moderate")
    low, high = (f"{edge(wide['x']):.3g}" for edge in (np.min, np.max))
    assert report.notes[0].startswith(
        f"Warning, calibration: its samples reach from {low} to {high} at input 'x', those"
    )
    said = [note for note in report.notes if "before any pruning" in note]
    assert len(said) == 2 and "output 'cls' of the INT8 network keeps" in said[0]


def test_what_int8_alone_loses_is_said_without_labels_and_of_an_own_metric() -> None:
    def said(same: float, own: OwnAccuracy | None = None, source: str = "file.npz") -> list[str]:
        output = OutputAccuracy("cls", True, agreement={"int8": same, "pruned": 0.5})
        notes: list[str] = []
        note_int8(Fidelity(1, source, ()), Accuracy(1, source, outputs=(output,), own=own), notes)
        return notes

    (note,) = said(0.97)
    assert note.startswith("Warning: output 'cls' of the INT8 network loses 3.0 points of equal classes before any")
    assert not said(0.995) and not said(0.9, source=MADE_UP)
    for lower, int8 in ((False, 1.95), (True, 2.05)):
        (note,) = said(1.0, OwnAccuracy("own.py:score", lower, {"float": 2.0, "int8": int8}))
        assert note.startswith("Warning: the INT8 network loses 0.05 of own.py:score (2) before any pruning")
        assert not said(1.0, OwnAccuracy("own.py:score", not lower, {"float": 2.0, "int8": int8}))


def test_labels_that_count_from_one_are_said(data: tuple[Arrays, Arrays], tmp_path: Path) -> None:
    plain = {name: array for name, array in data[1].items() if name != "y_box"}
    given, _ = compressed(heads_net(), (data[0], plain), tmp_path, preset="moderate")
    report, _ = compressed(heads_net(), (data[0], plain | {"y": plain["y"] + 1}), tmp_path, preset="moderate")
    assert any("labels y of the evaluation arrays count the classes of output 'cls' from 1" in n for n in report.notes)
    assert report.summary.accuracy == given.summary.accuracy
    few = {name: array[plain["y"] < 5] for name, array in plain.items()}
    report, _ = compressed(heads_net(), (data[0], few | {"y": few["y"] + 1}), tmp_path, preset="moderate")
    assert any("labels of output 'cls' in the evaluation arrays seem to count from 1" in note for note in report.notes)


def test_text_without_an_output_of_text(data: tuple[Arrays, Arrays], tmp_path: Path) -> None:
    words = {"x": data[1]["x"], "y": np.array(["cat", "dog"] * 48)}
    report, _ = compressed(heads_net(), (data[0], words), tmp_path, preset="moderate")
    assert any("are text, but no output gives text; give class numbers" in note for note in report.notes)
    given, _ = compressed(heads_net(), data, tmp_path, preset="moderate")
    named = data[1] | {"y": np.array([f"class {number}" for number in range(6)])[data[1]["y"]]}
    report, _ = compressed(heads_net(), (data[0], named), tmp_path, preset="moderate")
    assert any("the 6 names in alphabetical order ('class 0', 'class 1', ..., 'class 5')" in n for n in report.notes)
    assert report.summary.accuracy == given.summary.accuracy


def test_labels_of_no_output_and_labels_of_an_output_that_has_its_own(
    data: tuple[Arrays, Arrays], tmp_path: Path
) -> None:
    plain = data[1]
    labels = {"x": plain["x"], "y_nothing": plain["y"]}
    report, _ = compressed(heads_net(), (data[0], labels), tmp_path, preset="moderate")
    wanted = "The array y_nothing of the evaluation arrays is not used: labels are named y, or y_NAME after an output"
    assert sum(note.startswith(wanted) for note in report.notes) == 1
    labels = {"x": plain["x"], "y": plain["y"], "y_cls": plain["y"]}
    report, _ = compressed(heads_net(), (data[0], labels), tmp_path, preset="moderate")
    assert any("fit no output but 'cls', which has labels of its own" in note for note in report.notes)


def test_labels_of_the_calibration_samples_change_the_objective_with_a_note(
    data: tuple[Arrays, Arrays], tmp_path: Path
) -> None:
    plain = {"x": data[0]["x"]}
    labels = plain | {"y": runtime.predict(heads_net(), plain).argmax(axis=1)}
    for model, given, said in (
        (heads_net(), labels, True),
        (heads_net(), plain, False),
        (labels_first_net(), labels, False),  # the scores are behind a Softmax
    ):
        report, _ = compressed(model, (given, data[1]), tmp_path, bits=5)
        found = [note for note in report.notes if "holds class scores: the budget" in note]
        assert len(found) == said and all("of the calibration arrays say that output 'cls'" in note for note in found)


def auto_encoder() -> onnx.ModelProto:
    """Gemm, Relu, Gemm from [N, 32] to [N, 32]; float."""
    b = Builder(9)
    first, second = (b.constant(b.rng.normal(0, 0.3, (32, 32)).astype(np.float32)) for _ in range(2))
    return b.model({"x": ["N", 32]}, b.node("Gemm", b.node("Relu", b.node("Gemm", "x", first)), second))


def test_labels_of_an_auto_encoder(tmp_path: Path) -> None:
    """Zeros and ones may be classes: they are not used, to calibrate or evaluate, until it is said what they are."""
    model, x = auto_encoder(), samples(auto_encoder(), 40)
    labelled = x | {"y": (np.arange(40) % 2).astype(np.int64)}
    found, plain = (compressed(model, (given, labelled), tmp_path, bits=6) for given in (labelled, x))
    assert constants(found[1]) == constants(plain[1])
    assert not any("holds class scores" in note for note in found[0].notes)
    calibration = import_network(read_source(model).admitted(), labelled, []).calibration
    assert calibration is not None and not calibration.every_label
    assert found[0].summary.accuracy.outputs[0].metric is None
    assert any("may be two of the classes of output" in n and "--metric top1 or auc" in n for n in found[0].notes)
    asked, _ = compressed(model, (labelled, labelled), tmp_path, preset="moderate", metric="auc")
    error = ((runtime.predict(model, x) - x["x"]) ** 2).mean(axis=1)
    above = error[1::2, None] > error[None, ::2]
    (only,) = asked.summary.accuracy.outputs
    assert only.metric == "AUC of the reconstruction error" and only.values["float"] == pytest.approx(above.mean())


def test_a_quarter_of_the_calibration_samples_evaluates(
    data: tuple[Arrays, Arrays], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same as if the user had given the two parts; the others alone calibrate."""
    x, y = (data[1][name] for name in ("x", "y"))
    held = np.arange(96) % 4 == 3
    options: dict[str, Any] = {"preset": "moderate", "force": True}
    report = flow.compress(heads_net(), tmp_path / "one.onnx", calibration=(x, y), **options)
    apart = flow.compress(
        heads_net(), tmp_path / "two.onnx", calibration=(x[~held], y[~held]), evaluate=(x[held], y[held]), **options
    )
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    accuracy = report.summary.accuracy
    assert accuracy == replace(apart.summary.accuracy, source="the calibration arrays, held out")
    assert accuracy.samples == 24 and accuracy.outputs[0].metric == "top-1"
    assert any("24 of the 96 samples of the calibration arrays are held out" in note for note in report.notes)
    assert report.summary.fidelity.samples == 24
    capsys.readouterr()
    few = flow.compress(heads_net(), tmp_path / "one.onnx", calibration=x[:31], **options)
    print_report(few)
    lines = capsys.readouterr().out.splitlines()
    assert (
        sum(" on made-up input: " in line for line in lines if line.startswith("Output")) == 6
    )  # INT8, pruned, and pruning alone, of two outputs
    assert any(line.startswith("INT8 against the network given (tier 0): ") for line in lines)  # calibration samples
    assert few.summary.accuracy.made_up


@pytest.mark.parametrize(("wanted", "held"), [(None, 10), (4, 10), (15, 15), (20, 20), (21, None)])
def test_as_many_are_held_out_as_are_simulated(wanted: int | None, held: int | None) -> None:
    x = np.arange(40, dtype=np.float32)[:, None]
    request = CompileRequest.of(model=heads_net(), output="out", calibration={"x": x, "y": x}, samples=wanted)
    rest, evaluate = divided(read_source(heads_net()), request, [])
    if held is None:
        assert evaluate is None and rest is request.calibration
        return
    parts = [arrays(each) for each in (rest, evaluate) if each is not None]
    assert [len(part["x"]) for part in parts] == [40 - held, held]
    assert sorted(np.concatenate([part["y"] for part in parts]).ravel().tolist()) == list(range(40))


# -------------------------------------------------------------------------------- a metric that is asked for
OWN = """
def right(outputs, y):
    assert set(outputs) == {"cls", "box"} and set(y) == {"y", "y_box"}
    return (outputs["cls"].argmax(axis=1) == y["y"]).mean()

def error(outputs, y):
    return abs(outputs["box"] - y["y_box"]).mean(), "lower"

def few(outputs, y):
    return 1 / 0
"""


def test_a_metric_is_taken_for_the_one_found(
    data: tuple[Arrays, Arrays], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, _ = compressed(heads_net(), data, tmp_path, preset="moderate", metric="mse")
    cls, box = report.summary.accuracy.outputs
    assert box.metric == "mean squared error" and box.second == "R2" and box.lower
    assert cls.metric == "top-1" and not cls.lower  # has labels of its own
    print_report(report)
    assert "Output 'box', mean squared error on 96 samples of the evaluation arrays: float " in capsys.readouterr().out
    with pytest.raises(
        FlowError, match=r"--metric miou compares class numbers for each pixel .*'cls' \[96, 6\] float32"
    ):
        compressed(heads_net(), data, tmp_path, preset="moderate", metric="miou")
    for evaluate, words in (
        ({"x": data[1]["x"]}, "needs labels y, but there are none in the evaluation arrays"),
        (None, "needs labels y, but there are none in the calibration arrays, held out"),
    ):
        with pytest.raises(FlowError, match=words):
            compressed(heads_net(), (data[0], evaluate), tmp_path, metric="top1")  # type: ignore[arg-type]
    one = {"x": data[1]["x"], "y": np.zeros(96, np.int64)}
    with pytest.raises(FlowError, match="--metric auc has no value at output 'cls'"):
        compressed(heads_net(), (data[0], one), tmp_path, metric="auc")


def test_a_metric_of_the_users(data: tuple[Arrays, Arrays], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").write_text(OWN)
    reports = {}
    for name in ("right", "error"):
        metric = f"{tmp_path / 'own.py'}:{name}"
        reports[name], _ = compressed(heads_net(), data, tmp_path, preset="moderate", metric=metric)
        print_report(reports[name])
    said = capsys.readouterr().out
    right, error = (reports[name].summary.accuracy.own for name in ("right", "error"))
    assert right is not None and error is not None
    assert right.values == reports["right"].summary.accuracy.outputs[0].values and not right.lower
    assert error.lower and error.metric == "own.py:error" and set(error.values) == {"float", "int8", "pruned"}
    assert "own.py:right on 96 samples of the evaluation arrays: float 1, INT8 " in said
    assert "own.py:error on 96 samples of the evaluation arrays, lower is better: float " in said
    with pytest.raises(FlowError, match=r"the function 'few' of '.*own.py' fails in line 10: ZeroDivisionError"):
        compressed(heads_net(), data, tmp_path, preset="moderate", metric=f"{tmp_path / 'own.py'}:few")


def test_a_permitted_drop_is_of_the_metric_asked_for(data: tuple[Arrays, Arrays], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    bits = {}
    wide = data[1] | {"y_box": data[1]["y_box"] + np.float32(50)}  # so that errors are large beside those of 8 bits
    for metric in ("mse", f"{tmp_path / 'own.py'}:error", f"{tmp_path / 'own.py'}:right"):
        given = data[1] if metric == "mse" else wide
        report, _ = compressed(heads_net(), (data[0], given), tmp_path, max_drop=3, metric=metric)
        accuracy = report.summary.accuracy
        bits[metric] = report.summary.bits_per_weight
        if accuracy.own is not None:
            before, after = (accuracy.own.values[form] or 0 for form in ("float", "pruned"))
            assert (after - before if accuracy.own.lower else before - after) <= 0.03 * before + 1e-9
        else:
            box = accuracy.outputs[1].second_values
            assert (box["float"] or 0) - (box["pruned"] or 0) <= 0.03
    assert len(set(bits.values())) > 1


@pytest.mark.full
def test_a_build_is_judged_by_its_metric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build records the metric; `cosim` takes it again, but not code that the build does not have."""
    model, x = residual_net(), samples(residual_net(), 6)["x"]
    (tmp_path / "own.py").write_text("def high(outputs, y):\n    return max(o.max() for o in outputs.values())\n")
    fast: dict[str, Any] = {"engine": "myhdl", "samples": 1, "coverage": 0}
    given = fast | {"evaluate": {"x": x, "y": np.arange(6) % 5 + 1}, "array": (2, 2), "preset": "moderate"}
    built = flow.compile(model, tmp_path / "one", metric="auc", **given).summary.accuracy.outputs[0]
    again = flow.cosim(tmp_path / "one", **fast).summary.accuracy.outputs[0]
    assert built.metric == again.metric == "AUC" and built.values == again.values  # labels count from 0 in the build
    own = f"{tmp_path / 'own.py'}:high"
    told = flow.cosim(tmp_path / "one", metric=own, **fast | {"coverage": 0.01})
    values = told.summary.accuracy.own.values if told.summary.accuracy.own else {}
    assert set(values) == {"int8", "pruned", "pruned_simulated", "rtl"} and values["rtl"] == values["pruned_simulated"]
    print_report(told)
    assert "own.py:high on the 1 sample simulated: RTL and reference " in capsys.readouterr().out
    with pytest.raises(FlowError, match="--metric miou compares"):
        flow.cosim(tmp_path / "one", metric="miou", **fast)
    build = replace(read(tmp_path / "one"), metric="own.py:high")
    monkeypatch.setattr(import_module("flow.api.cosim"), "read", lambda folder: build)
    notes = flow.cosim(tmp_path / "one", **fast).notes
    assert any("metric of the build, own.py:high, is not in it" in note for note in notes)


def test_a_decoder_with_a_cache(tmp_path: Path) -> None:
    """All products with constants are on the array; a node that makes a kept tensor beside others is cut, too."""
    feeds = decoders.feeds(32, 2)
    labels = {"y": np.where(feeds["mask"][:, -decoders.TOKENS :], np.roll(feeds["tokens"], -1, 1), -1)}
    report, model = compressed(decoders.decoder(), (decoders.feeds(40, 1), feeds | labels), tmp_path, bits=5,
                               metric="perplexity")  # fmt: skip
    assert len(report.layers) == sum(node.op_type == "MatMul" for node in model.graph.node) == 7
    logits, key, value = report.summary.accuracy.outputs
    assert logits.metric == "perplexity" and logits.lower and logits.scores
    before, after = (logits.values[form] or 0 for form in ("float", "pruned"))
    assert after == pytest.approx(before, rel=0.05) and (logits.divergence["pruned"] or 1) < 0.02
    assert min(each.sqnr["pruned"] or 0 for each in (key, value)) > 20


def language_model(place: Path, **options: Any) -> OutputAccuracy:
    """What the compressed network that ships is worth, on a part of its samples."""
    parts = {}
    for name, count in (("calibration", 24), ("test", 64)):
        with np.load(LANGUAGE.with_name(f"bytes_lm_{name}.npz")) as found:
            parts[name] = {key: found[key][:count] for key in ("x", "y")}
    model = onnx.load(str(LANGUAGE))
    report, _ = compressed(
        model, (parts["calibration"], parts["test"]), place, metric="perplexity", calibrate="minmax", **options
    )
    (row, *_) = tables.answers(report.summary.accuracy).rows
    assert row.cells[0].text == "perplexity, lower is better" and row.cells[5].text.endswith((" % lost", " % won"))
    return report.summary.accuracy.outputs[0]


def test_the_perplexity_of_a_language_model(tmp_path: Path) -> None:
    found = language_model(tmp_path, bits=4.25)
    given, int8, pruned = (found.values[form] or 0 for form in ("float", "int8", "pruned"))
    assert 3 < given < 6 and given < int8 < 1.03 * given and int8 < pruned < 1.2 * given
    assert found.lower and found.scores and 0 < (found.divergence["pruned"] or 0) < 0.2


@pytest.mark.full
def test_the_bits_that_a_perplexity_needs(tmp_path: Path) -> None:
    found = language_model(tmp_path, max_drop=5)
    given, pruned = (found.values[form] or 0 for form in ("float", "pruned"))
    assert given < pruned <= 1.05 * given
