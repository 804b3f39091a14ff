"""Options of the command: those of the requests, and those that only a terminal needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any

import click

from flow.api.options import Request, flag, option_of
from flow.errors import FlowError

Command = Callable[..., None]


def asked(request: type[Request]) -> Callable[[Command], Command]:
    """Gives a command the arguments and options of a request; it is called with the request and its own options."""
    options = [each for each in fields(request) if option_of(each).argument or option_of(each).flag is not None]

    def decorate(command: Command) -> Command:
        @wraps(command)
        def wrapper(**values: Any) -> None:
            own = {each.name: values.pop(each.name) for each in options}
            chosen = {name: value for name, value in own.items() if value not in (None, ())}
            command(request.of(**chosen), **values)

        decorated: Command = wrapper
        for each in reversed(options):
            decorated = _parameter(each)(decorated)
        return decorated

    return decorate


def _parameter(each: Field[Any]) -> Callable[[Command], Command]:
    """A field of a request as the command's argument or option."""
    option = option_of(each)
    kind = click.Path(path_type=Path) if option.kind.plain is Path else option.kind.plain
    if option.argument:
        return click.argument(each.name, type=kind, metavar=option.metavar)
    if kind is bool:
        return click.option(flag(each), each.name, flag_value=not each.default, default=None, help=option.help)
    names = ("-o", flag(each)) if flag(each) == "--output" else (flag(each),)
    required = each.default is MISSING
    return click.option(
        *names, each.name, type=kind, metavar=option.metavar, required=required, multiple=option.kind.repeated,
        help=None if required else option.help,
    )  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """How a command prints: its result as JSON, and less (`quiet`) or more (`verbose`) on the way there."""

    json: bool
    quiet: bool
    verbose: bool


def shown(command: Command) -> Command:
    """Gives a command --json, -q and -v; it is called with them as `shown`."""

    @wraps(command)
    def wrapper(*request: Any, as_json: bool, quiet: bool, verbose: bool, **own: Any) -> None:
        if quiet and verbose:
            raise FlowError("--quiet and --verbose came together; give one of them")
        command(*request, **own, shown=Shown(as_json, quiet, verbose))

    options = (
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, nothing else."),
        click.option("-q", "--quiet", is_flag=True, help="No progress, notes and tables: the verdict alone."),
        click.option("-v", "--verbose", is_flag=True, help="Say how long each stage took."),
    )
    for option in reversed(options):
        wrapper = option(wrapper)
    return wrapper
