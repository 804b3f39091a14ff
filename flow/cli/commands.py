"""The command `bbs`: arguments in, tables and progress out, exit status 0 (pass), 1 (fail) or 2 (refused)."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from flow import api, exploration
from flow.cli.options import (
    array,
    as_json,
    data_options,
    engine_option,
    force,
    model,
    pruning_options,
    resume,
    simulation_options,
    weight_buffer,
)
from flow.cli.stages import progress_for
from flow.cli.tables import out, print_front, print_inspection, print_report
from flow.compression.choice import Pruning
from flow.errors import FlowError
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
@model
@as_json
def inspect(model: Path, as_json: bool) -> None:
    """Show where every node would run, and why."""
    found = api.inspect(model)
    if as_json:
        totals = {"macs": found.macs, "array_share": round(found.array_share, 6)}
        click.echo(json.dumps({"model": model.stem, **totals, **asdict(found)}, indent=2, ensure_ascii=False))
    else:
        print_inspection(found)
    if found.refused:
        first, others = found.refused[0], len(found.refused) - 1
        more = f" (and {others} more)" if others else ""
        raise FlowError(f"node '{first.name}' of '{model}' is refused{more}: {first.reason}")


@bbs.command()
@model
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="OUT.onnx")
@pruning_options
@data_options
@array
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.svg", help="Curves over bits per weight.")
@force
@as_json
def compress(
    model: Path, output: Path, chosen: Pruning, calibration: Path | None, evaluate: Path | None,
    array: tuple[int, int] | None,
    plot: Path | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write the pruned INT8 network; no hardware."""
    report = api.compress(
        model, output, chosen=chosen, calibration=calibration,
        evaluate=evaluate, array=array, plot=plot, force=force, stage=progress_for(as_json),
    )  # fmt: skip
    _finish(report, as_json, f"The pruned network is in {output}.")


@bbs.command()
@model
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR")
@pruning_options
@data_options
@array
@weight_buffer
@click.option("--bus", type=int, default=64, metavar="BITS", help="Bits of the AXI bus, 32 to 1024; default 64.")
@click.option("--on-chip", is_flag=True, help="Feature maps on chip: the whole network by one start, too.")
@click.option("--synth", is_flag=True, help="Add Yosys' estimate of the array's area to the report.")
@engine_option
@simulation_options
@force
@resume
@as_json
def compile(
    model: Path, output: Path, chosen: Pruning, calibration: Path | None, evaluate: Path | None,
    array: tuple[int, int] | None, weight_buffer: int | None, bus: int, on_chip: bool, synth: bool,
    engine: str | None, count: int | None, coverage: float, scheduler: str | None, processes: int | None, force: bool,
    resume: bool, as_json: bool,
) -> None:  # fmt: skip
    """Prune, write RTL and vectors, co-simulate, judge."""
    report = api.compile(
        model, output, chosen=chosen, calibration=calibration,
        evaluate=evaluate, array=array, weight_buffer=weight_buffer, bus=bus, on_chip=on_chip, synth=synth,
        engine=engine, count=count, coverage=coverage, scheduler=scheduler, processes=processes, force=force,
        resume=resume, stage=progress_for(as_json),
    )  # fmt: skip
    _finish(report, as_json, f"RTL, vectors and report are in {output}; open {output / 'report.html'}.")


@bbs.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@engine_option
@simulation_options
@click.option("--fault", metavar="BLOCK:KIND", help="Break a hardware block first, to see it caught and found.")
@click.option("--resume", is_flag=True, help="Go on where a run of this build was stopped.")
@as_json
def cosim(
    folder: Path, engine: str | None, count: int | None, coverage: float, scheduler: str | None,
    processes: int | None, fault: str | None, resume: bool, as_json: bool,
) -> None:  # fmt: skip
    """Co-simulate an earlier build again, from its own files."""
    report = api.cosim(
        folder, engine=engine, count=count, coverage=coverage, scheduler=scheduler, processes=processes, fault=fault,
        resume=resume, stage=progress_for(as_json),
    )  # fmt: skip
    _finish(report, as_json, f"{folder} is as it was.")


@bbs.command()
@model
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR")
@data_options
@click.option("--trials", type=int, default=100, metavar="T", help="Designs in the study, in the end; default 100.")
@click.option("--storage", metavar="URL", help="Where Optuna keeps the study; default: the SQLite file DIR/explore.db.")
@click.option("--study", metavar="NAME", help="The study's name; default: the network's.")
@as_json
def explore(
    model: Path, output: Path, calibration: Path | None, evaluate: Path | None, trials: int, storage: str | None,
    study: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Search array, buffer and pruning for the best designs."""
    found = exploration.explore(
        model, output, calibration=calibration, evaluate=evaluate, trials=trials, storage=storage, study=study,
        stage=progress_for(as_json),
    )  # fmt: skip
    if as_json:
        click.echo((output / exploration.RESULT).read_text(), nl=False)
    else:
        print_front(found)
        out.print(f"The front and all designs are in {output}; open {output / 'explore.html'}.", soft_wrap=True)


@bbs.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@as_json
def verify(folder: Path, as_json: bool) -> None:
    """Check that an earlier build is as it was built, by the sha256 of every file."""
    files, differences = api.verify(folder)
    if as_json:
        click.echo(json.dumps({"files": files, **asdict(differences)}, indent=2, ensure_ascii=False))
    else:
        for kind, names in asdict(differences).items():
            for name in names:
                click.echo(f"{kind:<12}{name}")
        click.echo(f"{folder} is {'not ' if differences.any else ''}as it was built ({files} files).")
    sys.exit(1 if differences.any else 0)


def _finish(report: Report | CompressionReport, as_json: bool, where: str) -> None:
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
    else:
        print_report(report)
        out.print(where, soft_wrap=True, markup=False)
    sys.exit(0 if report.passed else 1)


def main() -> None:
    """Entry point: what the user can mend is one line and status 2, never a traceback."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to end is to clean up, as on Ctrl-C
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
    click.echo(f"bbs: error: {' '.join(message.split())}", err=True)
    sys.exit(2)
