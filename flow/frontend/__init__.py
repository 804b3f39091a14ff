"""A network as the user has it becomes an INT8 network, partitioned into array layers and host segments.

operators.py      which operators the array computes, which only move codes, and which are refused
checks.py         what an imported model must satisfy, and the nodes that are refused
load.py           ONNX files: read with their external data, and told apart by their digest
prepare.py        A float model made ready for the quantizer: opset, constants and BatchNormalization folded
rows.py           matrix products whose rows are no batch: axis 0 becomes the batch
canonical.py      the canonical form of an INT8 (QDQ) model, as `partition` reads it
layers.py         the layers the array can take, read from a QDQ model: weights, scales, biases, clamps, windows
rewrite.py        layers put back into a QDQ model, and parts of it taken out as models of their own
cut.py            an INT8 (QDQ) model partitioned into array layers and host segments: the `Network`
ranges.py         what the activations of a float network reach on the calibration samples
qdq.py            static quantization: where QuantizeLinear and DequantizeLinear stand, codes of weights
biases.py         biases of a quantized network: int32 at the scale input x weight, as the accelerator adds them
quantize.py       any network in, INT8 network in QDQ form out, with notes on what was changed
imported.py       a network as it was imported: what later stages want to know of it is asked here, once
inspection.py     where every node of a network would run, and why, with shapes and multiply-accumulates
"""
