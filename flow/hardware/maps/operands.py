"""A map as the weights of the array: the other operand of a product of two maps.

A descriptor of post-processing brings the octets of a map, the next block takes them as its weights. A step of it has
eight weights of every array column and their complements, against eight activations and eight times their zero point
z: w * u + ~w * z = w * (u - z) - z, so the zero point of the activations needs no sum over the weights.
"""

from __future__ import annotations

from myhdl import Signal, always, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import flags, join
from flow.hardware.fields import SUBGROUP, WORD_BITS

BITS = 8  # of a weight, all of which are used
SIGNS = 0x8080808080808080  # bytes u = w + 128 as weights w


def pixels_together(rows: int) -> int:
    """Pixels of one beat that become weights of the same channel."""
    return min(rows, SUBGROUP)


def step_beats(rows: int, columns: int, across: bool) -> int:
    """Beats, of an octet of every row each, that bring the weights of a step to all columns of the array."""
    if across:
        return -(-columns // SUBGROUP) * SUBGROUP // pixels_together(rows)
    return -(-columns // rows)


@block
def operand_column(clk, take, across, beat, octet, pixels, shift, weights, own, part, parts, together, per_cycle):
    """The weights of an array column, which has its pixel in beat `own`, its channel in part `part` of `parts`.

    control  take: beat[6] of the step is there; across: eight pixels of a channel, not eight channels of a pixel;
             shift: go on by `per_cycle` bit columns
    data     octet[64]: of a pixel; pixels[64]: eight pixels of a channel; weights[16 * per_cycle] out, registered: of
             each bit column the bits of the eight weights and, above them, of their complements
    """
    fresh, held, onward = (Signal(intbv(0)[WORD_BITS:]) for _ in range(3))
    groups, width = SUBGROUP // together, together * BITS

    @always_comb
    def choose():
        if across:
            fresh.next = pixels ^ SIGNS
        else:
            fresh.next = octet ^ SIGNS

    @always_comb
    def go_on():
        onward.next = 0
        onward.next[WORD_BITS:per_cycle] = held[WORD_BITS - per_cycle :]

    @always(clk.posedge)
    def hold():
        if take:
            for g in range(groups):
                low = width * g
                if (across and beat == g * parts + part) or ((not across) and beat == own):
                    held.next[low + width : low] = fresh[low + width : low]
        elif shift:
            held.next = onward

    @always_comb
    def show():
        for q in range(per_cycle):
            for k in range(8):
                weights.next[16 * q + k] = held[8 * k + 7 - q]
                weights.next[16 * q + 8 + k] = not held[8 * k + 7 - q]

    return choose, go_on, hold, show


@block
@prefixed(work="", octets="octets_", memory="memory_", outside="outside_")
def operands(clk, reset, work, octets, room, memory, outside, halt, config):
    """Octets of a map, read as activations, become weight words; otherwise the weight memory is passed on.

    jobs     compute_job, compute_ready, weight_job, weight_ready: the sequencer and the weight stream take a job, of
             which operand, post, across and first[3] are fields
    octets   octets_ready, octets_read, octets_word[128 * rows] of the activation stream: two beats of an octet of every
             row, the low one first; room: there is one, and it may be read
    memory   memory_en, memory_addr[32] in, memory_ready, memory_valid, memory_data out: the weight stream's memory
    outside  outside_*: the weight memory
    control  halt: whatever is asked for is answered, no matter with what
    A beat a cycle, then a weight word a cycle for all bit columns of the step.
    """
    rows, columns, per_cycle = config.rows, config.columns, config.columns_per_cycle
    half, whole = WORD_BITS * rows, 2 * WORD_BITS * rows
    last_word = config.slices(BITS) - 1
    last_on, last_across = (step_beats(rows, columns, way) - 1 for way in (False, True))
    loading, turned, own, filled, answer = flags(5)
    begins, takes, ends, taken, sends, accepts = flags(6)
    at_hand = Signal(intbv(0, min=0, max=4))  # beats of the word that is shown
    beat, last_beat = Signal(modbv(0)[6:]), Signal(intbv(0)[6:])
    sent = Signal(modbv(0)[3:])
    flying = Signal(modbv(0)[17:])  # words asked of the weight memory and not yet there
    these = Signal(intbv(0)[half:])
    weights = [Signal(intbv(0)[16 * per_cycle :]) for _ in range(columns)]
    shown = join(*reversed(weights))
    parts, together = -(-columns // SUBGROUP), pixels_together(rows)
    narrow = columns < SUBGROUP  # then an octet has more channels than there are columns
    chosen = Signal(intbv(0)[half:]) if narrow else these
    pixels = [
        join(*(chosen(64 * (k % together) + 8 * i + 8, 64 * (k % together) + 8 * i) for k in reversed(range(8))))
        for i in range(8)
    ]
    held = [
        operand_column(
            clk, takes, turned, beat, these(WORD_BITS * (c % rows) + WORD_BITS, WORD_BITS * (c % rows)),
            pixels[c % SUBGROUP], answer, weights[c], c // rows, c // SUBGROUP, parts, together, per_cycle,
        )
        for c in range(columns)
    ]  # fmt: skip

    if narrow:
        first_bit = Signal(intbv(0)[6:])

        @always_comb
        def channels():
            chosen.next = these >> first_bit

        @always_seq(clk.posedge, reset=reset)
        def first_channel():
            if begins:
                first_bit.next = work.first << 3

        narrowing = [channels, first_channel]
    else:
        narrowing = []

    @always_comb
    def which_octets():
        if at_hand == 2:
            these.next = octets.word[half:]
        else:
            these.next = octets.word[whole:half]

    @always_comb
    def steps():
        if turned:
            last_beat.next = last_across
        else:
            last_beat.next = last_on

    @always_comb
    def flow():
        accepts.next = work.compute.job and work.compute.ready
        begins.next = work.compute.job and work.compute.ready and work.operand and work.post
        takes.next = (at_hand != 0) and (not filled)
        room.next = octets.ready and ((at_hand == 0) or ((at_hand == 1) and (not filled)))

    @always_comb
    def ending():
        ends.next = takes and (beat == last_beat)

    @always_comb
    def asking():
        outside.en.next = memory.en and (not own)
        outside.addr.next = memory.addr

    @always_comb
    def accepting():
        if own:
            memory.ready.next = (filled and (flying == 0)) or halt
        else:
            memory.ready.next = outside.ready

    @always_comb
    def sending():
        sends.next = own and memory.en and ((filled and (flying == 0)) or halt)
        taken.next = (not own) and memory.en and outside.ready

    @always_comb
    def answering():
        memory.valid.next = answer or outside.valid
        if answer:
            memory.data.next = shown
        else:
            memory.data.next = outside.data

    @always_seq(clk.posedge, reset=reset)
    def jobs():
        if accepts:
            loading.next = begins
        if begins:
            turned.next = work.across
        if work.weight.job and work.weight.ready:
            own.next = work.operand

    @always_seq(clk.posedge, reset=reset)
    def words():
        answer.next = sends
        if taken and (not outside.valid):
            flying.next = flying + 1
        elif outside.valid and (not taken):
            flying.next = flying - 1

    @always_seq(clk.posedge, reset=reset)
    def count():
        if begins:  # what an odd beat at the end of another block has left is of no use
            at_hand.next = 0
            beat.next = 0
            filled.next = False
            sent.next = 0
        else:
            if octets.read and loading:
                at_hand.next = 2
            elif takes:
                at_hand.next = at_hand - 1
            if ends:
                beat.next = 0
                filled.next = True
            elif takes:
                beat.next = beat + 1
            if sends:
                sent.next = sent + 1
                if sent == last_word:
                    sent.next = 0
                    filled.next = False

    return held, narrowing, which_octets, steps, flow, ending, asking, accepting, sending, answering, jobs, words, count
