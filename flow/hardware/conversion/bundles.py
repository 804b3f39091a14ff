"""Bundles: frozen dataclasses of Signals that blocks take as one parameter.

A field says what it is where it is declared, so that a bundle of fresh Signals needs no more:

    @dataclass(frozen=True)
    class Answer:
        valid: Any = flag()
        data: Any = bits(8)       # bits() where each instance has its own width
        tag: Any = None           # a port that not every instance has

    fresh(Answer, tag=4)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, TypeVar

from myhdl import ResetSignal, Signal, intbv
from myhdl._Signal import _Signal

Bundle = TypeVar("Bundle")


class ExportError(Exception):
    """A design that cannot be exported: the message names the block, the port or signal, and the rule."""


def flag() -> Any:
    """A field that is one bit, a bool."""
    return dataclasses.field(metadata={"width": 0})


def bits(width: int | None = None) -> Any:
    """A field that is a vector of so many bits; None: of as many as `fresh` is told."""
    return dataclasses.field(metadata={"width": width})


def fresh(bundle: type[Bundle], **widths: int) -> Bundle:
    """A bundle of Signals of its own, with these widths of vectors; a field of no width keeps its default."""
    made = {}
    for field in dataclasses.fields(bundle):  # type: ignore[arg-type]
        width = widths.get(field.name, field.metadata.get("width"))
        if width is not None:
            made[field.name] = Signal(intbv(0)[width:]) if width else Signal(bool(0))
    return bundle(**made)


def gathered(bundle: type[Bundle], signals: Mapping[str, Any], prefix: str = "") -> Bundle:
    """A bundle of those of the Signals that are called `prefix` and a field; a field without one keeps its default."""
    names = [field.name for field in dataclasses.fields(bundle) if prefix + field.name in signals]  # type: ignore[arg-type]
    return bundle(**{name: signals[prefix + name] for name in names})


def prefixed(**prefixes: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator under `block`: what the names of the ports in these bundles begin with; "" leaves the fields' names."""

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(function, "prefixes", prefixes)  # noqa: B010
        return function

    return mark


def parts_of(value: Any) -> list[tuple[str, Any]]:
    """The names and values of a dataclass's fields or a tuple's elements; none of anything else."""
    if isinstance(value, tuple):
        return [(str(number), item) for number, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return []


def signals_in(name: str, value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The Signals of an argument, with the names of their ports: its own, or of a bundle's parts behind a prefix."""
    if isinstance(value, _Signal):
        yield name, value
    for part, item in parts_of(value):
        yield from signals_in(prefix + part, item, f"{prefix}{part}_")


def ports_of(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The Signals of a block's arguments by the names of their ports, in order."""
    prefixes = getattr(function, "prefixes", {})
    ports: dict[str, Any] = {}
    for parameter, value in arguments.items():
        for name, signal in signals_in(parameter, value, prefixes.get(parameter, f"{parameter}_")):
            if name in ports:
                raise ExportError(f"{function.__name__}: two ports are called {name!r}; rename a field or a parameter")
            ports[name] = signal
    return ports


def copied(value: Any) -> Any:
    """An argument with fresh Signals in place of its own, bundles included."""
    if isinstance(value, _Signal):
        return copy_of(value)
    if not is_bundle(value):
        return value
    if isinstance(value, tuple):
        return tuple(copied(item) for item in value)
    return dataclasses.replace(value, **{name: copied(item) for name, item in parts_of(value)})


def is_bundle(value: Any) -> bool:
    """Whether there is a Signal in a dataclass or tuple."""
    return not isinstance(value, _Signal) and next(signals_in("", value, ""), None) is not None


def copy_of(signal: Any) -> Any:
    """A fresh Signal of the same type and initial value."""
    if isinstance(signal, ResetSignal):
        return ResetSignal(signal._init, active=signal.active, isasync=signal.isasync)
    return Signal(deepcopy(signal._init))


def is_frozen(value: Any) -> bool:
    return bool(type(value).__dataclass_params__.frozen)
