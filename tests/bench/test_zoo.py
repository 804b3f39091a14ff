"""The bench of public networks: files in wheels, inputs made by shape and type, what is measured."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.zoo import SAMPLES, Row, inputs, measure, networks, shown
from tests.helpers.nets import Builder, float_net


def wheel(folder: Path) -> Path:
    """A wheel with a network, and a file that is none."""
    path = folder / "package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("package/models/net.onnx", float_net().SerializeToString())
        archive.writestr("package/models/broken.onnx", b"no network")
        archive.writestr("package/__init__.py", "")
    return path


def test_networks_of_a_wheel_are_measured(tmp_path: Path) -> None:
    files = networks((wheel(tmp_path),), tmp_path / "unpacked")
    assert [file.name for file in files] == ["net.onnx", "broken.onnx"]
    taken, refused = (measure(file, 5.0) for file in files)
    assert taken.taken and taken.share == 1 and taken.reason == ""
    assert taken.int8 is not None and taken.pruned is not None and min(taken.int8, taken.pruned) > 20
    assert taken.cosine is not None and 0.9 < taken.cosine < 1
    assert not refused.taken and "is not an ONNX file" in refused.reason
    assert shown([taken, refused]).row_count == 2


def test_inputs_fit_the_network() -> None:
    """Open sizes get a shape to ask for; bytes are text, a state is zeros, a picture has values of 0 to 1."""
    b = Builder()
    y = b.node("Add", b.node("ReduceMean", "image", keepdims=0), b.node("ReduceMean", "state", keepdims=0))
    model = b.model({"image": ["N", 3, "height", "width"], "state": [2, "N", 8]}, y)
    text = onnx.helper.make_tensor_value_info("bytes", onnx.TensorProto.INT64, [1, 16])
    model.graph.input.append(text)
    asked, arrays = inputs(Path("net.onnx"), model)
    assert asked == {"image": (1, 3, 224, 224), "state": (2, 1, 8)}
    image: NDArray[np.float32] = arrays["image"]
    assert image.shape == (SAMPLES, 3, 224, 224) and 0 <= image.min() < 0.2 and 0.8 < image.max() <= 1
    assert arrays["state"].shape == (SAMPLES, 2, 1, 8) and not arrays["state"].any()
    assert arrays["bytes"].shape == (SAMPLES, 16) and arrays["bytes"].min() > 9 and arrays["bytes"].max() < 128


def test_a_row_says_what_was_not_reached() -> None:
    table = shown([Row("net.onnx", reason="too old")])
    assert [list(column.cells) for column in table.columns][:3] == [["net.onnx"], ["no"], [""]]


def test_a_reader_gets_writing() -> None:
    """In the range of its pictures: most of it is paper, the rest ink, and little between."""
    b = Builder()
    model = b.model({"x": ["N", 3, "height", "width"]}, b.node("Relu", "x"))
    asked, arrays = inputs(Path("ch_PP-OCRv4_rec.onnx"), model)
    assert asked == {"x": (1, 3, 48, 192)}
    grey = arrays["x"].mean(axis=1)
    assert grey.min() >= -1 and grey.max() <= 1 and np.ptp(grey, axis=(1, 2)).min() > 0.5
    middle = (grey.min(axis=(1, 2)) + grey.max(axis=(1, 2)))[:, None, None] / 2
    bright = (grey > middle).mean(axis=(1, 2))
    assert all(0.05 < min(share, 1 - share) < 0.5 for share in bright)
