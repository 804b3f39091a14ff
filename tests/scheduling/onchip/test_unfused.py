"""LayerNormalization in parts, of every form, is one operation; what only looks like it is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.onnxtools import runtime
from flow.scheduling.onchip import post
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.maps import Held, OffChipError
from flow.scheduling.onchip.nodes import post_operations
from flow.scheduling.onchip.post import PostOp
from tests.helpers.codes import Codes
from tests.helpers.networks import Floats, quantized

TOKENS, CHANNELS = 5, 13


def parts(net: Codes | Floats, x: str, form: int, centred: bool, again: str = "") -> str:
    """x normalized, in a form whose bits choose; `again` is x, too."""
    rng = np.random.default_rng(form)

    def either(*names: str) -> tuple[str, ...]:
        return names if rng.random() < 0.5 else names[::-1]

    def constant(*values: float) -> str:
        return net.constant(np.array(values, np.float32) if len(values) > 1 else np.float32(values[0]))

    def mean(name: str) -> str:
        return net.node("ReduceMean", name, net.constant(np.array([-1 if form & 1 else 2])))

    centre = net.node("Sub", x, mean(x)) if centred else x
    other = again or x
    if centred and form & 2:
        other = net.node("Sub", other, mean(other))
    elif centred:
        other = centre
    square = net.node("Mul", other, other) if form & 4 else net.node("Pow", other, constant(2))
    added = net.node("Add", *either(mean(square), constant(1e-5)))
    root = net.node("Pow", added, constant(0.5)) if form & 8 else net.node("Sqrt", added)
    if form & 16:
        inverse = net.node("Div", constant(1), root) if form & 32 else net.node("Reciprocal", root)
        made = net.node("Mul", *either(centre, inverse))
    else:
        made = net.node("Div", centre, root)
    drawn = np.random.default_rng(form + 1).normal(0, 1, (2, CHANNELS)).astype(np.float32)
    if form & 64:
        made = net.node("Mul", *either(made, net.constant(drawn[0])))
    if form & 128:
        made = net.node("Add", *either(made, net.constant(drawn[1][None])))
    if form & 256:
        made = net.node("Mul", made, constant(-0.7))
    return made


def operation(net: Codes, *outputs: str) -> PostOp:
    """The only operation of the segment, which gives what ONNX Runtime does, but for ties."""
    segment = net.segment(*outputs)
    held = {name: Held(name, (CHANNELS, 1, TOKENS), net.scales[name], net.shape, True) for name in ("x", "z")}
    (op,) = post_operations(segment, held)
    codes = np.random.default_rng(4).integers(-128, 128, (TOKENS, CHANNELS)).astype(np.int8)
    want = runtime.run(segment.model, {"x": codes[None], "z": codes[None]})[outputs[0]][0].T[:, None]
    operands = (np.ascontiguousarray(codes.T[:, None]),)
    away, near = np.abs(post.run(op, operands).astype(int) - want.astype(int)), post.near_tie(op, operands)
    assert away.max() <= 1 and not away[~near].any()
    return op


@settings(max_examples=40)
@given(st.integers(0, 511), st.booleans(), st.booleans())
def test_every_form_is_one_operation(form: int, centred: bool, twice: bool) -> None:
    net = Codes(form, (TOKENS, CHANNELS))
    x = net.real("x")
    op = operation(net, net.codes(parts(net, x, form, centred, net.real("x") if twice and centred else "")))
    assert op.kind == "layernorm" and op.norm is not None and op.norm.centred == centred
    assert op.norm.epsilon == pytest.approx(1e-5)


def test_what_only_looks_like_it_leaves_the_chip() -> None:
    """A root of something else, a mean over the tokens, an inner tensor that another node reads."""
    for wrong in range(3):
        net = Codes(1, (TOKENS, CHANNELS))
        x = net.real("x")
        axis = net.constant(np.array([1 if wrong == 1 else -1]))
        centre = net.node("Sub", x, net.node("ReduceMean", x, axis))
        square = net.node("Mul", centre, x if wrong == 0 else centre)
        root = net.node("Sqrt", net.node("Add", net.node("ReduceMean", square, axis), net.constant(np.float32(1e-5))))
        outputs = [net.codes(net.node("Div", centre, root))]
        if wrong == 2:
            outputs.append(net.codes(net.node("Relu", centre)))
        with pytest.raises(OffChipError):
            operation(net, *outputs)


def test_a_block_of_parts_stays_on_chip() -> None:
    """As BERT is exported by older tools: what is normalized is also added."""
    net = Floats(18)
    w = [
        net.constant(net.rng.normal(0, 0.5, shape).astype(np.float32))
        for shape in ((9, CHANNELS), (CHANNELS, CHANNELS), (CHANNELS, 5))
    ]
    a = _opset_17(net, net.node("MatMul", "x", w[0]))
    b = _opset_17(net, net.node("Add", a, net.node("MatMul", a, w[1])))
    linked = chain(quantized(net.model((TOKENS, 9), net.node("MatMul", b, w[2]))))
    assert linked.whole and not linked.left
    assert [step.kind for step in linked.steps if isinstance(step, PostOp)] == ["layernorm", "add", "layernorm"]


def _opset_17(net: Floats, x: str) -> str:
    """The usual form, with the axes of a mean as an attribute."""
    centre = net.node("Sub", x, net.node("ReduceMean", x, axes=[-1]))
    variance = net.node("ReduceMean", net.node("Pow", centre, net.constant(np.float32(2))), axes=[-1])
    root = net.node("Sqrt", net.node("Add", variance, net.constant(np.float32(1e-5))))
    scaled = net.node("Mul", net.node("Div", centre, root), net.constant(np.ones(CHANNELS, np.float32)))
    return net.node("Add", scaled, net.constant(np.linspace(-1, 1, CHANNELS, dtype=np.float32)))
