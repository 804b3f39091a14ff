"""`verify`: whether an earlier build is as it was built."""

from __future__ import annotations

from pathlib import Path

from flow.output.manifest import Differences, verify_build


def verify(folder: str | Path) -> tuple[int, Differences]:
    """How many files an earlier build has, and which are not as they were built. FlowError when it is no build."""
    return verify_build(Path(folder))
