"""Whether a verdict of pass can be a lie: bits of memory images, Verilog and Python are made wrong, one at a time.

    python -m bench.mutation flips | verilog | python  [--count N] [--seed S] [--results FOLDER]

flips    bits of the memory images of digits_cnn on a 4x4 array: is a flip found when the images are read back, or by
         the RTL's outputs? `harmless` changed no output of several random inputs.
verilog  operators, constants, conditions, edges and assignments of the Verilog of a small network on chip, with AXI:
         what does `bbs cosim` say? A mutant that it lets pass runs once more, with more samples.
python   comparisons, operators, constants and conditions of files of `flow/`: do their own tests fail?

Each result is a line of FOLDER/KIND.jsonl (rtl_out/mutation); a run that was stopped goes on there. A table is printed.
"""

from __future__ import annotations

import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

import flow
from flow.errors import FlowError
from flow.files import scratch, sha256
from flow.judgement import images
from flow.network.reference import windows
from flow.output.build import Build, read
from flow.output.manifest import MANIFEST, Manifest
from flow.scheduling.blocks import Program, layout
from flow.scheduling.pieces import memories, whole
from flow.simulation import engines
from flow.simulation.cosim import cycle_limit
from flow.simulation.engines.base import Command, DeviceError, Simulator
from flow.simulation.results import expected_words

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "models" / "digits_cnn.onnx"
CORE = (
    "flow/compression/encoding.py", "flow/scheduling/words.py", "flow/judgement/verdict.py",
    "flow/network/reference.py",
)  # fmt: skip
TRIES = 3  # random inputs of a flip that the images do not show
MORE = 4  # samples of a mutant that passes with one
SECONDS = 120  # for the tests of a Python mutant
PYTEST = ("-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not full")


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


@dataclass(frozen=True)
class Flipping:
    """A build's program, its device in a simulator, and random inputs of every layer with what must come out."""

    build: Build
    program: Program
    simulator: Simulator

    @classmethod
    def of(cls, folder: Path) -> Flipping:
        build = read(folder)
        layers = layout(build.compressed.network.layers, build.compressed.allocation, build.config)
        return cls(
            build, Program(build.config, build.memories, layers), engines.ENGINES["verilator"].open(build.device)
        )

    def job(self, job: str) -> dict[str, Any]:
        """How MEMORY:WORD:BIT is found when it is flipped."""
        name, word, bit = job.split(":")
        memory = self.program.memories[name].copy()
        memory[int(word), int(bit) // 8] ^= 1 << int(bit) % 8
        flipped = replace(self.program, memories={**self.program.memories, name: memory})
        if images.judge(flipped, self.build.compressed.allocation):
            return {"result": "read back"}
        found = [self.wrong(flipped, seed) for seed in range(TRIES)]
        return {"result": "simulated" if found[0] else "missed" if any(found) else "harmless"}

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


def flips(count: int, seed: int, results: Path) -> None:
    """At most `count` bits of each image."""
    folder = results / "digits"
    if not (folder / MANIFEST).is_file():
        flow.compile(DIGITS, folder, pruning=flow.pruning("moderate"), array=(4, 4), samples=1, engine="verilator")
    flipping, generator = Flipping.of(folder), random.Random(seed)
    jobs = []
    for port in flipping.build.device.reads:
        if (memory := flipping.program.memories.get(port.name)) is not None:
            bits = len(memory) * port.width
            chosen = sorted(generator.sample(range(bits), min(count, bits)))
            jobs += [f"{port.name}:{place // port.width}:{place % port.width}" for place in chosen]
    found = kept(results / "flips.jsonl", jobs, flipping.job)
    print_table("Flipped bits", found, lambda entry: str(entry["job"]).split(":")[0])


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


def small_network(file: Path) -> None:
    """Two convolutions with an addition around the second, pooling, and a Gemm: float, and drawn like its samples."""
    generator = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(generator.normal(0, 0.3, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], kernel_shape=[1, 1], name="second"),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "w3"], ["y"], transB=1, name="last"),
    ]
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [weights("w1", 8, 3, 3, 3), weights("w2", 8, 8, 1, 1), weights("w3", 5, 8)],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    drawn = generator.normal(0, 1, (16, 3, 4, 4)).astype(np.float32)
    for use in ("calibration", "test"):
        np.savez(file.with_name(f"{file.stem}_{use}.npz"), x=drawn)


def judged(folder: Path, samples: int) -> dict[str, Any]:
    """What `bbs cosim` says of a build."""
    try:
        report = flow.cosim(folder, engine="icarus", samples=samples, processes=1)
    except FlowError as error:
        return {"result": "refused", "why": str(error)}
    if report.passed:
        return {"result": "passed"}
    first = report.findings[0] if report.findings else None
    return {
        "result": "caught" if first else "no finding",
        "why": None if first is None else f"{first.cause}: {first.text}",
    }


def mutant(folder: Path, job: str) -> dict[str, Any]:
    """The verdict on FILE:BEGIN:END:KIND of a copy of the build."""
    name, begin, end, kind = job.split(":")
    with scratch() as place:
        copy = Path(shutil.copytree(folder, place / "build"))
        file = copy / "verilog" / name
        text = file.read_text()
        new = next(new for k, b, e, new in places(text) if (k, b, e) == (kind, int(begin), int(end)))
        file.write_text(text[: int(begin)] + new + text[int(end) :])
        manifest = json.loads((copy / MANIFEST).read_text())
        manifest["sha256"][f"verilog/{name}"] = sha256(file)
        (copy / MANIFEST).write_text(json.dumps(manifest))
        told = {"old": text[int(begin) : int(end)], "new": new, "line": text[: int(begin)].count("\n") + 1}
        try:
            first = judged(copy, 1)
            if first["result"] == "passed":
                more = judged(copy, MORE)
                return told | {"result": "equivalent" if more["result"] == "passed" else "survived"}
        except Exception as error:  # of the judge itself, which must not stop the others
            return told | {"result": "crashed", "why": repr(error)}
        return told | first


def verilog(count: int, seed: int, results: Path) -> None:
    """`count` mutants in all: the modules and kinds take turns."""
    folder = results / "small"
    if not (folder / MANIFEST).is_file():
        results.mkdir(parents=True, exist_ok=True)
        small_network(results / "small.onnx")
        flow.compile(results / "small.onnx", folder, pruning=flow.pruning("moderate"), array=(4, 4), samples=MORE,
                     engine="icarus", on_chip=True)  # fmt: skip
    generator, jobs = random.Random(seed), list[str]()
    files = list(Manifest.read(folder).axi.verilog)
    by_kind = {
        kind: [
            f"{name}:{begin}:{end}:{kind}"
            for name in files
            for found, begin, end, _ in places((folder / "verilog" / name).read_text())
            if found == kind
        ]
        for kind in PLACES
    }
    for each in by_kind.values():
        generator.shuffle(each)
    for turn in range(count):
        kind = list(PLACES)[turn % len(PLACES)]
        if by_kind[kind]:
            jobs.append(by_kind[kind].pop())
    found = kept(results / "verilog.jsonl", jobs, lambda job: mutant(folder, job))
    print_table("Mutants of the Verilog", found, lambda entry: str(entry["job"]).split(":")[3])
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


def tested(tree: Path, job: str) -> dict[str, Any]:
    """Whether the tests of the file fail with mutant FILE:NODE in a copy of the project."""
    name, number = job.split(":")
    file = tree / name
    source = file.read_text()
    text = mutated(source, int(number))
    node = nodes(ast.parse(source))[int(number)]
    told = {"line": getattr(node, "lineno", 0), "old": source.splitlines()[getattr(node, "lineno", 1) - 1].strip()}
    room, stem = Path(name).parent.name, Path(name).stem
    tests = tree / "tests" / room / f"test_{stem}.py"
    chosen = tests if tests.is_file() else tests.parent
    file.write_text(text)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *PYTEST, str(chosen)], cwd=tree, capture_output=True, timeout=SECONDS,
            env={**os.environ, "PYTHONPATH": str(tree)}, check=False,
        )  # fmt: skip
        result = "survived" if done.returncode == 0 else "caught"
    except subprocess.TimeoutExpired:
        result = "timeout"
    finally:
        file.write_text(source)
    return told | {"result": result}


def python(count: int, seed: int, results: Path, files: Sequence[str]) -> None:
    """`count` mutants in all, of the files in turn."""
    generator, jobs = random.Random(seed), list[str]()
    possible = {}
    for name in files:
        every = enumerate(nodes(ast.parse((ROOT / name).read_text())))
        possible[name] = [f"{name}:{number}" for number, node in every if changed(node)]
        generator.shuffle(possible[name])
    for turn in range(count):
        if left := possible[files[turn % len(files)]]:
            jobs.append(left.pop())
    with scratch() as place:
        for folder in ("flow", "tests", "models", "bench"):
            shutil.copytree(ROOT / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", place)
        found = kept(results / "python.jsonl", jobs, lambda job: tested(place, job))
    print_table("Mutants of the Python", found, lambda entry: str(entry["job"]).split(":")[0])
    for entry in found:
        if entry["result"] == "survived":
            click.echo(f"survived: {entry['job']} line {entry['line']}: {entry['old']}")


@click.command()
@click.argument("kind", type=click.Choice(["flips", "verilog", "python"]))
@click.option("--count", type=int, help="bits of each image (300), mutants of the Verilog (200) or of the Python (100)")
@click.option("--seed", type=int, default=0)
@click.option("--results", type=click.Path(path_type=Path), default=Path("rtl_out/mutation"))
@click.option("--file", "files", multiple=True, default=CORE, help="a file of flow/, for python")
def main(kind: str, count: int | None, seed: int, results: Path, files: tuple[str, ...]) -> None:
    if kind == "flips":
        flips(count or 300, seed, results)
    elif kind == "verilog":
        verilog(count or 200, seed, results)
    else:
        python(count or 100, seed, results, files)


if __name__ == "__main__":
    main()
