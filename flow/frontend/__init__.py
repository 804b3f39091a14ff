"""The user's network becomes an INT8 network, partitioned into array layers and host segments.

operators.py    which operators the array computes, and which only move codes
entry/          a network as published: read, checked, made to take one sample at a time
sums.py         the Add behind a MatMul that adds a constant to each channel: its bias
unfused.py      LayerNormalization as exporters write it that do not have the operator
preparation/    a float network becomes one that can be quantized: constants folded, products as the array takes them
int8/           an INT8 (QDQ) network in canonical form, its array layers and host segments
quantization/   static quantization of a float network: ranges of activations, codes of weights
dialects/       quantized networks of any maker, rewritten into standard ONNX
admit.py        a network that was read becomes one that the flow can use
quantize.py     any network in, INT8 network in QDQ form out, with notes on the changes
imported.py     an imported network: its INT8 form, partitioned, and the facts that later stages read
inspection.py   where every node of a network would run, and why, with shapes and multiply-accumulates
"""
