"""Static quantization of a float network.

ranges.py     activation ranges of a float network on the calibration samples, by four methods
plan.py       which tensors get 8 bits, and which of them have one range
scales.py     scales and zero points of tensors, scales and codes of weights
qdq.py        placement of QuantizeLinear/DequantizeLinear pairs
equalize.py   channels of a tensor between a convolution and depthwise ones get ranges that are alike
calibrate.py  calibration: the method that finds the ranges, chosen by what the outputs lose
"""
