"""Design-space exploration: the Pareto front of accuracy, cycles, area and memory traffic, by NSGA-II.

A design is an array, a weight buffer and a way to prune. Its answers are those of the pruned INT8 network in ONNX
Runtime, its cycles and traffic those of the cycle model, which the RTL confirms (`bbs compile`), its area the estimate
of `synthesis.estimate`. Optuna keeps the study and draws the next designs (Deb et al. 2002); several processes or
machines that name the same storage share one study.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from markupsafe import Markup

from flow import host, importer, tune, verdict
from flow.allocate import PRESETS, average_bits
from flow.artefacts import write_json
from flow.compress import DEFAULT_BITS, Compressed, Pruning, encode, pruning
from flow.cycles import layer_cycles, memory_traffic
from flow.encoding import BBS
from flow.engines.base import cache_folder
from flow.errors import FlowError, first_line
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit
from flow.inputs import Imported, evaluation, import_network
from flow.measure import answers, divergence
from flow.progress import Advance, Stages, ignore, silent
from flow.prune import METHODS
from flow.refine import REFINEMENTS
from flow.report import page
from flow.samples import Samples
from flow.schedule import layout
from flow.synthesis import FLIP_FLOP, SRAM_CELL, Estimate, estimate, yosys
from flow.workers import fingerprint

ROWS = (4, 8, 16, 32, 64)
COLUMNS = (8, 16, 32, 64)
WEIGHT_WORDS = (256, 512, 1024, 2048, 4096)
USUAL = ArrayConfig()  # of the designs that are always measured
BUDGETS = (2.5, 8.0, 0.25)  # bits per weight: from, to, step
SENSITIVE = (0.0, 0.5, 0.05)
BUDGET = "budget"  # among the methods: refined on calibration samples
POPULATION = 24  # designs of one generation
SQLITE_SECONDS = 60  # to wait for another process that writes
GRPC_SECONDS = 20
SCHEMA_TRIES, SCHEMA_SECONDS = 10, 0.3  # while another worker makes the tables
DATABASE, RESULT = "explore.db", "explore.json"
OBJECTIVES = ("answers", "cycles", "transistors", "traffic")


@dataclass(frozen=True)
class Design:
    """One point of the space."""

    rows: int
    columns: int
    weight_depth: int
    chosen: Pruning

    @property
    def config(self) -> ArrayConfig:
        return ArrayConfig(self.rows, self.columns).with_weight_buffer(self.weight_depth)

    @property
    def options(self) -> str:
        """Those of `bbs compile` that build it."""
        chosen = self.chosen
        how = (
            f"--bits {chosen.bits:g}" if chosen.bits is not None
            else f"--columns {chosen.columns} --sensitive {chosen.sensitive:g} --method {chosen.method}"
        )  # fmt: skip
        return f"--array {self.rows}x{self.columns} --weight-buffer {self.weight_depth} {how}"


@dataclass(frozen=True)
class Measured:
    """What a design gives. Cycles and bytes of traffic are one sample's; `accuracy` is None without labels."""

    accuracy: float | None
    divergence: float
    bits_per_weight: float
    cycles: int
    transistors: int
    traffic: int

    @property
    def values(self) -> tuple[float, float, float, float]:
        """The objectives: top-1 to be large or divergence to be small, and three to be small."""
        answers = self.divergence if self.accuracy is None else self.accuracy
        return answers, self.cycles, self.transistors, self.traffic


@dataclass(frozen=True)
class Found:
    """A finished design of the study; `best` if no other is as good in all objectives and better in one."""

    number: int
    design: Design
    measured: Measured
    best: bool


class Bench:
    """Measures designs of one network; what designs have in common is computed once."""

    def __init__(self, taken: Imported, given: Samples) -> None:
        self._taken, self._given = taken, given
        self._known = self._survey = None
        if taken.calibration is not None:
            self._known = tune.data(taken.network, taken.source, taken.prepared, taken.calibration)
            self._survey = tune.survey(taken.network, self._known, frozenset(REFINEMENTS), lambda: None)
        self._wanted = answers(taken.source, given.feeds, given.labels is not None)
        self._compressed: dict[tuple[Pruning, int], tuple[Compressed, float | None, float]] = {}
        self._areas: dict[ArrayConfig, Estimate] = {}

    @property
    def scored(self) -> bool:
        """Whether the answers are judged by top-1, not by their divergence."""
        labels, model = self._given.labels, self._taken.network.model
        return labels is not None and verdict.top1(host.predict(model, self._given.feeds), labels) is not None

    @property
    def methods(self) -> tuple[str, ...]:
        """The ways to prune there are: a budget needs calibration samples."""
        return (*METHODS, BUDGET) if self._known is not None else tuple(METHODS)

    def measure(self, design: Design) -> Measured:
        """FlowError when the design cannot be built."""
        config = design.config
        made, accuracy, apart = self._answers(design.chosen, design.columns)
        layers = layout(made.network.layers, made.allocation, config)
        traffic = sum(sum(memory_traffic(scheduled, config).values()) for scheduled in layers)
        cycles = sum(layer_cycles(scheduled, config) for scheduled in layers)
        bits = average_bits(made.network.layers, made.allocation)
        return Measured(accuracy, apart, bits, cycles, self._area(config).transistors, traffic)

    def _answers(self, chosen: Pruning, columns: int) -> tuple[Compressed, float | None, float]:
        """The pruned network, its top-1 and its divergence from the user's network."""
        key = (chosen, columns)
        if key not in self._compressed:
            made = encode(self._taken.network, chosen, columns, known=self._known, found=self._survey)
            labels, model, feeds = self._given.labels, made.network.model, self._given.feeds
            accuracy = None if labels is None else verdict.top1(host.predict(model, feeds), labels)
            got = answers(model, feeds, labels is not None)
            self._compressed[key] = made, accuracy, divergence(self._wanted, got)
        return self._compressed[key]

    def _area(self, config: ArrayConfig) -> Estimate:
        if config not in self._areas:
            with tempfile.TemporaryDirectory() as folder:
                files = emit(config, Path(folder)).files
                self._areas[config] = estimate(files, config.name, cache_folder(None))
        return self._areas[config]


def explore(
    model: str | Path,
    output: str | Path,
    *,
    calibration: str | Path | None = None,
    evaluate: str | Path | None = None,
    trials: int = 100,
    storage: str | None = None,
    study: str | None = None,
    stage: Stages = silent,
) -> list[Found]:
    """Searches array, weight buffer and pruning for the Pareto front of answers, cycles, area and memory traffic.

    The study `study` (the network's name) of `storage` (an Optuna URL; explore.db in the folder `output`) is gone on
    with until it has `trials` designs; other processes that name the same storage work on the same study. The front
    is written to `output` as explore.html and explore.json. FlowError as `compile`, and when Optuna or Yosys is
    missing or the storage cannot be opened.
    """
    model, output = Path(model), Path(output)
    if trials < 1:
        raise FlowError(f"an exploration tries one design or more, but they are {trials}; change --trials")
    _check_output(output)
    yosys()
    notes: list[str] = []
    with stage("import and quantize"):
        source = importer.load(model)
        taken = import_network(source, model, calibration, notes)
        given = evaluation(taken.network, model, evaluate, None, notes)
    name, url = study or model.stem, storage or f"sqlite:///{output.resolve() / DATABASE}"
    if storage is None:
        output.mkdir(exist_ok=True)
    kept = _storage(url)
    with stage("survey the layers"):
        bench = Bench(taken, given)
    request = {
        "model": importer.digest(source),
        "samples": [_digest(each) for each in (taken.calibration, given)],
        "bbs-flow": fingerprint(),
    }
    with stage("try designs", trials) as advance:
        try:
            found = _search(bench, kept, name, request, trials, advance)
        except _lost() as error:
            raise FlowError(
                f"the storage '{_without_password(url)}' was lost ({first_line(error)}); "
                "when it is there again, the same command goes on"
            ) from None
    _write(output, model.stem, name, url, given, found)
    return found


def _check_output(folder: Path) -> None:
    """FlowError, before any work, when the folder cannot hold the results, or holds something else. It is not made."""
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


def _digest(given: Samples | None) -> str | None:
    if given is None:
        return None
    arrays = given.feeds | ({} if given.labels is None else {"y": given.labels})
    whole = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        whole.update(f"{name}{array.dtype}{array.shape}".encode() + array.tobytes())
    return whole.hexdigest()


# -------------------------------------------------------------------------------- the study


def _storage(url: str) -> Any:
    """Optuna's storage of that URL: sqlite:///FILE, postgresql://..., or grpc://HOST:PORT (its proxy).

    FlowError when it cannot be opened.
    """
    optuna, parts = _optuna(), urlsplit(url)
    try:
        if parts.scheme == "grpc":
            kept = optuna.storages.GrpcStorageProxy(host=parts.hostname or "localhost", port=parts.port or 13000)
            kept.wait_server_ready(timeout=GRPC_SECONDS)
            return kept
        options = {"connect_args": {"timeout": SQLITE_SECONDS}} if parts.scheme == "sqlite" else {}
        driver = url.replace("postgresql://", "postgresql+psycopg://", 1)
        return _database(driver, options)
    except Exception as error:  # of SQLAlchemy, its drivers and gRPC
        raise FlowError(
            f"the storage '{_without_password(url)}' cannot be opened ({first_line(error)}); check --storage"
        ) from None


def _database(driver: str, options: Mapping[str, Any]) -> Any:
    """Optuna's storage in a database, tried again where another worker was just making the same tables."""
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    for _ in range(SCHEMA_TRIES):
        try:
            return _optuna().storages.RDBStorage(driver, engine_kwargs=options)
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(SCHEMA_SECONDS)
    return _optuna().storages.RDBStorage(driver, engine_kwargs=options)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise FlowError("exploration needs Optuna, which is not installed; pip install 'bbs-flow[explore]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # metric names
    return optuna


def _lost() -> tuple[type[Exception], ...]:
    """What is raised when a storage that was open cannot be reached any more."""
    found: list[type[Exception]] = [_optuna().exceptions.StorageInternalError]
    with suppress(ImportError):
        import grpc

        found.append(grpc.RpcError)
    return tuple(found)


def _search(
    bench: Bench, kept: Any, name: str, request: Mapping[str, Any], trials: int,
    advance: Advance = ignore,
) -> list[Found]:  # fmt: skip
    """Measures designs until the study `name` has `trials` of them, those of earlier runs and other workers counted.

    `advance` is told of all of them. FlowError when the study is of another `request`, or Optuna cannot keep it.
    """
    optuna = _optuna()
    directions = ["maximize" if bench.scored else "minimize", *["minimize"] * 3]
    study = optuna.create_study(storage=kept, study_name=name, directions=directions, load_if_exists=True)
    if [direction.name.lower() for direction in study.directions] != directions:
        raise FlowError(f"the study '{name}' has other objectives than {', '.join(OBJECTIVES)}; "
                        "give --study another name")  # fmt: skip
    text = json.dumps(request, sort_keys=True)
    if study.user_attrs.get("request", text) != text:
        raise FlowError(f"the study '{name}' was begun with another network, other samples or another bbs-flow; "
                        "give --study another name")  # fmt: skip
    if "request" not in study.user_attrs:
        study.set_user_attr("request", text)
        study.set_metric_names(list(OBJECTIVES))
        for start in _starts(bench.methods):
            study.enqueue_trial(start, skip_if_exists=True)
    begun = len(study.get_trials(deepcopy=False))  # another seed for whoever joins
    study.sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=begun)
    state = optuna.trial.TrialState
    told = 0
    while True:
        now = min(trials, len(study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED))))
        advance(now - told)
        told = now
        if told == trials:
            break
        trial = study.ask()
        try:
            design = suggest(trial, bench.methods)
            got = bench.measure(design)
        except FlowError as error:
            trial.set_user_attr("refused", str(error))
            study.tell(trial, state=state.PRUNED)
        except BaseException:
            with suppress(Exception):
                study.tell(trial, state=state.FAIL)
            raise
        else:
            trial.set_user_attr("measured", asdict(got))
            trial.set_user_attr("compile", design.options)
            study.tell(trial, got.values)
    if not (measured := study.get_trials(deepcopy=False, states=(state.COMPLETE,))):
        reason = study.trials[-1].user_attrs.get("refused", "unknown")
        raise FlowError(f"none of the {told} designs tried can be built (of the last: {reason}); raise --trials")
    best = {trial.number for trial in study.best_trials}
    return [
        Found(t.number, suggest(t, bench.methods), Measured(**t.user_attrs["measured"]), t.number in best)
        for t in measured
    ]


def suggest(trial: Any, methods: Sequence[str]) -> Design:
    """A design of the space, drawn; of a finished trial, the one it was."""
    rows = trial.suggest_categorical("rows", ROWS)
    columns = trial.suggest_categorical("columns", COLUMNS)
    words = trial.suggest_categorical("weight_buffer", WEIGHT_WORDS)
    method = trial.suggest_categorical("method", methods)
    if method == BUDGET:
        chosen = pruning(bits=trial.suggest_float("bits", *BUDGETS[:2], step=BUDGETS[2]))
    else:
        low, high, step = SENSITIVE
        beta = trial.suggest_float("sensitive", low, high, step=step)
        n = trial.suggest_int("pruned", 0, BBS.max_columns_pruned)
        chosen = pruning(columns=n, sensitive=round(beta, 4), method=method)
    return Design(rows, columns, words, chosen)


def _starts(methods: Sequence[str]) -> list[dict[str, Any]]:
    """Designs that are always measured: the paper's presets and, if there can be one, the default budget."""
    array = {"rows": USUAL.rows, "columns": USUAL.columns, "weight_buffer": USUAL.weight_depth}
    starts: list[dict[str, Any]] = [
        array | {"method": p.method, "pruned": p.columns_pruned, "sensitive": p.sensitive} for p in PRESETS.values()
    ]
    return [*starts, *([array | {"method": BUDGET, "bits": DEFAULT_BITS}] if BUDGET in methods else [])]


# -------------------------------------------------------------------------------- the report


def _write(folder: Path, model: str, study: str, url: str, given: Samples, found: Sequence[Found]) -> None:
    """explore.json and explore.html, the front first."""
    from flow.figures import draw, front  # Matplotlib takes long to import

    ordered = sorted(found, key=lambda each: (not each.best, each.measured.cycles, each.number))
    folder.mkdir(parents=True, exist_ok=True)
    designs = [{"number": e.number, "best": e.best, "compile": e.design.options, **asdict(e.measured)} for e in ordered]
    about = {
        "study": study, "storage": _without_password(url), "samples": given.count, "source": given.source,
        "flip_flop": FLIP_FLOP, "sram_cell": SRAM_CELL,
    }  # fmt: skip
    write_json(folder / RESULT, {"model": model, **about, "designs": designs})
    picture = draw("front", lambda figure: front(figure, designs), 6.5)
    text = page("explore.html.j2", model=model, about=about, designs=designs, picture=Markup(picture))
    (folder / "explore.html").write_text(text)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url if parts.password is None else url.replace(f":{parts.password}@", ":***@", 1)
