"""Nodes on 8-bit tensors, as a host segment, and what they are on chip."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from flow.network.model import HostSegment, Quantization
from flow.onnxtools import runtime
from flow.scheduling.onchip import post
from flow.scheduling.onchip.maps import Held, as_map
from flow.scheduling.onchip.nodes import post_operations
from flow.scheduling.onchip.post import PostOp
from flow.simulation import onchip

ROUNDED = ("add", "subtract", "product", "scale")  # once, where ONNX Runtime rounds in float32 several times


class Codes:
    """Nodes on the 8-bit tensors "x" and "z", int8 [1, *shape]: each method returns the name of what it makes.

    `other` is the shape of "z", if it is another one; with `rows`, the channels are the last axis.
    """

    def __init__(
        self, seed: int = 0, shape: tuple[int, ...] = (2, 4, 5), other: tuple[int, ...] | None = None,
        rows: bool = False,
    ) -> None:  # fmt: skip
        self.rng, self.nodes, self.constants = np.random.default_rng(seed), list[Any](), list[Any]()
        self.rows = rows
        self.shape, self.shapes = shape, {"x": shape, "z": other or shape}
        self.scales: dict[str, Quantization] = {}
        for name in ("x", "z"):
            self.scale(name)

    def constant(self, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), f"c{len(self.constants)}"))
        return str(self.constants[-1].name)

    def scale(self, name: str) -> None:
        drawn = np.float32(self.rng.uniform(0.01, 0.05))
        self.scales[name] = Quantization(drawn, int(self.rng.integers(-40, 40)), False)

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def pair(self, name: str) -> list[str]:
        given = self.scales[name]
        return [self.constant(given.scale), self.constant(np.int8(given.zero_point))]

    def real(self, name: str) -> str:
        return self.node("DequantizeLinear", name, *self.pair(name))

    def codes(self, real: str, alike: str = "") -> str:
        """The tensor in 8 bits, with the scale of the 8-bit tensor `alike`, or a drawn one."""
        name = f"{real}_codes"
        if alike:
            self.scales[name] = self.scales[alike]
        else:
            self.scale(name)
        self.nodes.append(helper.make_node("QuantizeLinear", [real, *self.pair(name)], [name], name))
        return name

    def segment(self, *outputs: str, opset: int = 20) -> HostSegment:
        shapes = {name: [1, *shape] for name, shape in self.shapes.items()}
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT8, shape) for name, shape in shapes.items()]
        made = [helper.make_tensor_value_info(name, TensorProto.INT8, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "part", inputs, made, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        return HostSegment("part", model, ("x", "z"), outputs, tuple(node.op_type for node in self.nodes))

    def maps(self) -> dict[str, Held]:
        return {
            name: Held(name, as_map(shape, self.rows or len(shape) == 1, name), self.scales[name], shape, self.rows)
            for name, shape in self.shapes.items()
        }


def operations(net: Codes, *outputs: str, opset: int = 20) -> list[PostOp]:
    """The operations of the segment, after a comparison of all its outputs with ONNX Runtime.

    Sums, differences, products and averages may differ by 1, and linear interpolations where they are near the middle
    of two codes; the others not at all.
    """
    segment, held = net.segment(*outputs, opset=opset), net.maps()
    found = post_operations(segment, held)
    rng = np.random.default_rng(3)
    feeds = {name: rng.integers(-128, 128, (1, *shape)).astype(np.int8) for name, shape in net.shapes.items()}
    want = runtime.run(segment.model, feeds)
    maps = {name: onchip.as_map(held[name], codes) for name, codes in feeds.items()}
    for op in found:
        maps[op.output] = post.run(op, tuple(maps[name] for name in op.inputs))
    for name in outputs:
        made = onchip.as_tensor(held[name], maps[held[name].tensor])
        away = np.abs(made.astype(int) - want[name].astype(int))
        assert held[name].axes == want[name].shape[1:], name
        assert away.max() <= int(any(op.kind in (*ROUNDED, "average", "lines") for op in found)), name
        if any(op.kind in ROUNDED for op in found):
            assert (away > 0).sum() <= 1 + away.size // 1000, name
    for op in found:
        if op.kind == "lines" and op.output in want:
            near = post.near_tie(op, tuple(maps[name] for name in op.inputs))
            assert np.array_equal(maps[op.output][~near], want[op.output][0].reshape(op.output_shape)[~near]), op.name
    return found
