"""An element from outside the package: registered by name, it runs layers as the reference and the cycle model say."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from myhdl import Signal, always, always_comb, intbv

from flow.errors import FlowError
from flow.hardware import element as registry
from flow.hardware import faults
from flow.hardware.axi.bus import AxiConfig, constants
from flow.hardware.config import PE_KINDS, ArrayConfig
from flow.hardware.conversion.bundles import fresh, prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.array import array_stages, drain_ports, leaving, operand_register
from flow.hardware.core.bundles import ColumnStages
from flow.hardware.core.guard import first_error
from flow.hardware.element import Element, element_of, elements, register
from flow.hardware.elements.accumulator import accumulator, align
from flow.hardware.emit import emit, modules
from flow.scheduling.cycles import layer_cycles
from flow.simulation.engines import ENGINES
from flow.simulation.engines.base import Command
from tests.helpers.layers import TINY, random_codes, random_job, random_layer, single
from tests.helpers.tools import require_engine


@block
@prefixed(port="")
def adding_pe(clk, enable, x, ones, fine, valid, first, negative, coarse, port, bits):
    """Adds the activations under a column's ones one after the other, in a single cycle."""
    total, taken = Signal(intbv(0)[11:]), Signal(intbv(0)[11:])
    partial = Signal(intbv(0)[15:])
    term = Signal(intbv(0, min=-(2**20), max=2**20))

    @always_comb
    def add_up():
        sum_up = intbv(0)[11:]
        sum_up[:] = 0
        for i in range(8):
            low = 8 * i
            if ones[i]:
                sum_up[:] = sum_up + x[low + 8 : low]
        total.next = sum_up

    @always(clk.posedge)
    def stages():
        if enable:
            taken.next = total
            partial.next = taken << fine

    aligned = align(partial, coarse, negative, term)
    sums = accumulator(clk, enable, valid, first, term, negative, port, bits)
    return add_up, stages, aligned, sums


@block
def later_shift(clk, enable, significance, fine, coarse):
    """fine[2] at stage 3, coarse at stage 4, of significance[3] at stage 1."""
    shift2, coarse3 = Signal(intbv(0)[3:]), Signal(bool(0))

    @always(clk.posedge)
    def step():
        if enable:
            shift2.next = significance
            fine.next = shift2[2:]
            coarse3.next = shift2[2]
            coarse.next = coarse3

    return step


@block
@prefixed(column="")
def adding_array(
    clk, reset, enable, column, weight_word, metadata_word, activation_word, finished, capture, drain, results, config
):
    """An array of them."""
    bits = config.accumulator_bits
    stages = fresh(ColumnStages)
    nothing, takes = Signal(intbv(0)[bits:]), Signal(bool(0))
    fine, coarse = Signal(intbv(0)[2:]), Signal(bool(0))
    ports = drain_ports(config, capture, drain, nothing)
    sums = leaving(config, ports)

    @always_comb
    def wiring():
        takes.next = enable and column.load
        results.next = sums

    parts = [
        array_stages(clk, reset, enable, column, stages, finished),
        later_shift(clk, enable, stages.significance1, fine, coarse),
    ]
    x = [[Signal(intbv(0)[64:]) for _ in range(2)] for _ in range(config.rows)]
    ones = [[Signal(intbv(0)[8:]) for _ in range(2)] for _ in range(config.columns)]
    for r in range(config.rows):
        parts.append(operand_register(clk, takes, activation_word(64 * r + 64, 64 * r), x[r][0]))
        parts.append(operand_register(clk, enable, x[r][0], x[r][1]))
    for c in range(config.columns):
        parts.append(operand_register(clk, enable, weight_word(8 * c + 8, 8 * c), ones[c][0]))
        parts.append(operand_register(clk, enable, ones[c][0], ones[c][1]))
        for r in range(config.rows):
            parts.append(
                adding_pe(
                    clk, enable, x[r][1], ones[c][1], fine, stages.valid4, stages.first4, stages.negative4, coarse,
                    ports[r][c], bits,
                )
            )  # fmt: skip
    return wiring, parts


ADDING = Element(
    "adding", adding_array, 8, least_columns=8, faults={"adding_pe": [("stuck-fine", r"taken << fine", "taken")]}
)


@pytest.fixture
def adding(monkeypatch: pytest.MonkeyPatch) -> ArrayConfig:
    """A configuration of the element, which is forgotten afterwards."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    register(ADDING)
    return ArrayConfig(2, 3, "adding", **TINY, drain=2)


def test_it_runs_layers_as_the_reference_and_the_model_say(adding: ArrayConfig, tmp_path: Path) -> None:
    """Random layers in the fastest engine, roomy buffers: every byte, every cycle."""
    require_engine("verilator")
    config = replace(adding, weight_depth=1024, metadata_depth=128, activation_depth=128)
    simulator = ENGINES["verilator"].open(emit(config, tmp_path), tmp_path)
    for seed in range(12):
        work = random_job(seed, config)
        scheduled = work.scheduled
        command = Command(scheduled.first, len(scheduled.blocks), 10**6)
        result = simulator.run(work.memories, command, {"output": scheduled.output_words})
        assert np.array_equal(result.memories["output"], work.want), seed
        assert result.cycles == layer_cycles(scheduled, config), seed


def test_its_designs_are_not_kept(adding: ArrayConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sources, which may change, are not ours."""
    monkeypatch.setenv("BBS_CACHE", str(tmp_path / "cache"))
    assert emit(adding, tmp_path).files and not list(tmp_path.glob("cache/*"))


def test_it_runs_in_myhdl_itself(adding: ArrayConfig, tmp_path: Path) -> None:
    encoded, layer = random_layer(2, 11, 3, (0, 4, 2))
    work = single(encoded, layer, adding, random_codes(2, layer))
    scheduled = work.scheduled
    command = Command(scheduled.first, len(scheduled.blocks), 10**5)
    simulator = ENGINES["myhdl"].open(emit(adding, tmp_path))
    result = simulator.run(work.memories, command, {"output": scheduled.output_words})
    assert np.array_equal(result.memories["output"], work.want)


def test_the_flow_takes_from_it_what_it_needs(adding: ArrayConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (adding.step, adding.beats, adding.name) == (8, 1, "accelerator_adding_2x3")
    found = {module.function for module in modules(adding).values()}
    assert {"adding_array", "adding_pe", "array_stages"} <= found
    block = {
        "tiles": 1, "steps": 2, "columns": 8, "channels": 3, "hold": 0, "ahead": 0, "resident": 1, "weight_count": 16,
        "metadata_count": 0, "activation_count": 2, "parameter_count": 2,
    }  # fmt: skip
    assert first_error(block, replace(adding, weight_depth=16)) == "none"
    assert first_error(block | {"columns": 7, "weight_count": 14}, replace(adding, weight_depth=16)) == "columns"
    own, dense = (constants(config, AxiConfig()) for config in (adding, replace(adding, pe="dense")))
    assert own["array"] == dense["array"] and own["build"] != dense["build"]
    assert faults.find("adding_pe:stuck-fine").block == "adding_pe"
    with pytest.raises(FlowError, match="feature maps on chip go with bitvert and pairs"):
        adding.with_maps(64)


def test_words_of_its_own(adding: ArrayConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An element may pack its weights itself."""

    def nothing(block: Any, layer: Any, encoded: Any, config: ArrayConfig) -> Any:
        rows = block.steps * block.columns
        return np.zeros((rows, config.weight_bits // 8), np.uint8), np.zeros((0, config.columns), np.uint8)

    registry._registered["adding"] = replace(ADDING, words=nothing)
    encoded, layer = random_layer(2, 11, 3, (0, 4, 2))
    config = replace(adding, columns=8, drain=8)
    assert not single(encoded, layer, config, random_codes(2, layer)).memories["weight"].any()


def test_names_are_known_or_refused(adding: ArrayConfig) -> None:
    assert tuple(elements()) == (*PE_KINDS, "adding") and element_of("adding") is ADDING
    register(ADDING)  # once more is no change
    with pytest.raises(FlowError, match="there is an element 'adding' already; give this one another name"):
        register(replace(ADDING, step=16))
    with pytest.raises(
        FlowError, match="unknown PE kind 'none': choose one of bitvert, dense, parallel, pairs, adding"
    ):
        ArrayConfig(2, 2, "none")
    with pytest.raises(FlowError, match="'two words' must be letters"):
        replace(ADDING, name="two words")
    with pytest.raises(FlowError, match="element 'adding' takes 12 weights: it must be 8, or 16"):
        replace(ADDING, step=12)
    with pytest.raises(FlowError, match="element 'adding' takes 1, 3 bit columns a cycle: it must be 1, 2 or 4"):
        replace(ADDING, per_cycle=(1, 3))
    with pytest.raises(FlowError, match="'pairs' takes 1, 2 or 4 bit columns a cycle, but columns_per_cycle is 3"):
        ArrayConfig(2, 2, "pairs", columns_per_cycle=3)
    with pytest.raises(
        FlowError, match="'dense' takes 1 bit columns a cycle, but columns_per_cycle is 2; change --col"
    ):
        ArrayConfig(2, 2, "dense", columns_per_cycle=2)
    with pytest.raises(FlowError, match="element 'adding' takes whole weights: they must be eight, and not encoded"):
        replace(ADDING, step=16, parallel=True)


def test_an_entry_point_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another package would declare it."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    point = EntryPoint("adding", f"{__name__}:ADDING", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.GROUP else [])
    assert ArrayConfig(2, 2, "adding").element == ADDING
