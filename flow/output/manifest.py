"""manifest.json: the request, and the sha256 of every file; what differs from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.errors import FlowError
from flow.files import sha256, write_json

MANIFEST = "manifest.json"
MADE_BY_TOOLS = ("testbench/run/", "testbench/__pycache__/")  # not of the build, and no difference from it
FORMAT = 3


def write_manifest(folder: Path, content: dict[str, Any], environment: dict[str, Any]) -> None:
    """manifest.json: what the build was made from and with, and the sha256 of every other file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    write_json(folder / MANIFEST, {**content, "environment": environment, "sha256": sums})


def load_manifest(folder: Path) -> dict[str, Any]:
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


def verify_build(folder: Path) -> tuple[int, Differences]:
    """How many files a build has, and how its folder differs from its manifest. FlowError if it is no build.

    What `make` leaves in testbench/run does not count.
    """
    manifest = load_manifest(folder)
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
    manifest = load_manifest(folder)
    differences = compare(folder, manifest)
    for name in differences.missing:
        raise FlowError(f"'{folder}' lacks '{name}' of its {MANIFEST}; compile the network again")
    for name in differences.changed:
        raise FlowError(f"'{folder / name}' has changed since it was built; compile the network again")
    return manifest
