"""Processing elements of other bit-serial accelerators, and variants of BitVert's, to compare with ours.

All but `plain_pe` and `transitive_pe` have eight bit-serial multipliers (`stripes_pe` also sixteen). All have
unsigned 8-bit activations, two stages and the accumulator and drain port of `flow.hardware.elements.accumulator`. What
chooses the bits, the part that all PEs of a column share (scheduler, distiller, encoder), is not in them.

lanes.py      multiplexers, gates and adder trees
stripes.py    dense: Judd et al., MICRO 2016
pragmatic.py  essential bits of each weight: Albericio et al., MICRO 2017
bitlet.py     essential bits of each significance: Lu et al., MICRO 2021
bitwave.py    non-zero columns in sign and magnitude: Shi et al., HPCA 2024
bitvert.py    sub-groups of 4, 8 and 16, with and without the paper's circuit optimizations
transitive.py  a lane for one window, sums of bit rows reused: Guo et al., ISCA 2025
plain.py      plain INT8: a dot product of 1, 2, 4 or 8 whole weights a cycle
catalogue.py  all of them by name, with the ports that simulation and synthesis need
"""
