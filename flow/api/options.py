"""Options: each is defined once, with its name, type, default, check and help; a request is a dataclass of them.

The command, the Python API, the manifest and `--resume` all take them from here.
"""

from __future__ import annotations

import difflib
import math
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx

from flow.compression.choice import Pruning, pruning
from flow.errors import FlowError
from flow.network.metrics import Metric, metric
from flow.network.usercode import UserFunction


@dataclass(frozen=True)
class Kind:
    """A type of option: `words` describe it in messages, `parse` converts a user's value (ValueError if it cannot).

    `plain` is the type that the command's argument has before `parse`; a `repeated` option is a list of such arguments.
    `spell` gives the texts that the command takes for a parsed value, none if a command cannot say it.
    """

    words: str
    parse: Callable[[Any], Any]
    plain: type = str
    repeated: bool = False
    spell: Callable[[Any], list[str]] = lambda value: [str(value)]


@dataclass(frozen=True)
class Option:
    """One field of a request as an option.

    `flag` is the command's flag, empty for the field's name, None if only the Python API has the option; `argument`
    marks a positional argument. A build depends on the options that are `recorded`.
    """

    kind: Kind
    help: str
    metavar: str | None
    flag: str | None
    argument: bool
    recorded: bool


def option(
    kind: Kind, default: Any, help: str, *, metavar: str | None = None, flag: str | None = "", recorded: bool = True
) -> Any:
    """A field of a request; its flag is --NAME, or --no-NAME where the default is True. None: Python API alone."""
    return field(default=default, metadata={"option": Option(kind, help, metavar, flag, False, recorded)})


def argument(kind: Kind, metavar: str, help: str, *, flag: str | None = None) -> Any:
    """A required field: a positional argument, or an option if it has a `flag`. It is not recorded."""
    return field(metadata={"option": Option(kind, help, metavar, flag, flag is None, False)})


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """The options of a verb, checked once, when the request is made. FlowError when a value cannot be used."""

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, _value(each, getattr(self, each.name)))
        self.check()

    def check(self) -> None:
        """Refuse values that do not fit together."""

    @classmethod
    def of(cls, **values: Any) -> Self:
        """The request with these options. FlowError for a name that is no option."""
        names = [each.name for each in fields(cls)]
        for name in values:
            if name not in names:
                close = difflib.get_close_matches(name, names, 1)
                meant = f"did you mean '{close[0]}'" if close else f"choose of {', '.join(names)}"
                raise FlowError(f"there is no option '{name}'; {meant}")
        return cls(**values)

    def record(self) -> dict[str, Any]:
        """The recorded options as JSON values: equal records give equal builds."""
        recorded = [each.name for each in fields(self) if option_of(each).recorded]
        return {name: _json(getattr(self, name)) for name in recorded}

    def command(self, verb: str, *left_out: str, **values: Any) -> str:
        """The command that gives this request again, without the options `left_out`, and with other `values`.

        Files are named without their folders, so that equal requests have equal commands; what a file cannot give,
        such as an array, is named by the option's metavar.
        """
        words = ["bbs", verb]
        for each in sorted(fields(self), key=lambda each: not option_of(each).argument):
            value = values.get(each.name, getattr(self, each.name))
            spelled = option_of(each)
            if each.name in left_out or value is None or value == each.default or value == {}:
                continue
            if spelled.flag is None and not spelled.argument:
                continue
            if spelled.kind is SWITCH:
                words.append(flag(each))
                continue
            for text in spelled.kind.spell(value) or [spelled.metavar or each.name.upper()]:
                words += [text] if spelled.argument else [flag(each), text]
        return shlex.join(words)


def option_of(each: Field[Any]) -> Option:
    found: Option = each.metadata["option"]
    return found


def flag(each: Field[Any]) -> str:
    """How the command spells an option."""
    spelled = option_of(each).flag
    return spelled or f"--{'no-' if each.default is True else ''}{each.name.replace('_', '-')}"


def _value(each: Field[Any], value: Any) -> Any:
    if value is None and each.default is None:
        return None
    kind = option_of(each).kind
    try:
        return kind.parse(value)
    except ValueError:
        shown = repr(value) if isinstance(value, (str, bytes, int, float, tuple, type(None))) else _article(value)
        remedy = "give it" if each.default is MISSING else f"change {each.name.replace('_', '-')}, or leave it out"
        raise FlowError(f"'{each.name}' must be {kind.words}, but it is {shown[:80]}; {remedy}") from None


def _article(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _json(value: Any) -> Any:
    if isinstance(value, UserFunction):
        return value.record
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _json(each) for name, each in asdict(value).items()}
    if isinstance(value, Mapping):
        return {name: _json(each) for name, each in value.items()}
    return list(value) if isinstance(value, tuple) else value


# -------------------------------------------------------------------------------- kinds


def _is(*types: type, but: type | None = None) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        if not isinstance(value, types) or (but is not None and isinstance(value, but)):
            raise ValueError
        return value

    return parse


def _path(value: Any) -> Path:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError
    return Path(value)


def _network(value: Any) -> Path | onnx.ModelProto:
    return value if isinstance(value, onnx.ModelProto) else _path(value)


def _samples(value: Any) -> Path | dict[str, np.ndarray[Any, Any]]:
    """A file, or arrays by name: `x` (or the network's input names), and labels `y`."""
    if isinstance(value, (str, os.PathLike)):
        return _path(value)
    if isinstance(value, np.ndarray):
        return {"x": value}
    if isinstance(value, tuple) and len(value) == 2:
        value = {"x": value[0], "y": value[1]}
    if not isinstance(value, Mapping) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError
    arrays = {name: np.asarray(array) for name, array in value.items()}
    if any(array.dtype.kind not in "biufUS" for array in arrays.values()):
        raise ValueError
    return arrays


def _size(value: Any) -> tuple[int, int]:
    """ROWSxCOLUMNS, such as 16x32, or the two numbers."""
    parts: list[Any]
    if isinstance(value, str):
        parts = list(value.lower().split("x"))
        if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
            raise FlowError(f"an array size is ROWSxCOLUMNS, but it is '{value}'; give --array 16x32, for example")
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        parts = [WHOLE.parse(part) for part in value]
    else:
        raise ValueError
    return int(parts[0]), int(parts[1])


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    """Names and what they are given: of a mapping, of NAME=TEXT, or of several such texts."""
    if isinstance(value, Mapping):
        return list(value.items())
    texts = value if isinstance(value, (tuple, list)) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError
    return [(name, given) for name, _, given in (text.rpartition("=") for text in texts)]


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    """NAME=1,3,320,320 for an input, NAME=128 for the symbol of an axis; several of them, or a mapping."""
    shapes = {}
    for name, sizes in _pairs(value):
        given = sizes if isinstance(value, Mapping) else sizes.split(",")
        axes = list(given) if isinstance(given, (tuple, list)) else [given]
        whole = [int(axis) for axis in axes if str(axis).strip().isdecimal()]
        if not isinstance(name, str) or not name or len(whole) != len(axes) or min(whole, default=0) < 1:
            raise FlowError(
                "a shape is NAME=SIZE,SIZE,... with sizes of 1 or more, but it is "
                f"'{f'{name}=' if name else ''}{','.join(map(str, axes))}'; give --shape x=1,3,224,224, for example"
            )
        shapes[name] = tuple(whole)
    return shapes


def _weights(value: Any) -> dict[str, float]:
    """NAME=WEIGHT of an output; several of them, or a mapping."""
    weights = {}
    for name, weight in _pairs(value):
        try:
            weights[name] = float(weight) if isinstance(weight, str) else _real(weight)
        except ValueError:
            weights[name] = math.nan
        if not isinstance(name, str) or not name or math.isnan(weights[name]):
            raise FlowError(
                f"the weight of an output is NAME=WEIGHT with a number, but it is '{name}={weight}'; "
                "give --output-weight boxes=2, for example"
            )
    return weights


def _pruning(value: Any) -> Pruning:
    if isinstance(value, str):
        return pruning(value)
    if not isinstance(value, Pruning):
        raise ValueError
    return value


def _metric(value: Any) -> Metric:
    return value if isinstance(value, UserFunction) else metric(_is(str)(value))


def _preprocess(value: Any) -> UserFunction:
    return value if isinstance(value, UserFunction) else UserFunction.of(_is(str)(value), "--preprocess")


def _whole(value: Any) -> int:
    return int(_is(int, np.integer, but=bool)(value))


def _real(value: Any) -> float:
    return float(_is(int, float, np.integer, np.floating, but=bool)(value))


def _file(value: Any) -> list[str]:
    """The name of a file or folder; none for what is in memory."""
    return [value.name or str(value)] if isinstance(value, Path) else []


def _number(value: float) -> list[str]:
    return [f"{value:g}" if float(f"{value:g}") == value else repr(value)]


def _named(value: Mapping[str, Any]) -> list[str]:
    """NAME=SIZE,SIZE,... or NAME=WEIGHT, each a text of its own."""
    given = {name: each if isinstance(each, tuple) else (each,) for name, each in value.items()}
    return [f"{name}={','.join(_number(number)[0] for number in each)}" for name, each in given.items()]


WHOLE = Kind("a whole number", _whole, int)
REAL = Kind("a number", _real, float, spell=_number)
SWITCH = Kind("True or False", _is(bool), bool)
TEXT = Kind("text", _is(str))
PATH = Kind("a path", _path, Path, spell=_file)
NETWORK = Kind("the path of an ONNX file, or an onnx.ModelProto", _network, Path, spell=_file)
SAMPLES = Kind("the path of an .npz file (or a folder), an array, or a dict of arrays", _samples, Path, spell=_file)
SIZE = Kind('ROWSxCOLUMNS, such as "16x32" or (16, 32)', _size, spell=lambda size: ["x".join(map(str, size))])
SHAPES = Kind("NAME=SIZE,SIZE,... or a mapping of names to sizes", _shapes, repeated=True, spell=_named)
WEIGHTS = Kind("NAME=WEIGHT or a mapping of names to numbers", _weights, repeated=True, spell=_named)
METRIC = Kind("the name of a metric, or FILE.py:FUNCTION", _metric)
FUNCTION = Kind("FILE.py:FUNCTION", _preprocess)
PRUNING = Kind("what flow.pruning(...) gives, or the name of a preset", _pruning)
