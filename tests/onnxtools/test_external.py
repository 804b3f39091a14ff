"""Large weights stay in their files: the same network comes of it, in little memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

import flow
from flow.errors import FlowError
from flow.files import scratch
from flow.frontend import admit, quantize
from flow.frontend.entry import load
from flow.frontend.int8 import cut
from flow.onnxtools import external, runtime
from tests.helpers.nets import float_net, residual_net
from tests.helpers.tools import quick_engine

WIDTH = 16


def embedding_net(width: int = WIDTH, words: int = 30) -> onnx.ModelProto:
    """Look-up, two matrix products with a Relu between, a Gemm with its matrix transposed, and a small bias."""
    rng = np.random.default_rng(0)
    sizes = {"table": (words, width), "first": (width, 2 * width), "second": (2 * width, width), "last": (5, width)}
    values = {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    values["bias"] = rng.normal(size=5).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["looked"], "look"),
        helper.make_node("MatMul", ["looked", "first"], ["a"], "one"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("MatMul", ["b", "second"], ["c"], "two"),
        helper.make_node("Gemm", ["c", "last", "bias"], ["y"], "three", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "embedding", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(array, name) for name, array in values.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in float16."""
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def half_net() -> onnx.ModelProto:
    """Conv, BatchNormalization and Relu in float16."""
    return halved(float_net())


def dynamic_net() -> onnx.ModelProto:
    """`embedding_net`, its products quantized dynamically by ONNX Runtime."""
    with scratch() as folder:
        quantize_dynamic(embedding_net(), folder / "dynamic.onnx", per_channel=True)
        return onnx.load(str(folder / "dynamic.onnx"))


def save(model: onnx.ModelProto, file: Path) -> Path:
    """With every constant as external data."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save(copy, str(file), save_as_external_data=True, location=f"{file.stem}.data", size_threshold=0)
    return file


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "LARGE_NETWORK", 1000)
    monkeypatch.setattr(load, "LARGE_WEIGHT", 300)


# -------------------------------------------------------------------------------- reading
@pytest.mark.parametrize("make", [residual_net, float_net, embedding_net])
@pytest.mark.parametrize("largest", [0, 100, 10**6])
def test_a_file_is_read_as_onnx_reads_it(tmp_path: Path, make: Callable[[], onnx.ModelProto], largest: int) -> None:
    model = make()
    model.metadata_props.add(key="author", value="nobody")
    file = tmp_path / "model.onnx"
    onnx.save(model, str(file))
    got, want = external.read(file, largest), onnx.load(str(file))
    outside = {tensor.name for tensor in got.graph.initializer if external.is_external(tensor)}
    assert outside == {tensor.name for tensor in want.graph.initializer if len(tensor.raw_data) > largest}
    for tensor, whole in zip(got.graph.initializer, want.graph.initializer, strict=True):
        assert tensor.name == whole.name
        assert np.array_equal(external.values(tensor), numpy_helper.to_array(whole))
    for each in (got, want):
        del each.graph.initializer[:]
    assert got == want


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    onnx.save(residual_net(), str(tmp_path / "whole.onnx"))
    whole, file = (tmp_path / "whole.onnx").read_bytes(), tmp_path / "part.onnx"
    for size in (1, 50, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises((DecodeError, ValueError)):
            external.read(file, 0)


@pytest.mark.usefixtures("everything_is_large")
def test_only_matrices_that_products_and_look_ups_read_stay(tmp_path: Path) -> None:
    model = admit.load(save(embedding_net(), tmp_path / "net.onnx"))
    assert set(external.weights(model)) == {"table", "first", "second", "last"}
    added = embedding_net()
    added.graph.node.append(helper.make_node("ReduceSum", ["first"], ["sum"], "sum"))
    added.graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, None))
    assert set(external.weights(load.read(save(added, tmp_path / "added.onnx")))) == {"table", "second", "last"}


# -------------------------------------------------------------------------------- the same network
def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: external.values(tensor) for tensor in model.graph.initializer}


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize("outside", [True, False], ids=["external data", "one file"])
def test_a_streamed_network_is_the_same(tmp_path: Path, outside: bool) -> None:
    """Answers of the float network, codes and scales of the INT8 network."""
    model, file = embedding_net(), tmp_path / "net.onnx"
    if outside:
        save(model, file)
    else:
        onnx.save(model, str(file))
    ids = {"ids": np.arange(30)}
    streamed = admit.load(file)
    assert external.weights(streamed)
    assert np.array_equal(runtime.predict(streamed, ids), runtime.predict(model, ids))
    got, want = (quantize.quantize(each, ids).model for each in (streamed, model))
    assert not external.weights(got)
    assert constants(got).keys() == constants(want).keys()
    for name, array in constants(want).items():
        assert np.array_equal(constants(got)[name], array), name
    assert sorted(node.SerializeToString() for node in got.graph.node) == sorted(
        node.SerializeToString() for node in want.graph.node
    )
    assert len(cut.partition(got, "net").layers) == 3


@pytest.mark.usefixtures("everything_is_large")
def test_a_streamed_network_compiles(tmp_path: Path) -> None:
    file = save(embedding_net(), tmp_path / "net.onnx")
    np.savez(tmp_path / "net_calibration.npz", x=np.arange(20))
    report = flow.compile(file, tmp_path / "out", array=(2, 2), engine=quick_engine(), coverage=0)
    assert report.summary.tier1_mismatches == report.summary.tier2_mismatches == 0
    assert len(report.layers) == 3
    assert not external.weights(onnx.load(str(tmp_path / "out" / "model_bbs.onnx"), load_external_data=False))


# -------------------------------------------------------------------------------- inspect
def test_what_is_made_goes_to_a_file_that_is_removed() -> None:
    array, few = np.arange(2**17, dtype=np.int8), np.arange(8, dtype=np.float32)
    assert not external.is_external(external.constant(array, "outside of the block"))
    with external.made_in_files():
        made = [external.constant(values, "made") for values in (array, few, array.astype(np.int64), array[::2][:-1])]
        assert [external.is_external(tensor) for tensor in made] == [True, False, False, False]
        made.append(external.constant(array[::-1], "another"))
        assert [external.size(tensor) for tensor in made[::4]] == [array.nbytes] * 2
        for tensor, values in zip(made, [array, few, array, array[::2][:-1], array[::-1]], strict=True):
            assert np.array_equal(external.values(tensor), np.asarray(values))
        place = Path(external.values(made[0]).filename)  # type: ignore[attr-defined]
        assert place.exists() and not external.stays(made[0])
    assert not place.parent.exists() and external.stays(made[0])


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), FlowError("no folder")], ids=repr)
def test_without_room_for_files_constants_stay_in_memory(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full() -> None:
        raise error

    monkeypatch.setattr(external, "scratch", full)
    with external.made_in_files():
        tensor = external.constant(np.ones(2**17, np.int8), "ones")
    assert not external.is_external(tensor) and external.values(tensor).sum() == 2**17


@pytest.mark.parametrize("make", [residual_net, float_net, embedding_net, half_net, dynamic_net])
def test_inspect_says_the_same_of_weights_in_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], onnx.ModelProto]
) -> None:
    """Weights that are folded, transposed, converted and quantized, from file to file."""
    file = save(make(), tmp_path / "net.onnx") if make is embedding_net else tmp_path / "net.onnx"
    onnx.save(make(), str(file))
    assert not external.weights(load.read(file, lean=True))
    want = flow.inspect(file)
    monkeypatch.setattr(load, "ANY_WEIGHT", 30)
    monkeypatch.setattr(external, "SMALL", 30)
    assert external.weights(load.read(file, lean=True))
    assert flow.inspect(file) == want
    with external.made_in_files():
        assert external.weights(load.from_memory(make(), lean=True))
    assert flow.inspect(make()) == want


# -------------------------------------------------------------------------------- memory
MEASURED = """
import sys, threading
import numpy as np
import onnxruntime.quantization.qdq_quantizer
from flow.frontend.int8 import cut
from flow.frontend import admit, quantize
from flow.onnxtools import external

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

before = most = anonymous()
done = threading.Event()

def watch():
    global most
    while not done.wait(0.002):
        most = max(most, anonymous())

watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
model = admit.load(sys.argv[1])
if len(sys.argv) > 2:
    cut.partition(quantize.quantize(model, np.load(sys.argv[2])).model, "net")
done.set()
watcher.join()
print(sum(array.nbytes for array in external.weights(model).values()), max(most, anonymous()) - before)
"""


def memory(*arguments: Path) -> tuple[int, int]:
    """Bytes of the weights outside, and the most memory of its own, files aside, that reading them takes."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the memory of a process is read from Linux's /proc")
    command = [sys.executable, "-c", MEASURED, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    weights, most = map(int, done.stdout.split())
    return weights, most


def chain(folder: Path, *shapes: tuple[int, int], drawn: bool) -> Path:
    """Matrix products, one after the other, with drawn matrices or, in a file of holes without any room, zeros."""
    nodes, matrices, generator = [], [], np.random.default_rng(0)
    with (folder / "chain.data").open("wb") as data:
        for number, (inputs, outputs) in enumerate(shapes):
            tensor = TensorProto(
                name=f"w{number}", data_type=TensorProto.FLOAT, dims=(inputs, outputs),
                data_location=TensorProto.EXTERNAL,
            )  # fmt: skip
            length = 4 * inputs * outputs
            for key, value in (("location", "chain.data"), ("offset", data.tell()), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
            if drawn:
                data.write(generator.normal(size=(inputs, outputs)).astype(np.float32).tobytes())
            else:
                data.truncate(data.seek(length, 1))
            matrices.append(tensor)
            nodes.append(
                helper.make_node("MatMul", [f"t{number}", f"w{number}"], [f"t{number + 1}"], f"product{number}")
            )
    ends = (("t0", shapes[0][0]), (f"t{len(shapes)}", shapes[-1][1]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]) for name, width in ends]
    graph = helper.make_graph(nodes, "chain", values[:1], values[1:], matrices)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "chain.onnx").write_bytes(model.SerializeToString())
    return folder / "chain.onnx"


@pytest.mark.full
def test_more_than_two_gigabytes_are_opened_in_little_memory(tmp_path: Path) -> None:
    weights, most = memory(chain(tmp_path, (17000, 32768), (32768, 8), drawn=False))
    assert weights > 2**31
    assert most < 100e6


def test_large_weights_are_never_held(tmp_path: Path) -> None:
    """To read, calibrate, quantize and cut 168 MB of matrices takes less than these and their 42 MB of codes."""
    file = chain(tmp_path, *[(2048, 2048)] * 10, drawn=True)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(1).normal(size=(4, 2048)).astype(np.float32))
    weights, most = memory(file, tmp_path / "x.npz")
    assert weights == 10 * 4 * 2048**2
    assert most < 1.25 * weights


INSPECTED = """
import re, sys
import onnx
import onnxruntime
import flow

def of(key):
    with open("/proc/self/status") as status:
        return int(re.search(key + r":\\s*(\\d+) kB", status.read())[1]) * 1024

inspect = flow.inspect  # imported
network = sys.argv[1] if len(sys.argv) == 2 else onnx.load(sys.argv[1])
before = of("VmRSS")
assert inspect(network).array_share == 1
print(of("VmHWM") - before)
"""


def convolutions(layers: int, channels: int) -> onnx.ModelProto:
    """As many Conv of 3x3, each with BatchNormalization and Relu behind it, over [N, channels, 4, 4]."""
    generator, nodes, constants = np.random.default_rng(0), [], []
    for name in ("scale", "shift", "mean", "variance"):
        constants.append(numpy_helper.from_array(np.ones(channels, np.float32), name))
    for number in range(layers):
        weights = generator.standard_normal((channels, channels, 3, 3), dtype=np.float32)
        constants.append(numpy_helper.from_array(weights / np.float32(3 * channels**0.5), f"w{number}"))
        nodes += [
            helper.make_node("Conv", [f"t{number}", f"w{number}"], [f"c{number}"], f"conv{number}", pads=[1] * 4),
            helper.make_node(
                "BatchNormalization", [f"c{number}", "scale", "shift", "mean", "variance"], [f"n{number}"]
            ),
            helper.make_node("Relu", [f"n{number}"], [f"t{number + 1}"]),
        ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, 4, 4]) for name in ("t0", f"t{layers}")
    ]
    graph = helper.make_graph(nodes, "convolutions", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("half", "in_memory"),
    [(True, False), *(pytest.param(False, each, marks=pytest.mark.full) for each in (False, True))],
)
def test_inspect_takes_at_most_twice_the_memory_of_the_file(tmp_path: Path, half: bool, in_memory: bool) -> None:
    """Pages of files that are mapped count, too: what is more than these is small. A model in memory is no file."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the memory of a process is read from Linux's /proc")
    file = tmp_path / "net.onnx"
    model = convolutions(34 if half else 17, 256)
    onnx.save(halved(model) if half else model, str(file))
    command = [sys.executable, "-c", INSPECTED, str(file), *(["in memory"] if in_memory else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert file.stat().st_size > 40e6
    assert int(done.stdout) < 2 * file.stat().st_size
