"""The output folder: written beside its place, moved there when complete, read back by `bbs cosim`."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from flow import handoff, importer
from flow.compress import Compressed, Pruning
from flow.cosim import SampleRun
from flow.encoding import BBS
from flow.engines.base import Device, Memory
from flow.engines.testbench import read_hex
from flow.errors import FlowError
from flow.handoff import Whole
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import Wrapper, device
from flow.hardware.ports import memory_ports
from flow.onchip.program import OnChip
from flow.onchip.run import ChainRun
from flow.samples import Samples, load
from flow.schedule import Program

MANIFEST = "manifest.json"
REPORT = "report.json"
STAGING = "-building-"
MADE_BY_TOOLS = ("testbench/run/", "testbench/__pycache__/")  # not of the build, and no difference from it
FORMAT = 3


# -------------------------------------------------------------------------------- folder


def check_output(output: Path, force: bool) -> None:
    """Refuse, before any work, a folder that cannot or must not be written."""
    _check_name(output)
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


def _check_name(output: Path) -> None:
    if output.name in ("", ".."):
        raise FlowError(f"the output folder must have a name, but it is '{output}'; give it as PARENT/NAME")


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
    """A new folder that takes the place of `output` when all went well, and vanishes when not.

    What an earlier process left that was killed is removed first.
    """
    check_output(output, force)
    _sweep(output)
    staging = output.with_name(f".{output.name}{STAGING}{secrets.token_hex(4)}")
    held = None
    try:
        staging.mkdir()
        held = os.open(staging, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        yield staging
        if output.exists():
            output.rename(_replaced(output))
            staging.rename(output)
            shutil.rmtree(_replaced(output))
        else:
            staging.rename(output)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    finally:
        if held is not None:
            os.close(held)


def _replaced(output: Path) -> Path:
    """Where an earlier build is while a new one takes its place."""
    return output.with_name(f".{output.name}-replaced")


def _sweep(output: Path) -> None:
    """Undo a replacement that was cut short, and remove staging folders no process holds."""
    if _replaced(output).is_dir() and not output.exists():
        _replaced(output).rename(output)
    shutil.rmtree(_replaced(output), ignore_errors=True)
    for staging in output.parent.glob(f".{glob.escape(output.name)}{STAGING}*"):
        with suppress(OSError):  # held by another process at work on the same output, or another user's
            held = os.open(staging, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(staging, ignore_errors=True)
            finally:
                os.close(held)


def finished(output: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """The report of an earlier build of the very same request; None if there is none, or it is not whole.

    FlowError when `output` was made from something else.
    """
    _check_name(output)
    _sweep(output)
    if not (output / MANIFEST).is_file():
        return None
    manifest = _load_manifest(output)
    if other := [key for key in request if manifest["request"].get(key) != request[key]]:
        raise FlowError(f"--resume needs the request '{output}' was built from, but this one differs in "
                        f"{', '.join(other)}; choose another folder, or replace it with --force")  # fmt: skip
    differences = compare(output, manifest)
    if differences.changed or differences.missing:
        for name in differences.additional:
            raise FlowError(f"--resume would make '{output}' again and remove '{name}', which is not of the build; "
                            "move it away")  # fmt: skip
        return None
    return dict(json.loads((output / REPORT).read_text()))


# -------------------------------------------------------------------------------- write


def write(
    folder: Path,
    compressed: Compressed,
    program: Program,
    built: Device,
    wrapper: Wrapper,
    chosen: Pruning,
    given: Samples,
    run: SampleRun,
    request: dict[str, Any],
    whole: OnChip | None = None,
    chain_runs: Sequence[ChainRun] = (),
) -> dict[str, Any]:
    """Everything but HDL and report; `run` is the first sample's, `request` what was asked for.

    `whole` is the network on chip, if it is, with its runs.

    Returns what the manifest says of it.
    """
    write_model(folder / "model_int8.onnx", compressed.original.model)
    write_model(folder / "model_bbs.onnx", compressed.network.model)
    chip = Whole(whole, chain_runs[0]) if whole and chain_runs and not chain_runs[0].failure else None
    handoff.write(folder, compressed.network.name, program, built, wrapper, run, chip)
    write_samples(folder, given)
    return {
        "format": FORMAT,
        "request": request,
        "model": compressed.network.name,
        "pruning": asdict(chosen),
        "array": asdict(program.config),
        "top": built.name,
        "verilog": [path.name for path in built.files],
        "vhdl": [path.name for path in built.vhdl_files],
        "bus": asdict(wrapper.axi),
        "axi": {
            "top": wrapper.name,
            "verilog": [path.name for path in wrapper.files],
            "vhdl": [path.name for path in wrapper.vhdl_files],
        },
        "samples": given.source,
        "on_chip": chip is not None,
        "columns_pruned": {name: n.tolist() for name, n in compressed.allocation.items()},
    }


def write_model(path: Path, model: onnx.ModelProto) -> None:
    """Write an ONNX file; killed half way, it leaves the file as it was."""
    content = model.SerializeToString(deterministic=True)
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}-", dir=path.parent, delete=False) as file:
        try:
            file.write(content)
            file.close()
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def write_samples(folder: Path, samples: Samples) -> None:
    """vectors/samples.npz: what was simulated, by input name, and the labels as `y`."""
    labels = {} if samples.labels is None else {"y": samples.labels}
    np.savez(folder / "vectors" / "samples.npz", **samples.feeds, **labels)  # type: ignore[arg-type]


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


def _load_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise FlowError(f"'{folder}' is no build: it has no {MANIFEST}; make one with 'bbs compile'")
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise FlowError(f"'{path}' has format {manifest['format']}, not {FORMAT}; compile the network again")
        manifest["request"] = dict(manifest["request"])
        manifest["sha256"] = {str(name): str(digest) for name, digest in dict(manifest["sha256"]).items()}
        if any(Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name for name in manifest["sha256"]):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FlowError(f"'{path}' is damaged; compile the network again") from None
    return dict(manifest)


@dataclass(frozen=True)
class Differences:
    """Files of a build that are not as its manifest says: paths within the folder."""

    changed: tuple[str, ...]
    missing: tuple[str, ...]
    additional: tuple[str, ...]

    @property
    def any(self) -> bool:
        return bool(self.changed or self.missing or self.additional)


def verify(folder: Path) -> tuple[int, Differences]:
    """How many files a build has, and how its folder differs from its manifest. FlowError if it is no build.

    What `make` leaves in testbench/run does not count.
    """
    manifest = _load_manifest(folder)
    return len(manifest["sha256"]), compare(folder, manifest)


def compare(folder: Path, manifest: dict[str, Any]) -> Differences:
    """How a folder differs from its manifest."""
    root, changed, missing = folder.resolve(), [], []
    for name, wanted in manifest["sha256"].items():
        file = folder / name
        if not file.resolve().is_relative_to(root) or not file.is_file():
            missing.append(name)
        elif sha256(file) != wanted:
            changed.append(name)
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    known = {MANIFEST, *manifest["sha256"]}
    additional = sorted(name for name in found if name not in known and not name.startswith(MADE_BY_TOOLS))
    return Differences(tuple(changed), tuple(missing), tuple(additional))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a build. FlowError if there is none, it is damaged, or a file changed since."""
    manifest = _load_manifest(folder)
    differences = compare(folder, manifest)
    for name in differences.missing:
        raise FlowError(f"'{folder}' lacks '{name}' of its {MANIFEST}; compile the network again")
    for name in differences.changed:
        raise FlowError(f"'{folder / name}' has changed since it was built; compile the network again")
    return manifest


@dataclass(frozen=True)
class Build:
    """An earlier build as read back from its folder. `compressed.encoded` is empty: the memories hold it."""

    config: ArrayConfig
    device: Device
    compressed: Compressed
    memories: dict[str, Memory]
    samples: Samples
    pruning: Pruning
    whole: dict[str, Memory] | None  # the memories of the whole network on chip


def read(folder: Path) -> Build:
    """An earlier build, from its own files. FlowError: see `read_manifest`; what does not fit together."""
    manifest = read_manifest(folder)
    damaged = FlowError(f"'{folder / MANIFEST}' is damaged; compile the network again")
    try:
        config, chosen = ArrayConfig(**manifest["array"]), Pruning(**manifest["pruning"])
        allocation = {name: np.array(n, np.int64) for name, n in manifest["columns_pruned"].items()}
        listed = {f"{kind}/{name}" for kind in ("verilog", "vhdl") for name in manifest[kind]}
        verilog = [folder / "verilog" / name for name in manifest["verilog"]]
        vhdl = [folder / "vhdl" / name for name in manifest["vhdl"]]
        name, source, on_chip = str(manifest["model"]), str(manifest["samples"]), bool(manifest["on_chip"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise damaged from None
    original, pruned = (
        importer.cut(importer.load(folder / f"{model}.onnx"), name) for model in ("model_int8", "model_bbs")
    )
    sizes = {layer.name: (layer.channels,) for layer in pruned.layers}
    within = all(n.min(initial=0) >= 0 and n.max(initial=0) <= BBS.max_columns_pruned for n in allocation.values())
    if (
        {layer: n.shape for layer, n in allocation.items()} != sizes
        or not within
        or not listed <= set(manifest["sha256"])
    ):
        raise damaged
    ports = [port for port in memory_ports(config) if not port.lanes and port.name != handoff.PER_LAYER]
    places = ("memory", handoff.WHOLE) if on_chip else ("memory",)
    if any(f"{place}/{port.name}.hex" not in manifest["sha256"] for place in places for port in ports):
        raise damaged
    memories, *whole = (
        {port.name: read_memory(folder / place / f"{port.name}.hex", port.bytes) for port in ports} for place in places
    )
    given = load(folder / "vectors" / "samples.npz", pruned.model, "stored")
    return Build(
        config,
        device(config, verilog, vhdl),
        Compressed(original, pruned, allocation, ()),
        memories,
        replace(given, source=source),
        chosen,
        whole[0] if whole else None,
    )


def read_memory(path: Path, size: int) -> Memory:
    """A memory image of words of `size` bytes. FlowError when it is damaged."""
    try:
        return read_hex(path, size)
    except RuntimeError as error:
        raise FlowError(f"'{path}' is damaged: {error}; compile the network again") from None
