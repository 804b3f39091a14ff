"""What a processing element is given cycle by cycle: what the encoders and schedulers of its array would choose.

A drive makes the cycles of one step: the inputs by name, all of one bit column (or slice) together. `stream` gives
each to the element when its pipeline takes it, tile after tile, and takes the finished sums out along the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.paper.transitive import dynamic, order
from flow.compression.encoding import EncodedGroups
from flow.hardware.competitors.bitvert import code_bits
from flow.hardware.competitors.catalogue import BITLET, BITWAVE, OURS, PARALLEL, PRAGMATIC, WINDOW, Element
from flow.hardware.competitors.catalogue import TRANSITIVE as TRANSITIVE_ELEMENT
from flow.hardware.competitors.catalogue import pairs as pairs_element
from flow.hardware.competitors.catalogue import stripes as stripes_element
from flow.hardware.config import ArrayConfig
from flow.hardware.elements.pair_tables import digits
from flow.hardware.elements.scheduler import schedule_subgroup

Cycle = dict[str, int]  # inputs by name
Values = Sequence[int]
Drive = Callable[[Any, Values], list[Cycle]]

STAGE_3 = frozenset({
    "activations", "weights", "totals", "sum_low", "sum_high", "sum_all", "invert", "invert_low", "invert_high",
    "offset", "piece", "high", "fine", "total", "triple", "size",
})  # fmt: skip
STAGE_4 = frozenset({"valid", "first", "negative", "scale_high", "coarse"})
PAIRS_3 = (STAGE_3 - {"high"}) | {"negative"}
PAIRS_4 = (STAGE_4 - {"negative"}) | {"minus", "high"}


@dataclass(frozen=True)
class Driven:
    """An element with its drive: `step` weights (`encoded`: of encoded groups) at a time.

    `stage_3`, `stage_4` are the inputs that it takes one and two cycles after the others. `largest`: magnitudes that
    it can multiply by.
    """

    element: Element
    step: int
    drive: Drive
    encoded: bool = False
    stage_3: frozenset[str] = STAGE_3
    stage_4: frozenset[str] = STAGE_4
    largest: int = 128


def packed(values: Values, width: int = 8) -> int:
    """Values of `width` bits in one word, the first lowest."""
    return sum((int(value) & ((1 << width) - 1)) << (width * place) for place, value in enumerate(values))


def magnitude(weight: int) -> int:
    """Of seven bits, as sign and magnitude store it."""
    return min(abs(weight), 127)


def ones(value: int) -> list[int]:
    return [bit for bit in range(8) if value >> bit & 1]


def place(significance: int) -> Cycle:
    """The two parts of a column's shift."""
    return {"fine": significance & 3, "coarse": significance >> 2}


def dense(weights: Values, x: Values) -> list[Cycle]:
    return [
        {"x": packed(x), "column": packed([w >> bit & 1 for w in weights], 1), "negative": bit == 7, **place(bit)}
        for bit in range(7, -1, -1)
    ]


def whole(weights: Values, x: Values) -> list[Cycle]:
    """Of the plain dot product."""
    return [{"activations": packed(x), "weights": packed(weights)}]


def parallel(weights: Values, x: Values) -> list[Cycle]:
    return [{"x": x[0], "weight": weights[0] & 255}]


def pragmatic(weights: Values, x: Values) -> list[Cycle]:
    queues = [ones(magnitude(w)) for w in weights]
    cycles: list[Cycle] = []
    while not cycles or any(queues):
        taken = [queue.pop() if queue else None for queue in queues]
        cycles.append(_powers(taken, weights, x))
    return cycles


def _powers(taken: Sequence[int | None], weights: Values, x: Values) -> Cycle:
    """One power of two of each weight, or none."""
    return {
        "x": packed(x), "power": packed([place or 0 for place in taken], 3),
        "busy": packed([place is not None for place in taken], 1), "signs": packed([w < 0 for w in weights], 1),
    }  # fmt: skip


def bitmod(weights: Values, x: Values) -> list[Cycle]:
    """Two signed powers of two of each weight, given in half steps of its group's scale: for Pragmatic's element."""
    cycles = []
    for term in range(2):
        taken = [[*ones(abs(w)), None, None][term] for w in weights]
        cycles.append(_powers(taken, weights, x))
    return cycles


def bitlet(weights: Values, x: Values) -> list[Cycle]:
    lanes = [[i for i, w in enumerate(weights) if w >> bit & 1] for bit in range(8)]
    cycles: list[Cycle] = []
    while not cycles or any(lanes):
        codes = [lane.pop() if lane else WINDOW for lane in lanes]
        cycles.append({"x": packed(x), "choice": packed(codes, WINDOW.bit_length())})
    return cycles


def transitive(weights: Values, x: Values) -> list[Cycle]:
    """One channel's rows, all lanes' trees one after the other: prefixes first, a fill-in adds to no channel."""
    columns = [packed([w >> bit & 1 for w in weights], 1) for bit in range(8)]
    counts = np.bincount(columns, minlength=256)[:, None]
    tree = dynamic(counts)
    sums, cycles = {0: 0}, [{"x": 0, "prefix": 0, **place(0)}] * (not any(columns))
    for pattern in (each for each in order(8) if tree.needed[each, 0]):
        prefix = int(tree.prefix[pattern, 0])
        given = {"x": x[(pattern ^ prefix).bit_length() - 1], "prefix": sums[prefix]}
        sums[pattern] = given["x"] + given["prefix"]
        for bit in (bit for bit in range(8) if columns[bit] == pattern):
            cycles.append({**given, "negative": bit == 7, **place(bit)})
            given = {"x": 0, "prefix": sums[pattern]}
        if not counts[pattern, 0]:
            cycles.append({**given, "valid": 0, **place(0)})
    return cycles


def bitwave(weights: Values, x: Values) -> list[Cycle]:
    columns = [bit for bit in range(7) if any(magnitude(w) >> bit & 1 for w in weights)] or [0]
    return [
        {"x": packed(x), "column": packed([magnitude(w) >> bit & 1 for w in weights], 1),
         "signs": packed([w < 0 for w in weights], 1), **place(bit)}
        for bit in columns
    ]  # fmt: skip


@dataclass(frozen=True)
class Step:
    """Sixteen weights of an encoded group: S of each, `columns` bits, with the group's r and d."""

    kept: tuple[int, ...]
    columns: int
    redundant: int
    constant: int

    @staticmethod
    def of(groups: EncodedGroups, group: int = 0, half: int = 0) -> Step:
        kept = tuple(int(each) for each in groups.kept[group][16 * half : 16 * half + 16])
        return Step(kept, 8 - groups.columns_pruned, int(groups.redundant[group]), int(groups.constant[group]))

    def bits(self, number: int) -> list[int]:
        """Bit column `number`, the most significant one 0; before it copies of the sign, behind the last zeros."""
        if number >= self.columns:
            return [0] * len(self.kept)
        return [kept >> (self.columns - 1 - max(number, 0)) & 1 for kept in self.kept]


def bitvert(step: Step, x: Values) -> list[Cycle]:
    """Of the element as it stands in the array: a column a cycle."""
    cycles: list[Cycle] = []
    for number in range(step.columns):
        bits = step.bits(number)
        cycle: Cycle = {"x_low": packed(x[:8]), "x_high": packed(x[8:])}
        for name, begin in (("low", 0), ("high", 8)):
            codes, invert = schedule_subgroup(packed(bits[begin : begin + 8], 1))
            cycle |= {f"select_{name}": packed(codes, 3), f"invert_{name}": invert}
            cycle[f"sum_{name}"] = sum(x[begin : begin + 8])
        pieces = [step.constant & 7, step.constant >> 3 & 7]
        cycle |= {"sum_all": sum(x), "piece": pieces[number] if number < 2 else 0, "negative": number == 0}
        cycles.append({**cycle, "high": number == 1, "scale_high": number == 1, **place(7 - number - step.redundant)})
    return cycles


def bitvert_variant(group: int, optimized: bool) -> Drive:
    """Of the variant of table IV."""

    def drive(step: Step, x: Values) -> list[Cycle]:
        parts = [x[begin : begin + group] for begin in range(0, 16, group)]
        cycles: list[Cycle] = []
        for number in range(step.columns):
            bits = step.bits(number)
            codes, flags = [], []
            for begin in range(0, 16, group):
                chosen, invert = _choices(bits[begin : begin + group], optimized)
                codes += chosen
                flags.append(invert)
            pieces = [step.constant & 7, step.constant >> 3 & 7] if optimized else [step.constant & 63]
            cycles.append({
                "x": packed(x), "totals": packed([sum(part) for part in parts], 7 + group.bit_length()),
                "sum_all": sum(x), "choice": packed(codes, code_bits(group, optimized)), "invert": packed(flags, 1),
                "offset": pieces[number] if number < len(pieces) else 0, "high": number == 1,
                "scale_high": number == 1, "negative": number == 0, **place(7 - number - step.redundant),
            })  # fmt: skip
        return cycles

    return drive


def _choices(bits: list[int], optimized: bool) -> tuple[list[int], bool]:
    """Codes of a sub-group's multiplexers, and whether they are of the zeros."""
    half = len(bits) // 2
    invert = sum(bits) > half
    wanted = [i for i, bit in enumerate(bits) if bit != invert]
    if not optimized:
        return wanted + [len(bits)] * (half - len(wanted)), invert
    codes = []
    for lane in range(half):
        code = half + 1
        if wanted and wanted[0] <= lane + half and wanted[0] >= lane:
            code = wanted.pop(0) - lane
        codes.append(code)
    assert not wanted, bits
    return codes, invert


def pairs(per_cycle: int) -> Drive:
    """Of the pairs element: a slice of so many bit columns a cycle."""
    config = ArrayConfig(pe="pairs", columns_per_cycle=per_cycle)

    def drive(step: Step, x: Values) -> list[Cycle]:
        missing = -step.columns % per_cycle
        cycles: list[Cycle] = []
        for number in range(config.slices(step.columns)):
            first = number * per_cycle - missing
            lines = [line for column in range(first, first + per_cycle) for line in _lines(step.bits(column))]
            digit = digits(step.constant)[number] if number < 2 else 0
            cycles.append({
                "single": packed(x), "both": packed([a + b for a, b in zip(x[::2], x[1::2], strict=True)], 9),
                "total": sum(x), "triple": 3 * sum(x), "picks": packed(lines, 1),
                "size": 1 << abs(digit) - 1 if digit else 0, "minus": digit < 0, "high": number == 1,
                "negative": number == 0, **place(max(8 - first - per_cycle - step.redundant, 0)),
            })  # fmt: skip
        return cycles

    return drive


def _lines(bits: list[int]) -> list[int]:
    """What is picked of each pair: its first activation alone, its second alone, both."""
    lines = []
    for a, b in zip(bits[::2], bits[1::2], strict=True):
        lines += [a & ~b & 1, b & ~a & 1, a & b]
    return lines


BITMOD = Driven(PRAGMATIC, 8, bitmod, largest=16)
TRANSITIVE = Driven(TRANSITIVE_ELEMENT, 8, transitive)
DENSE = Driven(stripes_element(8), 8, dense)
BITVERT = Driven(OURS, 16, bitvert, encoded=True)
PAIRS = tuple(
    Driven(pairs_element(each), 16, pairs(each), encoded=True, stage_3=PAIRS_3, stage_4=PAIRS_4) for each in (1, 2, 4)
)
DRIVEN = (
    DENSE,
    Driven(stripes_element(16), 16, dense),
    Driven(PARALLEL, 1, parallel),
    Driven(PRAGMATIC, 8, pragmatic, largest=127),
    Driven(BITLET, WINDOW, bitlet),
    Driven(BITWAVE, 8, bitwave, largest=127),
    BITVERT,
    *PAIRS,
)


@dataclass(frozen=True)
class Tile:
    """One output: the cycles of its steps, and the sums that go along the row after it, the neighbours' first."""

    cycles: Sequence[Cycle]
    behind: Sequence[int] = ()


def stream(driven: Driven, tiles: Sequence[Tile]) -> Iterator[Cycle]:
    """All tiles without a pause, each input when its stage takes it.

    `capture` takes a tile's sum into the result register, and the neighbours' sums follow; a tile shorter than that
    waits for the one before it to leave.
    """
    given: list[Cycle] = []
    ports: dict[int, Cycle] = {}
    for number, tile in enumerate(tiles):
        start = next(place for place, each in enumerate(tile.cycles) if each.get("valid", 1))
        cycles = [{"valid": 1, **each, "first": place == start} for place, each in enumerate(tile.cycles)]
        given += cycles + [cycles[-1] | {"valid": 0}] * (
            len(tiles[number - 1].behind) + 1 - len(cycles) if number else 0
        )
        end = len(given) + 2  # the last column's inputs of stage 4 come two cycles later
        ports[end] = {"capture": 1}
        ports |= {end + 1 + after: {"drain": 1, "behind": sums} for after, sums in enumerate(tile.behind)}
    for now in range(max(ports) + 1):
        at = [given[min(max(now - late, 0), len(given) - 1)] for late in range(3)]
        cycle = {name: value for name, value in at[0].items() if name not in driven.stage_3 | driven.stage_4}
        cycle |= {name: value for name, value in at[1].items() if name in driven.stage_3}
        cycle |= {name: value for name, value in at[2].items() if name in driven.stage_4}
        running = 2 <= now < len(given) + 2
        yield cycle | {"valid": cycle["valid"] if running else 0, "capture": 0, "drain": 0} | ports.get(now, {})
