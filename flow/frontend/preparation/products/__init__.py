"""Products with constants, of whatever operator, become Conv, Gemm and MatMul with a constant matrix, for the array.

maker.py       nodes and constants that replace a node, named after it
matrices.py    MatMul with constants of any rank on either side, Einsum and Gemm
linear.py      linear models of scikit-learn and others
fused.py       fused operators of ONNX Runtime's own domain: their products, and the rest as standard operators
transposed.py  ConvTranspose as convolutions of its phases
recurrent.py   LSTM, GRU and RNN: one product for the inputs of all steps, one for each step's state
products.py    `products`: all of these on a float model
"""
