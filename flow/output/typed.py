"""Dataclasses as JSON, and JSON read back as the dataclasses it was written from, checked."""

from __future__ import annotations

import json
import re
from dataclasses import Field, asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import msgspec

from flow.errors import FlowError


class DataclassInstance(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


T = TypeVar("T", bound=DataclassInstance)


def as_json(record: DataclassInstance) -> Any:
    """A dataclass and its contents as JSON values; the keys are the names of the fields, in their order."""
    return json.loads(json.dumps(asdict(record), allow_nan=False))


def from_json(content: object, kind: type[T]) -> T:
    """The dataclass of type `kind` for which `as_json` returns `content`.

    ValueError says where the content does not match, and how: a value of another type or not among those allowed, a key
    that is missing or unknown.
    """
    try:
        record = msgspec.convert(content, kind, str_keys=True)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        place = re.search(r"\$[^`]*", where)
        raise ValueError(_at("" if place is None else place[0][1:], what.replace("`", ""))) from None
    except FlowError as error:  # the dataclass itself refuses the values
        raise ValueError(str(error)) from None
    if wrong := _unlike(content, as_json(record), ""):
        raise ValueError(wrong)
    return record


def _unlike(content: Any, expected: Any, where: str) -> str | None:
    """Where `content` lacks a key (it then has its default) or has an unknown one (it is ignored); None if nowhere."""
    if isinstance(expected, dict):
        for kind, names in (
            ("lacks", expected.keys() - content.keys()),
            ("has an unknown", content.keys() - expected.keys()),
        ):
            if names:
                return _at(where, f"it {kind} key '{min(names)}'")
        parts = [(content[key], value, f"{where}.{key}") for key, value in expected.items()]
    elif isinstance(expected, list):
        parts = [
            (one, other, f"{where}[{number}]")
            for number, (one, other) in enumerate(zip(content, expected, strict=True))
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
    except (ValueError, RecursionError) as error:  # not text, not JSON, or not this dataclass
        reason = f"is damaged: {' '.join(str(error).split())}"
    raise FlowError(f"'{path}' {reason}; {remedy}")
