"""Which array rows may use a bank at the same time: the first of those that want the same one."""

from __future__ import annotations

from myhdl import Signal, always_comb, intbv

from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import join
from flow.hardware.fields import ADDRESS


@block
def row_choice(pending, addresses, granted, position, rows):
    """Whether row `position` is pending and no lower one wants its bank. Combinational."""
    bits = (rows - 1).bit_length()
    begin = ADDRESS * position
    end = begin + bits

    @always_comb
    def choose():
        blocked = intbv(0)[1:]
        blocked[:] = 0
        for i in range(position):
            low = ADDRESS * i
            if pending[i] and (addresses[low + bits : low] == addresses[end:begin]):
                blocked[:] = 1
        granted.next = pending[position] and (blocked == 0)

    return choose


@block
def bank_choice(granted, addresses, enable, line, row, number, rows, line_bits):
    """Which row bank `number` serves: enable, its line and the row's number. Combinational."""
    bits = (rows - 1).bit_length()
    top = bits + line_bits

    @always_comb
    def choose():
        used = intbv(0)[1:]
        at = intbv(0)[line_bits:]
        who = intbv(0)[bits:]
        used[:] = 0
        at[:] = 0
        who[:] = 0
        for i in range(rows):
            low = ADDRESS * i
            above = ADDRESS * i + bits
            if granted[i] and (addresses[low + bits : low] == number):
                used[:] = 1
                at[:] = addresses[above + line_bits : above]
                who[:] = i
        enable.next = used == 1
        line.next = at
        row.next = who

    assert top <= ADDRESS
    return choose


@block
def arbiter(pending, addresses, granted, enables, lines, chosen, rows, line_bits):
    """One use of the banks.

    data     pending[rows], addresses[24 * rows] in; granted[rows]: served now; for each bank enables[rows],
             lines[line_bits * rows] and chosen[log2(rows) * rows]: the row it serves. Combinational.
    """
    bits = (rows - 1).bit_length()
    served = [Signal(bool(0)) for _ in range(rows)]
    used = [Signal(bool(0)) for _ in range(rows)]
    at = [Signal(intbv(0)[line_bits:]) for _ in range(rows)]
    who = [Signal(intbv(0)[bits:]) for _ in range(rows)]
    served_all, used_all = join(*reversed(served)), join(*reversed(used))
    at_all, who_all = join(*reversed(at)), join(*reversed(who))
    row_choices = [row_choice(pending, addresses, served[j], j, rows) for j in range(rows)]
    bank_choices = [bank_choice(granted, addresses, used[b], at[b], who[b], b, rows, line_bits) for b in range(rows)]

    @always_comb
    def outputs():
        granted.next = served_all

    @always_comb
    def ports():
        enables.next = used_all
        lines.next = at_all
        chosen.next = who_all

    return row_choices, bank_choices, outputs, ports
