"""The Optuna study: where it is kept, and the search that goes on with it."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from flow.errors import FlowError, first_line
from flow.exploration.evaluate import Evaluator, Measured
from flow.exploration.space import Design, first_designs, suggest
from flow.progress import Advance, ignore

POPULATION = 24  # designs of one generation
SQLITE_SECONDS = 60  # to wait for another process that writes
GRPC_SECONDS = 20
SCHEMA_TRIES, SCHEMA_SECONDS = 10, 0.3  # while another worker makes the tables
OBJECTIVES = ("answers", "cycles", "transistors", "traffic")


@dataclass(frozen=True)
class Found:
    """A finished design of the study; `best` if no other is as good in all objectives and better in one."""

    number: int
    design: Design
    measured: Measured
    best: bool


def open_storage(url: str) -> Any:
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
            f"the storage '{without_password(url)}' cannot be opened ({first_line(error)}); check --storage"
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


def storage_errors() -> tuple[type[Exception], ...]:
    """What is raised when a storage that was open cannot be reached any more."""
    found: list[type[Exception]] = [_optuna().exceptions.StorageInternalError]
    with suppress(ImportError):
        import grpc

        found.append(grpc.RpcError)
    return tuple(found)


def search(
    bench: Evaluator, kept: Any, name: str, request: Mapping[str, Any], trials: int,
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
        for start in first_designs(bench.methods):
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


def without_password(url: str) -> str:
    parts = urlsplit(url)
    return url if parts.password is None else url.replace(f":{parts.password}@", ":***@", 1)
