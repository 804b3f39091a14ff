"""Damaged and hostile input, 20,000 times: it works, or it is refused in one line; nothing else happens.

Every input goes through the functions a user's command calls. A crash, a hang, any exception but FlowError, or a
file outside the folder given fails. Hypothesis draws the seeds, and prints that of an input that fails; NumPy makes
the inputs of them, for they are large and many. BBS_FUZZ scales their number.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings, strategies
from onnx import TensorProto, helper, numpy_helper

import flow
from flow.cli import commands
from flow.errors import FlowError
from flow.frontend import quantize
from flow.frontend.dialects import standard as dialects
from flow.frontend.entry import checks, load
from flow.frontend.int8 import cut
from flow.network import samples
from flow.output.build import read, read_memory
from flow.output.manifest import verify_build
from tests.helpers.nets import conv_net, integer_net, one_node_net, residual_net, small, wide_net
from tests.helpers.qonnx import qonnx_net
from tests.helpers.tools import once_each, require_engine

SCALE = float(os.environ.get("BBS_FUZZ", "1"))
COUNTS = {"bytes": 6000, "graph": 6000, "inspect": 200, "npz": 4000, "manifest": 2500, "memory": 1000, "options": 600}
assert sum(COUNTS.values()) >= 20_000
SECRET = "what stands in a file beside the network's folder"
Generator = np.random.Generator


def count(kind: str, parts: int = 1) -> int:
    return int(SCALE * COUNTS[kind]) // parts


def examples(number: int, part: int, call: Callable[[Generator], None]) -> None:
    """Call with so many generators; what another `part` gets is something else."""

    @settings(max_examples=number, suppress_health_check=list(HealthCheck))
    @given(strategies.integers(0, 2**64 - 1))
    def one(seed: int) -> None:
        call(np.random.default_rng([part, seed]))

    one()


class Tally:
    """What became of the inputs of a test."""

    def __init__(self) -> None:
        self.accepted = self.refused = 0

    def attempt(self, call: Callable[[], object]) -> None:
        try:
            call()
            self.accepted += 1
        except FlowError as error:
            message = str(error)
            assert 20 < len(message) < 12_000, message
            assert SECRET not in message
            self.refused += 1

    def check(self, inputs: int) -> None:
        """All inputs counted, of both kinds."""
        assert self.accepted + self.refused >= inputs
        assert self.refused > inputs // 10
        assert self.accepted > 0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, beside a file that must be neither read nor changed; nothing else may appear."""
    (tmp_path / "secret").write_text(SECRET)
    inner = tmp_path / "work"
    inner.mkdir()
    monkeypatch.chdir(inner)
    yield inner
    assert {path.name for path in tmp_path.iterdir()} == {"secret", "work"}
    assert (tmp_path / "secret").read_text() == SECRET


def networks() -> list[onnx.ModelProto]:
    return [
        conv_net(),
        conv_net(unsigned=True),
        residual_net(),
        wide_net(),
        one_node_net(),
        integer_net(),
        qonnx_net(4),
    ]


# -------------------------------------------------------------------------------- networks
def use(path: Path) -> None:
    """What every command does first with an INT8 network; a float one is only read, for quantizing takes long."""
    model, _ = dialects.standard_quantization(load.read(path), str(path))
    checks.check(model, str(path))
    if checks.is_quantized(model):
        samples.random(model, 1)
        network = cut.partition(quantize.quantize(model).model, "net")
        for layer in network.layers:
            assert layer.weights.dtype == np.int8 and layer.macs >= 0


def damaged(content: bytes, generator: Generator) -> bytes:
    """Bytes changed, inserted, removed, doubled or cut off."""
    data = bytearray(content)
    kinds = (0, 5) if generator.random() < 0.6 else range(6)
    for _ in range(generator.integers(1, 6)):
        at = int(generator.integers(len(data))) if data else 0
        match pick(kinds, generator):
            case 0:
                data[at : at + 1] = bytes([generator.integers(256)])
            case 1:
                data[at:at] = generator.bytes(int(generator.integers(1, 9)))
            case 2:
                del data[at : at + int(generator.integers(1, 9))]
            case 3:
                del data[at if generator.random() < 0.1 else -1 :]
            case 4:
                data[at:at] = data[at : at + int(generator.integers(1, 40))]
            case 5:
                data[at : at + 1] = bytes([generator.choice([0, 1, 127, 128, 255])])
    return bytes(data)


@pytest.mark.parametrize("part", once_each(range(4), lambda part: True))
def test_damaged_network_files(place: Path, part: int) -> None:
    tally, files = Tally(), [network.SerializeToString() for network in networks()]

    def one(generator: Generator) -> None:
        (place / "net.onnx").write_bytes(damaged(pick(files, generator), generator))
        tally.attempt(lambda: use(place / "net.onnx"))

    examples(count("bytes", 4), part, one)
    tally.check(count("bytes", 4))


NAMES = ["", "x", "../../secret", "/etc/passwd", "a\nb", "<script>", "%s%n", "é\u202e", "n" * 5000, "c0", "t1", "t2"]
SIZES = [0, 1, -1, 2, 3, 7, 2**16, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63)]
NUMBERS = [0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-45, 3e38]


def rearranged(model: onnx.ModelProto, generator: Generator) -> onnx.ModelProto:
    """A valid protobuf that is another network, if it is any."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for _ in range(generator.integers(1, 4)):
        with suppress(LookupError):  # nothing there to change
            CHANGES[generator.integers(len(CHANGES))](copy, generator)
    return copy


def pick(items: Any, generator: Generator) -> Any:
    if not len(items):
        raise LookupError
    return items[int(generator.integers(len(items)))]


def stored(model: onnx.ModelProto, generator: Generator) -> onnx.TensorProto:
    """A constant that still holds what its shape says."""
    tensor = pick(model.graph.initializer, generator)
    assert isinstance(tensor, onnx.TensorProto)
    try:
        numpy_helper.to_array(tensor)
    except Exception:
        raise LookupError from None
    return tensor


def _size(model: onnx.ModelProto, generator: Generator) -> None:
    tensor = pick(model.graph.initializer, generator)
    if tensor.dims:
        tensor.dims[int(generator.integers(len(tensor.dims)))] = pick(SIZES, generator)
    else:
        tensor.dims.append(pick(SIZES, generator))


def _element(model: onnx.ModelProto, generator: Generator) -> None:
    pick(model.graph.initializer, generator).data_type = int(generator.integers(0, 30))


def _value(model: onnx.ModelProto, generator: Generator) -> None:
    tensor = stored(model, generator)
    array = numpy_helper.to_array(tensor).copy()
    if array.size and array.dtype.kind == "f":
        array.reshape(-1)[int(generator.integers(array.size))] = pick(NUMBERS, generator)
    elif array.size:
        array.reshape(-1)[int(generator.integers(array.size))] = pick([0, 1, -1, 127, -128], generator) & 0x7F
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _shape(model: onnx.ModelProto, generator: Generator) -> None:
    tensor = stored(model, generator)
    array = numpy_helper.to_array(tensor)
    shapes = [array.reshape(-1), array.reshape(1, *array.shape), np.tile(array, 5)]
    if array.ndim:
        shapes += [array[..., :0], array[:1], array.T]
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(pick(shapes, generator)), tensor.name))


def _wire(model: onnx.ModelProto, generator: Generator) -> None:
    nodes = model.graph.node
    node, other = pick(nodes, generator), pick(nodes, generator)
    names = [*other.output, *other.input, *NAMES]
    ends = node.input if generator.random() < 0.7 and node.input else node.output
    if ends:
        ends[int(generator.integers(len(ends)))] = pick(names, generator)


def _inputs(model: onnx.ModelProto, generator: Generator) -> None:
    node = pick(model.graph.node, generator)
    if generator.random() < 0.5 and node.input:
        del node.input[-1]
    else:
        node.input.append(pick([*NAMES, *pick(model.graph.node, generator).output], generator))


def _name(model: onnx.ModelProto, generator: Generator) -> None:
    graph = model.graph
    places = [*graph.node, *graph.initializer, *graph.input, *graph.output, graph]
    pick(places, generator).name = pick(NAMES, generator)


def _operator(model: onnx.ModelProto, generator: Generator) -> None:
    operators = [
        "Conv",
        "Gemm",
        "MatMul",
        "Relu",
        "Clip",
        "Reshape",
        "Expand",
        "Tile",
        "ConstantOfShape",
        "Range",
        "Pad",
        "Resize",
        "Loop",
        "If",
        "Scan",
        "LSTM",
        "QuantizeLinear",
        "DequantizeLinear",
        "Nothing",
    ]
    pick(model.graph.node, generator).op_type = pick(operators, generator)


def _attribute(model: onnx.ModelProto, generator: Generator) -> None:
    node = pick(model.graph.node, generator)
    names = [
        "axis",
        "group",
        "pads",
        "strides",
        "dilations",
        "kernel_shape",
        "auto_pad",
        "transA",
        "transB",
        "alpha",
        "block_size",
        "perm",
        "output_dtype",
        "ceil_mode",
    ]
    size = pick(SIZES, generator)
    values = [[], [size], [size] * 4, size, 0, 1, -1, 0.5, "SAME_UPPER", b"\xff\xfe", [0, 0], [1, 1, 1, 1], "x"]
    value = pick(values, generator)
    name = pick(names, generator)
    kept = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if value != []:
        node.attribute.append(helper.make_attribute(name, value))


def _remove(model: onnx.ModelProto, generator: Generator) -> None:
    graph = model.graph
    parts = pick([graph.node, graph.initializer, graph.input, graph.output, model.opset_import], generator)
    if len(parts):
        del parts[int(generator.integers(len(parts)))]


def _double(model: onnx.ModelProto, generator: Generator) -> None:
    parts = pick([model.graph.node, model.graph.initializer, model.graph.input, model.graph.output], generator)
    if len(parts):
        parts.add().CopyFrom(pick(parts, generator))


def _input_shape(model: onnx.ModelProto, generator: Generator) -> None:
    if not model.graph.input:
        return
    value = pick(model.graph.input, generator)
    dims = value.type.tensor_type.shape.dim
    match generator.integers(4):
        case 0 if len(dims):
            pick(dims, generator).dim_value = pick(SIZES, generator)
        case 1 if len(dims):
            pick(dims, generator).dim_param = pick(NAMES, generator)
        case 2:
            value.type.tensor_type.elem_type = int(generator.integers(0, 30))
        case _:
            dims.add().dim_value = pick(SIZES, generator)


def _external(model: onnx.ModelProto, generator: Generator) -> None:
    tensor = pick(model.graph.initializer, generator)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    places = ["../secret", "/etc/passwd", "net.onnx", ".", "", "missing", "../work/../secret", "link", "a\0b"]
    for key, value in (("location", pick(places, generator)), ("offset", str(pick(SIZES, generator))),
                       ("length", str(pick(SIZES, generator)))):  # fmt: skip
        if generator.random() < 0.8:
            tensor.external_data.add(key=key, value=value)


def _versions(model: onnx.ModelProto, generator: Generator) -> None:
    if generator.random() < 0.5 or not model.opset_import:
        model.ir_version = pick([0, 1, 3, 8, 9, 99, 2**40], generator)
    else:
        entry = pick(model.opset_import, generator)
        entry.version = pick([0, 1, 7, 11, 13, 17, 99, -1, 2**40], generator)
        entry.domain = pick(["", "ai.onnx", "com.microsoft", "x"], generator)


CHANGES = [
    _size, _element, _value, _shape, _wire, _inputs, _name, _operator, _attribute, _remove, _double, _input_shape,
    _external, _versions,
]  # fmt: skip


@pytest.mark.parametrize("part", once_each(range(4), lambda part: True))
def test_rearranged_networks(place: Path, part: int) -> None:
    tally, originals = Tally(), networks()
    (place / "link").symlink_to("../secret")

    def one(generator: Generator) -> None:
        made = rearranged(pick(originals, generator), generator)
        (place / "net.onnx").write_bytes(made.SerializeToString())
        tally.attempt(lambda: use(place / "net.onnx"))

    examples(count("graph", 4), part, one)
    tally.check(count("graph", 4))


@pytest.mark.parametrize("part", once_each(range(2), lambda part: True))
def test_rearranged_float_networks_are_inspected(place: Path, part: int) -> None:
    """The whole of `bbs inspect`, quantization included."""
    tally = Tally()

    def one(generator: Generator) -> None:
        (place / "net.onnx").write_bytes(rearranged(one_node_net(), generator).SerializeToString())
        tally.attempt(lambda: flow.inspect(place / "net.onnx"))

    examples(count("inspect", 2), part, one)
    tally.check(count("inspect", 2))
    assert {path.name for path in place.iterdir()} == {"net.onnx"}


HUGE = 2**31


def huge(kind: str) -> onnx.ModelProto:
    """A file of 1 KB that asks for gigabytes."""
    float_input = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b"])
    small = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    size = numpy_helper.from_array(np.array([HUGE, 4]), "size")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    constants = [small]
    match kind:
        case "initializer":
            small.dims[0] = HUGE
        case "input":
            float_input.type.tensor_type.shape.dim[1].dim_value = HUGE
        case "constant":
            nodes = [helper.make_node("ConstantOfShape", ["size"], ["c"]), helper.make_node("Add", ["c", "x"], ["y"])]
            constants = [size]
        case "expand":
            nodes = [
                helper.make_node("Expand", ["w", "e"], ["c"]),
                helper.make_node("MatMul", ["x", "w"], ["m"]),
                helper.make_node("ReduceSum", ["c"], ["s"], keepdims=0),
                helper.make_node("Add", ["m", "s"], ["y"]),
            ]
            constants = [small, numpy_helper.from_array(np.array([HUGE // 4, 4, 4]), "e")]
        case "tile":
            nodes = [helper.make_node("Tile", ["w", "size"], ["c"]), helper.make_node("MatMul", ["x", "c"], ["y"])]
            constants = [small, size]
        case "pad":
            nodes = [helper.make_node("Pad", ["x", "p"], ["c"]), helper.make_node("ReduceSum", ["c"], ["y"])]
            constants = [numpy_helper.from_array(np.array([0, 0, 0, HUGE]), "p")]
        case "range":
            nodes = [helper.make_node("Range", ["a", "b", "c"], ["r"]), helper.make_node("ReduceSum", ["r"], ["s"]),
                     helper.make_node("Add", ["x", "s"], ["y"])]  # fmt: skip
            constants = [
                numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("a", 0), ("b", 2e9), ("c", 1))
            ]
        case "squares":  # each step of a chain is small by itself
            nodes = [
                helper.make_node("Mul", ["size", "size"], ["q"]),
                helper.make_node("ConstantOfShape", ["q"], ["c"]),
                helper.make_node("Add", ["c", "x"], ["y"]),
            ]
            constants = [numpy_helper.from_array(np.array([2**16, 2]), "size")]
        case "kernel":
            nodes = [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[HUGE], pads=[HUGE, HUGE])]
            constants = []
            float_input = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 4])
            output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b", "c"])
    graph = helper.make_graph(nodes, kind, [float_input], [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


KINDS = ["initializer", "input", "constant", "expand", "tile", "pad", "range", "squares", "kernel"]
GIGABYTE = 2**30


@pytest.mark.parametrize("kind", KINDS)
def test_gigabytes_in_a_kilobyte_are_refused(place: Path, kind: str) -> None:
    """In a process of its own, so that its peak memory can be told."""
    file = place / "net.onnx"
    file.write_bytes(huge(kind).SerializeToString())
    assert file.stat().st_size < 1024
    program = """
import re, sys
import flow
try:
    flow.inspect(sys.argv[1])
except flow.FlowError as error:
    print(error)
# ru_maxrss would be that of the process which started this one, if that is larger
print(int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) * 1024)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(flow.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    *lines, peak = done.stdout.splitlines()
    assert len(lines) == 1 and lines[0], done.stdout
    assert int(peak) < GIGABYTE


# -------------------------------------------------------------------------------- samples
def archive(generator: Generator) -> bytes:
    """An .npz of arrays that may or may not fit."""
    shapes = [(3, 4), (4,), (), (0, 4), (3, 4, 1), (2, 3, 6, 6), (1, 3, 7, 7)]
    kinds = [
        "float32",
        "float64",
        "int8",
        "uint8",
        "int64",
        "bool",
        "complex64",
        "U3",
        "S2",
        "float16",
        "datetime64[s]",
    ]
    arrays: dict[str, Any] = {}
    for name in generator.choice(["x", "y", "../../secret", "/x", "in", "y"], int(generator.integers(0, 4))):
        array = generator.standard_normal(pick(shapes, generator))
        if array.size and generator.random() < 0.3:
            array.reshape(-1)[0] = pick(NUMBERS, generator)
        with np.errstate(all="ignore"):
            arrays[str(name)] = np.asarray(array).astype(pick(kinds, generator))
    if generator.random() < 0.05:
        arrays["o"] = np.array([{}, []], object)
    buffer = io.BytesIO()
    (np.savez if generator.random() < 0.5 else np.savez_compressed)(buffer, allow_pickle=True, **arrays)
    return buffer.getvalue()


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_damaged_samples(place: Path) -> None:
    tally = Tally()
    models = [one_node_net(shape=("N", 4)), conv_net(), residual_net()]
    good = io.BytesIO()
    np.savez(good, x=np.zeros((3, 4), np.float32), y=np.zeros(3, np.int64))

    def one(generator: Generator) -> None:
        content = good.getvalue() if generator.random() < 0.5 else archive(generator)
        if generator.random() < 0.6:
            content = damaged(content, generator)
        (place / "s.npz").write_bytes(content)
        tally.attempt(lambda: samples.load(place / "s.npz", pick(models, generator), "calibration"))

    examples(count("npz"), 0, one)
    tally.check(count("npz"))
    assert {path.name for path in place.iterdir()} == {"s.npz"}


def test_gigabytes_in_an_archive_are_refused(place: Path) -> None:
    """A header that claims them, and zeros that inflate to them."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**29, 4)})
    for name, content in (("claim", header.getvalue()), ("bomb", None)):
        file = place / f"{name}.npz"
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made,
            made.open("x.npy", "w", force_zip64=True) as entry,
        ):
            entry.write(content or header.getvalue())
            for _ in range(0 if content else 128):
                entry.write(bytes(2**24))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(FlowError, match="GiB" if content is None else "cannot be read"):
            samples.load(file, one_node_net(), "calibration")
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GIGABYTE / 4


# -------------------------------------------------------------------------------- builds
@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_engine("icarus")
    folder = tmp_path_factory.mktemp("fuzz")
    assert flow.compile(small(folder), folder / "out", array=(2, 2), engine="icarus", samples=1).passed
    return folder / "out"


JUNK = [
    None,
    True,
    0,
    -1,
    3.5,
    2**70,
    "",
    "x",
    "../../secret",
    "/etc/passwd",
    "a\0b",
    [],
    {},
    [1],
    {"a": 1},
    ["../secret"],
    1e400,
]


def spoilt(content: Any, generator: Generator) -> Any:
    """A JSON value with one part replaced."""
    if isinstance(content, dict) and content and generator.random() < 0.9:
        key = pick(list(content), generator)
        match generator.integers(8):
            case 0:
                return {name: value for name, value in content.items() if name != key}
            case 1:
                return {**content, str(pick(JUNK, generator)): content[key]}
        return {**content, key: spoilt(content[key], generator)}
    if isinstance(content, list) and content and generator.random() < 0.9:
        index = int(generator.integers(len(content)))
        return [*content[:index], spoilt(content[index], generator), *content[index + 1 :]]
    return pick(JUNK, generator)


@contextmanager
def manifest(folder: Path, text: str) -> Iterator[None]:
    path = folder / "manifest.json"
    kept = path.read_bytes()
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        yield
    finally:
        path.write_bytes(kept)


@pytest.mark.full
def test_damaged_manifests(place: Path, built: Path) -> None:
    tally, folder = Tally(), Path(shutil.copytree(built, place / "out"))
    right = json.loads((folder / "manifest.json").read_text())

    def one(generator: Generator) -> None:
        text = json.dumps(spoilt(right, generator))
        if generator.random() < 0.25:
            text = damaged(text.encode(), generator).decode("utf-8", "replace")
        use = verify_build if generator.random() < 0.6 else read
        with manifest(folder, text):
            tally.attempt(lambda: use(folder))

    examples(count("manifest"), 0, one)
    tally.check(count("manifest"))
    assert not flow.verify(folder)[1].any


def test_damaged_memories(place: Path, built: Path) -> None:
    """Hex files whose sum the manifest has right, so that they are read."""
    tally, right = Tally(), (built / "memory" / "weight.hex").read_bytes()

    def one(generator: Generator) -> None:
        (place / "m.hex").write_bytes(damaged(right, generator))
        tally.attempt(lambda: read_memory(place / "m.hex", 4))

    examples(count("memory"), 0, one)
    tally.check(count("memory"))


# -------------------------------------------------------------------------------- options
def test_strange_options(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whatever is given to the command: status 0 to 2, no traceback, nothing written but what -o names."""
    small(place)
    values = [
        "0",
        "-1",
        "1",
        "1e9",
        "nan",
        "inf",
        "16x32",
        "0x0",
        "99999999999x1",
        "x",
        "²x²",
        "../..",
        ".",
        "/",
        "small.onnx",
        "small.onnx/x",
        "missing",
        "-",
        "--",
        "%n",
        "ü",
        "moderate",
        "myhdl",
    ]
    values += ["", "a\nb", "é" * 300]
    verbs = {
        "inspect": ["--json"],
        "compress": ["-o", "--bits", "--max-drop", "--block", "--preset", "--columns", "--sensitive", "--method",
                     "--calibration", "--evaluate", "--array", "--plot", "--json"],
        "compile": ["-o", "--bits", "--preset", "--array", "--engine", "--samples", "--calibration", "--resume"],
        "cosim": ["--engine", "--samples", "--fault", "--json"],
        "verify": ["--json"],
        "nothing": [],
    }  # fmt: skip
    flags = {"--json", "--resume"}
    statuses = set()

    def one(generator: Generator) -> None:
        verb = pick(list(verbs), generator)
        options = verbs[verb]
        arguments = [verb, pick(values, generator)]
        for option in [pick(options, generator) for _ in range(generator.integers(0, 4))] if options else []:
            arguments += [option] if option in flags else [option, pick(values, generator)]
        if arguments[:2] == ["compile", "small.onnx"]:  # quickly
            arguments += ["--engine", "myhdl", "--array", "2x2", "--samples", "1"]
        monkeypatch.setattr(sys, "argv", ["bbs", *arguments])
        status = 0
        try:
            commands.main()
        except SystemExit as error:
            status = int(error.code or 0)
        printed = capsys.readouterr()
        assert status in (0, 1, 2), arguments
        if status == 2 and "Usage" not in printed.err + printed.out:
            assert printed.err.splitlines()[-1].startswith("bbs: error: "), (arguments, printed.err)
        statuses.add(status)

    examples(count("options"), 0, one)
    assert statuses >= ({0, 2} if SCALE >= 1 else {2})
    assert (place / "small.onnx").read_bytes() == small(tmp_path_factory.mktemp("again")).read_bytes()
