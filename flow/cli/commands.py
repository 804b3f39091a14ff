"""The command `bbs`: arguments in, tables and progress out, exit status 0 (pass), 1 (fail) or 2 (refused)."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from flow.api.compile import run_compile
from flow.api.compress import run_compress
from flow.api.cosim import run_cosim
from flow.api.inspect import run_inspect
from flow.api.requests import (
    CompileRequest,
    CompressRequest,
    CosimRequest,
    ExploreRequest,
    InspectRequest,
    VerifyRequest,
)
from flow.api.verify import run_verify
from flow.cache import cache_size, clean_cache
from flow.cli.doctor import diagnosis, print_doctor
from flow.cli.options import Shown, asked, shown
from flow.cli.stages import progress_for
from flow.cli.tables import out, print_cache, print_front, print_inspection, print_report, visible
from flow.errors import FlowError
from flow.exploration.explore import RESULT, run_explore
from flow.files import cache_folder, name_place, uninterrupted
from flow.frontend.inspection import Inspection
from flow.output.report.report import CompressionReport, Report
from flow.programs import stop_all

SIMULATED = ", but what was simulated is kept: --resume goes on"
STUDIED = ", but the study is kept: the same command goes on"
KEPT = {"compile": SIMULATED, "cosim": SIMULATED, "explore": STUDIED}  # what an interruption leaves, by command
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CLEANING = 5.0  # seconds from a signal during which others are ignored, so that they do not end the clean-up


@dataclass
class Course:
    """The course of a command: whether stdout was closed when it began; what it has written so far, and where.

    `interrupted`: a signal has ended it; errors that follow are of its being ended.
    """

    closed: bool = False
    done: list[str] = field(default_factory=list)
    interrupted: bool = False


def _version() -> str:
    try:
        return version("bbs-flow")
    except PackageNotFoundError:
        return "unknown"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_version(), prog_name="bbs")
def bbs() -> None:
    """From a trained ONNX network to a BBS-compressed network and the accelerator that runs it."""


@bbs.command()
@asked(InspectRequest)
@click.option("--all", "every_node", is_flag=True, help="List every node, also of a large network.")
@shown
def inspect(request: InspectRequest, every_node: bool, shown: Shown) -> None:
    """Show where every node would run, and why."""
    found, source = run_inspect(request), request.model
    with _printing(nothing=shown.quiet and not shown.json):
        _show_inspection(found, source, every_node, shown)
    if found.refused:
        first, others = found.refused[0], len(found.refused) - 1
        more = f" (and {others} more)" if others else ""
        raise FlowError(f"node '{first.name}' of '{source}' is refused{more}: {first.reason}")


def _show_inspection(found: Inspection, source: Any, every_node: bool, shown: Shown) -> None:
    if shown.json:
        totals = {"macs": found.macs, "array_share": round(found.array_share, 6)}
        name = source.stem if isinstance(source, Path) else source.graph.name
        click.echo(json.dumps({"model": name, **totals, **asdict(found)}, indent=2, ensure_ascii=False))
    elif not shown.quiet:
        print_inspection(found, every_node)


@bbs.command()
@asked(CompressRequest)
@shown
def compress(request: CompressRequest, shown: Shown) -> None:
    """Write the pruned INT8 network; no hardware."""
    report = run_compress(request, progress_for(shown))
    _finish(report, shown, f"The pruned network is in {request.output}.")


@bbs.command()
@asked(CompileRequest)
@shown
def compile(request: CompileRequest, shown: Shown) -> None:
    """Prune, write RTL and vectors, co-simulate, judge."""
    report, output = run_compile(request, progress_for(shown)), request.output
    _finish(report, shown, f"RTL, vectors and report are in {output}; open {output / 'report.html'}.")


@bbs.command()
@asked(CosimRequest)
@shown
def cosim(request: CosimRequest, shown: Shown) -> None:
    """Co-simulate an earlier build again, from its own files."""
    _finish(run_cosim(request, progress_for(shown)), shown, f"{request.folder} is as it was.")


@bbs.command()
@asked(ExploreRequest)
@shown
def explore(request: ExploreRequest, shown: Shown) -> None:
    """Search array, buffer and pruning for the best designs."""
    found, output = run_explore(request, progress_for(shown)), request.output
    where, text = f"The front and all designs are in {output}", (output / RESULT).read_text()
    with _printing(where, nothing=shown.quiet and not shown.json):
        if shown.json:
            click.echo(text, nl=False)
        elif not shown.quiet:
            about = json.loads(text)
            print_front(found, about["metric"], about["clock"])
            out.print(f"{where}; open {output / 'explore.html'}.", soft_wrap=True)


@bbs.command()
@asked(VerifyRequest)
@shown
def verify(request: VerifyRequest, shown: Shown) -> None:
    """Check that an earlier build is as it was built, by the sha256 of every file."""
    files, differences = run_verify(request)
    with _printing(nothing=shown.quiet and not shown.json):
        if shown.json:
            click.echo(json.dumps({"files": files, **asdict(differences)}, indent=2, ensure_ascii=False))
        elif not shown.quiet:
            for kind, names in asdict(differences).items():
                for name in names:
                    click.echo(f"{kind:<12}{name}")
            click.echo(f"{request.folder} is {'not ' if differences.any else ''}as it was built ({files} files).")
    sys.exit(1 if differences.any else 0)


@bbs.command()
@shown
def doctor(shown: Shown) -> None:
    """Show what is installed, in which version, and what that allows."""
    found = diagnosis()
    with _printing(nothing=shown.quiet and not shown.json):
        if shown.json:
            click.echo(json.dumps([asdict(each) for each in found], indent=2, ensure_ascii=False))
        elif not shown.quiet:
            print_doctor(found)
    sys.exit(0 if all(each.version for each in found if each.needed) else 1)


@bbs.command()
@click.option("--clean", is_flag=True, help="Remove all that is not in use.")
@click.option("--older", type=click.FloatRange(min=0), metavar="DAYS", help="Remove what was not used for so long.")
@shown
def cache(clean: bool, older: float | None, shown: Shown) -> None:
    """Show how much the cache holds; remove what is not needed."""
    removing = clean or older is not None
    sizes = clean_cache(older or 0.0) if removing else cache_size()
    with _printing("the cache is cleaned" if removing else "", nothing=shown.quiet and not shown.json):
        if shown.json:
            found = {kind: asdict(size) for kind, size in sizes.items()}
            click.echo(json.dumps({"folder": str(cache_folder(None)), "removed": removing, **found}, indent=2))
        elif not shown.quiet:
            print_cache(sizes, removing)


def _finish(report: Report | CompressionReport, shown: Shown, where: str) -> None:
    with _printing(where, nothing=shown.quiet and not shown.json and not isinstance(report, Report)):
        if shown.json:
            click.echo(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
        elif shown.quiet:
            if isinstance(report, Report):
                out.print(f"Verdict: {report.summary.verdict or 'none'}.")
        else:
            print_report(report)
            out.print(where, soft_wrap=True, markup=False)
    sys.exit(0 if report.passed else 1)


@contextmanager
def _printing(where: str = "", nothing: bool = False) -> Iterator[None]:
    """Print the results to stdout, after all that had to be written: `where` says what, and where it is.

    A pipe that is closed is no error, for who reads it has read enough. FlowError if stdout is full, or closed and not
    `nothing` is printed.
    """
    where = where.rstrip(".")
    course: Course = click.get_current_context().ensure_object(Course)
    if where:
        course.done.append(where)
    reason = "it is closed" if course.closed and not nothing else ""
    if not reason:
        try:
            yield
            sys.stdout.flush()
            return
        except OSError as error:
            with suppress(OSError, ValueError):  # what is left in its buffer
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if error.errno == errno.EPIPE:
                return
            reason = str(error.strerror)
    raise FlowError(f"the results cannot be printed to standard output: {reason}; {where or 'print them to a file'}")


def _written(error: BaseException, done: list[str]) -> str:
    """What an error or an interruption has left: what the error says, what was `done` before, or nothing."""
    causes = (error, error.__cause__, error.__context__)
    notes: list[str] = [note for each in causes for note in getattr(each, "__notes__", [])]
    return (*notes, *done, "nothing was written")[0]


def _end_by_signals(course: Course) -> None:
    """Ctrl-C, SIGTERM and a closed terminal end the command with a clean-up, unless they are ignored (nohup).

    Programs end at once, and so do the threads that run them: an exception alone may be lost, because Python ignores
    those that are raised while an object is deleted.
    """
    came = -CLEANING

    def end(*_: object) -> None:
        nonlocal came
        if (now := time.monotonic()) - came >= CLEANING:
            came = now
            course.interrupted = True
            stop_all()
            raise KeyboardInterrupt

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def _open_standard_files() -> bool:
    """Give the numbers of stdin, stdout and stderr to /dev/null where they are closed, not to the next file opened.

    Returns whether stdout was closed.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    closed = sys.stdout is None
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w"))
    return closed


def main() -> None:
    """Entry point: an error that the user can correct is one line and status 2, never a traceback."""
    course = Course(_open_standard_files())
    _end_by_signals(course)
    try:
        try:
            with uninterrupted(), suppress(OSError):
                tempfile.gettempdir()  # writes a file to find out, which an interruption would leave
            bbs(standalone_mode=False, obj=course)
        except Exception as error:
            if course.interrupted and not isinstance(error, click.Abort):
                raise KeyboardInterrupt from error
            raise
    except FlowError as error:
        _refuse(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        _refuse(error.format_message())
    except (click.Abort, KeyboardInterrupt) as error:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)  # Python's end would let a second one kill it
        written = _written(error, course.done)
        kept = KEPT.get(next(iter(sys.argv[1:]), ""), "") if written == "nothing was written" else ""
        _refuse(f"interrupted; {written}{kept}")
    except OSError as error:  # no room, no permission, a name the file system does not take
        name_place(error, Path(tempfile.gettempdir()), cache_folder(None))
        place = "" if error.filename is None else f": '{str(error.filename)[:200]}'"
        _refuse(f"{error.strerror or error}{place}; {_written(error, course.done)}")
    except MemoryError as error:
        _refuse(f"out of memory; {_written(error, course.done)}: give a smaller network, or fewer samples")


def _refuse(message: str) -> None:
    with suppress(OSError):  # stderr is full or closed
        click.echo(f"bbs: error: {visible(' '.join(message.split()))}", err=True)
    sys.exit(2)
