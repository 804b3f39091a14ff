"""Offsets of part selects in a loop as constants: `low = 8 * i`, `y.next[low + 8:low]` becomes `y[(8 * i)+:8]`.

To Verilog's tools a variable that a loop computes is no constant, even if unrolling makes one of it: for every
assignment to such a part select Yosys writes a case of all offsets, and needs hours for what constants do at once.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from myhdl.conversion._toVerilog import _ConvertVisitor


class Inlined(ast.Name):
    """A use of a variable, which is written as the expression that it was assigned."""

    expression: ast.expr


def _write(visitor: Any, node: Inlined) -> None:
    visitor.visit(node.expression)


setattr(_ConvertVisitor, "visit_Inlined", _write)  # noqa: B010


@dataclass(frozen=True)
class _Assigned:
    """An assignment that stands directly in a loop, what follows in it, and the counters that are constants there."""

    loop: ast.For
    statement: ast.Assign
    rest: list[ast.stmt]
    constants: set[str]


def inline_offsets(tree: Any) -> None:
    """Replace in part selects and indices the integers of a process that only depend on loop variables and numbers.

    Replaced are those that are assigned directly in a loop, once in it, and read after that in the same loop alone.
    Elsewhere, in a comparison for instance, they stay: there the sign of an expression would matter.
    The process is as MyHDL has analysed it.
    """
    loops = list(_loops(tree, ()))
    stored = Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and _stores(node))
    counting = Counter(counters[-1] for _, counters in loops)
    assigned: dict[str, list[_Assigned]] = {}
    for loop, counters in loops:
        constants = {name for name in counters if counters.count(name) == 1 and counting[name] == stored[name]}
        for index, statement in enumerate(loop.body):
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                place = _Assigned(loop, statement, loop.body[index + 1 :], constants)
                assigned.setdefault(statement.targets[0].id, []).append(place)
    for name, places in assigned.items():
        if type(tree.vardict.get(name)) is int and len(places) == stored[name]:
            _inline(tree, name, places)


def _inline(tree: Any, name: str, places: list[_Assigned]) -> None:
    """Replace one variable, unless a value is no constant or a use follows none or several of its assignments."""
    uses = [[node for after in place.rest for node in _uses(after, name)] for place in places]
    followed = [id(node) for found in uses for node in found]
    if sorted(followed) != sorted(id(node) for node in _uses(tree, name)):
        return
    if not all(_constant(place.statement.value, place.constants, tree) for place in places):
        return
    for place in places:
        for node in _offsets(place, name, tree):
            node.__class__ = Inlined  # in place: MyHDL keeps nodes in lists of its own, too
            setattr(node, "expression", place.statement.value)  # noqa: B010
    if not list(_uses(tree, name)):
        for place in places:
            place.loop.body.remove(place.statement)
        del tree.vardict[name]


def _stores(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _uses(node: ast.AST, name: str) -> Iterator[ast.Name]:
    """Where a variable is read below a node, and not replaced."""
    for child in ast.walk(node):
        if type(child) is ast.Name and child.id == name and not _stores(child):
            yield child


def _offsets(place: _Assigned, name: str, tree: Any) -> list[ast.Name]:
    """Where a variable is read in an index or in a bound of a part select that is a constant with it."""
    known = {*place.constants, name}
    subscripts = [node for after in place.rest for node in ast.walk(after) if isinstance(node, ast.Subscript)]
    bounds = [node.slice for node in subscripts if not isinstance(node.slice, ast.Slice)]
    for node in subscripts:
        if isinstance(node.slice, ast.Slice):
            bounds += [bound for bound in (node.slice.lower, node.slice.upper) if bound is not None]
    return [found for bound in bounds if _constant(bound, known, tree) for found in _uses(bound, name)]


def _loops(node: ast.AST, counters: tuple[str, ...]) -> Iterator[tuple[ast.For, tuple[str, ...]]]:
    """The loops below a node, outer ones first, with the variables that count those around them and themselves."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.For) and isinstance(child.target, ast.Name):
            yield child, (*counters, child.target.id)
            yield from _loops(child, (*counters, child.target.id))
        else:
            yield from _loops(child, counters)


def _constant(value: ast.expr, constants: set[str], tree: Any) -> bool:
    """Whether an expression is a sum or product of numbers, counters and what was replaced before."""
    if isinstance(value, ast.BinOp):
        kinds = isinstance(value.op, (ast.Add, ast.Sub, ast.Mult))
        return kinds and _constant(value.left, constants, tree) and _constant(value.right, constants, tree)
    if isinstance(value, ast.Constant):
        return type(value.value) is int
    if isinstance(value, Inlined):
        return True
    if not isinstance(value, ast.Name):
        return False
    return value.id in constants or (value.id not in tree.vardict and type(tree.symdict.get(value.id)) is int)
