"""A float network becomes one that can be quantized.

products/   products with constants, of whatever operator, become Conv, Gemm and MatMul for the array
upgrade.py  older operator sets and other float types: opset 13 or later, float32
batches.py  convolutions whose axis 0 is not the batch: rewritten so that it is
conditions.py conditions of Where that depend on the sample, as numbers
slopes.py   PRelu with a slope for each channel, as products and the larger of two
resizes.py  sizes that follow from shapes; linear interpolations of rows and columns, one after the other
groups.py   normalizations of pixels and of groups of channels as those of rows
prepare.py  preparation of a float model for quantization: what scales a product's channels is made its own
"""
