"""Every table and figure: our value, the paper's, their ratio, and what differs.

section.py     what a section is made of
weights.py     sparsity and divergence of the weights: figures 3 and 6
accuracy.py    bits and accuracy: figures 11, 16 and 17, tables II and III
speed.py       speed: figures 12, 14 and 15
energy.py      energy: figure 13
elements.py    areas of the processing elements, and the models against the RTL: tables IV to VI
successors.py  what came after BitVert
"""

from __future__ import annotations

from collections.abc import Callable

from bench.paper.sections.accuracy import fig11, fig16, fig17, tab2, tab3
from bench.paper.sections.elements import rtl, tab4, tab5, tab6
from bench.paper.sections.energy import fig13
from bench.paper.sections.section import Section
from bench.paper.sections.speed import fig12, fig14, fig15
from bench.paper.sections.successors import successors
from bench.paper.sections.weights import fig3, fig6
from bench.paper.studies import Results

SECTIONS: dict[str, Callable[[Results], Section]] = {
    "fig3": fig3, "fig6": fig6, "fig11": fig11, "tab2": tab2, "tab3": tab3, "fig12": fig12, "fig13": fig13,
    "fig14": fig14, "fig15": fig15, "tab4": tab4, "tab5": tab5, "fig16": fig16, "fig17": fig17, "tab6": tab6,
    "successors": successors, "rtl": rtl,
}  # fmt: skip
