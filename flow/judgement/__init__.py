"""Whether all agree, and where it went wrong if not.

accuracy.py   Tier 3: the answers of the float, INT8 and pruned network and of the RTL
verdict.py    Tiers 1 and 2: ONNX Runtime against reference and RTL, layer by layer
onchip.py     the judgement on every layer and operation of a network that ran on chip by one start
blame.py      which hardware block does not do what its MyHDL source says: its ports replayed
localize.py   finds where RTL that left the reference went wrong: bit column, cycle and hardware block, with a waveform
diagnosis.py  why a verdict is "fail": for each failing tier the first place, and which cause fits
fidelity.py   tier 0: the INT8 network against the network as it came, for every output
"""
