"""Measure the paper's tables and figures again.

    python -m bench.paper [--only fig12] [--network MODEL.onnx] [--data FOLDER] [-o FOLDER]

Writes paper.html and paper.json, and keeps the results of every network in FOLDER/kept as they come: a run that was
stopped goes on, and the next one takes what neither the network's files nor the source files here changed. Without
options: all sections, the paper's networks with drawn weights and the small network that ships. `--network` adds an
ONNX file; its samples are MODEL_calibration.npz and MODEL_test.npz beside it. `--data` (or $BBS_DATA) names a folder
with models/*.onnx and datasets/NAME_calib.npz, NAME_test.npz, which go with the models whose file names contain NAME;
all are added.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.paper import page
from bench.paper.kept import Kept
from bench.paper.sections import SECTIONS
from bench.paper.sections.section import Section
from bench.paper.studies import AREAS, run
from bench.paper.workloads import TABLES, Source, source
from flow.errors import FlowError
from flow.hardware import synthesis
from flow.simulation import engines

EXTRAS = (AREAS, {"fig17"}, {"rtl"})  # what is measured beside networks, by the sections that ask for it
SHIPPED = Path(__file__).parents[2] / "models" / "digits_cnn.onnx"


@click.command(help=__doc__)
@click.option("--only", multiple=True, help=f"sections, may be repeated: {', '.join(SECTIONS)}")
@click.option("--network", "networks", multiple=True, type=click.Path(path_type=Path), help="an ONNX file")
@click.option("--data", envvar="BBS_DATA", type=click.Path(path_type=Path), help="folder of networks and data sets")
@click.option("--liberty", type=click.Path(path_type=Path), help="cell library of tables IV and V")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("rtl_out/paper"), show_default=True)
def main(
    only: tuple[str, ...], networks: tuple[Path, ...], data: Path | None, liberty: Path | None, output: Path
) -> None:
    try:
        wanted = _wanted(only, liberty)
        sources = [*TABLES, *_sources(networks, data)]
        engine = engines.ENGINES["verilator"] if "rtl" in wanted else None
        output.mkdir(parents=True, exist_ok=True)
        begun = time.perf_counter()
        console = Console(stderr=True)
        with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
                      console=console, transient=True) as progress:  # fmt: skip
            task = progress.add_task("measure", total=len(sources) + sum(bool(each & set(wanted)) for each in EXTRAS))

            def advance(name: str) -> None:
                progress.update(task, advance=1, description=name)
                if not console.is_terminal:
                    print(f"measured: {name}", file=sys.stderr)

            results = run(sources, wanted, engine, advance, Kept(output / "kept"), liberty)
        made = [SECTIONS[key](results) for key in wanted]
        seconds = time.perf_counter() - begun
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    (output / "paper.html").write_text(page.html(made, [given.name for given in sources], seconds))
    (output / "paper.json").write_text(page.as_json(made))
    _print(made, every=bool(only))
    click.echo(f"{seconds:.0f} s. All values, with what differs: {output / 'paper.html'}")


def _wanted(only: tuple[str, ...], liberty: Path | None) -> list[str]:
    """The sections; those that nobody named are left out, with the reason, where a tool is missing."""
    unknown = [key for key in only if key not in SECTIONS]
    if unknown:
        raise FlowError(f"unknown section '{unknown[0]}'; choose of {', '.join(SECTIONS)}")
    wanted = []
    for key in (key for key in SECTIONS if key in only or not only):
        try:
            _check_tools(key, liberty)
            wanted.append(key)
        except FlowError as error:
            if only:
                raise
            click.echo(f"{key} is left out: {error}", err=True)
    return wanted


def _check_tools(key: str, liberty: Path | None) -> None:
    if key == "rtl":
        engines.select("verilator")
    if key in ("tab4", "tab5"):
        synthesis.yosys()
        synthesis.library(liberty)


def _sources(networks: tuple[Path, ...], data: Path | None) -> list[Source]:
    found = [source(SHIPPED), *(source(model) for model in networks)]
    if data is not None:
        models = sorted((data / "models").glob("*.onnx"))
        if not models:
            raise FlowError(f"--data wants a folder with models/*.onnx, but '{data}' has none; check the path")
        found += [source(model, data / "datasets") for model in models]
    names = [given.name for given in found]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise FlowError(f"two networks are called '{double}'; rename one of the files")
    return found


def _print(sections: list[Section], every: bool) -> None:
    """What the paper has numbers for, and what goes beyond it; `every` row of sections that were asked for."""
    table = Table(box=None, pad_edge=False)
    for name in ("section", "what", "ours", "paper", "ratio"):
        table.add_column(name, justify="left" if name in ("section", "what") else "right", no_wrap=True)
    for section in sections:
        for row in section.rows:
            if every or row.paper is not None or row.bold or section.key == "rtl":
                cells = page.digits(row.ours), page.digits(row.paper), page.digits(row.ratio)
                table.add_row(section.key, row.what, *cells, style="bold" if row.bold else None)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
