"""Bits and accuracy: figures 11, 16 and 17, tables II and III."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.figure import Figure

from bench.paper import published
from bench.paper.comparison import OURS
from bench.paper.sections.section import LABELS, STAND_INS, Row, Section, Table, mean, name_of, outcome_of
from bench.paper.studies import Results
from bench.paper.trained import Design, Trained, pareto
from flow.compression.allocate import PRESETS
from flow.output.report.style import GREEN, GREY, ORANGE, PINK, SKY, VERMILION, draw


def fig11(results: Results) -> Section:
    rows, tables = [], []
    networks = results.paper
    for name in PRESETS:
        if networks:
            size = mean(networks, lambda study, name=name: 8 / outcome_of(study, name).bits)  # type: ignore[misc]
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
    by_name = {name_of(study): study for study in results.paper}
    for (network, name), (_, bits) in values.items():
        if network in by_name:
            study = by_name[network]
            rows.append(Row(f"{network}: bits, BBS {name}", outcome_of(study, name).bits, bits, True))
            scheme = next(scheme for scheme, base in OURS.items() if base == name)
            rows.append(Row(f"{network}: bits, {scheme}", outcome_of(study, scheme).bits, None, True, True))
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
                        rows.append(Row(f"{name_of(study)}: {judged.method} ({name}), cosine of the answers",
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
