"""Design-space exploration: the Pareto front of accuracy, cycles behind the bus, area and memory traffic."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flow.api.inputs import divided, evaluation, import_network, read_network, settled
from flow.api.requests import ExploreRequest
from flow.errors import FlowError, first_line
from flow.exploration.evaluate import Evaluator
from flow.exploration.study import Found, open_storage, search, storage_errors, without_password
from flow.files import fingerprint, write_file, write_json
from flow.frontend.entry import load
from flow.hardware.synthesis import FLIP_FLOP, SRAM_CELL, yosys
from flow.network.metrics import shown
from flow.output.report.environment import environment
from flow.output.report.figures import designs as plots
from flow.output.report.page import page
from flow.output.report.tables import Cell, Row, Table, whole
from flow.progress import Stages, silent

DATABASE, RESULT = "explore.db", "explore.json"
OF_STUDY = ("output", "trials", "storage", "study")  # options that no design has


def explore(model: Any, output: Any, *, stage: Stages = silent, **options: Any) -> list[Found]:
    """Searches array, weight buffer and pruning for the Pareto front of answers, cycles, area and memory traffic.

    `model` is a path or an onnx.ModelProto, `options` those of `ExploreRequest`, as `bbs explore` has them. `stage`
    shows progress. FlowError as `compile`, and when Optuna or Yosys is missing or the storage cannot be opened.
    """
    return run_explore(ExploreRequest.of(model=model, output=output, **options), stage)


def run_explore(request: ExploreRequest, stage: Stages = silent) -> list[Found]:
    """`explore` for a request.

    The study `study` (by default the network's name) of `storage` (an Optuna URL; by default explore.db in the folder
    `output`) is continued until it has `trials` designs; other processes with the same storage work on the same study.
    The front is written to `output` as explore.html and explore.json.
    """
    output, trials = request.output, request.trials
    _check_output(output)
    yosys()
    notes: list[str] = []
    with stage("import and quantize"):
        source = read_network(request)
        calibration, evaluate = divided(source, request, notes)
        imported = import_network(source, calibration, notes, request.calibrate)
        evaluation_set = settled(
            imported, evaluation(imported.network, source, evaluate, None, notes, request.metric), notes
        )
    name, url = request.study or source.name, request.storage or f"sqlite:///{output.resolve() / DATABASE}"
    if request.storage is None:
        output.mkdir(exist_ok=True)
    storage = open_storage(url)
    with stage("survey the layers"):
        evaluator = Evaluator(imported, evaluation_set, request.output_weight, request.axi, request.memory)
    bus = {"bits": request.bus, "latency": request.latency, "bandwidth": request.bandwidth}
    begun_with = {
        "model": load.digest(source.model),
        "samples": [None if each is None else each.digest() for each in (imported.calibration, evaluation_set)],
        "bbs-flow": fingerprint(),
        "bus": bus,
        **({} if request.metric is None else {"metric": request.record()["metric"]}),
        **({} if not request.output_weight else {"output_weight": dict(sorted(request.output_weight.items()))}),
    }
    with stage("try designs", trials) as advance:
        try:
            found = search(evaluator, storage, name, begun_with, trials, advance)
        except storage_errors() as error:
            raise FlowError(
                f"the storage '{without_password(url)}' was lost ({first_line(error)}); "
                "when it is there again, the same command goes on"
            ) from None
    about = {
        "study": name, "storage": without_password(url), "samples": evaluation_set.count,
        "source": evaluation_set.source, "metric": evaluator.metric, "clock": request.clock, "bus": bus,
    }  # fmt: skip
    _write(request, source.name, about, found)
    return found


def _check_output(folder: Path) -> None:
    """FlowError, before any work, when the folder cannot hold the results, or holds other files. It is not created."""
    if folder.exists() and not folder.is_dir():
        raise FlowError(f"the output must be a folder, but '{folder}' is a file; choose another name")
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / n).is_file() for n in (DATABASE, RESULT)):
        raise FlowError(f"the output folder '{folder}' is in use and holds no exploration; choose another")
    there = folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        if not there:
            folder.rmdir()
    except OSError as error:
        raise FlowError(f"the output folder '{folder}' cannot be written: {error.strerror}; choose another") from None


def _write(request: ExploreRequest, model: str, about: dict[str, Any], found: Sequence[Found]) -> None:
    """explore.json and explore.html, the front first. A design's command is run where its files are."""
    folder, ordered = request.output, sorted(found, key=lambda e: (not e.best, e.measured.cycles_bus, e.number))
    folder.mkdir(parents=True, exist_ok=True)
    designs = [{"number": e.number, "best": e.best, "compile": e.design.options, **asdict(e.measured)} for e in ordered]
    write_json(
        folder / RESULT,
        {"model": model, **about, "flip_flop": FLIP_FLOP, "sram_cell": SRAM_CELL, "designs": designs},
    )
    command = request.command("compile", *OF_STUDY)
    shared = {} if request.storage is None else {"storage": without_password(request.storage)}
    text = page(
        Path(__file__).with_name("explore.html.j2"), model=model, about=about, designs=designs,
        flip_flop=FLIP_FLOP, sram_cell=SRAM_CELL, command=request.command("explore", **shared),
        version=environment(None).versions["bbs-flow"], panels=plots(designs, about["metric"]),
        table=_table(designs, command, about["metric"], about["clock"]),
    )  # fmt: skip
    write_file(folder / "explore.html", text.encode())


def _table(designs: Sequence[dict[str, Any]], command: str, metric: str | None, clock: float | None) -> Table:
    """The designs with their commands and all figures, `design-NUMBER`."""
    rows = []
    for design in designs:
        value = design["accuracy"]
        fast = [whole(1e6 * clock / design["cycles_bus"])] if clock else []
        cells = (
            Cell(f"{command} {design['compile']} -o DIR", design["number"]),
            *([] if metric is None else [Cell(shown(metric, value), value)]), whole(design["divergence"], "{:.2g}"),
            whole(design["bits_per_weight"], "{:.2f}"), whole(design["cycles"]),
            whole(design["cycles_bus"]), *fast,
            whole(design["transistors"] / 1e6, "{:.2f}"), whole(design["traffic"] / 1024, "{:,.1f}"),
        )  # fmt: skip
        rows.append(Row(cells, f"design-{design['number']}", faint=not design["best"]))
    heads = ("command", *([] if metric is None else [metric]), "divergence", "bits", "cycles", "behind the bus",
             *(["inferences a second"] if clock else []), "million transistors", "KiB of traffic")  # fmt: skip
    return Table(heads, tuple(rows), wide=True)
