"""A float network, node by node, with drawn weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Drawing:
    """Every method adds nodes and returns the name of the tensor that they make; the network's input is `x`.

    `seed` is that of the weights: normal, with a standard deviation of sqrt(2 / fan-in).
    """

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: Any, kind: type = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, kind), f"constant_{len(self.constants)}"))
        return self.constants[-1].name

    def numbers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def drawn(self, *shape: int, reads: int) -> str:
        """Weights of outputs that sum over `reads` inputs each."""
        return self.constant(self.rng.normal(0, (2 / reads) ** 0.5, shape))

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.several(op, 1, *inputs, **attributes)[0]

    def several(self, op: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """A node of several outputs."""
        name = f"{op}_{len(self.nodes)}"
        made = [name, *(f"{name}_{number}" for number in range(1, outputs))]
        self.nodes.append(helper.make_node(op, inputs, made, name, **attributes))
        return made

    def conv(self, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1, **more: Any) -> str:
        """A square kernel that keeps the size at stride 1, in `group`s, and the function `then`: ReLU by default."""
        group, then = more.get("group", 1), more.get("then", "Relu")
        weights = self.drawn(outputs, inputs // group, kernel, kernel, reads=inputs // group * kernel**2)
        bias = self.constant(self.rng.normal(0, 0.1, outputs))
        size: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        return self.function(then, self.node("Conv", x, weights, bias, group=group, **size))

    def depthwise(self, x: str, channels: int, kernel: int, stride: int = 1, then: str = "Relu") -> str:
        return self.conv(x, channels, channels, kernel, stride, group=channels, then=then)

    def function(self, kind: str, x: str) -> str:
        """A function as exporters write it; none: the tensor itself."""
        if kind == "Relu6":
            return self.node("Clip", x, self.constant(0), self.constant(6))
        if kind == "SiLU":
            return self.node("Mul", x, self.node("Sigmoid", x))
        if kind == "GELU":
            inner = self.node("Erf", self.node("Div", x, self.constant(2**0.5)))
            return self.node("Mul", self.node("Mul", x, self.node("Add", inner, self.constant(1))), self.constant(0.5))
        return self.node(kind, x) if kind else x

    def normed(self, x: str, channels: int, then: str = "Relu") -> str:
        """A BatchNormalization and a ReLU."""
        spread = (self.constant(self.rng.uniform(low, 1.5, channels)) for low in (0.5, -0.5, -0.5, 0.5))
        return self.function(then, self.node("BatchNormalization", x, *spread))

    def gemm(self, x: str, inputs: int, outputs: int, then: str = "") -> str:
        weights = self.drawn(outputs, inputs, reads=inputs)
        return self.function(then, self.node("Gemm", x, weights, self.constant(np.zeros(outputs)), transB=1))

    def product(self, x: str, inputs: int, outputs: int, then: str = "") -> str:
        """A MatMul of rows of channels and an Add, as PyTorch writes a layer of tokens."""
        made = self.node("MatMul", x, self.drawn(inputs, outputs, reads=inputs))
        return self.function(then, self.node("Add", made, self.constant(self.rng.normal(0, 0.1, outputs))))

    def layer_norm(self, x: str, channels: int) -> str:
        gains = (self.constant(self.rng.uniform(low, low + 0.5, channels)) for low in (0.75, -0.25))
        return self.node("LayerNormalization", x, *gains, axis=-1)

    def classes(self, x: str, channels: int, outputs: int) -> str:
        """The mean of all pixels, and scores."""
        return self.gemm(self.node("Flatten", self.node("GlobalAveragePool", x)), channels, outputs)

    def model(self, shape: tuple[int, ...], *outputs: str) -> onnx.ModelProto:
        given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])]
        made = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs]
        graph = helper.make_graph(self.nodes, "net", given, made, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)
