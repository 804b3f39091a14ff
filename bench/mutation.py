"""Whether a verdict of pass can be a lie: bits of memory images, Verilog and Python are made wrong, one at a time.

    python -m bench.mutation flips | verilog | python  [--count N] [--seed S] [--results FOLDER]

flips    bits of the memory images of digits_cnn on a 4x4 array, and of a network with attention on chip: is a flip
         found when the images are read back, or by the RTL's outputs? `harmless` changed no output of several inputs.
verilog  operators, constants, conditions, edges and assignments of the Verilog of small networks, with AXI: layers one
         by one, on chip, and on chip with every unit. What does `bbs cosim` say? A mutant that passes in Icarus Verilog
         meets another network, and both in Verilator, whose registers begin at random: `equivalent` if all pass.
python   comparisons, operators, constants and conditions of files of `flow/`: do their own tests fail, or, if not,
         those that import the file? Files whose tests take long, or fail without a mutant, are left out.

Each result is a line of FOLDER/KIND.jsonl (rtl_out/mutation); a run that was stopped goes on there. A table is printed.
"""

from __future__ import annotations

import ast
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

import flow
from flow.compression.prune import prune
from flow.errors import FlowError
from flow.files import scratch, sha256
from flow.hardware.interface import Memory
from flow.judgement import images
from flow.network.reference import windows
from flow.output.build import Build, read
from flow.output.manifest import MANIFEST, Manifest
from flow.scheduling.blocks import Program
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.program import OnChip, assemble
from flow.scheduling.order import layout
from flow.scheduling.pieces import memories, whole
from flow.simulation import engines
from flow.simulation.cosim import cycle_limit
from flow.simulation.engines.base import Command, DeviceError, Result, Simulator
from flow.simulation.onchip import by_reference, run
from flow.simulation.results import expected_words
from flow.simulation.workers.job import DesignSources, Job
from flow.simulation.workers.job import run as run_here

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "models" / "digits_cnn.onnx"
CORE = (
    "flow/compression/encoding.py", "flow/scheduling/words.py", "flow/judgement/verdict.py",
    "flow/network/reference.py",
)  # fmt: skip
TRIES = 3  # random inputs of a flip that the images do not show
SECONDS = 30  # of the processor, for the tests of a Python mutant; ten times as many by the clock
PYTEST = ("-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not full")
NOT_COPIED = (".*", "__pycache__", "rtl_out")


def kept(file: Path, jobs: Sequence[str], work: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    """The result of each job, by `work` or from the file, which has one more line after each."""
    done = {}
    if file.is_file():
        done = {entry["job"]: entry for entry in map(json.loads, file.read_text().splitlines())}
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        for job in jobs:
            if job not in done:
                done[job] = {"job": job} | work(job)
                stream.write(json.dumps(done[job]) + "\n")
                stream.flush()
    return [done[job] for job in jobs]


def print_table(title: str, results: Sequence[dict[str, Any]], group: Callable[[dict[str, Any]], str]) -> None:
    """How many results there are of each kind, group by group."""
    kinds = sorted({entry["result"] for entry in results})
    table = Table(title=title, box=None, pad_edge=False)
    for head in ("", "all", *kinds):
        table.add_column(head, justify="right" if head else "left")
    for name in [*sorted({group(entry) for entry in results}), "in all"]:
        counts = Counter(entry["result"] for entry in results if name in ("in all", group(entry)))
        table.add_row(name, str(sum(counts.values())), *(str(counts[kind]) for kind in kinds))
    Console(width=160).print(table)


# Flips of bits


def flip(memories: Mapping[str, Memory], job: str) -> dict[str, Memory]:
    """The memories with bit IMAGE/NAME:WORD:BIT turned over."""
    place, word, bit = job.split(":")
    name = place.split("/")[1]
    memory = memories[name].copy()
    memory[int(word), int(bit) // 8] ^= 1 << int(bit) % 8
    return {**memories, name: memory}


def found(read_back: bool, wrong: Callable[[int], bool]) -> dict[str, Any]:
    """How a flip shows: when the images are read back, or by the RTL's outputs on the first of several inputs."""
    if read_back:
        return {"result": "read back"}
    by_seed = [wrong(seed) for seed in range(TRIES)]
    return {"result": "simulated" if by_seed[0] else "missed" if any(by_seed) else "harmless"}


@dataclass(frozen=True)
class Layers:
    """A build's layers, one by one, and their device in a simulator."""

    build: Build
    program: Program
    simulator: Simulator

    @classmethod
    def of(cls, folder: Path) -> Layers:
        build = read(folder)
        layers = layout(build.compressed.network.layers, build.compressed.allocation, build.config)
        return cls(
            build, Program(build.config, build.memories, layers), engines.ENGINES["verilator"].open(build.device)
        )

    @property
    def images(self) -> dict[str, Memory]:
        return {f"{images.LAYERS}/{name}": memory for name, memory in self.program.memories.items()}

    def job(self, job: str) -> dict[str, Any]:
        flipped = replace(self.program, memories=flip(self.program.memories, job))
        read_back = images.judge(flipped, self.build.compressed.allocation)
        return found(bool(read_back), lambda seed: self.wrong(flipped, seed))

    def wrong(self, program: Program, seed: int) -> bool:
        """Whether an output of a layer is wrong on random inputs."""
        for scheduled in program.layers:
            piece = whole(scheduled, program.config)
            shape = (1, *scheduled.layer.input_shape)
            codes = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
            given = memories(piece, program, windows(scheduled.layer, codes))
            command = Command(piece.start, len(piece.parts), cycle_limit(piece.scheduled, program.config))
            try:
                got = self.simulator.run(given, command, {"output": scheduled.output_words}).memories["output"]
            except DeviceError:
                return True
            if not np.array_equal(got, expected_words(scheduled, codes, program.config)):
                return True
        return False


@dataclass(frozen=True)
class Whole:
    """A build's whole network on chip, as it was assembled again and as its images have it."""

    build: Build
    again: OnChip
    program: OnChip
    simulator: Simulator

    @classmethod
    def of(cls, folder: Path) -> Whole:
        build = read(folder)
        assert build.whole is not None
        network, n = build.compressed.network, build.compressed.allocation
        encoded = {layer.name: prune(layer.weights, n[layer.name])[0] for layer in network.layers}
        again = assemble(chain(network), encoded, build.config)
        return cls(build, again, replace(again, memories=build.whole), engines.ENGINES["verilator"].open(build.device))

    @property
    def images(self) -> dict[str, Memory]:
        return {f"{images.NETWORK}/{name}": memory for name, memory in self.program.memories.items()}

    def job(self, job: str) -> dict[str, Any]:
        flipped = replace(self.program, memories=flip(self.program.memories, job))
        return found(bool(images.judge_on_chip(flipped, self.again)), lambda seed: self.wrong(flipped, seed))

    def wrong(self, program: OnChip, seed: int) -> bool:
        """Whether a result of a step is wrong on random inputs."""
        network, generator = self.build.compressed.network, np.random.default_rng(seed)
        feeds = {
            name: generator.normal(0, 1, array.shape).astype(array.dtype)
            for name, array in self.build.samples.one(0).items()
        }
        done = run(network, program, self.simulator, feeds)
        if done.failure is not None:
            return True
        want = by_reference(self.again, {held.tensor: done.maps[held.tensor] for held in self.again.chain.inputs})
        return any(not np.array_equal(rows, done.rows[number]) for number, rows in want.items())


def flips(count: int, seed: int, results: Path) -> None:
    """At most `count` bits of each image."""
    folder = results / "digits"
    if not (folder / MANIFEST).is_file():
        flow.compile(DIGITS, folder, pruning=flow.pruning("moderate"), array=(4, 4), samples=1, engine="verilator")
    generator, told = random.Random(seed), list[dict[str, Any]]()
    for flipping in (Layers.of(folder), Whole.of(built(results, "units"))):
        widths, jobs = {port.name: port.width for port in flipping.build.device.reads}, list[str]()
        for image, memory in flipping.images.items():
            width = widths[image.split("/")[1]]
            bits = len(memory) * width
            chosen = sorted(generator.sample(range(bits), min(count, bits)))
            jobs += [f"{image}:{place // width}:{place % width}" for place in chosen]
        told += kept(results / "flips.jsonl", jobs, flipping.job)
    print_table("Flipped bits", told, lambda entry: str(entry["job"]).split(":")[0])


# Mutants of the Verilog

PLACES: dict[str, tuple[str, Callable[[re.Match[str]], str]]] = {
    "operator": (
        r" (\+|-|&&|\|\||&|\||\^|<<|>>|==|!=|<|>|>=) ",
        lambda match: {
            "+": " - ", "-": " + ", "&&": " || ", "||": " && ", "&": " | ", "|": " & ", "^": " | ", "<<": " >> ",
            ">>": " << ", "==": " != ", "!=": " == ", "<": " <= ", ">": " >= ", ">=": " > ",
        }[match[1]],
    ),
    "constant": (
        r"(?<=[ (])(\d+'[bd])?(\d+)(?=[);])",
        lambda match: f"{match[1] or ''}{int(match[2]) ^ 1 if (match[1] or '').endswith('b') else int(match[2]) + 1}",
    ),
    "condition": (r"\bif \((.*)\) begin", lambda match: f"if (!({match[1]})) begin"),
    "edge": (r"@\(posedge clk\)", lambda match: "@(negedge clk)"),
    "assignment": (r"\w[\w\[\]:-]* <= [^;]*;", lambda match: ";"),
}  # fmt: skip


def places(text: str) -> Iterator[tuple[str, int, int, str]]:
    """Every mutant of a module's body: kind, place and its end, the text there."""
    begin = text.index("\n\n\n") if "\n\n\n" in text else 0
    for kind, (pattern, change) in PLACES.items():
        for match in re.finditer(pattern, text[begin:]):
            yield kind, begin + match.start(), begin + match.end(), change(match)


class _Floats:
    """A float network, node by node, with drawn weights."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def weights(self, *shape: int, deviation: float = 0.4) -> str:
        drawn = self.generator.normal(0, deviation, shape).astype(np.float32)
        self.constants.append(numpy_helper.from_array(drawn, f"w{len(self.constants)}"))
        return str(self.constants[-1].name)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def save(self, file: Path, shape: Sequence[int], output: str) -> None:
        """The network with this output, and samples drawn for it."""
        values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])]
        results = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, file.stem, values, results, self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(made), str(file))
        drawn = self.generator.normal(0, 1, (16, *shape)).astype(np.float32)
        for use in ("calibration", "test"):
            np.savez(file.with_name(f"{file.stem}_{use}.npz"), x=drawn)


def small_network(file: Path, shape: tuple[int, int, int] = (3, 4, 4), channels: int = 8) -> None:
    """Two convolutions with an addition around the second, pooling, and a Gemm."""
    net = _Floats()
    a = net.node("Relu", net.node("Conv", "x", net.weights(channels, shape[0], 3, 3, deviation=0.3), pads=[1, 1, 1, 1]))
    b = net.node("Add", a, net.node("Conv", a, net.weights(channels, channels, 1, 1, deviation=0.3)))
    c = net.node("Flatten", net.node("GlobalAveragePool", b))
    net.save(file, shape, net.node("Gemm", c, net.weights(5, channels, deviation=0.3), transB=1))


def odd_network(file: Path) -> None:
    """The same with maps whose rows fill no tile, and channels that fill no octet."""
    small_network(file, (5, 5, 3), 11)


def units_network(file: Path, tokens: int = 3, channels: int = 8) -> None:
    """Three tokens through LayerNormalization, an attention, a table and a product of two maps."""
    net = _Floats()
    a = net.node("MatMul", "x", net.weights(channels, channels))
    b = net.node("LayerNormalization", a, net.weights(channels), net.weights(channels), axis=-1)
    queries, keys = (net.node("MatMul", b, net.weights(channels, channels)) for _ in range(2))
    scores = net.node("MatMul", queries, net.node("Transpose", keys, perm=[0, 2, 1]))
    c = net.node("MatMul", net.node("Softmax", scores, axis=-1), queries)
    d = net.node("HardSwish", net.node("MatMul", c, net.weights(channels, channels)))
    net.save(file, (tokens, channels), net.node("MatMul", net.node("Mul", d, b), net.weights(channels, 3)))


def more_network(file: Path) -> None:
    """The same with more tokens than array rows, and channels that fill no octet."""
    units_network(file, 6, 11)


def rows_network(file: Path) -> None:
    """Five rows of 100 channels: several steps, metadata words, tiles and blocks."""
    net = _Floats()
    a = net.node("Relu", net.node("MatMul", "x", net.weights(100, 10)))
    net.save(file, (5, 100), net.node("MatMul", a, net.weights(10, 70)))


NETWORKS = {
    "layers": small_network, "rows": rows_network, "maps": small_network, "odd": odd_network, "units": units_network,
    "more": more_network,
}  # fmt: skip
ON_CHIP = ("maps", "odd", "units", "more")
SAME = {"layers": "rows", "maps": "odd", "units": "more"}  # another network for the same Verilog, for mutants that pass
TURNS = ("layers", "maps", "layers", "units", "layers")


class Here:
    """Workers that are no processes: jobs run in this one, which need not import what takes long."""

    count = queue = 1

    def simulator(self, design: DesignSources) -> Here:
        self.design = design
        return self

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        return run_here(self.design, Job(memories, command, writes))


def judged(folder: Path, engine: str) -> dict[str, Any]:
    """What `bbs cosim` says of a build, with this engine behind AXI, too."""
    here = mock.patch.object(import_module("flow.api.cosim"), "workers", lambda *_: nullcontext(Here()))
    behind = mock.patch.object(import_module("flow.api.simulate"), "engine_behind_axi", lambda *_: engine)
    try:
        with here, behind:
            report = flow.cosim(folder, engine=engine, samples=1)
    except FlowError as error:
        return {"result": "refused", "why": str(error)}
    if report.passed:
        return {"result": "passed"}
    first = report.findings[0] if report.findings else None
    return {
        "result": "caught" if first else "no finding",
        "why": None if first is None else f"{first.cause}: {first.text}",
    }


def with_file(build: Path, place: Path, name: str, text: str) -> Path:
    """A copy of a build with another Verilog file NAME, which its manifest has, too."""
    copy = Path(shutil.copytree(build, place))
    file = copy / "verilog" / name
    file.write_text(text)
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["sha256"][f"verilog/{name}"] = sha256(file)
    (copy / MANIFEST).write_text(json.dumps(manifest))
    return copy


def mutant(results: Path, job: str) -> dict[str, Any]:
    """The verdict on BUILD:FILE:BEGIN:END:KIND in a copy of the build.

    `equivalent` passes with another network and, by Verilator, from registers and memories at random, too.
    """
    build, name, begin, end, kind = job.split(":")
    text = (results / build / "verilog" / name).read_text()
    new = next(new for k, b, e, new in places(text) if (k, b, e) == (kind, int(begin), int(end)))
    told = {"old": text[int(begin) : int(end)], "new": new, "line": text[: int(begin)].count("\n") + 1}
    changed_text = text[: int(begin)] + new + text[int(end) :]
    with scratch() as place:
        try:
            for engine in ("icarus", "verilator"):
                for network in (build, SAME[build]):
                    folder = built(results, network)
                    assert (folder / "verilog" / name).read_text() == text
                    copy = place / f"{network}_{engine}"
                    said = judged(with_file(folder, copy, name, changed_text), engine)
                    if said["result"] != "passed":
                        return told | said | {"network": network, "engine": engine}
            return told | {"result": "equivalent"}
        except Exception as error:  # of the judge itself, which must not stop the others
            return told | {"result": "crashed", "why": repr(error)}


def built(results: Path, name: str) -> Path:
    """The build of one of `NETWORKS`."""
    folder = results / name
    if not (folder / MANIFEST).is_file():
        results.mkdir(parents=True, exist_ok=True)
        NETWORKS[name](file := results / f"{name}.onnx")
        flow.compile(file, folder, pruning=flow.pruning("moderate"), array=(4, 4), samples=1, engine="icarus",
                     on_chip=name in ON_CHIP)  # fmt: skip
    return folder


def by_kind(folder: Path, known: set[str], generator: random.Random) -> dict[str, list[str]]:
    """Mutants of a build's modules but the `known` ones, to which they are added, in any order, by kind."""
    manifest, found = Manifest.read(folder), dict[str, list[str]]()
    top = manifest.top
    for name in manifest.axi.verilog:
        module = name.removeprefix(top)
        if module in known and module.removesuffix(".v") not in ("", "_axi"):  # these know what is in the design
            continue
        known.add(module)
        for kind, begin, end, _ in places((folder / "verilog" / name).read_text()):
            found.setdefault(kind, []).append(f"{folder.name}:{name}:{begin}:{end}:{kind}")
    for each in found.values():
        generator.shuffle(each)
    return found


def verilog(count: int, seed: int, results: Path, turns: Sequence[str]) -> None:
    """`count` mutants in all: builds and kinds take turns. A module is changed in the first build that has it."""
    generator, jobs, known = random.Random(seed), list[str](), set[str]()
    left = {name: by_kind(built(results, name), known, generator) for name in dict.fromkeys(TURNS)}
    for turn in range(count):
        kind, name = list(PLACES)[(turn + turn // len(turns)) % len(PLACES)], turns[turn % len(turns)]
        if left[name].get(kind):
            jobs.append(left[name][kind].pop())
    with mock.patch.dict(os.environ, BBS_CACHE=str(results / "cache")):
        found = kept(results / "verilog.jsonl", jobs, lambda job: mutant(results, job))
    print_table("Mutants of the Verilog", found, lambda entry: "{0}, {4}".format(*str(entry["job"]).split(":")))
    for entry in found:
        if entry["result"] not in ("caught", "refused"):
            click.echo(f"{entry['result']}: {entry['job']} line {entry['line']}: {entry['old']} -> {entry['new']}")


# Mutants of the Python

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Mod: ast.FloorDiv,
}  # fmt: skip


def changed(node: ast.AST) -> bool:
    """Makes a node another one, if it is of a kind that can be."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        node.ops[0] = COMPARISONS[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        node.op = OPERATORS[type(node.op)]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        node.value += 1
    elif isinstance(node, ast.If | ast.IfExp):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    else:
        return False
    return True


def nodes(tree: ast.AST) -> list[ast.AST]:
    """The nodes of functions and constants, in order; annotations are left out."""
    kept_out = {
        id(below)
        for node in ast.walk(tree)
        for each in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if isinstance(each, ast.AST)
        for below in ast.walk(each)
    }
    return [node for node in ast.walk(tree) if id(node) not in kept_out]


def mutated(source: str, number: int) -> str:
    """The source with node `number` changed."""
    tree = ast.parse(source)
    assert changed(nodes(tree)[number]), number
    return ast.unparse(tree)


def mirrored(tree: Path, name: str) -> list[str]:
    """The tests of FILE: its own, or, where it has none, those that use it."""
    own = Path("tests", *Path(name).parts[1:-1], f"test_{Path(name).stem}.py")
    return [str(own)] if (tree / own).is_file() else users(tree, name)


def users(tree: Path, name: str) -> list[str]:
    """Every file of tests that imports FILE, the shortest first."""
    *folders, stem = Path(name).with_suffix("").parts
    room = re.escape(".".join(folders))
    uses = re.compile(rf"^(from {room}\.{stem} import|from {room} import .*\b{stem}\b)", re.MULTILINE)
    found = [file for file in (tree / "tests").rglob("test_*.py") if uses.search(file.read_text())]
    return [str(file.relative_to(tree)) for file in sorted(found, key=lambda file: (file.stat().st_size, file))]


def failing(tree: Path, files: Sequence[str], seconds: int) -> str | None:
    """What the first test says that fails: its name, or that no test ended in time. None: all pass.

    They run in a child of this process, which has imported what takes long already: all but the project itself. Without
    `files` there is none.
    """
    if not files:
        return None
    with scratch() as place:
        said = place / "said"
        child = os.fork()
        if not child:
            os._exit(_as_child(tree, files, said, seconds))
        end = time.monotonic() + 10 * seconds
        while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end:
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it started, too
        if not ended[0]:
            os.waitpid(child, 0)
        if not ended[0] or os.WTERMSIG(ended[1]) in (signal.SIGXCPU, signal.SIGKILL):
            return "no end"
        lines = re.findall(r"^(?:FAILED|ERROR) (.*)", said.read_text(errors="replace"), re.MULTILINE)
    return None if ended[1] == 0 else (lines or [f"status {ended[1]}"])[0][:200]


def _as_child(tree: Path, files: Sequence[str], said: Path, seconds: int) -> int:
    """Run tests of this copy of the project; the exit status, or 1 after any exception."""
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        stream = os.open(said, os.O_WRONLY | os.O_CREAT)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w", 1, closefd=False)
        os.chdir(tree)
        sys.path[:] = [str(tree), *(path for path in sys.path if path and Path(path).resolve() != ROOT)]
        os.environ.update(PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1")
        sys.dont_write_bytecode = True
        for name in [name for name in sys.modules if name.split(".")[0] in ("flow", "tests", "bench")]:
            del sys.modules[name]
        return int(pytest.main([*PYTEST, *files]))
    except BaseException:
        return 1


def baseline(tree: Path, name: str) -> dict[str, Any]:
    """Whether the tests of FILE pass as it is, and in how many seconds."""
    if not mirrored(tree, name):
        return {"result": "no tests"}
    began = time.monotonic()
    wrong = failing(tree, mirrored(tree, name), SECONDS // 3)
    return {"result": "usable" if wrong is None else wrong, "seconds": round(time.monotonic() - began, 1)}


def tested(tree: Path, job: str, tests: Callable[[Path, str], list[str]]) -> dict[str, Any]:
    """Whether `tests` of the file fail with mutant FILE:NODE in a copy of the project."""
    name, number = job.split(":")
    file = tree / name
    source = file.read_text()
    line = getattr(nodes(ast.parse(source))[int(number)], "lineno", 1)
    text = mutated(source, int(number))
    file.write_text(text)
    try:
        wrong = failing(tree, tests(tree, name), SECONDS)
    finally:
        file.write_text(source)
    new = [each for each in text.splitlines() if each not in ast.unparse(ast.parse(source)).splitlines()]
    told = {"line": line, "old": source.splitlines()[line - 1].strip(), "new": [each.strip() for each in new]}
    return told | {"by": wrong, "result": {None: "survived", "no end": "no end"}.get(wrong, "caught")}


def python(count: int, seed: int, results: Path, files: Sequence[str]) -> None:
    """`count` mutants in all, of the files in turn: their own tests first, then all tests that import the file."""
    generator, jobs, possible = random.Random(seed), list[str](), dict[str, list[str]]()
    with scratch() as place:
        tree = Path(shutil.copytree(ROOT, place / "tree", ignore=shutil.ignore_patterns(*NOT_COPIED)))
        before = kept(results / "python_files.jsonl", files, lambda name: baseline(tree, name))
        files = [str(each["job"]) for each in before if each["result"] == "usable"]
        for name in files:
            every = enumerate(nodes(ast.parse((tree / name).read_text())))
            possible[name] = [f"{name}:{number}" for number, node in every if changed(node)]
            generator.shuffle(possible[name])
        while len(jobs) < count and any(possible.values()):
            jobs += [left.pop() for left in possible.values() if left]
        jobs = jobs[:count]
        found = kept(results / "python.jsonl", jobs, lambda job: tested(tree, job, mirrored))
        left = [str(entry["job"]) for entry in found if entry["result"] == "survived"]
        more = kept(results / "python_more.jsonl", left, lambda job: tested(tree, job, users))
    again = {entry["job"]: entry for entry in more}
    found = [again.get(entry["job"], entry) for entry in found]
    print_table("Mutants of the Python", found, lambda entry: str(entry["job"]).split(":")[0])
    for entry in found:
        if entry["result"] == "survived":
            click.echo(f"survived: {entry['job']} line {entry['line']}: {entry['old']} -> {entry['new']}")


@click.command()
@click.argument("kind", type=click.Choice(["flips", "verilog", "python"]))
@click.option("--count", type=int, help="bits of each image (300), mutants of the Verilog (200) or of the Python (100)")
@click.option("--seed", type=int, default=0)
@click.option("--results", type=click.Path(path_type=Path), default=Path("rtl_out/mutation"))
@click.option("--file", "files", multiple=True, default=CORE, help="a file of flow/, for python")
@click.option("--build", "builds", multiple=True, type=click.Choice(list(SAME)), default=TURNS, help="for verilog")
def main(
    kind: str, count: int | None, seed: int, results: Path, files: tuple[str, ...], builds: tuple[str, ...]
) -> None:
    if kind == "flips":
        flips(count or 300, seed, results)
    elif kind == "verilog":
        verilog(count or 200, seed, results, builds)
    else:
        python(count or 100, seed, results, files)


if __name__ == "__main__":
    main()
