"""Runs behind AXI, each compared with what it must leave in its output memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from flow.hardware.interface import Memory
from flow.network import reference
from flow.scheduling.blocks import Program
from flow.scheduling.onchip.program import OnChip
from flow.scheduling.words import activation_words
from flow.simulation import onchip as on_chip
from flow.simulation.cosim import cycle_limit
from flow.simulation.engines.base import Command, DeviceError
from flow.simulation.engines.behind_axi import Wrapped
from flow.simulation.onchip import ChainRun
from flow.simulation.results import LayerRun, expected_words


@dataclass(frozen=True)
class AxiRun:
    """A layer, or a segment or all of the network on chip, started by the registers, on a bus that keeps it waiting.

    `cycles` are those that the register has. `words` of the output memory were compared, and `mismatches` of them are
    wrong; `first` is the first of these. `failure` says why a run did not end well; nothing is compared then. `segment`
    counts from 1, in a network of several.
    """

    name: str
    kind: Literal["layer", "network"]
    cycles: int
    words: int
    mismatches: int = 0
    first: str | None = None
    failure: str | None = None
    segment: int | None = None

    @property
    def right(self) -> bool:
        return not self.mismatches and self.failure is None


def run_layer(wrapped: Wrapped, program: Program, number: int, run: LayerRun) -> AxiRun:
    """One layer on the input that it had in `run`, from the program's own memories, against the reference."""
    scheduled, config = program.layers[number], program.config
    codes = scheduled.layer.input_quantization.to_int8(run.tensor)
    activations = activation_words(scheduled, reference.windows(scheduled.layer, codes), config)
    command = Command(scheduled.first, len(scheduled.blocks), cycle_limit(scheduled, config))
    started = AxiRun(scheduled.layer.name, "layer", 0, scheduled.output_words)
    return _run(wrapped, started, program.memories | {"activation": activations}, command,
                expected_words(scheduled, codes, config))  # fmt: skip


def run_network(wrapped: Wrapped, name: str, program: OnChip, run: ChainRun) -> list[AxiRun]:
    """The network on chip, by one start for each segment, on the input that it had in `run`.

    Each is compared with what it left in the output memory of that run.
    """
    memories = {**program.memories, "activation": run.memories["activation"]}
    starts, runs = on_chip.commands(program), []
    for number, (command, steps) in enumerate(zip(starts, program.segment_steps, strict=True), 1):
        started = AxiRun(name, "network", 0, program.output_words, segment=number if len(starts) > 1 else None)
        runs.append(_run(wrapped, started, memories, command, program.written(run.memories["output"], steps)))
    return runs


def _run(wrapped: Wrapped, started: AxiRun, memories: Mapping[str, Memory], command: Command, want: Memory) -> AxiRun:
    try:
        result = wrapped.run(memories, command, len(want))
    except DeviceError as error:
        return replace(started, failure=str(error))
    got = result.memories["output"]
    if got.shape != want.shape:
        return replace(started, failure=f"{len(got)} words of the output memory were left, not {len(want)}")
    wrong = np.flatnonzero((got != want).any(axis=1))
    first = None
    if len(wrong):
        texts = (bytes(memory[wrong[0]][::-1]).hex() for memory in (got, want))
        first = "word {} of the output memory is {}, not {}".format(wrong[0], *texts)
    return replace(started, cycles=result.cycles, mismatches=len(wrong), first=first)
