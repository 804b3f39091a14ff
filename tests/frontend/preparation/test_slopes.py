"""PRelu of several slopes as products and the larger, or smaller, of two."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from flow.frontend.preparation.slopes import slopes_as_products
from flow.onnxtools import runtime
from tests.helpers.nets import Builder, samples


def net(*slopes: float) -> onnx.ModelProto:
    """x [N,3,4,5] -> PRelu, whose slopes are a channel's."""
    b = Builder()
    made = b.node("PRelu", "x", b.constant(np.array(slopes, np.float32).reshape(-1, 1, 1)))
    b.nodes[-1].name = "act"
    return b.model({"x": ["N", 3, 4, 5]}, made, rank=4)


@pytest.mark.parametrize(
    ("slopes", "last"),
    [
        ((0.1, 0.25, 1.0), "Max"), ((-2.0, 0.0, 0.5), "Max"), ((1.0, 1.5, 3.0), "Min"), ((0.5, 0.5, 2.0), "PRelu"),
        ((0.25, 0.25, 0.25), "PRelu"), ((0.25,), "PRelu"),
    ],
)  # fmt: skip
def test_it_computes_the_same(slopes: tuple[float, ...], last: str) -> None:
    model = net(*slopes)
    made = slopes_as_products(model)
    assert [(node.op_type, node.name) for node in made.graph.node][-1] == (last, "act")
    feeds = samples(model, 5)
    assert np.array_equal(runtime.predict(made, feeds), runtime.predict(model, feeds))
