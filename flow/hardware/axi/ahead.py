"""Words ahead of their use: what the accelerator will ask for is known from its descriptors, and fetched before."""

from __future__ import annotations

from myhdl import ResetSignal, Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.bundles import fresh, prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.bundles import Reader
from flow.hardware.core.ram import ram
from flow.hardware.core.stream import stream
from flow.hardware.core.wires import flags, join
from flow.hardware.interface import ReadPort


@block
@prefixed(port="", memory="memory_")
def axi_ahead(clk, reset, job, base, count, error, port, memory, quiet, jobs, depth, together):
    """Fetches up to `depth` words more than the accelerator has asked for.

    Once there is room for no more, it asks again when there is room for `together` words, so that they are a burst.

    jobs     job: the accelerator will ask for count[bits] words from base[bits] on, after those of the jobs before;
             at most `jobs`, a power of two, of which not all words are asked for
    core     en, ready, valid, data: the accelerator's port, word after word; one cycle from a request to its word if
             that is here; data holds until the next request is taken
    memory   a read port like it
    control  error[4]: once it is not 0, no more is asked for than the accelerator does; quiet: all that was asked for
             is here
    """
    flush = ResetSignal(0, active=1, isasync=False)
    words = fresh(Reader, word=len(port.data))
    places = (jobs - 1).bit_length()
    base_bits, count_bits = len(base), len(count)
    head, tail, queued = (Signal(modbv(0, min=0, max=2 * jobs)) for _ in range(3))
    write_place, read_place = (Signal(intbv(0)[places:]) for _ in range(2))
    told = join(base, count)
    front = Signal(intbv(0)[base_bits + count_bits :])
    front_base, front_count = front(base_bits + count_bits, count_bits), front(count_bits, 0)
    first, length = (Signal(intbv(0)[32:]) for _ in range(2))
    offered, taken, pops, free, halt, takes, shown, wanted, failed = flags(9)
    wants, passes, accepted, asked, closed = flags(5)
    here = Signal(intbv(0, min=0, max=depth + 1))  # words, with those that are asked for
    inner = ReadPort(wants, memory.addr, accepted, memory.valid, memory.data)
    open_below = depth - together

    @always_comb
    def queue():
        queued.next = head - tail
        write_place.next = head[places:]
        read_place.next = tail[places:]
        taken.next = offered and free
        first.next = front_base
        length.next = front_count

    @always_comb
    def next_job():
        pops.next = (queued != 0) and ((not offered) or free)

    @always_comb
    def control():
        flush.next = reset
        halt.next = failed and (not wanted)
        takes.next = port.en and words.ready

    @always_comb
    def gate():
        passes.next = wants and ((not closed) or failed)

    @always_comb
    def requests():
        memory.en.next = passes
        accepted.next = passes and memory.ready
        asked.next = passes and memory.ready

    @always_comb
    def answer():
        port.ready.next = words.ready
        port.valid.next = shown
        port.data.next = words.word
        words.read.next = takes
        words.rewind.next = False
        words.discard.next = True

    @always_seq(clk.posedge, reset=flush)
    def state():
        shown.next = takes
        wanted.next = port.en and (not words.ready)  # the request holds: no path leads from port to memory
        failed.next = error != 0
        if job:
            head.next = head + 1
        if pops:
            tail.next = tail + 1
            offered.next = True
        elif taken:
            offered.next = False
        if asked and (not takes):
            here.next = here + 1
        elif takes and (not asked):
            here.next = here - 1
        if here == depth:
            closed.next = True
        elif here <= open_below:
            closed.next = False

    waiting = ram(clk, job, write_place, told, pops, read_place, front, base_bits + count_bits, jobs)
    fetching = stream(clk, flush, offered, free, first, length, inner, words, halt, quiet, len(port.data), depth, 1)
    return queue, next_job, control, gate, requests, answer, state, waiting, fetching
