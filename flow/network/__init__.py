"""What a network is, and what it computes.

model.py      the network as the flow sees it: array layers and host segments, in execution order
reference.py  the bit-true integer reference: what the accelerator computes, on int8 codes, in NumPy
run.py        runs a whole network step by step: array layers by the caller, host segments by ONNX Runtime
usercode.py   a function of the user's, FILE.py:NAME: a metric, or what makes inputs of raw samples
metrics.py    metrics that the user asks for by name, and how they are computed
madeup.py     made-up inputs of the right kind, for a user who has no samples
samples.py    the user's samples for calibration and evaluation, checked against the network's inputs
preprocess.py samples as the user has them, made into the network's inputs by the user's function
task.py       what the labels say of the outputs: classes, pixels or values, and the metric that compares them
labels.py     class labels as people have them, made into numbers from 0: names as text, numbers from 1
answers.py    distance between two networks' answers: class scores before the Softmax, or any other output
"""
