"""Progress: named stages, and `advance` within them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Reports that `done` more units of the stage's total are complete."""

    def __call__(self, done: int = 1) -> None: ...


class Stages(Protocol):
    """`with stage(name, total) as advance`, where `advance(n)` says that n of `total` are done."""

    def __call__(self, name: str, total: int | None = None) -> AbstractContextManager[Advance]: ...


def ignore(done: int = 1) -> None:
    """Ignore the progress."""


@contextmanager
def silent(name: str, total: int | None = None) -> Iterator[Advance]:
    """A stage that shows no progress."""
    yield ignore


def duration(seconds: float) -> str:
    """A number of seconds as text for the user: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
