"""Backpressure and errors: the same bits behind memories that stall at random; wrong commands end with a code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flow.hardware.config import PE_KINDS, ArrayConfig
from flow.hardware.emit import emit
from flow.hardware.fields import ERRORS, error_code
from flow.scheduling.cycles import layer_cycles
from flow.simulation.engines import ENGINES, Simulator
from flow.simulation.engines.base import Command, DeviceError
from tests.helpers.layers import TINY, WRONG, Job, broken, random_codes, random_job, random_layer, single
from tests.helpers.stalls import VIOLATION, stalled_device
from tests.helpers.tools import require_engine

CONFIG = ArrayConfig(2, 3, **TINY, drain=2)


def run(simulator: Simulator, work: Job, limit: int = 10**6) -> int:
    """Checks every byte of the output memory; the cycles."""
    scheduled = work.scheduled
    command = Command(scheduled.first, len(scheduled.blocks), limit)
    result = simulator.run(work.memories, command, {"output": scheduled.output_words})
    assert np.array_equal(result.memories["output"], work.want)
    return result.cycles


@pytest.fixture(scope="module")
def simulators(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Simulator]:
    """CONFIG's accelerator with its ports as they are, and both elements with ports that stall."""
    require_engine("verilator")
    folder = tmp_path_factory.mktemp("handshakes")
    devices = {"direct": emit(CONFIG, folder / "direct")}
    devices |= {kind: stalled_device(replace(CONFIG, pe=kind), 5, folder / kind) for kind in PE_KINDS}
    return {name: ENGINES["verilator"].open(device, folder) for name, device in devices.items()}


@pytest.mark.full
@pytest.mark.parametrize("kind", PE_KINDS)
def test_random_stalls_change_no_bit(kind: str, simulators: dict[str, Simulator]) -> None:
    """Random layers, every port stalling; nothing asked for changes while it waits."""
    config = replace(CONFIG, pe=kind)
    slower = 0
    for seed in range(60):
        work = random_job(seed, config)
        slower += run(simulators[kind], work) > 1.5 * layer_cycles(work.scheduled, config)
    assert slower > 50


@pytest.mark.full
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "verilator"])
def test_random_stalls_in_every_engine(engine: str, tmp_path: Path) -> None:
    require_engine(engine)
    simulator = ENGINES[engine].open(stalled_device(CONFIG, 5, tmp_path))
    for raw in (False, True):
        encoded, layer = random_layer(3, 37, 3, (0, 4, 2, 4), raw)
        run(simulator, single(encoded, layer, CONFIG, random_codes(3, layer)))


def test_the_engines_stall_alike(simulators: dict[str, Simulator], tmp_path: Path) -> None:
    """The stalls are part of the device: the same cycles everywhere."""
    encoded, layer = random_layer(4, 20, 3, (4, 4))
    work = single(encoded, layer, CONFIG, random_codes(4, layer))
    native = ENGINES["myhdl"].open(stalled_device(CONFIG, 5, tmp_path))
    assert run(native, work) == run(simulators["bitvert"], work)


# -------------------------------------------------------------------------------- errors
def layer_job() -> Job:
    encoded, layer = random_layer(5, 37, 5, (0, 4, 2, 4, 4))
    return single(encoded, layer, CONFIG, random_codes(5, layer))


def fails(simulator: Simulator, work: Job, code: int) -> None:
    scheduled = work.scheduled
    with pytest.raises(DeviceError, match=rf": error {code} at cycle "):
        simulator.run(work.memories, Command(scheduled.first, len(scheduled.blocks), 20000), {"output": 1000})


@pytest.mark.parametrize("ports", ["direct", "bitvert"])
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(("error", "changes"), WRONG)
def test_a_wrong_descriptor_ends_the_run(
    error: str, changes: dict[str, int], number: int, ports: str, simulators: dict[str, Simulator]
) -> None:
    """The first, the second or the last descriptor of a layer breaks a rule: its code, and no hang."""
    work = layer_job()
    assert len(work.scheduled.blocks) > 2
    bad, expected = broken(work, number, CONFIG, **changes)
    assert expected == error
    fails(simulators[ports], bad, error_code(error))


CHECKED = (
    "tiles", "steps", "columns", "channels", "hold", "ahead", "resident",
    "weight_count", "metadata_count", "activation_count", "parameter_count",
)  # fmt: skip


def test_random_descriptors_never_hang(simulators: dict[str, Simulator]) -> None:
    """Fields at random, most of them wrong: what the guard lets pass runs to its end, as the model says."""
    rng = np.random.default_rng(6)
    work = layer_job()
    seen = set()
    for _ in range(150):
        number = int(rng.integers(len(work.scheduled.blocks)))
        changes = {}
        for name in rng.choice(CHECKED, int(rng.integers(1, 3)), replace=False):
            changes[str(name)] = int(rng.integers(2 if name in ("hold", "ahead", "resident") else 12))
        bad, error = broken(work, number, CONFIG, **changes)
        seen.add(error)
        if error == "none":
            continue
        fails(simulators["bitvert"], bad, error_code(error))
    assert len(seen) > 6, seen


def test_a_command_without_descriptors_is_refused(simulators: dict[str, Simulator]) -> None:
    work = layer_job()
    for name in ("direct", "bitvert"):
        with pytest.raises(DeviceError, match=rf"error {error_code('command')} at cycle 2"):
            simulators[name].run(work.memories, Command(0, 0, 100), {"output": 1})


def test_every_error_is_tested() -> None:
    behind_axi = {"aborted", "watchdog"}
    assert {name for name, _ in WRONG} | {"none", "command"} == {name for name, _ in ERRORS} - behind_axi
    assert len(ERRORS) <= VIOLATION
