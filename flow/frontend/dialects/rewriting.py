"""One network being rewritten into standard quantization: what every dialect needs for it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from flow.frontend.dialects.weights import Stored
from flow.onnxtools import external
from flow.onnxtools.edit import Editor


class Rewriting(Editor):
    """A model being rewritten, node by node.

    stored          quantized weights that the model now holds as real numbers, by tensor
    done            outputs of nodes that became part of another node, which makes them
    changed         number of rewritten nodes, by operator
    alias           tensors that are another tensor now, by name
    channels_first  tensors whose channels are the last axis, by name, with the same whose channels are axis 1
    real            tensors of codes that are real numbers now, by name, with the tensor of their former scale
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model)
        self.stored: dict[str, Stored] = {}
        self.done: set[str] = set()
        self.changed: Counter[str] = Counter()
        self.alias: dict[str, str] = {}
        self.channels_first: dict[str, str] = {}
        self.real: dict[str, str] = {}
        self._one = ""
        self._real: dict[tuple[str, str, str, int], str] = {}

    def dequantized(self, codes: str, scale: str, zero: str, axis: int = 0) -> str:
        """The real numbers of codes, by one DequantizeLinear for all readers.

        `axis` is that of the scales if there are several; it may count from the end for constants.
        """
        key = (codes, scale, zero, axis)
        if key not in self._real:
            several = self._size(scale) != 1
            tensor = self.graph.constants.get(codes)
            attributes = {"axis": axis % max(len(tensor.dims), 1) if tensor is not None else axis} if several else {}
            inputs = [codes, self.scalar(scale), *([self.scalar(zero)] if zero else [])]
            self._real[key] = self.step("DequantizeLinear", inputs, codes, **attributes)
        return self._real[key]

    def one(self) -> str:
        """A scale of 1."""
        self._one = self._one or self.constant("scale_one", np.float32(1))
        return self._one

    def constant_value(self, name: str) -> NDArray[np.float32] | None:
        """The value of a constant, quantized or not, in real numbers."""
        if name in self.stored and name not in self.graph.constants:
            return self.stored[name].real()
        value = self.graph.constant(name)
        return None if value is None else value.astype(np.float32)

    def scalar(self, name: str) -> str:
        """This constant without axes if it is a single value: a scale for a whole tensor."""
        value = self.graph.constant(name)
        return self.constant(name, value.reshape(())) if value is not None and value.size == 1 and value.ndim else name

    def zero(self, name: str, like: str = "") -> str:
        """This zero point; where it is left out, zero, of the type of `like` or uint8."""
        if name:
            return self.scalar(name)
        other = self.graph.constant(like)
        return self.constant("zero_point", np.zeros((), np.uint8 if other is None else other.dtype))

    def finish(self) -> None:
        for node in self.nodes:
            node.input[:] = [self.alias.get(name, name) for name in node.input]
        super().finish()

    def weights(self, held: Stored, name: str, kind: int = TensorProto.FLOAT) -> str:
        """Quantized weights as a real constant of this name, which must be that of no other constant."""
        values = held.real()
        half = kind == TensorProto.FLOAT16
        tensor = external.constant(values.astype(np.float16) if half else values, name)
        self.model.graph.initializer.append(tensor)
        self.stored[name] = held
        return name

    def _size(self, name: str) -> int:
        value: NDArray[np.generic] | None = self.graph.constant(name)
        return 1 if value is None else value.size
