"""Controller that walks the descriptors: hands each block's job to every unit that has become free."""

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.hierarchy import block


@block
def dispatcher(
    clk, reset, start, first, count, busy, done,
    memory_en, memory_addr,
    weight_job, weight_ready, metadata_job, metadata_ready, activation_job, activation_ready,
    parameter_job, parameter_ready, index_job, index_ready,
    compute_job, compute_ready, drain_job, drain_ready,
    block_done,
):  # fmt: skip
    """Fetches descriptors one after the other and offers each to the seven units until all have taken it.

    host     start with first[16] (descriptor number) and count[16]; busy; done: one cycle, with the last write
    memory   memory_en, memory_addr[32] of the descriptor memory, which holds its word until the next request
    units    *_job out, *_ready in; block_done: a block's last result has been written
    """
    present = Signal(bool(0))
    taken = [Signal(bool(0)) for _ in range(7)]
    taken0, taken1, taken2, taken3, taken4, taken5, taken6 = taken
    to_fetch = Signal(intbv(0)[16:])
    to_finish = Signal(intbv(0)[16:])
    address = Signal(modbv(0, min=0, max=2**16))
    complete = Signal(bool(0))
    fetch = Signal(bool(0))
    active = Signal(bool(0))

    @always_comb
    def offers():
        weight_job.next = present and (not taken0)
        metadata_job.next = present and (not taken1)
        activation_job.next = present and (not taken2)
        parameter_job.next = present and (not taken3)
        index_job.next = present and (not taken4)
        compute_job.next = present and (not taken5)
        drain_job.next = present and (not taken6)

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
        )

    @always_comb
    def request():
        fetch.next = complete and (to_fetch != 0)

    @always_comb
    def memory_port():
        memory_en.next = start or fetch
        if start:
            memory_addr.next = first
        else:
            memory_addr.next = address

    @always_comb
    def state():
        busy.next = active
        done.next = block_done and (to_finish == 1)

    @always_seq(clk.posedge, reset=reset)
    def walk():
        if start:
            address.next = first + 1
            to_fetch.next = count - 1
            to_finish.next = count
            present.next = True
            active.next = True
        else:
            if fetch:
                address.next = address + 1
                to_fetch.next = to_fetch - 1
            if complete:
                present.next = fetch
                taken0.next = False
                taken1.next = False
                taken2.next = False
                taken3.next = False
                taken4.next = False
                taken5.next = False
                taken6.next = False
            elif present:
                taken0.next = taken0 or weight_ready
                taken1.next = taken1 or metadata_ready
                taken2.next = taken2 or activation_ready
                taken3.next = taken3 or parameter_ready
                taken4.next = taken4 or index_ready
                taken5.next = taken5 or compute_ready
                taken6.next = taken6 or drain_ready
            if block_done:
                to_finish.next = to_finish - 1
                if to_finish == 1:
                    active.next = False

    return offers, completeness, request, memory_port, state, walk
