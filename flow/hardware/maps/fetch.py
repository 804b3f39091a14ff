"""Windows out of the feature maps (im2col in hardware): one octet of every array row's window after the other."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import flags, join
from flow.hardware.fields import ADDRESS, COORDINATE, TAPS, WORD_BITS, field_span
from flow.hardware.maps.arbiter import arbiter
from flow.hardware.maps.bundles import Tap
from flow.hardware.maps.walker import walkers


@block
def gather(granted, sources, fresh, pad, read_data, held, word, rows):
    """Words of the banks to the rows that asked for them.

    data: granted[rows], sources[log2(rows) * rows]: the bank of each; fresh: the first of these words for this octet;
    pad[8]: what a row shows that asks for none; read_data[64 * rows], held[64 * rows]: what was gathered before;
    word[64 * rows] out. Combinational.
    """
    bits = (rows - 1).bit_length()
    parts = [Signal(intbv(0)[WORD_BITS:]) for _ in range(rows)]
    padding = join(*[pad] * 8)
    fill = Signal(intbv(0)[WORD_BITS:])

    @always_comb
    def repeat():
        fill.next = padding

    @always_comb
    def spread():
        for b in range(rows):
            low = WORD_BITS * b
            parts[b].next = read_data[low + WORD_BITS : low]

    @always_comb
    def choose():
        source = intbv(0)[bits:]
        word.next = held
        for j in range(rows):
            low = WORD_BITS * j
            least = bits * j
            source[:] = sources[least + bits : least]
            if granted[j]:
                word.next[low + WORD_BITS : low] = parts[source]
            elif fresh:
                word.next[low + WORD_BITS : low] = fill

    return repeat, spread, choose


@block
@prefixed(work="", banks="", activations="outside_")
def fetch(
    clk, reset, job, job_ready, work, request, accepted, answer, word, banks, activations, block_done, halt, rows, words
):
    """The activation stream's memory: from the banks, or passed on from the activation memory.

    job      job, job_ready: handshake; walk, taps: fields of the descriptor; base[32], count[32]: of the activations,
             count octets of every row in all, or none
    stream   request, accepted: an octet of every row is asked for; answer, word[64 * rows]: there it is, in order
    banks    reads[rows], read_lines in the next cycle; read_data[64 * rows] another one later
    outside  outside_en, outside_addr[32], outside_ready, outside_valid, outside_data: the activation memory
    control  block_done: results of a block are written; a job that waits begins when its predecessors' are;
             halt: whatever is asked for is answered, no matter with what
    One octet a cycle if no two rows want the same bank; four cycles from request to answer.
    """
    bits = (rows - 1).bit_length()
    line_bits = (words // rows - 1).bit_length()

    def field(name):
        return work.taps(*field_span(TAPS, name))

    taps_y, taps_x, taps_octet = (field(name) for name in ("taps_y", "taps_x", "taps_octet"))
    taps_delta_octet, taps_delta_x, taps_delta_y = (field(name) for name in ("delta_octet", "delta_x", "delta_y"))
    taps_dilation_x, taps_dilation_y, taps_pad = (field(name) for name in ("dilation_x", "dilation_y", "pad"))
    _, filler_at = field_span(TAPS, "filler")
    _, external_at = field_span(TAPS, "external")
    _, wait_at = field_span(TAPS, "wait")

    all_y, all_x, left_y, left_x = (Signal(modbv(0, min=0, max=2**12)) for _ in range(4))
    all_octets, left_octets = (Signal(modbv(0, min=0, max=2**16)) for _ in range(2))
    delta_octet, delta_x, delta_y, tap_word = (Signal(modbv(0, min=0, max=2**ADDRESS)) for _ in range(4))
    dilation_x, dilation_y, pad = (Signal(intbv(0)[8:]) for _ in range(3))
    tap_x, tap_y = (Signal(modbv(0, min=0, max=2**COORDINATE)) for _ in range(2))
    fills, external, waits, filling, settled = flags(5)
    octets_left = Signal(modbv(0, min=0, max=2**32))
    address = Signal(modbv(0, min=0, max=2**32))
    active = Signal(bool(0))
    accept = Signal(bool(0))
    behind = Signal(intbv(0)[8:])  # blocks taken whose results are not yet written
    flying = Signal(intbv(0)[16:])  # octets asked for and not yet answered
    may_begin = Signal(bool(0))
    inside_go, outside_go, go, outside = flags(4)
    octets_end, columns_end, taps_end, tile_ends, advance = flags(5)
    ready = Signal(bool(0))
    addresses = Signal(intbv(0)[ADDRESS * rows :])
    present = Signal(intbv(0)[rows:])

    tap = Tap(tap_word, tap_x, tap_y)
    walking = walkers(clk, reset, job, accept, advance, ready, work.walk, tap, addresses, present, rows)

    # Stage 1: the octet under way; stage 2: the banks read; stage 3: their words are there.
    valid1, valid2, valid3, fresh1, fresh2, fresh3, last2, last3 = flags(8)
    pending1, granted, granted2, granted3, remaining = (Signal(intbv(0)[rows:]) for _ in range(5))
    addresses1 = Signal(intbv(0)[ADDRESS * rows :])
    pad1, pad2, pad3 = (Signal(intbv(0)[8:]) for _ in range(3))
    sources1, sources2, sources3 = (Signal(intbv(0)[bits * rows :]) for _ in range(3))
    enables = Signal(intbv(0)[rows:])
    lines = Signal(intbv(0)[line_bits * rows :])
    chosen = Signal(intbv(0)[bits * rows :])
    free1, ends1 = Signal(bool(0)), Signal(bool(0))
    held = Signal(intbv(0)[WORD_BITS * rows :])
    gathered = Signal(intbv(0)[WORD_BITS * rows :])

    serving = arbiter(pending1, addresses1, granted, enables, lines, chosen, rows, line_bits)
    gathering = gather(granted3, sources3, fresh3, pad3, banks.read_data, held, gathered, rows)

    @always_comb
    def which_banks():
        for j in range(rows):
            low = bits * j
            first = ADDRESS * j
            sources1.next[low + bits : low] = addresses1[first + bits : first]

    @always_comb
    def serve():
        remaining.next = pending1 & ~granted

    @always_comb
    def served():
        ends1.next = valid1 and (remaining == 0)

    @always_comb
    def room():
        free1.next = (not valid1) or ends1

    @always_comb
    def beginning():
        may_begin.next = active and (ready or external) and ((not waits) or (behind == 1))

    @always_comb
    def source():
        outside.next = may_begin and external

    @always_comb
    def sides():
        inside_go.next = request and free1 and ((may_begin and (not external)) or (halt and (not outside)))
        outside_go.next = outside and request and activations.ready

    @always_comb
    def outside_port():
        activations.en.next = outside and request
        activations.addr.next = address

    @always_comb
    def going():
        go.next = inside_go or outside_go
        accepted.next = inside_go or outside_go

    @always_comb
    def ends():
        octets_end.next = left_octets == 1
        columns_end.next = (left_octets == 1) and (left_x == 1)
        taps_end.next = (left_octets == 1) and (left_x == 1) and (left_y == 1)

    @always_comb
    def tiles_end():
        tile_ends.next = filling or (taps_end and (not fills))

    @always_comb
    def moving():
        advance.next = inside_go and tile_ends

    @always_comb
    def order():
        settled.next = (flying == 0) or (external == work.taps[external_at])

    @always_comb
    def acceptance():
        job_ready.next = (not active) and settled
        accept.next = job and (not active) and settled

    @always_seq(clk.posedge, reset=reset)
    def count_octets():
        if accept:
            active.next = work.count != 0
            external.next = work.taps[external_at]
            waits.next = work.taps[wait_at]
            octets_left.next = work.count
            address.next = work.base
        elif go:
            waits.next = False
            address.next = address + 1
            octets_left.next = octets_left - 1
            if octets_left == 1:
                active.next = False

    # Only windows out of the banks have taps: the activation memory's answer, which comes late, moves none.
    @always_seq(clk.posedge, reset=reset)
    def walk_taps():
        if accept:
            filling.next = False
            all_y.next = taps_y
            all_x.next = taps_x
            all_octets.next = taps_octet
            left_y.next = taps_y
            left_x.next = taps_x
            left_octets.next = taps_octet
            delta_octet.next = taps_delta_octet
            delta_x.next = taps_delta_x
            delta_y.next = taps_delta_y
            dilation_x.next = taps_dilation_x
            dilation_y.next = taps_dilation_y
            pad.next = taps_pad
            fills.next = work.taps[filler_at]
            tap_word.next = 0
            tap_x.next = 0
            tap_y.next = 0
        elif inside_go:
            if tile_ends:
                filling.next = False
                tap_word.next = 0
                tap_x.next = 0
                tap_y.next = 0
                left_y.next = all_y
                left_x.next = all_x
                left_octets.next = all_octets
            elif taps_end:
                filling.next = True
            elif columns_end:
                tap_word.next = tap_word + delta_y
                tap_x.next = 0
                tap_y.next = tap_y + dilation_y
                left_x.next = all_x
                left_octets.next = all_octets
                left_y.next = left_y - 1
            elif octets_end:
                tap_word.next = tap_word + delta_x
                tap_x.next = tap_x + dilation_x
                left_octets.next = all_octets
                left_x.next = left_x - 1
            else:
                tap_word.next = tap_word + delta_octet
                left_octets.next = left_octets - 1

    @always_seq(clk.posedge, reset=reset)
    def accounts():
        if accept and (not block_done):
            behind.next = behind + 1
        elif block_done and (not accept):
            behind.next = behind - 1
        if go and (not answer):
            flying.next = flying + 1
        elif answer and (not go):
            flying.next = flying - 1

    @always_seq(clk.posedge, reset=reset)
    def pipeline():
        if inside_go:
            valid1.next = True
            fresh1.next = True
            addresses1.next = addresses
            if filling:
                pending1.next = 0
                pad1.next = 0
            else:
                pending1.next = present
                pad1.next = pad
        else:
            pending1.next = remaining
            if ends1:
                valid1.next = False
            fresh1.next = False
        banks.reads.next = enables
        banks.read_lines.next = lines
        valid2.next = valid1
        fresh2.next = fresh1
        last2.next = ends1
        pad2.next = pad1
        granted2.next = granted
        sources2.next = sources1
        valid3.next = valid2
        fresh3.next = fresh2
        last3.next = last2
        pad3.next = pad2
        granted3.next = granted2
        sources3.next = sources2
        if valid3:
            held.next = gathered

    @always_comb
    def answering():
        answer.next = last3 or activations.valid  # a last one is valid
        if valid3:  # the activation memory gives nothing then
            word.next = gathered
        else:
            word.next = activations.data

    return (
        walking, serving, gathering, which_banks, serve, served, room, beginning, source, sides, outside_port, going,
        ends, tiles_end, moving, order, acceptance, count_octets, walk_taps, accounts, pipeline, answering,
    )  # fmt: skip
