"""An INT8 (QDQ) network in canonical form, its array layers and host segments.

layers.py     array layers, read from a QDQ model: weights, scales, biases, clamps, windows
rows.py       matrix products whose axis 0 is not the batch: rewritten so that it is
canonical.py  the canonical form of an INT8 (QDQ) model, as `partition` reads it
rewrite.py    layers written back into a QDQ model, and single layers extracted as models of their own
cut.py        an INT8 (QDQ) model partitioned into array layers and host segments: the `Network`
biases.py     biases of a quantized network: int32 in units of s_x * s_w, as the accelerator adds them
"""
