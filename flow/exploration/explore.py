"""Design-space exploration: the Pareto front of accuracy, cycles, area and memory traffic, by NSGA-II."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup

from flow.api.inputs import divided, evaluation, import_network, read_network, settled
from flow.api.requests import ExploreRequest
from flow.errors import FlowError, first_line
from flow.exploration.evaluate import Evaluator
from flow.exploration.study import Found, open_storage, search, storage_errors, without_password
from flow.files import fingerprint, write_file, write_json
from flow.frontend.entry import load
from flow.hardware.synthesis import FLIP_FLOP, SRAM_CELL, yosys
from flow.network.samples import Samples
from flow.output.report.page import page
from flow.progress import Stages, silent

DATABASE, RESULT = "explore.db", "explore.json"


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
        evaluation_set = settled(imported, evaluation(imported.network, source, evaluate, None, notes), notes)
    name, url = request.study or source.name, request.storage or f"sqlite:///{output.resolve() / DATABASE}"
    if request.storage is None:
        output.mkdir(exist_ok=True)
    storage = open_storage(url)
    with stage("survey the layers"):
        evaluator = Evaluator(imported, evaluation_set)
    about = {
        "model": load.digest(source.model),
        "samples": [None if each is None else each.digest() for each in (imported.calibration, evaluation_set)],
        "bbs-flow": fingerprint(),
    }
    with stage("try designs", trials) as advance:
        try:
            found = search(evaluator, storage, name, about, trials, advance)
        except storage_errors() as error:
            raise FlowError(
                f"the storage '{without_password(url)}' was lost ({first_line(error)}); "
                "when it is there again, the same command goes on"
            ) from None
    _write(output, source.name, name, url, evaluation_set, found)
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


def _write(folder: Path, model: str, study: str, url: str, samples: Samples, found: Sequence[Found]) -> None:
    """explore.json and explore.html, the front first."""
    from flow.output.report.figures import front  # Matplotlib takes long to import
    from flow.output.report.style import draw

    ordered = sorted(found, key=lambda each: (not each.best, each.measured.cycles, each.number))
    folder.mkdir(parents=True, exist_ok=True)
    designs = [{"number": e.number, "best": e.best, "compile": e.design.options, **asdict(e.measured)} for e in ordered]
    about = {
        "study": study, "storage": without_password(url), "samples": samples.count, "source": samples.source,
        "flip_flop": FLIP_FLOP, "sram_cell": SRAM_CELL,
    }  # fmt: skip
    write_json(folder / RESULT, {"model": model, **about, "designs": designs})
    picture = draw("front", lambda figure: front(figure, designs), 6.5)
    text = page(
        Path(__file__).with_name("explore.html.j2"), model=model, about=about, designs=designs, picture=Markup(picture)
    )
    write_file(folder / "explore.html", text.encode())
