"""ONNX and ONNX Runtime, without anything specific to the accelerator.

external.py  weights that stay in their files: large networks are read layer by layer, never held in memory as a whole
graph.py     look-ups over an ONNX graph: producer and consumers of a tensor, constants
edit.py      edits of ONNX models: constants and nodes added, nodes replaced, subgraphs extracted
draws.py     random numbers that are the same in every run
runtime.py   sessions of ONNX Runtime: for host segments, whole networks, the judge of tier 2
shapes.py    types and shapes of one sample, by ONNX shape inference and ONNX Runtime
"""
