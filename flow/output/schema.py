"""JSON Schemas of report.json and manifest.json, from the dataclasses that are written there.

`python -m flow.output.schema FOLDER` writes them; those of this version are in docs/schema.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from flow.files import write_json
from flow.output.manifest import MANIFEST, Manifest
from flow.output.report.report import REPORT, CompressionReport, Report

DIALECT = "https://json-schema.org/draft/2020-12/schema"
KINDS = {
    REPORT: (Report, CompressionReport),
    MANIFEST: (Manifest,),
}  # by file: the dataclasses that it may contain, or that are printed in its form


def schemas() -> dict[str, dict[str, Any]]:
    """The schema of each file, by the name of the schema's own file."""
    return {f"{Path(file).stem}.schema.json": _schema(file, kinds) for file, kinds in KINDS.items()}


def _schema(file: str, kinds: Sequence[type]) -> dict[str, Any]:
    chosen, parts = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    head = {"$schema": DIALECT, "title": f"bbs-flow {file}"}
    return {**head, "anyOf": list(chosen), "$defs": {name: _closed(parts[name]) for name in sorted(parts)}}


def _closed(part: dict[str, Any]) -> dict[str, Any]:
    """The schema of a dataclass as it is written: every key is required, and no other is allowed."""
    properties = {
        name: {key: value for key, value in of.items() if key != "default"} for name, of in part["properties"].items()
    }
    return {**part, "properties": properties, "required": [*properties], "additionalProperties": False}


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        write_json(folder / name, schema)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
