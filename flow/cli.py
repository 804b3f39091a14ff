"""The command `bbs`: arguments in, tables and progress out, exit status 0 (pass), 1 (fail) or 2 (refused)."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
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
from rich.table import Table

from flow import build, exploration
from flow.allocate import PRESETS
from flow.compress import Pruning, pruning
from flow.encoding import BBS
from flow.engines import ENGINES
from flow.errors import FlowError
from flow.inspection import Inspection
from flow.progress import Advance, Stages, duration, silent
from flow.prune import METHODS
from flow.refine import REFINEMENTS
from flow.report import Report

WIDTH = None if sys.stdout.isatty() else 120  # into a file or pipe, lines as long as a wide terminal's
out = Console(highlight=False, width=WIDTH)
err = Console(stderr=True, highlight=False)
log = logging.getLogger("flow")
COUNTABLE = 1000  # more of something are shown in percent
SECONDS_SAID = 60  # between two lines of progress where there is no terminal

SIMULATED = ", but what was simulated is kept: --resume goes on"
STUDIED = ", but the study is kept: the same command goes on"
KEPT = {"compile": SIMULATED, "cosim": SIMULATED, "explore": STUDIED}  # what an interruption leaves, by command
Command = Callable[..., None]


def _version() -> str:
    try:
        return version("bbs-flow")
    except PackageNotFoundError:
        return "unknown"


@contextmanager
def stage(name: str, total: int | None = None) -> Iterator[Advance]:
    """One step of the pipeline as a line on stderr; with a total, a bar. Without a terminal a line a minute."""
    columns = [SpinnerColumn(finished_text="✓"), TextColumn("{task.description:<42}"), BarColumn(24)]
    if total:
        columns.append(MofNCompleteColumn() if total <= COUNTABLE else TaskProgressColumn())
    columns.append(TimeElapsedColumn())
    if total:
        columns.append(TimeRemainingColumn(compact=True))
    begin = said = time.monotonic()
    lock = Lock()  # told from many threads
    total_done = 0

    def advance(done: int = 1) -> None:
        nonlocal total_done, said
        with lock:
            total_done += done
            progress.advance(task, done)
            now = time.monotonic()
            if total and total_done < total and not err.is_terminal and now - said >= SECONDS_SAID:
                said = now
                left = duration((now - begin) * (total - total_done) / total_done)
                log.info("%s: %.0f %%, about %s left.", name, 100 * total_done / total, left)

    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task(name[:42], total=total)
        yield advance
        progress.update(task, total=total or 1, completed=total or 1)


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """ROWSxCOLUMNS, such as 16x32."""
    if value is None:
        return None
    parts = value.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise FlowError(f"an array size is ROWSxCOLUMNS, but it is '{value}'; give --array 16x32, for example")
    return int(parts[0]), int(parts[1])


def _pruning_options(command: Command) -> Command:
    """The options of pruning; the command gets what they say as one argument, `chosen`."""
    options = [
        click.option("--bits", type=float, metavar="B", help="Budget: bits per weight on average; default: 5."),
        click.option("--max-drop", type=float, metavar="POINTS", help="Fewest bits that lose no more top-1 than this."),
        click.option("--block", type=int, metavar="C", help="Channels that share one N; default: the array's columns."),
        click.option("--no-bias-correction", "no_bias", is_flag=True, help="Budget: leave the biases."),
        click.option("--no-compensation", is_flag=True, help="Budget: round every weight by itself."),
        click.option("--no-scale-search", "no_scales", is_flag=True, help="Budget: leave the weight scales."),
        click.option("--preset", metavar="NAME", help=f"The paper's rule: one of {', '.join(PRESETS)}."),
        click.option("--columns", type=int, help=f"Bit columns to prune, 0 to {BBS.max_columns_pruned}."),
        click.option("--sensitive", type=float, metavar="BETA", help="Share of channels left whole, 0 to 1."),
        click.option("--method", metavar="NAME", help=f"One of {', '.join(METHODS)}."),
    ]

    @wraps(command)
    def chosen(
        bits: float | None, max_drop: float | None, block: int | None, no_bias: bool, no_compensation: bool,
        no_scales: bool, preset: str | None, columns: int | None, sensitive: float | None, method: str | None,
        **others: Any,
    ) -> None:  # fmt: skip
        off = {"bias": no_bias, "compensation": no_compensation, "scales": no_scales}
        means = tuple(name for name in REFINEMENTS if not off[name])
        command(chosen=pruning(preset, columns, sensitive, method, bits, max_drop, block, means), **others)

    return _with(chosen, options)


def _data_options(command: Command) -> Command:
    options = [
        click.option(
            "--calibration", type=click.Path(path_type=Path), metavar="FILE.npz",
            help="Samples x to quantize and tune with; default: MODEL_calibration.npz.",
        ),
        click.option(
            "--evaluate", type=click.Path(path_type=Path), metavar="FILE.npz",
            help="Samples x and labels y to evaluate and simulate; default: MODEL_test.npz.",
        ),
    ]  # fmt: skip
    return _with(command, options)


def _with(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def _engine_option(command: Command) -> Command:
    names = ", ".join(ENGINES)
    return click.option("--engine", metavar="NAME", help=f"One of {names}; default: verilator, else myhdl.")(command)


as_json = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, nothing else.")
force = click.option("--force", is_flag=True, help="Replace an earlier output.")
model = click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
array = click.option(
    "--array",
    metavar="ROWSxCOLUMNS",
    callback=_size,
    help="Size of the array; default 16x32, 4x4 for the slow engines. As many channels as columns share one N.",
)
weight_buffer = click.option(
    "--weight-buffer", type=int, metavar="WORDS", help="Words of the weight buffer, a power of two; default 1024."
)
resume = click.option(
    "--resume", is_flag=True, help="Keep an earlier build of the same request if it is whole, else go on with it."
)


def _simulation_options(command: Command) -> Command:
    options = [
        click.option("--samples", "count", type=int, metavar="K", help="How many samples to simulate."),
        click.option(
            "--coverage", type=float, default=1.0, metavar="SHARE",
            help="Least share of each layer to simulate in RTL, 0 to 1, a sample of its tiles; default 1.",
        ),
        click.option(
            "--scheduler", metavar="tcp://HOST:PORT",
            help="Dask scheduler whose workers simulate; default: this machine.",
        ),
        click.option("--processes", type=int, metavar="P", help="Processes here; default: the processors."),
    ]  # fmt: skip
    return _with(command, options)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_version(), prog_name="bbs")
def bbs() -> None:
    """From a trained ONNX network to a BBS-compressed network and the accelerator that runs it."""


@bbs.command()
@model
@as_json
def inspect(model: Path, as_json: bool) -> None:
    """Show where every node would run, and why."""
    found = build.inspect(model)
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
@_pruning_options
@_data_options
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
    report = build.compress(
        model, output, chosen=chosen, calibration=calibration,
        evaluate=evaluate, array=array, plot=plot, force=force, stage=_stage(as_json),
    )  # fmt: skip
    _finish(report, as_json, f"The pruned network is in {output}.")


@bbs.command()
@model
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR")
@_pruning_options
@_data_options
@array
@weight_buffer
@click.option("--bus", type=int, default=64, metavar="BITS", help="Bits of the AXI bus, 32 to 1024; default 64.")
@click.option("--on-chip", is_flag=True, help="Feature maps on chip: the whole network by one start, too.")
@click.option("--synth", is_flag=True, help="Add Yosys' estimate of the array's area to the report.")
@_engine_option
@_simulation_options
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
    report = build.compile(
        model, output, chosen=chosen, calibration=calibration,
        evaluate=evaluate, array=array, weight_buffer=weight_buffer, bus=bus, on_chip=on_chip, synth=synth,
        engine=engine, count=count, coverage=coverage, scheduler=scheduler, processes=processes, force=force,
        resume=resume, stage=_stage(as_json),
    )  # fmt: skip
    _finish(report, as_json, f"RTL, vectors and report are in {output}; open {output / 'report.html'}.")


@bbs.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@_engine_option
@_simulation_options
@click.option("--fault", metavar="BLOCK:KIND", help="Break a hardware block first, to see it caught and found.")
@click.option("--resume", is_flag=True, help="Go on where a run of this build was stopped.")
@as_json
def cosim(
    folder: Path, engine: str | None, count: int | None, coverage: float, scheduler: str | None,
    processes: int | None, fault: str | None, resume: bool, as_json: bool,
) -> None:  # fmt: skip
    """Co-simulate an earlier build again, from its own files."""
    report = build.cosim(
        folder, engine=engine, count=count, coverage=coverage, scheduler=scheduler, processes=processes, fault=fault,
        resume=resume, stage=_stage(as_json),
    )  # fmt: skip
    _finish(report, as_json, f"{folder} is as it was.")


@bbs.command()
@model
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR")
@_data_options
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
        stage=_stage(as_json),
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
    files, differences = build.verify(folder)
    if as_json:
        click.echo(json.dumps({"files": files, **asdict(differences)}, indent=2, ensure_ascii=False))
    else:
        for kind, names in asdict(differences).items():
            for name in names:
                click.echo(f"{kind:<12}{name}")
        click.echo(f"{folder} is {'not ' if differences.any else ''}as it was built ({files} files).")
    sys.exit(1 if differences.any else 0)


def _stage(as_json: bool) -> Stages:
    """Progress, and what the flow says on its way, on stderr; with --json in a pipe neither."""
    if as_json and not err.is_terminal:
        return silent
    log.setLevel(logging.INFO)
    if not log.handlers:
        log.addHandler(_Said())
    return stage


class _Said(logging.Handler):
    """What the flow logs, as the notes are shown."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(record.getMessage(), style="dim", soft_wrap=True, markup=False)


def _finish(report: Report, as_json: bool, where: str) -> None:
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
    else:
        print_report(report)
        out.print(where, soft_wrap=True, markup=False)
    sys.exit(0 if report.passed else 1)


# -------------------------------------------------------------------------------- tables


def print_inspection(found: Inspection) -> None:
    """The table of `bbs inspect`."""
    table = Table(box=None, pad_edge=False)
    for name, side in (("node", "left"), ("operator", "left"), ("runs on", "left"), ("output", "left"),
                       ("MACs", "right"), ("weights", "right"), ("why", "left")):  # fmt: skip
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    for node in found.nodes:
        shape = "" if node.shape is None else "x".join(map(str, node.shape)) or "1"
        table.add_row(
            escape(node.name), node.op, node.target, shape, f"{node.macs:,}" if node.macs else "",
            f"{node.parameters:,}" if node.parameters else "", escape(node.reason),
        )  # fmt: skip
    out.print(table)
    on_array = [node for node in found.nodes if node.target == "array"]
    macs, weights = sum(node.macs for node in on_array), sum(node.parameters for node in on_array)
    if found.folded:
        operators = ", ".join(f"{count} {op}" for op, count in found.folded.items())
        out.print(f"Folded into others at import: {operators}.", soft_wrap=True)
    if found.refused:
        return
    if found.uncounted:
        operators = ", ".join(f"{count} {op}" for op, count in found.uncounted.items())
        out.print(f"Not counted are the MACs of {operators}.", soft_wrap=True)
    out.print(
        f"The array takes {len(on_array)} layers: {macs:,} MACs ({100 * found.array_share:.1f} % of the network's), "
        f"{weights:,} weights.", soft_wrap=True,
    )  # fmt: skip


def print_report(report: Report) -> None:
    """The tables of `bbs compile`, `bbs cosim` and `bbs compress`."""
    for note in report.notes:
        err.print(f"note: {note}", style="dim", soft_wrap=True, markup=False)
    out.print(_layer_table(report))
    summary = report.summary
    accuracy = summary["accuracy"]
    line = [f"{summary['bits_per_weight']:.2f} bits per weight ({summary['compression_ratio']:.2f}x smaller)"]
    if "cycles" in summary:
        line.append(f"{summary['cycles']:,} cycles a sample")
        if summary["speedup"] is not None:
            line.append(f"{summary['speedup']:.2f}x faster than dense PEs")
        line.append(f"{100 * summary['utilization']:.1f} % utilization")
    if summary.get("area"):
        line.append(f"about {summary['area']['transistors'] / 1e6:.1f} million transistors")
    out.print(", ".join(line) + ".", soft_wrap=True)
    shown = [
        f"{name} {100 * accuracy[key]:.2f} %"
        for key, name in (("float", "float"), ("int8", "INT8"), ("pruned", "pruned"))
        if accuracy[key] is not None
    ]
    if shown:
        out.print(f"Top-1 on {accuracy['samples']:,} samples of {accuracy['source']}: {', '.join(shown)}.")
    _print_distance(accuracy)
    if "verdict" in summary:
        _print_verdict(report)


def _print_distance(accuracy: dict[str, Any]) -> None:
    """How far the pruned network's answers are from those of the network it was made from."""
    apart, same = accuracy["divergence"]["pruned"], accuracy["agreement"].get("pruned")
    base = "float" if "int8" in accuracy["divergence"] else "INT8"
    if same is None:
        out.print(f"Error of the pruned network's outputs over the {base} network's variance: {apart:.2g}.")
    else:
        out.print(f"Pruned against {base}: same class for {100 * same:.2f} %, divergence (KL) {apart:.2g}.")


def print_front(found: Sequence[exploration.Found]) -> None:
    """The table of `bbs explore`: the Pareto front."""
    best = sorted((each for each in found if each.best), key=lambda each: each.measured.cycles)
    table = Table(box=None, pad_edge=False)
    for head in ("bbs compile", "top-1 %", "KL", "bits", "cycles", "M transistors", "KiB traffic"):
        table.add_column(head, justify="left" if head == "bbs compile" else "right", no_wrap=head != "bbs compile")
    for each in best:
        got = each.measured
        table.add_row(
            each.design.options, "" if got.accuracy is None else f"{100 * got.accuracy:.2f}", f"{got.divergence:.2g}",
            f"{got.bits_per_weight:.2f}", f"{got.cycles:,}", f"{got.transistors / 1e6:.2f}",
            f"{got.traffic / 1024:.1f}",
        )  # fmt: skip
    out.print(table)
    out.print(f"{len(best)} of {len(found)} designs are on the Pareto front.")


def _layer_table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False)
    simulated = "cycles" in report.summary
    sampled = report.summary.get("rtl_share", 1) < 1
    heads = ["layer", "operator", "N: channels", "bits", "SQNR dB"]
    heads += ["cycles", "speed-up", "util. %", "tier 1", "tier 2"] if simulated else ["MSE", "KL", "sensitive"]
    heads += ["RTL %"] if sampled else []
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < 3 else "right", no_wrap=number > 0, overflow="fold")
    for layer in report.layers:
        cells = [
            escape(layer["name"]),
            layer["op"],
            " ".join(f"{n}:{count}" for n, count in layer["columns_pruned"].items()),
            f"{layer['bits_per_weight']:.2f}",
            "equal" if layer["weight_sqnr"] is None else f"{layer['weight_sqnr']:.1f}",
        ]
        if simulated:
            speedup = layer["speedup"]
            cells += [
                f"{layer['cycles']:,}",
                "" if speedup is None else f"{speedup:.2f}x",
                f"{100 * layer['utilization']:.1f}",
                f"{layer['tier1_mismatches']:,}",
                f"{layer['tier2_mismatches']:,}",
            ]
        else:
            cells += [f"{layer['weight_mse']:.2f}", f"{layer['weight_kl']:.4f}", str(layer["sensitive_channels"])]
        if sampled:
            cells.append(f"{100 * layer['rtl_share']:.2f}")
        table.add_row(*cells)
    return table


def _print_verdict(report: Report) -> None:
    summary = report.summary
    accuracy, share = summary["accuracy"], summary["rtl_share"]
    samples = f"{summary['samples']} sample{'s' if summary['samples'] != 1 else ''}"
    if accuracy["rtl"] is not None:
        by = "RTL" if share == 1 else "RTL and reference"
        out.print(
            f"Top-1 on the {samples} simulated: {by} {100 * accuracy['rtl']:.2f} %, "
            f"pruned network {100 * accuracy['pruned_simulated']:.2f} %."
        )
    for finding in report.findings:
        text = f"Tier {finding['tier']}, cause: {finding['cause']}. {finding['text']}."
        out.print(text, soft_wrap=True, markup=False)
    _print_on_chip(report.on_chip)
    if share < 1:
        of = "Nothing" if not share else f"{100 * share:.2f} % of the MACs"
        out.print(f"{of} went through RTL{', the rest' if share else ': all'} through the integer reference.")
    tier1, tier2, judged = (f"{summary[name]:,}" for name in ("tier1_mismatches", "tier2_mismatches", "elements"))
    judged = f"{judged} elements"
    if share == 1:
        unlike = f"{tier1} of {judged} differ from the integer reference, {tier2} from ONNX Runtime"
    elif share:
        unlike = f"{tier1} of {summary['elements_rtl']:,} elements differ from the integer reference, "
        unlike += f"{tier2} of {judged} from ONNX Runtime"
    else:
        unlike = f"{tier2} of {judged} differ from ONNX Runtime"
    article = "an" if summary["array"].startswith(("8", "11x", "18x")) else "a"
    where = f"on {article} {summary['array']} array by {summary['engine']}" if share else "by the integer reference"
    out.print(
        f"Verdict: [bold]{summary['verdict'] or 'none'}[/bold]. {samples} {where}: {unlike} "
        f"(by at most {summary['tier2_max_lsb']} LSB).",
        soft_wrap=True,
    )


def _print_on_chip(found: dict[str, Any] | None) -> None:
    """The whole network by one start."""
    if found is None:
        return
    if found["failure"]:
        out.print(f"On chip the whole network did not finish: {found['failure']}.", soft_wrap=True, markup=False)
        return
    for step in found["steps"]:
        if step["tier1_mismatches"]:
            wrong = f"{step['tier1_mismatches']:,} of {step['elements']:,} elements differ from the integer reference"
            out.print(f"On chip, step '{step['name']}': {wrong}.", soft_wrap=True, markup=False)
    ties = f", {found['tier2_ties']} more at a tie" if found["tier2_ties"] else ""
    out.print(
        f"On chip, the whole network by one start: {found['cycles']:,} cycles, {100 * found['utilization']:.1f} % "
        f"utilization, {found['map_bytes'] / 1024:,.1f} KiB of feature maps; {found['tier1_mismatches']} of "
        f"{found['elements']:,} elements differ from the integer reference, {found['tier2_mismatches']} from ONNX "
        f"Runtime (by at most {found['tier2_max_lsb']} LSB){ties}.", soft_wrap=True,
    )  # fmt: skip


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
