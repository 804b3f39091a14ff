"""What a network is, and what it computes.

model.py      the network as the flow sees it: array layers and host segments, in the order data takes
reference.py  the bit-true integer reference: what the accelerator computes, on int8 codes, in NumPy
run.py        a whole network, step by step: array layers by whoever asks, host segments by ONNX Runtime
samples.py    samples: what the user gives for calibration and evaluation, checked against the network's inputs
answers.py    how far two networks' answers are apart: on class scores before the Softmax, or on any other output
"""
