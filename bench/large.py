"""Seconds and memory that `bbs compile --coverage 0` takes for large networks: nothing is simulated.

    python -m bench.large [NETWORK ...] [--preset NAME] [--array RxC] [--folder FOLDER]

ResNet-50 and BERT-base have their published shapes; "wide" is 2 GB of matrices. All weights are drawn (seed 0, He et
al. 2015, float32, external data), and so are the samples. Without --preset the default budget of 5 bits per weight is
tuned on the samples. Networks and builds are left in FOLDER, for `bbs cosim`, if one is given. Memory is the largest
resident set of the process, mapped files counted; processor seconds are of all its threads.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import click
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

SAMPLES = 8
CALLED = """
import resource, sys
from flow.cli import main
try:
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
"""


@dataclass
class Maker:
    """Collects the nodes and constants of a new network; the values of the constants are written straight to `data`."""

    data: BinaryIO
    file: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    drawn: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def constant(self, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        kind = TensorProto.INT64 if values.dtype == np.int64 else TensorProto.FLOAT
        name = f"constant_{len(self.constants)}"
        tensor = TensorProto(name=name, data_type=kind, dims=values.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self.file), ("offset", self.data.tell()), ("length", values.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self.data.write(values.tobytes())
        self.constants.append(tensor)
        return name

    def weights(self, *shape: int, fan_in: int) -> str:
        return self.constant(self.drawn.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in)))

    def full(self, size: int, value: float) -> str:
        return self.constant(np.full(size, value, np.float32))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def node(self, operator: str, *inputs: str, **attributes: object) -> str:
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [f"{name}.out"], name, **attributes))  # type: ignore[arg-type]
        return f"{name}.out"

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        product = self.node("MatMul", x, self.weights(inputs, outputs, fan_in=inputs))
        return self.node("Add", product, self.full(outputs, 0))

    def norm(self, x: str, width: int) -> str:
        return self.node("LayerNormalization", x, self.full(width, 1), self.full(width, 0), axis=-1)


# -------------------------------------------------------------------------------- the networks


IMAGE, CLASSES = 224, 1000


def resnet50(maker: Maker, x: str) -> str:
    """He et al., 2016, with the stride in the 3x3 convolutions; 25.6 million parameters."""

    def conv(x: str, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, factor: float = 1) -> str:
        weight = maker.weights(outputs, inputs, kernel, kernel, fan_in=inputs * kernel**2)
        y = maker.node(
            "Conv", x, weight, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4
        )  # fmt: skip
        return maker.node("BatchNormalization", y, *(maker.full(outputs, value) for value in (factor, 0, 0, 1)))

    def active(*args: int | str) -> str:
        return maker.node("Relu", conv(*args))  # type: ignore[arg-type]

    x, inputs = maker.node("MaxPool", active(x, 3, 64, 7, 2), kernel_shape=[3] * 2, strides=[2] * 2, pads=[1] * 4), 64
    for stage, count in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            y = active(active(x, inputs, width), width, width, 3, stride)
            y = conv(y, width, 4 * width, factor=0.5)
            beside = x if block else conv(x, inputs, 4 * width, 1, stride)
            x, inputs = maker.node("Relu", maker.node("Add", y, beside)), 4 * width
    x = maker.node("Flatten", maker.node("GlobalAveragePool", x))
    return maker.node("Gemm", x, maker.weights(CLASSES, inputs, fan_in=inputs), maker.full(CLASSES, 0), transB=1)


WORDS, TOKENS, WIDTH, HEADS = 30522, 128, 768, 12


def bert(maker: Maker, x: str) -> str:
    """Devlin et al., 2019, base, with its embeddings, pooler and two classes; 109 million parameters."""
    split, merged = maker.integers(0, TOKENS, HEADS, WIDTH // HEADS), maker.integers(0, TOKENS, WIDTH)
    scale, half, one, root = (maker.full(1, v) for v in ((WIDTH / HEADS) ** -0.5, 0.5, 1, 2**-0.5))
    words = maker.node("Gather", maker.weights(WORDS, WIDTH, fan_in=WIDTH), x)
    x = maker.norm(maker.node("Add", words, maker.weights(1, TOKENS, WIDTH, fan_in=WIDTH)), WIDTH)

    def heads(x: str, *order: int) -> str:
        return maker.node("Transpose", maker.node("Reshape", maker.linear(x, WIDTH, WIDTH), split), perm=order)

    for _ in range(12):
        query, key, value = heads(x, 0, 2, 1, 3), heads(x, 0, 2, 3, 1), heads(x, 0, 2, 1, 3)
        shares = maker.node("Softmax", maker.node("Mul", maker.node("MatMul", query, key), scale), axis=-1)
        seen = maker.node("Transpose", maker.node("MatMul", shares, value), perm=(0, 2, 1, 3))
        seen = maker.linear(maker.node("Reshape", seen, merged), WIDTH, WIDTH)
        x = maker.norm(maker.node("Add", seen, x), WIDTH)
        y = maker.linear(x, WIDTH, 4 * WIDTH)
        gate = maker.node("Mul", maker.node("Add", maker.node("Erf", maker.node("Mul", y, root)), one), half)
        x = maker.norm(maker.node("Add", maker.linear(maker.node("Mul", y, gate), 4 * WIDTH, WIDTH), x), WIDTH)
    first = maker.node("Squeeze", maker.node("Gather", x, maker.integers(0), axis=1), maker.integers(1))
    return maker.linear(maker.node("Tanh", maker.linear(first, WIDTH, WIDTH)), WIDTH, 2)


WIDE, DEEP = 8192, 8


def wide(maker: Maker, x: str) -> str:
    """Eight matrices of 256 MiB."""
    for _ in range(DEEP):
        x = maker.node("Relu", maker.linear(x, WIDE, WIDE))
    return x


@dataclass(frozen=True)
class Large:
    """A network: its builder, the shapes of one sample's input and output, the number of words its input may hold."""

    build: Callable[[Maker, str], str]
    input: tuple[int, ...]
    output: int
    words: int = 0


NETWORKS = {
    "resnet50": Large(resnet50, (3, IMAGE, IMAGE), CLASSES),
    "bert": Large(bert, (TOKENS,), 2, WORDS),
    "wide": Large(wide, (WIDE,), WIDE),
}


def write(name: str, folder: Path) -> tuple[Path, int]:
    """The network NAME.onnx with its weights in NAME.data, and NAME_calibration.npz; its file and its parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    file, large = folder / f"{name}.onnx", NETWORKS[name]
    kind = TensorProto.INT64 if large.words else TensorProto.FLOAT
    with (folder / f"{name}.data").open("wb") as data:
        maker = Maker(data, f"{name}.data")
        last = large.build(maker, "x")
    graph = helper.make_graph(
        maker.nodes, name, [helper.make_tensor_value_info("x", kind, ["N", *large.input])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["N", large.output])], maker.constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file.write_bytes(model.SerializeToString())
    shape = (SAMPLES, *large.input)
    x = maker.drawn.integers(0, large.words, shape) if large.words else maker.drawn.standard_normal(shape, np.float32)
    np.savez(folder / f"{name}_calibration.npz", x=x)
    parameters = sum(int(np.prod(t.dims)) for t in maker.constants if t.data_type == TensorProto.FLOAT)
    return file, parameters


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(list(NETWORKS)))
@click.option("--preset")
@click.option("--array", default="16x32")
@click.option("--folder", type=click.Path(path_type=Path))
def main(names: tuple[str, ...], preset: str | None, array: str, folder: Path | None) -> None:
    table = Table(box=None, pad_edge=False)
    for head in ("network", "million parameters", "seconds", "processor seconds", "GB of memory"):
        table.add_column(head, justify="left" if head == "network" else "right")
    with tempfile.TemporaryDirectory() as scratch:
        place = folder or Path(scratch)
        for name in names or NETWORKS:
            file, parameters = write(name, place)
            chosen = [] if preset is None else ["--preset", preset]
            command = ["compile", file, "-o", place / name, "--array", array, "--coverage", "0", "--force", *chosen]
            begin = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", CALLED, *map(str, command)], capture_output=True, text=True, check=False,
            )  # fmt: skip
            seconds = time.perf_counter() - begin
            if done.returncode:
                raise SystemExit(f"error: {name}: {done.stderr}")
            busy, memory = done.stderr.split()[-2:]
            row = parameters / 1e6, seconds, float(busy), int(memory) * 1024 / 1e9
            table.add_row(name, *(f"{value:.1f}" for value in row))
    Console(highlight=False, width=120).print(table)


if __name__ == "__main__":
    main()
