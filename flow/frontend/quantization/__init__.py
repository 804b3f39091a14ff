"""Static quantization of a float network.

ranges.py     activation ranges of a float network on the calibration samples, by four methods
qdq.py        placement of QuantizeLinear/DequantizeLinear pairs, codes of weights
calibrate.py  calibration: the method that finds the ranges, chosen by what the outputs lose
"""
