"""Energy: figure 13."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.paper import published
from bench.paper.comparison import OURS, SCHEMES
from bench.paper.energy import DRAM_BYTE_AUTHORS
from bench.paper.sections.section import (
    COLORS,
    LABELS,
    STAND_INS,
    Row,
    Section,
    matrix,
    mean,
    networks_axis,
    outcome_of,
)
from bench.paper.studies import Results, Study
from flow.output.report.style import draw
from flow.scheduling.energy import DRAM_BYTE


def fig13(results: Results) -> Section:
    rows = []
    networks = results.paper
    if networks:
        for scheme in SCHEMES:
            value = mean(networks, lambda study, s=scheme: _energy(study, s))  # type: ignore[misc]
            rows.append(Row(f"{LABELS[scheme]}: energy over SparTen's", value, published.ENERGY.get(scheme), True,
                            scheme in OURS))  # fmt: skip
        for scheme, paper in published.ENERGY_OVER_MODERATE.items():
            value = mean(networks, lambda study, s=scheme: _energy(study, s) / _energy(study, "moderate"))  # type: ignore[misc]
            rows.append(Row(f"{LABELS[scheme]} over BitVert, moderate", value, paper, True))
            cheaper = mean(networks, lambda study, s=scheme: _cheaper(study, s) / _cheaper(study, "moderate"))  # type: ignore[misc]
            rows.append(
                Row(f"{LABELS[scheme]} over BitVert, moderate, DRAM as cheap as the authors'", cheaper, paper, True)
            )
    split = matrix(
        "DRAM + on-chip energy, SparTen's total = 1",
        results,
        lambda study, s: "{:.2f} + {:.2f}".format(*_split(study, s)),
    )
    return Section(
        "fig13",
        "Figure 13: energy, normalised to SparTen",
        rows,
        [
            "PE power of the bit-serial machines is the paper's own table V at 800 MHz; SparTen's and ANT's the "
            "authors' simulator's; SRAM and DRAM from Horowitz, ISSCC 2014 (bench/paper/energy.py). The paper used "
            "CACTI and DRAMSim3, whose results it does not print.",
            "Smaller weights save more here than in the paper: what leaves DRAM alone (Stripes, Pragmatic, Bitlet) "
            "comes out worse. The rows with the authors' 1 nJ for 64 bits of DRAM, instead of 1.3, show how much of it "
            "the price of DRAM is; their on-chip energy per bit is not published.",
            STAND_INS,
        ],
        "",
        [split],
        {"DRAM (dark) and on-chip energy": draw("fig13", lambda figure: _energy_bars(figure, results), 3.6)},
    )


def _split(study: Study, scheme: str) -> tuple[float, float]:
    whole = outcome_of(study, "sparten").energy.total
    spent = outcome_of(study, scheme).energy
    return spent.dram / whole, spent.chip / whole


def _energy(study: Study, scheme: str) -> float:
    return sum(_split(study, scheme))


def _cheaper(study: Study, scheme: str) -> float:
    """Energy with the authors' price of DRAM."""
    spent = outcome_of(study, scheme).energy
    return spent.dram * DRAM_BYTE_AUTHORS / DRAM_BYTE + spent.chip


def _energy_bars(figure: Figure, results: Results) -> None:
    axis = figure.subplots()
    width = 0.86 / len(SCHEMES)
    for number, scheme in enumerate(SCHEMES):
        at = [place + (number - (len(SCHEMES) - 1) / 2) * width for place in range(len(results.studies))]
        parts = [_split(study, scheme) for study in results.studies]
        axis.bar(at, [dram for dram, _ in parts], width, color=COLORS[scheme], label=LABELS[scheme])
        axis.bar(at, [chip for _, chip in parts], width, bottom=[dram for dram, _ in parts], color=COLORS[scheme],
                 alpha=0.45, hatch="///", edgecolor="white", linewidth=0)  # fmt: skip
    networks_axis(figure, results, "energy over SparTen's")
