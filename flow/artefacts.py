"""The output folder: written beside its place, moved there when complete, read back by `bbs cosim`."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from flow import importer, reference
from flow.compress import Compressed, Pruning
from flow.cosim import SampleRun, cycle_limit, expected_words
from flow.engines.base import Device, Memory
from flow.engines.testbench import read_hex, verilog_testbench, vhdl_testbench, write_hex
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import device, memory_ports
from flow.samples import Samples, load
from flow.schedule import LayerSchedule, Program, activation_words

MANIFEST = "manifest.json"
FORMAT = 1


# -------------------------------------------------------------------------------- folder


def check_output(output: Path, force: bool) -> None:
    """Refuse, before any work, a folder that cannot or must not be written."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise FlowError(f"the output must be a folder, but '{output}' is a file; choose another name")
    if output.is_dir() and any(output.iterdir()):
        if not force:
            raise FlowError(f"the output folder '{output}' is in use; choose another, or add --force")
        if not (output / MANIFEST).is_file():
            raise FlowError(
                f"--force replaces an earlier build only, but '{output}' has no {MANIFEST}; "
                "choose another folder, or delete it yourself"
            )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise FlowError(f"the output folder '{output}' cannot be written: {error.strerror}; choose another") from None


def check_file(output: Path, force: bool, source: Path) -> None:
    """Refuse, before any work, a file that cannot or must not be written: never the `source` itself."""
    if output.exists() and output.samefile(source):
        raise FlowError(f"the output file '{output}' is the network itself; choose another")
    if output.is_dir() or (output.exists() and not force):
        raise FlowError(f"the output file '{output}' exists; choose another, or add --force")
    try:
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise FlowError(f"the output file '{output}' cannot be written: {error.strerror}; choose another") from None


@contextmanager
def output_folder(output: Path, force: bool) -> Iterator[Path]:
    """A new folder that takes the place of `output` when all went well, and vanishes when not."""
    check_output(output, force)
    staging = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    staging.chmod(0o755)
    try:
        yield staging
        if output.exists():
            old = staging.with_name(f"{staging.name}-old")
            output.rename(old)
            staging.rename(output)
            shutil.rmtree(old)
        else:
            staging.rename(output)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def file_name(layer: str, number: int) -> str:
    """A layer's folder or file: its number, and of its name what every file system and make takes."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in layer)
    return f"{number:03d}_{plain[:60]}"


# -------------------------------------------------------------------------------- write


def write(
    folder: Path,
    compressed: Compressed,
    program: Program,
    built: Device,
    chosen: Pruning,
    given: Samples,
    run: SampleRun,
) -> dict[str, Any]:
    """Everything but HDL and report; `run` is the first sample's. Returns what the manifest says of it."""
    write_model(folder / "model_int8.onnx", compressed.original.model)
    write_model(folder / "model_bbs.onnx", compressed.network.model)
    write_memories(folder, program)
    write_vectors(folder, program, run)
    write_samples(folder, given)
    write_testbenches(folder, built, program, run)
    return {
        "format": FORMAT,
        "model": compressed.network.name,
        "pruning": asdict(chosen),
        "array": asdict(program.config),
        "top": built.name,
        "verilog": [path.name for path in built.files],
        "vhdl": [path.name for path in built.vhdl_files],
        "samples": given.source,
        "columns_pruned": {name: n.tolist() for name, n in compressed.allocation.items()},
    }


def write_model(path: Path, model: onnx.ModelProto) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))


def write_memories(folder: Path, program: Program) -> None:
    """memory/<port>.hex: one word a line, most significant digit first."""
    (folder / "memory").mkdir()
    for name, memory in program.memories.items():
        write_hex(folder / "memory" / f"{name}.hex", memory)


def write_vectors(folder: Path, program: Program, run: SampleRun) -> None:
    """vectors/<layer>/: one sample's activation memory and the output memory the reference expects."""
    for number, (scheduled, layer_run) in enumerate(zip(program.layers, run.layers, strict=True)):
        place = folder / "vectors" / file_name(scheduled.layer.name, number)
        place.mkdir(parents=True)
        codes = scheduled.layer.input_quantization.to_int8(layer_run.tensor)
        windows = reference.windows(scheduled.layer, codes)
        write_hex(place / "activation.hex", activation_words(scheduled, windows, program.config))
        write_hex(place / "output.expected.hex", expected_words(scheduled, codes, program.config))


def write_samples(folder: Path, samples: Samples) -> None:
    """vectors/samples.npz: what was simulated, by input name, and the labels as `y`."""
    (folder / "vectors").mkdir(exist_ok=True)
    labels = {} if samples.labels is None else {"y": samples.labels}
    np.savez(folder / "vectors" / "samples.npz", **samples.feeds, **labels)  # type: ignore[arg-type]


def write_testbenches(folder: Path, built: Device, program: Program, run: SampleRun) -> None:
    """testbench/: a self-checking bench per layer in both languages, and a Makefile that runs them."""
    place = folder / "testbench"
    place.mkdir()
    names = []
    for number, (scheduled, layer_run) in enumerate(zip(program.layers, run.layers, strict=True)):
        name = file_name(scheduled.layer.name, number)
        names.append(name)
        depths = {port: len(memory) for port, memory in program.memories.items()}
        depths["activation"] = activation_depth(scheduled, program.config)
        depths["output"] = scheduled.output_words
        command = (scheduled.first, len(scheduled.blocks), cycle_limit(scheduled, program.config))
        for suffix, write in ((".v", verilog_testbench), (".vhd", vhdl_testbench)):
            bench = write(built.name, built.ports, depths, *command, layer_run.cycles)
            (place / f"{name}{suffix}").write_text(bench)
    quickest = min(range(len(names)), key=lambda i: run.layers[i].cycles)
    (place / "Makefile").write_text(_makefile(built, names, names[quickest]))


def activation_depth(scheduled: LayerSchedule, config: ArrayConfig) -> int:
    """Words of a layer's activation memory."""
    return scheduled.layer.groups * scheduled.tiles * scheduled.steps * config.beats


def _makefile(built: Device, layers: list[str], quickest: str) -> str:
    verilog = " ".join(f"../verilog/{path.name}" for path in built.files)
    vhdl = " ".join(f"../vhdl/{path.name}" for path in built.vhdl_files)
    top = f"tb_{built.name}"
    return f"""\
# Self-checking testbenches, one per layer: make icarus | verilator | ghdl [LAYER=name | LAYER=all]
# Without LAYER the layer of the fewest cycles runs. Every bench prints PASS or FAIL and ends accordingly.

LAYER ?= {quickest}
LAYERS := {" ".join(layers)}
VERILOG := {verilog}
VHDL := {vhdl}
VERILATOR ?= verilator
OPTIONS := -Wno-fatal -Wno-lint -Wno-style -CFLAGS -std=gnu++20 -MAKEFLAGS CFG_CXXFLAGS_PCH_I=-include
CHOSEN := $(if $(filter all,$(LAYER)),$(LAYERS),$(LAYER))

.PHONY: icarus verilator ghdl clean
icarus: $(CHOSEN:%=run/icarus/%)
verilator: $(CHOSEN:%=run/verilator/%)
ghdl: $(CHOSEN:%=run/ghdl/%)

# The memories a bench reads from the folder it runs in.
define place
rm -rf $@ && mkdir -p $@ && ln -s $(abspath ../memory)/*.hex $(abspath ../vectors/$*)/*.hex $@/
endef

run/icarus/%: %.v FORCE
\t@$(place)
\tiverilog -g2012 -s {top} -o $@/bench $(VERILOG) $<
\tcd $@ && vvp -n bench

run/verilator/%: %.v FORCE
\t@$(place)
\t$(VERILATOR) --binary $(OPTIONS) --top-module {top} --Mdir $@/obj -o bench $(VERILOG) $<
\tcd $@ && ./obj/bench

run/ghdl/%: %.vhd FORCE
\t@$(place)
\tcd $@ && ghdl -a --std=08 $(abspath $(VHDL) $<)
\tcd $@ && ghdl --elab-run --std=08 {top} --max-stack-alloc=0

FORCE:

clean:
\trm -rf run
"""


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_manifest(folder: Path, content: dict[str, Any], environment: dict[str, Any]) -> None:
    """manifest.json: what the build was made from and with, and the sha256 of every other file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    write_json(folder / MANIFEST, {**content, "environment": environment, "sha256": sums})


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -------------------------------------------------------------------------------- read


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a build. FlowError if there is none, it is damaged, or a file changed since."""
    path = folder / MANIFEST
    if not path.is_file():
        raise FlowError(f"'{folder}' is no build: it has no {MANIFEST}; make one with 'bbs compile'")
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise FlowError(f"'{path}' has format {manifest['format']}, not {FORMAT}; compile the network again")
        sums = dict(manifest["sha256"])
    except (ValueError, KeyError, TypeError, UnicodeDecodeError):
        raise FlowError(f"'{path}' is damaged; compile the network again") from None
    for name, wanted in sums.items():
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
            raise FlowError(f"'{folder}' lacks '{name}' of its {MANIFEST}; compile the network again")
        if sha256(file) != wanted:
            raise FlowError(f"'{file}' has changed since it was built; compile the network again")
    return dict(manifest)


@dataclass(frozen=True)
class Build:
    """An earlier build as read back from its folder. `compressed.encoded` is empty: the memories hold it."""

    config: ArrayConfig
    device: Device
    compressed: Compressed
    memories: dict[str, Memory]
    samples: Samples
    pruning: Pruning


def read(folder: Path) -> Build:
    """An earlier build, from its own files. FlowError: see `read_manifest`."""
    manifest = read_manifest(folder)
    try:
        config, chosen = ArrayConfig(**manifest["array"]), Pruning(**manifest["pruning"])
        allocation = {name: np.array(n, np.int64) for name, n in manifest["columns_pruned"].items()}
        verilog = [folder / "verilog" / name for name in manifest["verilog"]]
        vhdl = [folder / "vhdl" / name for name in manifest["vhdl"]]
        name, source = str(manifest["model"]), str(manifest["samples"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise FlowError(f"'{folder / MANIFEST}' is damaged; compile the network again") from None
    original, pruned = (
        importer.cut(importer.load(folder / f"{model}.onnx"), name) for model in ("model_int8", "model_bbs")
    )
    ports = [port for port in memory_ports(config) if not port.lanes and port.name != "activation"]
    memories = {port.name: read_hex(folder / "memory" / f"{port.name}.hex", port.bytes) for port in ports}
    given = load(folder / "vectors" / "samples.npz", pruned.model, "stored")
    return Build(
        config,
        device(config, verilog, vhdl),
        Compressed(original, pruned, allocation, ()),
        memories,
        replace(given, source=source),
        chosen,
    )
