"""Processing elements: what multiplies and adds.

bundles.py         what rows and columns of the array give to their elements, and how sums leave these
scheduler.py       bit column scheduler (paper fig. 8): which of eight activations the four multiplexers take
accumulator.py     the accumulator of a processing element: a term aligned to its bit column and added
pe.py              the BitVert processing element (paper IV-B, fig. 7): sixteen weights' bit column a cycle
dense_pe.py        the dense bit-serial processing element (Stripes): eight weights a cycle, one bit column of each
parallel_pe.py     the bit-parallel processing element: one INT8 multiplier, a whole weight a cycle
pair_tables.py     a row's tables of activation pairs, and a column's choices from them
pairs_pe.py        the pairs element: sixteen weights, one, two or four bit columns of each a cycle
activation_sum.py  row operand registers and the sums of activations (the ΣA generator, paper fig. 7)
"""
