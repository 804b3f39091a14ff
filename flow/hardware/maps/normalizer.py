"""Normalizations of the channels of a position, Softmax and LayerNormalization: scheduling/onchip/norms.py as hardware.

A position is one array row's. First its octets come as often as it takes to measure it: the largest, the sum, and what
every channel is multiplied by. Then, by other descriptors, an octet at a time leaves by post-processing's registers.
"""

from __future__ import annotations

from myhdl import Signal, always, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.bundles import fresh, prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import delay, flags, join
from flow.hardware.fields import (
    EXPONENTIAL_BITS,
    FACTOR_BITS,
    MEASURED,
    MOST_NORMALIZED,
    NORM_HIGH,
    NORM_LOW,
    NORM_WORDS,
    WORD_BITS,
    field_span,
)
from flow.hardware.maps.bundles import NormPlace, NormSteps, NormTerms, RootSteps
from flow.hardware.maps.root import DIVISION, LIFTED, QUOTIENT, ROOT, TOTAL, norm_root

COUNT = 13  # bits of a channel's number
CENTRE = 22  # bits of a sum of channels, with its sign
TERM = 34  # bits of a, with its sign
KEPT = CENTRE + QUOTIENT + 5  # what is kept of a position

# When it is measured, in cycles after its last channel: the sums are complete in the third.
SQUARES = 3  # n times the sum of squares, and two cycles later the square of the sum, are multiplied
SHIFTS = SQUARES + 5
SHIFTED = SHIFTS + LIFTED  # the radicand is where E is added
RAISED = SHIFTED + 1 + LIFTED  # it is as large as 64 bits permit
ROOTED = RAISED + ROOT
DIVIDED = ROOTED + 1 + DIVISION
SUMMED = ROOTED - SQUARES  # where a Softmax begins, which has no root


def measuring(softmax: bool) -> int:
    """Cycles from the last channel of a position until it is measured."""
    return DIVIDED + 1 - (SUMMED if softmax else 0)


@block
def exponential(clk, enable, write, number, word, difference, found):
    """The exponentials, for one row.

    control  enable; write: `word`[33] is that of number[8]
    data     difference[8] in; found[33] out, one cycle later
    """
    memory = [Signal(intbv(0)[EXPONENTIAL_BITS + 1 :]) for _ in range(NORM_WORDS)]

    @always(clk.posedge)
    def access():
        if write:
            memory[number].next = word
        if enable:
            found.next = memory[difference]

    return access


@block
def norm_places(clk, write, at, measured, shown, kept):
    """What is kept of the positions of one row: write, at[6], measured[56]; shown[6] in, kept[56] out, as it is now."""
    memory = [Signal(intbv(0)[KEPT:]) for _ in range(MEASURED)]

    @always(clk.posedge)
    def take():
        if write:
            memory[at].next = measured

    @always_comb
    def give():
        kept.next = memory[shown]

    return take, give


@block
@prefixed(place="place_", steps="", terms="")
def norm_lane(clk, enable, octet, place, steps, terms, write, number, word, given):
    """One array row.

    control  enable; place, steps: as norm_control gives them; write: `word`[64] is constant number[8]
    data     octet[64]; terms: fields of the descriptor, of the stage in their names
    out      given[32]: t of the channel at stage 4, for a stage more; two's complement
    """
    code = Signal(intbv(0)[8:])
    largest, measured_largest, difference = (Signal(modbv(0)[8:]) for _ in range(3))
    value2 = Signal(intbv(0, min=-(1 << 8), max=1 << 8))
    size2 = Signal(intbv(0)[9:])
    centre = Signal(modbv(0, min=-(1 << CENTRE - 1), max=1 << CENTRE - 1))
    centre2 = Signal(intbv(0, min=-(1 << CENTRE - 1), max=1 << CENTRE - 1))
    centre_size = Signal(modbv(0)[CENTRE:])
    power2 = Signal(intbv(0)[EXPONENTIAL_BITS + 1 :])
    term3 = Signal(intbv(0, min=-(1 << TERM - 1), max=1 << TERM - 1))
    factor3 = Signal(intbv(0, min=-(1 << QUOTIENT), max=1 << QUOTIENT))
    channels2 = Signal(intbv(0, min=-(1 << COUNT), max=1 << COUNT))
    product4 = Signal(intbv(0, min=-(1 << TERM + QUOTIENT - 1), max=1 << TERM + QUOTIENT - 1))
    square4 = Signal(modbv(0)[TOTAL:])
    total = Signal(modbv(0)[TOTAL:])
    kept, measured = Signal(intbv(0)[KEPT:]), Signal(intbv(0)[KEPT:])
    kept2 = Signal(intbv(0)[KEPT:])
    quotient = Signal(intbv(0)[QUOTIENT:])
    lifted, lifted3, lifted4 = (Signal(modbv(0)[5:]) for _ in range(3))
    offset = Signal(intbv(0)[WORD_BITS:])
    by = Signal(modbv(0)[7:])
    largest_result, sign = (1 << 31) - 1, TERM + QUOTIENT - 1
    shifted, halved = (
        Signal(intbv(0, min=-(1 << TERM + QUOTIENT - 1), max=1 << TERM + QUOTIENT - 1)) for _ in range(2)
    )
    rounded, signed_result = (Signal(modbv(0, min=-(1 << 31), max=1 << 31)) for _ in range(2))
    keeps = Signal(bool(0))
    centre_bits = Signal(modbv(0)[CENTRE:])
    whole = join(lifted, quotient, centre_bits)
    kept_largest = kept(8, 0)
    kept2_lifted, kept2_quotient, kept2_centre = (
        kept2(KEPT, KEPT - 5), kept2(KEPT - 5, CENTRE), kept2(CENTRE, 0)
    )  # fmt: skip

    @always_comb
    def pick():
        code.next = 0
        for i in range(8):
            low = 8 * i
            if place.slot == i:
                code.next = octet[low + 8 : low]

    @always_comb
    def compare():
        if steps.applies1:
            measured_largest.next = kept_largest
        else:
            measured_largest.next = largest

    @always_comb
    def differ():
        difference.next = measured_largest - code

    @always_comb
    def sizes():
        if value2 < 0:
            size2.next = -value2
        else:
            size2.next = value2
        if centre < 0:
            centre_size.next = -centre
        else:
            centre_size.next = centre
        centre2.next = kept2_centre.signed()
        channels2.next = terms.count2
        square4.next = product4[TOTAL:]

    @always(clk.posedge)
    def stage_2():
        if enable:
            value2.next = code - terms.zero
            kept2.next = kept
            if steps.restart:
                if steps.compare:
                    largest.next = code
            elif steps.compare and (code > largest):
                largest.next = code

    @always(clk.posedge)
    def stage_3():
        if enable:
            lifted3.next = kept2_lifted
            lifted4.next = lifted3
            if steps.restart:
                centre.next = 0
            elif steps.sum2 and terms.centred2:
                centre.next = centre + value2
            if steps.multiply:
                term3.next = terms.count2
                factor3.next = total[QUOTIENT:]
            elif steps.take:
                term3.next = centre_size
                factor3.next = centre_size
            elif steps.applies2:
                factor3.next = kept2_quotient
                if terms.softmax2:
                    term3.next = power2
                else:
                    term3.next = channels2 * value2 - centre2
            elif steps.sum2:
                if terms.softmax2:
                    term3.next = power2
                    factor3.next = 1
                else:
                    term3.next = size2
                    factor3.next = size2

    @always(clk.posedge)
    def stage_4():
        if enable:
            product4.next = term3 * factor3
            if steps.restart:
                total.next = 0
            elif steps.sum4:
                total.next = total + square4

    @always_comb
    def how_far():
        by.next = terms.scale4 - lifted4

    @always_comb
    def move():
        shifted.next = product4 >> by

    @always_comb
    def half():
        halved.next = (shifted + 1) >> 1

    @always_comb
    def finish():
        if (not halved[sign]) and (halved[sign:31] != 0):  # Verilog would compare so large a number unsigned
            rounded.next = largest_result
        else:
            rounded.next = halved[32:].signed()

    @always_comb
    def leave():
        if terms.negative4:
            signed_result.next = -rounded
        else:
            signed_result.next = rounded

    @always_comb
    def show():
        given.next = signed_result

    @always_comb
    def what_is_kept():
        keeps.next = enable and steps.keep
        measured.next = whole
        if terms.softmax2:
            centre_bits.next = largest
        else:
            centre_bits.next = centre

    @always(clk.posedge)
    def constants():
        if write and (number == 0):
            offset.next = word

    rooting = RootSteps(
        steps.softmax, steps.restart, steps.take, steps.subtract, steps.pairs, steps.shift, steps.add, steps.lift,
        steps.root, steps.divisor, steps.divide,
    )  # fmt: skip
    parts = [
        exponential(clk, enable, write, number, word(EXPONENTIAL_BITS + 1, 0), difference, power2),
        norm_places(clk, keeps, place.written, measured, place.shown, kept),
        norm_root(clk, enable, rooting, square4, offset, total, quotient, lifted),
    ]
    return (
        pick,
        compare,
        differ,
        sizes,
        stage_2,
        stage_3,
        stage_4,
        how_far,
        move,
        half,
        finish,
        leave,
        show,
        what_is_kept,
        constants,
        parts,
    )


@block
@prefixed(place="place_", steps="steps_")
def norm_control(clk, reset, enable, valid, first, normalizes, applies, softmax, low, high, place, steps, gives):
    """Where the normalizer is: alike for all rows.

    control  enable; valid, first (of a tile), normalizes, applies, softmax, low[21], high[21]: stage 1, of this block
    out      place: which octet and position; steps: what the rows do, from stage 1 on; gives[8]: the channel that
             leaves, in stage 1
    """
    count = low(*field_span(NORM_LOW, "count"))
    doublings = high(*field_span(NORM_HIGH, "doublings"))
    at, at_now = (Signal(modbv(0)[COUNT + 1 :]) for _ in range(2))
    reach = Signal(intbv(0)[COUNT + 1 :])
    phase, phase_now = (Signal(intbv(0)[2:]) for _ in range(2))  # 0: the largest, 1: sums, 2: what follows from them
    settled = Signal(modbv(0)[6:])
    written, shown = (Signal(modbv(0, min=0, max=MEASURED)) for _ in range(2))
    fresh = Signal(bool(1))  # whatever is measured next is the first tile of its block
    goes, pass_ends, inside, measures, sum3, quadruples = flags(6)
    pairs = Signal(intbv(0)[LIFTED:])

    @always_comb
    def now():
        goes.next = valid and normalizes
        if first:
            at_now.next = 0
            if softmax:
                phase_now.next = 0
            else:
                phase_now.next = 1
        else:
            at_now.next = at
            phase_now.next = phase

    @always_comb
    def reaching():
        reach.next = at_now + 1

    @always_comb
    def ends():
        pass_ends.next = (at_now[3:] == 7) and (reach >= count)
        inside.next = at_now < count
        measures.next = goes and (not applies) and (phase_now == 2)

    @always_seq(clk.posedge, reset=reset)
    def walk():
        if enable and goes:
            at.next = at_now + 1
            phase.next = phase_now
            if applies:
                fresh.next = True
                if at_now[3:] == 7:
                    if shown + 1 == written:
                        shown.next = 0
                    else:
                        shown.next = shown + 1
            elif phase_now == 2:
                if settled <= DIVIDED:
                    settled.next = settled + 1
                if settled == DIVIDED:
                    written.next = written + 1
            else:
                if first and fresh:
                    written.next = 0
                    shown.next = 0
                    fresh.next = False
                if pass_ends:
                    at.next = 0
                    phase.next = phase_now + 1
                    if softmax:
                        settled.next = SUMMED
                    else:
                        settled.next = 0

    @always_comb
    def moves():
        pairs.next = 0
        for i in range(LIFTED):
            if (settled == SHIFTS + i) or (settled == SHIFTED + 1 + i):
                pairs.next[LIFTED - 1 - i] = True
        if settled >= RAISED:
            pairs.next[1] = True  # two bits of a root

    @always_comb
    def powers():
        steps.pairs.next = pairs
        quadruples.next = (settled >= SHIFTS) and (settled < SHIFTED) and ((doublings & pairs) != 0)

    @always_comb
    def places():
        place.slot.next = at_now[3:]
        for i in range(8):
            gives.next[i] = goes and applies and (at_now[3:] == i)
        place.written.next = written
        place.shown.next = shown

    @always_comb
    def stage_1():
        steps.softmax.next = softmax
        steps.applies1.next = applies
        steps.restart.next = goes and first and (not applies)
        steps.compare.next = goes and (not applies) and (phase_now == 0) and inside
        steps.multiply.next = measures and (settled == SQUARES)
        steps.take.next = measures and (settled == SQUARES + 2)  # a cycle later than it is there, if streams wait
        steps.subtract.next = measures and (settled == SQUARES + 4)
        steps.shift.next = measures and (quadruples or (settled >= RAISED)) and (settled < ROOTED)
        steps.add.next = measures and (settled == SHIFTED)
        steps.lift.next = measures and (settled > SHIFTED) and (settled < RAISED)
        steps.root.next = measures and (settled >= RAISED) and (settled < ROOTED)
        steps.divisor.next = measures and (settled == ROOTED)
        steps.divide.next = measures and (settled > ROOTED) and (settled < DIVIDED)
        steps.keep.next = measures and (settled == DIVIDED)

    @always_seq(clk.posedge, reset=reset)
    def stages():
        if enable:
            steps.sum2.next = goes and (not applies) and (phase_now == 1) and inside
            sum3.next = steps.sum2
            steps.sum4.next = sum3
            steps.applies2.next = goes and applies

    assert MOST_NORMALIZED < 1 << COUNT
    return now, reaching, ends, walk, moves, powers, places, stage_1, stages


@block
@prefixed(work="", normal="")
def normalizer(clk, reset, enable, work, valid, first, load, word, read, ends, brought, normal, rows):
    """The normalizer, beside `post`.

    job      take: the fields normalize, applies, softmax (maximum), factor_low[21] and factor_high[21] are those of
             the next block; constants: the block that drains brings them
    control  enable; valid, first, load: aligned with the word, as for the array
             read: a word of parameters is read, and shown one cycle later; ends: with the last of a block
    data     word[64 * rows]: an octet of every row; brought[64]: lane 0 of the parameters
    out      gives[8]: the channel whose t is given[32 * rows], at the last stage of `post`; holds3, holds4: at the
             stage before, and at the last one, the block is one of these
    A step takes eight cycles, or is repeated until it has. Latency: as the array's.
    """
    names = ("normalize", "applies", "softmax")
    nexts, these, ones = ([Signal(bool(0)) for _ in names] for _ in range(3))
    next_low, this_low, low1, next_high, this_high, high1 = (Signal(intbv(0)[FACTOR_BITS:]) for _ in range(6))
    valid1, first1, filling = flags(3)
    number = Signal(modbv(0)[8:])
    operand = Signal(intbv(0)[WORD_BITS * rows :])
    place, steps = fresh(NormPlace), fresh(NormSteps)
    next_normalize, next_applies, next_softmax = nexts
    this_normalize, this_applies, this_softmax = these
    normalize1, applies1, softmax1 = ones
    zero1 = high1(*field_span(NORM_HIGH, "centre"))
    count1 = low1(*field_span(NORM_LOW, "count"))
    scale1 = high1(*field_span(NORM_HIGH, "scale"))
    _, centred_at = field_span(NORM_LOW, "centred")
    _, negative_at = field_span(NORM_HIGH, "negative")
    centred1, negative1 = Signal(bool(0)), Signal(bool(0))

    @always(clk.posedge)
    def fields():
        if work.take:
            next_normalize.next = work.normalize
            next_applies.next = work.applies
            next_softmax.next = work.softmax
            next_low.next = work.factor_low
            next_high.next = work.factor_high

    @always_seq(clk.posedge, reset=reset)
    def begin():
        if enable:
            valid1.next = valid
            first1.next = first

    @always(clk.posedge)
    def stage_1():
        if enable:
            this_normalize.next = next_normalize  # as in `post`
            this_applies.next = next_applies
            this_softmax.next = next_softmax
            this_low.next = next_low
            this_high.next = next_high
            if load:
                operand.next = word
                normalize1.next = this_normalize
                applies1.next = this_applies
                softmax1.next = this_softmax
                low1.next = this_low
                high1.next = this_high

    @always_comb
    def bits_of_fields():
        centred1.next = low1[centred_at]
        negative1.next = high1[negative_at]

    count2, centred2, softmax2 = Signal(intbv(0)[len(count1) :]), Signal(bool(0)), Signal(bool(0))
    parts = [
        delay(clk, enable, d, q) for d, q in ((count1, count2), (centred1, centred2), (softmax1, softmax2))
    ]  # fmt: skip
    gives1, scale4, negative4 = Signal(intbv(0)[8:]), Signal(intbv(0)[len(scale1) :]), Signal(bool(0))
    (normalize2,) = flags(1)
    parts += [
        delay(clk, enable, d, q)
        for d, q in ((normalize1, normalize2), (normalize2, normal.holds3), (normal.holds3, normal.holds4))
    ]
    for first_stage, last_stage in ((gives1, normal.gives), (scale1, scale4), (negative1, negative4)):
        ahead = first_stage
        for stage in range(3):
            wide = len(last_stage)
            behind = last_stage if stage == 2 else Signal(intbv(0)[wide:]) if wide > 1 else Signal(bool(0))
            parts.append(delay(clk, enable, ahead, behind))
            ahead = behind
    terms = NormTerms(zero1, count2, centred2, softmax2, scale4, negative4)
    parts.append(
        norm_control(
            clk, reset, enable, valid1, first1, normalize1, applies1, softmax1, low1, high1, place, steps, gives1
        )
    )  # fmt: skip
    results = [Signal(modbv(0)[32:]) for _ in range(rows)]
    parts += [
        norm_lane(
            clk, enable, operand(WORD_BITS * r + WORD_BITS, WORD_BITS * r), place, steps, terms, filling, number,
            brought, results[r],
        )
        for r in range(rows)
    ]  # fmt: skip
    together = join(*reversed(results))

    @always_seq(clk.posedge, reset=reset)
    def count():
        filling.next = work.constants and read and (not ends)
        if filling:
            number.next = number + 1
        if work.constants and read and ends:
            number.next = 0

    @always_comb
    def leave():
        normal.given.next = together

    return fields, begin, stage_1, bits_of_fields, parts, count, leave
