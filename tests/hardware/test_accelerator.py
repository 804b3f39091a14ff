"""The whole accelerator: random layers through every engine, equal to the reference in every byte and cycle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flow.compression.encoding import EncodedLayer
from flow.compression.prune import prune
from flow.errors import FlowError
from flow.hardware.config import PE_KINDS, ArrayConfig
from flow.hardware.emit import emit
from flow.network.model import ArrayLayer
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.schedule import schedule
from flow.simulation.engines import ENGINES, Simulator
from flow.simulation.engines.base import Command
from tests.helpers.layers import TINY, Job, job, layer_of, random_codes, random_job, random_layer, single
from tests.helpers.tools import require_engine

CONFIGS = (
    ArrayConfig(2, 3, **TINY, drain=3),  # most layers pass their weights through the buffer again for every tile
    ArrayConfig(4, 4, drain=2),
    ArrayConfig(3, 8, drain=1, accumulator_bits=27),
)
SIZES = [
    pytest.param(config, id=f"{config.rows}x{config.columns}", marks=[pytest.mark.full] if number else [])
    for number, config in enumerate(CONFIGS)
]
MIXED = (0, 4, 4, 2, 6, 0, 4, 1, 2, 4, 3, 5)


class Bank:
    """Simulators by engine and configuration, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.simulators: dict[tuple[str, ArrayConfig], Simulator] = {}

    def run(self, engine: str, config: ArrayConfig, work: Job) -> int:
        """Runs the job, checks every byte of its output memory; the cycles."""
        require_engine(engine)
        if (engine, config) not in self.simulators:
            device = emit(config, self.folder / f"{len(self.simulators)}")
            self.simulators[engine, config] = ENGINES[engine].open(device)
        scheduled = work.scheduled
        result = self.simulators[engine, config].run(
            work.memories,
            Command(scheduled.first, len(scheduled.blocks), 10**6),
            {"output": scheduled.output_words},
        )
        wrong = np.argwhere(result.memories["output"] != work.want)
        assert not len(wrong), f"{len(wrong)} bytes, the first at word, row {wrong[0]}"
        return result.cycles


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return Bank(tmp_path_factory.mktemp("accelerators"))


@pytest.mark.parametrize("raw", [False, True], ids=["requantized", "raw"])
@pytest.mark.parametrize("kind", PE_KINDS)
@pytest.mark.parametrize("engine", ENGINES)
def test_one_layer_on_every_engine(engine: str, kind: str, raw: bool, bank: Bank) -> None:
    """Channels of seven N in blocks that are not full, a reduction and positions that fill neither."""
    config = replace(CONFIGS[0], pe=kind)
    encoded, layer = random_layer(1, 37, 5, MIXED[:8], raw)
    work = single(encoded, layer, config, random_codes(1, layer))
    assert bank.run(engine, config, work) == layer_cycles(work.scheduled, config)


@pytest.mark.parametrize("kind", PE_KINDS)
@pytest.mark.parametrize("config", SIZES)
def test_random_layers(config: ArrayConfig, kind: str, bank: Bank) -> None:
    """Any reduction, positions, channels, N and groups: every byte as the reference, every cycle as the model.

    What the model leaves out, a fetch that waits for room in its buffer, can only cost; it needs tiny buffers.
    """
    config = replace(config, pe=kind)
    roomy = config.weight_depth >= 1024
    for seed in range(60):
        work = random_job(seed, config)
        cycles, model = bank.run("verilator", config, work), layer_cycles(work.scheduled, config)
        said = f"seed {seed}: {cycles} cycles, the model says {model}"
        assert cycles == model if roomy else model <= cycles <= 1.1 * model, said


@pytest.mark.parametrize("together", [2, 4])
@pytest.mark.parametrize("config", [CONFIGS[0], pytest.param(CONFIGS[1], marks=pytest.mark.full)], ids=["2x3", "4x4"])
def test_random_layers_of_several_columns_a_cycle(config: ArrayConfig, together: int, bank: Bank) -> None:
    config = replace(config, pe="pairs", columns_per_cycle=together)
    for seed in range(60):
        work = random_job(seed, config)
        cycles, model = bank.run("verilator", config, work), layer_cycles(work.scheduled, config)
        said = f"seed {seed}: {cycles} cycles, the model says {model}"
        assert cycles == model if config.weight_depth >= 1024 else model <= cycles <= 1.1 * model, said


@pytest.mark.parametrize("engine", ENGINES)
def test_several_columns_a_cycle_on_every_engine(engine: str, bank: Bank) -> None:
    """Seven N: odd numbers of bit columns, and those that one slice holds."""
    config = replace(CONFIGS[0], pe="pairs", columns_per_cycle=2)
    encoded, layer = random_layer(1, 37, 5, MIXED[:8])
    work = single(encoded, layer, config, random_codes(1, layer))
    assert bank.run(engine, config, work) == layer_cycles(work.scheduled, config)


@pytest.mark.full
@pytest.mark.parametrize(
    "config", [CONFIGS[1].with_maps(256), ArrayConfig(2, 8, drain=1).with_maps(128, True)], ids=["4x4", "2x8"]
)
def test_random_layers_from_outside_past_feature_maps(config: ArrayConfig, bank: Bank) -> None:
    """Layer by layer an accelerator with feature maps takes what its unit for them adds, and no more."""
    for seed in range(60):
        work = random_job(seed, config)
        assert bank.run("verilator", config, work) == layer_cycles(work.scheduled, config), f"seed {seed}"


@pytest.mark.parametrize("kind", PE_KINDS)
@pytest.mark.parametrize("code", [-128, 127])
@pytest.mark.parametrize("weight", [-128, 127])
def test_extremes(weight: int, code: int, kind: str, bank: Bank) -> None:
    """The largest sums there are, requantized and raw."""
    config = replace(CONFIGS[1], pe=kind)
    for raw in (False, True):
        encoded, pruned = prune(np.full((5, 200), weight, np.int8), np.array([0, 2, 4, 6, 3]), "optimal")
        layer = layer_of(pruned, 6, np.random.default_rng(0), raw)
        codes = np.full((1, *layer.input_shape), code, np.int8)
        bank.run("verilator", config, single(encoded, layer, config, codes))


def test_layers_of_one_program_start_anywhere(bank: Bank) -> None:
    """The same simulator runs the layers of a network in any order, each from its descriptors."""
    config = CONFIGS[1]
    made: list[tuple[EncodedLayer, ArrayLayer]] = []
    for seed, (reduction, positions) in enumerate([(20, 7), (48, 1), (9, 30)]):
        encoded, layer = random_layer(seed, reduction, positions, MIXED[: 5 + seed])
        made.append((encoded, replace(layer, name=f"layer{seed}")))
    program = schedule([encoded for encoded, _ in made], [layer for _, layer in made], config)
    for number in (2, 0, 1, 0):
        bank.run("verilator", config, job(program, number, random_codes(number, made[number][1])))


def test_sums_that_narrow_accumulators_cannot_hold_are_refused() -> None:
    encoded, layer = random_layer(3, 600, 1, (0, 0))
    layer = replace(layer, weights=np.full_like(layer.weights, 127))
    config = ArrayConfig(2, 2, accumulator_bits=24)
    with pytest.raises(FlowError, match=r"layer 'layer': its sums reach 19431000, more than 24-bit accumulators"):
        schedule([encoded], [layer], config)
