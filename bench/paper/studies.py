"""What is measured, network by network, in two processes; `sections` puts it beside the paper's numbers."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from bench import area
from bench.area import IN_ARRAYS, Measured
from bench.paper import comparison, language, rtl, statistics, succession, trained
from bench.paper.comparison import Comparison
from bench.paper.kept import Kept
from bench.paper.language import Fidelity
from bench.paper.rtl import Checked
from bench.paper.statistics import Sparsity, Sweep
from bench.paper.succession import Succession
from bench.paper.trained import Trained
from bench.paper.workloads import Source, load
from flow.errors import FlowError
from flow.hardware.competitors.catalogue import ELEMENTS, OPERANDS, PRAGMATIC, SCHEDULER, TRANSITIVE, VARIANTS, stripes
from flow.simulation.engines import Engine

DIVERGENCES = ("ResNet-34", "ViT-Base")  # of figure 6
SWEEPS = ("ResNet-50", "BERT-base")  # of figures 14 and 15
AREAS = {"tab4", "tab5", "successors"}  # what asks for areas of PEs
WORKERS = 2

Divergences = dict[int, dict[int, dict[str, float]]]


@dataclass(frozen=True)
class Study:
    """One network; what no section asked for is None."""

    source: Source
    comparison: Comparison | None = None
    sparsity: Sparsity | None = None
    divergences: Divergences | None = None
    sweep: Sweep | None = None
    trained: Trained | None = None
    succession: Succession | None = None


@dataclass
class Results:
    """All that was measured: networks in the order given, RTL checks, the decoder block, synthesised PEs."""

    studies: list[Study] = field(default_factory=list)
    checks: list[Checked] = field(default_factory=list)
    fidelities: list[Fidelity] = field(default_factory=list)
    areas: dict[str, Measured] = field(default_factory=dict)

    @property
    def paper(self) -> list[Study]:
        """The paper's networks."""
        return [study for study in self.studies if study.source.model is None]

    @property
    def given(self) -> list[Study]:
        """Those of ONNX files."""
        return [study for study in self.studies if study.source.model is not None]


def study(given: Source, wanted: Collection[str]) -> Study:
    """Everything the sections `wanted` ask of one network."""
    workload = load(given)
    table = given.model is None
    needs = set(wanted)
    return Study(
        given,
        comparison.compare(workload) if needs & {"fig11", "tab2", "tab3", "fig12", "fig13", "tab5"} else None,
        statistics.sparsity(workload) if "fig3" in needs else None,
        statistics.divergences(workload) if "fig6" in needs and (not table or given.name in DIVERGENCES) else None,
        statistics.columns_sweep(workload) if needs & {"fig14", "fig15"} and given.name in SWEEPS else None,
        trained.study(given, "fig16" in needs)
        if given.trained and needs & {"fig11", "tab2", "tab3", "fig12", "fig16", "fig17"}
        else None,
        succession.study(workload) if "successors" in needs else None,
    )


def _areas(wanted: Collection[str], liberty: Path | None) -> dict[str, Measured]:
    """The PEs that the sections ask for; the successors' cycles stand without areas, where a tool is missing."""
    tables = set(wanted) & {"tab4", "tab5"}
    blocks = [*ELEMENTS, *VARIANTS, SCHEDULER, OPERANDS] if tables else []
    if "successors" in wanted:
        blocks += [
            each
            for each in (*IN_ARRAYS, TRANSITIVE, PRAGMATIC, stripes(8))
            if each.name not in {b.name for b in blocks}
        ]
    try:
        return area.measure(blocks, liberty)
    except FlowError:
        if tables:
            raise
        return {}


def _studies(
    sources: Sequence[Source], wanted: Collection[str], advance: Callable[[str], None], kept: Kept
) -> list[Study]:
    """Every network's, those kept first; networks given are measured before the paper's, which are large."""
    places = {source.name: kept.place(source.name, wanted, source.files()) for source in sources}
    done: dict[str, Study] = {}

    def found(name: str, result: Study) -> None:
        done[name] = result
        advance(name)

    for name, place in places.items():
        if (before := kept.get(place, Study)) is not None:
            found(name, before)
    rest = sorted((source for source in sources if source.name not in done), key=lambda source: source.model is None)
    if rest:
        context = multiprocessing.get_context("spawn")  # compiled kernels do not survive a fork
        with ProcessPoolExecutor(min(WORKERS, os.cpu_count() or 1), context) as pool:
            pending = {pool.submit(study, source, wanted): source.name for source in rest}
            try:
                for future in as_completed(pending):
                    name = pending[future]
                    kept.put(places[name], future.result())
                    found(name, future.result())
            finally:
                pool.shutdown(cancel_futures=True)  # what has not begun when the run is stopped
    return [done[source.name] for source in sources]


def run(
    sources: Sequence[Source],
    wanted: Collection[str],
    engine: Engine | None,
    advance: Callable[[str], None],
    kept: Kept,
    liberty: Path | None = None,
) -> Results:
    """Measure; `advance` gets the name of each network that is done. `engine` co-simulates for the section "rtl".

    Networks and areas are taken from what is `kept`, and are kept as they come. `liberty` maps the PEs of tables IV
    and V; FlowError if Yosys or the library is missing.
    """
    results = Results()
    if set(wanted) - {"rtl", "tab4", "tab6"}:
        results.studies = _studies(sources, wanted, advance, kept)
    if AREAS & set(wanted):
        place = kept.place("PEs", AREAS & set(wanted), [liberty] if liberty else [])
        results.areas = kept.get(place, dict) or _areas(wanted, liberty)
        if results.areas:
            kept.put(place, results.areas)
        advance("PEs")
    if "fig17" in wanted:
        results.fidelities = language.block()
        advance("a decoder block")
    if "rtl" in wanted and engine is not None:
        results.checks = rtl.check([load(source) for source in sources], engine)
        advance("RTL")
    return results
