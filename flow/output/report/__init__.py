"""report.json, report.html and its figures.

environment.py  the environment of a run: versions of packages, the engine, the processor
layers.py       the report on one layer: the effect of pruning, and the run in RTL
summary.py      the figures of the whole network
style.py        colours, sizes and the style of all figures
graph.py        the network as a graph of layers and host segments, drawn from left to right
plot.py         curves over bits per weight: accuracy, divergence from the network's own answers, weight error
figures.py      the figures of report.html, each an SVG to put into the page: the same report gives the same bytes
page.py         HTML pages from Jinja templates
report.py       the report: one dataclass per level, written as report.json and report.html, printed as a table
"""
