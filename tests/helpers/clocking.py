"""What the block tests share: signals of a width, and a clock to step blocks by."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import myhdl
from myhdl import ResetSignal, Signal, intbv


def wire(width: int = 1, value: int = 0) -> Any:
    """A signal of `width` bits; a single bit is a bool."""
    return Signal(bool(value)) if width == 1 else Signal(intbv(value)[width:])


def reset() -> Any:
    """A synchronous reset that stays low."""
    return ResetSignal(0, active=1, isasync=False)


class Bench:
    """A block under simulation; `step` is one rising edge, after which outputs have settled."""

    def __init__(self, block: Any, clk: Any = None) -> None:
        self.clk = clk
        self.simulation = myhdl.Simulation(block, self._clock())
        self.simulation.run(1, quiet=1)

    def _clock(self) -> Generator[Any, None, None]:
        while True:
            yield myhdl.delay(4)
            if self.clk is not None:
                self.clk.next = 1
            yield myhdl.delay(4)
            if self.clk is not None:
                self.clk.next = 0

    def settle(self) -> None:
        """Let combinational outputs follow their inputs; no edge. At most twice before a step."""
        self.simulation.run(1, quiet=1)

    def step(self, edges: int = 1) -> None:
        for _ in range(edges):
            self.simulation.run(8 - (myhdl.now() - 1) % 8, quiet=1)

    def close(self) -> None:
        self.simulation.quit()


def signed(value: int, bits: int) -> int:
    """The two's complement value of `bits` bits."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def packed(values: Any, width: int = 8) -> int:
    """Values of `width` bits in one word, the first lowest."""
    word = 0
    for position, value in enumerate(values):
        word |= (int(value) & ((1 << width) - 1)) << (width * position)
    return word
