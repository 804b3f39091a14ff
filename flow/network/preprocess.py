"""Samples as the user has them, made into the network's inputs by the user's function: of arrays, or file by file."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.network.samples import LABELS, Arrays, Prepared, Source, arrays
from flow.network.usercode import UserFunction

LABEL_FILES = (f"{LABELS}.npy", "labels.txt")  # in a folder of samples: one label for each file


def prepare(function: UserFunction, source: Source, what: str) -> Prepared:
    """What the function makes of samples: of a dict of arrays, or of the path of every file in a folder.

    The function returns a dict of arrays by input name (or one array, for a network of one input), of all samples, or
    of a folder's file of one sample, without the axis of samples. Labels `y` and `y_NAME` of an archive stay as they
    are where the function returns none. FlowError if it fails, or returns anything else.
    """
    if isinstance(source, Path) and source.is_dir():
        return Prepared(_of_files(function, source), source.name)
    place = source.name if isinstance(source, Path) else f"the {what} arrays"
    raw = arrays(source) if isinstance(source, Path) else {name: each.copy() for name, each in arrays(source).items()}
    labels = {name: array for name, array in raw.items() if name == LABELS or name.startswith(f"{LABELS}_")}
    return Prepared(labels | _result(function, dict(raw), place), place)


def _of_files(function: UserFunction, folder: Path) -> Arrays:
    """The inputs of the files of a folder, sorted by name, and its labels."""
    files = sorted(
        (each for each in folder.iterdir() if each.is_file() and each.name[0] != "." and each.name not in LABEL_FILES),
        key=lambda each: each.name,
    )
    if not files:
        raise FlowError(f"a folder of samples needs a file for each, but '{folder}' has none; choose another")
    made = [_result(function, file, str(file)) for file in files]
    first = made[0]
    for file, each in zip(files, made, strict=True):
        for name in first.keys() | each.keys():
            forms = [
                f"{list(found[name].shape)} {found[name].dtype}" if name in found else "nothing"
                for found in (first, each)
            ]
            if forms[0] != forms[1]:
                raise FlowError(
                    f"samples must have one shape and type, but '{function}' makes {forms[0]} for '{name}' of "
                    f"'{files[0].name}' and {forms[1]} of '{file.name}'; mend it"
                )
    return _labels(folder, [file.name for file in files]) | {
        name: np.stack([each[name] for each in made]) for name in first
    }


def _result(function: UserFunction, raw: Any, place: str) -> Arrays:
    """What the function returns for raw samples, as arrays by name."""
    found = function(raw, place=place)
    by_name = found if isinstance(found, Mapping) else {"x": found}
    made: dict[str, NDArray[Any]] = {}
    for name, value in by_name.items():
        try:
            made[name] = np.asarray(value)
        except Exception:  # of any object's own conversion
            made[name] = np.empty(0, object)
    if not made or not all(isinstance(name, str) and each.dtype.kind in "biufUS" for name, each in made.items()):
        shown = " ".join(repr(found).split())[:80]
        raise FlowError(
            f"--preprocess needs a function that returns an array, or a dict of arrays by input name, but "
            f"'{function.name}' of '{function.file}' returns {shown} ({type(found).__name__}) for '{place}'; mend it"
        )
    return made


def _named(line: str, names: Container[str]) -> tuple[str, str] | None:
    """NAME and LABEL of a line; None without the name of a file, which may have spaces."""
    for gap in reversed(list(re.finditer(r"\s+", line))):
        if (name := line[: gap.start()]) in names:
            return name, line[gap.end() :]
    return None


def _labels(folder: Path, names: list[str]) -> Arrays:
    """The labels of a folder: y.npy, or labels.txt with a line for each file: NAME LABEL, or LABEL alone, in order."""
    array, text = (folder / name for name in LABEL_FILES)
    if array.is_file():
        try:
            return {LABELS: np.load(array, allow_pickle=False)}
        except (OSError, ValueError, EOFError):
            raise FlowError(f"'{array}' cannot be read; save plain numbers or text with numpy.save") from None
    if not text.is_file():
        return {}
    try:
        lines = [line.strip() for line in text.read_text().splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise FlowError(f"'{text}' must be text, a label for each file; save it as UTF-8") from None
    known = set(names)
    given = dict(named for line in lines if (named := _named(line, known)) is not None)
    values = [given[name] for name in names] if given.keys() >= known else lines
    if len(values) != len(names):
        raise FlowError(
            f"'{text}' must have a line for each of the {len(names)} files, NAME LABEL or LABEL, but it has "
            f"{len(lines)}; add those that are missing"
        )
    for kind in (int, float):
        try:
            return {LABELS: np.array([kind(value) for value in values])}
        except (ValueError, OverflowError):
            continue
    return {LABELS: np.array(values)}
