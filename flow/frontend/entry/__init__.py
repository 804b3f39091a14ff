"""A network as published: read, checked, made to take one sample at a time.

checks.py  requirements on a network, and the nodes that are refused
fold.py    constants and shapes folded: what does not depend on a sample's values is computed once
intake.py  the network as published takes one sample at a time: sizes of axes, batch, functions inlined
apart.py   whether the operators tell that each sample of a batch is computed by itself
batch.py   an open batch, fixed to one sample where the samples of a batch would not be computed one by one
load.py    ONNX files: reading, with external data, and digests of models
"""
