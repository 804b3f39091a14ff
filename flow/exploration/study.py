"""The Optuna study: its storage, and the search that continues it."""

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
GRPC_SECONDS = 20  # to wait for Optuna's proxy
SCHEMA_TRIES, SCHEMA_SECONDS = 10, 0.3  # while another worker creates the tables
OBJECTIVES = ("answers", "cycles behind the bus", "transistors", "traffic")


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
            storage = optuna.storages.GrpcStorageProxy(host=parts.hostname or "localhost", port=parts.port or 13000)
            storage.wait_server_ready(timeout=GRPC_SECONDS)
            return storage
        options = {"connect_args": {"timeout": SQLITE_SECONDS}} if parts.scheme == "sqlite" else {}
        driver = url.replace("postgresql://", "postgresql+psycopg://", 1)
        return _database(driver, options)
    except Exception as error:  # of SQLAlchemy, its drivers and gRPC
        raise FlowError(
            f"the storage '{without_password(url)}' cannot be opened ({first_line(error)}); check --storage"
        ) from None


def _database(driver: str, options: Mapping[str, Any]) -> Any:
    """Optuna's storage in a database, where no two workers take the same design."""
    from sqlalchemy.event import listen

    storage = _with_tables(driver, options)
    if driver.startswith("sqlite"):
        # SQLite knows no SELECT FOR UPDATE, by which Optuna keeps a design that two workers read from being measured
        # by both; so one transaction follows the other.
        listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


def _with_tables(driver: str, options: Mapping[str, Any]) -> Any:
    """Optuna's storage in a database, tried again if another worker is just creating the same tables."""
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
    """The exceptions that are raised when an open storage can no longer be reached."""
    errors: list[type[Exception]] = [_optuna().exceptions.StorageInternalError]
    with suppress(ImportError):
        import grpc

        errors.append(grpc.RpcError)
    return tuple(errors)


def search(
    evaluator: Evaluator, storage: Any, name: str, request: Mapping[str, Any], trials: int,
    advance: Advance = ignore,
) -> list[Found]:  # fmt: skip
    """Measures designs until the study `name` has `trials` of them, including those of earlier runs and other workers.

    `advance` counts all of them. FlowError when the study is of another `request`, or Optuna cannot store it.
    """
    optuna = _optuna()
    directions = ["maximize" if evaluator.rising else "minimize", *["minimize"] * 3]
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    if [direction.name.lower() for direction in study.directions] != directions:
        raise FlowError(f"the study '{name}' has other objectives than {', '.join(OBJECTIVES)}; "
                        "give --study another name")  # fmt: skip
    text = json.dumps(request, sort_keys=True)
    if study.user_attrs.get("request", text) != text:
        raise FlowError(f"the study '{name}' was begun with another network, other samples, another bus or another "
                        "bbs-flow; give --study another name")  # fmt: skip
    if "request" not in study.user_attrs:
        study.set_user_attr("request", text)
        study.set_metric_names(list(OBJECTIVES))
        for start in first_designs(evaluator.methods):
            study.enqueue_trial(start, skip_if_exists=True)
    begun = len(study.get_trials(deepcopy=False))  # every worker that joins gets another seed
    study.sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=begun)
    state = optuna.trial.TrialState
    counted = 0
    while True:
        now = min(trials, len(study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED))))
        advance(now - counted)
        counted = now
        if counted == trials:
            break
        trial = study.ask()
        try:
            design = suggest(trial, evaluator.methods)
            measurement = evaluator.measure(design)
        except FlowError as error:
            trial.set_user_attr("refused", str(error))
            study.tell(trial, state=state.PRUNED)
        except BaseException:
            with suppress(Exception):
                study.tell(trial, state=state.FAIL)
            raise
        else:
            trial.set_user_attr("measured", asdict(measurement))
            trial.set_user_attr("compile", design.options)
            study.tell(trial, measurement.values)
    if not (measured := study.get_trials(deepcopy=False, states=(state.COMPLETE,))):
        reason = study.trials[-1].user_attrs.get("refused", "unknown")
        raise FlowError(f"none of the {counted} designs tried can be built (of the last: {reason}); raise --trials")
    best = {trial.number for trial in study.best_trials}
    return [
        Found(t.number, suggest(t, evaluator.methods), Measured(**t.user_attrs["measured"]), t.number in best)
        for t in measured
    ]


def without_password(url: str) -> str:
    parts = urlsplit(url)
    return url if parts.password is None else url.replace(f":{parts.password}@", ":***@", 1)
