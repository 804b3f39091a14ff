"""Quantized networks of any maker, rewritten into standard ONNX: QDQ or float.

weights.py     weights in any quantized form: as INT8 codes where they fit, else rounded again
wide.py        activations of 16 bits as real numbers
rewriting.py   one network being rewritten into standard quantization
qoperator.py   integer operators (QLinearConv and others) as DequantizeLinear, float operator, QuantizeLinear
dynamic.py     dynamic quantization and integer products as products of real numbers
blocks.py      weights in blocks of a few bits (MatMulNBits)
qonnx.py       operators of QONNX, Brevitas and FINN: quantization to any number of bits
thresholds.py  MultiThreshold of FINN: a quantizer as the number of thresholds reached
standard.py    the rewriting of a whole network, operator by operator
"""
