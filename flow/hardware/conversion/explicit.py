"""Verilog as MyHDL writes it, with explicit widths, and with a wire that reads what nothing else reads.

So the lint of any tool is silent, and each line says what it does with its bits. A line that is not understood stays as
it is. Ports, signals, processes and instances keep their names and places.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flow.hardware.conversion.expressions import (
    INTEGER,
    Expression,
    Index,
    Kind,
    Name,
    Number,
    Part,
    Scope,
    UnreadableError,
    constant,
    part,
    parts_of,
    read,
    write,
)
from flow.hardware.conversion.widths import UnwritableError, condition, fitted

_DECLARATION = re.compile(r"(\s*)(input|output|wire|reg|integer) (signed )?(?:\[(\d+)(-1)?:0\] )?(\w+)( \[0:\d+-1\])?;")
_PROCESS = re.compile(r"(?:always|initial)\b(?: @\((.*)\))? begin.*")
_ASSIGNMENT = re.compile(r"(\s*(?:assign )?)([^=]*?) (<?=) (.*);")
_ASSIGNED = re.compile(r"^\s+(\w+) = ", re.MULTILINE)
_CONDITION = re.compile(r"(\s*(?:else )?if )\((.*)\) begin")
_LOOP = re.compile(r"(\s*)for \((\w+)=(.*?); \2(<|>=)(.*?); \2=\2([-+])(.*)\) begin")
_CASE = re.compile(r"(\s*case )\((.*)\)")
_LABEL = re.compile(r"(\s*)(\S.*): begin")
_INSTANCE = re.compile(r"(\w+) (\w+) \(")
_CONNECTION = re.compile(r"(    \.(\w+))\((.*)\)(,?)")
UNREAD = "_unused"


@dataclass
class _Module:
    """What is known of a module while its lines are read.

    `mentioned` has where its text reads each signal: None for the whole of it, or the highest and lowest bit.
    """

    outputs: Mapping[str, Iterable[str]]
    kinds: dict[str, Kind] = field(default_factory=dict)
    ports_out: set[str] = field(default_factory=set)
    readable: list[str] = field(default_factory=list)
    local: dict[str, Kind] = field(default_factory=dict)
    loops: list[tuple[str, str]] = field(default_factory=list)
    counted: dict[str, tuple[int, int]] = field(default_factory=dict)
    mentioned: dict[str, list[tuple[int, int] | None]] = field(default_factory=dict)
    instance: str = ""
    cases: list[int] = field(default_factory=list)

    @property
    def scope(self) -> Scope:
        return Scope(self.kinds | self.local if self.local else self.kinds, self.counted)


def explicit(text: str, outputs: Mapping[str, Iterable[str]]) -> str:
    """A module with explicit widths; `outputs` has the names of the ports that each module drives."""
    module = _Module(outputs)
    assigned = set(_ASSIGNED.findall(text))  # an integer among these counts no loop
    written = [_line(line, module, assigned) for line in text.split("\n")]
    unread = [write(bits) for name in module.readable for bits in _unread(name, module)]
    if unread:
        at = len(written) - 1 - written[::-1].index("endmodule")
        parts = ",\n    ".join(["1'b0", *unread])
        written[at:at] = [
            "",
            "// what nothing reads",
            f"wire {UNREAD};",
            f"assign {UNREAD} = &{{\n    {parts}\n}};",
            "",
        ]
    return "\n".join(written)


def _line(line: str, module: _Module, assigned: set[str]) -> str:
    """One line, with explicit widths if it is understood; what it declares, reads and opens is noted."""
    if not line or line.startswith("//"):
        return line
    if module.instance:
        return _connection(line, module)
    if match := _DECLARATION.fullmatch(line):
        return _declaration(match, module)
    if match := _PROCESS.fullmatch(line):
        module.local.clear()
        _mention_all(match[1] or "", module)
    elif match := _INSTANCE.fullmatch(line):
        module.instance = match[1]
    elif match := _LOOP.fullmatch(line):
        _open_loop(match, module, assigned)
    elif module.loops and line == module.loops[-1][0] + "end":
        module.counted.pop(module.loops.pop()[1], None)
    elif line.strip() == "endcase":
        module.cases.pop()
    else:
        try:
            return _statement(line, module)
        except (UnreadableError, UnwritableError):
            _mention_all(line, module)
    return line


def _declaration(match: re.Match[str], module: _Module) -> str:
    indent, kind, signed, high, less, name, depth = match.groups()
    width = INTEGER if kind == "integer" else int(high or 0) + (0 if less else 1)
    declared = Kind(width, bool(signed) or kind == "integer", depth is not None)
    if indent:
        module.local[name] = declared
        return match[0].replace(f"[{high}-1:0]", f"[{width - 1}:0]")
    module.kinds[name] = declared
    if kind == "output":
        module.ports_out.add(name)
    elif name not in module.ports_out and not depth:
        module.readable.append(name)
    return match[0]


def _open_loop(match: re.Match[str], module: _Module, assigned: set[str]) -> None:
    indent, name, start, _, end, direction, step = match.groups()
    module.loops.append((indent, name))
    _mention_all(f"{start} {end}", module)
    try:
        first, last = constant(read(start)), constant(read(end))
        last -= direction == "+"
    except UnreadableError:
        return
    least, most = min(first, last), max(first, last)
    rising = (first <= last) == (direction == "+") and step == "1"
    if name not in assigned and name not in module.counted and rising and least >= 0:
        module.counted[name] = (least, most)


def _connection(line: str, module: _Module) -> str:
    """A line of an instance: what is connected to its inputs is read."""
    match = _CONNECTION.fullmatch(line)
    if match is None:
        module.instance = ""
        return line
    begin, port, actual, comma = match.groups()
    try:
        node = read(actual)
    except UnreadableError:
        return line
    if port not in module.outputs.get(module.instance, ()):
        _mention(node, module)
    return f"{begin}({write(node)}){comma}"


def _statement(line: str, module: _Module) -> str:
    """An assignment, condition or case in explicit widths."""
    scope = module.scope
    if match := _ASSIGNMENT.fullmatch(line):
        begin, left, sign, right = match.groups()
        target = read(left)
        value = fitted(read(right), scope.kind(target).width, scope)
        for each in parts_of(target)[1:]:
            _mention(each, module)
        _mention(value, module)
        return f"{begin}{write(target)} {sign} {write(value)};"
    if match := _CONDITION.fullmatch(line):
        value = condition(read(match[2]), scope)
        _mention(value, module)
        return f"{match[1]}({write(value)}) begin"
    if match := _CASE.fullmatch(line):
        value = read(match[2])
        module.cases.append(scope.kind(value).width)
        _mention(value, module)
        return f"{match[1]}({write(value)})"
    if module.cases and (match := _LABEL.fullmatch(line)) and match[2] != "default":
        return f"{match[1]}{write(fitted(read(match[2]), module.cases[-1], scope))}: begin"
    return line


def _mention_all(text: str, module: _Module) -> None:
    """Note all the names in a text."""
    for name in re.findall(r"[A-Za-z_]\w*", text):
        _mention(Name(name), module)


def _mention(node: Expression, module: _Module) -> None:
    """Note what an expression reads."""
    match node:
        case Name(name):
            module.mentioned.setdefault(name, []).append(None)
        case Part(Name(name), high, low):
            module.mentioned.setdefault(name, []).append((high, low))
        case Index(Name(name), Number(place)) if not module.kinds.get(name, Kind(1)).array:
            module.mentioned.setdefault(name, []).append((place, place))
        case _:
            for each in parts_of(node):
                _mention(each, module)


def _unread(name: str, module: _Module) -> list[Expression]:
    """The bits of a signal that nothing reads, from the highest on."""
    width, read_parts = module.kinds[name].width, module.mentioned.get(name, [])
    if not read_parts:
        return [Name(name)]
    left = set(range(width))
    for bits in read_parts:
        left -= set(range(width)) if bits is None else set(range(bits[1], bits[0] + 1))
    ends = sorted((bit for bit in left if bit + 1 not in left), reverse=True)
    starts = sorted((bit for bit in left if bit - 1 not in left), reverse=True)
    return [part(Name(name), high, low) for high, low in zip(ends, starts, strict=True)]
