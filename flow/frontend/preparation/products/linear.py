"""Linear models of scikit-learn and others (ai.onnx.ml): their product is a MatMul, and the choice of a class stays."""

from __future__ import annotations

import numpy as np
import onnx

from flow.frontend.preparation.products.maker import Maker
from flow.onnxtools.graph import attribute

DOMAIN = "ai.onnx.ml"
OPERATORS = ("LinearClassifier", "LinearRegressor")


def linear(maker: Maker, node: onnx.NodeProto) -> bool:
    """A LinearClassifier or LinearRegressor of [samples, features]: MatMul, Add, and itself with the identity.

    Behind the product, the operator gives scores another form, chooses the class, and adds the score of a second class
    where there is one row of coefficients.
    """
    if node.domain != DOMAIN or node.op_type not in OPERATORS:
        return False
    shape, coefficients = maker.shape(node.input[0]), np.array(attribute(node, "coefficients", []), np.float32)
    intercepts = np.array(attribute(node, "intercepts", []), np.float32)
    rows = len(intercepts) or (coefficients.size // shape[-1] if shape and shape[-1] else 0)
    if (shape is not None and len(shape) != 2) or not rows or not coefficients.size or coefficients.size % rows:
        return False
    weights = coefficients.reshape(rows, -1)
    data = maker.node("Cast", [node.input[0]], "real", to=onnx.TensorProto.FLOAT)  # it may be of whole numbers
    product = maker.node("MatMul", [data, maker.constant("weights", weights.T)], "product")
    sums = product
    if len(intercepts):
        sums = maker.node("Add", [product, maker.constant("intercepts", intercepts)], "sum")
    own = onnx.NodeProto()
    own.CopyFrom(node)
    own.input[0] = sums
    for entry in own.attribute:
        if entry.name == "coefficients":
            entry.floats[:] = np.eye(rows, dtype=np.float32).reshape(-1).tolist()
        elif entry.name == "intercepts":
            entry.floats[:] = [0.0] * rows
    maker.made.append(own)
    return True
