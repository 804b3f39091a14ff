"""A compressed network becomes descriptors and memory images.

blocks.py    the schedule of a layer: channel blocks, and what of memory each one takes
words.py     packs descriptors, weights, parameters, activations and outputs into memory words
schedule.py  schedule: an encoded network becomes descriptors, memory images and the order in which the array works
cycles.py    the cycle model and the memory traffic: what a layer takes on the array, from its channel blocks alone
pieces.py    layers in pieces, each a run of its own with memories of its own
onchip/      whole networks on chip: from the input's codes to the last layer's sums by one start
"""
