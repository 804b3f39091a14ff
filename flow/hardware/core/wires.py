"""Small wiring: fresh bits, signals joined into a bus, a delay of one cycle."""

from __future__ import annotations

from myhdl import ConcatSignal, Signal, always

from flow.hardware.conversion.hierarchy import block


@block
def delay(clk, enable, d, q):
    """A register with enable."""

    @always(clk.posedge)
    def step():
        if enable:
            q.next = d

    return step


def join(*signals):
    """One bus of the signals, the first most significant; a single signal is its own bus."""
    return ConcatSignal(*signals) if len(signals) > 1 else signals[0]


def flags(count):
    """So many fresh Signals of one bit."""
    return [Signal(bool(0)) for _ in range(count)]
