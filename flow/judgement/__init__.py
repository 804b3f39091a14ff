"""Verdicts: whether network, reference and RTL agree, and where they differ if they do not.

accuracy.py   Tier 3: the answers of the float, INT8 and pruned network and of the RTL
verdict.py    Tiers 1 and 2: ONNX Runtime against reference and RTL, layer by layer
images.py     memory images read back: tiles, addresses, weights, scales and biases, compared with the network
chip.py       what the descriptors of a network on chip do, decoded from their words
execution.py  a network on chip executed from its images on random maps, each step compared with its definition
onchip.py     the judgement on every layer and operation of a network that ran on chip, and on its outputs
axi.py        the verdict on the accelerator behind AXI
blame.py      which hardware block does not do what its MyHDL source says, by replaying its ports
localize.py   locates the first error of RTL that differs from the reference: bit column, cycle and hardware block
waves.py      waveforms that the user asks for: a layer, one of its tiles, or the whole network on chip
diagnosis.py  why a verdict is "fail": for each failing tier the first layer that fails it, and the likely cause
fidelity.py   tier 0: the INT8 network against the source network, for every output
"""
