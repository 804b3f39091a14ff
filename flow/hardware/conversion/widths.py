"""Expressions of Verilog whose operands all have the width of their context, and mean the same.

MyHDL leaves widths to the language: `sum <= (a + b)` for operands narrower than the sum, `(x == 3)` for any x. Here

    fitted       an expression that is assigned to so many bits
    condition    one that is true or false
    standing     one that stands alone: an index, a part of a concatenation, the number of places in a shift

write extensions as concatenations, and cut operands to what is needed of them: the low n bits of a sum, difference,
product, left shift or bitwise operation follow from the low n bits of its operands. What cannot be written so (high
bits of a sum that are shifted down, for instance) raises UnwritableError: the source has to name the value between.
"""

from __future__ import annotations

from typing import TypeGuard

from flow.hardware.conversion.expressions import (
    COMPARISONS,
    LOGICAL,
    SHIFTS,
    Binary,
    Cast,
    Concat,
    Expression,
    Index,
    Kind,
    Name,
    Number,
    Part,
    Repeat,
    Scope,
    Slide,
    Unary,
    UnreadableError,
    common,
    constant,
    nodes,
    part,
    parts_of,
)

MODULAR = ("+", "-", "*", "&", "|", "^")  # low bits of the result follow from low bits of the operands
Span = tuple[int, int]  # the least and the greatest value


class UnwritableError(Exception):
    """An expression that has no form with explicit widths."""


def fitted(node: Expression, width: int, scope: Scope) -> Expression:
    """What assigns to so many bits the same as `node`."""
    own = scope.kind(node)
    within = Kind(max(width, own.width), own.signed)
    return low(node, within, width, within.signed and _arithmetic(node, scope), scope)


def condition(node: Expression, scope: Scope) -> Expression:
    """What is 1 where `node` is not 0."""
    if scope.kind(node).width == 1:
        return standing(node, scope)
    return compared(Binary("!=", node, _zero_of(node, scope)), scope)


def _zero_of(node: Expression, scope: Scope) -> Number:
    """The number 0 of an expression's own width and sign, which it then keeps in a comparison."""
    kind = scope.kind(node)
    return Number(0, kind.width, "d", kind.signed)


def standing(node: Expression, scope: Scope) -> Expression:
    """`node` in a place where its own width counts, and its sign does not."""
    if isinstance(node, Number) and node.width is None:
        return node
    if isinstance(node, Cast) and isinstance(node.of, Concat) and node.of.parts[0] == Number(0, 1, "b"):
        _, *rest = node.of.parts  # MyHDL's form of an unsigned signal among signed ones
        return standing(rest[0] if len(rest) == 1 else Concat(tuple(rest)), scope)
    if isinstance(node, Binary) and all(map(_is_integer, parts_of(node))):
        return Number(constant(node))
    if _counts(node):
        return Binary(node.operator, standing(node.left, scope), standing(node.right, scope))
    kind = scope.kind(node)
    return _complete(low(node, kind, kind.width, kind.signed and _arithmetic(node, scope), scope), kind.width, scope)


def _complete(node: Expression, width: int, scope: Scope) -> Expression:
    """An expression that has this width on its own, too: a product may have less."""
    if scope.kind(node).width < width:
        raise UnwritableError("a product without a place that tells its width")
    return node


def _counts(node: Expression) -> TypeGuard[Binary]:
    """Whether it is a sum or product with integers in it, as an index has them: their width is enough for any place."""
    return isinstance(node, Binary) and node.operator in ("+", "-", "*") and any(map(_is_integer, nodes(node)))


def _is_integer(node: Expression) -> bool:
    return isinstance(node, Number) and node.width is None


def _arithmetic(node: Expression, scope: Scope) -> bool:
    """Whether the sign of the context matters within it, beyond extensions that are written out."""
    match node:
        case Binary(">>>" | "/" | "%", _, _):
            return True
        case Binary("*", left, right) if _is_signal(left, scope) and _is_signal(right, scope):
            return True
        case Binary(operator, left, _) if operator in SHIFTS:
            return _arithmetic(left, scope)
        case Binary(operator, left, right) if operator in MODULAR:
            return _arithmetic(left, scope) or _arithmetic(right, scope)
        case Unary("-" | "~", of):
            return _arithmetic(of, scope)
    return False


def _is_signal(node: Expression, scope: Scope) -> bool:
    """Whether it is a signal or bits of one, signed or not."""
    if isinstance(node, Name):
        return node.name not in scope.counters
    return isinstance(node, (Index, Part, Slide, Cast))


def low(node: Expression, within: Kind, width: int, signed: bool, scope: Scope) -> Expression:
    """The low `width` bits of `node` in a context of the kind `within`; if `signed`, of signed type."""
    match node:
        case Number() | Unary("-", Number()) | Binary("+" | "-" | "*" | "**", Number(), Number()):
            return _sized(constant(node), node, width, signed)
        case Cast(_, of):
            return _cast(node, of, within, width, signed, scope)
        case Binary() | Unary() if (truth := _truth(node, scope)) is not None:
            return _extended(truth, Kind(1), within, width, signed, scope)
        case Binary() | Unary():
            return _computed(node, within, width, signed, scope)
    kind = scope.kind(node)
    if kind.array:
        raise UnreadableError("a whole array")
    if isinstance(node, Name) and (span := scope.counters.get(node.name)) and span[1] < 2**width:
        kind = Kind(kind.width)
    return _extended(_parts_standing(node, scope), kind, within, width, signed, scope)


def _truth(node: Binary | Unary, scope: Scope) -> Expression | None:
    """A comparison or logical operation, which is one bit wherever it stands."""
    match node:
        case Binary(operator, _, _) if operator in COMPARISONS:
            return compared(node, scope)
        case Binary(operator, left, right) if operator in LOGICAL:
            return Binary(operator, condition(left, scope), condition(right, scope))
        case Unary("!", of) if scope.kind(of).width == 1:
            return Unary("!", condition(of, scope))
        case Unary("!", of):
            return compared(Binary("==", of, _zero_of(of, scope)), scope)
    return None


def _computed(node: Binary | Unary, within: Kind, width: int, signed: bool, scope: Scope) -> Expression:
    """The low bits of an operation whose operands are of its context."""
    match node:
        case Binary("*", left, right):
            return Binary("*", *(_factor(each, within, width, signed, scope) for each in (left, right)))
        case Binary(operator, left, right) if operator in MODULAR:
            return Binary(operator, *(low(each, within, width, signed, scope) for each in (left, right)))
        case Binary("<<", left, right):
            return Binary("<<", low(left, within, width, signed, scope), standing(right, scope))
        case Binary(">>" | ">>>", _, _):
            return _shifted_down(node, within, width, signed, scope)
        case Unary("-" | "~" as operator, of):
            return Unary(operator, low(of, within, width, signed, scope))
    raise UnwritableError(node.operator)


def _factor(node: Expression, within: Kind, width: int, signed: bool, scope: Scope) -> Expression:
    """An operand of a product: a signal keeps its width, so that synthesis finds a multiplier of that size."""
    if _is_signal(node, scope) and signed == within.signed:
        kind = scope.kind(node)
        if kind.width < width and kind.signed == within.signed:
            return low(node, within, kind.width, signed, scope)
    return low(node, within, width, signed, scope)


def _sized(value: int, like: Expression, width: int, signed: bool) -> Number:
    base = like.base if isinstance(like, Number) and like.base == "h" else "d"
    if not signed:
        return Number(value % 2**width, width, base)
    half = 2 ** (width - 1)
    return Number((value + half) % 2**width - half, width, base, True)


def _parts_standing(node: Expression, scope: Scope) -> Expression:
    """A signal, its bits or a concatenation, with what is in it in explicit widths."""
    match node:
        case Index(of, at):
            return Index(_parts_standing(of, scope), standing(at, scope))
        case Slide(of, at, width):
            return Slide(of, standing(at, scope), width)
        case Concat(parts):
            return Concat(tuple(_parts_standing(each, scope) for each in parts))
        case Repeat(count, of):
            return Repeat(count, _parts_standing(of, scope))
        case Name() | Part() | Number():
            return node
    return standing(node, scope)


def _cast(node: Cast, of: Expression, within: Kind, width: int, signed: bool, scope: Scope) -> Expression:
    """The low bits of $signed or $unsigned, whose operand stands for itself."""
    kind = scope.kind(of)
    if width <= kind.width:
        inner = low(of, kind, width, kind.signed and _arithmetic(of, scope), scope)
        if isinstance(inner, Cast):
            inner = inner.of
        return Cast(True, _complete(inner, width, scope)) if signed or _arithmetic(inner, scope) else inner
    if not isinstance(of, (Name, Index, Part, Slide, Concat)):
        raise UnwritableError("the sign of an expression")
    return _extended(_parts_standing(of, scope), Kind(kind.width, node.signed), within, width, signed, scope)


def _extended(node: Expression, kind: Kind, within: Kind, width: int, signed: bool, scope: Scope) -> Expression:
    """The low bits of what has a kind of its own, in a context."""
    if width < kind.width:
        node = _cut(node, width, scope)
    elif width > kind.width:
        node = _padded(node, kind.width, width - kind.width, within.signed and kind.signed)
    elif signed == kind.signed or not signed:
        return node
    return Cast(True, node) if signed else node


def _cut(node: Expression, width: int, scope: Scope) -> Expression:
    """The low bits of a signal, its bits or a concatenation."""
    match node:
        case Name() | Index():
            return part(node, width - 1, 0)
        case Part(of, _, least):
            return part(of, least + width - 1, least)
        case Slide(of, at, _):
            return Slide(of, at, width)
        case Number(value, int(), base):
            return Number(value % 2**width, width, base)
        case Concat((*rest, last)):
            bits = scope.kind(last).width
            if bits >= width:
                return last if bits == width else _cut(last, width, scope)
            above = _cut(Concat(tuple(rest)), width - bits, scope)
            return Concat((*(above.parts if isinstance(above, Concat) else (above,)), last))
    raise UnwritableError("the low bits of an expression")


def _padded(node: Expression, width: int, more: int, sign: bool) -> Expression:
    """So many bits on the left: zeros, or copies of the first."""
    parts = node.parts if isinstance(node, Concat) else (node,)
    if not sign:
        if isinstance(parts[0], Number) and parts[0].value == 0 and parts[0].width is not None:
            more += parts[0].width
            parts = parts[1:]
        return Concat((Number(0, more, "d"), *parts))
    match node:
        case Name() | Index():
            first = Index(node, Number(width - 1)) if width > 1 else node
        case Part(of, high, _):
            first = Index(of, Number(high))
        case Concat((Number(0, int()), *_)):
            return _padded(node, width, more, False)
        case _:
            raise UnwritableError("the sign of an expression")
    return Concat((Repeat(more, first) if more > 1 else first, node))


def _shifted_down(node: Binary, within: Kind, width: int, signed: bool, scope: Scope) -> Expression:
    """The low bits of `left >> places` or `left >>> places`, which is an arithmetic shift in a signed context."""
    left, places = node.left, node.right
    arithmetic = node.operator == ">>>" and within.signed
    if isinstance(left, (Name, Part)) and isinstance(places, Number):
        kind = scope.kind(left)
        if places.value >= kind.width and not (kind.signed and within.signed):
            return _sized(0, places, width, signed)
        if places.value < kind.width and (arithmetic or not (kind.signed and within.signed)):
            high = min(places.value + width, kind.width) - 1
            base, least = (left.of, left.low) if isinstance(left, Part) else (left, 0)
            taken = part(base, least + high, least + places.value)
            kept = Kind(high + 1 - places.value, arithmetic and kind.signed)
            shifted = _extended(taken, kept, within, width, False, scope)
            return Cast(True, shifted) if signed else shifted
    span = span_of(left, within, scope)
    if span is not None and span[0] >= 0 and span[1] < 2**width:
        arithmetic = False
    elif within.width != width and not (span is not None and arithmetic and _signed_bits(span) <= width):
        raise UnwritableError("high bits of an expression, shifted down")
    shifted = Binary(
        ">>>" if arithmetic else ">>", low(left, within, width, arithmetic, scope), standing(places, scope)
    )
    return Cast(True, shifted) if signed and not arithmetic else shifted


def compared(node: Binary, scope: Scope) -> Expression:
    """A comparison, in the fewest bits in which it is the same."""
    meeting = common(scope.kind(node.left), scope.kind(node.right))
    spans = [span_of(each, meeting, scope) for each in (node.left, node.right)]
    known = [span for span in spans if span is not None]
    width, signed = meeting.width, meeting.signed
    if len(known) == 2 and min(span[0] for span in known) >= 0:
        width, signed = max(1, *(span[1].bit_length() for span in known)), False
    elif len(known) == 2 and meeting.signed:
        width = min(width, max(map(_signed_bits, known)))
    left, right = (low(each, meeting, width, signed, scope) for each in (node.left, node.right))
    if scope.kind(left).width < width:
        _complete(right, width, scope)
    return Binary(node.operator, left, right)


def _signed_bits(span: Span) -> int:
    """Bits of a signed number that holds all values."""
    return max((-span[0] - 1).bit_length() if span[0] < 0 else 0, max(0, span[1]).bit_length()) + 1


def span_of(node: Expression, within: Kind, scope: Scope) -> Span | None:
    """The values of an expression in a context, if it cannot overflow there."""
    span = _exact(node, within, scope)
    least, most = (
        (-(2 ** (within.width - 1)), 2 ** (within.width - 1) - 1) if within.signed else (0, 2**within.width - 1)
    )
    return span if span is not None and least <= span[0] and span[1] <= most else None


def _exact(node: Expression, within: Kind, scope: Scope) -> Span | None:
    match node:
        case Number() | Unary("-", Number()):
            value = constant(node)
            return value, value
        case Name(name) if name in scope.counters:
            return scope.counters[name]
        case Cast(_, Concat((Number(0), _)) as of):
            return _exact(of, within, scope)
        case Concat((Number(0, int() as zeros), *_)):
            return 0, 2 ** (scope.kind(node).width - zeros) - 1
        case Binary(operator, left, right) if operator in ("+", "-", "*"):
            one, two = span_of(left, within, scope), span_of(right, within, scope)
            return None if one is None or two is None else _combined(operator, one, two)
        case Binary("<<", left, Number(value=places)):
            span = span_of(left, within, scope)
            return None if span is None else (span[0] << places, span[1] << places)
        case Binary(operator, _, _) if operator not in (*COMPARISONS, *LOGICAL):
            return None
        case Unary("-" | "~", _):
            return None
    kind = scope.kind(node)
    if kind.signed and within.signed:
        return -(2 ** (kind.width - 1)), 2 ** (kind.width - 1) - 1
    return 0, 2**kind.width - 1


def _combined(operator: str, one: Span, two: Span) -> Span:
    if operator == "+":
        return one[0] + two[0], one[1] + two[1]
    if operator == "-":
        return one[0] - two[1], one[1] - two[0]
    products = [a * b for a in one for b in two]
    return min(products), max(products)
