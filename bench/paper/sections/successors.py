"""What came after BitVert, on the same work: one table of claims, cycles, areas and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.area import COLUMNS, ROWS, Measured, arrays
from bench.paper import published
from bench.paper.sections.section import STAND_INS, Row, Section, Table, mean, name_of
from bench.paper.studies import Results, Study
from bench.paper.succession import NAMES, PER_CYCLE, Succession
from bench.paper.transitive import ADDERS
from flow.hardware.competitors.catalogue import ACCUMULATOR_BITS, OCTET_REGISTER, OURS, PLAINS, PRAGMATIC, TRANSITIVE

DENSE = "stripes_8"
LEAN = ("transitive", "transitive columns", "transitive 4")  # whose results may be in memories
COMPARED = (  # one machine over another: speed-up, and where both areas are known also per area
    ("transitive", "bitvert"),
    ("transitive 4", "bitvert pruned"),
    ("transitive columns", "bitvert pruned"),
    ("transitive columns", "transitive"),
    ("transitive", "pairs 2"),
    ("transitive columns", "pairs 2 pruned"),
    ("transitive", "pairs 4"),
    ("transitive", "plain"),
    ("bitmod 4", "bitvert pruned"),
    ("bitmod 4", "pairs 2 pruned"),
    ("mcbp", "bitvert"),
    ("sparsecol", "bitvert"),
)
CLAIMED = {("transitive", "bitvert"): ("Transitive Array", "BitVert"),
           ("transitive 4", "bitvert pruned"): ("Transitive Array", "BitVert")}  # fmt: skip


def of(study: Study) -> Succession:
    assert study.succession is not None
    return study.succession


def over(study: Study, name: str, other: str) -> float:
    """Speed-up of one machine over another, DRAM left out."""
    return of(study).compute(name) / of(study).compute(other)


def over_with_dram(study: Study, name: str, other: str) -> float:
    return of(study).speedup(name) / of(study).speedup(other)


def areas(blocks: Mapping[str, Measured]) -> dict[str, float]:
    """Of every machine whose element is synthesised, by its line; empty if nothing was.

    Ours with what rows and columns of a 16 x 32 array share. Of Transitive Array the lanes alone: without tables of
    sums, buffers of results, networks and the scoreboard; `LEAN` without the registers of its results, too. Of BitMoD
    Pragmatic's element, which makes its products, without decoders and scales.
    """
    if TRANSITIVE.name not in blocks:
        return {}
    elements = ROWS * COLUMNS
    shared = {name: elements * area for name, (area, _) in arrays(dict(blocks), ROWS, COLUMNS).items()}
    found = {"dense": elements * blocks[DENSE].alone.area, "plain": shared[PLAINS[-1].name]}
    lanes = ADDERS * blocks[TRANSITIVE.name].alone.area
    found |= dict.fromkeys(("transitive", "static", "transitive 4", "transitive columns", "transitive values"), lanes)
    found |= dict.fromkeys(("bitmod 4", "bitmod 3"), elements * blocks[PRAGMATIC.name].alone.area)
    ours = {"bitvert": OURS.name} | {f"pairs {each}": f"pairs_{each}" for each in PER_CYCLE}
    for name, element in ours.items():
        found |= {name: shared[element], f"{name} pruned": shared[element]}
    return found


def successors(results: Results) -> Section:
    networks = [study for study in results.paper if study.succession is not None]
    given = [study for study in results.given if study.succession is not None]
    rows = _rows(networks, areas(results.areas)) if networks else []
    for study in given:
        rows += [Row(f"{name_of(study)}: {NAMES['panacea']} over {NAMES['dense']}", of(study).compute("panacea"))]
    every = [*networks, *given]
    tables = [_claims(networks)] if networks else []
    if every:
        tables += [
            _lines("Speed-up over dense, without DRAM", every, lambda found, name: f"{found.compute(name):.2f}"),
            _lines("Speed-up over dense, DRAM counted", every, lambda found, name: f"{found.speedup(name):.2f}"),
            _lines("Bits per weight", every, lambda found, name: f"{found.lines[name].bits:.2f}"),
            _noise(every),
        ]
    if networks and results.areas:
        registers = 2 * ACCUMULATOR_BITS // 8 * results.areas[OCTET_REGISTER.name].alone.area
        tables.append(_per_area(networks, areas(results.areas), registers))
    return Section(
        "successors",
        "After BitVert: Transitive Array, BitMoD, Panacea, MCBP, SparseCol",
        rows,
        [
            "Of Transitive Array, MCBP, Panacea and SparseCol the abstracts were at hand and what is known of the "
            "methods, of BitMoD also the authors' simulator and data types; what is assumed is in "
            "bench/paper/transitive.py and bench/paper/successors.py. SparseCol's cycles are BitWave's: 32 channels in "
            "lock-step, each step as long as the channel with most columns.",
            "As many adders as multipliers: 4,096 lanes of Transitive Array, one prefix addition and one accumulation "
            "a cycle each, against 4,096 bit-serial multipliers. Equal area: its lanes are synthesised, with the "
            "accumulator and the drain port of all others, but not its tables of sums (256 of each window and unit), "
            "networks, scoreboard and buffers of results; ours have all that rows and columns share. BitMoD has the "
            "area of Pragmatic's element, which makes its products.",
            "BitVert and pairs: 16 x 32 elements. Pruned: the moderate preset; Transitive Array takes its stored "
            "columns as rows (a smaller tree for each N, and additions for the constants), or the decoded weights.",
            "BitMoD's activations are 8-bit integers here and float16 in its paper, whose speed-ups are of language "
            "models' tokens, bound by DRAM; Olive and the A100 are not modelled.",
            "BitParticle and FlexiBit are left out: what the first packs into a cycle is not known here, and the "
            "second gains by floating-point formats, for 8-bit integers it is a dense array.",
            "Panacea needs activations and is measured on the networks given.",
            STAND_INS,
        ],
        "×",
        tables,
    )


def _rows(networks: list[Study], known: Mapping[str, float]) -> list[Row]:
    rows = []
    for name, other in COMPARED:
        value = mean(networks, lambda study, a=name, b=other: over(study, a, b))  # type: ignore[misc]
        what = f"{NAMES[name]} over {NAMES[other]}"
        claim = CLAIMED.get((name, other))
        rows.append(Row(what, value, published.SUCCESSORS[claim] if claim else None, True))
        if name in known and other in known:
            rows.append(Row(f"{what}, at equal area", value * known[other] / known[name], None, True, True))
    for name, other in (("bitmod 4", "ant"), ("bitmod 3", "ant"), ("bitmod 4", "bitvert pruned")):
        value = mean(networks, lambda study, a=name, b=other: over_with_dram(study, a, b))  # type: ignore[misc]
        claimed = published.SUCCESSORS["BitMoD", "ANT"] if other == "ant" else None
        rows.append(Row(f"{NAMES[name]} over {NAMES[other]}, DRAM counted", value, claimed, True))
    for name in ("transitive", "static", "transitive columns"):
        value = mean(networks, lambda study, a=name: of(study).density[a])  # type: ignore[misc]
        rows.append(Row(f"{NAMES[name]}: additions over bits of its rows", value, None, True))
    return rows


def _claims(networks: list[Study]) -> Table:
    """Claim, what we measure, why it differs."""

    def measured(*pairs: tuple[str, str], how: Callable[[Study, str, str], float] = over) -> str:
        return "; ".join(
            f"{NAMES[a]} over {NAMES[b]}: {mean(networks, lambda study, a=a, b=b: how(study, a, b)):.2f}"  # type: ignore[misc]
            for a, b in pairs
        )

    claim = {pair: f"{value:.2f}" for pair, value in published.SUCCESSORS.items()}
    rows = [
        ("Transitive Array", f"{claim['Transitive Array', 'BitVert']} ({claim['Transitive Array', 'Olive']}), LLaMA",
         "BitVert (Olive)",
         measured(("transitive", "bitvert"), ("transitive columns", "bitvert pruned"),
                  ("transitive 4", "bitvert pruned")),
         "what is made equal: adders here, but its lane has an accumulator for one sum, a BitVert element one for 16 "
         "weights; fewer bits on one side only; lanes that wait for the slowest"),
        ("BitMoD", f"{claim['BitMoD', 'ANT']} ({claim['BitMoD', 'Olive']}), six language models", "ANT (Olive)",
         measured(("bitmod 4", "ant"), ("bitmod 3", "ant"), ("bitmod 4", "bitvert pruned"),
                  how=over_with_dram),
         "float16 activations and one token at a time, so that DRAM decides; ANT has 6 bits here"),
        ("MCBP", f"{claim['MCBP', 'A100']}, 26 language benchmarks", "A100",
         measured(("mcbp", "bitvert"), ("mcbp", "transitive")),
         "the claim is over a GPU, with fewer reads of keys and values in it; merging columns of four rows saves less "
         "than reuse among 256"),
        ("SparseCol", "6.8 in energy efficiency", "sparse processors", measured(("sparsecol", "bitvert")),
         "silicon; of 32 channels in lock-step one has all seven columns of its eight weights in use"),
        ("Panacea", "no number in its abstract", "bit-slice accelerators", "below, networks given",
         "needs activations"),
    ]  # fmt: skip
    header = ("machine", "claim", "over", "measured, drawn weights", "why it differs")
    return Table("Claims and the same work", header, rows, prose=True)


def _lines(caption: str, studies: list[Study], value: Callable[[Succession, str], str]) -> Table:
    header = ("machine", *(name_of(study) + ("" if study.source.model else " *") for study in studies))
    rows = [
        (label, *(value(of(study), name) if name in of(study).lines else "–" for study in studies))
        for name, label in NAMES.items()
    ]
    return Table(f"{caption} (* drawn weights)", header, rows)


def _noise(studies: list[Study]) -> Table:
    methods = of(studies[0]).noise
    header = ("weights", "bits", *map(name_of, studies))
    rows = [
        (method, f"{bits:.2f}", *(f"{of(study).noise[method][1]:.1f}" for study in studies))
        for method, (bits, _) in methods.items()
    ]
    return Table("Signal to noise of the weights, all channels alike, dB", header, rows)


def _per_area(networks: list[Study], known: Mapping[str, float], registers: float) -> Table:
    """`registers`: area of an accumulator's and a result's register."""
    base = known["bitvert"]
    rows = []
    for name, area in known.items():
        speed = mean(networks, lambda study, a=name: over(study, a, "bitvert"))  # type: ignore[misc]
        rows.append((NAMES[name], f"{area / base:.2f}", f"{speed:.2f}", f"{speed * base / area:.2f}"))
        if name in LEAN:
            smaller = area - ADDERS * registers
            label = f"{NAMES[name]}, without registers of results"
            rows.append((label, f"{smaller / base:.2f}", f"{speed:.2f}", f"{speed * base / smaller:.2f}"))
    header = ("machine", "area over BitVert's", "speed-up over BitVert, N = 0", "at equal area")
    return Table("At equal area, Transitive Array's lanes alone, drawn weights", header, rows)
