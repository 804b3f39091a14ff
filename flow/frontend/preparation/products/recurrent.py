"""LSTM, GRU and RNN: one product for the inputs of all steps, and one for each step's state.

The steps are unrolled, so that the product of every step is a layer of the array. These layers share the recurrent
weights. Beyond the end of a shorter sequence (sequence_lens) outputs are 0 and the state stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.frontend.preparation.products.maker import Maker
from flow.onnxtools.graph import Graph, attribute, is_standard, node_input

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
DEFAULTS = {"GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "RNN": ("Tanh",)}
ACTIVATIONS = ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")  # those without parameters
MOST_STEPS = 128
DIRECTIONS = {"forward": ("forward",), "reverse": ("backward",), "bidirectional": ("forward", "backward")}


def refusal(graph: Graph, node: onnx.NodeProto, steps: int | None) -> str | None:
    """Why a recurrent node of so many steps (None: not fixed) stays as it is; None if it is unrolled."""
    missing = [name for name in node.input[1:4] if name and name not in graph.constants]
    if missing:
        return f"'{missing[0]}' is no constant"
    if steps is None:
        return "its number of steps is not fixed"
    if node.op_type == "LSTM" and node_input(node, 7):
        return "it has peepholes"
    if attribute(node, "clip", None) is not None or attribute(node, "input_forget", 0):
        return "it clips what its gates read (clip), or couples them (input_forget)"
    kinds = _activations(node)
    if any(kind not in ACTIVATIONS for part in kinds for kind in part):
        return f"its activations are {', '.join(kinds[0])}; without parameters are {', '.join(ACTIVATIONS)}"
    if steps > MOST_STEPS:
        return f"it has {steps} steps, and at most {MOST_STEPS} are unrolled"
    return None


def recurrent(maker: Maker, node: onnx.NodeProto) -> bool:
    """An LSTM, GRU or RNN with constant weights and a fixed number of steps."""
    if node.op_type not in GATES or not is_standard(node):
        return False
    batch_first = bool(attribute(node, "layout", 0))
    shape = maker.measured(node.input[0], [each.input[0] for each in maker.model.graph.node if each.op_type in GATES])
    weights, state, bias = (maker.values(name) if name else None for name in (*node.input[1:3], node_input(node, 3)))
    if shape is None or weights is None or state is None or (node_input(node, 3) and bias is None):
        return False
    steps = shape[1 if batch_first else 0]
    if refusal(maker.graph, node, steps) is not None or not steps:
        return False
    gates = GATES[node.op_type] * state.shape[2]
    both = np.zeros((len(weights), 2 * gates), np.float32) if bias is None else bias
    names = DIRECTIONS[attribute(node, "direction", b"forward").decode()]
    data, given = _batch_first(maker, node.input[0], batch_first), _initial(maker, node, batch_first, len(names))
    masks = _masks(maker, node_input(node, 4), steps)
    hidden: list[list[str]] = []
    ends: list[_State] = []
    for index, name in enumerate(names):
        kinds = _activations(node)[index]
        cell = _Cell(maker, node, kinds, state[index], both[index, gates:], f"{name}_" if len(names) > 1 else "")
        inputs = cell.inputs(data, weights[index], both[index, :gates], steps)
        order = list(range(steps)) if name == "forward" else list(reversed(range(steps)))
        current = _State(*(given[index]))
        found = [""] * steps
        for step in order:
            before, current = current, cell.step(step, inputs[step], current)
            found[step] = current.hidden
            if masks:
                found[step], current = cell.masked(masks[step], before, current)
        hidden.append(found)
        ends.append(current)
    last = [(1, [end.hidden for end in ends]), (2, [end.cell for end in ends])]
    if len(node.output) > 0 and node.output[0]:
        _all_steps(maker, hidden, batch_first, node.output[0])
    for place, tensors in last[: 2 if node.op_type == "LSTM" else 1]:
        if len(node.output) > place and node.output[place]:
            _last_step(maker, tensors, batch_first, f"last_{place}", node.output[place])
    return True


def _activations(node: onnx.NodeProto) -> list[tuple[str, ...]]:
    """The activations of each direction."""
    count, own = len(DEFAULTS[node.op_type]), [entry.decode() for entry in attribute(node, "activations", [])]
    directions = len(DIRECTIONS[attribute(node, "direction", b"forward").decode()])
    own = own or list(DEFAULTS[node.op_type]) * directions
    parts = [tuple(own[index * count : (index + 1) * count]) for index in range(directions)]
    parameters = any(attribute(node, name, None) for name in ("activation_alpha", "activation_beta"))
    return [(*part, "activations with parameters") for part in parts] if parameters else parts


def _batch_first(maker: Maker, data: str, batch_first: bool) -> str:
    """The inputs as [batch, steps, features]."""
    before = maker.graph.producer(data)
    if batch_first:
        return data
    if before is not None and before.op_type == "Transpose" and list(attribute(before, "perm", [])) == [1, 0, 2]:
        return str(before.input[0])
    return maker.transpose(data, [1, 0, 2], "batch_first")


def _initial(maker: Maker, node: onnx.NodeProto, batch_first: bool, directions: int) -> list[tuple[str, str]]:
    """The initial state and cell of each direction, [batch, hidden]; "" for zeros."""
    axis = 1 if batch_first else 0
    found = []
    for place, part in ((5, "initial_h"), (6, "initial_c")):
        name = node_input(node, place) if place == 5 or node.op_type == "LSTM" else ""
        values = maker.values(name) if name else None
        if not name or (values is not None and not values.any()):
            found.append([""] * directions)
            continue
        split = maker.split(name, part, axis, [1] * directions)
        axes = maker.constant(f"{part}_axis", np.array([axis], np.int64))
        found.append([maker.node("Squeeze", [each, axes], f"{part}_squeezed_{i}") for i, each in enumerate(split)])
    return list(zip(*found, strict=True))


def _masks(maker: Maker, lengths: str, steps: int) -> list[str]:
    """Whether each step is within the length of its sequence, [batch, 1] for each step; none if all steps are."""
    known = maker.graph.constant(lengths) if lengths else None
    if not lengths or (known is not None and np.all(known == steps)):
        return []
    axis, masks = maker.constant("within_axis", np.array([1], np.int64)), []
    for step in range(steps):
        number = maker.constant(f"step_{step}", np.array(step, np.int32))
        within = maker.node("Less", [number, lengths], f"{step}/within")
        masks.append(maker.node("Unsqueeze", [within, axis], f"{step}/mask"))
    return masks


def _last_step(maker: Maker, tensors: Sequence[str], batch_first: bool, part: str, output: str) -> None:
    """The last states of all directions: [directions, batch, hidden], or [batch, directions, hidden]."""
    if len(tensors) == 1:
        _unsqueezed(maker, tensors[0], 1 if batch_first else 0, part, output)
        return
    joined = maker.node("Concat", tensors, f"{part}_joined", axis=1)
    made = maker.reshape(joined, [0, len(tensors), -1], f"{part}_parted", output if batch_first else "")
    if not batch_first:
        maker.transpose(made, [1, 0, 2], part, output)


def _all_steps(maker: Maker, hidden: Sequence[Sequence[str]], batch_first: bool, output: str) -> None:
    """The states of all steps: [steps, directions, batch, hidden], or [batch, steps, directions, hidden].

    They are joined as [batch, steps, channels], whose batch is axis 0 as everywhere.
    """
    each = []
    for step, tensors in enumerate(zip(*hidden, strict=True)):
        whole = maker.node("Concat", tensors, f"state_{step}_joined", axis=1) if len(tensors) > 1 else tensors[0]
        each.append(_unsqueezed(maker, whole, 1, f"state_{step}"))
    made = maker.node("Concat", each, "states", axis=1) if len(each) > 1 else each[0]
    made = maker.reshape(made, [0, len(each), len(hidden), -1], "states_parted", output if batch_first else "")
    if not batch_first:
        maker.transpose(made, [1, 2, 0, 3], "steps_first", output)


def _unsqueezed(maker: Maker, tensor: str, axis: int, part: str, output: str = "") -> str:
    axes = maker.constant(f"{part}_axes", np.array([axis], np.int64))
    return maker.node("Unsqueeze", [tensor, axes], part, output)


@dataclass(frozen=True)
class _State:
    """Names of a step's state and cell, [batch, hidden]; "" for zeros."""

    hidden: str
    cell: str


class _Cell:
    """One direction: the products of its inputs, and its steps."""

    def __init__(
        self, maker: Maker, node: onnx.NodeProto, kinds: tuple[str, ...],
        state: NDArray[np.float32], bias: NDArray[np.float32], prefix: str,
    ) -> None:  # fmt: skip
        self._maker, self._op, self._kinds = maker, node.op_type, kinds
        self._state, self._bias, self._prefix = state, bias, prefix
        self._size = state.shape[1]
        self._after = node.op_type == "GRU" and bool(attribute(node, "linear_before_reset", 0))
        self._step = 0
        self._constants: dict[str, str] = {}

    def inputs(self, data: str, weights: NDArray[np.float32], bias: NDArray[np.float32], steps: int) -> list[str]:
        """The products of the inputs of all steps and the biases, [batch, gates] for each step."""
        maker, name = self._maker, f"{self._prefix}inputs"
        total = bias + self._bias
        if self._after:  # the last gate's recurrent bias belongs to its product
            total[2 * self._size :] = bias[2 * self._size :]
        tensor = maker.node("MatMul", [data, maker.constant(f"{name}_weights", weights.T)], name)
        if total.any():
            tensor = maker.node("Add", [tensor, maker.constant(f"{name}_bias", total)], f"{name}_sum")
        axis = maker.constant(f"{name}_axis", np.array([1], np.int64))
        split = maker.split(tensor, f"{name}_split", 1, [1] * steps)
        return [maker.node("Squeeze", [each, axis], f"{name}_{step}") for step, each in enumerate(split)]

    def step(self, step: int, inputs: str, state: _State) -> _State:
        self._step = step
        if self._op == "LSTM":
            return self._lstm(inputs, state)
        return _State(self._gru(inputs, state) if self._op == "GRU" else self._rnn(inputs, state), "")

    def masked(self, mask: str, before: _State, after: _State) -> tuple[str, _State]:
        """The output of the last step, 0 beyond the sequence's end, and the state, which stays as it was there."""
        zero = self._constant("zero", np.zeros((), np.float32))
        shown = self._node("Where", mask, after.hidden, zero, part="shown")
        kept = self._node("Where", mask, after.hidden, before.hidden, part="kept_state") if before.hidden else shown
        if not after.cell:
            return shown, _State(kept, "")
        return shown, _State(kept, self._node("Where", mask, after.cell, before.cell or zero, part="kept_cell"))

    def _rnn(self, inputs: str, state: _State) -> str:
        return self._node(self._kinds[0], self._sum(inputs, self._product(state.hidden, "all")), part="state")

    def _lstm(self, inputs: str, state: _State) -> _State:
        size = self._size
        sums = self._sum(inputs, self._product(state.hidden, "all"))
        gates, new = self._maker.split(sums, self._part("gates"), 1, [3 * size, size])
        gates = self._node(self._kinds[0], gates, part="open")
        enter, leave, forget = self._maker.split(gates, self._part("gate"), 1, [size] * 3)
        cell = self._node("Mul", enter, self._node(self._kinds[1], new, part="new"), part="entering")
        if state.cell:
            cell = self._node("Add", cell, self._node("Mul", forget, state.cell, part="kept"), part="cell")
        return _State(self._node("Mul", leave, self._node(self._kinds[2], cell, part="leaving"), part="state"), cell)

    def _gru(self, inputs: str, state: _State) -> str:
        size = self._size
        gates, new = self._maker.split(inputs, self._part("inputs"), 1, [2 * size, size])
        product = self._product(state.hidden, "all" if self._after else "gates")
        recurrent = ""
        if self._after and product:
            product, recurrent = self._maker.split(product, self._part("recurrent"), 1, [2 * size, size])
        elif self._after and self._bias[2 * size :].any():
            recurrent = self._constant("bias", self._bias[2 * size :])
        gates = self._node(self._kinds[0], self._sum(gates, product), part="open")
        update, reset = self._maker.split(gates, self._part("gate"), 1, [size] * 2)
        if self._after and recurrent:
            recurrent = self._node("Mul", reset, recurrent, part="reset")
        elif state.hidden and not self._after:
            recurrent = self._product(self._node("Mul", reset, state.hidden, part="reset"), "new")
        new = self._node(self._kinds[1], self._sum(new, recurrent, "new_sum"), part="new")
        if not state.hidden:
            return self._node("Sub", new, self._node("Mul", update, new, part="updated"), part="state")
        change = self._node("Sub", state.hidden, new, part="change")
        return self._node("Add", new, self._node("Mul", update, change, part="updated"), part="state")

    def _product(self, state: str, rows: str) -> str:
        """The state times the recurrent weights of all gates, all but the last one, or the last one; "" for zeros."""
        if not state:
            return ""
        first = 2 * self._size if rows == "new" else 0
        end = 2 * self._size if rows == "gates" else len(self._state)
        weights = self._constant(f"{rows}_weights", self._state[first:end].T)
        tensor = self._maker.node("MatMul", [state, weights], self._part(f"product_{rows}"))
        if self._after and self._bias[2 * self._size :].any():
            bias = np.concatenate([np.zeros(2 * self._size, np.float32), self._bias[2 * self._size :]])
            tensor = self._node("Add", tensor, self._constant("product_bias", bias), part="product_sum")
        return tensor

    def _sum(self, inputs: str, product: str, part: str = "sum") -> str:
        return self._node("Add", inputs, product, part=part) if product else inputs

    def _node(self, op: str, *inputs: str, part: str) -> str:
        return self._maker.node(op, inputs, self._part(part))

    def _constant(self, part: str, array: NDArray[np.float32]) -> str:
        """A constant that all steps share."""
        if part not in self._constants:
            self._constants[part] = self._maker.constant(f"{self._prefix}{part}", array)
        return self._constants[part]

    def _part(self, part: str) -> str:
        return f"{self._prefix}{self._step}/{part}"
