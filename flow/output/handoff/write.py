"""All that a build hands to tools that know nothing of this package."""

from __future__ import annotations

from pathlib import Path

from flow.hardware.emit import Wrapper
from flow.hardware.interface import Device
from flow.output.handoff.firmware import write_firmware
from flow.output.handoff.memories import write_memories, write_vectors, write_whole
from flow.output.handoff.registers import write_registers
from flow.output.handoff.testbenches import write_testbenches
from flow.output.handoff.whole import Whole
from flow.scheduling.blocks import Program
from flow.simulation.results import SampleRun


def write_handoff(
    folder: Path,
    name: str,
    program: Program,
    built: Device,
    wrapper: Wrapper,
    run: SampleRun,
    whole: Whole | None = None,
) -> None:
    """Write memory/, vectors/, testbench/ and firmware/ for the network `name`; `run` is one sample's.

    And network/ where the `whole` network runs on chip.
    """
    write_memories(folder, program, built)
    write_vectors(folder, program, built, run)
    if whole:
        write_whole(folder, built, whole)
    write_testbenches(folder, program, built, run, whole)
    write_firmware(folder, name, program, built, run, whole)
    write_registers(folder, program, built, wrapper, whole)
