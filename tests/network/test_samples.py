"""Samples: files are checked when read, missing ones are drawn at random."""

from __future__ import annotations

import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from flow.errors import FlowError
from flow.files import sha256, write_npz
from flow.network import samples
from flow.network.samples import check_samples, load
from flow.onnxtools import runtime
from tests.helpers.nets import float_net, one_node_net


def test_load_arrays_reads_samples_and_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.ones(3), y=np.arange(3))
    assert sorted(samples.load_arrays(tmp_path / "data.npz")) == ["x", "y"]


def test_load_arrays_refuses_what_is_no_npz(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="no file"):
        samples.load_arrays(tmp_path / "none.npz")
    np.save(tmp_path / "array.npy", np.ones(3))
    with pytest.raises(FlowError, match="not an .npz archive"):
        samples.load_arrays(tmp_path / "array.npy")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(FlowError, match="not an .npz archive"):
        samples.load_arrays(tmp_path / "text.npz")
    np.savez(tmp_path / "objects.npz", x=np.array([{}, None], dtype=object))
    with pytest.raises(FlowError, match="pickled"):
        samples.load_arrays(tmp_path / "objects.npz")
    np.savez(tmp_path / "whole.npz", x=np.ones(3000))
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:5000])
    with pytest.raises(FlowError, match="half.npz"):
        samples.load_arrays(tmp_path / "half.npz")


def test_load_keeps_labels_and_refuses_too_few(tmp_path: Path) -> None:
    x = np.zeros((4, 3, 8, 8), np.float32)
    np.savez(tmp_path / "good.npz", x=x, y=np.arange(4))
    loaded = samples.load(tmp_path / "good.npz", float_net(), "evaluation")
    assert loaded.count == 4 and loaded.source == "good.npz"
    assert loaded.labels is not None and loaded.labels.tolist() == [0, 1, 2, 3]
    assert loaded.first(2).labels is not None and loaded.first(2).count == 2
    assert loaded.one(3)["x"].shape == (1, 3, 8, 8)
    np.savez(tmp_path / "bad.npz", x=x, y=np.arange(3))
    with pytest.raises(FlowError, match="3 labels `y` for 4 samples"):
        samples.load(tmp_path / "bad.npz", float_net(), "evaluation")


def test_files_beside_the_model_are_found(tmp_path: Path) -> None:
    (tmp_path / "net_test.npz").write_bytes(b"")
    assert samples.beside(tmp_path / "net.onnx", "test") == tmp_path / "net_test.npz"
    assert samples.beside(tmp_path / "net.onnx", "calibration") is None


def test_random_samples_are_the_same_every_time() -> None:
    first, again = (samples.random(float_net(), 3) for _ in range(2))
    assert first.feeds["x"].shape == (3, 3, 8, 8) and first.feeds["x"].dtype == np.float32
    assert np.array_equal(first.feeds["x"], again.feeds["x"]) and first.feeds["x"].std() > 0.2
    assert first.made_up and first.feeds["x"].min() >= 0 and first.feeds["x"].max() <= 1  # a picture


def two_inputs(first: str, second: str) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in (first, second, "sum")]
    graph = helper.make_graph([helper.make_node("Add", [first, second], ["sum"], "add")], "net", values[:2], values[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("names", [("file", "allow_pickle"), ("y", "x"), ("args", "kwds"), ("a/b", "../c")])
def test_no_name_of_an_input_is_special(tmp_path: Path, names: tuple[str, str]) -> None:
    """Names of numpy.savez's parameters, that of the labels, paths: stored samples are read back as they were."""
    model = two_inputs(*names)
    arrays = {name: np.arange(6, dtype=np.float32).reshape(2, 3) + i for i, name in enumerate(names)}
    write_npz(tmp_path / "samples.npz", arrays)
    found = load(tmp_path / "samples.npz", model, "stored")
    assert found.labels is None and found.feeds.keys() == arrays.keys()
    assert all(np.array_equal(found.feeds[name], array) for name, array in arrays.items())


def test_an_archive_is_as_numpy_writes_it(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"x": np.arange(6.0).reshape(2, 3), "y": np.arange(2)}
    write_npz(tmp_path / "ours.npz", arrays)
    np.savez(tmp_path / "theirs.npz", **arrays)
    assert (tmp_path / "ours.npz").read_bytes() == (tmp_path / "theirs.npz").read_bytes()


def test_labels_without_axes_and_members_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    model, x = two_inputs("a", "b"), np.zeros((2, 3), np.float32)
    np.savez(tmp_path / "one.npz", a=x, b=x, y=np.int64(1))
    with pytest.raises(FlowError, match="has a single value as labels `y` for 2 samples"):
        load(tmp_path / "one.npz", model, "evaluation")
    write_npz(tmp_path / "bytes.npz", {"a": x, "b": x})
    with zipfile.ZipFile(tmp_path / "bytes.npz", "a") as archive:
        archive.writestr("c", b"no array")
    with pytest.raises(FlowError, match="'c' of '.*bytes.npz' is no .npy file"):
        load(tmp_path / "bytes.npz", model, "evaluation")


@pytest.mark.parametrize(("size", "refused"), [(1000, False), (1001, True)])
def test_a_hundredfold_is_the_most_that_an_archive_inflates(
    size: int, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = zipfile.ZipInfo("x.npy")
    entry.compress_size, entry.file_size = 10, size
    monkeypatch.setattr(samples, "MOST_INFLATED", 0)
    monkeypatch.setattr(zipfile.ZipFile, "infolist", lambda self: [entry])
    with zipfile.ZipFile(tmp_path / "s.npz", "w"):
        pass
    with pytest.raises(FlowError, match="may not inflate more than a hundredfold") if refused else nullcontext():
        samples._check_archive(tmp_path / "s.npz")


def test_the_digest_of_samples_that_are_not_there(tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    assert samples.digest(file) is None
    file.write_bytes(b"data")
    assert samples.digest(file) == sha256(file)


@pytest.mark.parametrize("kind", ["U", "S", "O"])
def test_text_for_an_input_of_text(kind: str) -> None:
    model = one_node_net("Identity")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.STRING
    words = np.array([list("abcd"), ["one", "two", "three", ""]]).astype(kind)
    (found,) = check_samples(model, words, "calibration").values()
    assert found.dtype.kind == "U" and found[1, 2] == "three"
    assert list(runtime.run(model, {"x": found})["t0"][1]) == ["one", "two", "three", ""]
    with pytest.raises(FlowError, match="samples for input 'x' must be str, but they are float32"):
        check_samples(model, np.ones((2, 4), np.float32), "calibration")


def test_another_byte_order_is_the_same_type() -> None:
    (found,) = check_samples(one_node_net(), np.arange(8, dtype=">f4").reshape(2, 4), "calibration").values()
    assert found.dtype == np.float32 and found.dtype.isnative and found[1, 3] == 7
