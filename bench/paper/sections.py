"""Every table and figure: our value, the paper's, their ratio, and what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from bench.area import ratios, shared
from bench.paper import published
from bench.paper.comparison import OURS, SCHEMES, Outcome, geomean
from bench.paper.energy import DRAM_BYTE_AUTHORS
from bench.paper.studies import Results, Study
from bench.paper.trained import Design, Trained, pareto
from flow.compression.allocate import PRESETS
from flow.output.report.style import BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILION, draw
from flow.scheduling.energy import DRAM_BYTE

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
METHODS = {
    "bit-flip": "bit-flip (BitWave)",
    "rounded-averaging": "rounded averaging",
    "zero-point-shifting": "zero-point shifting",
    "optimal": "ours (exact optimum)",
}
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
    """A plain table beside the values."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


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


def _name(study: Study) -> str:
    return study.source.name


# -------------------------------------------------------------------------------- figures 3 and 6


def fig3(results: Results) -> Section:
    rows = []
    for study in results.studies:
        found, drawn = study.sparsity, study.source.model is None
        assert found is not None
        for what, value in (
            ("zero weights", found.values),
            ("zero bits, two's complement", found.twos_complement),
            ("zero bits, sign and magnitude", found.sign_magnitude),
            ("BBS, vectors of 8", found.bidirectional),
        ):
            rows.append(Row(f"{_name(study)}: {what}", value, stand_in=drawn))
    return Section(
        "fig3",
        "Figure 3: sparsity of INT8 weights",
        rows,
        [
            "The paper shows bars without numbers; its text says that values are below 0.05, two's complement about "
            "0.5, BBS at least 0.5 and above sign and magnitude.",
            STAND_INS,
        ],
        "share",
        figures={"Sparsity by network": draw("fig3", lambda figure: _sparsity_bars(figure, results), 3.2)},
    )


def _sparsity_bars(figure: Figure, results: Results) -> None:
    axis = figure.subplots()
    looks = {"values": GREY, "twos_complement": SKY, "sign_magnitude": ORANGE, "bidirectional": BLUE}
    width = 0.8 / len(looks)
    for number, (name, color) in enumerate(looks.items()):
        at = [place + (number - 1.5) * width for place in range(len(results.studies))]
        axis.bar(at, [getattr(study.sparsity, name) for study in results.studies], width, color=color,
                 label=name.replace("twos_complement", "bits, two's complement").replace("_", " "))  # fmt: skip
    _networks(figure, results, "share that can be skipped")


def _networks(figure: Figure, results: Results, label: str) -> None:
    """The axis of networks, and the legend above."""
    axis = figure.axes[0]
    axis.set_xticks(range(len(results.studies)), [_name(study) for study in results.studies], rotation=20, ha="right")
    axis.set_ylabel(label)
    axis.grid(axis="y", alpha=0.35)
    axis.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)


def fig6(results: Results) -> Section:
    rows = []
    for study in results.studies:
        for columns, by_width in (study.divergences or {}).items():
            for width, found in by_width.items():
                bins = "values" if width == 1 else f"bins of {width}"
                for method, value in found.items():
                    share = value / max(found["bit-flip"], 1e-30)
                    what = f"{_name(study)}, N {columns}, {bins}: {METHODS[method]}"
                    rows.append(Row(what, share, stand_in=study.source.model is None, note=f"{value:.2e} nats"))
    return Section(
        "fig6",
        "Figure 6: KL divergence of the weights' distribution, normalised to bit-flip",
        rows,
        [
            "The paper prints no numbers, and does not say over what bins its distributions are. Its order (rounded "
            "averaging best at N = 2, zero-point shifting at N = 4) is found with bins of 8 values: with N = 2 rounded "
            "averaging then moves no weight to another bin, and its divergence is 0. Counted value by value it comes "
            "far behind, because every pruned group then has only every fourth value.",
            "Ours is the least squared error, which is not the least divergence of the distribution.",
            STAND_INS,
        ],
        "of bit-flip's",
    )


# -------------------------------------------------------------------------------- figure 11, tables II and III


def fig11(results: Results) -> Section:
    rows, tables = [], []
    networks = results.paper
    for name in PRESETS:
        if networks:
            size = mean(networks, lambda study, name=name: 8 / _outcome(study, name).bits)  # type: ignore[misc]
            rows.append(Row(f"smaller than INT8, {name}, mean", size, published.SIZE[name], True))
    for study in results.given:
        trained = study.trained
        if trained is None:
            continue
        tables.append(_accuracy(trained))
        for name in PRESETS:
            rows += _losses(trained, name)
    return Section(
        "fig11",
        "Figure 11: accuracy and size of compressed networks",
        rows,
        [
            "The paper's seven networks are trained on ImageNet and GLUE, whose data are not here: their sizes come "
            "from drawn weights, whose sensitive channels are spread otherwise than trained ones. Losses are the "
            "given networks', the paper's are means over its seven.",
            "PTQ and bit-flip leave the preset's sensitive channels whole, as in the paper; MX has 6.25 or 4.25 bits "
            "on all channels. One standard error of a loss is about the square root of accuracy x (1 - accuracy) / "
            "samples.",
            "Ours uses calibration samples (N by block, refined weights); the presets use none.",
        ],
        "",
        tables,
    )


def _outcome(study: Study, scheme: str) -> Outcome:
    assert study.comparison is not None
    return study.comparison.outcomes[scheme]


def _losses(trained: Trained, name: str) -> list[Row]:
    reference = trained.reference.top1
    if reference is None:
        return []
    rows = []
    for judged in trained.at_presets[name]:
        if judged.top1 is not None and (judged.method.startswith("ours") or judged.method == f"BBS {name}"):
            paper = published.LOSS[name] if judged.method == f"BBS {name}" else None
            rows.append(Row(f"{trained.name}: points lost, {judged.method}", 100 * (reference - judged.top1), paper,
                            bold=judged.method.startswith("ours"),
                            note=f"{judged.bits:.2f} bits, KL {judged.divergence:.1e}"))  # fmt: skip
    return rows


def _accuracy(trained: Trained) -> Table:
    header = ("setting", "method", "bits", "top-1 %", "lost", "KL", "cosine")
    rows: list[tuple[str, ...]] = []
    reference = trained.reference
    for name, found in trained.at_presets.items():
        for judged in (reference, *found):
            share = "–" if judged.top1 is None else f"{100 * judged.top1:.2f}"
            lost = (
                "–" if judged.top1 is None or reference.top1 is None else f"{100 * (reference.top1 - judged.top1):+.2f}"
            )
            bits = "32" if judged is reference else f"{judged.bits:.2f}"
            rows.append((name, judged.method, bits, share, lost, f"{judged.divergence:.4f}", f"{judged.cosine:.5f}"))
    return Table(f"{trained.name}, {trained.samples:,} samples", header, rows)


def tab2(results: Results) -> Section:
    return _effective_bits(results, "tab2", "Table II: effective bits beside 6-bit ANT", published.TABLE_2)


def tab3(results: Results) -> Section:
    return _effective_bits(
        results, "tab3", "Table III: effective bits beside Microscaling and NoisyQuant", published.TABLE_3
    )


def _effective_bits(
    results: Results, key: str, title: str, values: Mapping[tuple[str, str], tuple[float, float]]
) -> Section:
    rows = []
    by_name = {_name(study): study for study in results.paper}
    for (network, name), (_, bits) in values.items():
        if network in by_name:
            study = by_name[network]
            rows.append(Row(f"{network}: bits, BBS {name}", _outcome(study, name).bits, bits, True))
            scheme = next(scheme for scheme, base in OURS.items() if base == name)
            rows.append(Row(f"{network}: bits, {scheme}", _outcome(study, scheme).bits, None, True, True))
    return Section(
        key,
        title,
        rows,
        [
            "Accuracy losses of these networks cannot be measured here (no weights, no ImageNet); see figure 11.",
            "Which channels are sensitive follows from the weight scales; drawn weights have those of He "
            f"initialization with a log-normal spread. {STAND_INS}",
            "Ours has the preset's noise (squared error of the weights over their energy, summed over layers).",
        ],
        "bits per weight",
    )


# -------------------------------------------------------------------------------- figures 12 and 13


def fig12(results: Results) -> Section:
    rows = []
    networks = results.paper
    if networks:
        for scheme in SCHEMES:
            rows.append(
                Row(f"{LABELS[scheme]}: geometric mean", mean(networks, lambda study, s=scheme: _speedup(study, s)),  # type: ignore[misc]
                    published.SPEEDUP.get(scheme), True, scheme in OURS)
            )  # fmt: skip
        for (over, name), paper in published.SPEEDUP_OVER.items():
            value = mean(networks, lambda study, a=over, b=name: _speedup(study, b) / _speedup(study, a))  # type: ignore[misc]
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
        [_matrix("Speed-up over Stripes, DRAM counted", results, lambda study, s: f"{_speedup(study, s):.2f}"),
         _matrix("Without DRAM", results,
                 lambda study, s: f"{_outcome(study, 'stripes').compute / _outcome(study, s).compute:.2f}"),
         _matrix("Bits per weight", results, lambda study, s: f"{_outcome(study, s).bits:.2f}")],
        {"Speed-up over Stripes": draw("fig12", lambda figure: _speedup_bars(figure, results), 3.6)},
    )  # fmt: skip


def _matched(study: Study, design: Design) -> Row:
    """A trained network's speed with a preset, or with ours where it is as accurate."""
    base, judged = _outcome(study, "stripes"), design.judged
    share = "" if judged.top1 is None else f", top-1 {100 * judged.top1:.2f} %"
    note = f"{judged.bits:.2f} bits{share}, KL {judged.divergence:.1e}"
    what = f"{_name(study)}: {judged.method}, without DRAM"
    return Row(what, base.compute / design.outcome.compute, bold=judged.method.startswith("ours"), note=note)


def _speedup(study: Study, scheme: str) -> float:
    assert study.comparison is not None
    return study.comparison.speedup(scheme)


def _variant(study: Study, variant: str) -> float:
    assert study.comparison is not None
    return study.comparison.outcomes["stripes"].cycles / study.comparison.variants[variant]


def _matrix(caption: str, results: Results, value: Callable[[Study, str], str]) -> Table:
    header = ("network", *(LABELS[scheme] for scheme in SCHEMES))
    rows = [
        (_name(study) + ("" if study.source.model else " *"), *(value(study, scheme) for scheme in SCHEMES))
        for study in results.studies
    ]
    return Table(f"{caption} (* drawn weights)", header, rows)


COLORS = dict(
    zip(SCHEMES, (GREY, PINK, "#4a525b", SKY, ORANGE, GREEN, "#7fb8d8", BLUE, "#e8a07a", VERMILION), strict=True)
)


def _speedup_bars(figure: Figure, results: Results) -> None:
    axis = figure.subplots()
    width = 0.86 / len(SCHEMES)
    for number, scheme in enumerate(SCHEMES):
        at = [place + (number - (len(SCHEMES) - 1) / 2) * width for place in range(len(results.studies))]
        axis.bar(at, [_speedup(study, scheme) for study in results.studies], width, color=COLORS[scheme],
                 label=LABELS[scheme])  # fmt: skip
    axis.axhline(1, color="black", linewidth=0.8)
    _networks(figure, results, "speed-up over Stripes")


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
    split = _matrix(
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
    whole = _outcome(study, "sparten").energy.total
    spent = _outcome(study, scheme).energy
    return spent.dram / whole, spent.chip / whole


def _energy(study: Study, scheme: str) -> float:
    return sum(_split(study, scheme))


def _cheaper(study: Study, scheme: str) -> float:
    """Energy with the authors' price of DRAM."""
    spent = _outcome(study, scheme).energy
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
    _networks(figure, results, "energy over SparTen's")


# -------------------------------------------------------------------------------- figures 14 and 15


def fig14(results: Results) -> Section:
    rows = []
    for study in results.studies:
        sweep = study.sweep
        if sweep is None:
            continue
        for name, works in sweep.items():
            for count, work in works.items():
                if name != "stripes" and count in (2, 32):
                    paper = published.BITLET_COLUMNS[count] if (name, _name(study)) == ("bitlet", TWICE) else None
                    rows.append(Row(f"{_name(study)}: {LABELS[name]}, {count} columns",
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
        axis.set_title(_name(study))
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
                table.append((_name(study), LABELS[name], str(count), *(f"{100 * share:.1f}" for share in shares)))
                if count == 32:
                    rows.append(Row(f"{_name(study)}: {LABELS[name]}, useful share, 32 columns", shares[0], None, True))
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


# -------------------------------------------------------------------------------- tables IV and V


SYNTHESIS = (
    "Yosys and a 0.18 um library, without layout and drive strengths; the paper has Design Compiler and 28 nm. Ratios "
    "compare, areas do not. Schedulers and encoders, which all PEs of a column share, are in none of the PEs."
)


def tab4(results: Results) -> Section:
    rows = []
    for size, by_kind in published.PE_VARIANTS.items():
        for (paper, _), kind in zip(by_kind, ("plain", "optimized"), strict=True):
            if results.areas:
                over = ratios(results.areas, f"bitvert_{size}_{kind}").alone_8
                rows.append(Row(f"sub-group {size}, {kind}: over Stripes", over, paper / published.PE_AREA["stripes"]))
    return Section(
        "tab4",
        "Table IV: area of the BitVert PE by sub-group size, without and with the optimizations",
        rows,
        [
            SYNTHESIS,
            "Over the dense PE with 8 lanes, the paper's over its Stripes PE of table V. Power is not measured.",
            "Here a sub-group of 4 is no larger than one of 8; in the paper 8 is the smallest.",
        ],
        "×",
    )


def tab5(results: Results) -> Section:
    rows: list[Row] = []
    areas, networks = results.areas, results.paper
    if areas:
        paper = published.PE_AREA
        for name in paper:
            element = "stripes_8" if name == "stripes" else name
            over = ratios(areas, element)
            listed = paper[name] / paper["stripes"]
            for lanes, value in ((8, over.alone_8), (16, over.alone_16)):
                rows.append(Row(f"{LABELS.get(name, 'BitVert')}: area over {lanes} dense lanes", value, listed))
        for what, share in shared(areas).items():
            rows.append(Row(f"{what} of a 16 x 32 array, share of a PE", share))
        if networks:
            rows += _per_area(results)
    return Section(
        "tab5",
        "Table V: area of the PEs, and what the speed-ups are per area",
        rows,
        [
            SYNTHESIS,
            "The paper's table has a dense PE of 8 multipliers, and its speed-ups count 8; against which width its own "
            "PE is 1.39 times as large is not clear from its published RTL, so both are given. Per area over 16 lanes: "
            "twice as many dense multipliers, and their area.",
            "Bitlet's eight 64:1 multiplexers make it 6 times as large here: the library has no cell for them. Its "
            "activations, 512 bits a row, are in the shared registers.",
            "Per area: figure 12's mean over the PE's area; the paper's column is its speed-up over its area ratio.",
        ],
        "×",
    )


def _per_area(results: Results) -> list[Row]:
    rows = []
    paper = published.PE_AREA
    for scheme in ("pragmatic", "bitlet", "bitwave", *PRESETS, *OURS):
        name = scheme if scheme in paper else "bitvert"
        over = ratios(results.areas, name)
        speed = mean(results.paper, lambda study, s=scheme: _speedup(study, s))  # type: ignore[misc]
        known = published.SPEEDUP.get(scheme)
        listed = None if known is None else known * paper["stripes"] / paper[name]
        for lanes, value in ((8, speed / over.alone_8), (16, speed / 2 / over.alone_16)):
            what = f"{LABELS[scheme]}: speed-up per area, {lanes} dense lanes"
            rows.append(Row(what, value, listed if lanes == 8 else None, True, scheme in OURS))
    return rows


# -------------------------------------------------------------------------------- figures 16 and 17


def fig16(results: Results) -> Section:
    rows, tables, figures = [], [], {}
    for study in results.given:
        trained = study.trained
        if trained is None or not trained.designs:
            continue
        front = pareto(trained.designs, lambda design: design.judged.divergence)
        base = next(design.outcome.edp for design in trained.designs if design.kind == "stripes")
        tables.append(_pareto(trained, front, base))
        of_ours = sum(design.kind.startswith("ours") for design in front)
        rows.append(Row(f"{trained.name}: designs on the front", len(front)))
        rows.append(Row(f"{trained.name}: of them ours", of_ours, bold=True))
        paint = _scatter(trained.designs, front, base)
        figures[f"{trained.name}: divergence against energy x delay"] = draw(f"fig16 {trained.name}", paint, 3.4)
    return Section(
        "fig16",
        "Figure 16: accuracy against energy x delay",
        rows,
        [
            "The paper has ResNet-50 on ImageNet; here the networks given. The loss is the divergence of the answers "
            "from the network's own, which is finer than top-1 on small test sets; top-1 stands beside it.",
            "BBS: zero-point shifting for every N and β; ours: budgets of bits and of cycles. Energy and delay as in "
            "figures 12 and 13, DRAM counted.",
        ],
        "",
        tables,
        figures,
    )


def _pareto(trained: Trained, front: Sequence[Design], base: float) -> Table:
    reference = trained.reference.top1
    rows = []
    for design in front:
        judged = design.judged
        lost = "–" if judged.top1 is None or reference is None else f"{100 * (reference - judged.top1):+.2f}"
        rows.append((design.kind, judged.method, f"{judged.bits:.2f}", f"{design.outcome.edp / base:.3f}",
                     f"{judged.divergence:.5f}", lost))  # fmt: skip
    header = ("kind", "design", "bits", "energy x delay over Stripes'", "KL", "points lost")
    return Table(f"{trained.name}: designs that no other beats in both", header, rows)


def _scatter(designs: Sequence[Design], front: Sequence[Design], base: float) -> Callable[[Figure], None]:
    looks = {"BBS, N and β": (SKY, "o"), "ours": (VERMILION, "D"), "stripes": (GREY, "s"),
             "pragmatic": (PINK, "v"), "bitlet": (ORANGE, "^"), "bitwave": (GREEN, "P")}  # fmt: skip

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        for kind, (color, marker) in looks.items():
            chosen = [design for design in designs if design.kind == kind]
            axis.plot([design.outcome.edp / base for design in chosen],
                      [max(design.judged.divergence, 1e-7) for design in chosen], marker, color=color,
                      label=LABELS.get(kind, kind))  # fmt: skip
        axis.step([design.outcome.edp / base for design in front],
                  [max(design.judged.divergence, 1e-7) for design in front], where="post", color="black",
                  linewidth=0.8, label="front")  # fmt: skip
        axis.set(xlabel="energy x delay over Stripes'", ylabel="divergence (KL)", yscale="log")
        axis.grid(alpha=0.35)
        figure.legend(loc="outside right upper", frameon=False)

    return paint


def fig17(results: Results) -> Section:
    found = results.fidelities
    rows = [Row(f"{item.method}: cosine of the outputs", item.cosine, None, True, item.method.startswith("ours"),
                f"{item.bits:.2f} bits, {item.sqnr:.1f} dB") for item in found]  # fmt: skip
    for study in results.given:
        if study.trained is not None:
            for name in PRESETS:
                for judged in study.trained.at_presets[name]:
                    if judged.method.startswith("BBS") or judged.method == "ours, no more bits":
                        rows.append(Row(f"{_name(study)}: {judged.method} ({name}), cosine of the answers",
                                        judged.cosine, bold=judged.method.startswith("ours"),
                                        note=f"{judged.bits:.2f} bits"))  # fmt: skip
    return Section(
        "fig17",
        "Figure 17: language-model weights",
        rows,
        [
            "The paper has perplexities of Llama-3-8B, whose weights are not here: a block of its shapes with drawn "
            "weights stands in, 32 channels of each matrix, and the figure is how like its outputs stay. Gaussian "
            "weights have no outliers, Olive's strength.",
            "Networks given (--network) are judged by their own answers, encoders and decoders alike.",
        ],
        "cosine",
    )


def tab6(results: Results) -> Section:
    del results
    return Section(
        "tab6",
        "Table VI: BitVert and Olive PEs",
        [Row("products a cycle of a BitVert PE at N = 4", 16 / 4, published.OLIVE_PERFORMANCE)],
        [
            "The Olive PE takes one product a cycle. Its area is not measured here (no RTL of it), so that performance "
            "per area is left out."
        ],
        "×",
    )


# -------------------------------------------------------------------------------- the RTL


def rtl(results: Results) -> Section:
    agreeing = sum(check.agrees for check in results.checks)
    rows = [Row("layers on BitVert and dense PEs that were co-simulated", len(results.checks)),
            Row("of them equal to the model, to the cycle and bit", agreeing)]  # fmt: skip
    table = [
        (check.network, check.layer, check.pe, f"{check.model:,}", f"{check.overhead:,}", f"{check.rtl:,}",
         "equal" if check.agrees else "differs")
        for check in results.checks
    ]  # fmt: skip
    return Section(
        "rtl",
        "The models against the RTL",
        rows,
        [
            "Model: cycles in which bit columns are computed, as figures 12 to 16 count them. Overhead: loading, "
            "filling and draining by flow/scheduling/cycles.py. RTL: Verilog under Verilator, 16 x 32 PEs, outputs "
            "compared with the integer reference.",
            "Of each network the three quickest layers of different shapes that take at most 140,000 cycles on dense "
            "PEs.",
        ],
        "",
        [Table("Cycles", ("network", "layer", "PE", "model", "overhead", "RTL", ""), table)] if table else [],
    )


SECTIONS: dict[str, Callable[[Results], Section]] = {
    "fig3": fig3, "fig6": fig6, "fig11": fig11, "tab2": tab2, "tab3": tab3, "fig12": fig12, "fig13": fig13,
    "fig14": fig14, "fig15": fig15, "tab4": tab4, "tab5": tab5, "fig16": fig16, "fig17": fig17, "tab6": tab6,
    "rtl": rtl,
}  # fmt: skip
