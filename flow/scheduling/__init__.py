"""A compressed network becomes descriptors and memory images.

blocks.py    the schedule of a layer: its channel blocks and the memory words they need
words.py     packs descriptors, weights, parameters, activations and outputs into memory words
traffic.py   memory traffic of a layer by itself, from its channel blocks alone
order.py     the order of work in a layer by itself: which tiles a block computes, and whether their windows are held
schedule.py  schedule: an encoded network becomes descriptors, memory images and the order in which the array works
banks.py     the time that the banks of the feature maps take for words that the array's rows want at once
cycles.py    cycle model of a layer on the array, from its channel blocks alone
bus/         cycle model of any run behind AXI, from its memories: what a memory with a latency costs
timing.py    time of a network on the array as a function of N of its channels: what a budget limits
energy.py    its energy likewise: measured elements, stated memories
pieces.py    layers in pieces: parts of channel blocks and tiles, each a run of its own with memories of its own
onchip/      whole networks on chip: from the input's codes to the last layer's sums by one start, or in segments
behind.py    a whole network behind a bus: its cycles layer by layer and on chip, and the width that it needs
"""
