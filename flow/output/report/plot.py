"""Curves over bits per weight: accuracy, divergence from the network's own answers, weight error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from flow.errors import FlowError
from flow.files import write_file
from flow.network.metrics import CLASSES

MARKERS = "osv^D*PX"


@dataclass(frozen=True)
class Point:
    """One compressed network: bits per weight, the metric (None if not known; shares 0..1), divergence, weight error.

    The weight error is the mean squared error in steps of the INT8 weights; None leaves it out.
    """

    bits: float
    accuracy: float | None
    divergence: float
    error: float | None = None


def check(file: Path, force: bool = True) -> None:
    """FlowError, before any work, when no plot can be drawn into `file`, or, without `force`, if it exists."""
    if file.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise FlowError(f"a plot is a .png, .svg or .pdf file, but it is '{file}'; change --plot")
    if file.is_dir() or (file.exists() and not force):
        raise FlowError(f"the plot '{file}' exists; choose another, or add --force")
    if not file.parent.is_dir():
        raise FlowError(f"the plot '{file}' cannot be written: there is no folder '{file.parent}'; make it")


def curves(
    series: Mapping[str, Sequence[Point]], reference: float | None, title: str, file: Path, metric: str = "top-1"
) -> None:
    """One line for each series in up to three panels; `reference` is what the network itself reaches of `metric`."""
    from matplotlib.figure import Figure

    scale = 100 if metric in CLASSES else 1
    panels: dict[str, Callable[[Point], float | None]] = {
        f"{metric}{', %' if scale > 1 else ''}": lambda p: None if p.accuracy is None else scale * p.accuracy,
        "divergence of the answers": lambda point: point.divergence or None,
        "weight error, squared INT8 steps": lambda point: point.error,
    }
    every = [point for points in series.values() for point in points]
    shown = {name: value for name, value in panels.items() if any(value(point) is not None for point in every)}
    figure = Figure(figsize=(4.5 * len(shown), 4), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)
    for axis, (name, value) in zip(axes[0], shown.items(), strict=True):
        for number, (label, points) in enumerate(series.items()):
            line = sorted((point.bits, value(point)) for point in points if value(point) is not None)
            axis.plot([x for x, _ in line], [y for _, y in line], marker=MARKERS[number % len(MARKERS)], label=label)
        if name.startswith(metric) and reference is not None:
            axis.axhline(scale * reference, color="black", linestyle=":", label="the network itself")
        if not name.startswith(metric):
            axis.set_yscale("log")
        axis.set(xlabel="bits per weight", ylabel=name)
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize="small")
    figure.suptitle(title)
    content = BytesIO()
    figure.savefig(content, format=file.suffix[1:].lower())
    write_file(file, content.getvalue())
