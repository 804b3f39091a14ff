"""What a section is made of: rows, tables, names and means that all share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from bench.paper.comparison import OURS, SCHEMES, Outcome, geomean
from bench.paper.studies import Results, Study
from flow.output.report.style import BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILION

LABELS = {
    "sparten": "SparTen",
    "ant": "ANT, 6 bits",
    "stripes": "Stripes",
    "pragmatic": "Pragmatic",
    "bitlet": "Bitlet",
    "bitwave": "BitWave",
    "conservative": "BitVert, conservative",
    "moderate": "BitVert, moderate",
} | {name: f"BitVert, {name}" for name in OURS}


TWICE = "BERT-base"  # stands for both BERT benchmarks of the paper: in means it counts twice


@dataclass(frozen=True)
class Row:
    """One value. `paper` None: the paper prints no number for it. `bold`: what goes beyond the paper."""

    what: str
    ours: float
    paper: float | None = None
    stand_in: bool = False
    bold: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.paper if self.paper else None


@dataclass(frozen=True)
class Table:
    """A plain table beside the values; `prose`: of sentences, whose lines break."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    prose: bool = False


@dataclass(frozen=True)
class Section:
    """One table or figure of the paper. `differs`: what is not as in the paper, one sentence each."""

    key: str
    title: str
    rows: Sequence[Row]
    differs: Sequence[str]
    unit: str = ""
    tables: Sequence[Table] = ()
    figures: Mapping[str, str] = field(default_factory=dict)


STAND_INS = "Weights are drawn (seeded Gaussian per channel, INT8), shapes are the published architectures'."


def mean(studies: Sequence[Study], value: Callable[[Study], float]) -> float:
    """Geometric mean over the paper's seven benchmarks."""
    values = [value(study) for study in studies for _ in range(2 if study.source.name == TWICE else 1)]
    return geomean(values)


def name_of(study: Study) -> str:
    return study.source.name


def outcome_of(study: Study, scheme: str) -> Outcome:
    assert study.comparison is not None
    return study.comparison.outcomes[scheme]


def speedup(study: Study, scheme: str) -> float:
    assert study.comparison is not None
    return study.comparison.speedup(scheme)


def matrix(caption: str, results: Results, value: Callable[[Study, str], str]) -> Table:
    header = ("network", *(LABELS[scheme] for scheme in SCHEMES))
    rows = [
        (name_of(study) + ("" if study.source.model else " *"), *(value(study, scheme) for scheme in SCHEMES))
        for study in results.studies
    ]
    return Table(f"{caption} (* drawn weights)", header, rows)


COLORS = dict(
    zip(SCHEMES, (GREY, PINK, "#4a525b", SKY, ORANGE, GREEN, "#7fb8d8", BLUE, "#e8a07a", VERMILION), strict=True)
)


def networks_axis(figure: Figure, results: Results, label: str) -> None:
    """The axis of networks, and the legend above."""
    axis = figure.axes[0]
    axis.set_xticks(range(len(results.studies)), [name_of(study) for study in results.studies], rotation=20, ha="right")
    axis.set_ylabel(label)
    axis.grid(axis="y", alpha=0.35)
    axis.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
