"""Reads a waveform back: the value of every signal just before each rising edge of the clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vcd.reader import ScalarChange, Token, TokenKind, VarDecl, VectorChange, tokenize

from flow.simulation.engines import fst

Place = tuple[str, ...]
"""Instance names from the top down; () is the top."""


@dataclass(frozen=True)
class Variable:
    """A signal that a waveform declares: its path, as `path[high:low]` if it is a vector, and its width."""

    path: str
    bits: int
    vector: bool

    @property
    def name(self) -> str:
        return f"{self.path}[{self.bits - 1}:0]" if self.vector else self.path


def variables(file: Path, root: Place) -> dict[tuple[Place, str], Variable]:
    """What the VCD or FST `file` declares below `root`, the top's path in it: by place and signal."""
    found: dict[tuple[Place, str], Variable] = {}
    if file.suffix == ".fst":
        for each in fst.declarations(file):
            if each.scopes[: len(root)] == root:
                name, _, bits = each.name.partition("[")  # its range
                name = name.rstrip()
                path = ".".join([*each.scopes, name])
                found[each.scopes[len(root) :], name] = Variable(path, each.bits, bool(bits))
        return found
    for place, token in _tokens(file, root):
        data = token.data
        if token.kind is TokenKind.ENDDEFINITIONS:
            break
        if isinstance(data, VarDecl) and place is not None:
            path = ".".join([*root, *place, data.reference])
            found[place, data.reference] = Variable(path, data.size, data.bit_index is not None)
    return found


@dataclass(frozen=True)
class Trace:
    """Sampled signals of a run. Edges count from 0 with the first of reset; None is an unknown value.

    `codes`: (place, signal) -> code; `changes`: code -> [(edge, value)], ascending.
    """

    edges: int
    codes: dict[tuple[Place, str], str]
    changes: dict[str, list[tuple[int, int | None]]]

    def has(self, place: Place, signal: str = "clk") -> bool:
        return (place, signal) in self.codes

    def values(self, place: Place, signal: str) -> list[int | None]:
        """One value for each edge, unsigned. KeyError if the waveform does not have the signal."""
        filled: list[int | None] = []
        last: int | None = None
        for edge, value in self.changes[self.codes[place, signal]]:
            filled += [last] * (edge - len(filled))
            last = value
        return filled + [last] * (self.edges - len(filled))


def read(file: Path, root: Place, clock: str = "clk") -> Trace:
    """The VCD `file`; `root` is the top's path in it, `clock` the name of its clock."""
    codes: dict[tuple[Place, str], str] = {}
    changes: dict[str, list[tuple[int, int | None]]] = {}
    pending: dict[str, int | None] = {}  # changed since the last edge
    edges, high = 0, False
    for step in _steps(file, root, codes):
        tick = step.get(codes[(), clock])
        if tick == 1 and not high:
            for code, value in pending.items():
                changes.setdefault(code, []).append((edges, value))
            pending = {}
            edges += 1
        high = high if tick is None else tick == 1
        pending.update(step)
    return Trace(edges, codes, {code: changes.get(code, []) for code in codes.values()})


def _steps(file: Path, root: Place, codes: dict[tuple[Place, str], str]) -> Iterator[dict[str, int | None]]:
    """The values that change below `root` at each time, by code; adds the declared signals to `codes`."""
    declared: set[str] = set()
    step: dict[str, int | None] = {}
    for place, token in _tokens(file, root):
        data = token.data
        if isinstance(data, VarDecl) and place is not None:
            codes[place, data.reference] = data.id_code
            declared.add(data.id_code)
        elif isinstance(data, ScalarChange | VectorChange) and data.id_code in declared:
            step[data.id_code] = _number(data.value)
        elif token.kind is TokenKind.CHANGE_TIME:
            yield step
            step = {}
    yield step


def _tokens(file: Path, root: Place) -> Iterator[tuple[Place | None, Token]]:
    """The tokens of a VCD, each with the place below `root` where it stands; None outside."""
    scope: list[str] = []
    place: Place | None = None if root else ()
    with file.open("rb") as stream:
        for token in tokenize(stream):
            if token.kind is TokenKind.SCOPE:
                scope.append(token.scope.ident)
            elif token.kind is TokenKind.UPSCOPE:
                scope.pop()
            if token.kind in (TokenKind.SCOPE, TokenKind.UPSCOPE):
                place = tuple(scope[len(root) :]) if tuple(scope[: len(root)]) == root else None
            yield place, token


def _number(value: int | str) -> int | None:
    """None when a bit is unknown."""
    if isinstance(value, int):
        return value
    return int(value) if value in ("0", "1") else None
