"""Products with constants of any rank and on either side are layers of the array, and the network is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.frontend import quantize
from flow.frontend.int8 import cut
from flow.frontend.preparation.prepare import prepare
from flow.frontend.preparation.products.products import products
from flow.judgement.fidelity import unaccounted
from flow.onnxtools import runtime
from tests.helpers.nets import Builder, samples
from tests.helpers.signals import decibels

Make = Callable[[], onnx.ModelProto]


def one(op: str, x: tuple[Any, ...], w: tuple[int, ...], left: bool = False, **attributes: Any) -> onnx.ModelProto:
    """A product with a constant, and a Relu."""
    b = Builder(3)
    constant = b.constant(np.asarray(b.rng.normal(0, 0.3, w), np.float32))
    y = b.node("Relu", b.node(op, *((constant, "x") if left else ("x", constant)), **attributes))
    model = b.model({"x": list(x)}, y)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def einsum(equation: str, x: tuple[Any, ...], w: tuple[int, ...], left: bool = False) -> onnx.ModelProto:
    return one("Einsum", x, w, left, equation=equation)


MATMULS: dict[str, onnx.ModelProto] = {
    "a vector": one("MatMul", ("N", 5, 6), (6,)),
    "a vector, of rows": one("MatMul", ("N", 6), (6,)),
    "three axes, one matrix": one("MatMul", ("N", 5, 6), (1, 6, 4)),
    "a matrix for each head": one("MatMul", ("N", 3, 5, 6), (3, 6, 4)),
    "a matrix for each head, four axes": one("MatMul", ("N", 3, 5, 6), (1, 3, 6, 4)),
    "heads of five axes": one("MatMul", ("N", 2, 3, 5, 6), (3, 6, 4)),
    "two axes of heads": one("MatMul", ("N", 2, 3, 5, 6), (2, 3, 6, 4)),
    "one of two axes of heads": one("MatMul", ("N", 2, 3, 5, 6), (2, 1, 6, 4)),
    "heads that share their data": one("MatMul", ("N", 1, 5, 6), (3, 6, 4)),
    "batch 1": one("MatMul", (1, 3, 5, 6), (3, 6, 4)),
    "left": one("MatMul", ("N", 5, 6), (4, 5), left=True),
    "left of four axes": one("MatMul", ("N", 3, 5, 6), (4, 5), left=True),
    "left, a matrix for each head": one("MatMul", ("N", 3, 5, 6), (3, 4, 5), left=True),
    "left, a vector": one("MatMul", ("N", 5, 6), (5,), left=True),
    "left, batch 1": one("MatMul", (1, 5, 6), (4, 5), left=True),
}
EINSUMS: dict[str, onnx.ModelProto] = {
    "Linear": einsum("bsh,hd->bsd", ("N", 5, 6), (6, 4)),
    "heads": einsum("bsh,hnd->bnsd", ("N", 5, 6), (6, 2, 4)),
    "heads joined": einsum("bnsd,ndh->bsh", ("N", 2, 5, 4), (2, 4, 6)),
    "a matrix for each head": einsum("bnsd,nde->bnse", ("N", 2, 5, 4), (2, 4, 6)),
    "channels first": einsum("bct,dc->bdt", ("N", 6, 5), (4, 6)),
    "constant first": einsum("oc,bcij->boij", ("N", 6, 3, 5), (4, 6), left=True),
    "implicit": einsum("bi,ij", ("N", 6), (6, 4)),
    "ellipsis": einsum("...i,ij->...j", ("N", 3, 5, 6), (6, 4)),
    "implicit, ellipsis": einsum("...i,ij", ("N", 5, 6), (6, 4)),
    "ellipsis in both": einsum("b...i,...ij->b...j", ("N", 3, 6), (3, 6, 4)),
    "to a number": einsum("bsh,h->bs", ("N", 5, 6), (6,)),
    "a sum over weights": einsum("bh,hde->bd", ("N", 6), (6, 4, 3)),
    "spaces": einsum(" b s h , h d -> b d s ", ("N", 5, 6), (6, 4)),
}


@pytest.mark.parametrize(
    "model", [*MATMULS.values(), *EINSUMS.values()], ids=[*MATMULS, *(f"Einsum {e}" for e in EINSUMS)]
)
def test_a_product_with_a_constant_is_on_the_array(model: onnx.ModelProto) -> None:
    """The float network is the same but for rounding, the INT8 one keeps over 33 dB, and no product is lost."""
    fixed = bool(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value)
    feeds = samples(model, 1 if fixed else 16)
    want, prepared = runtime.predict(model, feeds), prepare(model)
    got = runtime.predict(prepared, feeds)
    assert got.shape == want.shape and np.allclose(got, want, rtol=1e-5, atol=1e-5)
    made = quantize.quantize(model, feeds).model
    network = cut.partition(made, "net")
    assert len(network.layers) == 1 and not {"MatMul", "Einsum"} & {
        op for s in network.steps for op in getattr(s, "operators", ())
    }
    assert decibels(want, runtime.predict(made, feeds)) > 33
    assert unaccounted(model, network.model) == ()


@pytest.mark.parametrize(
    "model",
    [
        one("MatMul", (1, 5, 6), (3, 6, 4)), one("MatMul", ("N", 5), (3, 4, 5, 6)),
        einsum("bi,bj->bij", ("N", 6), (1, 4)),
        einsum("bii,ij->bj", ("N", 6, 6), (6, 4)), einsum("bij,j->b", ("N", 5, 6), (6,)),
        einsum("bi,i->bi", ("N", 6), (6,)), one("MatMul", (1, 6), (4, 1), left=True),
    ],
    ids=["axis 0 of both", "more axes", "batch of both", "a diagonal", "a sum over the data", "no sum",
         "axis 0 summed"],
)  # fmt: skip
def test_what_is_no_product_of_rows_stays_as_it_is(model: onnx.ModelProto) -> None:
    feeds = samples(model, 1)
    assert np.allclose(runtime.predict(prepare(model), feeds), runtime.predict(model, feeds), rtol=1e-5, atol=1e-5)
    assert runtime.predict(quantize.quantize(model, feeds).model, feeds).shape == runtime.predict(model, feeds).shape


def varying(transposed: dict[str, int], factors: dict[str, float], addend: tuple[int, ...]) -> onnx.ModelProto:
    """A Gemm that adds another product, or one constant for each row."""
    b = Builder(8)
    shapes = [(4, 8) if transposed.get("transB") else (8, 4), (8, 4)]
    first, second = (b.constant(np.asarray(b.rng.normal(0, 0.3, shape), np.float32)) for shape in shapes)
    x = b.node("Reshape", "x", b.constant(np.array([3, 8])))
    c = b.node("MatMul", b.node("Tanh", x), second) if not addend else b.constant(np.ones(addend, np.float32))
    left = b.node("Transpose", x, perm=[1, 0]) if transposed.get("transA") else x
    return b.model({"x": [1, 24]}, b.node("Gemm", left, first, c, **transposed, **factors))


@pytest.mark.parametrize("addend", [(), (3, 1), (3, 4)], ids=["varying", "for each row", "constant"])
@pytest.mark.parametrize("factors", [{}, {"alpha": -1.5, "beta": 0.5}], ids=["plain", "factors"])
@pytest.mark.parametrize("transposed", [{}, {"transB": 1}, {"transA": 1}], ids=["plain", "transB", "transA"])
def test_a_gemm_that_adds_anything_is_on_the_array(
    transposed: dict[str, int], factors: dict[str, float], addend: tuple[int, ...]
) -> None:
    model = varying(transposed, factors, addend)
    feeds = samples(model, 1)
    want = runtime.predict(model, feeds)
    assert np.allclose(runtime.predict(prepare(model), feeds), want, rtol=1e-5, atol=1e-5)
    made = quantize.quantize(model, feeds).model
    network = cut.partition(made, "net")
    assert len(network.layers) == (1 if addend else 2) and not network.reasons
    assert decibels(want, runtime.predict(made, feeds)) > 30
    assert unaccounted(model, network.model) == ()


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_gemm_of_one_row_that_adds_a_product(batch: Any) -> None:
    """ONNX Runtime makes it of two MatMuls and an Add: a recurrent cell. Both products are on the array."""
    b = Builder(8)
    first, second = (b.constant(np.asarray(b.rng.normal(0, 0.3, (8, 4)), np.float32)) for _ in range(2))
    model = b.model({"x": [batch, 8]}, b.node("Gemm", "x", first, b.node("MatMul", b.node("Tanh", "x"), second)))
    feeds = samples(model, 1 if batch == 1 else 16)
    network = cut.partition(quantize.quantize(model, feeds).model, "net")
    assert len(network.layers) == 2 and not network.reasons
    assert decibels(runtime.predict(model, feeds), runtime.predict(network.model, feeds)) > 33


def test_an_add_behind_a_layer_without_bias_is_its_bias() -> None:
    rng = np.random.default_rng(2)
    arrays = {"v": rng.normal(size=(4, 3, 1, 1)), "b": rng.normal(size=(4, 1, 1)), "w": rng.normal(size=(36, 5)),
              "c": rng.normal(size=(1, 5)), "d": rng.normal(size=5)}  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["t"], "conv"), helper.make_node("Add", ["b", "t"], ["s"], "add"),
        helper.make_node("Flatten", ["s"], ["f"]), helper.make_node("Gemm", ["f", "w", "d"], ["g"], "gemm"),
        helper.make_node("Add", ["g", "c"], ["y"], "more"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feeds = samples(model, 8)
    prepared = prepare(model)
    assert "Add" not in {node.op_type for node in prepared.graph.node}
    assert np.allclose(runtime.predict(prepared, feeds), runtime.predict(model, feeds), rtol=1e-4, atol=1e-4)


def test_a_gemm_of_rows_is_a_product_and_its_bias() -> None:
    """Between the Reshapes that ONNX Runtime puts around it, which would part it from its activation."""
    b = Builder(8)
    weights, bias = (b.constant(b.rng.normal(size=size).astype(np.float32)) for size in ((8, 5), 5))
    flat = b.node("Reshape", "x", b.constant(np.array([-1, 8])))
    rows = b.node("Reshape", b.node("Gemm", flat, weights, bias), b.constant(np.array([1, 3, 5])))
    model = b.model({"x": [1, 3, 8]}, b.node("Relu", rows), rank=3)
    feeds = {"x": b.rng.normal(size=(1, 3, 8)).astype(np.float32)}
    want = runtime.predict(model, feeds)
    products(model)
    assert [node.op_type for node in model.graph.node if node.op_type != "Reshape"] == ["MatMul", "Add", "Relu"]
    assert np.allclose(runtime.predict(model, feeds), want, atol=1e-5)


def test_a_gemm_of_a_matrix_stays_a_gemm() -> None:
    b = Builder(8)
    weights = b.constant(b.rng.normal(size=(8, 5)).astype(np.float32))
    flat = b.node("Reshape", "x", b.constant(np.array([-1, 8])))
    rows = b.node("Reshape", b.node("Gemm", flat, weights), b.constant(np.array([1, 5])))
    model = b.model({"x": [1, 8]}, b.node("Relu", rows))
    products(model)
    assert [node.op_type for node in model.graph.node] == ["Reshape", "Gemm", "Reshape", "Relu"]


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_the_factor_of_a_bias_is_in_it(beta: float) -> None:
    b = Builder(8)
    weights, bias = (b.constant(b.rng.normal(size=size).astype(np.float32)) for size in ((4, 5), 5))
    y = b.node("Gemm", "x", weights, bias, transA=1, beta=beta)
    model = b.model({"x": [4, 3]}, y)
    feeds = {"x": b.rng.normal(size=(4, 3)).astype(np.float32)}
    (want,) = runtime.run(model, feeds).values()
    products(model)
    assert "beta" not in {entry.name for node in model.graph.node for entry in node.attribute}
    (got,) = runtime.run(model, feeds).values()
    assert np.allclose(got, want, atol=1e-5)
