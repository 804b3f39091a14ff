"""Every table and figure of the BBS paper, measured again: `python -m bench.paper`.

In the order data takes:

    published.py     what the paper reports, each number with its place
    workloads.py     networks as array layers: six layer tables with stand-in weights, and ONNX files
    pruned.py        what is pruned: the paper's presets, and ours at the same weight error
    accelerators.py  compute cycles of the bit-serial, value-sparse and 6-bit machines on one layer description
    transitive.py    the same of Transitive Array, whose tiles reuse sums
    successors.py    the same of BitMoD, Panacea, MCBP and SparseCol
    memory.py        bytes over DRAM, cycles bound by it
    energy.py        constants with their sources, energy of a network
    succession.py    one network on the successors, and on BitVert and pairs elements beside them
    sections/        one function for each table or figure: our value, the paper's, what differs
    trained.py       the sections that need trained networks and data
    kept.py          results kept as they come, for a run that was stopped
    page.py          the sections as one HTML page and as JSON
"""
