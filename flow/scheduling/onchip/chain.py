"""A network as chains of layers and post-processing on chip, in segments, and what the host computes between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flow.frontend.inspection import QUANTIZATION
from flow.frontend.int8.layers import tensor_quantization
from flow.network.model import ArrayLayer, HostSegment, Network, Quantization
from flow.onnxtools import runtime
from flow.onnxtools.graph import is_dequantize, node_name, reads
from flow.scheduling.onchip.arrange import laid_out
from flow.scheduling.onchip.maps import Held, OffChipError, as_map
from flow.scheduling.onchip.moves import MOVES
from flow.scheduling.onchip.nodes import post_operations
from flow.scheduling.onchip.planes import MOST, more_products, over_planes
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.shaping import SHAPING
from flow.scheduling.onchip.units import Unit, has_eight_bits, needed, together, units


@dataclass(frozen=True)
class ChainLayer:
    """A layer and the map it reads."""

    layer: ArrayLayer
    source: Held

    @property
    def output(self) -> str:
        return self.layer.output

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source.tensor,)


SAME_ORDER = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")  # they give a tensor another shape

Step = ChainLayer | PostOp
OffChip = tuple[ArrayLayer | HostSegment, ...]  # in order: by the host, or a layer by itself


@dataclass(frozen=True)
class Segment:
    """What one start runs, in order: `inputs` are loaded, `outputs` (tensors) leave the chip.

    `before` runs first, off chip; `units` are the parts of the network that the steps compute.
    """

    before: OffChip
    inputs: tuple[Held, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    units: tuple[Unit, ...] = field(default=(), repr=False, compare=False)

    @property
    def layers(self) -> tuple[ArrayLayer, ...]:
        return tuple(step.layer for step in self.steps if isinstance(step, ChainLayer))


@dataclass(frozen=True)
class Left:
    """Nodes between two layers that do not run on chip, and why; they run before segment `segment` of the chain.

    `returns`: a layer follows, so that the network comes back to the chip behind them, or the layer is alone itself.
    """

    nodes: tuple[str, ...]
    reason: str
    segment: int
    returns: bool


@dataclass(frozen=True)
class Chain:
    """What runs on chip, one start for each segment; none if nothing can.

    `after` runs off chip behind the last segment; `held` is the map of every 8-bit tensor on chip, by the tensor's name
    (several tensors can share one map). `left` are nodes between layers that leave the chip, in order.
    """

    segments: tuple[Segment, ...]
    after: OffChip
    held: Mapping[str, Held]
    left: tuple[Left, ...] = ()

    @property
    def inputs(self) -> tuple[Held, ...]:
        """The inputs of all segments in order; a map that several load is there as often."""
        return tuple(held for segment in self.segments for held in segment.inputs)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of all segments in order."""
        return tuple(step for segment in self.segments for step in segment.steps)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The tensors that leave the chip, of all segments in order."""
        return tuple(name for segment in self.segments for name in segment.outputs)

    @property
    def alone(self) -> tuple[ArrayLayer, ...]:
        """The layers that are in no segment: each runs by itself."""
        between = [step for segment in self.segments for step in segment.before]
        return tuple(step for step in (*between, *self.after) if isinstance(step, ArrayLayer))

    @property
    def whole(self) -> bool:
        """Whether one start runs all layers."""
        return len(self.segments) == 1 and not self.alone

    @property
    def around(self) -> tuple[str, ...]:
        """The nodes that the host computes before the first segment and behind the last one.

        Those that only quantize or give a tensor another shape are not among them.
        """
        off = (*(self.segments[0].before if self.segments else ()), *self.after)
        nodes = [node for step in off if isinstance(step, HostSegment) for node in step.model.graph.node]
        return tuple(node_name(node) for node in nodes if node.op_type not in (*QUANTIZATION, *SAME_ORDER))

    @property
    def units(self) -> dict[str, bool]:
        """Whether the hardware needs each of `config.UNITS`."""
        posts = [step for step in self.steps if isinstance(step, PostOp)]
        return {
            "tables": any(step.filled or step.constants for step in posts),
            "products": any(step.signed for step in posts),
            "normalizer": any(step.norm is not None for step in posts),
            "operands": any(step.matrices is not None for step in posts),
        }

    @property
    def output_steps(self) -> dict[str, int]:
        """By output, the number of the step that produces it; outputs that no step produces are left out."""
        makers = {step.output: number for number, step in enumerate(self.steps)}
        tensors = {name: self.held[name].tensor if name in self.held else name for name in self.outputs}
        return {name: makers[tensor] for name, tensor in tensors.items() if tensor in makers}


def chain(network: Network) -> Chain:
    """The network in segments that run on chip; what leaves the chip between them is in `left`.

    The host computes what is before the first layer and behind the last one. Between them all runs on chip that can:
    whatever is ready, in turns with what is not. No segment is without a layer.
    """
    all_units = units(network)
    plan = _Plan(network, all_units, _fixed(network, all_units))
    found = _divided(plan)
    if any(name in plan.fixed for unit in plan.outside for name in unit.inputs):  # then the host makes what is fixed
        return _divided(_Plan(network, all_units, {}))
    return found


def _divided(plan: _Plan) -> Chain:
    segments, left, waiting = list[Segment](), list[Left](), list[Unit]()
    while plan.waiting:
        ready = plan.off_chip()
        waiting += ready
        left += [
            Left(unit.names, plan.off[unit], len(segments), unit in plan.before_layers)
            for unit in ready
            if plan.off[unit]
        ]
        taken = plan.on_chip()
        if taken is not None:
            before, waiting = plan.steps_of(waiting), []
            made = plan.leaving(taken)
            parts = (*taken.units, *plan.constant_of(taken.units))
            segments.append(Segment(before, tuple(taken.inputs), tuple(taken.steps), made, parts))
    return Chain(tuple(segments), plan.steps_of(waiting), plan.held, tuple(left))


@dataclass
class _Taken:
    """A segment while it is filled: what is ready, on chip or off; all maps so far, and those that are on chip."""

    ready: set[str]
    held: dict[str, Held]
    present: set[str] = field(default_factory=set)
    inputs: list[Held] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    stale: bool = False  # a unit among them has turned out to stay off chip

    def add(self, added: Sequence[Unit], steps: Sequence[Step], held: dict[str, Held]) -> None:
        """Enter units as `steps`; `held` are the maps with those they load and make."""
        self.present.update(step.output for step in steps)
        read = {name for step in steps for name in step.inputs}
        for name in (name for unit in added for name in unit.inputs if name in held):
            loaded = held[held[name].tensor]
            if loaded.tensor in read - self.present:
                self.inputs.append(loaded)
                self.present.add(loaded.tensor)
        self.held = self.held | held
        self.steps += steps
        self.units += added
        self.ready.update(name for unit in added for name in unit.outputs)


class _Plan:
    """A network while it is divided: units that wait, tensors that are ready, and units that stay off chip, and why.

    There is no reason for what is before the first layer or behind the last. `fixed` are tensors that are the same for
    every sample, as codes; `outside` are the units that have stayed off chip so far.
    """

    def __init__(self, network: Network, all_units: Sequence[Unit], fixed: Mapping[str, NDArray[Any]]) -> None:
        self.network = network
        self.outside: list[Unit] = []
        self.held: dict[str, Held] = {}
        self.ready = {*network.inputs, *network.graph.constants}
        self.off: dict[Unit, str] = {}
        self.names = 0
        self.fixed = fixed
        self.makers = {unit: name for unit in all_units for name in unit.outputs if name in fixed}
        self.waiting = [unit for unit in all_units if unit not in self.makers]
        self.ready |= set(self.fixed)
        self.before_layers = _before_layers(self.waiting)
        numbers = [unit.step for unit in self.waiting if unit.layer]
        for unit in self.waiting:
            if not numbers or not numbers[0] <= unit.step <= numbers[-1]:
                self.off[unit] = ""

    def off_chip(self) -> list[Unit]:
        """All units that are ready and stay off chip, one behind another; they then wait no longer."""
        ready = _ready([unit for unit in self.waiting if unit in self.off], self.ready)
        self._done(ready)
        self.outside += ready
        return ready

    def constant_of(self, made: Sequence[Unit]) -> list[Unit]:
        """The units that make what is fixed and read by these."""
        read = {name for unit in made for name in unit.inputs}
        return [unit for unit, name in self.makers.items() if name in read]

    def steps_of(self, off_chip: Sequence[Unit]) -> OffChip:
        """Units in order as host segments, and layers by themselves."""
        result: list[ArrayLayer | HostSegment] = []
        for alone, group in groupby(off_chip, lambda unit: unit.layer is not None):
            if alone:
                result += [unit.layer for unit in group if unit.layer]
            else:
                result.append(together(self.network, f"between_{self.names}", list(group)))
                self.names += 1
        return tuple(result)

    def on_chip(self) -> _Taken | None:
        """The next segment, whose units then wait no longer; None if nothing that is ready runs on chip."""
        while True:
            taken = _Taken(set(self.ready), self.held)
            while not taken.stale and self._fill(taken):
                pass
            if taken.stale:
                continue
            useless = _without_layer(taken.units)
            for unit in useless:
                self.off[unit] = f"'{unit.names[0]}' is next to no layer on chip, so it stays with the host's nodes"
            moved = [] if useless else self._moved_away(taken)
            for unit, reason in moved:
                self.off[unit] = reason
            if not useless and not moved:
                break
        if not taken.units:
            return None
        self.held = taken.held
        self._done(taken.units)
        return taken

    def leaving(self, taken: _Taken) -> tuple[str, ...]:
        """What a segment makes for others and for the user."""
        waiting = [unit for unit in self.waiting if unit not in taken.units]
        wanted = {name for unit in waiting for name in unit.inputs} | set(self.network.outputs)
        made = {name for unit in taken.units for name in unit.outputs}
        kept = {step.output for step in taken.steps} | set(taken.held)
        return tuple(sorted(wanted & made & kept))

    def _moved_away(self, taken: _Taken) -> list[tuple[Unit, str]]:
        """The units whose outputs leave the chip and are no maps of their own, but parts of others, and why."""
        held = {name: taken.held[name].view for name in self.leaving(taken) if name in taken.held}  # others are sums
        views = {name: view.reason for name, view in held.items() if view is not None}
        return [(unit, views[name]) for unit in taken.units for name in unit.outputs if name in views]

    def _done(self, done: Sequence[Unit]) -> None:
        self.waiting = [unit for unit in self.waiting if unit not in done]
        self.ready |= _made(done)

    def _fill(self, taken: _Taken) -> bool:
        """Add what is ready in the order of the network; whether there was anything."""
        before = len(taken.units)
        candidates = [unit for unit in self.waiting if unit not in self.off and unit not in taken.units]
        for _, group in groupby(candidates, attrgetter("step")):
            if not taken.stale:
                self._add(taken, list(group))
        return len(taken.units) > before

    def _add(self, taken: _Taken, candidates: Sequence[Unit]) -> None:
        """Add those of one step's units that are ready and can run on chip; a reason is kept for each that cannot."""
        while ready := _ready([unit for unit in candidates if unit not in self.off], taken.ready):
            try:
                steps, held = self._steps(taken, ready)
            except OffChipError as reason:
                movers = [unit for unit in taken.units if reason.view in unit.outputs and not unit.layer]
                self.off |= dict.fromkeys(movers or _culprits(ready, reason.view or reason.tensor), str(reason))
                if movers:  # all that has been made of what they move
                    taken.stale = True
                    return
            else:
                taken.add(ready, steps, held)
                return

    def _steps(self, taken: _Taken, ready: Sequence[Unit]) -> tuple[list[Step], dict[str, Held]]:
        """Units of one step of the network as steps on chip, and all maps then. OffChipError if they cannot be."""
        layer = ready[0].layer
        held = {name: each for name, each in taken.held.items() if not each.origin or name in taken.present}
        if layer is None:
            segment = together(self.network, "on_chip", ready)
            for name in segment.inputs:
                if name not in held and name not in self.fixed:
                    held[name] = self._read(name, ready)
            return [*post_operations(self._with_fixed(segment), held)], held
        if layer.input not in held:
            held[layer.input] = self._input(layer.input)
        moves = list[PostOp]()
        step = ChainLayer(layer, _source(layer, held, moves))
        if layer.output_quantization is not None:
            held[layer.output] = _held(layer.output, layer.output_shape, layer, layer.output_quantization)
        return [*moves, step], held

    def _with_fixed(self, segment: HostSegment) -> HostSegment:
        """The nodes with constants in place of the tensors that are the same for every sample."""
        fixed = [name for name in segment.inputs if name in self.fixed]
        if not fixed:
            return segment
        model = onnx.ModelProto()
        model.CopyFrom(segment.model)
        for value in [value for value in model.graph.input if value.name in fixed]:
            model.graph.input.remove(value)
        model.graph.initializer.extend(numpy_helper.from_array(self.fixed[name], name) for name in fixed)
        return replace(segment, model=model, inputs=tuple(name for name in segment.inputs if name not in fixed))

    def _read(self, name: str, ready: Sequence[Unit]) -> Held:
        """`_input` for the nodes of these units: the first that reads the tensor is in the reason."""
        try:
            return self._input(name)
        except OffChipError as reason:
            nodes = (node for unit in ready for node in unit.nodes)
            reader = next(node for node in nodes if name in needed(self.network, node))
            raise OffChipError(
                f"{reader.op_type} '{node_name(reader)}' reads what no map holds: {reason}", name
            ) from None

    def _input(self, name: str) -> Held:
        """The map of an 8-bit tensor that the host supplies. OffChipError if it is none."""
        for layer in self.network.layers:
            if layer.input == name:
                return _held(name, layer.input_shape, layer, layer.input_quantization)
        for layer in self.network.layers:
            if layer.output == name and layer.output_quantization is not None:
                return _held(name, layer.output_shape, layer, layer.output_quantization)
        quantization = self._quantization(name)
        shape = self.network.types.shapes.get(name, ())
        if quantization is None or not shape or shape[0] != 1:
            raise OffChipError(f"'{name}', which is no map of 8 bits with one scale", name)
        behind = self._layer_behind(name)
        rows = (len(shape) == 3 and behind is not None and behind.window is None) or (
            len(shape) > 2 and self._multiplied(name)
        )
        return Held(name, as_map(shape[1:], rows or len(shape) == 2, name), quantization, shape[1:], rows)

    def _multiplied(self, name: str) -> bool:
        """Whether only matrix products of two tensors read a tensor, or what nodes that move elements make of it."""
        graph, layers = self.network.graph, {layer.name for layer in self.network.layers}
        names, found = [name], False
        while names:
            tensor = names.pop()
            readers = graph.consumers.get(tensor, [])
            if not readers or tensor in self.network.outputs:
                return False
            for node in readers:
                if node.op_type == "MatMul" and node.name not in layers:
                    found = True
                elif node.op_type in (*QUANTIZATION, *MOVES, *SHAPING):
                    names += node.output
                else:
                    return False
        return found

    def _quantization(self, name: str) -> Quantization | None:
        """The quantization of an 8-bit tensor, as the nodes that make or read it say."""
        graph = self.network.graph
        maker = graph.producer(name)
        nodes = [maker] if maker is not None and maker.op_type == "QuantizeLinear" else graph.consumers.get(name, [])
        found = [tensor_quantization(graph, node) for node in nodes if maker in nodes or is_dequantize(node)]
        return found[0] if found else None

    def _layer_behind(self, name: str) -> ArrayLayer | None:
        """The next layer that reads what is computed from a tensor."""
        layers, graph = {layer.name: layer for layer in self.network.layers}, self.network.graph
        names, seen = [name], {name}
        while names:
            for node in graph.consumers.get(names.pop(0), []):
                if node.name in layers:
                    return layers[node.name]
                new = [output for output in node.output if output and output not in seen]
                names += new
                seen.update(new)
        return None


def _fixed(network: Network, all_units: Sequence[Unit]) -> dict[str, NDArray[Any]]:
    """The 8-bit tensors that are the same for every sample, as a class token is: shapes alone lead to them."""
    found, apart = dict[str, NDArray[Any]](), {*network.outputs, *(layer.input for layer in network.layers)}
    for unit in all_units:
        (name,) = unit.outputs[-1:]
        if (
            unit.layer
            or name in apart
            or not unit.inputs
            or not has_eight_bits(network, name)
            or not _of_shapes(network, unit)
        ):
            continue
        shapes = {each: network.types.shapes.get(each) for each in unit.inputs}
        if all(shape and shape[0] == 1 for shape in shapes.values()):
            segment = together(network, "fixed", [unit])
            value = next((value for value in segment.model.graph.output if value.name == name), None)
            if value is None or len(segment.model.graph.output) > 1:
                continue
            feeds = {
                given.name: np.zeros(
                    shapes[given.name] or (), helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
                )
                for given in segment.model.graph.input
            }
            found[name] = runtime.run(runtime.session(segment.model), feeds)[name]
    return found


def _of_shapes(network: Network, unit: Unit) -> bool:
    """Whether nothing but the shapes of a unit's inputs is read."""
    made, graph = set(unit.outputs), network.graph
    return all(
        node.op_type == "Shape" or name in made or name in graph.constants
        for node in unit.nodes
        for name in needed(network, node)
    )


def _before_layers(all_units: Sequence[Unit]) -> set[Unit]:
    """The layers, and the units that one of them waits for."""
    result, needed = set[Unit](), set[str]()
    for unit in reversed(all_units):
        if unit.layer or needed.intersection(unit.outputs):
            result.add(unit)
            needed.update(unit.inputs)
    return result


def _made(done: Iterable[Unit]) -> set[str]:
    return {name for unit in done for name in unit.outputs}


def _ready(candidates: Iterable[Unit], ready: Iterable[str]) -> list[Unit]:
    """The units whose inputs are there or made by others of them; `candidates` are in order."""
    result, there = list[Unit](), set(ready)
    for unit in candidates:
        if there.issuperset(unit.inputs):
            result.append(unit)
            there.update(unit.outputs)
    return result


def _culprits(ready: Sequence[Unit], tensor: str) -> list[Unit]:
    """The units that a reason is about: they make the tensor, else read it, else all."""
    makers = [unit for unit in ready if tensor in unit.outputs]
    readers = [unit for unit in ready if any(tensor in reads(node) for node in unit.nodes) or tensor in unit.inputs]
    return makers or readers or list(ready)


def _without_layer(taken: Sequence[Unit]) -> list[Unit]:
    """The units that no layer is joined to by what they read and make."""
    makers = {name: unit for unit in taken for name in unit.outputs}
    near: dict[Unit, set[Unit]] = {unit: set() for unit in taken}
    for unit in taken:
        for name in unit.inputs:
            if name in makers:
                near[unit].add(makers[name])
                near[makers[name]].add(unit)
    joined = {unit for unit in taken if unit.layer}
    new = list(joined)
    while new:
        for other in near[new.pop()] - joined:
            joined.add(other)
            new.append(other)
    return [unit for unit in taken if unit not in joined]


def _held(name: str, shape: tuple[int, ...], layer: ArrayLayer, quantization: Quantization) -> Held:
    """The map of a tensor of this shape that the layer reads or writes."""
    product = layer.window is None
    return Held(name, as_map(shape, product, layer.name), quantization, shape, product and len(shape) > 1)


def _source(layer: ArrayLayer, held: dict[str, Held], moves: list[PostOp]) -> Held:
    """The map that a layer reads; what has to move it is added to `moves`, and the maps that these make to `held`."""
    if layer.input not in held:
        raise OffChipError(f"the input of layer '{layer.name}' is not quantized to 8 bits")
    source = held[layer.input]
    if over_planes(layer) and (more := more_products(layer)) > MOST:
        raise OffChipError(f"layer '{layer.name}' would have {more:.1f} times as many products with planes as channels")
    rows = layer.window is None
    if source.view is not None or (source.rows != rows and (layer.positions > 1 or not rows)):
        try:
            source = laid_out(moves, held, source, rows, f"layer '{layer.name}'")
        except OffChipError:
            if source.view is not None:
                raise
    along = source.rows and source.shape[:1] == (layer.reduction,)
    if (layer.window is not None and source.rows) or (layer.window is None and layer.positions > 1 and not along):
        raise OffChipError(f"layer '{layer.name}' reads its rows along another axis than the channels")
    if layer.window is None and layer.positions == 1 and int(np.prod(source.shape)) != layer.reduction:
        raise OffChipError(f"layer '{layer.name}' reads another shape than was written")
    return source
