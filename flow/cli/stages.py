"""Progress on stderr: a bar for each stage in a terminal, a line a minute elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flow.cli.options import Shown
from flow.cli.tables import err
from flow.progress import Advance, Stages, duration, silent

log = logging.getLogger("flow")
COUNTABLE = 1000  # larger totals are shown in percent
SECONDS_SAID = 60  # between two lines of progress where there is no terminal


@contextmanager
def stage(name: str, total: int | None = None) -> Iterator[Advance]:
    """One step of the pipeline as a line on stderr; with a total, a bar. Without a terminal a line a minute."""
    columns = [SpinnerColumn(finished_text="✓"), TextColumn("{task.description:<42}"), BarColumn(24)]
    if total:
        columns.append(MofNCompleteColumn() if total <= COUNTABLE else TaskProgressColumn())
    columns.append(TimeElapsedColumn())
    if total:
        columns.append(TimeRemainingColumn(compact=True))
    begin = last = time.monotonic()
    lock = Lock()  # `advance` is called from many threads
    total_done = 0

    def advance(done: int = 1) -> None:
        nonlocal total_done, last
        with lock:
            total_done += done
            progress.advance(task, done)
            now = time.monotonic()
            if total and total_done < total and not err.is_terminal and now - last >= SECONDS_SAID:
                last = now
                left = duration((now - begin) * (total - total_done) / total_done)
                log.info("%s: %.0f %%, about %s left.", name, 100 * total_done / total, left)

    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task(name[:42], total=total)
        yield advance
        progress.update(task, total=total or 1, completed=total or 1)


@contextmanager
def timed(name: str, total: int | None = None) -> Iterator[Advance]:
    """A stage that also says how long it took."""
    begin = time.monotonic()
    with stage(name, total) as advance:
        yield advance
    log.info("%s: %.1f s.", name, time.monotonic() - begin)


def progress_for(shown: Shown) -> Stages:
    """Progress and log messages on stderr; neither with --quiet, or with --json in a pipe."""
    if shown.quiet or (shown.json and not shown.verbose and not err.is_terminal):
        log.setLevel(logging.WARNING)
        return silent
    log.setLevel(logging.INFO)
    if not log.handlers:
        log.addHandler(_LogPrinter())
    return timed if shown.verbose else stage


class _LogPrinter(logging.Handler):
    """Prints log messages in the style of notes."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(record.getMessage(), style="dim", soft_wrap=True, markup=False)
