"""Marks of the pages' own figures: SVG elements in the page's colours, axes, and points that lead to their row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 240  # of a plot, in its own units: about pixels on a small screen
LEFT, RIGHT, TOP, BOTTOM = 66, 16, 14, 40
FAR = 5.0  # an axis whose largest value is so many times its smallest is logarithmic
STEPS = (1, 2, 5, 10)
TICKS = 4  # that an axis has at least, roughly


def tag(name: str, *inside: str, **attributes: object) -> Markup:
    """An element; text and values of attributes are escaped, markup is not. `class_` is class, `x_y` is x-y."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    body = "".join(escape(part) for part in inside)
    return Markup(f"<{name}{given}>{body}</{name}>" if body else f"<{name}{given}/>")


def number(value: float) -> str:
    """A number as an axis has it."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


@dataclass(frozen=True)
class Point:
    """A point of a plot: its row by id, what it says when it is pointed at, and a label beside it, if any.

    `kind` is the mark's class: "best" and "other" of a front, "int8" and "chosen".
    """

    x: float
    y: float
    row: str
    title: str
    kind: Literal["best", "other", "int8", "chosen"]
    label: str = ""


@dataclass(frozen=True)
class Axis:
    """What an axis shows, and the places on it, in its own units, of what is drawn."""

    name: str
    values: Sequence[float]
    begin: float
    end: float

    @property
    def logarithmic(self) -> bool:
        return 0 < FAR * min(self.values) < max(self.values)

    @property
    def _scale(self) -> tuple[Callable[[float], float], float, float]:
        to = math.log10 if self.logarithmic else float
        low, high = to(min(self.values)), to(max(self.values))
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
        return to, low - margin, high + margin

    def at(self, value: float) -> float:
        """The place of a value."""
        to, low, high = self._scale
        return round(self.begin + (self.end - self.begin) * (to(value) - low) / (high - low), 1)

    def ticks(self) -> list[float]:
        """Round numbers within the axis."""
        to, low, high = self._scale
        if self.logarithmic:
            decades = range(math.floor(low), math.ceil(high) + 1)
            found = [step * 10.0**decade for decade in decades for step in STEPS[:3]]
            inside = [value for value in found if low <= to(value) <= high]
            return inside[:: max(1, len(inside) // (2 * TICKS))]
        rough = (high - low) / TICKS
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(step * unit for step in STEPS if step * unit >= rough * 0.999)
        first = math.ceil(low / step)
        return [round(count * step, 12) for count in range(first, math.floor(high / step) + 1)]


def scatter(name: str, x: tuple[str, Sequence[float]], y: tuple[str, Sequence[float]], points: Sequence[Point]) -> str:
    """A plot of points over two axes, each a name and all values of its plot."""
    across = Axis(*x, LEFT, WIDTH - RIGHT)
    up = Axis(*y, HEIGHT - BOTTOM, TOP)
    drawn: list[str] = []
    for value in across.ticks():
        place = across.at(value)
        drawn.append(tag("line", class_="grid", x1=place, x2=place, y1=TOP, y2=HEIGHT - BOTTOM))
        drawn.append(tag("text", number(value), x=place, y=HEIGHT - BOTTOM + 14, text_anchor="middle"))
    for value in up.ticks():
        place = up.at(value)
        drawn.append(tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=place, y2=place))
        drawn.append(tag("text", number(value), x=LEFT - 6, y=place + 4, text_anchor="end"))
    drawn.append(tag("text", across.name, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle"))
    turned = f"translate(12 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"
    drawn.append(tag("text", up.name, transform=turned, text_anchor="middle"))
    order = {"other": 0, "best": 1, "int8": 2, "chosen": 3}
    for point in sorted(points, key=lambda each: order[each.kind]):
        drawn.append(_point(point, across.at(point.x), up.at(point.y)))
    return tag("svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=name, class_="plot")


def _point(point: Point, x: float, y: float) -> Markup:
    size = 6.5 if point.kind == "chosen" else 4.5
    shape = {
        "chosen": f"M{x} {y - size}L{x + size} {y}L{x} {y + size}L{x - size} {y}Z",
        "int8": f"M{x - 4} {y - 4}h8v8h-8Z",
    }.get(point.kind, f"M{x - size} {y}a{size} {size} 0 1 0 {2 * size} 0a{size} {size} 0 1 0 {-2 * size} 0Z")
    parts: list[str] = [tag("title", point.title), tag("path", d=shape)]
    if point.label:
        left = x > WIDTH * 0.6
        side = {"x": x - 10 if left else x + 10, "text_anchor": "end" if left else "start"}
        parts.append(tag("text", point.label, y=y + 4 if y < TOP + 24 else y - 7, **side))
    return tag("a", *parts, href=f"#{point.row}", class_=f"point {point.kind}", aria_label=point.title)
