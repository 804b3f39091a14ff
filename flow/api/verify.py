"""`verify`: whether an earlier build is as it was built."""

from __future__ import annotations

from typing import Any

from flow.api.requests import VerifyRequest
from flow.output.manifest import Differences, verify_build


def verify(folder: Any) -> tuple[int, Differences]:
    """How many files an earlier build has, and which are not as they were built. FlowError when it is no build."""
    return run_verify(VerifyRequest.of(folder=folder))


def run_verify(request: VerifyRequest) -> tuple[int, Differences]:
    """`verify` for a request."""
    return verify_build(request.folder)
