"""Files: the cache folder, digests, atomic writes of ONNX files, JSON, names of layer folders."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import platformdirs
from numpy.typing import NDArray


def write_model(path: Path, model: onnx.ModelProto) -> None:
    """Write an ONNX file atomically: if interrupted, an existing file stays unchanged."""
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


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """An .npz file; unlike numpy.savez it takes arrays of any name, also those of its parameters."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder(cache: Path | None) -> Path:
    """The cache folder: `cache`, else $BBS_CACHE, else the user's default (on Linux ~/.cache/bbs-flow)."""
    return cache or Path(os.environ.get("BBS_CACHE") or platformdirs.user_cache_path("bbs-flow"))


def layer_folder(layer: str, number: int) -> str:
    """A layer's folder in vectors/: its number and 60 characters of its name, as file systems and make accept them."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in layer)
    return f"{number:03d}_{plain[:60]}"


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """A digest of this package's sources."""
    sha = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".j2"):
            sha.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return sha.hexdigest()
