"""Writes all files of a build for other tools."""

from __future__ import annotations

from pathlib import Path

from flow.output.handoff.description import describe
from flow.output.handoff.example import write_example
from flow.output.handoff.firmware import write_firmware
from flow.output.handoff.memories import write_memories, write_vectors, write_whole
from flow.output.handoff.registers import write_registers
from flow.output.handoff.soc import write_soc
from flow.output.handoff.testbenches import write_testbenches
from flow.output.handoff.whole import Handoff


def write_handoff(folder: Path, handoff: Handoff) -> None:
    """Write memory/, vectors/, testbench/, firmware/ and soc/; and network/ where the whole network runs on chip."""
    write_memories(folder, handoff)
    write_vectors(folder, handoff)
    if handoff.whole:
        write_whole(folder, handoff.device, handoff.whole)
    write_testbenches(folder, handoff)
    told = describe(handoff)
    write_firmware(folder, handoff, told)
    write_registers(folder, handoff)
    write_soc(folder, handoff, told)
    if handoff.example:
        write_example(folder, handoff, told)
