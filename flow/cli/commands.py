"""The command `bbs`: arguments in, tables and progress out, exit status 0 (pass), 1 (fail) or 2 (refused)."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
from flow.files import cache_folder
from flow.output.report.report import CompressionReport, Report

SIMULATED = ", but what was simulated is kept: --resume goes on"
STUDIED = ", but the study is kept: the same command goes on"
KEPT = {"compile": SIMULATED, "cosim": SIMULATED, "explore": STUDIED}  # what an interruption leaves, by command


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
@shown
def inspect(request: InspectRequest, shown: Shown) -> None:
    """Show where every node would run, and why."""
    found, source = run_inspect(request), request.model
    if shown.json:
        totals = {"macs": found.macs, "array_share": round(found.array_share, 6)}
        name = source.stem if isinstance(source, Path) else source.graph.name
        click.echo(json.dumps({"model": name, **totals, **asdict(found)}, indent=2, ensure_ascii=False))
    elif not shown.quiet:
        print_inspection(found)
    if found.refused:
        first, others = found.refused[0], len(found.refused) - 1
        more = f" (and {others} more)" if others else ""
        raise FlowError(f"node '{first.name}' of '{source}' is refused{more}: {first.reason}")


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
    if shown.json:
        click.echo((output / RESULT).read_text(), nl=False)
    elif not shown.quiet:
        print_front(found)
        out.print(f"The front and all designs are in {output}; open {output / 'explore.html'}.", soft_wrap=True)


@bbs.command()
@asked(VerifyRequest)
@shown
def verify(request: VerifyRequest, shown: Shown) -> None:
    """Check that an earlier build is as it was built, by the sha256 of every file."""
    files, differences = run_verify(request)
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
    if shown.json:
        found = {kind: asdict(size) for kind, size in sizes.items()}
        click.echo(json.dumps({"folder": str(cache_folder(None)), "removed": removing, **found}, indent=2))
    elif not shown.quiet:
        print_cache(sizes, removing)


def _finish(report: Report | CompressionReport, shown: Shown, where: str) -> None:
    if shown.json:
        click.echo(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
    elif shown.quiet:
        if isinstance(report, Report):
            out.print(f"Verdict: {report.summary.verdict or 'none'}.")
    else:
        print_report(report)
        out.print(where, soft_wrap=True, markup=False)
    sys.exit(0 if report.passed else 1)


def main() -> None:
    """Entry point: an error that the user can correct is one line and status 2, never a traceback."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends with a clean-up, as Ctrl-C does
    try:
        bbs(standalone_mode=False)
    except FlowError as error:
        _refuse(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        _refuse(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        _refuse(f"interrupted; nothing was written{KEPT.get(next(iter(sys.argv[1:]), ''), '')}")
    except OSError as error:  # no room, no permission, a name the file system does not take
        _refuse(f"{error.strerror or error}: '{str(error.filename)[:200]}'; nothing was written")
    except MemoryError:
        _refuse("out of memory; nothing was written: give a smaller network, or fewer samples")


def _refuse(message: str) -> None:
    click.echo(f"bbs: error: {visible(' '.join(message.split()))}", err=True)
    sys.exit(2)
