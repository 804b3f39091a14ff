"""Processing elements: tables IV, V and VI, and the models held against the RTL."""

from __future__ import annotations

from bench.area import ratios, shared
from bench.paper import published
from bench.paper.comparison import OURS
from bench.paper.sections.section import LABELS, Row, Section, Table, mean, speedup
from bench.paper.studies import Results
from flow.compression.allocate import PRESETS

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
        speed = mean(results.paper, lambda study, s=scheme: speedup(study, s))  # type: ignore[misc]
        known = published.SPEEDUP.get(scheme)
        listed = None if known is None else known * paper["stripes"] / paper[name]
        for lanes, value in ((8, speed / over.alone_8), (16, speed / 2 / over.alone_16)):
            what = f"{LABELS[scheme]}: speed-up per area, {lanes} dense lanes"
            rows.append(Row(what, value, listed if lanes == 8 else None, True, scheme in OURS))
    return rows


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
