"""What ONNX Runtime computes is what the network says."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flow.onnxtools import runtime


def half_quantized() -> onnx.ModelProto:
    """Activations of 8 bits, and float weights of channels of very different size."""
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    weights[0] *= 200
    constants = {
        "w": weights,
        "b": np.ones(4, np.float32),
        "s": np.float32(0.03),
        "t": np.float32(0.2),
        "z": np.int8(0),
    }
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], "codes"), ("DequantizeLinear", ["codes", "s", "z"], "real"),
        ("Conv", ["real", "w", "b"], "sums"), ("QuantizeLinear", ["sums", "t", "z"], "kept"),
        ("DequantizeLinear", ["kept", "t", "z"], "y"),
    ]  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [output]) for op, inputs, output in nodes],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 6, 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_float_weights_stay_float_between_eight_bit_activations() -> None:
    x = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    plain, judge = (runtime.session(half_quantized(), optimise).run(None, {"x": x})[0] for optimise in (False, True))
    assert np.array_equal(plain, judge)


def test_the_outputs_of_a_session_that_is_gone_hold_its_memory_no_more() -> None:
    """As ONNX Runtime returns them, they do: all tensors of the run."""
    model, x = half_quantized(), np.zeros((1, 3, 8, 8), np.float32)
    assert all(array.base is None for array in runtime.run(model, {"x": x}).values())
