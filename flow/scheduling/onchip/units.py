"""The units of a network that run on chip or not: its layers, and the host's nodes, parted at 8-bit tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from flow.frontend.int8.cut import host_segment, is_copied, is_lazy
from flow.network.model import ArrayLayer, HostSegment, Network
from flow.onnxtools.graph import reads

EIGHT_BITS = (TensorProto.INT8, TensorProto.UINT8)


@dataclass(frozen=True, eq=False)
class Unit:
    """What runs on chip as one, or not: a layer, or nodes of the host that are joined by tensors of more than 8 bits.

    `step` is the number of the network's step that it is, or is part of. `inputs` are the tensors that must be there;
    `outputs` are all tensors it makes.
    """

    step: int
    layer: ArrayLayer | None
    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its nodes, for a user."""
        return (self.layer.name,) if self.layer else tuple(node.name or node.output[0] for node in self.nodes)


def units(network: Network) -> list[Unit]:
    """All units, in an order in which every unit's inputs are ready."""
    result: list[Unit] = []
    nodes = _nodes(network)
    for number, step in enumerate(network.steps):
        if isinstance(step, ArrayLayer):
            result.append(Unit(number, step, (), (step.input,), (step.output,)))
        else:
            result += _parted(network, number, nodes[number])
    return result


def _nodes(network: Network) -> dict[int, list[onnx.NodeProto]]:
    """The nodes of each of the network's steps that the host computes.

    A node whose outputs have more than 8 bits belongs to the first step that reads one, so that both are in one unit.
    """
    order = {node.output[0]: place for place, node in enumerate(network.model.graph.node)}
    found: dict[int, list[onnx.NodeProto]] = {}
    read: dict[str, int] = {}  # by tensor, the first step that reads it
    for number, step in reversed(list(enumerate(network.steps))):
        if isinstance(step, ArrayLayer):
            read[step.input] = number
            continue
        found.setdefault(number, [])
        for node in reversed(_eager(network, step)):
            outputs = [name for name in node.output if name]
            stays = any(name in network.outputs or has_eight_bits(network, name) for name in outputs)
            readers = [read[name] for name in outputs if name in read and not stays]
            place = min(readers, default=number)
            found[place].append(node)
            for name in needed(network, node):
                read[name] = min(place, read.get(name, place))
    return {number: sorted(nodes, key=lambda node: order[node.output[0]]) for number, nodes in found.items()}


def together(network: Network, name: str, chosen: Sequence[Unit]) -> HostSegment:
    """The nodes of units as one host segment, with the name of the network's own one if these are all of it."""
    nodes = [node for unit in chosen for node in unit.nodes]
    order = {node.output[0]: number for number, node in enumerate(network.model.graph.node)}
    nodes.sort(key=lambda node: order[node.output[0]])
    made = {node.output[0] for node in nodes}
    for number in {unit.step for unit in chosen}:
        step = network.steps[number]
        assert isinstance(step, HostSegment)
        if {node.output[0] for node in _eager(network, step)} == made:
            return host_segment(network, step.name, nodes)
    return host_segment(network, name, nodes)


def _eager(network: Network, segment: HostSegment) -> list[onnx.NodeProto]:
    """The segment's nodes without those that every segment has of its own."""
    return [node for node in segment.model.graph.node if not is_lazy(network.graph, node)]


def _parted(network: Network, number: int, nodes: Sequence[onnx.NodeProto]) -> Iterator[Unit]:
    """The units of a step's nodes: cut at every 8-bit tensor, unless that would make two wait for each other."""
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    joined = _Sets(len(nodes))
    edges = set[tuple[int, int]]()  # from a node to one that reads its 8-bit tensor
    for index, node in enumerate(nodes):
        for name in needed(network, node):
            if (maker := makers.get(name)) is not None:
                if has_eight_bits(network, name):
                    edges.add((maker, index))
                else:
                    joined.join(maker, index)
    _join_circles(joined, edges)
    members: dict[int, list[onnx.NodeProto]] = {}
    for index, node in enumerate(nodes):
        members.setdefault(joined.of(index), []).append(node)
    order = _in_order(members, {(joined.of(a), joined.of(b)) for a, b in edges})
    for group in order:
        yield _unit(network, number, members[group])


def _unit(network: Network, number: int, nodes: list[onnx.NodeProto]) -> Unit:
    outputs = tuple(name for node in nodes for name in node.output if name)
    read = dict.fromkeys(name for node in nodes for name in needed(network, node))
    inputs = tuple(name for name in read if name not in outputs and name not in network.graph.constants)
    return Unit(number, None, tuple(nodes), inputs, outputs)


def needed(network: Network, node: onnx.NodeProto) -> Iterator[str]:
    """The tensors a node reads, 8-bit ones in place of those that it dequantizes itself."""
    for name in reads(node):
        maker = network.graph.producer(name)
        yield maker.input[0] if maker is not None and is_copied(network.graph, maker) else name


def has_eight_bits(network: Network, name: str) -> bool:
    declared = network.types.declared.get(name)
    return declared is not None and declared.type.tensor_type.elem_type in EIGHT_BITS


class _Sets:
    """Numbers 0 to `count` - 1 in sets that can be joined."""

    def __init__(self, count: int) -> None:
        self.parents = list(range(count))

    def of(self, number: int) -> int:
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]
            number = self.parents[number]
        return number

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.of(one), self.of(other)))
        self.parents[second] = first


def _join_circles(joined: _Sets, edges: Iterable[tuple[int, int]]) -> None:
    """Join sets that wait for each other: what one makes in 8 bits is read by another, and the other way round."""
    later: dict[int, set[int]] = {}
    for a, b in edges:
        if joined.of(a) != joined.of(b):
            later.setdefault(joined.of(a), set()).add(joined.of(b))
    reached = {group: _reached(group, later) for group in later}
    for group, found in reached.items():
        for other in found:
            if group in reached.get(other, ()):
                joined.join(group, other)


def _reached(group: int, later: dict[int, set[int]]) -> set[int]:
    found, new = set[int](), [group]
    while new:
        for other in later.get(new.pop(), ()):
            if other not in found:
                found.add(other)
                new.append(other)
    return found


def _in_order(groups: Iterable[int], edges: Iterable[tuple[int, int]]) -> list[int]:
    """The groups, each behind those it waits for, otherwise as they are."""
    before: dict[int, set[int]] = {group: set() for group in groups}
    for a, b in edges:
        if a != b:
            before[b].add(a)
    result: list[int] = []
    while before:
        ready = next(group for group, waits in before.items() if not waits)
        del before[ready]
        result.append(ready)
        for waits in before.values():
            waits.discard(ready)
    return result
