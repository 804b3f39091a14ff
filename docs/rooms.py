"""Draws docs/rooms.svg: the rooms of the package flow/ and which of them each one uses, read from its imports.

python docs/rooms.py
"""

from __future__ import annotations

import ast
import re
from html import escape
from pathlib import Path

FLOW = Path(__file__).parents[1] / "flow"
PICTURE = Path(__file__).with_name("rooms.svg")
ROW = re.compile(r"^(\w+)(?:\.py|/) +(\S.*)$", re.MULTILINE)

LEFT, WIDTH, HEIGHT, STEP, LINE = 120, 116, 28, 44, 880  # in pixels: boxes, rows, and the picture's width
FONT = "font-family='DejaVu Sans, Verdana, sans-serif'"


def rooms() -> dict[str, str]:
    """Each room and what it is for, in the order of the package's docstring."""
    text = ast.get_docstring(ast.parse((FLOW / "__init__.py").read_text())) or ""
    return dict(ROW.findall(text))


def room(file: Path) -> str:
    return file.relative_to(FLOW).parts[0].removesuffix(".py")


def imports() -> set[tuple[str, str]]:
    """(room, another room that one of its files imports)."""
    found = set()
    for file in FLOW.rglob("*.py"):
        if file.parent == FLOW and file.name == "__init__.py":
            continue  # the front of the package
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            parts = [name.split(".") for name in names]
            found |= {(room(file), part[1]) for part in parts if part[0] == "flow" and part[1] != room(file)}
    return found


def arrows(uses: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The uses that do not follow from others: a room that uses the output also uses what the output uses."""

    def reached(start: str) -> set[str]:
        direct = {target for source, target in uses if source == start}
        return direct.union(*(reached(each) for each in direct))

    return {
        (source, target)
        for source, target in uses
        if not any(target in reached(between) for start, between in uses if start == source and between != target)
    }


def picture() -> str:
    """The rooms from top to bottom as SVG, arrows on their left, purposes on their right."""
    listed, drawn = rooms(), arrows(imports())
    places = {name: number for number, name in enumerate(listed)}
    height = STEP * len(listed) + 16
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {LINE} {height}' width='{LINE}' height='{height}'>",
        "<defs><marker id='head' viewBox='0 0 8 8' refX='8' refY='4' markerWidth='8' markerHeight='8' orient='auto'>"
        "<path d='M0 0 8 4 0 8z' fill='#456'/></marker></defs>",
        f"<rect width='{LINE}' height='{height}' fill='#fff'/>",
    ]
    for source, target in sorted(drawn, key=lambda pair: (places[pair[0]], places[pair[1]])):
        begin, end = middle(places[source]), middle(places[target])
        span = places[source] - places[target]
        if span == 1:
            x = LEFT + WIDTH // 2
            path = f"M{x} {begin - HEIGHT // 2} {x} {end + HEIGHT // 2 + 1}"
        else:
            x = LEFT - 14 - 13 * span
            path = f"M{LEFT} {begin - 6} C{x} {begin - 6} {x} {end + 6} {LEFT - 1} {end + 6}"
        lines.append(f"<path d='{path}' fill='none' stroke='#456' marker-end='url(#head)'/>")
    for name, purpose in listed.items():
        y, plain = middle(places[name]), escape(purpose.replace("`", ""))
        lines += [
            f"<rect x='{LEFT}' y='{y - HEIGHT // 2}' width='{WIDTH}' height='{HEIGHT}' rx='4' fill='#eef3f8' "
            "stroke='#456'/>",
            f"<text x='{LEFT + WIDTH // 2}' y='{y + 5}' text-anchor='middle' font-size='14' {FONT}>{name}</text>",
            f"<text x='{LEFT + WIDTH + 16}' y='{y + 4}' font-size='12' fill='#333' {FONT}>{plain}</text>",
        ]
    return "\n".join([*lines, "</svg>\n"])


def middle(place: int) -> int:
    return 8 + STEP * place + STEP // 2


if __name__ == "__main__":
    PICTURE.write_text(picture())
