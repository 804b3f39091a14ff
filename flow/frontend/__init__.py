"""The user's network becomes an INT8 network, partitioned into array layers and host segments.

operators.py      which operators the array computes, and which only move codes
checks.py         requirements on an imported model, and the nodes that are refused
fold.py           constants and shapes folded: what does not depend on a sample's values is computed once
intake.py         the network as published takes one sample at a time: sizes of axes, batch, functions inlined
load.py           ONNX files: reading, with external data, and digests of models
sums.py           the Add behind a MatMul that adds a constant to each channel: its bias
products/         products with constants, of whatever operator, become Conv, Gemm and MatMul for the array
upgrade.py        older operator sets and other float types: opset 13 or later, float32
batches.py        convolutions whose axis 0 is not the batch: rewritten so that it is
prepare.py        preparation of a float model for quantization: what scales a product's channels is made its own
layers.py         array layers, read from a QDQ model: weights, scales, biases, clamps, windows
rows.py           matrix products whose axis 0 is not the batch: rewritten so that it is
canonical.py      the canonical form of an INT8 (QDQ) model, as `partition` reads it
rewrite.py        layers written back into a QDQ model, and single layers extracted as models of their own
cut.py            an INT8 (QDQ) model partitioned into array layers and host segments: the `Network`
ranges.py         activation ranges of a float network on the calibration samples, by four methods
qdq.py            static quantization: placement of QuantizeLinear/DequantizeLinear pairs, codes of weights
calibrate.py      calibration: the method that finds the ranges, chosen by what the outputs lose
weights.py        weights in any quantized form: as INT8 codes where they fit, else rounded again
rewriting.py      one network being rewritten into standard quantization
qoperator.py      integer operators (QLinearConv and others) as DequantizeLinear, float operator, QuantizeLinear
dynamic.py        dynamic quantization and integer products as products of real numbers
blocks.py         weights in blocks of a few bits (MatMulNBits)
qonnx.py          operators of QONNX, Brevitas and FINN: quantization to any number of bits
thresholds.py     MultiThreshold of FINN: a quantizer as the number of thresholds reached
dialects.py       quantized networks of any maker, rewritten into standard ONNX: QDQ or float
admit.py          a network that was read becomes one that the flow can use
biases.py         biases of a quantized network: int32 in units of s_x * s_w, as the accelerator adds them
quantize.py       any network in, INT8 network in QDQ form out, with notes on the changes
imported.py       an imported network: its INT8 form, partitioned, and the facts that later stages read
inspection.py     where every node of a network would run, and why, with shapes and multiply-accumulates
"""
