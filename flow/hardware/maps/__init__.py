"""Feature maps on chip: the memory they lie in, the unit that reads windows from it, the one that writes to it.

bundles.py   jobs, places in a map, and what passes to and from the banks
walker.py    where the windows of a tile are
arbiter.py   which of them may use a bank at the same time
banks.py     the memory
fetch.py     windows out of it, as operands of the array
collect.py   channels of finished tiles, on their way into it
store.py     results into it
post.py      sums and maxima of windows: residual additions and pooling
root.py      square roots and quotients of the normalizer, two bits in a cycle
normalizer.py Softmax and LayerNormalization over the channels of a position
tables.py    element-wise functions of its results
operands.py  maps as weights of the array, for products of two of them
"""
