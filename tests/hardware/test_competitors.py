"""The competing processing elements: dot products equal to the bit, cycles equal to the models of bench/paper.

Each element gets, cycle by cycle, what its column's encoder would choose; MyHDL and the Verilog under Icarus must
both give the dot product.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.paper import accelerators
from bench.paper.workloads import Spec, layer
from flow.compression.encoding import decode
from flow.compression.prune import METHODS
from flow.hardware.competitors.bitvert import code_bits
from flow.hardware.competitors.catalogue import (
    BITLET,
    BITWAVE,
    ELEMENTS,
    OURS,
    PLAINS,
    PRAGMATIC,
    VARIANTS,
    WINDOW,
    Element,
    stripes,
)
from flow.hardware.config import ArrayConfig
from flow.hardware.elements.pe import pe
from tests.helpers.clocking import Bench, packed, signed
from tests.helpers.tools import require_tool

Cycle = dict[str, int]  # inputs by name; those of later stages come a cycle or two later
STAGE_3 = ("activations", "weights", "totals", "sum_all", "invert", "offset", "high", "fine")
STAGE_4 = ("valid", "first", "negative", "scale_high", "coarse")
ONE = ArrayConfig(rows=1, columns=1)

Weights = list[int]
Drive = Callable[[Weights, Weights], list[Cycle]]


def magnitude(weight: int) -> int:
    return min(abs(weight), 127)


def ones(value: int) -> list[int]:
    return [bit for bit in range(8) if value >> bit & 1]


def place(significance: int) -> Cycle:
    """The two parts of a column's shift."""
    return {"fine": significance & 3, "coarse": significance >> 2}


def dense(weights: Weights, x: Weights) -> list[Cycle]:
    return [
        {"x": packed(x), "column": packed([w >> bit & 1 for w in weights], 1), "negative": bit == 7, **place(bit)}
        for bit in range(7, -1, -1)
    ]


def whole(weights: Weights, x: Weights) -> list[Cycle]:
    return [{"activations": packed(x), "weights": packed([w & 255 for w in weights])}]


def pragmatic(weights: Weights, x: Weights) -> list[Cycle]:
    queues = [ones(magnitude(w)) for w in weights]
    cycles: list[Cycle] = []
    while not cycles or any(queues):
        taken = [queue.pop() if queue else None for queue in queues]
        cycles.append({
            "x": packed(x), "power": packed([place or 0 for place in taken], 3),
            "busy": packed([place is not None for place in taken], 1), "signs": packed([w < 0 for w in weights], 1),
        })  # fmt: skip
    return cycles


def bitlet(weights: Weights, x: Weights) -> list[Cycle]:
    lanes = [[i for i, w in enumerate(weights) if w >> bit & 1] for bit in range(8)]
    cycles: list[Cycle] = []
    while not cycles or any(lanes):
        codes = [lane.pop() if lane else WINDOW for lane in lanes]
        cycles.append({"x": packed(x), "choice": packed(codes, WINDOW.bit_length())})
    return cycles


def bitwave(weights: Weights, x: Weights) -> list[Cycle]:
    columns = [bit for bit in range(7) if any(magnitude(w) >> bit & 1 for w in weights)] or [0]
    return [
        {"x": packed(x), "column": packed([magnitude(w) >> bit & 1 for w in weights], 1),
         "signs": packed([w < 0 for w in weights], 1), **place(bit)}
        for bit in columns
    ]  # fmt: skip


def bitvert(group: int, optimized: bool) -> Callable[[Any, Weights], list[Cycle]]:
    """Of an encoded group (its first 16 weights): a column a cycle."""

    def drive(encoded: Any, x: Weights) -> list[Cycle]:
        columns = 8 - encoded.columns_pruned
        kept = [int(s) for s in encoded.kept[0][:16]]
        r, d = int(encoded.redundant[0]), int(encoded.constant[0])
        parts = [x[begin : begin + group] for begin in range(0, 16, group)]
        cycles: list[Cycle] = []
        for number in range(columns):
            bits = [s >> (columns - 1 - number) & 1 for s in kept]
            codes, flags = [], []
            for begin in range(0, 16, group):
                chosen, invert = _choices(bits[begin : begin + group], optimized)
                codes += chosen
                flags.append(invert)
            pieces = [d & 7, d >> 3 & 7] if optimized else [d & 63]
            offset = pieces[number] if number < len(pieces) else 0
            cycles.append({
                "x": packed(x), "totals": packed([sum(part) for part in parts], 7 + group.bit_length()),
                "sum_all": sum(x), "choice": packed(codes, code_bits(group, optimized)), "invert": packed(flags, 1),
                "offset": offset, "high": number == 1, "scale_high": number == 1, "negative": number == 0,
                **place(7 - number - r),
            })  # fmt: skip
        return cycles

    return drive


def _choices(bits: Weights, optimized: bool) -> tuple[Weights, bool]:
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


def in_time(products: list[list[Cycle]]) -> Iterator[Cycle]:
    """All products one after the other, the later stages' inputs later; `capture` ends each product."""
    idle: Cycle = {"valid": 0, "capture": 0}
    for cycles in products:
        last = len(cycles) - 1
        given = [{**cycle, "valid": 1, "first": number == 0, "capture": 0} for number, cycle in enumerate(cycles)]
        for number in range(last + 3):
            now = {key: value for key, value in given[min(number, last)].items() if key not in (*STAGE_3, *STAGE_4)}
            if 1 <= number <= last + 1:
                now |= {key: value for key, value in given[number - 1].items() if key in STAGE_3}
            now |= {key: value for key, value in given[number - 2].items() if key in STAGE_4} if number >= 2 else idle
            yield now
        yield {"valid": 0, "capture": 1}


def in_myhdl(element: Element, products: list[list[Cycle]]) -> list[int]:
    signals = element.signals()
    bench = Bench(element.instance(**signals), signals["clk"])
    signals["enable"].next = 1
    results = []
    for cycle in in_time(products):
        for name, value in cycle.items():
            signals[name].next = value
        bench.step()
        if cycle.get("capture"):
            results.append(signed(int(signals["result"]), 32))
    bench.close()
    return results


def in_icarus(element: Element, products: list[list[Cycle]], folder: Path) -> list[int]:
    """The Verilog, driven by a word of all inputs a cycle."""
    inputs = [(name, width) for name, width in element.ports.items() if name not in ("clk", "result")]
    total = sum(width for _, width in inputs)
    state = dict.fromkeys([name for name, _ in inputs], 0) | {"enable": 1}
    words = []
    for cycle in in_time(products):
        state |= {name: int(value) for name, value in cycle.items()}
        word, begin = 0, 0
        for name, width in inputs:
            word |= state[name] << begin
            begin += width
        words.append(f"{word:x}")
    (folder / "words.hex").write_text("\n".join(words))
    pins, begin = [".clk(clk)", ".result(result)"], 0
    capture = 0
    for name, width in inputs:
        pins.append(f".{name}(word[{begin + width - 1}:{begin}])")
        capture = begin if name == "capture" else capture
        begin += width
    (folder / "bench.v").write_text(f"""
module bench;
  reg clk = 0; reg [{total - 1}:0] words [0:{len(words) - 1}]; reg [{total - 1}:0] word; wire [31:0] result;
  integer i;
  {element.name} device({", ".join(pins)});
  initial begin
    $readmemh("words.hex", words);
    for (i = 0; i < {len(words)}; i = i + 1) begin
      word = words[i]; #1; clk = 1; #1; clk = 0; #1;
      if (word[{capture}]) $display("%0d", $signed(result));
    end
  end
endmodule
""")
    files = [str(file) for file in element.verilog(folder / "rtl")]
    iverilog = require_tool("iverilog")
    subprocess.run([iverilog, "-g2012", "-s", "bench", "-o", "sim", *files, "bench.v"], cwd=folder, check=True)
    done = subprocess.run([require_tool("vvp"), "sim"], cwd=folder, check=True, capture_output=True, text=True)
    return [int(line) for line in done.stdout.split()]


def cases(size: int) -> list[tuple[Weights, Weights]]:
    """Random and extreme weights and activations."""
    generator = np.random.default_rng(size)
    drawn = [
        (generator.integers(-127, 128, size) >> generator.integers(0, 7), generator.integers(0, 256, size))
        for _ in range(40)
    ]
    corners = [(w, x) for w in (-127, -1, 0, 1, 127) for x in (0, 1, 255)]
    drawn += [(np.full(size, w), np.full(size, x)) for w, x in corners]
    return [([int(v) for v in w], [int(v) for v in x]) for w, x in drawn]


PLAIN: dict[str, tuple[Element, int, Drive]] = {
    "stripes_8": (stripes(8), 8, dense),
    "stripes_16": (stripes(16), 16, dense),
    **{element.name: (element, 2**number, whole) for number, element in enumerate(PLAINS)},
    "pragmatic": (PRAGMATIC, 8, pragmatic),
    "bitlet": (BITLET, WINDOW, bitlet),
    "bitwave": (BITWAVE, 8, bitwave),
}


@pytest.mark.parametrize("name", PLAIN)
def test_element_gives_dot_products(name: str, tmp_path: Path) -> None:
    element, size, drive = PLAIN[name]
    pairs = cases(size)
    if name.startswith(("stripes", "plain")) or name == "bitlet":  # two's complement goes to -128
        pairs.append(([-128] * size, [255] * size))
    wanted = [int(np.dot(w, x)) for w, x in pairs]
    products = [drive(w, x) for w, x in pairs]
    assert in_myhdl(element, products) == wanted
    assert in_icarus(element, products, tmp_path) == wanted


@pytest.mark.parametrize("element", VARIANTS, ids=lambda element: element.name)
def test_variant_gives_dot_products_of_pruned_weights(element: Element, tmp_path: Path) -> None:
    _, group, kind = element.name.split("_")
    drive = bitvert(int(group), kind == "optimized")
    products, wanted = [], []
    for number, (w, x) in enumerate(cases(32)):
        method, n = list(METHODS)[number % 3], number % 7
        encoded = METHODS[method](np.array([w], np.int8), n, None)
        products.append(drive(encoded, x[:16]))
        wanted.append(int(np.dot(decode(encoded)[0][:16].astype(int), x[:16])))
    assert in_myhdl(element, products) == wanted
    assert in_icarus(element, products, tmp_path) == wanted


def test_cycles_are_those_of_the_models() -> None:
    models: dict[str, Callable[[Any, ArrayConfig], accelerators.Work]] = {
        "stripes_8": accelerators.stripes,
        "pragmatic": accelerators.pragmatic,
        "bitlet": accelerators.bitlet,
        "bitwave": accelerators.bitwave,
    }
    for name, model in models.items():
        _, size, drive = PLAIN[name]
        for w, x in cases(size):
            made = layer(Spec("one", size, 1, 1), "test")
            made.weights[:] = w
            assert len(drive(w, x)) == model(made, ONE).cycles, (name, w)


@pytest.mark.parametrize("element", [*ELEMENTS, *VARIANTS], ids=lambda element: element.name)
def test_element_is_legal_in_both_languages(element: Element, tmp_path: Path, lint: Callable[..., None]) -> None:
    lint(element.verilog(tmp_path), element.name)
    command = [require_tool("ghdl"), "-a", "--std=08", *map(str, element.vhdl(tmp_path / "vhdl"))]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr


def test_catalogue_has_our_element_as_it_is_in_the_array() -> None:
    assert OURS.make is pe and OURS in ELEMENTS
