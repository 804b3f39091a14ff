"""Faults in the Verilog: each is caught, and found in the right place."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from flow.compression.encoding import EncodedLayer
from flow.errors import FlowError
from flow.hardware import faults
from flow.hardware.config import PE_KINDS, ArrayConfig
from flow.hardware.emit import emit, modules
from flow.hardware.interface import Device
from flow.judgement import localize
from flow.judgement.localize import Location
from flow.network.model import ArrayLayer
from flow.network.reference import accumulate
from flow.scheduling.blocks import Program
from flow.scheduling.schedule import schedule
from flow.scheduling.words import activation_words
from flow.simulation.cosim import Rtl, run_layer
from flow.simulation.engines import ENGINES
from tests.helpers.layers import Int8, random_codes, random_layer
from tests.helpers.tools import once_each, require_engine

CONFIG = ArrayConfig(2, 4, drain=2, activation_depth=16)  # windows of three tiles at most


@dataclass(frozen=True)
class Bench:
    """Two small layers (several tiles, blocks and N; the second raw), their inputs, and the sound device."""

    program: Program
    codes: tuple[Int8, ...]
    device: Device
    functions: dict[str, str]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench_of(CONFIG, tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bench]:
    """The same on elements without skipping."""
    return {
        kind: bench_of(
            replace(CONFIG, pe=kind, columns_per_cycle=2 if kind == "pairs" else 1), tmp_path_factory.mktemp(kind)
        )
        for kind in PE_KINDS
        if kind != CONFIG.pe
    }


def bench_of(config: ArrayConfig, folder: Path) -> Bench:
    made: list[tuple[EncodedLayer, ArrayLayer]] = []
    for seed, (reduction, positions, pruned, raw) in enumerate(
        [(70, 9, (0, 0, 4, 4, 4, 2, 6, 6), False), (40, 3, (2, 2, 4, 0, 6), True)]
    ):
        encoded, layer = random_layer(seed, reduction, positions, pruned, raw)
        made.append((encoded, replace(layer, name=f"layer{seed}")))
    program = schedule([encoded for encoded, _ in made], [layer for _, layer in made], config)
    codes = tuple(random_codes(seed, layer) for seed, (_, layer) in enumerate(made))
    functions = {name: module.function for name, module in modules(config).items()}
    return Bench(program, codes, emit(config, folder), functions)


def locate(bench: Bench, engine: str, fault: str | None, folder: Path) -> Location | None:
    """Where the first failing layer goes wrong; None if none does."""
    design = bench.device
    if fault is not None:
        files = faults.inject(design.files, bench.functions, faults.find(fault), folder)
        design = replace(design, files=files)
    return locate_in(design, bench, engine, folder)


def locate_in(design: Device, bench: Bench, engine: str, folder: Path) -> Location | None:
    simulator = ENGINES[engine].open(design)
    for scheduled, codes in zip(bench.program.layers, bench.codes, strict=True):
        tensor = scheduled.layer.input_quantization.from_int8(codes)
        run = run_layer(Rtl(bench.program, simulator), scheduled, tensor)
        if run.mismatches:
            return localize.find(bench.program, scheduled, run, simulator, folder / "wave.vcd")
    return None


OTHERS = {  # the element that has a block which the default one lacks
    **dict.fromkeys(("byte_select", "parallel_pe"), "parallel"),
    **dict.fromkeys(
        ("slice_count", "slice_places", "pairs_array", "pair_tables", "pairs_control", "pick_lines", "constant_digit",
         "pairs_pe", "pair_column", "pair_choice", "slice_value", "weighed_slice", "aligned_term"), "pairs",
    ),
}  # fmt: skip
UNKNOWN_IN_ICARUS = {"ram:no-bypass", "accumulator:never-cleared"}
"""Their unknown bits hide where they come from; Verilator, which has no unknown bits, finds the second (below)."""


def test_faults_are_of_every_block(bench: Bench, tmp_path: Path) -> None:
    require_engine("icarus")
    assert len(faults.FAULTS) >= 40
    assert {fault.block for fault in faults.FAULTS.values()} == set(bench.functions.values()) | set(OTHERS)
    assert len(UNKNOWN_IN_ICARUS) <= len(faults.FAULTS) // 10
    assert locate(bench, "icarus", None, tmp_path) is None


@pytest.mark.parametrize("name", once_each(faults.FAULTS, lambda name: name[0] < "m"))
def test_every_fault_is_caught_and_found(bench: Bench, plain: dict[str, Bench], tmp_path: Path, name: str) -> None:
    require_engine("icarus")
    other = OTHERS.get(faults.FAULTS[name].block)
    at = locate(plain[other] if other else bench, "icarus", name, tmp_path)
    assert at is not None
    if name not in UNKNOWN_IN_ICARUS:
        assert at.hardware_block == faults.FAULTS[name].block


@pytest.mark.full
def test_verilator_names_column_and_cycle(bench: Bench, tmp_path: Path) -> None:
    """A wrong sign shows in the first bit column, the only one that is subtracted."""
    require_engine("verilator")
    at = locate(bench, "verilator", "pe:stuck-sign", tmp_path)
    assert at is not None and at.mismatch is not None and at.waveform is not None
    assert (at.hardware_block, at.group, at.bit_column) == ("pe", 0, 0)
    assert at.sum_expected is not None and at.sum_got == -at.sum_expected
    assert at.run == f"position tile {at.mismatch.tile} of channel block {at.mismatch.block}"
    assert Path(at.waveform).read_text().count("$enddefinitions") == 1
    assert str(at.mismatch) in str(at) and at.waveform in str(at)


@pytest.mark.full
def test_a_missing_reset_is_told_from_other_faults(bench: Bench, tmp_path: Path) -> None:
    """From zeros the buffer's places agree without it."""
    require_engine("verilator")
    name = f"{CONFIG.name}_stream.v"
    file = next(file for file in bench.device.files if file.name == name)
    wrong = tmp_path / name
    wrong.write_text(re.sub(r"head <= \d+'d0;", "", file.read_text(), count=1))
    design = replace(bench.device, files=tuple(wrong if each == file else each for each in bench.device.files))
    at = locate_in(design, bench, "verilator", tmp_path)
    assert at is not None and at.uninitialized and at.hardware_block is None and at.waveform is not None
    assert "with zeros in all registers before reset nothing is wrong: one is used that nothing resets" in str(at)


@pytest.mark.full
def test_a_fault_that_needs_an_earlier_tile_gets_it(bench: Bench, tmp_path: Path) -> None:
    """An accumulator that is never cleared is right for the first tile after reset."""
    require_engine("verilator")
    at = locate(bench, "verilator", "accumulator:never-cleared", tmp_path)
    assert at is not None and at.mismatch is not None
    assert not at.run.startswith("position tile ") and at.mismatch.tile > 0
    assert (at.hardware_block, at.bit_column) == ("accumulator", 0)


@pytest.mark.parametrize("kind", ["dense", "parallel", "pairs"])
def test_other_elements_are_located(kind: str, plain: dict[str, Bench], tmp_path: Path) -> None:
    """The first wrong sum; a bit column only where an element takes one."""
    require_engine("icarus")
    at = locate(plain[kind], "icarus", "accumulator:dropped-carry", tmp_path)
    assert at is not None and (at.hardware_block, at.cycle is not None) == ("accumulator", True)
    assert at.sum_expected != at.sum_got and (at.bit_column is None) == (kind == "parallel")


@pytest.mark.parametrize("kind", PE_KINDS)
def test_running_sums_end_in_the_reference(kind: str, bench: Bench, plain: dict[str, Bench]) -> None:
    """The last running sum is the accumulator of the reference, but for the bias and the offset of 128."""
    bench = plain.get(kind, bench)
    config = bench.program.config
    blocks = [block for scheduled in bench.program.layers for block in scheduled.blocks]
    if kind == CONFIG.pe:
        assert any(block.ahead for block in blocks) and any(block.hold for block in blocks)
    for scheduled, codes in zip(bench.program.layers, bench.codes, strict=True):
        layer = scheduled.layer
        shifted = codes.reshape(-1, layer.reduction)
        memories = bench.program.memories | {"activation": activation_words(scheduled, shifted[None], config)}
        weights = layer.weights.astype(np.int64)
        offset = 128 * weights.sum(axis=1) + layer.input_quantization.zero_point * weights.sum(axis=1) - layer.bias
        want = accumulate(layer, codes) + offset
        for number, block in enumerate(scheduled.blocks):
            first = block.first_tile * config.rows
            for position in range(first, min(first + block.tiles * config.rows, layer.positions)):
                tile, row = divmod(position - first, config.rows)
                for column, channel in enumerate(block.channels):
                    sums = localize.running_sums(memories, scheduled.first + number, tile, row, column, config)
                    assert sums[-1] == want[position, channel]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nothing:stuck-0",
            r"unknown fault 'nothing:stuck-0'; --fault takes BLOCK:KIND, with BLOCK one of accelerator",
        ),
        ("pe:nothing", r"unknown fault 'pe:nothing'; choose one of pe:dropped-carry"),
    ],
)
def test_unknown_faults_are_refused(name: str, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        faults.find(name)
