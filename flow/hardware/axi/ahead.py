"""Descriptors ahead of their use: a run's are fetched one after the other, before the accelerator asks for them."""

from __future__ import annotations

from myhdl import ResetSignal, Signal, always_comb, always_seq, intbv

from flow.hardware.conversion.bundles import fresh, prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.bundles import Reader
from flow.hardware.core.stream import stream
from flow.hardware.core.wires import flags


@block
@prefixed(port="", memory="memory_")
def axi_ahead(clk, reset, start, first, count, done, error, port, memory, settled, depth):
    """Fetches up to `depth` descriptors more than the accelerator has asked for.

    run      start: one cycle, with first[16] and count[16] as they are for the accelerator; done, error[4]: its own
    core     en, ready, valid, data: the accelerator's port, one descriptor after the other, the first first; one cycle
             from a request to its word if that is here; data holds until the next request is taken
    memory   a read port like it, of which all that was asked for comes
    settled  low after a run that ended with an error until all that was asked for has come, and was given up
    """
    flush, words_reset = (ResetSignal(0, active=1, isasync=False) for _ in range(2))
    words = fresh(Reader, word=len(port.data))
    job_ready, halt, quiet, leftover, takes, taken = flags(6)
    base, length = (Signal(intbv(0)[32:]) for _ in range(2))

    @always_comb
    def job():
        flush.next = reset
        words_reset.next = reset or (leftover and quiet)
        base.next = first
        length.next = count
        halt.next = (error != 0) and (not port.en)
        settled.next = not leftover

    @always_comb
    def answer():
        port.ready.next = words.ready
        takes.next = port.en and words.ready
        words.read.next = port.en and words.ready
        words.rewind.next = False
        words.discard.next = True
        port.valid.next = taken
        port.data.next = words.word

    @always_seq(clk.posedge, reset=flush)
    def remember():
        taken.next = takes
        if done:
            leftover.next = error != 0
        elif quiet:
            leftover.next = False

    fetching = stream(
        clk, words_reset, start, job_ready, base, length, memory, words, halt, quiet, len(port.data), depth, 1
    )
    return job, answer, remember, fetching
