"""The competing processing elements: dot products equal to the bit, cycles equal to the models of bench/paper.

Each element gets, cycle by cycle, what its column's encoder would choose; MyHDL and the Verilog under Icarus must
both give the dot product.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.operands import (
    BITMOD,
    BITVERT,
    DRIVEN,
    PAIRS,
    TRANSITIVE,
    Driven,
    Step,
    Tile,
    bitvert_variant,
    stream,
    whole,
)
from bench.paper import accelerators, successors, transitive
from bench.paper.workloads import Spec, layer
from flow.compression.encoding import decode
from flow.compression.prune import METHODS
from flow.hardware.competitors.catalogue import ELEMENTS, OURS, PLAINS, VARIANTS, Element
from flow.hardware.config import ArrayConfig
from flow.hardware.elements.pe import pe
from tests.helpers.clocking import Bench, signed
from tests.helpers.tools import require_tool

ONE = ArrayConfig(rows=1, columns=1)

Weights = list[int]
PLAIN = {each.element.name: each for each in (*DRIVEN, TRANSITIVE) if not each.encoded} | {
    element.name: Driven(element, 2**number, whole) for number, element in enumerate(PLAINS)
}
VARIANTS_DRIVEN = [
    Driven(element, 16, bitvert_variant(int(group), kind == "optimized"), encoded=True)
    for element in VARIANTS
    for _, group, kind in [element.name.split("_")]
]


def in_myhdl(driven: Driven, products: list[Tile]) -> list[int]:
    element = driven.element
    signals = element.signals()
    bench = Bench(element.instance(**signals), signals["clk"])
    signals["enable"].next = 1
    results = []
    for cycle in stream(driven, products):
        for name, value in cycle.items():
            signals[name].next = value
        bench.step()
        if cycle.get("capture"):
            results.append(signed(int(signals["result"]), 32))
    bench.close()
    return results


def in_icarus(driven: Driven, products: list[Tile], folder: Path) -> list[int]:
    """The Verilog, driven by a word of all inputs a cycle."""
    element = driven.element
    inputs = [(name, width) for name, width in element.ports.items() if name not in ("clk", *element.outputs)]
    total = sum(width for _, width in inputs)
    state = dict.fromkeys([name for name, _ in inputs], 0) | {"enable": 1}
    words = []
    for cycle in stream(driven, products):
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


@pytest.mark.parametrize("name", PLAIN)
def test_element_gives_dot_products(name: str, tmp_path: Path) -> None:
    driven = PLAIN[name]
    pairs = cases(driven.step)
    if driven.largest == 128:  # two's complement goes to -128
        pairs.append(([-128] * driven.step, [255] * driven.step))
    wanted = [int(np.dot(w, x)) for w, x in pairs]
    products = [Tile(driven.drive(w, x)) for w, x in pairs]
    assert in_myhdl(driven, products) == wanted
    assert in_icarus(driven, products, tmp_path) == wanted


@pytest.mark.parametrize("driven", [*VARIANTS_DRIVEN, BITVERT, PAIRS[1]], ids=lambda driven: driven.element.name)
def test_element_gives_dot_products_of_pruned_weights(driven: Driven, tmp_path: Path) -> None:
    products, wanted = [], []
    for number, (w, x) in enumerate(cases(32)):
        method, n = list(METHODS)[number % 3], number % 7
        encoded = METHODS[method](np.array([w], np.int8), n, None)
        products.append(Tile(driven.drive(Step.of(encoded), x[:16])))
        wanted.append(int(np.dot(decode(encoded)[0][:16].astype(int), x[:16])))
    assert in_myhdl(driven, products) == wanted
    assert in_icarus(driven, products, tmp_path) == wanted


def test_sums_of_neighbours_pass_after_the_own() -> None:
    """Tiles shorter than the way out wait for it."""
    driven = PLAIN["plain_1"]
    tiles = [Tile(driven.drive([w], [3]), (10 + w, 20 + w, 0)) for w in range(4)]
    seen = [(cycle["capture"], cycle["drain"], cycle.get("behind")) for cycle in stream(driven, tiles)]
    out = [each for each in seen if each[0] or each[1]]
    assert out == [each for w in range(4) for each in ((1, 0, None), (0, 1, 10 + w), (0, 1, 20 + w), (0, 1, 0))]
    assert in_myhdl(driven, tiles) == [0, 3, 6, 9]


def test_cycles_are_those_of_the_models() -> None:
    models: dict[str, Callable[[Any, ArrayConfig], accelerators.Work]] = {
        "stripes_8": accelerators.stripes,
        "pragmatic": accelerators.pragmatic,
        "bitlet": accelerators.bitlet,
        "bitwave": accelerators.bitwave,
    }
    for name, model in models.items():
        driven = PLAIN[name]
        for w, x in cases(driven.step):
            made = layer(Spec("one", driven.step, 1, 1), "test")
            made.weights[:] = w
            assert len(driven.drive(w, x)) == model(made, ONE).cycles, (name, w)


@pytest.mark.parametrize("bits", [4, 3])
def test_pragmatics_element_makes_bitmods_products(bits: int, tmp_path: Path) -> None:
    """Every value of its data types, in half steps of the scale; as many cycles as the model says."""
    values = [*successors.BITMOD_VALUES[bits], *successors.BITMOD_SPECIAL[bits]]
    half_steps = sorted({round(2 * sign * value) for value in values for sign in (1, -1)})
    generator = np.random.default_rng(bits)
    products, wanted = [], []
    for _ in range(40):
        w, x = generator.choice(half_steps, 8).tolist(), generator.integers(0, 256, 8).tolist()
        cycles = BITMOD.drive(w, x)
        assert len(cycles) == successors.bitmod(layer(Spec("one", 8, 1, 1), "test"), ONE, bits).cycles
        products.append(Tile(cycles))
        wanted.append(int(np.dot(w, x)))
    assert in_myhdl(BITMOD, products) == wanted
    assert in_icarus(BITMOD, products, tmp_path) == wanted


def test_a_lane_of_transitive_array_takes_the_cycles_of_its_model() -> None:
    """One channel's tile, all eight trees in one lane: rows that are not zero, and fill-ins."""
    for w, x in cases(8):
        columns = [sum((weight >> bit & 1) << lane for lane, weight in enumerate(w)) for bit in range(8)]
        model = transitive.dynamic(np.bincount(columns, minlength=256)[:, None])
        assert len(TRANSITIVE.drive(w, x)) == max(int(model.load.sum()), 1), w


@pytest.mark.parametrize("element", [*ELEMENTS, *VARIANTS], ids=lambda element: element.name)
def test_element_is_legal_in_both_languages(element: Element, tmp_path: Path, lint: Callable[..., None]) -> None:
    lint(element.verilog(tmp_path), element.name)
    command = [require_tool("ghdl"), "-a", "--std=08", *map(str, element.vhdl(tmp_path / "vhdl"))]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr


def test_catalogue_has_our_element_as_it_is_in_the_array() -> None:
    assert OURS.make is pe and OURS in ELEMENTS
