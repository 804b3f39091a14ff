"""Dataclasses as JSON, and JSON read back as the dataclasses it was written from, checked."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from flow.errors import FlowError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def as_json(record: DataclassInstance) -> Any:
    """A dataclass and all in it in terms of JSON; the keys are the names of the fields, in their order."""
    return json.loads(json.dumps(asdict(record), allow_nan=False))


def from_json(content: object, kind: type[T]) -> T:
    """The dataclass that `as_json` gives `content` for.

    ValueError says where the content is not such a dataclass, and how: another type, a value that is not among those
    allowed, a key that is missing or unknown.
    """
    try:
        record = msgspec.convert(content, kind, str_keys=True)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        place = re.search(r"\$[^`]*", where)
        raise ValueError(_at("" if place is None else place[0][1:], what.replace("`", ""))) from None
    except FlowError as error:  # a dataclass that holds no such values
        raise ValueError(str(error)) from None
    if wrong := _unlike(content, as_json(record), ""):
        raise ValueError(wrong)
    return record


def _unlike(given: Any, wanted: Any, where: str) -> str | None:
    """Where a key is missing, which then has its default, or unknown, which then was left out; None if nowhere."""
    if isinstance(wanted, dict):
        for kind, names in (("lacks", wanted.keys() - given.keys()), ("has an unknown", given.keys() - wanted.keys())):
            if names:
                return _at(where, f"it {kind} key '{min(names)}'")
        parts = [(given[key], value, f"{where}.{key}") for key, value in wanted.items()]
    elif isinstance(wanted, list):
        parts = [
            (one, other, f"{where}[{number}]") for number, (one, other) in enumerate(zip(given, wanted, strict=True))
        ]
    else:
        parts = []
    return next((wrong for part in parts if (wrong := _unlike(*part))), None)


def _at(where: str, what: str) -> str:
    said = what[:1].lower() + what[1:]
    return f"at {where.removeprefix('.')}: {said}" if where else said


def read_json(path: Path, kind: type[T], remedy: str) -> T:
    """The dataclass in a file that `as_json` wrote. FlowError says what is wrong with the file, and the remedy."""
    try:
        return from_json(json.loads(path.read_text()), kind)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except (ValueError, RecursionError) as error:  # no text, no JSON, or not of this kind
        reason = f"is damaged: {' '.join(str(error).split())}"
    raise FlowError(f"'{path}' {reason}; {remedy}")
