"""Controller that walks the descriptors: hands each block's job to every unit that has become free."""

from __future__ import annotations

from dataclasses import fields

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.bundles import Units
from flow.hardware.core.wires import join

UNITS = tuple(field.name for field in fields(Units))  # in the order of the bits of `taken`


@block
@prefixed(units="")
def dispatcher(clk, reset, start, first, count, busy, started, ended, failed, quiet, memory, units, block_done):
    """Fetches descriptors one after the other and offers each to the nine units until all have taken it.

    host     start with first[16] (descriptor number) and count[16], ignored while busy; busy
    control  started: a run begins; ended: one cycle, with the last write; failed: the run must not go on: nothing
             more is asked for or offered, and ended comes when what was asked for is there and the units are quiet
    memory   memory_en, memory_addr[32], memory_ready, memory_valid of the descriptor memory, whose word holds
             until the next request is taken
    units    *_job out, *_ready in; block_done: a block's last result has been written
    """
    held = Signal(bool(0))
    present = Signal(bool(0))
    taken = Signal(intbv(0)[len(UNITS) :])  # which units have the job
    settled = Signal(intbv(0)[len(UNITS) :])  # and those that take it now
    readies = join(*(getattr(units, name).ready for name in reversed(UNITS)))
    everyone = 2 ** len(UNITS) - 1
    to_fetch = Signal(modbv(0, min=0, max=2**16))
    to_finish = Signal(intbv(0)[16:])
    address = Signal(modbv(0, min=0, max=2**16))
    place = Signal(intbv(0)[16:])
    complete = Signal(bool(0))
    request = Signal(bool(0))
    waiting = Signal(bool(0))  # a request is on the port
    expected = Signal(bool(0))  # a request has been taken, its word is not here
    active = Signal(bool(0))
    begins = Signal(bool(0))
    ends = Signal(bool(0))

    @always_comb
    def presence():
        begins.next = start and (not active)
        present.next = (memory.valid or held) and (not failed)

    @always_comb
    def offers():
        units.weight.job.next = present and (not taken[0])
        units.metadata.job.next = present and (not taken[1])
        units.activation.job.next = present and (not taken[2])
        units.parameter.job.next = present and (not taken[3])
        units.index.job.next = present and (not taken[4])
        units.compute.job.next = present and (not taken[5])
        units.drain.job.next = present and (not taken[6])
        units.fetch.job.next = present and (not taken[7])
        units.store.job.next = present and (not taken[8])

    @always_comb
    def settling():
        settled.next = taken | readies

    @always_comb
    def completeness():
        complete.next = present and (settled == everyone)

    @always_comb
    def asking():
        request.next = waiting or (complete and (to_fetch != 0)) or (begins and (count != 0))
        if begins:
            place.next = first
        else:
            place.next = address

    @always_comb
    def memory_port():
        memory.en.next = request
        memory.addr.next = place

    @always_comb
    def ending():
        if failed:
            ends.next = active and quiet and (not waiting) and (not expected)
        else:
            ends.next = block_done and (to_finish == 1)

    @always_comb
    def state():
        busy.next = active
        started.next = begins
        ended.next = ends

    @always_seq(clk.posedge, reset=reset)
    def ask():
        waiting.next = request and (not memory.ready)
        if request and memory.ready:
            address.next = place + 1
            expected.next = True
        else:
            address.next = place
            if memory.valid:
                expected.next = False

    @always_seq(clk.posedge, reset=reset)
    def walk():
        held.next = present and (not complete)
        if begins:
            to_fetch.next = count - 1
            to_finish.next = count
            active.next = True
        else:
            if complete and (to_fetch != 0):
                to_fetch.next = to_fetch - 1
            if block_done:
                to_finish.next = to_finish - 1
            if ends:
                active.next = False

    @always_seq(clk.posedge, reset=reset)
    def take():
        if complete or begins:
            taken.next = 0
        elif present:
            taken.next = settled

    return presence, offers, settling, completeness, asking, memory_port, ending, state, ask, walk, take
