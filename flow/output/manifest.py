"""manifest.json: the request, and the sha256 of every file; how a folder differs from it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flow.compression.choice import Pruning
from flow.errors import FlowError
from flow.files import sha256, write_json
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig
from flow.output.report.environment import Environment
from flow.output.typed import as_json, from_json
from flow.scheduling.bus.bursts import SlowMemory

MANIFEST = "manifest.json"
MADE_BY_TOOLS = ("testbench/run/", "testbench/__pycache__/")  # not part of a build, and not counted as differences
FORMAT = 10


@dataclass(frozen=True)
class Sources:
    """A top module, and the files of its HDL in compile order."""

    top: str
    verilog: tuple[str, ...]
    vhdl: tuple[str, ...]


@dataclass(frozen=True)
class Differences:
    """Files of a build that are not as its manifest says: paths within the folder."""

    changed: tuple[str, ...]
    missing: tuple[str, ...]
    additional: tuple[str, ...]

    @property
    def any(self) -> bool:
        return bool(self.changed or self.missing or self.additional)


@dataclass(frozen=True)
class Manifest:
    """The request, settings and files of a build.

    Equal requests give equal builds. `pruning`, `array`, `bus` and `bus_memory`, what the report takes to be behind the
    bus, are the settings that follow from the request; `top`, `verilog` and `vhdl` are the accelerator's top module and
    its files in compile order, `axi` the same for the accelerator behind AXI; `samples` is the file that the stored
    samples are from. `columns_pruned`: for every layer the N of each output channel. `sha256`: the digest of every
    other file, by its path within the folder.
    """

    format: int
    request: Mapping[str, Any]
    model: str
    pruning: Pruning
    array: ArrayConfig
    top: str
    verilog: tuple[str, ...]
    vhdl: tuple[str, ...]
    bus: AxiConfig
    bus_memory: SlowMemory
    axi: Sources
    samples: str
    on_chip: bool
    columns_pruned: dict[str, tuple[int, ...]]
    environment: Environment
    sha256: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a build. FlowError if there is none, it has another format, or it is damaged."""
        path = folder / MANIFEST
        if not path.is_file():
            raise FlowError(f"'{folder}' is no build: it has no {MANIFEST}; make one with 'bbs compile'")
        try:
            content = json.loads(path.read_text())
            if content["format"] != FORMAT:
                raise FlowError(f"'{path}' has format {content['format']}, not {FORMAT}; compile the network again")
            manifest = from_json(content, cls)
            if any(Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name for name in manifest.sha256):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise damaged(folder) from None
        return manifest

    def write(self, folder: Path) -> None:
        """Writes it into the folder of a build, with the sha256 of every other file that is there."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sums = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
        write_json(folder / MANIFEST, as_json(replace(self, sha256=sums)))

    def compare(self, folder: Path) -> Differences:
        """How the files of a folder differ from this manifest."""
        root, changed, missing = os.path.realpath(folder), [], []
        for name, digest in self.sha256.items():
            file = os.path.realpath(os.path.join(root, name))
            if os.path.commonpath([root, file]) != root or not os.path.isfile(file):
                missing.append(name)
            elif sha256(Path(file)) != digest:
                changed.append(name)
        paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
        listed = {MANIFEST, *self.sha256}
        additional = sorted(name for name in paths if name not in listed and not name.startswith(MADE_BY_TOOLS))
        return Differences(tuple(changed), tuple(missing), tuple(additional))


def not_of_the_build(folder: Path) -> list[str] | None:
    """What a folder holds beside the build that its manifest lists, empty folders included; None if it lists none.

    The manifest may be of an earlier format.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text())
        listed = {MANIFEST, *content["sha256"]}
        ours = content["format"] in range(1, FORMAT + 1) and len(listed) > 1 and "request" in content
        digests = [str(digest) for digest in content["sha256"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not ours or not all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests):
        return None
    folders = {parent.as_posix() for name in listed for parent in Path(name).parents}
    folders |= {prefix.rstrip("/") for prefix in MADE_BY_TOOLS}
    found = []
    for path in sorted(folder.rglob("*")):
        name, plain = path.relative_to(folder).as_posix(), path.is_dir() and not path.is_symlink()
        if name.startswith(MADE_BY_TOOLS) or (plain and (name in folders or any(path.iterdir()))):
            continue
        if plain or name not in listed:
            found.append(f"{name}/" if plain else name)
    return found


def damaged(folder: Path) -> FlowError:
    return FlowError(f"'{folder / MANIFEST}' is damaged; compile the network again")


def verify_build(folder: Path) -> tuple[int, Differences]:
    """How many files a build has, and how its folder differs from its manifest. FlowError if it is no build.

    Files that `make` leaves in testbench/run do not count.
    """
    manifest = Manifest.read(folder)
    return len(manifest.sha256), manifest.compare(folder)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a build. FlowError if there is none, it is damaged, or a file changed since."""
    manifest = Manifest.read(folder)
    differences = manifest.compare(folder)
    for name in differences.missing:
        raise FlowError(f"'{folder}' lacks '{name}' of its {MANIFEST}; compile the network again")
    for name in differences.changed:
        raise FlowError(f"'{folder / name}' has changed since it was built; compile the network again")
    return manifest
