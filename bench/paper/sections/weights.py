"""What the weights alone say: figures 3 and 6."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.paper.sections.section import STAND_INS, Row, Section, name_of, networks_axis
from bench.paper.studies import Results
from flow.output.report.style import BLUE, GREY, ORANGE, SKY, draw

METHODS = {
    "bit-flip": "bit-flip (BitWave)",
    "rounded-averaging": "rounded averaging",
    "zero-point-shifting": "zero-point shifting",
    "optimal": "ours (exact optimum)",
}


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
            rows.append(Row(f"{name_of(study)}: {what}", value, stand_in=drawn))
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
    networks_axis(figure, results, "share that can be skipped")


def fig6(results: Results) -> Section:
    rows = []
    for study in results.studies:
        for columns, by_width in (study.divergences or {}).items():
            for width, found in by_width.items():
                bins = "values" if width == 1 else f"bins of {width}"
                for method, value in found.items():
                    share = value / max(found["bit-flip"], 1e-30)
                    what = f"{name_of(study)}, N {columns}, {bins}: {METHODS[method]}"
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
