"""Controller that walks the descriptors: hands each block's job to every unit that has become free."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.hierarchy import block


@block
def dispatcher(
    clk, reset, start, first, count, busy, started, ended, error, quiet,
    memory_en, memory_addr, memory_ready, memory_valid,
    weight_job, weight_ready, metadata_job, metadata_ready, activation_job, activation_ready,
    parameter_job, parameter_ready, index_job, index_ready,
    compute_job, compute_ready, drain_job, drain_ready, fetch_job, fetch_ready, store_job, store_ready,
    block_done,
):  # fmt: skip
    """Fetches descriptors one after the other and offers each to the nine units until all have taken it.

    host     start with first[16] (descriptor number) and count[16], looked at while not busy; busy
    control  started: a run begins; ended: one cycle, with the last write; error[4]: the run must not go on: nothing
             more is asked for or offered, and ended comes when what was asked for is there and the units are quiet
    memory   memory_en, memory_addr[32], memory_ready, memory_valid of the descriptor memory, whose word holds
             until the next request is taken
    units    *_job out, *_ready in; block_done: a block's last result has been written
    """
    held = Signal(bool(0))
    present = Signal(bool(0))
    taken = [Signal(bool(0)) for _ in range(9)]
    taken0, taken1, taken2, taken3, taken4, taken5, taken6, taken7, taken8 = taken
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
        present.next = (memory_valid or held) and (error == 0)

    @always_comb
    def offers():
        weight_job.next = present and (not taken0)
        metadata_job.next = present and (not taken1)
        activation_job.next = present and (not taken2)
        parameter_job.next = present and (not taken3)
        index_job.next = present and (not taken4)
        compute_job.next = present and (not taken5)
        drain_job.next = present and (not taken6)
        fetch_job.next = present and (not taken7)
        store_job.next = present and (not taken8)

    @always_comb
    def completeness():
        complete.next = (
            present
            and (taken0 or weight_ready)
            and (taken1 or metadata_ready)
            and (taken2 or activation_ready)
            and (taken3 or parameter_ready)
            and (taken4 or index_ready)
            and (taken5 or compute_ready)
            and (taken6 or drain_ready)
            and (taken7 or fetch_ready)
            and (taken8 or store_ready)
        )

    @always_comb
    def asking():
        request.next = waiting or (complete and (to_fetch != 0)) or (begins and (count != 0))
        if begins:
            place.next = first
        else:
            place.next = address

    @always_comb
    def memory_port():
        memory_en.next = request
        memory_addr.next = place

    @always_comb
    def ending():
        if error != 0:
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
        waiting.next = request and (not memory_ready)
        if request and memory_ready:
            address.next = place + 1
            expected.next = True
        else:
            address.next = place
            if memory_valid:
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
        if complete or begins:
            taken0.next = False
            taken1.next = False
            taken2.next = False
            taken3.next = False
            taken4.next = False
            taken5.next = False
            taken6.next = False
            taken7.next = False
            taken8.next = False
        elif present:
            taken0.next = taken0 or weight_ready
            taken1.next = taken1 or metadata_ready
            taken2.next = taken2 or activation_ready
            taken3.next = taken3 or parameter_ready
            taken4.next = taken4 or index_ready
            taken5.next = taken5 or compute_ready
            taken6.next = taken6 or drain_ready
            taken7.next = taken7 or fetch_ready
            taken8.next = taken8 or store_ready

    return presence, offers, completeness, asking, memory_port, ending, state, ask, walk
