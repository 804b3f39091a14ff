"""Joining signals into a bus."""

from myhdl import ConcatSignal


def join(*signals):
    """One bus of the signals, the first most significant; a single signal is its own bus."""
    return ConcatSignal(*signals) if len(signals) > 1 else signals[0]
