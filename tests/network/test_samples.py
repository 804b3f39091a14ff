"""Samples: files are checked when read, missing ones are drawn at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.errors import FlowError
from flow.network import samples
from tests.helpers.nets import float_net


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
    assert np.array_equal(first.feeds["x"], again.feeds["x"]) and first.feeds["x"].std() > 0.5
