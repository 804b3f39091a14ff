"""How many bit columns are pruned from each channel, and the pruned network.

encoding.py     how pruned weights are stored: groups of 32 with N bit columns removed, one metadata byte each
allocate.py     which channels are pruned, and by how many bit columns (BBS paper, algorithm 2)
kernels.py      compiled loops of prune.py and refine.py, faster, with the same results; they need the extra `fast`
prune.py        binary pruning of int8 groups: three ways to choose r and d (BBS paper, section III-B)
effort.py       how long tuning tries: what it may spend on samples, windows and variants
calibration.py  calibration: the inputs of an INT8 network's layers on the user's samples, layer after layer
refine.py       refinement without retraining: weights, scales and biases of a pruned layer, fitted to its inputs
influence.py    the influence of layers: how far a change of one layer alone moves the network's answers
budget.py       a budget for the whole network, of bits or cycles, shared out among its blocks of channels
tune.py         budgeted compression with calibration data: sensitivity of the layers, budget, refinement
choice.py       the user's choice of how much to prune: the paper's rule, or a budget of bits or of time
compress.py     compression: allocation, pruning and encoding of every layer; the pruned INT8 network
"""
