"""How many bit columns each channel gives up, and the pruned network that comes of it.

encoding.py     how pruned weights are stored: groups of 32 with N bit columns removed, one metadata byte each
allocate.py     which channels are pruned, and by how many bit columns (BBS paper, algorithm 2)
kernels.py      the search over (r, d) of prune.py compiled, with the extra `fast`
prune.py        binary pruning of int8 groups: three ways to choose r and d (BBS paper, section III-B)
calibration.py  calibration: what the layers of an INT8 network see on the user's samples, layer after layer
refine.py       refinement without retraining: weights, scales and biases of a pruned layer that its inputs ask for
budget.py       A bit budget for the whole network: which block of channels gives up how many bit columns
tune.py         budgets with calibration data: where a network can spare bits, and layers refined to spare them
choice.py       the user's choice of how much to prune: the paper's rule, or a budget of bits
compress.py     compression: which channels are pruned, how, and the pruned INT8 network that comes out
"""
