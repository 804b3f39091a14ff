"""`verify`: whether the files of an earlier build are unchanged."""

from __future__ import annotations

from typing import Any

from flow.api.requests import VerifyRequest
from flow.output.manifest import Differences, verify_build


def verify(folder: Any) -> tuple[int, Differences]:
    """The number of files of an earlier build, and its changed files. FlowError when it is no build."""
    return run_verify(VerifyRequest.of(folder=folder))


def run_verify(request: VerifyRequest) -> tuple[int, Differences]:
    """`verify` for a request."""
    return verify_build(request.folder)
