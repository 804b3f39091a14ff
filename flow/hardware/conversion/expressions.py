"""Expressions of Verilog, as far as MyHDL writes them: read, and written with the parentheses that a reader needs.

Widths and signs follow IEEE 1364-2005, 5.4 and 5.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final

BINDING: Final = {  # binary operators, the weakest first
    "||": 0, "&&": 1, "|": 2, "^": 3, "&": 4, "==": 5, "!=": 5, "<": 6, "<=": 6, ">": 6, ">=": 6, "<<": 7, ">>": 7,
    ">>>": 7, "+": 8, "-": 8, "*": 9, "/": 9, "%": 9, "**": 10,
}  # fmt: skip
CHAINED: Final = ("+", "*", "&", "|", "^", "&&", "||")  # a op b op c needs no parentheses
COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")
LOGICAL: Final = ("&&", "||")
SHIFTS: Final = ("<<", ">>", ">>>", "**")  # what stands on the right has a width of its own
INTEGER = 32  # bits of an integer, and of a number without a width
_TOKEN = re.compile(r"\s*(\d*'s?[hdb]\s*[0-9a-fA-F]+|\d+|\$?[A-Za-z_]\w*|>>>|<<|>>|[<>=!]=|&&|\|\||\*\*|\+:|\S)")
_NUMBER = re.compile(r"(\d*)'(s?)([hdb])\s*([0-9a-fA-F]+)")
_BASES: Final = {"h": 16, "d": 10, "b": 2}


class UnreadableError(Exception):
    """A text that is no expression of this grammar."""


@dataclass(frozen=True)
class Name:
    name: str


@dataclass(frozen=True)
class Number:
    """A number: without a width it is 32 bits, signed if it has no base either."""

    value: int
    width: int | None = None
    base: str = ""
    signed: bool = False


@dataclass(frozen=True)
class Index:
    """A bit of a vector, a word of an array."""

    of: Expression
    at: Expression


@dataclass(frozen=True)
class Part:
    """Bits `high` to `low` of a vector."""

    of: Expression
    high: int
    low: int


@dataclass(frozen=True)
class Slide:
    """`width` bits from a place on."""

    of: Expression
    at: Expression
    width: int


@dataclass(frozen=True)
class Concat:
    """Parts side by side, the most significant first."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Repeat:
    """A part several times, side by side."""

    count: int
    of: Expression


@dataclass(frozen=True)
class Cast:
    """$signed or $unsigned."""

    signed: bool
    of: Expression


@dataclass(frozen=True)
class Unary:
    operator: str
    of: Expression


@dataclass(frozen=True)
class Binary:
    operator: str
    left: Expression
    right: Expression


Expression = Name | Number | Index | Part | Slide | Concat | Repeat | Cast | Unary | Binary


def part(of: Expression, high: int, low: int) -> Expression:
    """Bits of a vector, or the one bit."""
    return Part(of, high, low) if high > low else Index(of, Number(low))


def parts_of(node: Expression) -> tuple[Expression, ...]:
    """The expressions that an expression is made of."""
    match node:
        case Index(of, at) | Slide(of, at, _):
            return of, at
        case Part(of) | Repeat(_, of) | Cast(_, of) | Unary(_, of):
            return (of,)
        case Concat(parts):
            return parts
        case Binary(_, left, right):
            return left, right
    return ()


def nodes(node: Expression) -> Iterator[Expression]:
    """An expression and all within it."""
    yield node
    for part in parts_of(node):
        yield from nodes(part)


@cache
def read(text: str) -> Expression:
    """The expression of a text. Raises UnreadableError."""
    reader = _Reader(_TOKEN.findall(text))
    node = reader.binary(0)
    if reader.next:
        raise UnreadableError(text)
    return node


class _Reader:
    """Tokens, and how far they are read."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = [*reversed(tokens)]

    @property
    def next(self) -> str:
        return self.tokens[-1] if self.tokens else ""

    def take(self, wanted: str = "") -> str:
        if not self.tokens or (wanted and self.next != wanted):
            raise UnreadableError(f"{self.next!r} instead of {wanted!r}")
        return self.tokens.pop()

    def binary(self, weakest: int) -> Expression:
        """An expression of operators that bind no weaker than that."""
        node = self.unary()
        while (level := BINDING.get(self.next, -1)) >= weakest:
            node = Binary(self.take(), node, self.binary(level + 1))
        return node

    def unary(self) -> Expression:
        if self.next in ("-", "~", "!", "&", "|"):
            return Unary(self.take(), self.unary())
        return self.selected(self.primary())

    def primary(self) -> Expression:
        token = self.take()
        if token == "(":
            node = self.binary(0)
            self.take(")")
            return node
        if token == "{":
            return self.concat()
        if token in ("$signed", "$unsigned"):
            self.take("(")
            node = Cast(token == "$signed", self.binary(0))
            self.take(")")
            return node
        if token.isdigit():
            return Number(int(token))
        if match := _NUMBER.fullmatch(token):
            width, signed, base, digits = match.groups()
            return Number(int(digits, _BASES[base]), int(width) if width else None, base, bool(signed))
        if not re.fullmatch(r"[A-Za-z_]\w*", token):
            raise UnreadableError(token)
        return Name(token)

    def concat(self) -> Expression:
        parts = [self.part()]
        while self.next == ",":
            self.take()
            parts.append(self.part())
        self.take("}")
        return parts[0] if len(parts) == 1 and isinstance(parts[0], Repeat) else Concat(tuple(parts))

    def part(self) -> Expression:
        node = self.binary(0)
        if self.next != "{":
            return node
        self.take()
        of = self.binary(0)
        self.take("}")
        return Repeat(constant(node), of)

    def selected(self, node: Expression) -> Expression:
        while self.next == "[":
            if not isinstance(node, (Name, Index)):
                raise UnreadableError("a part of what is no signal")
            self.take()
            at = self.binary(0)
            if self.next == ":":
                self.take()
                node = part(node, constant(at), constant(self.binary(0)))
            elif self.next == "+:":
                self.take()
                width = constant(self.binary(0))
                node = part(node, at.value + width - 1, at.value) if isinstance(at, Number) else Slide(node, at, width)
            else:
                node = Index(node, at)
            self.take("]")
        return node


def constant(node: Expression) -> int:
    """The value of an expression of small numbers. Raises UnreadableError if it is none."""
    match node:
        case Number(value):
            return value
        case Unary("-", of):
            return -constant(of)
        case Binary("+", left, right):
            return constant(left) + constant(right)
        case Binary("-", left, right):
            return constant(left) - constant(right)
        case Binary("*", left, right):
            return constant(left) * constant(right)
        case Binary("**", left, right):
            return int(constant(left) ** constant(right))
    raise UnreadableError(f"{write(node)} is no number")


def write(node: Expression) -> str:
    """The text of an expression, without parentheses around it."""
    match node:
        case Name(name):
            return name
        case Number():
            return _number(node)
        case Index(of, at):
            return f"{write(of)}[{write(at)}]"
        case Part(of, high, low):
            return f"{write(of)}[{high}:{low}]"
        case Slide(of, at, width):
            return f"{write(of)}[{write(at)} +: {width}]"
        case Concat(parts):
            return f"{{{', '.join(map(write, parts))}}}"
        case Repeat(count, of):
            return f"{{{count}{{{write(of)}}}}}"
        case Cast(signed, of):
            return f"{'$signed' if signed else '$unsigned'}({write(of)})"
        case Unary(operator, of):
            return operator + (f"({write(of)})" if isinstance(of, (Binary, Unary)) else write(of))
        case Binary(operator, left, right):
            chained = isinstance(left, Binary) and left.operator == operator and operator in CHAINED
            before = write(left) if chained else _enclosed(left)
            return f"{before} {operator} {_enclosed(right)}"


def _enclosed(node: Expression) -> str:
    return f"({write(node)})" if isinstance(node, Binary) else write(node)


def _number(number: Number) -> str:
    if number.width is None and not number.base:
        return str(number.value)
    sign = "-" if number.value < 0 else ""
    base = "b" if number.width == 1 and not number.signed else number.base or "d"
    digits = f"{abs(number.value):{'x' if base == 'h' else base}}"
    return f"{sign}{number.width or ''}'{'s' * number.signed}{base}{digits}"


@dataclass(frozen=True)
class Kind:
    """The width in bits of a signal or expression, and whether it is signed; of an array, those of its words."""

    width: int
    signed: bool = False
    array: bool = False


@dataclass
class Scope:
    """What the names in a process stand for: kinds of signals, and the values of counters within their loops."""

    kinds: Mapping[str, Kind]
    counters: dict[str, tuple[int, int]] = field(default_factory=dict)

    def kind(self, node: Expression) -> Kind:
        """Width and sign of an expression on its own. Raises UnreadableError for unknown names."""
        match node:
            case Name(name):
                if name not in self.kinds:
                    raise UnreadableError(f"unknown name {name}")
                return self.kinds[name]
            case Number(_, width, base, signed):
                return Kind(width or INTEGER, signed or not base)
            case Index(of):
                whole = self.kind(of)
                return Kind(whole.width, whole.signed) if whole.array else Kind(1)
            case Part(_, high, low):
                return Kind(high - low + 1)
            case Slide(_, _, width):
                return Kind(width)
            case Concat(parts):
                return Kind(sum(self.kind(part).width for part in parts))
            case Repeat(count, of):
                return Kind(count * self.kind(of).width)
            case Cast(signed, of):
                return Kind(self.kind(of).width, signed)
            case Unary(operator, of):
                return self.kind(of) if operator in ("-", "~") else Kind(1)
            case Binary(operator, left, right):
                return self._binary(operator, left, right)

    def _binary(self, operator: str, left: Expression, right: Expression) -> Kind:
        if operator in COMPARISONS or operator in LOGICAL:
            return Kind(1)
        if operator in SHIFTS:
            kind = self.kind(left)
            return Kind(kind.width, kind.signed)
        return common(self.kind(left), self.kind(right))


def common(left: Kind, right: Kind) -> Kind:
    """The kind in which two operands meet."""
    return Kind(max(left.width, right.width), left.signed and right.signed)
