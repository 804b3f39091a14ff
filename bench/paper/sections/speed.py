"""Speed: figures 12, 14 and 15."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.paper import published
from bench.paper.comparison import OURS, SCHEMES
from bench.paper.sections.section import (
    COLORS,
    LABELS,
    STAND_INS,
    TWICE,
    Row,
    Section,
    Table,
    matrix,
    mean,
    name_of,
    networks_axis,
    outcome_of,
    speedup,
)  # fmt: skip
from bench.paper.studies import Results, Study
from bench.paper.trained import Design
from flow.output.report.style import draw


def fig12(results: Results) -> Section:
    rows = []
    networks = results.paper
    if networks:
        for scheme in SCHEMES:
            rows.append(
                Row(f"{LABELS[scheme]}: geometric mean", mean(networks, lambda study, s=scheme: speedup(study, s)),  # type: ignore[misc]
                    published.SPEEDUP.get(scheme), True, scheme in OURS)
            )  # fmt: skip
        for (over, name), paper in published.SPEEDUP_OVER.items():
            value = mean(networks, lambda study, a=over, b=name: speedup(study, b) / speedup(study, a))  # type: ignore[misc]
            rows.append(Row(f"BitVert, {name}, over {LABELS[over]}", value, paper, True))
        for variant, paper in (("pragmatic, sign counted", published.SPEEDUP["pragmatic"]),
                               ("bitlet, window 32", published.SPEEDUP["bitlet"])):  # fmt: skip
            rows.append(Row(f"{variant.capitalize()}: geometric mean",
                            mean(networks, lambda study, v=variant: _variant(study, v)), paper, True))  # type: ignore[misc]  # fmt: skip
    for study in results.given:
        if study.trained is not None:
            rows += [_matched(study, design) for pair in study.trained.matched.values() for design in pair]
    return Section(
        "fig12",
        "Figure 12: speed-up over Stripes",
        rows,
        [
            "All machines share one mapping: 16 windows (across rows of the map) x 32 channels, steps along kernel "
            "position and input channel. The authors' simulator (yc2367/BitSim) tiles each row of the map on its own.",
            "Pragmatic and Bitlet are faster here than in the paper. Two readings of that simulator explain it: it "
            "counts a weight's sign as one more bit for Pragmatic, and gives Bitlet windows of 32 weights where the "
            "paper's text has 64:1 multiplexers. With both, the means are the paper's to a few percent.",
            "SparTen's activations are drawn with half of them zero after a ReLU and none in transformers. ANT has the "
            "authors' 16 x 20 PEs of 16 lanes. BitWave zeroes 3 columns, or 2 on ResNet-34 and ViT-Small, as there.",
            "BERT-base stands for both BERT benchmarks, 128 tokens each, and counts twice in means.",
            STAND_INS,
            "Bold rows: with a preset's noise in the weights (drawn weights); with no fewer right answers and no more "
            "divergence than a preset on half of the test samples, top-1 and divergence of the other half beside it "
            "(networks given; N by what a block costs and the time it saves, or by its bits: the fastest).",
        ],
        "×",
        [matrix("Speed-up over Stripes, DRAM counted", results, lambda study, s: f"{speedup(study, s):.2f}"),
         matrix("Without DRAM", results,
                 lambda study, s: f"{outcome_of(study, 'stripes').compute / outcome_of(study, s).compute:.2f}"),
         matrix("Bits per weight", results, lambda study, s: f"{outcome_of(study, s).bits:.2f}")],
        {"Speed-up over Stripes": draw("fig12", lambda figure: _speedup_bars(figure, results), 3.6)},
    )  # fmt: skip


def _matched(study: Study, design: Design) -> Row:
    """A trained network's speed with a preset, or with ours where it is as accurate."""
    base, judged = outcome_of(study, "stripes"), design.judged
    share = "" if judged.top1 is None else f", top-1 {100 * judged.top1:.2f} %"
    note = f"{judged.bits:.2f} bits{share}, KL {judged.divergence:.1e}"
    what = f"{name_of(study)}: {judged.method}, without DRAM"
    return Row(what, base.compute / design.outcome.compute, bold=judged.method.startswith("ours"), note=note)


def _variant(study: Study, variant: str) -> float:
    assert study.comparison is not None
    return study.comparison.outcomes["stripes"].cycles / study.comparison.variants[variant]


def _speedup_bars(figure: Figure, results: Results) -> None:
    axis = figure.subplots()
    width = 0.86 / len(SCHEMES)
    for number, scheme in enumerate(SCHEMES):
        at = [place + (number - (len(SCHEMES) - 1) / 2) * width for place in range(len(results.studies))]
        axis.bar(at, [speedup(study, scheme) for study in results.studies], width, color=COLORS[scheme],
                 label=LABELS[scheme])  # fmt: skip
    axis.axhline(1, color="black", linewidth=0.8)
    networks_axis(figure, results, "speed-up over Stripes")


def fig14(results: Results) -> Section:
    rows = []
    for study in results.studies:
        sweep = study.sweep
        if sweep is None:
            continue
        for name, works in sweep.items():
            for count, work in works.items():
                if name != "stripes" and count in (2, 32):
                    paper = published.BITLET_COLUMNS[count] if (name, name_of(study)) == ("bitlet", TWICE) else None
                    rows.append(Row(f"{name_of(study)}: {LABELS[name]}, {count} columns",
                                    sweep["stripes"][count].cycles / work.cycles, paper, True))  # fmt: skip
    return Section(
        "fig14",
        "Figure 14: speed-up over Stripes with 2 to 32 PE columns",
        rows,
        ["The paper prints Bitlet's two numbers on BERT (MRPC); the others are lines. DRAM is left out.", STAND_INS],
        "×",
        figures={"Speed-up by PE columns": draw("fig14", lambda figure: _sweep_lines(figure, results), 3.2)},
    )


def _sweep_lines(figure: Figure, results: Results) -> None:
    chosen = [study for study in results.studies if study.sweep]
    axes = figure.subplots(1, max(len(chosen), 1), sharey=True, squeeze=False)[0]
    for axis, study in zip(axes, chosen, strict=False):
        assert study.sweep is not None
        for (name, works), marker in zip(study.sweep.items(), "osv^D", strict=True):
            places = range(len(works))
            speed = [study.sweep["stripes"][count].cycles / work.cycles for count, work in works.items()]
            axis.plot(places, speed, marker=marker, color=COLORS[name], label=LABELS[name])
            axis.set_xticks(places, [str(count) for count in works])
        axis.set_title(name_of(study))
        axis.set_xlabel("PE columns")
        axis.grid(alpha=0.35)
    axes[0].set_ylabel("speed-up over Stripes")
    if chosen:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)


def fig15(results: Results) -> Section:
    rows, table = [], []
    for study in results.studies:
        for name, works in (study.sweep or {}).items():
            for count, work in works.items():
                slots = work.useful + work.intra + work.inter
                shares = [part / slots for part in (work.useful, work.intra, work.inter)]
                table.append((name_of(study), LABELS[name], str(count), *(f"{100 * share:.1f}" for share in shares)))
                if count == 32:
                    rows.append(
                        Row(f"{name_of(study)}: {LABELS[name]}, useful share, 32 columns", shares[0], None, True)
                    )
    return Section(
        "fig15",
        "Figure 15: what the multipliers' cycles are spent on",
        rows,
        [
            "Useful: a one bit is multiplied (BitVert: the rarer bit of its column). Intra-PE: a lane waits for the "
            "slowest of its PE or has nothing to do. Inter-PE: the PE waits for the slowest of its block. The paper "
            "shows bars without numbers.",
            STAND_INS,
        ],
        "share",
        [Table("Shares in %", ("network", "machine", "columns", "useful", "intra-PE", "inter-PE"), table)],
    )
