"""report.json, report.html and its figures.

environment.py  the environment of a run: versions of packages, the engine, the processor
layers.py       the report on one layer: the effect of pruning, and the run in RTL
summary.py      the figures of the whole network
style.py        colours, sizes and the style of the figures that Matplotlib draws
marks.py        marks of the pages' own figures: SVG in the page's colours, axes, points that lead to their row
graph.py        the network as a graph of layers and host segments, drawn from top to bottom
plot.py         curves over bits per weight: accuracy, divergence from the network's own answers, weight error
figures.py      the figures of report.html, in HTML and SVG of the page's own colours
tables.py       the tables of report.html as data: heads, and rows whose cells have a text and a value to sort by
page.py         HTML pages from Jinja templates: one file each, which needs no other and no network
report.py       the report: one dataclass per level, written as report.json and report.html, printed as a table
"""
