"""ONNX and ONNX Runtime, nothing of ours.

external.py  weights that stay in their files: large networks are read layer by layer, and never held whole
graph.py     look-ups over an ONNX graph: who makes and who reads a tensor, what is constant
runtime.py   what runs in ONNX Runtime: host segments, whole networks, the judge of tier 2
shapes.py    types and shapes of one sample, by ONNX shape inference and ONNX Runtime
edit.py      edits of ONNX models: new constants and nodes, nodes replaced, parts taken out
"""
