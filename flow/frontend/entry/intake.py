"""A network as published becomes one that takes one sample at a time: every axis but the batch has a size.

An input whose axis 0 is no batch (a scalar, a state [2, batch, 128], a batch fixed to 8) gets a batch axis in front,
which the network removes first: one sample is one run of the network as published.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, inliner, numpy_helper

from flow.errors import FlowError
from flow.frontend.entry.checks import LARGEST
from flow.frontend.entry.fold import fold_constants
from flow.network.samples import random
from flow.onnxtools import runtime
from flow.onnxtools.edit import (
    add_constant,
    drop_unused_nodes,
    rename_reads,
    replace_nodes,
    set_attributes,
    unused_name,
)
from flow.onnxtools.graph import Graph, attribute, graph_inputs, is_standard, node_input, opset, reads, subgraphs
from flow.onnxtools.shapes import auto_pads, batch_is_open, sample_shapes

Shape = tuple[int, ...]
MOST_NODES = 100_000  # of a network, its functions inlined
WHOLE = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
EQUAL = 1e-4  # of an output's largest value: tolerance for the same network with another batch


def take(
    model: onnx.ModelProto, place: str, asked: Mapping[str, Shape], samples: Sequence[Mapping[str, NDArray[Any]]]
) -> tuple[onnx.ModelProto, list[str]]:
    """The network `model` with sizes for all axes but the batch, axis 0 of every input the batch; notes for the user.

    `asked`: the shape of an input or the size of a symbol, by name, as the user gave them; `samples`: the arrays by
    name, of each set of samples there is. Functions are inlined, maps among the outputs (ZipMap) become the tensors
    they are made of, and an input that selects the branch of an If becomes a constant if it is one in all samples.
    FlowError when a size is not known or does not fit.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _inline(copy, place)
    notes = _tensors_as_outputs(copy, place) + _without_bfloat16(copy) + _fix_selectors(copy, samples)
    inputs = graph_inputs(copy)
    for value in inputs:
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise FlowError(
                f"inputs must be tensors of known rank, but '{value.name}' of '{place}' is not; export again"
            )
    shapes = [{name: array.shape for name, array in each.items()} for each in samples]
    if len(inputs) == 1:
        shapes = [{inputs[0].name: each["x"], **each} if "x" in each else each for each in shapes]
    known = _Sizes(place, inputs, asked, shapes)
    layouts = {value.name: known.layout(value) for value in inputs}
    single = None
    batches = {layout.shape[0] for layout in layouts.values() if layout.stacked and layout.shape}
    if len(batches) == 1 and all(layout.stacked and layout.declared_batch for layout in layouts.values()):
        single = _one_at_a_time(copy, layouts)
    taken = _with_layouts(copy, layouts) if single is None else single
    _forget_wrong_shapes(taken)
    _explicit_pads(taken)
    if single is not None:
        notes.append(
            f"The batch of {batches.pop()} is 1 now: each sample is computed by itself, with the same results."
        )
    if _needs_one(taken, samples):
        one_sample(taken)
        notes.append("The batch is 1 now: ONNX Runtime does not run this network on several samples at a time.")
    return taken, notes


@dataclass(frozen=True)
class _Layout:
    """The shape of an input in one run. It is `stacked` if its axis 0 is no batch; `declared_batch`: fixed to over 1.

    `settled`: the model declares all these sizes, but the batch.
    """

    shape: Shape
    stacked: bool
    declared_batch: bool
    settled: bool


class _Sizes:
    """Sizes of the axes of inputs, from the model, from the user and from samples."""

    def __init__(
        self,
        place: str,
        inputs: Sequence[onnx.ValueInfoProto],
        asked: Mapping[str, Shape],
        samples: Sequence[Mapping[str, Shape]],
    ) -> None:
        self._place, self._asked, self._samples = place, asked, samples
        dims = {value.name: _declared(value) for value in inputs}
        no_names = {each for name, declared in dims.items() for each in _of_several_sizes(declared, name, samples)}
        dims = {name: ["" if each in no_names else each for each in declared] for name, declared in dims.items()}
        symbols = {size for each in dims.values() for size in each if size and isinstance(size, str)}
        for name, shape in asked.items():
            if name in dims and not dims[name]:
                raise FlowError(
                    f"input '{name}' of '{place}' is a single number and has no shape; its value comes from the "
                    f"samples, an array '{name}' of shape [samples]"
                )
            if name in dims and len(shape) != len(dims[name]):
                raise FlowError(
                    f"input '{name}' of '{place}' has {len(dims[name])} axes, but --shape gives {len(shape)}; "
                    f"give it as {_example(name, dims[name])}"
                )
            if name not in dims and (name not in symbols or len(shape) != 1):
                choice = ", ".join(f"'{each}'" for each in sorted({*dims, *symbols}))
                raise FlowError(f"--shape '{name}' is no input and no open axis of '{place}'; name one of {choice}")
        self._dims = dims
        self._symbols = {name: shape[0] for name, shape in asked.items() if name in symbols and name not in dims}
        for value in inputs:
            for axis, size in enumerate(dims[value.name]):
                found = self._size(value.name, axis)
                batch = axis == 0 and not self._is_stacked(value.name)
                if size and isinstance(size, str) and (found is not None or batch):
                    self._symbols.setdefault(size, 1 if found is None or batch else found)

    def layout(self, value: onnx.ValueInfoProto) -> _Layout:
        """The layout of an input. FlowError when the size of an axis is not known, or two sizes do not fit."""
        name, dims = value.name, self._dims[value.name]
        if any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in value.type.tensor_type.shape.dim[:1]):
            raise FlowError(
                f"a batch must have samples, but that of input '{name}' of '{self._place}' is declared as 0; "
                "export with a batch of 1 or an open one"
            )
        stacked = self._is_stacked(name)
        settled = all(isinstance(size, int) for size in dims[1:])
        for shape in (shapes[name] for shapes in self._samples if name in shapes and not stacked and not settled):
            pairs = list(zip(shape, dims, strict=False))[1:]
            if len(shape) == len(dims) and any(isinstance(size, int) and size != found for found, size in pairs):
                raise FlowError(
                    f"samples for input '{name}' of '{self._place}' must have shape "
                    f"{['samples', *(size or '?' for size in dims[1:])]}, but they have {list(shape)}; reshape them"
                )
        sizes = []
        for axis, declared in enumerate(dims):
            size = 1 if axis == 0 and not stacked else self._size(name, axis)
            size = self._symbols.get(str(declared)) if size is None else size
            if size is None:
                raise FlowError(self._unknown(name, axis))
            sizes.append(size)
        batch = stacked and bool(dims) and isinstance(dims[0], int) and not self._given_stacked(name)
        return _Layout(tuple(sizes), stacked, batch, settled)

    def _unknown(self, name: str, axis: int) -> str:
        """What is missing, if the size of an axis is not known."""
        if self._samples and not any(name in shapes for shapes in self._samples):
            there = ", ".join(f"'{each}'" for each in sorted({each for shapes in self._samples for each in shapes}))
            return f"samples must name every input, but '{name}' is missing among {there}; add an array of that name"
        declared = self._dims[name]
        known = [self._size(name, each) or declared[each] for each in range(len(declared))]
        return (
            f"only the batch (axis 0) of an input may be open, but axis {axis} of '{name}' in '{self._place}' "
            f"is '{declared[axis] or '?'}'; give --shape {_example(name, known)}, or samples of the size wanted"
        )

    def _is_stacked(self, name: str) -> bool:
        """Whether the axis 0 of an input is not the batch: it is fixed to a size other than 1, or there is none."""
        dims = self._dims[name]
        if not dims or self._given_stacked(name):
            return True
        if isinstance(dims[0], int):
            return dims[0] != 1
        asked = self._asked.get(name) or self._asked.get(dims[0], (1,))
        return asked[0] != 1

    def _given_stacked(self, name: str) -> bool:
        """Whether samples have an axis more than the input: each is one whole run."""
        return any(name in shapes and len(shapes[name]) == len(self._dims[name]) + 1 for shapes in self._samples)

    def _size(self, name: str, axis: int) -> int | None:
        """The size of an axis: as declared, as asked for, or that of the samples (0: a cache); None if not known."""
        declared, asked = self._dims[name][axis], self._asked.get(name, ())
        if isinstance(declared, int):
            if asked and asked[axis] != declared:
                raise FlowError(
                    f"axis {axis} of input '{name}' of '{self._place}' is fixed to {declared}, but --shape gives "
                    f"{asked[axis]}; give it as {_example(name, self._dims[name])}"
                )
            return declared
        if asked:
            return asked[axis]
        if declared in self._symbols:
            return self._symbols[declared]
        rank = len(self._dims[name])
        for shapes in self._samples:
            shape = shapes.get(name, ())
            if len(shape) == rank + 1:
                return shape[axis + 1]
            if len(shape) == rank and axis > 0 and not self._is_stacked(name):
                return shape[axis]
        return None


def _declared(value: onnx.ValueInfoProto) -> list[int | str]:
    """The sizes of an input's axes: a number, the symbol of an open axis, or an empty string if it has none.

    What has no letter ("?", "-1") is no symbol.
    """
    return [
        dim.dim_value if dim.dim_value > 0 else dim.dim_param if any(map(str.isalpha, dim.dim_param)) else ""
        for dim in value.type.tensor_type.shape.dim
    ]


def _of_several_sizes(declared: Sequence[int | str], name: str, samples: Sequence[Mapping[str, Shape]]) -> set[str]:
    """The symbols that stand for any size ("None"): a sample of the input has different ones along their axes."""
    found = set()
    for shape in (shapes[name] for shapes in samples if name in shapes):
        sizes: dict[int | str, set[int]] = {}
        if len(shape) - len(declared) in (0, 1):  # axis 0 is that of the samples
            for each, size in zip(declared[len(declared) + 1 - len(shape) :], shape[1:], strict=True):
                sizes.setdefault(each, set()).add(size)
        found |= {each for each, several in sizes.items() if isinstance(each, str) and len(several) > 1}
    return found


def _example(name: str, dims: Sequence[int | str]) -> str:
    sizes = [str(size) if isinstance(size, int) else "1" if axis == 0 else "N" for axis, size in enumerate(dims)]
    return f"{name}={','.join(sizes)}"


# -------------------------------------------------------------------------------- inputs


def _with_layouts(model: onnx.ModelProto, layouts: Mapping[str, _Layout]) -> onnx.ModelProto:
    """Give the inputs these layouts. A model whose inputs have them already is unchanged."""
    stacked = [name for name, layout in layouts.items() if layout.stacked]
    if not stacked and all(layout.settled for layout in layouts.values()):
        return model
    for name in stacked:
        _unstack(model, name)
    for value in graph_inputs(model):
        layout, dims = layouts[value.name], value.type.tensor_type.shape.dim
        batch = dims[0].dim_param or "batch" if dims and not stacked and dims[0].dim_value <= 0 else 1
        shape = (batch, *layout.shape[0 if layout.stacked else 1 :])
        value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape))
    _forget_shapes(model)
    return model


def _unstack(model: onnx.ModelProto, name: str) -> None:
    """Let the readers of an input read it without its new axis 0."""
    inner = unused_name(model, f"{name}_sample")
    rename_reads(model.graph, name, inner)
    squeeze = helper.make_node("Squeeze", [name], [inner], f"{inner}_squeeze")
    if opset(model) < 13:
        squeeze.attribute.append(helper.make_attribute("axes", [0]))
    else:
        squeeze.input.append(add_constant(model, f"{inner}_axes", np.array([0], np.int64)))
    replace_nodes(model, [squeeze, *model.graph.node])


def one_sample(model: onnx.ModelProto) -> None:
    """Fix the batch of all inputs to one sample."""
    for value in graph_inputs(model):
        for dim in value.type.tensor_type.shape.dim[:1]:
            dim.dim_value = 1
    _forget_shapes(model)


def _forget_shapes(model: onnx.ModelProto) -> None:
    """Leave out declared shapes that hold for other sizes of the inputs."""
    del model.graph.value_info[:]
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
            dim.Clear()  # the rank stays: ONNX's checker asks for it


def _forget_wrong_shapes(model: onnx.ModelProto) -> None:
    """Leave out declared shapes of tensors that the network contradicts, as ONNX Runtime does."""
    if not model.graph.value_info:
        return
    known = sample_shapes(model)
    kept = []
    for value in model.graph.value_info:
        dims, shape = value.type.tensor_type.shape.dim, known.get(value.name)
        declared = value.type.tensor_type.HasField("shape") and shape is not None
        alike = not declared or (
            len(dims) == len(shape or ())
            and all(not dim.dim_value or dim.dim_value == size for dim, size in zip(dims, shape or (), strict=True))
        )
        kept += [value] if alike else []
    if len(kept) < len(model.graph.value_info):
        del model.graph.value_info[:]
        model.graph.value_info.extend(kept)


def _one_at_a_time(model: onnx.ModelProto, layouts: Mapping[str, _Layout]) -> onnx.ModelProto | None:
    """The network for a batch of 1 instead of a fixed batch; None if it does not compute the same, sample by sample.

    None, too, if a batch is too large to try that.
    """
    if any(4 * math.prod(layout.shape) >= LARGEST for layout in layouts.values()):
        return None
    batch = next(iter(layouts.values())).shape[0]
    single = onnx.ModelProto()
    single.CopyFrom(model)
    for value in graph_inputs(single):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = Graph.of(single)
    for node in single.graph.node:
        shape = graph.constant(node_input(node, 1)) if node.op_type == "Reshape" else None
        if shape is not None and shape.size and shape[0] == batch:
            wanted = np.array([1 if -1 in shape[1:] else -1, *shape[1:]], np.int64)
            node.input[1] = add_constant(single, f"{node.output[0]}_shape", wanted)
    drop_unused_nodes(single)
    _forget_shapes(single)
    generator = np.random.default_rng(0)
    feeds = {}
    for value in graph_inputs(single):
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        sizes = layouts[value.name].shape
        feeds[value.name] = generator.standard_normal(sizes).astype(kind) if kind.kind == "f" else np.zeros(sizes, kind)
    try:
        together = runtime.run(model, feeds)
        session = runtime.session(single)
        parts = [runtime.run(session, {n: a[i : i + 1] for n, a in feeds.items()}) for i in range(batch)]
    except FlowError:
        return None
    for name, wanted in together.items():
        pieces = [part[name] for part in parts]
        if not all(isinstance(each, np.ndarray) and each.ndim and len(each) == 1 for each in pieces):
            return None
        got = np.concatenate(pieces)
        largest = float(np.abs(wanted).max(initial=1e-6)) if wanted.dtype.kind == "f" else 0.0
        if got.shape != wanted.shape or not np.allclose(got, wanted, rtol=0, atol=EQUAL * largest, equal_nan=True):
            return None
    return single


def _needs_one(model: onnx.ModelProto, samples: Sequence[Mapping[str, NDArray[Any]]]) -> bool:
    """Whether a network of an open batch runs on one sample alone, as operators of other domains may.

    GroupQueryAttention takes several tokens behind a cache only so.
    """
    if all(map(is_standard, model.graph.node)) or not batch_is_open(model):
        return False
    names = [value.name for value in graph_inputs(model)]
    given = next((each for each in samples if all(name in each for name in names)), None) or random(model, 2).feeds
    feeds = {name: given[name][:2] for name in names}
    try:
        active = runtime.session(model)
        runtime.run(active, {name: array[:1] for name, array in feeds.items()})
    except FlowError:
        return False
    try:
        runtime.run(active, feeds)
    except FlowError:
        return True
    return False


def _explicit_pads(model: onnx.ModelProto) -> None:
    """Replace the auto_pad of dilated convolutions, which ONNX Runtime does not run, by the pads that it means."""
    dilated = [
        node for node in model.graph.node
        if node.op_type == "Conv" and is_standard(node) and attribute(node, "auto_pad", b"").startswith(b"SAME")
        and max(attribute(node, "dilations", [1])) > 1
    ]  # fmt: skip
    shapes = sample_shapes(model) if dilated else {}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in dilated:
        data, weights = (shapes.get(name, ()) for name in node.input[:2])
        if len(data) < 3 or len(data) != len(weights):
            continue  # the shape depends on the sample
        strides = attribute(node, "strides", [1] * (len(data) - 2))
        mode = attribute(node, "auto_pad", b"").decode()
        pads = auto_pads(mode, data[2:], weights[2:], strides, attribute(node, "dilations", []))
        set_attributes(node, without=("auto_pad",), pads=pads)


# -------------------------------------------------------------------------------- functions and outputs


def _inline(model: onnx.ModelProto, place: str) -> None:
    """Replace calls of the model's functions by their nodes. FlowError if these are too many."""
    if not model.functions:
        return
    bodies = {(function.domain, function.name): function for function in model.functions}
    counts: dict[tuple[str, str], int] = {}

    def count(nodes: Iterable[onnx.NodeProto], path: frozenset[tuple[str, str]]) -> int:
        total = 0
        for node in nodes:
            called = (node.domain, node.op_type)
            total += 1
            if called in path:
                raise FlowError(f"function '{node.op_type}' of '{place}' calls itself; export the network again")
            if called in bodies:
                if called not in counts:
                    counts[called] = count(bodies[called].node, path | {called})
                total += counts[called]
            for inner in subgraphs(node):
                total += count(inner.node, path)
        return total

    nodes = count(model.graph.node, frozenset())
    if nodes > MOST_NODES:
        raise FlowError(
            f"a network may have {MOST_NODES:,} nodes, but '{place}' has {nodes:,} with its functions inlined; "
            "export it again"
        )
    model.CopyFrom(inliner.inline_local_functions(model))


def selectors(model: onnx.ModelProto, inputs: Collection[str]) -> set[str]:
    """Those of these inputs that alone, or with one another, decide which branch an If takes."""
    known = {tensor.name for tensor in model.graph.initializer} | set(inputs)
    origins: dict[str, set[str]] = {name: {name} for name in inputs}
    selecting: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "If":
            selecting |= origins.get(node.input[0], set())
        elif all(name in known for name in reads(node)):
            known.update(node.output)
            own = {origin for name in reads(node) for origin in origins.get(name, ())}
            origins |= dict.fromkeys(node.output, own)
    return selecting


def chosen_sizes(model: onnx.ModelProto, taken: onnx.ModelProto) -> list[str]:
    """The inputs of a network taken from `model` whose sizes it does not declare, in words."""
    declared = {value.name: value for value in graph_inputs(model)}
    changed = [value for value in graph_inputs(taken) if value != declared.get(value.name)]
    return [f"'{v.name}' {[d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim]}" for v in changed]


def _fix_selectors(model: onnx.ModelProto, samples: Sequence[Mapping[str, NDArray[Any]]]) -> list[str]:
    """Make inputs constant that alone decide which branch an If takes, where they have one value in all samples.

    Such an input (a sampling rate, a switch) chooses among networks: what is compiled is the one that the samples use.
    Returns a note for each, and for those that stay inputs.
    """
    values = {}
    for value in graph_inputs(model):
        arrays = [each[value.name] for each in samples if value.name in each]
        numbers = np.unique(np.concatenate([array.reshape(-1) for array in arrays])) if arrays else np.zeros(0)
        if len(arrays) == len(samples) and numbers.size == 1 and numbers.dtype.kind in "biu":
            values[value.name] = numbers[0]
    selecting = selectors(model, values)
    chosen = [value for value in graph_inputs(model) if value.name in selecting]
    for value in chosen:
        shape = [max(dim.dim_value, 1) for dim in value.type.tensor_type.shape.dim]
        model.graph.initializer.append(numpy_helper.from_array(np.full(shape, values[value.name]), value.name))
        model.graph.input.remove(value)
    if chosen:  # the branches not taken need not fit the samples: ONNX Runtime must not see them
        fold_constants(model)
    notes = [f"Input '{value.name}' is the constant {values[value.name]}, as in all samples." for value in chosen]
    whole = [value.name for value in graph_inputs(model) if value.type.tensor_type.elem_type in WHOLE]
    left = sorted(selectors(model, whole))
    return notes + [
        f"Input '{name}' selects a branch of an If, which stays on the host: with --calibration, and one value of it "
        "in all samples, that branch alone is the network."
        for name in left
    ]


def _without_bfloat16(model: onnx.ModelProto) -> list[str]:
    """Cast inputs and outputs of bfloat16, which NumPy does not have, from and to float32; returns a note if so."""
    names = []
    first, last = list[onnx.NodeProto](), list[onnx.NodeProto]()
    outputs = list(model.graph.output)
    for value in (*graph_inputs(model), *outputs):
        if value.type.tensor_type.elem_type != TensorProto.BFLOAT16:
            continue
        value.type.tensor_type.elem_type = TensorProto.FLOAT
        names.append(value.name)
        inner = unused_name(model, f"{value.name}_bfloat16")
        rename_reads(model.graph, value.name, inner)
        if value in outputs:
            for node in model.graph.node:
                node.output[:] = [inner if name == value.name else name for name in node.output]
            last.append(helper.make_node("Cast", [inner], [value.name], f"{inner}_cast", to=TensorProto.FLOAT))
        else:
            first.append(helper.make_node("Cast", [value.name], [inner], f"{inner}_cast", to=TensorProto.BFLOAT16))
    replace_nodes(model, [*first, *model.graph.node, *last])
    listed = ", ".join(f"'{name}'" for name in names)
    return [f"Inputs and outputs of bfloat16 ({listed}) are float32, for NumPy has no bfloat16."] if names else []


def _tensors_as_outputs(model: onnx.ModelProto, place: str) -> list[str]:
    """Replace ZipMap, which makes a list of maps of a tensor [samples, classes], by the tensor.

    Other outputs that are no tensors are left out; returns a note for each. FlowError if no output is left.
    """
    maps: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "ZipMap" and node.domain == "ai.onnx.ml":
            maps.add(node.output[0])
            node.CopyFrom(helper.make_node("Identity", node.input, node.output, node.name))
    for value in model.graph.output:
        if value.name in maps:
            value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [None, None]))
    other = [value for value in model.graph.output if not value.type.HasField("tensor_type")]
    if other and len(other) == len(model.graph.output):
        kind = str(other[0].type.WhichOneof("value")).removesuffix("_type")
        raise FlowError(
            f"an output must be a tensor, but '{other[0].name}' of '{place}' is a {kind}; make the tensors in it "
            "outputs of the network"
        )
    for value in other:
        model.graph.output.remove(value)
    if other:
        drop_unused_nodes(model)
    return [f"Output '{value.name}' is no tensor, and left out." for value in other]
