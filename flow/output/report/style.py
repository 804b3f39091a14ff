"""Colours, sizes and the style of the figures that Matplotlib draws."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION, SKY, PINK, GREY = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#b8bec6",
)  # fmt: skip
STYLE = {
    "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "hatch.linewidth": 0.6, "text.parse_math": False, "axes.titlesize": 9,
}  # fmt: skip
WIDTH = 9.0  # inches


def draw(name: str, paint: Callable[[Figure], None], height: float) -> str:
    """The SVG element of a figure; `name` keeps its ids apart from those of the page's other figures."""
    style: Any = {**STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        paint(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub('<g id="[^"]*"', "<g", buffer.getvalue())  # names that the page's figures would share
    return text[text.index("<svg") :].strip()
