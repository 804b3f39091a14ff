"""ConvTranspose as convolutions of its phases: the same function, for any attributes, and on the array."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from flow.errors import FlowError
from flow.frontend import quantize
from flow.frontend.int8 import cut
from flow.frontend.preparation.prepare import prepare
from flow.frontend.preparation.products.products import products
from flow.judgement.fidelity import unaccounted
from flow.onnxtools import runtime
from tests.helpers.nets import Builder, samples
from tests.helpers.signals import decibels


def upsample(
    sizes: tuple[int, ...], kernel: tuple[int, ...], channels: tuple[int, int] = (4, 3), behind: str = "",
    bias: bool = True, batch: Any = "N", **attributes: Any,
) -> onnx.ModelProto:  # fmt: skip
    """x [batch, channels, *sizes] -> ConvTranspose, and what is behind it."""
    b, group = Builder(9), attributes.get("group", 1)

    def real(*shape: int) -> str:
        return b.constant(np.asarray(b.rng.normal(0, 0.3, shape), np.float32))

    inputs = ["x", real(channels[0], channels[1] // group, *kernel), *([real(channels[1])] if bias else [])]
    y = b.node("ConvTranspose", *inputs, **attributes)
    if "Add" in behind:
        y = b.node("Add", real(1, channels[1], *[1] * len(kernel)), y)
    if "Norm" in behind:
        positive = b.constant(b.rng.uniform(0.5, 1.5, channels[1]).astype(np.float32))
        y = b.node("BatchNormalization", y, positive, real(channels[1]), real(channels[1]), positive)
    if "Relu" in behind:
        y = b.node("Relu", y)
    if "Clip" in behind:
        y = b.node("Clip", y, b.constant(np.float32(-0.5)), b.constant(np.float32(0.75)))
    model = b.model({"x": [batch, channels[0], *sizes]}, y, rank=len(sizes) + 2)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def random_attributes(seed: int) -> onnx.ModelProto:
    """Attributes that ONNX Runtime takes, drawn."""
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(1, 4))
    group = int(rng.choice([1, 1, 2, 4]))
    strides, dilations = rng.integers(1, 5, axes), rng.integers(1, 4, axes)
    kernel, sizes = rng.integers(1, 6, axes), rng.integers(2, 6, axes)
    more = [int(rng.integers(0, max(s, d))) for s, d in zip(strides, dilations, strict=True)]
    reach = strides * (sizes - 1) + np.array(more) + (kernel - 1) * dilations + 1
    pads = [int(rng.integers(0, max((size - 1) // 2, 0) + 1)) for size in [*reach, *reach]]
    given: dict[str, Any] = {"pads": pads, "output_padding": more}
    mode = rng.choice(["", "", "", "VALID", "SAME_UPPER", "SAME_LOWER", "output_shape"])
    if mode == "output_shape":
        given = {"output_shape": [int(rng.integers(1, size + 1)) for size in reach]}
    elif mode:
        given = {"auto_pad": str(mode)}
    behind = str(rng.choice(["", "Relu", "Norm", "NormRelu", "AddClip"]))
    return upsample(
        tuple(sizes.tolist()), tuple(kernel.tolist()), (4, 4 if group > 1 else 3), behind, bool(rng.integers(2)),
        strides=strides.tolist(), dilations=dilations.tolist(), group=group, **given,
    )  # fmt: skip


@pytest.mark.parametrize("seeds", [range(start, start + 30) for start in range(0, 120, 30)], ids=str)
def test_random_attributes(seeds: range) -> None:
    """Equal but for the rounding of float32, whatever the attributes."""
    taken = 0
    for seed in seeds:
        model = random_attributes(seed)
        feeds = samples(model, 2)
        try:
            want = runtime.predict(model, feeds)
        except FlowError:
            continue
        prepared = prepare(model)
        got = runtime.predict(prepared, feeds)
        assert got.shape == want.shape and np.allclose(got, want, rtol=1e-5, atol=1e-5), seed
        assert unaccounted(model, prepared) == (), seed
        assert "ConvTranspose" not in {node.op_type for node in prepared.graph.node}, seed
        taken += 1
    assert taken > 20  # ONNX Runtime itself refuses the others


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (upsample((5, 6), (2, 2), strides=[2, 2]), 1), (upsample((5, 6), (2, 2), behind="NormRelu", strides=[2, 2]), 1),
        (upsample((5, 6), (4, 4), strides=[2, 2], pads=[1] * 4), 4),
        (upsample((5, 6), (4, 4), behind="NormRelu", strides=[2, 2], pads=[1] * 4), 4),
        (upsample((5, 6), (3, 3), behind="Relu", strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]), 4),
        (upsample((5, 6), (3, 3), strides=[1, 1], pads=[1] * 4, batch=1), 1),
        (upsample((9,), (16,), behind="Clip", strides=[8], pads=[4, 4]), 2),
        (upsample((5, 6), (4, 4), (4, 4), group=4, strides=[2, 2], pads=[1] * 4), 4),
        (upsample((3, 4, 4), (2, 2, 2), strides=[2, 2, 2]), 1),
    ],
    ids=["U-Net", "U-Net, Relu", "DCGAN", "DCGAN, Relu", "odd", "stride 1", "audio", "depthwise", "volume"],
)  # fmt: skip
def test_all_products_of_a_transposed_convolution_are_on_the_array(model: onnx.ModelProto, layers: int) -> None:
    fixed = bool(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value)
    feeds = samples(model, 1 if fixed else 16)
    made = quantize.quantize(model, feeds).model
    network = cut.partition(made, "net")
    assert len(network.layers) == layers
    host = {op for step in network.steps for op in getattr(step, "operators", ())}
    assert not host & {"ConvTranspose", "Conv", "Relu", "Clip", "BatchNormalization"}
    assert decibels(runtime.predict(model, feeds), runtime.predict(made, feeds)) > 35


def test_no_product_with_a_zero_between_inputs() -> None:
    """Multiply-accumulates of an even kernel are those of the ConvTranspose: every input times every tap."""
    model = upsample((5, 6), (4, 4), strides=[2, 2], pads=[1] * 4)
    network = cut.partition(quantize.quantize(model, samples(model, 4)).model, "net")
    assert sum(layer.macs for layer in network.layers) == 5 * 6 * 4 * 3 * 16


@pytest.mark.parametrize("kernel", [(1, 1), (2, 1)])
def test_phases_that_no_tap_reaches_have_the_bias_alone(kernel: tuple[int, int]) -> None:
    model = upsample((3, 3), kernel, strides=[3, 3], output_padding=[2, 2])
    feeds = samples(model, 2)
    want = runtime.predict(model, feeds)
    products(model)
    assert np.allclose(runtime.predict(model, feeds), want, rtol=1e-5, atol=1e-5)
    assert [node.op_type for node in model.graph.node].count("Conv") == 1


@pytest.mark.parametrize("op", ["Mul", "Div"])
def test_no_other_operator_is_one(op: str) -> None:
    """Whatever the shape of its constant."""
    b = Builder(4)
    model = b.model({"x": ["N", 4, 5, 5]}, b.node(op, "x", b.constant(np.ones((1, 4, 1, 1), np.float32))), rank=4)
    products(model)
    assert [node.op_type for node in model.graph.node] == [op]
